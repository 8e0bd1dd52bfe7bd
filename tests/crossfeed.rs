//! The promises on frames hold for every sampler and with crossfeeds, whose branches depend on the whole
//! way of others.

mod common;

use common::watched::watched_model;
use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Branching, Call, Crossfeed, ErrorKind, Frame, Keyframe, Latent, LatentMix, Look,
    Model, Sampler, Session,
};

/// Labels and settings: both samplers, with and without crossfeeds of either kind, over two levels of
/// branches, beyond the last injection, and over a chain; latents mixed by bands.
fn settings() -> Vec<(String, BlendOptions)> {
    let (_, options) = short();
    let tree = Branching { injections: vec![0, 4, 8], branches: vec![2, 3, 5] };
    let [some, strong] = [Crossfeed::new(0.3, 0.7, 0.5), Crossfeed::new(0.6, 1.0, 0.8)].map(Some);
    let mut all = Vec::new();
    for sampler in Sampler::ALL {
        for (label, branch1_crossfeed, parental_crossfeed) in [
            ("plain", None, None),
            ("branch-1", some, None),
            ("parental", None, some),
            ("both", strong, strong),
        ] {
            all.push((
                format!("{} {label}", sampler.name()),
                BlendOptions {
                    sampler,
                    branch1_crossfeed,
                    parental_crossfeed,
                    branching: Some(tree.clone()),
                    ..options.clone()
                },
            ));
        }
    }
    for sampler in Sampler::ALL {
        all.push((
            format!("{} on the arc", sampler.name()),
            BlendOptions {
                sampler,
                latent_mix: Some(LatentMix::Arc),
                parental_crossfeed: some,
                branching: Some(tree.clone()),
                ..options.clone()
            },
        ));
    }
    let look = Look::Compat2023;
    all.push(("compat 2023".into(), BlendOptions { look, depth: 0.3, ..options }));
    all
}

/// Three keyframes, so that there is a segment whose first keyframe is drawn to another.
fn chain() -> Vec<Keyframe> {
    let (keyframes, _) = short();
    keyframes.into_iter().chain([Keyframe::new("dunes", 7)]).collect()
}

fn session(model: &Model, options: &BlendOptions) -> Session {
    Session::new(model, &chain(), options).unwrap()
}

const TIMES: [f64; 7] = [0.0, 0.3, 0.5, 1.0, 1.25, 1.7, 2.0];

fn largest(a: &Latent, b: &Latent) -> f64 {
    let pairs = a.data().iter().zip(b.data());
    pairs.fold(0.0, |most, (a, b)| most.max(f64::from((a - b).abs())))
}

#[test]
fn a_frame_is_the_same_in_any_order_batch_cache_and_thread() {
    let model = tiny("base");
    for (label, options) in settings() {
        let wanted: Vec<Frame> = {
            let session = session(&model, &options);
            TIMES.iter().map(|&t| session.render(t, &Call::new()).unwrap()).collect()
        };
        let check = |frames: &[Frame], how: &str| {
            for ((frame, wanted), t) in frames.iter().zip(&wanted).zip(TIMES) {
                assert!(same(frame, wanted), "{label}, {how}: another frame at {t}");
            }
        };
        let together = session(&model, &options).render_many(&TIMES, &Call::new()).unwrap();
        check(&together, "together");
        for limit in [0, 3000, usize::MAX] {
            let limited = BlendOptions { cache_bytes: limit, ..options.clone() };
            let session = session(&model, &limited);
            session.prepare(&Call::new()).unwrap();
            assert!(session.cached_bytes() <= limit, "{label}: {}", session.cached_bytes());
            let mut frames: Vec<Frame> =
                TIMES.iter().rev().map(|&t| session.render(t, &Call::new()).unwrap()).collect();
            frames.reverse();
            check(&frames, &format!("backwards with {limit} bytes"));
        }
        let shared = session(&model, &options);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (shared, wanted, label) = (&shared, &wanted, &label);
                scope.spawn(move || {
                    for turn in 0..TIMES.len() {
                        let index = (turn * 3 + thread) % TIMES.len();
                        let frame = shared.render(TIMES[index], &Call::new()).unwrap();
                        assert!(same(&frame, &wanted[index]), "{label}: from a thread");
                    }
                });
            }
        });
    }
}

#[test]
fn near_a_keyframe_and_a_branch_a_frame_is_nearly_theirs() {
    let model = tiny("v");
    const NEAR: f64 = 1e-6;
    for (label, options) in settings() {
        let session = session(&model, &options);
        let mut places: Vec<f64> = vec![0.0, 1.0, 2.0];
        // Branches of all levels but the last, where a frame's parents change.
        places.extend(session.plan().levels()[1].fractions.iter().filter(|f| **f > 0.0));
        for place in places {
            let times = [place - NEAR, place, place + NEAR];
            let times: Vec<f64> = times.into_iter().filter(|t| (0.0..=2.0).contains(t)).collect();
            let latents = session.latents(&times, &Call::new()).unwrap();
            let size = latents[0].data().iter().fold(0f32, |most, v| most.max(v.abs()));
            for pair in latents.windows(2) {
                let jump = largest(&pair[0], &pair[1]) / f64::from(size);
                assert!(jump < 5e-5, "{label}: at {place} a frame jumps by {jump:.1e}");
            }
        }
        // Not for want of a difference.
        let latents = session.latents(&[0.0, 0.05, 1.0], &Call::new()).unwrap();
        assert!(largest(&latents[0], &latents[1]) > 1e-3, "{label}");
    }
}

#[test]
fn the_first_keyframe_is_its_own_and_a_drawn_one_is_that_of_its_chain() {
    let model = tiny("base");
    let frame = |options: &BlendOptions, keyframes: &[Keyframe], t: f64| {
        Session::new(&model, keyframes, options).unwrap().render(t, &Call::new()).unwrap()
    };
    let (all, keyframes) = (settings(), chain());
    for (label, options) in &all {
        let bare = BlendOptions {
            branch1_crossfeed: Some(Crossfeed::OFF),
            parental_crossfeed: Some(Crossfeed::OFF),
            ..options.clone()
        };
        let alone = |index: usize| frame(&bare, &keyframes[index..=index], 0.0);
        assert!(same(&frame(options, &keyframes, 0.0), &alone(0)), "{label}");
        let drawn = label.contains("branch-1") || label.contains("both") || label.contains("2023");
        for index in [1, 2] {
            let in_chain = frame(options, &keyframes, index as f64);
            assert_eq!(same(&in_chain, &alone(index)), !drawn, "{label}, keyframe {index}");
            // Whatever comes after it.
            assert!(
                same(&in_chain, &frame(options, &keyframes[..=index], index as f64)),
                "{label}"
            );
        }
    }
}

#[test]
fn no_power_is_no_crossfeed() {
    let model = tiny("base");
    for (label, options) in settings().into_iter().filter(|(label, _)| label.ends_with("plain")) {
        let wanted = session(&model, &options).latents(&TIMES, &Call::new()).unwrap();
        for (power, range) in [(0.0, 1.0), (0.7, 0.0)] {
            let none = Some(Crossfeed::new(power, range, 0.9));
            let none = BlendOptions {
                branch1_crossfeed: none,
                parental_crossfeed: none,
                ..options.clone()
            };
            let without = session(&model, &none);
            assert_eq!(without.latents(&TIMES, &Call::new()).unwrap(), wanted, "{label}");
            let cost = |session: &Session| {
                session.purge();
                session.evaluations(&TIMES).unwrap()
            };
            assert_eq!(cost(&without), cost(&session(&model, &options)), "{label}");
        }
    }
}

#[test]
fn a_full_crossfeed_follows_its_parents() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let onto = Some(Crossfeed::new(1.0, 1.0, 1.0));
    // Drawn onto the first keyframe before its every step but one: the same noise, another prompt.
    let session = Session::new(
        &model,
        &keyframes,
        &BlendOptions { branch1_crossfeed: onto, ..options.clone() },
    );
    let plain = Session::new(&model, &keyframes, &options).unwrap();
    let far = |session: &Session| {
        let latents = session.latents(&[0.0, 1.0], &Call::new()).unwrap();
        largest(&latents[0], &latents[1])
    };
    assert!(far(&session.unwrap()) < far(&plain) / 2.0);
}

#[test]
fn evaluations_are_counted_as_they_are_made() {
    for (label, options) in settings() {
        let (model, log) = watched_model();
        let evaluations = || log.entries().iter().filter(|(steps, _)| *steps > 0).count();
        for times in [&[0.3][..], &[0.3, 1.7], &[2.0], &TIMES] {
            let session = session(&model, &options);
            for prepare in [false, true] {
                if prepare {
                    session.prepare(&Call::new()).unwrap();
                    session.purge();
                    session.prepare(&Call::new()).unwrap();
                }
                let (promised, before) = (session.evaluations(times).unwrap(), evaluations());
                session.latents(times, &Call::new()).unwrap();
                let made = evaluations() - before;
                assert_eq!(made, promised, "{label} at {times:?}, prepared: {prepare}");
                assert_eq!(session.evaluations(times).unwrap(), 0, "{label}");
                let last = session.plan().last().steps.len();
                let most = times.len().div_ceil(4) * last;
                assert!(!prepare || promised <= most, "{label}: {promised} for {times:?}");
                session.purge();
            }
        }
    }
}

#[test]
fn memory_for_histories_and_ways_is_counted() {
    let model = tiny("base");
    let latent = 4 * 6 * 8 * 4;
    let held = |label: &str| {
        let found = settings().into_iter().find(|(name, _)| name == label).unwrap();
        let session = Session::new(&model, &chain()[..2], &found.1).unwrap();
        session.prepare(&Call::new()).unwrap();
        session.cached_bytes()
    };
    // Three branches of the last level but one, each with what it remembers of the step before.
    assert_eq!(held("ddim plain"), 3 * latent);
    assert_eq!(held("dpm++2m plain"), 3 * 2 * latent);
    // They run on to where nobody is drawn to them any more: states 7 to 10 of 12.
    assert_eq!(held("ddim both"), 3 * 4 * latent);
    assert_eq!(held("dpm++2m both"), 3 * 4 * 2 * latent);
}

#[test]
fn a_long_chain_is_made_without_deep_calls() {
    let model = tiny("base");
    let keyframes: Vec<Keyframe> = (0..400).map(|seed| Keyframe::new("dunes", seed)).collect();
    let options = BlendOptions {
        size: Some([8, 8]),
        steps: Some(2),
        branch1_crossfeed: Some(Crossfeed::new(0.5, 1.0, 1.0)),
        branching: Some(Branching { injections: vec![0, 1], branches: vec![2, 3] }),
        cache_bytes: 0,
        ..BlendOptions::default()
    };
    // The first block has one step, before which nothing is drawn: no chain.
    let session = Session::new(&model, &keyframes, &options).unwrap();
    assert_eq!(session.evaluations(&[398.5]).unwrap(), 2);
    let branching = Branching { injections: vec![0, 2], branches: vec![2, 3] };
    let options = BlendOptions { steps: Some(3), branching: Some(branching), ..options };
    let session = Session::new(&model, &keyframes, &options).unwrap();
    assert_eq!(session.evaluations(&[398.5]).unwrap(), 400 * 2 + 1);
    session.render(398.5, &Call::new()).unwrap();
}

#[test]
fn few_steps_work_with_every_setting() {
    let model = tiny("base");
    for (label, options) in settings() {
        for steps in 1..=6 {
            let options = BlendOptions {
                steps: Some(steps),
                size: Some([8, 8]),
                branching: None,
                ..options.clone()
            };
            match Session::new(&model, &chain(), &options) {
                Ok(session) => {
                    let latents = session.latents(&[0.0, 0.4, 2.0], &Call::new()).unwrap();
                    assert!(latents.iter().all(|l| l.data().iter().all(|v| v.is_finite())));
                }
                Err(error) => assert!(label.contains("2023"), "{label}, {steps} steps: {error}"),
            }
        }
    }
}

#[test]
fn crossfeeds_out_of_range_are_refused_with_the_value() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let message = |change: &dyn Fn(&mut BlendOptions)| {
        let mut options = options.clone();
        change(&mut options);
        let error = Session::new(&model, &keyframes, &options).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.message().to_owned()
    };
    let feed = |power, range, decay| Some(Crossfeed::new(power, range, decay));
    assert_eq!(
        message(&|o| o.branch1_crossfeed = feed(1.5, 0.5, 0.5)),
        "branch-1 crossfeed power 1.5: wanted 0 to 1"
    );
    assert_eq!(
        message(&|o| o.parental_crossfeed = feed(0.5, -0.1, 0.5)),
        "parental crossfeed range -0.1: wanted 0 to 1"
    );
    assert_eq!(
        message(&|o| o.parental_crossfeed = feed(0.5, 0.1, f64::NAN)),
        "parental crossfeed decay NaN: wanted 0 to 1"
    );
    let flat = Branching { injections: vec![0], branches: vec![2] };
    assert_eq!(
        message(&|o| {
            o.branch1_crossfeed = feed(0.5, 0.5, 0.5);
            o.branching = Some(flat.clone());
        }),
        "a branch-1 crossfeed wants branches that leave the keyframes on their way, and there are none"
    );
    assert_eq!(
        message(&|o| (o.sampler, o.look) = (Sampler::DpmSolver2M, Look::Compat2022)),
        "sampler dpm++2m: compat 2022 has ddim"
    );
}
