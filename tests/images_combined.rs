//! Pictures (images as keyframes, inpainting) together with loops, extending, placing by change, session files,
//! and samplers.

mod common;

use common::golden::relative_error;
use common::{same, tiny};
use latentblend::{
    Adapt, Batch, BlendOptions, Branch, Branching, Call, Crossfeed, ErrorKind, Even, Format,
    ImageMut, ImageRef, Inpainting, Keyframe, KeyframeImage, Latent, LatentMix, Layout, Look, Mask,
    Model, RestoreOptions, Sampler, Session, Source, Target, Transfer,
};
use std::sync::Arc;

/// A picture with detail that no latent holds, its alpha and lights beyond 1 among it.
fn picture(size: [usize; 2], format: Format, transfer: Transfer, phase: f32) -> (Vec<u8>, Source) {
    let [width, height] = size;
    let mut bytes = Vec::new();
    for i in 0..width * height {
        let (x, y) = (i % width, i / width);
        for c in 0..format.channels() {
            let smooth = (x as f32 / 9.0 + c as f32 + phase).sin() * (y as f32 / 11.0).cos();
            let value = match c {
                3 => 1.0 - 0.3 * (x as f32 / width as f32),
                _ => 0.5 + 0.3 * smooth + 0.1 * ((x + y) % 2) as f32,
            };
            match format {
                Format::RgbU8 | Format::RgbaU8 => bytes.push((value * 255.0) as u8),
                Format::RgbaU16 => bytes.extend(((value * 65535.0) as u16).to_ne_bytes()),
                _ => bytes.extend((value * 3.0).to_ne_bytes()),
            }
        }
    }
    let layout = Layout::packed(width, height, format, transfer);
    let source = Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap();
    (bytes, source)
}

fn plain(size: [usize; 2], phase: f32) -> (Vec<u8>, Source) {
    picture(size, Format::RgbaU8, Transfer::Srgb, phase)
}

fn options() -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    let size = Some([48, 32]);
    BlendOptions { steps: Some(9), branching: Some(branching), size, ..BlendOptions::default() }
}

/// Kinds of trees and samplers.
fn kinds() -> Vec<BlendOptions> {
    let feed = Some(Crossfeed::new(0.5, 0.9, 0.5));
    let fed = BlendOptions { branch1_crossfeed: feed, parental_crossfeed: feed, ..options() };
    let (look, branching) = (Look::Compat2023, None);
    let of_2023 =
        BlendOptions { look, branching, steps: Some(12), frames: 40, depth: 0.3, ..fed.clone() };
    let arc = BlendOptions { latent_mix: Some(LatentMix::Arc), ..options() };
    let solver = BlendOptions { sampler: Sampler::DpmSolver2M, ..fed.clone() };
    vec![options(), arc, solver, fed, of_2023]
}

fn bytes_of(session: &Session, t: f64, format: Format, transfer: Transfer) -> Vec<u8> {
    let [width, height] = session.size();
    let layout = Layout::packed(width, height, format, transfer);
    let mut bytes = vec![0xAA; width * height * format.bytes_per_pixel()];
    let target = Target::new(ImageMut::new(&mut bytes, 0, layout).unwrap());
    session.render_into(&[t], &mut [target], &Call::new()).unwrap();
    bytes
}

/// The frame as 8-bit RGBA, in which the sources are, too.
fn rgba(session: &Session, t: f64) -> Vec<u8> {
    bytes_of(session, t, Format::RgbaU8, Transfer::Srgb)
}

fn saved_and_loaded(session: &Session, model: &Model) -> Session {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    session.save(&path, &Call::new()).unwrap();
    Session::load(model, &path, &RestoreOptions::default(), &Call::new()).unwrap()
}

/// Whether two sessions give the same bytes, in formats that show everything.
fn equal(a: &Session, b: &Session, times: &[f64]) {
    for &t in times {
        for (format, transfer) in
            [(Format::RgbaU16, Transfer::Srgb), (Format::RgbaF32, Transfer::Linear)]
        {
            let [a, b] = [a, b].map(|session| bytes_of(session, t, format, transfer));
            assert!(a == b, "{format:?} at {t}");
        }
        let [a, b] = [a, b].map(|session| session.render(t, &Call::new()).unwrap());
        assert!(same(&a, &b), "at {t}");
    }
}

/// Sessions of every kind of picture.
fn sessions(model: &Model, options: &BlendOptions) -> Vec<Session> {
    let (hdr, linear) = (Format::RgbaF32, Transfer::Linear);
    let images = [
        Keyframe::new("a castle", 1).image(plain([61, 40], 0.0).1),
        Keyframe::new("a quiet lake", 420),
        Keyframe::default()
            .image(KeyframeImage { blend: 0.4, ..picture([50, 50], hdr, linear, 1.0).1.into() }),
        Keyframe::new("dunes", 7)
            .image(KeyframeImage { strength: 0.6, ..plain([61, 40], 2.0).1.into() }),
    ];
    let mask = Mask::rectangle(30, 20, [8, 5, 20, 15]).unwrap();
    let inpainting = Inpainting {
        from_source: true,
        region: Some([5, 4, 50, 36]),
        ..Inpainting::new(plain([60, 40], 0.5).1, mask)
    };
    let prompts = [Keyframe::new("a castle", 1), Keyframe::new("a quiet lake", 420)];
    vec![
        Session::new(model, &images, options).unwrap(),
        Session::inpainting(model, &prompts, options, &inpainting).unwrap(),
    ]
}

#[test]
fn a_loop_through_pictures_comes_back_to_the_picture_bit_for_bit() {
    let model = tiny("base");
    let [(first, a), (last, b)] = [plain([61, 40], 0.0), plain([61, 40], 2.0)];
    let keyframes =
        [Keyframe::default().image(a), Keyframe::new("a lake", 420), Keyframe::new("", 7).image(b)];
    for options in kinds() {
        let options = BlendOptions { looped: true, ..options };
        let session = Session::new(&model, &keyframes, &options).unwrap();
        assert_eq!(session.last_t(), 3.0);
        assert!(rgba(&session, 0.0) == first && rgba(&session, 3.0) == first);
        assert!(rgba(&session, 2.0) == last);
        // The last picture fades, and the first comes, on the way back as on the others.
        let near = [2.000_001, 2.999_999].map(|t| rgba(&session, t));
        let far = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far(&near[0], &last) <= 1 && far(&near[1], &first) <= 1);
        let between = rgba(&session, 2.5);
        assert!(between != first && between != last);
        let bare =
            Session::new(&model, &keyframes, &BlendOptions { cache_bytes: 0, ..options }).unwrap();
        equal(&session, &bare, &[2.96, 2.5, 3.0, 1.03, 0.0]);
    }
}

#[test]
fn a_loop_of_repaintings_comes_back_with_models_of_four_channels_and_nine() {
    for name in ["base", "inpainting"] {
        let model = tiny(name);
        for session in sessions(&model, &BlendOptions { looped: true, ..options() }) {
            let end = session.last_t();
            assert!(rgba(&session, 0.0) == rgba(&session, end), "{name}");
            let [a, b] = [0.0, end].map(|t| session.latents(&[t], &Call::new()).unwrap().remove(0));
            assert_eq!(a, b, "{name}");
        }
    }
}

#[test]
fn an_extension_of_pictures_begins_with_the_old_frame_bit_for_bit() {
    for (name, kinds) in [("base", kinds()), ("inpainting", vec![options()])] {
        let model = tiny(name);
        for options in kinds {
            for session in sessions(&model, &options) {
                let (bytes, source) = plain([61, 40], 3.0);
                let to = Keyframe::new("a red house", 99).image(source);
                let end = session.last_t();
                // At pictures, beside them, and far from them.
                for t in [0.0, 0.03, 0.5, end - 0.8, end - 1.0, end] {
                    for to in [to.clone(), Keyframe::new("snow", 5)] {
                        let extended = session.extend(t, &to, &Call::new()).unwrap();
                        assert_eq!(extended.size(), session.size());
                        let (old, new) = (&session, &extended);
                        for (format, transfer) in [
                            (Format::RgbaU8, Transfer::Srgb),
                            (Format::RgbF16, Transfer::AcesCg),
                            (Format::RgbaF32, Transfer::Linear),
                        ] {
                            let old = bytes_of(old, t, format, transfer);
                            assert!(bytes_of(new, 0.0, format, transfer) == old, "{name} at {t}");
                        }
                        let old = old.render(t, &Call::new()).unwrap();
                        assert!(same(&new.render(0.0, &Call::new()).unwrap(), &old), "at {t}");
                    }
                }
                // The picture that it goes to is that picture.
                let extended = session.extend(0.03, &to, &Call::new()).unwrap();
                if session.size() == [61, 40] {
                    assert!(rgba(&extended, 1.0) == bytes);
                }
                // On from there, and from a file.
                let again = extended.extend(0.02, &to, &Call::new()).unwrap();
                equal(&again, &again.extend(0.0, &to, &Call::new()).unwrap(), &[0.0]);
                assert!(rgba(&again, 0.0) == rgba(&extended, 0.02));
                let loaded = saved_and_loaded(&again, &model);
                equal(&loaded, &again, &[0.3, 0.0, 0.01, 1.0]);
            }
        }
    }
}

#[test]
fn a_picture_left_behind_fades_and_nothing_pops() {
    let model = tiny("base");
    let (_, source) = plain([48, 32], 0.0);
    let image = KeyframeImage { blend: 0.3, ..source.into() };
    let keyframes = [Keyframe::default().image(image), Keyframe::new("a quiet lake", 420)];
    let session = Session::new(&model, &keyframes, &options()).unwrap();
    let to = Keyframe::new("snow", 5);
    for from in [0.0, 0.1] {
        let extended = session.extend(from, &to, &Call::new()).unwrap();
        // Of the checkerboard, which no latent holds, less is seen from frame to frame.
        let board = |t: f64| {
            let frame = extended.render(t, &Call::new()).unwrap();
            let pixels = frame.rgb().chunks_exact(3).enumerate();
            let sign = |i: usize| if (i % 48 + i / 48) % 2 == 1 { 2.0 } else { -2.0 };
            pixels.map(|(i, p)| f64::from(p[1]) * sign(i)).sum::<f64>() / (48.0 * 32.0)
        };
        let boards = [0.0, 0.1, 0.2, 0.3].map(board);
        println!("from {from}: {boards:.3?}");
        assert!(boards.windows(2).all(|pair| pair[0] > pair[1] + 0.001), "{boards:?}");
        let [at, beside] = [0.0, 1e-7].map(|t| extended.render(t, &Call::new()).unwrap());
        let jump =
            at.rgb().iter().zip(beside.rgb()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(jump < 2e-3, "{jump}");
    }
}

#[test]
fn a_session_without_pictures_goes_on_to_one() {
    let model = tiny("base");
    let (_, source) = plain([77, 50], 0.0);
    let to = Keyframe::default().image(source);
    for options in kinds() {
        let keyframes = [Keyframe::new("a castle", 1), Keyframe::new("a quiet lake", 420)];
        let session = Session::new(&model, &keyframes, &options).unwrap();
        for t in [0.0, 0.4] {
            let extended = session.extend(t, &to, &Call::new()).unwrap();
            assert_eq!(extended.size(), session.size());
            for format in Format::ALL {
                for transfer in Transfer::ALL {
                    let old = bytes_of(&session, t, format, transfer);
                    assert!(bytes_of(&extended, 0.0, format, transfer) == old, "{format:?}");
                }
            }
            let [old, new] = [(&session, t), (&extended, 0.0)]
                .map(|(session, t)| session.render(t, &Call::new()).unwrap());
            assert!(same(&old, &new));
            // And from the picture on to words.
            let on = extended.extend(1.0, &keyframes[0], &Call::new()).unwrap();
            assert!(rgba(&on, 0.0) == rgba(&extended, 1.0));
        }
    }
}

#[test]
fn branches_are_placed_by_change_between_pictures_and_keyframes_stay() {
    let model = tiny("base");
    let even = Even { samples: 5, ..Even::default() };
    for options in kinds() {
        for session in sessions(&model, &options) {
            let adapt = Adapt { even: even.clone(), strength: 1.0 };
            let adapted = session.adapted(&adapt, &Call::new()).unwrap();
            assert_ne!(adapted.leaves(), session.leaves());
            assert_eq!(adapted.leaves().len(), session.leaves().len());
            for t in 0..=session.last_t() as usize {
                equal(&adapted, &session, &[t as f64]);
            }
            let loaded = saved_and_loaded(&adapted, &model);
            assert_eq!(loaded.leaves(), adapted.leaves());
            equal(&loaded, &adapted, &[0.61, 0.04]);
            let extended = adapted.extend(0.61, &Keyframe::new("snow", 5), &Call::new()).unwrap();
            assert!(rgba(&extended, 0.0) == rgba(&adapted, 0.61));
        }
    }
}

#[test]
fn a_loaded_session_with_pictures_renders_the_very_bytes() {
    for (name, kinds) in [("base", kinds()), ("inpainting", vec![options()])] {
        let model = tiny(name);
        for options in kinds {
            for session in sessions(&model, &options) {
                let end = session.last_t();
                let times = [0.0, 0.04, 0.4, end - 1.0, end - 0.97, end];
                // Before anything was made: all that it takes is in the file.
                let bare = saved_and_loaded(&session, &model);
                session.prepare(&Call::new()).unwrap();
                let loaded = saved_and_loaded(&session, &model);
                assert_eq!(loaded.evaluations_to_prepare(), 0, "nothing of the work was lost");
                assert_eq!(loaded.size(), session.size());
                assert_eq!(loaded.keyframes().len(), session.keyframes().len());
                equal(&loaded, &session, &times);
                equal(&bare, &session, &times);
                loaded.purge();
                equal(&loaded, &session, &times[1..3]);
            }
        }
    }
}

#[test]
fn a_file_with_a_damaged_picture_is_an_error() {
    let model = tiny("base");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    for session in sessions(&model, &options()) {
        session.save(&path, &Call::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize + 8;
        // In every tensor, of which pictures are the largest.
        for at in (length..whole.len()).step_by(whole.len() / 97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let loaded = Session::load(&model, &path, &RestoreOptions::default(), &Call::new());
            assert_eq!(loaded.map(|_| ()).unwrap_err().kind(), ErrorKind::BadModel);
        }
    }
}

#[test]
fn memory_counts_pictures_and_what_is_made_of_them() {
    let model = tiny("base");
    for session in sessions(&model, &options()) {
        let pictures: usize = session.size().iter().product::<usize>() * 4;
        let before = session.memory_bytes();
        assert!(before >= pictures as u64, "{before} for pictures of {pictures}");
        rgba(&session, 0.01);
        let after = session.memory_bytes();
        let shown = session.size().iter().product::<usize>() * 3 * 4;
        assert!(after >= before + (shown + session.cached_bytes()) as u64, "{before}, {after}");
        session.purge();
        let purged = session.memory_bytes();
        assert!(purged < after && purged < before + (64 << 10), "{before}, {after}, {purged}");
    }
}

#[test]
fn a_lower_strength_goes_with_a_multistep_sampler() {
    const STEPS: usize = 12;
    let model = tiny("base");
    let far = |a: &Latent, b: &Latent| {
        relative_error(a.data(), &b.data().iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
    };
    let (_, source) = plain([48, 32], 0.0);
    let options = BlendOptions {
        sampler: Sampler::DpmSolver2M,
        steps: Some(STEPS),
        branching: None,
        guidance: 1.0,
        ..options()
    };
    let noise = latentblend::noise(options.noise, 1, [4, 4, 6]).unwrap();
    let (ids, _) = model.tokenize("a castle").unwrap();
    let context = Arc::new(model.engine().encode_prompts(&[&ids]).unwrap().remove(0));
    let layout = source.layout();
    let pixels: Vec<f32> = source.image().unwrap().read_rgb().unwrap().rgb().to_vec();
    let frame = latentblend::Frame::new(layout.width, layout.height, pixels).unwrap();
    let clean = model.engine().encode(&frame).unwrap().mean;
    for strength in [0.9, 0.75, 0.5, 0.2] {
        let image = KeyframeImage { strength, ..source.clone().into() };
        let keyframes =
            [Keyframe::new("a castle", 1).image(image), Keyframe::new("a quiet lake", 420)];
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let times = [0.0, 1e-7, 0.3, 1.0];
        let got = session.latents(&times, &Call::new()).unwrap();
        let bare = BlendOptions { cache_bytes: 0, ..options.clone() };
        let bare = Session::new(&model, &keyframes, &bare).unwrap();
        for (t, got) in times.iter().zip(&got).rev() {
            assert_eq!(&bare.latents(&[*t], &Call::new()).unwrap()[0], got, "{strength} at {t}");
        }
        // By hand: the image's latent with noise, of which the sampler remembers the image's latent.
        let schedule = Arc::new(session.schedule().clone());
        let first = (strength * STEPS as f64).round_ties_even() as usize;
        let alpha = schedule.steps[first].alpha;
        let values = clean.data().iter().zip(noise.data()).map(|(&z, &n)| {
            (alpha.sqrt() * f64::from(z) + (1.0 - alpha).sqrt() * f64::from(n)) as f32
        });
        let branch = Branch {
            latent: Latent::new(clean.shape(), values.collect()).unwrap(),
            history: Some(clean.clone()),
            feed: None,
            positive: Arc::clone(&context),
            negative: Arc::clone(&context),
            guidance: 1.0,
            extra: None,
        };
        let batch = Batch {
            branches: vec![branch],
            schedule,
            steps: first..STEPS,
            keep: STEPS - 1,
            guidance: Arc::default(),
        };
        let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
        let trails = loop {
            if let Some(trails) = run.advance().unwrap() {
                break trails;
            }
        };
        assert_eq!(trails[0].last().latent, got[0], "{strength}");
        // Where frames start from a picture that is repainted already, those beside it are near it.
        let last = session.plan().last().steps.start;
        let jump = far(&got[1], &got[0]);
        println!("strength {strength}, {first} steps left out, frames start at {last}: {jump:.1e}");
        assert!(first > last || jump < 1e-4, "{strength}: {jump}");
    }
}

#[test]
fn what_cannot_go_together_is_refused_with_its_values() {
    let model = tiny("base");
    let session = sessions(&model, &options()).remove(0);
    let (_, source) = plain([48, 32], 0.0);
    let origin = Arc::new(session.origin(0.5, &Call::new()).unwrap());
    let from = Keyframe { origin: Some(origin), ..Keyframe::default() };
    let to = Keyframe::new("snow", 5);
    let refused = |keyframes: &[Keyframe]| {
        let error = Session::new(&model, keyframes, &options()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    };
    let both = from.clone().image(source.clone());
    let wanted = "a keyframe with an image and an origin in another session: wanted one";
    assert_eq!(refused(&[both, to.clone()]), wanted);
    let other = to.clone().image(source);
    let wanted = "a keyframe from a session with pictures of 61x40 pixels: here they have 48x32";
    assert_eq!(refused(&[other, from.clone()]), wanted);
    // Elsewhere it fits: the plane of the pictures comes along.
    let again = Session::new(&model, &[to, from], &options()).unwrap();
    assert!(rgba(&again, 1.0) == rgba(&session, 0.5));
}
