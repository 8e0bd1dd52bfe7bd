//! The engine on an analytic denoiser: final samples against the closed form.

mod common;

use common::golden::{read, relative_error};
use common::latent;
use common::mixture::{Mixture, rows};
use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, Keyframe, Latent, Model, Sampler, Schedule,
    SchedulePolicy, Session,
};
use std::sync::Arc;

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

/// How far a run of `count` steps is from the exact flow when it comes to timestep 301. One Gaussian of
/// mean m and deviation s is led along y = x - sqrt(a) m, which grows and shrinks as the square root of
/// a s^2 + 1 - a (`tests/golden/mixture.py`).
fn error_on_the_way(model: &Model, sampler: Sampler, count: usize) -> f64 {
    let recorded = read("mixture_one");
    let (mean, sigma) = (&recorded["mean"].values, recorded["sigma"].values[0]);
    let (config, policy) = (&model.info().diffusion, SchedulePolicy::Model);
    // The same timesteps for both.
    let solver = Schedule::with_sampler(config, count, policy, Sampler::DpmSolver2M).unwrap();
    let schedule = Schedule { sampler, ..solver };
    let end = schedule.steps.iter().position(|step| step.timestep == 301).unwrap();
    let context = Arc::new(latentblend::Context::new(1, vec![0.0; 64]).unwrap());
    let noise = latent(&recorded["noise"].row(0));
    let (from, to) = (schedule.steps[0].alpha, schedule.steps[end].alpha);
    let variance = |a: f64| a * sigma * sigma + 1.0 - a;
    let scale = (variance(to) / variance(from)).sqrt();
    let flow = noise.data().iter().zip(mean);
    let flow = flow.map(|(x, m)| to.sqrt() * m + scale * (f64::from(*x) - from.sqrt() * m));
    let wanted: Vec<f64> = flow.collect();
    let branch = Branch {
        latent: noise,
        positive: Arc::clone(&context),
        negative: context,
        guidance: 1.0,
        history: None,
        feed: None,
        extra: None,
    };
    let schedule = Arc::new(schedule);
    let guidance = Arc::default();
    let batch = Batch { branches: vec![branch], schedule, steps: 0..end, keep: end - 1, guidance };
    let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
    loop {
        if let Some(trails) = run.advance().unwrap() {
            return relative_error(trails[0].last().latent.data(), &wanted);
        }
    }
}

#[test]
fn the_solver_is_of_second_order_and_ddim_of_first() {
    let recorded = read("mixture_one");
    let model = Mixture {
        weights: vec![1.0],
        means: vec![recorded["mean"].values.clone()],
        sigmas: recorded["sigma"].values.clone(),
        prompts: vec![],
    }
    .model();
    // Timesteps 100, 50, 25, and 20, 10, 5 apart.
    for counts in [&[9, 19, 39][..], &[49, 99, 199]] {
        let errors = |sampler| -> Vec<f64> {
            counts.iter().map(|&count| error_on_the_way(&model, sampler, count)).collect()
        };
        let (first, second) = (errors(Sampler::Ddim), errors(Sampler::DpmSolver2M));
        println!("{counts:?} steps: ddim {first:.6?}, dpm++2m {second:.6?}");
        for (pair, other) in first.windows(2).zip(second.windows(2)) {
            let (one, two) = (pair[0] / pair[1], other[0] / other[1]);
            assert!((1.8..2.2).contains(&one), "half the step, 1/{one} of the error of ddim");
            assert!((3.5..4.5).contains(&two), "half the step, 1/{two} of the solver's error");
        }
    }
}

#[test]
fn three_gaussians_are_led_where_an_f64_loop_leads_them() {
    let recorded = read("mixture_three");
    let model = Mixture {
        weights: recorded["weights"].values.clone(),
        means: rows(&recorded["means"]),
        sigmas: recorded["sigmas"].values.clone(),
        prompts: rows(&recorded["prompts"]),
    }
    .model();
    let finals = read("mixture_solver");
    for steps in [2, 5, 20, 50] {
        for start in 0..4 {
            let noise = latent(&recorded["noise"].row(start));
            let options = |guidance| BlendOptions {
                size: Some([2, 2]),
                steps: Some(steps),
                branching: Some(Branching { injections: vec![0], branches: vec![2] }),
                guidance,
                sampler: Sampler::DpmSolver2M,
                ..BlendOptions::default()
            };
            for (what, prompt, guidance) in [("final", "", 1.0), ("guided4", "0", 4.0)] {
                let keyframe = [Keyframe::new(prompt, 0).start(noise.clone())];
                let session = Session::new(&model, &keyframe, &options(guidance)).unwrap();
                let got = session.latents(&[0.0], &Call::new()).unwrap().remove(0);
                let wanted = finals[&format!("{what}.{steps}")].row(start);
                let error = relative_error(got.data(), &wanted.values);
                assert!(error <= 1e-5, "{what}, {steps} steps, start {start}: {error:e}");
            }
        }
    }
}
