//! `compat 2022`: the same weights and noise give the original's leaves.

mod common;

use common::golden::{read, relative_error};
use common::mixture::{Mixture, rows};
use common::{latent, tiny};
use latentblend::{BlendOptions, Branching, Call, Frame, Keyframe, Look, Model, Preset, Session};

/// The prompts of the recording, as a user would have typed them.
fn compat(preset: Preset) -> BlendOptions {
    BlendOptions { preset, look: Look::Compat2022, ..BlendOptions::default() }
}

/// Leaves of the tiny checkpoints. The recording holds conditioning, not prompts, so the run goes
/// through an engine that stands before the real one and answers with that.
fn check_networks(name: &str) {
    let recorded = read(&format!("tree_2022_{name}"));
    let real = tiny(name);
    let context = |key: &str| {
        let tensor = &recorded[key];
        latentblend::Context::new(77, tensor.f32()).unwrap()
    };
    let engine = common::scripted::Scripted {
        inner: real.engine().clone(),
        contexts: vec![context("first"), context("second"), context("unconditional")],
    };
    let model = Model::from_engine(std::sync::Arc::new(engine), real.info().clone()).unwrap();
    let start = |index: usize| {
        let noise = &recorded[&format!("noise.{index}")];
        latent(&if noise.shape.len() == 4 { noise.row(0) } else { noise.clone() })
    };
    // Seeds of the original's example; the start latents are checked to be their noise.
    let seeds = [69731932, 504430820];
    for (index, seed) in seeds.into_iter().enumerate() {
        let noise = latentblend::noise(latentblend::NoiseKind::Cuda, seed, [4, 16, 16]).unwrap();
        let error = relative_error(noise.data(), &recorded[&format!("noise.{index}")].values);
        assert!(error < 1e-6, "the noise of seed {seed}: {error:e}");
    }
    let keyframes = [("first", 0), ("second", 1)]
        .map(|(p, i)| Keyframe::new(p, 0).negative("unconditional").start(start(i)));
    let custom = Branching { injections: vec![0, 8, 14], branches: vec![2, 3, 6] };
    for (case, options) in [
        ("lowest", compat(Preset::Lowest)),
        ("low", compat(Preset::Low)),
        (
            "custom",
            BlendOptions { steps: Some(20), branching: Some(custom), ..compat(Preset::Medium) },
        ),
    ] {
        let options = BlendOptions { size: Some([128, 128]), ..options };
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let fractions = &session.plan().last().fractions;
        let wanted = &recorded[&format!("{case}.fractions")].values;
        assert!(fractions.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{case}");
        let leaves = session.latents(&session.leaves(), &Call::new()).unwrap();
        assert_eq!(leaves.len(), wanted.len(), "{case}");
        let recorded_leaves = &recorded[&format!("{case}.leaves")];
        for (index, leaf) in leaves.iter().enumerate() {
            let error = relative_error(leaf.data(), &recorded_leaves.row(index).values);
            println!("{name} {case} leaf {index}: relative error {error:.1e}");
            assert!(error <= 1e-4, "{case}, leaf {index}: {error:e}");
        }
        if case == "lowest" {
            let frame = session.render(session.leaves()[2], &Call::new()).unwrap();
            check_picture(&frame, &recorded["lowest.image.2"].values);
        }
    }
}

/// The recorded picture was cut to whole codes, ours is rounded.
fn check_picture(frame: &Frame, wanted: &[f64]) {
    assert_eq!(frame.rgb().len(), wanted.len());
    let codes = frame.rgb().iter().map(|&v| f64::from(v.clamp(0.0, 1.0)) * 255.0);
    let cut: Vec<f64> = codes.map(f64::floor).collect();
    let off = cut.iter().zip(wanted).filter(|(a, b)| (*a - *b).abs() > 0.5).count();
    let worst = cut.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= 1.0 && off * 100 <= wanted.len(), "{off} values differ, by up to {worst}");
}

#[test]
fn leaves_equal_those_of_2022_with_epsilon_prediction() {
    check_networks("base");
}

#[test]
fn leaves_equal_those_of_2022_with_velocity_prediction() {
    check_networks("v");
}

#[test]
fn leaves_of_an_analytic_denoiser_equal_those_of_2022() {
    let recorded = read("mixture_three");
    let mixture = || Mixture {
        weights: recorded["weights"].values.clone(),
        means: rows(&recorded["means"]),
        sigmas: recorded["sigmas"].values.clone(),
        prompts: rows(&recorded["prompts"]),
    };
    let model = mixture().model();
    let keyframes = [0, 1].map(|index: usize| {
        Keyframe::new(index.to_string(), 0).start(latent(&recorded["noise"].row(index)))
    });
    for preset in [Preset::Lowest, Preset::Low, Preset::Medium] {
        let options = BlendOptions { size: Some([2, 2]), ..compat(preset) };
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let leaves = session.latents(&session.leaves(), &Call::new()).unwrap();
        let wanted = &recorded[&format!("tree_{}.leaves", preset.name())];
        assert_eq!(leaves.len(), wanted.shape[0]);
        for (index, leaf) in leaves.iter().enumerate() {
            let error = relative_error(leaf.data(), &wanted.row(index).values);
            assert!(error <= 1e-5, "{}, leaf {index}: {error:e}", preset.name());
        }
    }
}
