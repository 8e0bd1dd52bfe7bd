//! Guidance over time: equal to diffusers', and steps without it cost half.

mod common;

use common::golden::{read, relative_error};
use common::{latent, same, short, tiny};
use latentblend::{
    Batch, BlendOptions, Branch, Call, Context, Curve, GuidanceSteps, Interpolation, Keyframe,
    Latent, Model, Sampler, Schedule, SchedulePolicy, Session,
};
use std::sync::Arc;

const STEPS: usize = 20;

fn curve(points: &[[f64; 2]]) -> Curve {
    Curve::new(points, Interpolation::Linear).unwrap()
}

/// The latent at the end of a run.
fn run(model: &Model, branch: &Branch, guidance: GuidanceSteps, sampler: Sampler) -> Latent {
    let (config, policy) = (&model.info().diffusion, SchedulePolicy::Model);
    let schedule = Arc::new(Schedule::with_sampler(config, STEPS, policy, sampler).unwrap());
    let batch = Batch {
        branches: vec![branch.clone()],
        schedule,
        steps: 0..STEPS,
        keep: STEPS - 1,
        guidance: Arc::new(guidance),
    };
    let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
    loop {
        if let Some(trails) = run.advance().unwrap() {
            return trails[0].last().latent.clone();
        }
    }
}

#[test]
fn guidance_over_steps_and_rescaled_guidance_equal_diffusers() {
    let recorded = read("guidance");
    let context = |row| Arc::new(Context::new(77, recorded["context"].row(row).f32()).unwrap());
    let branch = Branch {
        latent: latent(&recorded["noise"].row(0)),
        positive: context(1),
        negative: context(0),
        guidance: 7.5,
        history: None,
        feed: None,
        extra: None,
    };
    let falling: Vec<f64> = (0..STEPS).map(|k| 1.0 - 0.75 * k as f64 / 19.0).collect();
    let until = |factors: &[f64]| -> Vec<f64> {
        factors.iter().enumerate().map(|(k, f)| if k < 12 { *f } else { 0.0 }).collect()
    };
    for kind in ["base", "v"] {
        let model = tiny(kind);
        for (case, factors, rescale, sampler) in [
            ("rescaled", Vec::new(), 0.7, Sampler::Ddim),
            ("falling", falling.clone(), 0.0, Sampler::Ddim),
            ("off", until(&[1.0; STEPS]), 0.0, Sampler::Ddim),
            ("all", until(&falling), 0.7, Sampler::Ddim),
            ("solver", Vec::new(), 0.7, Sampler::DpmSolver2M),
        ] {
            let got = run(&model, &branch, GuidanceSteps { factors, rescale }, sampler);
            let wanted = &recorded[&format!("{kind}.{case}")].row(0).values;
            let error = relative_error(got.data(), wanted);
            println!("{kind} {case}: relative error {error:.1e}");
            assert!(error <= 1e-4, "{kind} {case}: {error:e}");
        }
    }
}

#[test]
fn options_become_the_course_of_a_run() {
    // A session's keyframe is the run with the same course, bit for bit.
    let model = tiny("v");
    let (keyframes, options) = short();
    let options = BlendOptions {
        steps: Some(STEPS),
        guidance_over_steps: Some(curve(&[[0.0, 1.0], [1.0, 0.25]])),
        guided_steps: Some(12),
        guidance_rescale: 0.7,
        ..options
    };
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let got = session.latents(&[0.0], &Call::new()).unwrap().remove(0);
    let ids = [&keyframes[0].prompt, &keyframes[0].negative_prompt];
    let ids = ids.map(|prompt| model.tokenize(prompt).unwrap().0);
    let contexts = model.engine().encode_prompts(&[&ids[0], &ids[1]]).unwrap();
    let [positive, negative]: [_; 2] = contexts.try_into().unwrap();
    let noise = latentblend::noise(options.noise, keyframes[0].seed, [4, 6, 8]).unwrap();
    let branch = Branch {
        history: None,
        feed: None,
        latent: noise,
        positive: Arc::new(positive),
        negative: Arc::new(negative),
        guidance: options.guidance,
        extra: None,
    };
    let factor = |k: usize| if k < 12 { 1.0 + (0.25 - 1.0) * (k as f64 / 19.0) } else { 0.0 };
    let factors = (0..STEPS).map(factor).collect();
    let guidance = GuidanceSteps { factors, rescale: 0.7 };
    assert_eq!(got, run(&model, &branch, guidance, Sampler::Ddim));
}

#[test]
fn the_unconditional_half_is_not_evaluated_where_guidance_is_off() {
    let (keyframes, options) = short();
    let samples = |change: &dyn Fn(&mut BlendOptions)| {
        let model = tiny("base");
        let mut options = BlendOptions { steps: Some(12), ..options.clone() };
        change(&mut options);
        let session = Session::new(&model, &keyframes, &options).unwrap();
        assert_eq!(model.engine().samples(), 0);
        session.latents(&[0.0], &Call::new()).unwrap();
        model.engine().samples()
    };
    assert_eq!(samples(&|_| {}), 2 * 12);
    assert_eq!(samples(&|o| o.guidance = 1.0), 12);
    assert_eq!(samples(&|o| o.guided_steps = Some(5)), 2 * 5 + 7);
    assert_eq!(samples(&|o| o.guided_steps = Some(0)), 12);
    assert_eq!(samples(&|o| o.guided_steps = Some(99)), 2 * 12);
    // A factor of zero is off, too, and rescaling changes nothing of that.
    let half = curve(&[[0.0, 1.0], [0.5, 1.0], [0.51, 0.0]]);
    let change = |o: &mut BlendOptions| {
        o.guidance_over_steps = Some(half.clone());
        o.guidance_rescale = 0.7;
    };
    assert_eq!(samples(&change), 2 * 6 + 6);
    // No guidance at all is that of a scale of 1, bit for bit.
    let model = tiny("base");
    let frame = |options: BlendOptions| {
        Session::new(&model, &keyframes, &options).unwrap().render(0.4, &Call::new()).unwrap()
    };
    let off = frame(BlendOptions { guided_steps: Some(0), ..options.clone() });
    assert!(same(&off, &frame(BlendOptions { guidance: 1.0, ..options.clone() })));
}

#[test]
fn guidance_over_t_takes_the_place_of_the_scale_and_its_damper() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let [first, second] = keyframes;
    let chain = [first, second, Keyframe::new("dunes", 7)];
    let frames = |options: &BlendOptions, times: &[f64]| {
        let session = Session::new(&model, &chain, options).unwrap();
        session.render_many(times, &Call::new()).unwrap()
    };
    let with = |points: &[[f64; 2]]| BlendOptions {
        guidance_over_t: Some(curve(points)),
        ..options.clone()
    };
    let flat = BlendOptions { guidance_mid_damper: 1.0, guidance: 5.0, ..options.clone() };
    let times = [0.0, 0.3, 1.0, 1.5, 2.0];
    let constant = frames(&with(&[[0.0, 5.0]]), &times);
    let wanted = frames(&flat, &times);
    assert!(constant.iter().zip(&wanted).all(|(a, b)| same(a, b)));
    // 3 at the first keyframe, 9 at the second, none at the third.
    let bent = frames(&with(&[[0.0, 3.0], [1.0, 9.0], [2.0, 0.5]]), &[0.0, 1.0, 2.0]);
    for (frame, (index, guidance)) in bent.iter().zip([(0.0, 3.0), (1.0, 9.0), (2.0, 1.0)]) {
        let alone = frames(&BlendOptions { guidance, ..flat.clone() }, &[index]).remove(0);
        assert!(same(frame, &alone), "at t {index}");
    }
}

#[test]
fn bad_guidance_is_refused_with_the_value_and_what_was_wanted() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let message = |change: &dyn Fn(&mut BlendOptions)| {
        let mut options = options.clone();
        change(&mut options);
        let error = Session::new(&model, &keyframes, &options).map(|_| ()).unwrap_err();
        error.message().to_owned()
    };
    assert_eq!(message(&|o| o.guidance_rescale = 1.5), "guidance rescale 1.5: wanted 0 to 1");
    assert_eq!(message(&|o| o.guidance_rescale = f64::NAN), "guidance rescale NaN: wanted 0 to 1");
    assert_eq!(
        message(&|o| o.guidance_over_steps = Some(curve(&[[0.0, -1.0]]))),
        "a guidance factor of -1: wanted 0 to 100"
    );
    assert_eq!(
        message(&|o| o.guidance_over_t = Some(curve(&[[0.0, 4.0], [1.0, 101.0]]))),
        "guidance scale 101: wanted 0 to 100"
    );
}
