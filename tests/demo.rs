//! The embedded demo model: it loads, obeys, and makes the pictures that diffusers makes with it.
#![cfg(all(feature = "demo", feature = "demo-inpainting"))]

mod common;

use common::golden::{read, relative_error};
use common::{in_f32, same};
use latentblend::{BlendOptions, Branching, Call, Frame, Keyframe, Model, Session};
use std::path::Path;

/// After twenty guided steps.
const BOUND: f64 = 1e-4;

/// The picture of one prompt.
fn alone(
    model: &Model,
    keyframe: Keyframe,
    steps: usize,
    guidance: f64,
    size: [usize; 2],
) -> Session {
    let options = BlendOptions {
        steps: Some(steps),
        branching: Some(Branching { injections: vec![0], branches: vec![2] }),
        guidance,
        size: Some(size),
        ..BlendOptions::default()
    };
    Session::new(model, &[keyframe], &options).unwrap()
}

/// The cases of `tests/golden/demo.py`.
fn cases() -> [(Keyframe, f64, usize, [usize; 2]); 3] {
    [
        (Keyframe::new("a photo of a mountain lake at dawn", 420), 4.0, 20, [128, 128]),
        (
            Keyframe::new("a lighthouse by the sea at night, with stars", 69731932)
                .negative("rain"),
            7.5,
            20,
            [128, 128],
        ),
        (Keyframe::new("a poster of a hot air balloon", 7), 1.0, 12, [160, 96]),
    ]
}

#[test]
fn the_demo_model_makes_the_pictures_that_diffusers_makes() {
    let recorded = read("demo");
    let model = Model::demo_with(&in_f32(), &Call::new()).unwrap();
    for (index, (keyframe, guidance, steps, size)) in cases().into_iter().enumerate() {
        let session = alone(&model, keyframe, steps, guidance, size);
        let latents = session.latents(&[0.0], &Call::new()).unwrap();
        let wanted = &recorded[&format!("standard.{index}.latents")].values;
        let error = relative_error(latents[0].data(), wanted);
        println!("standard, case {index}: relative error {error:.1e}");
        assert!(error <= BOUND);
        let Some(decoded) = recorded.get(&format!("standard.{index}.decoded")) else { continue };
        let frame = session.render(0.0, &Call::new()).unwrap();
        let pixels = frame.width() * frame.height();
        let channels_first: Vec<f32> =
            (0..3 * pixels).map(|i| frame.rgb()[i % pixels * 3 + i / pixels] * 2.0 - 1.0).collect();
        let error = relative_error(&channels_first, &decoded.values);
        println!("standard, case {index}: picture {error:.1e}");
        assert!(error <= BOUND);
    }
    let model = Model::demo_inpainting_with(&in_f32(), &Call::new()).unwrap();
    assert!(model.info().inpainting);
    let [_, (keyframe, guidance, steps, size), _] = cases();
    let session = alone(&model, keyframe, steps, guidance, size);
    let latents = session.latents(&[0.0], &Call::new()).unwrap();
    let error = relative_error(latents[0].data(), &recorded["inpainting.latents"].values);
    println!("inpainting: relative error {error:.1e}");
    assert!(error <= BOUND);
}

#[test]
fn the_embedded_model_is_the_folder() {
    let frame = |model: &Model| -> Frame {
        let session = alone(model, Keyframe::new("a castle in autumn", 3), 3, 4.0, [64, 64]);
        session.render(0.0, &Call::new()).unwrap()
    };
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let standard = Model::load(folders.join("standard"), &Call::new()).unwrap();
    assert!(same(&frame(&standard), &frame(&Model::demo(&Call::new()).unwrap())));
    let inpainting = Model::load(folders.join("inpainting"), &Call::new()).unwrap();
    assert!(same(&frame(&inpainting), &frame(&Model::demo_inpainting(&Call::new()).unwrap())));
}

#[test]
fn its_native_size_is_128_and_its_words_fit() {
    let model = Model::demo(&Call::new()).unwrap();
    assert_eq!(model.info().native_size, [128, 128]);
    let long = "a photo of a red lighthouse by the sea on the left at night in winter under a clear \
                sky with a full moon and stars, with pine trees";
    assert_eq!(model.tokenize(long).unwrap().1, None);
}
