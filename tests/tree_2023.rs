//! `compat 2023`: the numbers of the original's version of February 2023, and with the same weights and
//! noise its leaves.

mod common;

use common::golden::{json, read, relative_error};
use common::{latent, stable_diffusion_2, tiny};
use latentblend::{
    BlendOptions, Branching, Call, Crossfeed, ErrorKind, GuidanceDamping, Keyframe, Look, Model,
    Plan, Sampler, Schedule, SchedulePolicy, Session, Spacing, StemLimit,
};
use serde_json::Value;
use std::sync::Arc;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn list<T>(value: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn stems_equal_those_of_2023() {
    let (mut equal, mut refused) = (0, 0);
    for case in list(&json("numbers_2023")["stems"], Value::clone) {
        let limit = match case.get("count") {
            Some(frames) => StemLimit::Frames(count(frames)),
            None => StemLimit::Seconds {
                budget: number(&case["budget"]),
                per_step: number(&case["per_step"]),
            },
        };
        let got = Branching::stems(count(&case["steps"]), number(&case["depth"]), limit);
        let Some(injections) = case.get("injections") else {
            assert!(got.unwrap_err().message().contains("2023 fails"), "{case}");
            refused += 1;
            continue;
        };
        // Where it puts several in at one step by turns, here they stand together.
        let mut wanted: Vec<(usize, usize)> = Vec::new();
        for (step, stems) in list(injections, count).into_iter().zip(list(&case["stems"], count)) {
            match wanted.last_mut() {
                Some(last) if last.0 == step => last.1 += stems,
                _ => wanted.push((step, stems)),
            }
        }
        let got = got.unwrap();
        let got: Vec<_> = got.injections.into_iter().zip(got.branches).collect();
        assert_eq!(got, wanted, "{case}");
        equal += 1;
    }
    assert!(equal > 500 && refused > 100, "{equal} and {refused} cases");
}

#[test]
fn coefficients_equal_those_of_2023_where_they_count() {
    for case in list(&json("numbers_2023")["coefficients"], Value::clone) {
        let feed = list(&case["feed"], number);
        let start = case["start"].as_u64().map_or(0, |start| start as usize);
        let steps = count(&case["steps"]);
        let got = Crossfeed::new(feed[0], feed[1], feed[2]).coefficients(steps, start);
        let wanted = list(&case["values"], number);
        assert_eq!(got.len(), wanted.len());
        assert!(got[..=start].iter().all(|&c| c == 0.0), "drawn before its second step");
        for (got, wanted) in got[start + 1..].iter().zip(&wanted[start + 1..]) {
            assert!((got - wanted).abs() < 1e-15, "{case}: {got} instead of {wanted}");
        }
    }
}

#[test]
fn guidance_and_schedule_equal_those_of_2023() {
    let numbers = json("numbers_2023");
    for case in list(&numbers["guidance"], |case| list(case, number)) {
        let got = GuidanceDamping::Compat2023.at(case[0], case[1], case[2]);
        assert!((got - case[3]).abs() < 1e-12, "{case:?}: {got}");
    }
    let config = stable_diffusion_2(Spacing::Leading);
    for (asked, real) in numbers["schedule"].as_object().unwrap() {
        let asked: usize = asked.parse().unwrap();
        match Schedule::new(&config, asked, SchedulePolicy::Compat2023) {
            Ok(schedule) => assert_eq!((schedule.steps.len(), count(real)), (asked, asked)),
            Err(error) => {
                assert!(error.message().contains("2023") && asked != count(real), "{error}");
            }
        }
    }
}

#[test]
fn plans_equal_those_of_2023() {
    for case in list(&json("numbers_2023")["plans"], Value::clone) {
        let (steps, depth) = (count(&case["steps"]), number(&case["depth"]));
        let stems = StemLimit::Frames(count(&case["count"]));
        let plan = Plan::nested(steps, &Branching::stems(steps, depth, stems).unwrap()).unwrap();
        let (fractions, starts) = (list(&case["fractions"], number), list(&case["starts"], count));
        assert_eq!(plan.leaves(), fractions, "{steps} {depth}");
        for level in plan.levels() {
            let wanted = fractions.iter().zip(&starts).filter(|(_, s)| **s == level.steps.start);
            assert_eq!(level.fractions, wanted.map(|(f, _)| *f).collect::<Vec<_>>());
        }
        let cost: usize = starts.iter().map(|start| steps - start).sum();
        assert_eq!((plan.branch_steps(), plan.last().steps.end), (cost, steps));
    }
}

/// The recorded conditioning in the place of prompts.
fn scripted(name: &str) -> (Model, [Keyframe; 2]) {
    let recorded = read(&format!("tree_2023_{name}"));
    let real = tiny(name);
    let context = |key: &str| latentblend::Context::new(77, recorded[key].f32()).unwrap();
    let engine = common::scripted::Scripted {
        inner: real.engine().clone(),
        contexts: ["first", "second", "unconditional"].map(context).to_vec(),
    };
    let model = Model::from_engine(Arc::new(engine), real.info().clone()).unwrap();
    let start = |index: usize| latent(&recorded[&format!("noise.{index}")].row(0));
    let keyframes = [("first", 0), ("second", 1)];
    let keyframe = |(p, i)| Keyframe::new(p, 0).negative("unconditional").start(start(i));
    (model, keyframes.map(keyframe))
}

fn case(steps: usize, depth: f64, leaves: usize) -> BlendOptions {
    let branching = Branching::stems(steps, depth, StemLimit::Frames(leaves)).unwrap();
    BlendOptions {
        size: Some([128, 128]),
        steps: Some(steps),
        branching: Some(branching),
        look: Look::Compat2023,
        ..BlendOptions::default()
    }
}

fn check_networks(name: &str) {
    let recorded = read(&format!("tree_2023_{name}"));
    let (model, keyframes) = scripted(name);
    let strong = [Crossfeed::new(0.5, 0.9, 0.5), Crossfeed::new(0.4, 1.0, 0.6)].map(Some);
    for (label, options, [branch1_crossfeed, parental_crossfeed]) in [
        ("default", case(20, 0.65, 9), [None; 2]),
        ("deep", case(12, 0.3, 7), [None; 2]),
        ("strong", case(12, 0.25, 9), strong),
        ("plain", case(15, 0.4, 6), [Some(Crossfeed::OFF); 2]),
    ] {
        let options = BlendOptions { branch1_crossfeed, parental_crossfeed, ..options };
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let wanted = &recorded[&format!("{label}.leaves")];
        assert_eq!(session.leaves(), recorded[&format!("{label}.fractions")].values, "{label}");
        let leaves = session.latents(&session.leaves(), &Call::new()).unwrap();
        let mut worst = 0f64;
        for (index, leaf) in leaves.iter().enumerate() {
            let error = relative_error(leaf.data(), &wanted.row(index).values);
            assert!(error <= 1e-4, "{name} {label}, leaf {index}: {error:e}");
            worst = worst.max(error);
        }
        println!("{name} {label}: {} leaves, relative error {worst:.1e}", leaves.len());
        // Each alone, backwards, prepared, and (one of them) without a cache: the same to the bit.
        let bare = BlendOptions { cache_bytes: 0, ..options.clone() };
        let bare = Session::new(&model, &keyframes, &bare).unwrap();
        let prepared = Session::new(&model, &keyframes, &options).unwrap();
        prepared.prepare(&Call::new()).unwrap();
        for (t, leaf) in session.leaves().iter().zip(&leaves).rev() {
            let last = session.plan().last().steps.len();
            assert!(prepared.evaluations(&[*t]).unwrap() <= last, "{label} at {t}");
            assert_eq!(&prepared.latents(&[*t], &Call::new()).unwrap()[0], leaf, "{label} at {t}");
        }
        let near_the_end = session.leaves().len() - 2;
        let t = session.leaves()[near_the_end];
        assert_eq!(bare.latents(&[t], &Call::new()).unwrap()[0], leaves[near_the_end], "{label}");
    }
}

#[test]
fn leaves_equal_those_of_2023_with_epsilon_prediction() {
    check_networks("base");
}

#[test]
fn leaves_equal_those_of_2023_with_velocity_prediction() {
    check_networks("v");
}

#[test]
fn a_preset_is_a_number_of_pictures() {
    let (model, keyframes) = scripted("base");
    let options = BlendOptions { look: Look::Compat2023, ..BlendOptions::default() };
    let session =
        Session::new(&model, &keyframes, &BlendOptions { size: Some([128, 128]), ..options });
    let session = session.unwrap();
    // Medium: 30 steps, 45 pictures for 360 frames.
    assert_eq!((session.schedule().steps.len(), session.leaves().len()), (30, 45));
}

#[test]
fn what_2023_fails_with_is_refused() {
    let (model, keyframes) = scripted("base");
    let message = |change: &dyn Fn(&mut BlendOptions)| {
        let mut options = case(20, 0.65, 9);
        change(&mut options);
        let error = Session::new(&model, &keyframes, &options).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    };
    assert_eq!(
        message(&|o| o.steps = Some(60)),
        "60 steps: the original of 2023 makes a schedule of 63 and fails"
    );
    assert_eq!(
        message(&|o| o.sampler = Sampler::DpmSolver2M),
        "sampler dpm++2m: compat 2023 has ddim"
    );
    assert!(
        message(&|o| (o.branching, o.depth) = (None, 0.0)).starts_with("depth 0 puts the first"),
    );
    let stems = |injections: &[usize], branches: &[usize]| {
        let branching = Branching { injections: injections.into(), branches: branches.into() };
        message(&|o| o.branching = Some(branching.clone()))
    };
    assert_eq!(stems(&[0, 8], &[1, 1]), "an injection at step 0 of 20");
    assert_eq!(stems(&[8, 8], &[1, 1]), "injections at steps 8 and 8: wanted rising steps");
    assert_eq!(stems(&[8], &[0]), "branches [0]: wanted 1 and more each, 100000 in all");
    assert_eq!(stems(&[20], &[1]), "an injection at step 20 of 20");
}
