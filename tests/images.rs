//! Images as keyframes: the image itself at its t, and detail that fades.

mod common;

use common::pictures::{between, options, picture, rendered};
use common::watched::watched_model;
use common::{same, tiny};
use latentblend::{
    BlendOptions, Call, Format, Frame, ImageMut, ImageRef, Keyframe, KeyframeImage, Layout,
    NoiseKind, Preset, Session, Source, Target, Transfer, noise,
};

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

#[test]
fn a_purge_in_the_middle_of_a_frame_changes_nothing_and_begins_nothing_anew() {
    let (model, log) = watched_model();
    let (_, source) = picture([64, 48], Format::RgbU8, Transfer::Srgb, 1.0);
    let image = KeyframeImage { blend: 0.5, ..source.into() };
    let fresh = |t: f64| {
        let session = between(&model, image.clone(), &options());
        let before = log.turns();
        (session.render(t, &Call::new()).unwrap(), log.turns() - before)
    };
    let session = between(&model, image.clone(), &options());
    session.render(0.2, &Call::new()).unwrap();
    for t in [0.1, 0.3] {
        let (wanted, whole) = fresh(t);
        // What the image's own frame looks like is known, until somebody purges.
        session.render(0.2, &Call::new()).unwrap();
        let (purged, before) = (session.clone(), log.turns());
        log.on_turn(move |_| purged.purge());
        let frame = session.render(t, &Call::new()).unwrap();
        log.on_turn(|_| ());
        assert!(same(&frame, &wanted), "at {t}");
        assert!(log.turns() - before <= whole, "{} turns of {whole}", log.turns() - before);
    }
}
