//! The promises on frames: exact, pure, cancellable, in any order, from any thread.

mod common;

use common::watched::watched_model;
use common::{Reports, same, short, tiny};
use latentblend::{
    Batch, BlendOptions, Branch, Call, Cancel, ErrorKind, Frame, Keyframe, Latent, Model,
    NoiseKind, Preset, Sampler, Schedule, SchedulePolicy, Session, Stage, noise,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const TIMES: [f64; 7] = [0.0, 0.2, 0.375, 0.5, 0.61, 0.9, 1.0];

fn session(model: &Model, change: impl FnOnce(&mut BlendOptions)) -> Session {
    let (keyframes, mut options) = short();
    change(&mut options);
    Session::new(model, &keyframes, &options).unwrap()
}

fn reference(model: &Model) -> Vec<Frame> {
    let session = session(model, |_| {});
    TIMES.iter().map(|&t| session.render(t, &Call::new()).unwrap()).collect()
}

fn assert_same(got: &Frame, wanted: &Frame, what: &str) {
    assert!(same(got, wanted), "{what}: another frame");
}

#[test]
fn a_frame_is_the_same_in_any_order_and_after_prepare() {
    let model = tiny("base");
    let wanted = reference(&model);
    let backwards = session(&model, |_| {});
    for (t, wanted) in TIMES.iter().zip(&wanted).rev() {
        assert_same(&backwards.render(*t, &Call::new()).unwrap(), wanted, "backwards");
    }
    let prepared = session(&model, |_| {});
    prepared.prepare(&Call::new()).unwrap();
    for (t, wanted) in TIMES.iter().zip(&wanted) {
        assert_same(&prepared.render(*t, &Call::new()).unwrap(), wanted, "prepared");
        assert_same(&prepared.render(*t, &Call::new()).unwrap(), wanted, "again");
    }
    prepared.purge();
    assert_eq!(prepared.cached_bytes(), 0);
    assert_same(&prepared.render(0.61, &Call::new()).unwrap(), &wanted[4], "after purge");
}

#[test]
fn a_frame_is_the_same_alone_and_in_a_batch() {
    let model = tiny("base");
    let wanted = reference(&model);
    let together = session(&model, |_| {}).render_many(&TIMES, &Call::new()).unwrap();
    assert_eq!(together.len(), TIMES.len());
    for (got, wanted) in together.iter().zip(&wanted) {
        assert_same(got, wanted, "in a batch");
    }
    let twice = session(&model, |_| {}).render_many(&[0.5, 0.5], &Call::new()).unwrap();
    assert!(twice.iter().all(|frame| same(frame, &wanted[3])));
}

#[test]
fn a_frame_is_the_same_whatever_the_cache() {
    let model = tiny("base");
    let wanted = reference(&model);
    let latent_bytes = 4 * 6 * 8 * 4;
    for limit in [0, latent_bytes, 3 * latent_bytes, usize::MAX] {
        let session = session(&model, |options| options.cache_bytes = limit);
        session.prepare(&Call::new()).unwrap();
        for (t, wanted) in TIMES.iter().zip(&wanted) {
            assert_same(&session.render(*t, &Call::new()).unwrap(), wanted, "limited");
            assert!(session.cached_bytes() <= limit, "{} bytes", session.cached_bytes());
        }
    }
}

#[test]
fn a_frame_is_the_same_from_eight_threads() {
    let model = tiny("base");
    let wanted = reference(&model);
    for limit in [0, usize::MAX] {
        let shared = session(&model, |options| options.cache_bytes = limit);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (shared, wanted) = (&shared, &wanted);
                scope.spawn(move || {
                    for turn in 0..TIMES.len() {
                        let index = (turn * 3 + thread) % TIMES.len();
                        let frame = shared.render(TIMES[index], &Call::new()).unwrap();
                        assert_same(&frame, &wanted[index], "from a thread");
                    }
                });
            }
        });
    }
}

#[test]
fn a_frame_is_the_same_whatever_the_number_of_threads() {
    // The engine's own results, computed in pools of different sizes.
    let model = tiny("base");
    let session = session(&model, |options| options.size = Some([128, 128]));
    let latents = session.latents(&[0.3, 0.7], &Call::new()).unwrap();
    let (ids, _) = model.tokenize("a lighthouse").unwrap();
    let everything = || {
        let engine = model.engine();
        let context = Arc::new(engine.encode_prompts(&[&ids]).unwrap().remove(0));
        let frames = engine.decode(&latents).unwrap();
        let posterior = engine.encode(&frames[0]).unwrap();
        let branch = Branch {
            latent: latents[0].clone(),
            history: None,
            feed: None,
            positive: Arc::clone(&context),
            negative: context,
            guidance: 4.0,
            extra: None,
        };
        let schedule = Arc::new(model.schedule(3, SchedulePolicy::Model).unwrap());
        let guidance = Arc::default();
        let batch = Batch { branches: vec![branch; 2], schedule, steps: 0..3, keep: 2, guidance };
        let mut run = Arc::clone(engine).denoise(batch).unwrap();
        let denoised = loop {
            if let Some(trails) = run.advance().unwrap() {
                break trails;
            }
        };
        (frames, posterior, denoised)
    };
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(everything)
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        assert_eq!(with(threads), one, "{threads} threads");
    }
}

#[test]
fn a_keyframe_is_its_stand_alone_image() {
    for name in ["base", "v"] {
        let model = tiny(name);
        for sampler in Sampler::ALL {
            let (keyframes, options) = short();
            let options = BlendOptions { sampler, ..options };
            let transition = Session::new(&model, &keyframes, &options).unwrap();
            for (index, keyframe) in keyframes.iter().enumerate() {
                let frame = transition.render(index as f64, &Call::new()).unwrap();
                assert_same(&frame, &alone(&model, keyframe, &options), "a keyframe");
            }
        }
    }
}

/// The image of a prompt and a seed, by the engine alone, without a session.
fn alone(model: &Model, keyframe: &Keyframe, options: &BlendOptions) -> Frame {
    let diffusion = &model.info().diffusion;
    let (steps, policy) = (options.preset.steps(), SchedulePolicy::Model);
    let schedule = Schedule::with_sampler(diffusion, steps, policy, options.sampler).unwrap();
    let ids = [&keyframe.prompt, &keyframe.negative_prompt].map(|p| model.tokenize(p).unwrap().0);
    let contexts = model.engine().encode_prompts(&[&ids[0], &ids[1]]).unwrap();
    let [positive, negative]: [_; 2] = contexts.try_into().unwrap();
    let [width, height] = options.size.unwrap();
    let branch = Branch {
        latent: noise(NoiseKind::Cuda, keyframe.seed, [4, height / 8, width / 8]).unwrap(),
        history: None,
        feed: None,
        positive: Arc::new(positive),
        negative: Arc::new(negative),
        guidance: options.guidance,
        extra: None,
    };
    let steps = 0..schedule.steps.len();
    let keep = steps.end - 1;
    let batch = Batch {
        branches: vec![branch],
        schedule: Arc::new(schedule),
        steps,
        keep,
        guidance: Arc::default(),
    };
    let mut run = Arc::clone(model.engine()).denoise(batch).unwrap();
    let trails = loop {
        if let Some(trails) = run.advance().unwrap() {
            break trails;
        }
    };
    model.engine().decode(&[trails[0].last().latent.clone()]).unwrap().remove(0)
}

#[test]
fn segments_share_their_keyframe() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let [first, second] = keyframes;
    let third = Keyframe::new("dunes", 7);
    let chain = [first.clone(), second.clone(), third.clone()];
    let chain = Session::new(&model, &chain, &options).unwrap();
    let left = Session::new(&model, &[first, second.clone()], &options).unwrap();
    let right = Session::new(&model, &[second, third], &options).unwrap();
    for (t, session, at) in [
        (0.3, &left, 0.3),
        (1.0, &left, 1.0),
        (1.0, &right, 0.0),
        (1.8, &right, 0.8),
        (2.0, &right, 1.0),
    ] {
        // Rounded to the grid of t, 1.8 and 0.8 are the same place.
        let frame = chain.render(t, &Call::new()).unwrap();
        assert_same(&frame, &session.render(at, &Call::new()).unwrap(), "a shared keyframe");
    }
    // A leaf per place: the keyframe in the middle is not doubled.
    assert_eq!(chain.leaves().len(), 2 * left.leaves().len() - 1);
}

#[test]
fn a_prepared_frame_costs_the_last_block_only() {
    let model = tiny("base");
    let session = session(&model, |options| options.preset = Preset::Medium);
    session.prepare(&Call::new()).unwrap();
    assert_eq!(session.plan().last().steps, 27..30);
    assert_eq!(session.evaluations(&[0.123]).unwrap(), 3);
    // Only what frames start from is kept: the last level's parents.
    let level = &session.plan().levels()[session.plan().levels().len() - 2];
    assert_eq!(session.cached_bytes(), level.fractions.len() * 4 * 6 * 8 * 4);
    let before = session.render(0.123, &Call::new()).unwrap();
    assert_eq!(session.evaluations(&[0.123]).unwrap(), 0);
    assert_same(&session.render(0.123, &Call::new()).unwrap(), &before, "from the cache");
}

#[test]
fn progress_never_falls_and_ends_at_one() {
    let model = tiny("base");
    let session = session(&model, |_| {});
    let check = |reports: &Reports, last: Stage| {
        let reports = reports.0.lock().unwrap();
        assert!(reports.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction), "{reports:?}");
        assert!(reports.iter().all(|r| r.done <= r.total && (0.0..=1.0).contains(&r.fraction)));
        assert_eq!(reports.last().unwrap().stage, last, "{reports:?}");
        assert_eq!(reports.last().unwrap().fraction, 1.0, "{reports:?}");
    };
    let reports = Reports::default();
    session.prepare(&reports.call()).unwrap();
    check(&reports, Stage::Denoise);
    let reports = Reports::default();
    session.render_many(&[0.1, 0.2, 0.3], &reports.call()).unwrap();
    check(&reports, Stage::Decode);
    let reports = Reports::default();
    Model::load(common::golden::path("tiny/base"), &reports.call()).unwrap();
    check(&reports, Stage::Load);
}

#[test]
fn cancel_takes_effect_at_every_stage_and_leaves_the_session_usable() {
    let model = tiny("base");
    let wanted = reference(&model);
    // How many reports a whole call makes says where it can be cut.
    let reports = Reports::default();
    session(&model, |_| {}).render(0.61, &reports.call()).unwrap();
    let stages: Vec<Stage> = reports.0.lock().unwrap().iter().map(|r| r.stage).collect();
    for stage in [Stage::Text, Stage::Denoise, Stage::Decode] {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    for stop in 0..stages.len() {
        let session = session(&model, |_| {});
        let (seen, broke) = (AtomicUsize::new(0), AtomicBool::new(false));
        let call = Call::new().on_progress(|_| {
            if seen.fetch_add(1, Ordering::Relaxed) < stop {
                return ControlFlow::Continue(());
            }
            broke.store(true, Ordering::Relaxed);
            ControlFlow::Break(())
        });
        let result = session.render(0.61, &call);
        drop(call);
        match result {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            // How often a callback is told depends on the machine; what it said must not be lost.
            Ok(frame) => {
                assert!(!broke.load(Ordering::Relaxed), "a cancel was ignored");
                assert_same(&frame, &wanted[4], "not cancelled");
            }
        }
        assert_same(&session.render(0.61, &Call::new()).unwrap(), &wanted[4], "after a cancel");
    }
}

#[test]
fn cancel_waits_for_one_turn_of_the_device_at_most() {
    for stop in [1, 3, 9, 14, 17] {
        let (model, log) = watched_model();
        let session = session(&model, |_| {});
        let token = Cancel::new();
        let at = Arc::new(AtomicUsize::new(usize::MAX));
        log.on_turn({
            let (token, at) = (token.clone(), Arc::clone(&at));
            move |turns| {
                if turns == stop {
                    at.store(turns, Ordering::SeqCst);
                    token.request();
                }
            }
        });
        let error = session.render(0.61, &Call::new().cancel(&token)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        // What comes next takes the turn behind whatever was running.
        session.render(0.0, &Call::new().cancel(&token)).unwrap_err();
        assert_eq!(at.load(Ordering::SeqCst), stop);
        assert_eq!(log.turns(), stop, "turns were taken after the cancel");
    }
}

#[test]
fn cancel_before_the_start_does_nothing() {
    let model = tiny("base");
    let session = session(&model, |_| {});
    let token = Cancel::new();
    token.request();
    let call = Call::new().cancel(&token);
    assert_eq!(session.render(0.5, &call).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(session.prepare(&call).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(session.cached_bytes(), 0);
    let load = Model::load(common::golden::path("tiny/base"), &call);
    assert_eq!(load.map(|_| ()).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_cancelled_prepare_goes_on_where_it_was() {
    let model = tiny("base");
    let slow = |options: &mut BlendOptions| options.preset = Preset::Medium;
    let whole = session(&model, slow);
    let all = Reports::default();
    whole.prepare(&all.call()).unwrap();
    let wanted = whole.render(0.4, &Call::new()).unwrap();
    let cut = session(&model, slow);
    let call = Call::new().on_progress(|progress| {
        if progress.fraction > 0.6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(cut.prepare(&call).unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(cut.cached_bytes() > 0, "nothing of the work was kept");
    cut.prepare(&Call::new()).unwrap();
    assert_same(&cut.render(0.4, &Call::new()).unwrap(), &wanted, "after a cut prepare");
}

#[test]
fn a_render_overtakes_a_prepare() {
    let (model, log) = watched_model();
    let long = session(&model, |options| {
        options.preset = Preset::Ultra;
        options.size = Some([128, 128]);
    });
    let other = session(&model, |_| {});
    std::thread::scope(|scope| {
        let prepare = scope.spawn(|| long.prepare(&Call::new()));
        while log.turns() < 3 {
            std::thread::yield_now();
        }
        let before = log.turns();
        let frame = other.render(0.5, &Call::new()).unwrap();
        let turns = log.entries().split_off(before);
        // Evaluations of the other run, whose schedule is longer.
        let patient = turns.iter().filter(|(steps, _)| *steps == 100).count();
        assert!(patient <= 1, "a frame waited for {patient} turns of a prepare: {turns:?}");
        assert!(!prepare.is_finished(), "the prepare was through before");
        assert_same(&other.render(0.5, &Call::new()).unwrap(), &frame, "again");
        // A frame of the very session that is being prepared.
        let frame = long.render(0.5, &Call::new()).unwrap();
        assert!(!prepare.is_finished(), "the frame waited for the prepare");
        assert_same(&long.render(0.5, &Call::new()).unwrap(), &frame, "again");
        prepare.join().unwrap().unwrap();
    });
}

#[test]
fn a_branch_is_made_once_however_many_ask_for_it() {
    let (model, log) = watched_model();
    let shared = session(&model, |_| {});
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| shared.render(0.61, &Call::new()).unwrap());
        }
    });
    // The keyframes' block, and the frame's own.
    let evaluations = 8 + 4;
    let denoised = log.entries().iter().filter(|(steps, _)| *steps > 0).count();
    assert_eq!(denoised, evaluations);
}

#[test]
fn bad_options_are_refused_with_the_value_and_what_was_wanted() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let message = |change: &dyn Fn(&mut BlendOptions)| {
        let mut options = options.clone();
        change(&mut options);
        let error = Session::new(&model, &keyframes, &options).map(|_| ()).unwrap_err();
        (error.kind(), error.message().to_owned())
    };
    let invalid = |text: &str| (ErrorKind::InvalidArgument, text.to_owned());
    assert_eq!(message(&|o| o.size = Some([500, 64])), invalid("width 500 is not a multiple of 8"));
    assert_eq!(message(&|o| o.size = Some([64, 0])), invalid("height 0 is not a multiple of 8"));
    assert_eq!(message(&|o| o.size = Some([1 << 40, 64])).0, ErrorKind::OutOfMemory);
    assert_eq!(message(&|o| o.steps = Some(1000)), invalid("1000 steps: wanted 1 to 999"));
    assert_eq!(message(&|o| o.depth = 1.0), invalid("depth 1: wanted 0 to below 1"));
    assert_eq!(message(&|o| o.depth = f64::NAN), invalid("depth NaN: wanted 0 to below 1"));
    assert_eq!(message(&|o| o.guidance = -1.0), invalid("guidance scale -1: wanted 0 to 100"));
    assert_eq!(message(&|o| o.guidance = f64::INFINITY).0, ErrorKind::InvalidArgument);
    assert_eq!(message(&|o| o.guidance_mid_damper = 0.0).0, ErrorKind::InvalidArgument);
    assert_eq!(
        message(&|o| o.guidance_mid_damper = -0.5),
        invalid("guidance mid damper -0.5: wanted above 0 to 1")
    );
    assert_eq!(
        message(&|o| o.frames = 1 << 40),
        invalid("1099511627776 frames: wanted up to 200000")
    );
    let huge = message(&|o| o.size = Some([16384, 16384]));
    assert_eq!(huge.0, ErrorKind::OutOfMemory);
    assert!(huge.1.contains("MiB"), "{}", huge.1);
    let bad = Latent::new([4, 6, 8], vec![f32::NAN; 192]).unwrap();
    let bad = [keyframes[0].clone().start(bad), keyframes[1].clone()];
    let error = Session::new(&model, &bad, &options).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "a start latent holds values that are not finite");
    let none = Session::new(&model, &[], &options).map(|_| ()).unwrap_err();
    assert_eq!(none.message(), "0 keyframes: wanted 1 to 10000");
    let session = Session::new(&model, &keyframes, &options).unwrap();
    for t in [-0.001, 1.001, f64::NAN, f64::INFINITY] {
        let error = session.render(t, &Call::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.message(), format!("t {t}: wanted 0 to 1"));
    }
}

#[test]
fn few_steps_and_small_pictures_work() {
    let model = tiny("base");
    for steps in 1..=12 {
        let session = session(&model, |options| {
            options.steps = Some(steps);
            options.size = Some([8, 8]);
        });
        session.prepare(&Call::new()).unwrap();
        let frame = session.render(0.3, &Call::new()).unwrap();
        assert_eq!((frame.width(), frame.height()), (8, 8));
        // From two steps on there is a tree, and its last block is shorter than the run.
        assert_eq!(session.plan().levels().len() > 1, steps > 1, "{steps} steps");
    }
    for depth in [0.0, 0.96, 0.999] {
        let session = session(&model, |options| options.depth = depth);
        session.render(0.5, &Call::new()).unwrap();
    }
}

#[test]
fn an_inpainting_model_paints_everything_when_there_is_no_mask() {
    let model = tiny("inpainting");
    let (keyframes, options) = short();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let frame = session.render(0.5, &Call::new()).unwrap();
    assert_eq!((frame.width(), frame.height()), (64, 48));
    assert!(frame.rgb().iter().all(|v| v.is_finite()));
}
