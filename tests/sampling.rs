//! Sampling equals diffusers' own.

mod common;

use common::golden::{Recorded, read, relative_error};
use common::{latent, stable_diffusion_2, tiny};
use latentblend::{
    Batch, Branch, Context, DiffusionConfig, ErrorKind, Latent, Model, PredictionType, Sampler,
    Schedule, SchedulePolicy, Spacing, ddim, dpm_solver_2m,
};
use std::collections::HashMap;
use std::sync::Arc;

fn check_schedules(file: &str, sampler: Sampler) -> usize {
    let recorded = read(file);
    let mut cases = 0;
    for (name, spacing) in [
        ("leading", Spacing::Leading),
        ("trailing", Spacing::Trailing),
        ("linspace", Spacing::Linspace),
    ] {
        let config = stable_diffusion_2(spacing);
        for (key, timesteps) in &recorded {
            let Some(count) = key
                .strip_prefix(name)
                .and_then(|k| k.strip_prefix('.')?.strip_suffix(".timesteps"))
            else {
                continue;
            };
            let (number, policy) = (count.parse().unwrap(), SchedulePolicy::Model);
            let steps = Schedule::with_sampler(&config, number, policy, sampler).unwrap().steps;
            let got: Vec<f64> = steps.iter().map(|s| s.timestep as f64).collect();
            assert_eq!(got, timesteps.values, "{key}");
            for (what, got) in [
                ("a_t", steps.iter().map(|s| s.alpha as f32).collect::<Vec<f32>>()),
                ("a_prev", steps.iter().map(|s| s.alpha_next as f32).collect()),
            ] {
                let wanted = &recorded[&format!("{name}.{count}.{what}")].values;
                for (got, wanted) in got.iter().zip(wanted) {
                    // diffusers multiplies the thousand factors in f32.
                    let error = (f64::from(*got) - wanted).abs() / wanted;
                    assert!(error < 2e-6, "{key} {what}: {error:e}");
                }
            }
            cases += 1;
        }
    }
    cases
}

#[test]
fn schedules_equal_diffusers() {
    assert!(check_schedules("schedules", Sampler::Ddim) >= 60);
    assert!(check_schedules("solver_schedules", Sampler::DpmSolver2M) >= 60);
}

#[test]
fn a_solver_run_has_its_steps_and_ends_without_noise() {
    for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
        let config = stable_diffusion_2(spacing);
        for count in 1..=999 {
            let policy = SchedulePolicy::Model;
            let schedule = Schedule::with_sampler(&config, count, policy, Sampler::DpmSolver2M);
            if (spacing, count) == (Spacing::Leading, 999) {
                let error = schedule.unwrap_err();
                let wanted = "999 steps with an offset of 1 reach timestep 1000 of 1000";
                assert_eq!(error.message(), wanted);
                continue;
            }
            let schedule = schedule.unwrap();
            let steps = &schedule.steps;
            assert_eq!((steps.len(), steps[count - 1].alpha_next), (count, 1.0));
            assert!(steps.windows(2).all(|pair| pair[0].alpha_next == pair[1].alpha), "{count}");
            for index in 0..count {
                let weights = schedule.weights(index, true);
                let all = [weights.latent, weights.prediction, weights.history];
                assert!(all.iter().all(|w| w.is_finite()), "{spacing:?} {count} {index}: {all:?}");
                let second = index > 0 && index + 1 < count;
                assert_eq!(weights.history != 0.0, second, "{count} {index}");
            }
        }
    }
}

#[test]
fn a_first_order_solver_step_is_ddims() {
    let config = stable_diffusion_2(Spacing::Leading);
    let schedule = Schedule::new(&config, 20, SchedulePolicy::Model).unwrap();
    for kind in [PredictionType::Epsilon, PredictionType::Velocity] {
        for step in &schedule.steps {
            let (one, other) = (dpm_solver_2m(step, None, kind), ddim(step, kind));
            assert!((one.latent - other.latent).abs() < 1e-12, "{one:?} {other:?}");
            assert!((one.prediction - other.prediction).abs() < 1e-12, "{one:?} {other:?}");
            assert_eq!((one.history, other.history), (0.0, 0.0));
        }
    }
}

#[test]
fn solver_steps_equal_diffusers() {
    for name in ["base", "v"] {
        let (model, recorded) = (tiny(name), read(&format!("solver_{name}")));
        let contexts = &recorded["context"];
        for count in [1, 2, 3, 10, 14, 15, 20, 50] {
            let branch = Branch {
                latent: latent(&recorded[&format!("n{count}.noise")].row(0)),
                positive: context(contexts, 1),
                negative: context(contexts, 0),
                guidance: recorded["guidance"].values[0],
                history: None,
                feed: None,
                extra: None,
            };
            let schedule = Schedule::with_sampler(
                &model.info().diffusion,
                count,
                SchedulePolicy::Model,
                Sampler::DpmSolver2M,
            );
            let schedule = Arc::new(schedule.unwrap());
            // In one run, all of it kept, and step by step from what was handed back: the same.
            let steps = 0..count;
            let batch = Batch {
                branches: vec![branch.clone()],
                schedule: Arc::clone(&schedule),
                steps,
                keep: 0,
                guidance: Arc::default(),
            };
            let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
            let trail = loop {
                if let Some(mut trails) = run.advance().unwrap() {
                    break trails.remove(0);
                }
            };
            assert_eq!(trail.count(), count);
            let got = trajectory(&model, branch, Schedule::clone(&schedule));
            for (step, latent) in got.iter().enumerate() {
                assert_eq!(&trail.after(step).unwrap().latent, latent, "step {step}");
            }
            if let Some(steps) = recorded.get(&format!("n{count}.steps")) {
                for (step, latent) in got.iter().enumerate() {
                    let error = relative_error(latent.data(), &steps.row(step).values);
                    assert!(error <= 1e-4, "{name}, step {step}: {error:e}");
                }
            }
            let wanted = &recorded[&format!("n{count}.final")].values;
            let error = relative_error(got.last().unwrap().data(), wanted);
            println!("{name}: {count} solver steps, relative error {error:.1e}");
            assert!(error <= 1e-4, "{name}, {count} steps: {error:e}");
        }
    }
}

#[test]
fn a_batch_that_cannot_be_is_refused() {
    let model = tiny("base");
    let context = Arc::new(Context::new(77, vec![0.0; 77 * 32]).unwrap());
    let branch = |history: bool| {
        let latent = Latent::new([4, 8, 8], vec![0.5; 256]).unwrap();
        Branch {
            history: history.then(|| latent.clone()),
            latent,
            positive: Arc::clone(&context),
            negative: Arc::clone(&context),
            guidance: 1.0,
            feed: None,
            extra: None,
        }
    };
    let schedule = Arc::new(model.schedule(3, SchedulePolicy::Model).unwrap());
    let message = |branches: Vec<Branch>, steps: std::ops::Range<usize>| {
        let (schedule, guidance) = (Arc::clone(&schedule), Arc::default());
        let batch = Batch { branches, schedule, steps, keep: 2, guidance };
        Arc::clone(model.engine()).denoise(batch).map(|_| ()).unwrap_err().message().to_owned()
    };
    assert_eq!(message(vec![branch(false)], 0..4), "steps 0..4 of a schedule of 3");
    assert_eq!(message(vec![branch(false)], 2..2), "steps 2..2 of a schedule of 3");
    assert_eq!(
        message(vec![branch(false), branch(true)], 0..3),
        "some branches of a batch lack their history"
    );
}

#[test]
fn a_run_has_exactly_the_steps_that_were_asked_for() {
    let config = stable_diffusion_2(Spacing::Leading);
    for count in 1..=999 {
        let steps = Schedule::new(&config, count, SchedulePolicy::Model).unwrap().steps;
        assert_eq!(steps.len(), count);
        assert!(steps.windows(2).all(|pair| pair[0].alpha_next == pair[1].alpha), "{count}");
    }
    for count in [0, 1000] {
        let error = Schedule::new(&config, count, SchedulePolicy::Model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.message(), format!("{count} steps: wanted 1 to 999"));
    }
}

/// All latents of one branch after each of its steps.
fn trajectory(model: &Model, mut branch: Branch, schedule: Schedule) -> Vec<Latent> {
    let schedule = Arc::new(schedule);
    (0..schedule.steps.len())
        .map(|step| {
            let batch = Batch {
                branches: vec![branch.clone()],
                schedule: Arc::clone(&schedule),
                steps: step..step + 1,
                keep: step,
                guidance: Arc::default(),
            };
            let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
            let state = run.advance().unwrap().unwrap().remove(0).last().clone();
            (branch.latent, branch.history) = (state.latent, state.history);
            branch.latent.clone()
        })
        .collect()
}

fn context(recorded: &Recorded, row: usize) -> Arc<Context> {
    Arc::new(Context::new(77, recorded.row(row).f32()).unwrap())
}

fn check(
    model: &Model,
    recorded: &HashMap<String, Recorded>,
    case: &str,
    branch: Branch,
    n: usize,
) {
    let schedule = model.schedule(n, SchedulePolicy::Model).unwrap();
    let got = trajectory(model, branch, schedule);
    let steps = &recorded[&format!("{case}.steps")];
    for (step, latent) in got.iter().enumerate() {
        let error = relative_error(latent.data(), &steps.row(step).values);
        assert!(error <= 1e-4, "{case}, step {step}: {error:e}");
    }
    let last = got.last().unwrap();
    let error = relative_error(last.data(), &recorded[&format!("{case}.final")].values);
    println!("{case}: {n} steps, relative error {error:.1e}");
    assert!(error <= 1e-4);
}

#[test]
fn twenty_guided_steps_equal_diffusers() {
    for name in ["base", "v"] {
        let (model, recorded) = (tiny(name), read(&format!("ddim_{name}")));
        let contexts = &recorded["context"];
        for case in ["g4", "g7.5", "odd"] {
            let noise = &recorded[&format!("{case}.noise")];
            let noise = if noise.shape.len() == 4 { noise.row(0) } else { noise.clone() };
            let branch = Branch {
                latent: latent(&noise),
                positive: context(contexts, 1),
                negative: context(contexts, 0),
                guidance: recorded[&format!("{case}.guidance")].values[0],
                history: None,
                feed: None,
                extra: None,
            };
            check(&model, &recorded, case, branch, 20);
        }
    }
}

#[test]
fn trailing_steps_without_guidance_equal_diffusers() {
    let recorded = read("ddim_trailing");
    let model = tiny("base");
    let config = DiffusionConfig { spacing: Spacing::Trailing, ..model.info().diffusion.clone() };
    for count in [4, 3, 1] {
        let noise = &recorded[&format!("n{count}.noise")];
        let noise = if noise.shape.len() == 4 { noise.row(0) } else { noise.clone() };
        let prompt = context(&recorded["context"], 0);
        let branch = Branch {
            latent: latent(&noise),
            positive: Arc::clone(&prompt),
            negative: prompt,
            guidance: 1.0,
            history: None,
            feed: None,
            extra: None,
        };
        let schedule = Schedule::new(&config, count, SchedulePolicy::Model).unwrap();
        let got = trajectory(&model, branch, schedule);
        let wanted = &recorded[&format!("n{count}.final")].values;
        let error = relative_error(got.last().unwrap().data(), wanted);
        println!("trailing, {count} steps: relative error {error:.1e}");
        assert!(error <= 1e-4);
    }
}

#[test]
fn inpainting_steps_equal_diffusers() {
    let (model, recorded) = (tiny("inpainting"), read("ddim_inpainting"));
    let squeeze = |name: &str| {
        let tensor = &recorded[name];
        if tensor.shape.len() == 4 { tensor.row(0) } else { tensor.clone() }
    };
    let (mask, masked) = (squeeze("mask_latent"), squeeze("masked_latents"));
    let [_, h, w]: [usize; 3] = masked.shape.as_slice().try_into().unwrap();
    let extra = [mask.f32(), masked.f32()].concat();
    let contexts = &recorded["context"];
    let branch = Branch {
        latent: latent(&squeeze("noise")),
        positive: context(contexts, 1),
        negative: context(contexts, 0),
        guidance: recorded["guidance"].values[0],
        history: None,
        feed: None,
        extra: Some(Arc::new(Latent::new([5, h, w], extra).unwrap())),
    };
    let schedule = model.schedule(10, SchedulePolicy::Model).unwrap();
    let got = trajectory(&model, branch, schedule);
    let error = relative_error(got.last().unwrap().data(), &recorded["final"].values);
    println!("inpainting, 10 steps: relative error {error:.1e}");
    assert!(error <= 1e-4);
}
