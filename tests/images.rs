//! Images as keyframes: the image itself at its t, detail that fades, and inversion as diffusers has it.

mod common;

use common::golden::{read, relative_error};
use common::{Reports, latent, same, tiny};
use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, Context, Crossfeed, Format, Frame, ImageMut,
    ImageRef, Keyframe, KeyframeImage, Layout, Look, Model, NoiseKind, Preset, Sampler,
    SchedulePolicy, Session, Source, Stage, Target, Transfer, inverse, noise,
};
use std::sync::Arc;

#[test]
fn inversion_equals_diffusers_step_by_step() {
    let recorded = read("images");
    for (name, prompts) in [("base", "ddim_base"), ("v", "ddim_v")] {
        let model = tiny(name);
        // The second of the recorded contexts is that of the prompt.
        let context = Context::new(77, read(prompts)["context"].row(1).f32()).unwrap();
        let context = Arc::new(context);
        let path = &recorded[&format!("{name}.inverted")];
        let schedule = Arc::new(inverse(&model.schedule(10, SchedulePolicy::Model).unwrap()));
        let timesteps: Vec<f64> = schedule.steps.iter().map(|s| s.timestep as f64).collect();
        assert_eq!(timesteps, recorded[&format!("{name}.inverse_timesteps")].values);
        let mut worst = 0f64;
        for step in 0..10 {
            let branch = Branch {
                latent: latent(&path.row(step)),
                positive: Arc::clone(&context),
                negative: Arc::clone(&context),
                guidance: 1.0,
                extra: None,
                history: None,
                feed: None,
            };
            let schedule = Arc::clone(&schedule);
            let batch = Batch {
                branches: vec![branch],
                schedule,
                steps: step..step + 1,
                keep: step,
                guidance: Arc::default(),
            };
            let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
            let got = run.advance().unwrap().unwrap().remove(0);
            worst = worst.max(relative_error(got.last().latent.data(), &path.row(step + 1).values));
        }
        println!("{name}: relative error of a step {worst:.1e}");
        assert!(worst <= 1e-4);
        // The path starts from the picture's own latent.
        let pixels: Vec<f32> =
            recorded["picture"].values.iter().map(|&v| (v / 255.0) as f32).collect();
        let clean = model.engine().encode(&Frame::new(80, 64, pixels).unwrap()).unwrap().mean;
        let error = relative_error(clean.data(), &path.row(0).values);
        println!("{name}: relative error of the latent {error:.1e}");
        assert!(error <= 1e-5);
    }
}

/// A smooth picture with fine detail that no latent holds.
fn picture(size: [usize; 2], format: Format, transfer: Transfer, scale: f32) -> (Vec<u8>, Source) {
    let [width, height] = size;
    let value = |i: usize| {
        let (x, y, c) = (i / 4 % width, i / 4 / width, i % 4);
        match c {
            3 => 1.0 - 0.3 * (x as f32 / width as f32),
            c => {
                let smooth = (x as f32 / 9.0 + c as f32).sin() * (y as f32 / 11.0).cos();
                scale * (0.5 + 0.3 * smooth + 0.1 * ((x + y) % 2) as f32)
            }
        }
    };
    let values = (0..width * height * 4).map(value);
    let values = values.enumerate().filter(|(i, _)| i % 4 < format.channels()).map(|(_, v)| v);
    let bytes: Vec<u8> = match format.bytes_per_pixel() / format.channels() {
        1 => values.map(|v| (v * 255.0) as u8).collect(),
        2 if format.is_float() => {
            values.flat_map(|v| half::f16::from_f32(v).to_ne_bytes()).collect()
        }
        2 => values.flat_map(|v| ((v * 65535.0) as u16).to_ne_bytes()).collect(),
        _ => values.flat_map(f32::to_ne_bytes).collect(),
    };
    let layout = Layout::packed(width, height, format, transfer);
    let source = Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap();
    (bytes, source)
}

fn options() -> BlendOptions {
    BlendOptions { size: Some([64, 48]), preset: Preset::Lowest, ..BlendOptions::default() }
}

fn between(model: &Model, image: impl Into<KeyframeImage>, options: &BlendOptions) -> Session {
    let keyframes = [Keyframe::default().image(image), Keyframe::new("a quiet lake", 420)];
    Session::new(model, &keyframes, options).unwrap()
}

fn rendered(session: &Session, t: f64, format: Format, transfer: Transfer) -> Vec<u8> {
    let [width, height] = session.size();
    let layout = Layout::packed(width, height, format, transfer);
    let mut bytes = vec![0xAA; width * height * format.bytes_per_pixel()];
    let target = Target::new(ImageMut::new(&mut bytes, 0, layout).unwrap());
    session.render_into(&[t], &mut [target], &Call::new()).unwrap();
    bytes
}

#[test]
fn frame_0_is_the_image_bit_for_bit() {
    let model = tiny("base");
    for size in [[64, 48], [101, 77]] {
        for format in Format::ALL {
            for transfer in Transfer::ALL {
                let (bytes, source) = picture(size, format, transfer, 1.0);
                let session = between(&model, source, &options());
                assert_eq!(session.size(), size);
                assert!(rendered(&session, 0.0, format, transfer) == bytes, "{format:?}");
                // The model is not asked for it.
                assert_eq!(session.cached_bytes(), 0);
            }
        }
    }
    // At every keyframe that is one, from both sides.
    let (bytes, source) = picture([64, 48], Format::RgbaU16, Transfer::Srgb, 1.0);
    let keyframes = [
        Keyframe::new("a quiet lake", 420),
        Keyframe::new("a castle", 1).image(source.clone()),
        Keyframe::default().image(source),
    ];
    let session = Session::new(&model, &keyframes, &options()).unwrap();
    for t in [1.0, 2.0] {
        assert!(rendered(&session, t, Format::RgbaU16, Transfer::Srgb) == bytes);
    }
}

#[test]
fn detail_fades_and_nothing_pops() {
    let model = tiny("base");
    let (_, source) = picture([64, 48], Format::RgbF32, Transfer::Srgb, 1.0);
    let image = KeyframeImage { blend: 0.2, ..source.into() };
    let session = between(&model, image, &options());
    let frame = |t: f64| session.render(t, &Call::new()).unwrap();
    // How much of the finest detail, a chequerboard of one pixel, a frame shows.
    let detail = |frame: &Frame| -> f64 {
        let value = |x: usize, y: usize| f64::from(frame.rgb()[(y * 64 + x) * 3]);
        let mut sum = 0.0;
        for y in 0..47 {
            for x in 0..63 {
                let odd = if (x + y) % 2 == 0 { -1.0 } else { 1.0 };
                sum +=
                    odd * (value(x, y) + value(x + 1, y + 1) - value(x + 1, y) - value(x, y + 1));
            }
        }
        sum / 4.0 / (47.0 * 63.0) / 0.05
    };
    let at: Vec<f64> = [0.0, 0.05, 0.1, 0.15, 0.2].map(|t| detail(&frame(t))).to_vec();
    println!("chequerboard from t 0 to 0.2: {at:.3?}");
    assert!((at[0] - 1.0).abs() < 0.01 && at.windows(2).all(|pair| pair[1] < pair[0] + 0.02));
    assert!(at[4].abs() < 0.2 && (at[2] - 0.5 * (at[0] + at[4])).abs() < 0.1);
    // One step of t right behind the image changes as little as one further on.
    let step = |a: f64, b: f64| {
        let (a, b) = (frame(a), frame(b));
        let each = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from((a - b).abs()));
        each.sum::<f64>() / a.rgb().len() as f64
    };
    let (first, next) = (step(0.0, 1e-4), step(1e-4, 2e-4));
    println!("mean change of the first 1e-4 {first:.1e}, of the next {next:.1e}");
    assert!(first < 5.0 * next + 1e-5);
}

#[test]
fn hdr_goes_through_and_comes_back() {
    let model = tiny("base");
    for transfer in [Transfer::Linear, Transfer::AcesCg] {
        let (bytes, source) = picture([64, 48], Format::RgbaF32, transfer, 64.0);
        let session =
            between(&model, KeyframeImage { blend: 0.1, ..source.clone().into() }, &options());
        assert!(rendered(&session, 0.0, Format::RgbaF32, transfer) == bytes);
        let values = |bytes: &[u8]| -> Vec<f64> {
            let each = bytes.as_chunks::<4>().0.iter();
            each.map(|&b| f64::from(f32::from_ne_bytes(b))).collect()
        };
        let wanted = values(&bytes);
        // Right beside it the pixels went through the curve, and back. (From an image to itself, for
        // the random network changes much over the least of ways.)
        let both = [source.clone(), source].map(|s| Keyframe::default().image(s));
        let itself = Session::new(&model, &both, &options()).unwrap();
        let near = values(&rendered(&itself, 2f64.powi(-14), Format::RgbaF32, transfer));
        let worst = near.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
        let worst = worst.fold(0.0, f64::max);
        println!("{transfer:?}: relative error beside an image of up to 64: {worst:.1e}");
        // What is left of the model's own share; ACEScg's matrix takes differences of large numbers.
        assert!(worst > 0.0 && worst < 5e-3);
        // Half-way highlights are there, and the prompt's end has none of the curve.
        let most = |t: f64| {
            values(&rendered(&session, t, Format::RgbaF32, transfer))
                .into_iter()
                .fold(0.0, f64::max)
        };
        assert!(most(0.02) > 10.0, "{}", most(0.02));
        let keyframes = [Keyframe::new("a quiet lake", 420)];
        let plain = Session::new(&model, &keyframes, &options()).unwrap();
        let alone = plain.render(0.0, &Call::new()).unwrap();
        assert!(same(&session.render(1.0, &Call::new()).unwrap(), &alone));
    }
}

#[test]
fn frames_are_the_same_in_any_order_and_whatever_the_cache() {
    let model = tiny("base");
    let times = [0.0, 0.03, 0.3, 0.5, 0.97, 1.0, 1.4, 2.0];
    for strength in [1.0, 0.6] {
        let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
        let image = KeyframeImage { strength, ..source.into() };
        let keyframes = [
            Keyframe::new("a castle", 1).image(image.clone()),
            Keyframe::new("a quiet lake", 420),
            Keyframe::new("a lighthouse", 2).image(image),
        ];
        let make = |cache_bytes: usize| {
            let options = BlendOptions { cache_bytes, ..options() };
            Session::new(&model, &keyframes, &options).unwrap()
        };
        let session = make(usize::MAX);
        let one = |&t: &f64| session.render(t, &Call::new()).unwrap();
        let wanted: Vec<Frame> = times.iter().map(one).collect();
        for cache_bytes in [0, 3000] {
            let session = make(cache_bytes);
            session.prepare(&Call::new()).unwrap();
            assert!(session.cached_bytes() <= cache_bytes);
            let together = session.render_many(&times, &Call::new()).unwrap();
            assert!(together.iter().zip(&wanted).all(|(a, b)| same(a, b)), "{strength}");
            session.purge();
            for (&t, wanted) in times.iter().zip(&wanted).rev() {
                assert!(same(&session.render(t, &Call::new()).unwrap(), wanted), "{strength} {t}");
            }
        }
        let session = make(usize::MAX);
        std::thread::scope(|scope| {
            for start in 0..4 {
                let (session, times, wanted) = (&session, &times, &wanted);
                scope.spawn(move || {
                    for i in (0..times.len()).map(|i| (i + start * 2) % times.len()) {
                        let got = session.render(times[i], &Call::new()).unwrap();
                        assert!(same(&got, &wanted[i]), "in threads: {strength}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_lower_strength_starts_from_the_noised_image() {
    let model = tiny("base");
    let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
    let steps = 12;
    let run = |strength: f64| {
        let image = KeyframeImage { strength, ..source.clone().into() };
        let keyframes = [Keyframe::new("a castle", 7).image(image)];
        let options = BlendOptions {
            steps: Some(steps),
            branching: Some(Branching { injections: vec![0, 8], branches: vec![2, 5] }),
            noise: NoiseKind::Cpu,
            ..options()
        };
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let evaluations = session.evaluations(&[0.0]).unwrap();
        (session.latents(&[0.0], &Call::new()).unwrap().remove(0), session, evaluations)
    };
    // By hand: the latent, noise of the seed, and the last steps, guided.
    let frame = Frame::new(64, 48, {
        let image = source.image().unwrap();
        image.read_rgb().unwrap().rgb().to_vec()
    });
    let clean = model.engine().encode(&frame.unwrap()).unwrap().mean;
    let noise = noise(NoiseKind::Cpu, 7, clean.shape()).unwrap();
    for (strength, skipped) in [(0.5, 6), (0.75, 9)] {
        let (got, session, evaluations) = run(strength);
        assert_eq!(evaluations, steps - skipped);
        assert_eq!(session.evaluated(), evaluations as u64);
        let schedule = Arc::new(session.schedule().clone());
        let alpha = schedule.steps[skipped].alpha;
        let start = clean.data().iter().zip(noise.data()).map(|(&z, &n)| {
            (alpha.sqrt() * f64::from(z) + (1.0 - alpha).sqrt() * f64::from(n)) as f32
        });
        let prompt = |text: &str| {
            let ids = model.tokenize(text).unwrap().0;
            Arc::new(model.engine().encode_prompts(&[&ids]).unwrap().remove(0))
        };
        let branch = Branch {
            latent: latentblend::Latent::new(clean.shape(), start.collect()).unwrap(),
            positive: prompt("a castle"),
            negative: prompt(""),
            guidance: 4.0,
            extra: None,
            history: None,
            feed: None,
        };
        let batch = Batch {
            branches: vec![branch],
            schedule,
            steps: skipped..steps,
            keep: 0,
            guidance: Arc::default(),
        };
        let mut by_hand = Arc::clone(model.engine()).denoise(batch).unwrap();
        let wanted = loop {
            if let Some(trails) = by_hand.advance().unwrap() {
                break trails[0].last().latent.clone();
            }
        };
        assert_eq!(got, wanted, "strength {strength}");
    }
    let (near, ..) = run(0.95);
    let (far, ..) = run(0.1);
    let off = |a: &latentblend::Latent| {
        let each = a.data().iter().zip(clean.data()).map(|(a, b)| (a - b).abs());
        each.sum::<f32>() / a.data().len() as f32
    };
    assert!(off(&near) < off(&far), "a higher strength keeps more");
}

#[test]
fn an_image_of_another_shape_is_fitted_and_hosts_see_it_in_tiles() {
    let model = tiny("base");
    let (_, wide) = picture([120, 60], Format::RgbU8, Transfer::Srgb, 1.0);
    let (_, tall) = picture([50, 90], Format::RgbaU8, Transfer::Srgb, 1.0);
    let keyframes = [Keyframe::default().image(wide), Keyframe::default().image(tall)];
    let options = BlendOptions { size: None, preset: Preset::Lowest, ..BlendOptions::default() };
    let session = Session::new(&model, &keyframes, &options).unwrap();
    // The working size has the first image's shape.
    assert_eq!((session.size(), session.working_size()), ([120, 60], [192, 96]));
    let whole = rendered(&session, 0.04, Format::RgbU8, Transfer::Srgb);
    assert_eq!(session.render(0.04, &Call::new()).unwrap().to_rgb8(), whole);
    rendered(&session, 1.0, Format::RgbU8, Transfer::Srgb);
    let layout = Layout::packed(30, 20, Format::RgbU8, Transfer::Srgb);
    let mut tile = vec![0; 30 * 20 * 3];
    let placement = latentblend::Placement {
        window: [70, 30, 100, 50],
        ..latentblend::Placement::whole(120, 60)
    };
    let target = Target::new(ImageMut::new(&mut tile, 0, layout).unwrap()).placed(placement);
    session.render_into(&[0.04], &mut [target], &Call::new()).unwrap();
    let rows = whole.chunks(360).skip(30).take(20).flat_map(|row| &row[210..300]);
    assert!(tile.iter().eq(rows));
    // At another size all of it is resampled together.
    let mut half = vec![0; 60 * 30 * 3];
    let layout = Layout::packed(60, 30, Format::RgbU8, Transfer::Srgb);
    let target = Target::new(ImageMut::new(&mut half, 0, layout).unwrap())
        .placed(latentblend::Placement::whole(60, 30));
    session.render_into(&[0.04], &mut [target], &Call::new()).unwrap();
    let mean =
        |pixels: &[u8]| pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / pixels.len() as f64;
    assert!((mean(&half) - mean(&whole)).abs() < 1.0);
}

#[test]
fn images_go_with_every_sampler_and_crossfeed() {
    let model = tiny("base");
    let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
    let strongly = Some(Crossfeed::new(0.6, 1.0, 0.5));
    let crossfed = |options| BlendOptions {
        branch1_crossfeed: strongly,
        parental_crossfeed: strongly,
        ..options
    };
    let compat = BlendOptions { look: Look::Compat2023, ..options() };
    let solver = BlendOptions { sampler: Sampler::DpmSolver2M, ..options() };
    let variants =
        [solver.clone(), compat.clone(), crossfed(options()), crossfed(solver), crossfed(compat)];
    let keyframes = [
        Keyframe::new("a lighthouse", 2),
        Keyframe::new("a castle", 1).image(source.clone()),
        Keyframe::new("a quiet lake", 420),
    ];
    let times = [0.0, 0.4, 0.999_999_9, 1.0, 1.000_000_1, 1.3, 2.0];
    for (index, options) in variants.into_iter().enumerate() {
        let make = |cache_bytes: usize| {
            let options = BlendOptions { cache_bytes, ..options.clone() };
            Session::new(&model, &keyframes, &options).unwrap()
        };
        let session = make(usize::MAX);
        let wanted = session.latents(&times, &Call::new()).unwrap();
        for (&t, wanted) in times.iter().zip(&wanted).rev() {
            let session = make(0);
            let before = session.evaluations(&[t]).unwrap() as u64;
            let got = session.latents(&[t], &Call::new()).unwrap().remove(0);
            assert_eq!(&got, wanted, "{index} at {t}");
            // With a cache for nothing, too, what is made is held on to within the call.
            // (Frames near an image show it, and take none.)
            let counted = (t - 1.0).abs() > 0.1;
            assert!(!counted || session.evaluated() == before, "{index} at {t}");
            let prepared = make(usize::MAX);
            let to_prepare = prepared.evaluations_to_prepare() as u64;
            prepared.prepare(&Call::new()).unwrap();
            assert_eq!((prepared.evaluated(), prepared.evaluations_to_prepare()), (to_prepare, 0));
            let frame = prepared.evaluations(&[t]).unwrap() as u64;
            assert_eq!(&prepared.latents(&[t], &Call::new()).unwrap()[0], wanted, "{index} at {t}");
            let all = to_prepare + frame;
            assert!(!counted || prepared.evaluated() == all, "{index} at {t}");
        }
        // Between the keyframe itself and the frames next to it nothing jumps.
        // (The network of the checkpoints is steep there: ten times as far is ten times as much.)
        for near in [2, 4] {
            let jump = relative_error(
                wanted[near].data(),
                &wanted[3].data().iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
            );
            assert!(jump < 2e-3, "{index}: {jump} between an image and the frame next to it");
        }
        // What comes before an image does not draw it.
        let last = Session::new(&model, &keyframes[1..], &options).unwrap();
        assert_eq!(last.latents(&[0.0], &Call::new()).unwrap()[0], wanted[3], "{index}");
    }
}

#[test]
fn progress_counts_the_inversion_too() {
    let model = tiny("base");
    let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
    let session = between(&model, source, &options());
    let reports = Reports::default();
    let before = session.evaluations(&[0.5]).unwrap();
    session.render(0.5, &reports.call()).unwrap();
    let reports = reports.0.lock().unwrap();
    assert!(before >= 12, "{before}");
    assert!(reports.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction));
    let last = reports.last().unwrap();
    assert_eq!((last.stage, last.fraction), (Stage::Decode, 1.0));
}

#[test]
fn what_cannot_be_is_refused_with_its_values() {
    let model = tiny("base");
    let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
    let good = KeyframeImage::new(source);
    let refused = |image: KeyframeImage| {
        let keyframes = [Keyframe::default().image(image)];
        let error = Session::new(&model, &keyframes, &options()).map(|_| ()).unwrap_err();
        error.message().to_owned()
    };
    for strength in [0.0, -0.5, 1.01, f64::NAN] {
        let message = refused(KeyframeImage { strength, ..good.clone() });
        assert_eq!(message, format!("image strength {strength}: wanted above 0 to 1"));
    }
    for blend in [-0.1, 0.6, f64::NAN] {
        let message = refused(KeyframeImage { blend, ..good.clone() });
        assert_eq!(message, format!("image blend {blend}: wanted 0 to 0.5"));
    }
    for peak in [-1.0, 1e9, f64::NAN] {
        let message = refused(KeyframeImage { peak: Some(peak), ..good.clone() });
        assert_eq!(message, format!("highlight peak {peak}: wanted 0 to 1000"));
    }
    let grey = [0u8; 64];
    let layout = Layout::packed(8, 8, Format::AU8, Transfer::Srgb);
    let grey = Source::new(&ImageRef::new(&grey, 0, layout).unwrap()).unwrap();
    assert_eq!(refused(grey.into()), "a keyframe's image in AU8: wanted RGB or RGBA");
    let start = noise(NoiseKind::Cuda, 1, [4, 6, 8]).unwrap();
    let keyframes = [Keyframe::default().start(start).image(good)];
    let error = Session::new(&model, &keyframes, &options()).map(|_| ()).unwrap_err();
    assert!(error.message().contains("wanted one"), "{error}");
}

/// What inversion keeps of a picture, on the demo model.
#[cfg(feature = "demo")]
#[test]
fn sampling_after_inversion_comes_back_to_the_picture() {
    let model = Model::demo(&Call::new()).unwrap();
    let prompt = "a photo of a mountain lake at dawn";
    let options = BlendOptions { preset: Preset::Medium, ..BlendOptions::default() };
    let made = Session::new(&model, &[Keyframe::new(prompt, 420)], &options).unwrap();
    let made = made.render(0.0, &Call::new()).unwrap();
    let bytes = made.to_rgb8();
    let layout = Layout::packed(128, 128, Format::RgbU8, Transfer::Srgb);
    let source = Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap();
    let psnr = |a: &Frame, b: &Frame| {
        let each = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from(a - b).powi(2));
        -10.0 * (each.sum::<f64>() / a.rgb().len() as f64).log10()
    };
    // All of the steps back and all of them forth: a tree of one level.
    let branching = Branching { injections: vec![0], branches: vec![2] };
    let options = BlendOptions { steps: Some(30), branching: Some(branching), ..options };
    for said in [prompt, ""] {
        let keyframes = [Keyframe::new(said, 0).image(source.clone())];
        let back = |options: &BlendOptions| {
            let session = Session::new(&model, &keyframes, options).unwrap();
            let latent = session.latents(&[0.0], &Call::new()).unwrap();
            model.engine().decode(&latent).unwrap().remove(0)
        };
        let whole = psnr(&made, &back(&options));
        // A transition samples the last block only.
        let usual = psnr(&made, &back(&BlendOptions { branching: None, ..options.clone() }));
        let clean = model.engine().encode(&made).unwrap().mean;
        let held = psnr(&made, &model.engine().decode(&[clean]).unwrap().remove(0));
        println!(
            "prompt {said:?}: {whole:.1} dB after 30 steps back and forth, {usual:.1} dB in a \
             transition, {held:.1} dB by the VAE alone"
        );
        assert!(whole > 20.0 && usual > 30.0);
    }
}
