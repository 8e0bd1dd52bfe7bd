//! The runs of images: inversion as diffusers has it, noised latents, and what goes with them.

mod common;

use common::golden::{read, relative_error};
use common::pictures::{between, options, picture};
use common::{Reports, latent, tiny};
use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, Context, Crossfeed, Format, Frame, ImageRef,
    Keyframe, KeyframeImage, Layout, Look, Model, NoiseKind, Preset, Sampler, SchedulePolicy,
    Session, Source, Stage, Transfer, inverse, noise,
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
    let options = BlendOptions { steps: Some(50), branching: Some(branching), ..options };
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
            "prompt {said:?}: {whole:.1} dB after 50 steps back and forth, {usual:.1} dB in a \
             transition, {held:.1} dB by the VAE alone"
        );
        assert!(whole > 24.0 && usual > 34.0);
    }
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
