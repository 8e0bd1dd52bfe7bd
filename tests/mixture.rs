//! The engine on an analytic denoiser: final samples against the closed form.

mod common;

use common::golden::{read, relative_error};
use common::latent;
use common::mixture::{Mixture, rows};
use latentblend::{BlendOptions, Branching, Call, Keyframe, Latent, Model, Session};

/// The picture of a keyframe that stands alone: noise, all steps, no blending.
fn sample(model: &Model, keyframe: Keyframe, size: usize, steps: usize, guidance: f64) -> Latent {
    let options = BlendOptions {
        size: Some([size, size]),
        steps: Some(steps),
        branching: Some(Branching { injections: vec![0], branches: vec![2] }),
        guidance,
        ..BlendOptions::default()
    };
    let session = Session::new(model, &[keyframe], &options).unwrap();
    session.latents(&[0.0], &Call::new()).unwrap().remove(0)
}

#[test]
fn one_gaussian_ends_where_the_closed_form_says() {
    let recorded = read("mixture_one");
    let model = Mixture {
        weights: vec![1.0],
        means: vec![recorded["mean"].values.clone()],
        sigmas: recorded["sigma"].values.clone(),
        prompts: vec![recorded["prompt"].values.clone()],
    }
    .model();
    for steps in [1, 5, 12, 20, 50, 250, 999] {
        for start in 0..3 {
            let noise = latent(&recorded["noise"].row(start));
            let plain = sample(&model, Keyframe::new("", 0).start(noise.clone()), 4, steps, 1.0);
            let told = sample(&model, Keyframe::new("0", 0).start(noise), 4, steps, 7.5);
            for (what, got) in [("final", plain), ("guided7.5", told)] {
                let wanted = recorded[&format!("{what}.{steps}")].row(start);
                let error = relative_error(got.data(), &wanted.values);
                assert!(error <= 1e-5, "{what}, {steps} steps: {error:e}");
            }
        }
    }
}

#[test]
fn more_steps_come_closer_to_the_exact_flow() {
    let recorded = read("mixture_one");
    let model = Mixture {
        weights: vec![1.0],
        means: vec![recorded["mean"].values.clone()],
        sigmas: recorded["sigma"].values.clone(),
        prompts: vec![],
    }
    .model();
    let noise = latent(&recorded["noise"].row(0));
    let error = |steps: usize| {
        let got = sample(&model, Keyframe::new("", 0).start(noise.clone()), 4, steps, 1.0);
        relative_error(got.data(), &recorded[&format!("limit.{steps}")].row(0).values)
    };
    let errors = [5, 20, 50, 250].map(error);
    assert!(errors.windows(2).all(|pair| pair[1] < pair[0] / 2.0), "{errors:?}");
}

#[test]
fn three_gaussians_end_where_an_f64_loop_does() {
    let recorded = read("mixture_three");
    let model = Mixture {
        weights: recorded["weights"].values.clone(),
        means: rows(&recorded["means"]),
        sigmas: recorded["sigmas"].values.clone(),
        prompts: rows(&recorded["prompts"]),
    }
    .model();
    for steps in [5, 20, 50] {
        for start in 0..4 {
            let noise = latent(&recorded["noise"].row(start));
            let plain = sample(&model, Keyframe::new("", 0).start(noise.clone()), 2, steps, 1.0);
            let told = sample(&model, Keyframe::new("0", 0).start(noise), 2, steps, 4.0);
            for (what, got) in [("final", plain), ("guided4", told)] {
                let wanted = recorded[&format!("{what}.{steps}")].row(start);
                let error = relative_error(got.data(), &wanted.values);
                assert!(error <= 1e-5, "{what}, {steps} steps, start {start}: {error:e}");
            }
        }
    }
}
