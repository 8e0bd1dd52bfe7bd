//! Sampling equals diffusers' own.

mod common;

use common::golden::{Recorded, read, relative_error};
use common::{latent, stable_diffusion_2, tiny};
use latentblend::{
    Batch, Branch, Context, DiffusionConfig, ErrorKind, Latent, Model, Schedule, SchedulePolicy,
    Spacing,
};
use std::collections::HashMap;
use std::sync::Arc;

#[test]
fn schedules_equal_diffusers() {
    let recorded = read("schedules");
    for (name, spacing) in [
        ("leading", Spacing::Leading),
        ("trailing", Spacing::Trailing),
        ("linspace", Spacing::Linspace),
    ] {
        let config = stable_diffusion_2(spacing);
        let mut cases = 0;
        for (key, timesteps) in &recorded {
            let Some(count) = key
                .strip_prefix(name)
                .and_then(|k| k.strip_prefix('.')?.strip_suffix(".timesteps"))
            else {
                continue;
            };
            let steps = Schedule::new(&config, count.parse().unwrap(), SchedulePolicy::Model)
                .unwrap()
                .steps;
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
        assert!(cases >= 20, "only {cases} {name} schedules were recorded");
    }
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
                guidance: Arc::default(),
            };
            let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
            branch.latent = run.advance().unwrap().unwrap().remove(0);
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
        extra: Some(Arc::new(Latent::new([5, h, w], extra).unwrap())),
    };
    let schedule = model.schedule(10, SchedulePolicy::Model).unwrap();
    let got = trajectory(&model, branch, schedule);
    let error = relative_error(got.last().unwrap().data(), &recorded["final"].values);
    println!("inpainting, 10 steps: relative error {error:.1e}");
    assert!(error <= 1e-4);
}
