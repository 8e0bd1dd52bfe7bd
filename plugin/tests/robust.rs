//! Hosts as they are: missing suites, NULL functions, refused properties, an instance for each frame, many threads,
//! aborts.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::effect::{Effect, Image, Shape};
use host::props::{Props, Value};
use host::quick::{CONTEXTS, GENERATOR, frame, pixels, render, shape, values};
use host::suites::OURS;
use host::{FAILED, Host, OK, Quirks};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn optional_suites_functions_and_properties_may_be_missing() {
    let whole = frame(0.5);
    let optional = vec![
        ("OfxMessageSuite", 1),
        ("OfxMessageSuite", 2),
        ("OfxProgressSuite", 1),
        ("OfxProgressSuite", 2),
        ("OfxTimeLineSuite", 1),
    ];
    let refused = vec![
        "OfxPropPlugin",
        "OfxPropVersion",
        "OfxImageEffectPropCuda",
        "OfxImageEffectPropOpen",
        "OfxImageEffectPropMetal",
        "OfxImageEffectPropCPU",
        "OfxImageEffectPropColour",
        "OfxParamPropCache",
        "OfxParamPropPluginMayWrite",
        "OfxParamPropSecret",
        "OfxParamPropEnabled",
        "OfxPropLongLabel",
    ];
    for quirks in [
        Quirks { missing: optional.clone(), ..Quirks::default() },
        Quirks {
            missing: vec![("OfxMessageSuite", 2), ("OfxProgressSuite", 2)],
            ..Quirks::default()
        },
        Quirks { null_functions: true, ..Quirks::default() },
        Quirks { refused, ..Quirks::default() },
        Quirks {
            no_types: vec!["OfxParamTypePage", "OfxParamTypeGroup", "OfxParamTypePushButton"],
            ..Quirks::default()
        },
        Quirks { name: "DaVinciResolve", null_functions: true, ..Quirks::default() },
    ] {
        let host = Host::load(bundle(), quirks);
        for context in CONTEXTS {
            let mut values = values();
            if context == CONTEXTS[3] {
                values.push(("Transition", Value::D(0.5)));
            }
            let effect = host.create(context, &values);
            let image = Image::new(&shape());
            assert_eq!(render(&host, &effect, &image), OK, "{context}: {}", effect.message());
            assert!(pixels(&image) == whole, "{context}");
            for name in ["keyframeCount", "outputColour", "freeMemory"] {
                if name != "freeMemory" || context == GENERATOR {
                    assert_eq!(host.edited(&effect, name), OK, "{name}");
                }
            }
            // Failures are told to nobody, and are failures still.
            effect.set("modelPath", Value::text("/not/there"));
            assert_eq!(render(&host, &effect, &image), FAILED);
            host.destroy(effect);
        }
    }
}

#[test]
fn a_host_without_a_mandatory_suite_is_told_so() {
    const MISSING_HOST_FEATURE: i32 = 4;
    for name in ["OfxPropertySuite", "OfxImageEffectSuite", "OfxParameterSuite"] {
        let (_, status) =
            Host::try_load(bundle(), Quirks { missing: vec![(name, 1)], ..Quirks::default() });
        assert_eq!(status, MISSING_HOST_FEATURE, "{name}");
    }
}

#[test]
fn a_host_without_texts_gets_the_demo_models_picture() {
    let host =
        Host::load(bundle(), Quirks { no_types: vec!["OfxParamTypeString"], ..Quirks::default() });
    let effect = host.create(GENERATOR, &[("steps", Value::I(1)), ("preset", Value::I(0))]);
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(image.written() > 500);
    host.destroy(effect);
}

#[test]
fn an_abort_ends_a_render_within_a_step_and_leaves_the_session_usable() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    // A transition of its own, so that there is work to do.
    effect.set("steps", Value::I(200));
    effect.set("seedA", Value::I(99));
    effect.abort_after.store(2, Ordering::SeqCst);
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK);
    assert_eq!(image.written(), 0, "half a frame was written");
    let asked = effect.abort_asked.load(Ordering::SeqCst);
    assert!((3..=5).contains(&asked), "abort was asked for {asked} times after it said yes");
    assert_eq!(effect.message(), "", "an abort is no failure");
    effect.abort_after.store(-1, Ordering::SeqCst);
    effect.set("steps", Value::I(3));
    effect.set("seedA", Value::I(420));
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    host.destroy(effect);
}

#[test]
fn an_instance_for_each_frame_gives_the_same_frames() {
    let host = Host::load(bundle(), Quirks { name: "MLT", no_project: true, ..Quirks::default() });
    let described = host.describe();
    assert_eq!(
        described.props.text("OfxImageEffectPluginRenderThreadSafety"),
        "OfxImageEffectRenderUnsafe"
    );
    for number in 0..12 {
        assert_eq!(host.act("OfxActionLoad", std::ptr::null_mut(), None, None), OK);
        let mut values = values();
        values.push(("fraction", Value::D(f64::from(number % 4) / 4.0)));
        let effect = host.create(CONTEXTS[2], &values);
        let image = Image::new(&Shape { top_down: true, ..shape() });
        let bracket = |action| host.act(action, effect.handle(), Some(&Props::default()), None);
        assert_eq!(bracket("OfxImageEffectActionBeginSequenceRender"), OK);
        assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
        assert_eq!(bracket("OfxImageEffectActionEndSequenceRender"), OK);
        assert!(pixels(&image) == frame(f64::from(number % 4) / 4.0), "frame {number}");
        host.destroy(effect);
    }
}

#[test]
fn eight_threads_render_while_the_main_thread_changes_things() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    *effect.p("fraction").keys.lock().unwrap() = vec![(0.0, 0.0), (8.0, 1.0)];
    let frames: Vec<_> = (0..=8).map(|time| frame(f64::from(time) / 8.0)).collect();
    struct Shared<'a>(&'a Host, &'a Effect);
    // SAFETY: a host calls from many threads; what the test's has is behind locks.
    unsafe impl Sync for Shared<'_> {}
    let shared = Shared(&host, &effect);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (shared, frames) = (&shared, &frames);
                scope.spawn(move || {
                    let Shared(host, effect) = *shared;
                    for round in 0..4 {
                        let time = (worker * 3 + round * 5) % 9;
                        let image = Image::new(&shape());
                        OURS.set(Some((&raw const *image) as usize));
                        let status = host.render(effect, f64::from(time), shape().bounds, &[]);
                        assert_eq!(status, OK, "{}", effect.message());
                        assert!(pixels(&image) == frames[time as usize], "frame {time}");
                    }
                })
            })
            .collect();
        let (shared, done) = (&shared, &done);
        scope.spawn(move || {
            let Shared(host, effect) = *shared;
            while !done.load(Ordering::SeqCst) {
                for name in ["keyframeCount", "outputColour", "negative", "freeMemory"] {
                    assert_eq!(host.edited(effect, name), OK);
                }
                assert_eq!(host.act("OfxActionPurgeCaches", effect.handle(), None, None), OK);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        for worker in workers {
            let result = worker.join();
            done.store(result.is_err() || done.load(Ordering::SeqCst), Ordering::SeqCst);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    host.destroy(effect);
}

#[test]
fn threads_that_want_the_same_even_time_wait_for_one_of_them_or_for_an_abort() {
    let host = Host::load(bundle(), Quirks::default());
    let mut values = values();
    values.extend([("evenTime", Value::I(1)), ("fraction", Value::D(0.3))]);
    values.push(("seedB", Value::I(77)));
    let effects = [0; 4].map(|_| host.create(GENERATOR, &values));
    // One of them is told to stop, and is no failure; whoever measures, the others get their frames.
    effects[3].abort_after.store(0, Ordering::SeqCst);
    struct Shared<'a>(&'a Host, &'a [Box<Effect>; 4]);
    // SAFETY: a host calls from many threads; what the test's has is behind locks.
    unsafe impl Sync for Shared<'_> {}
    let shared = Shared(&host, &effects);
    let frames: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let shared = &shared;
                scope.spawn(move || {
                    let Shared(host, effects) = *shared;
                    let image = Image::new(&shape());
                    OURS.set(Some((&raw const *image) as usize));
                    let status = host.render(&effects[index], 0.0, shape().bounds, &[]);
                    assert_eq!(status, OK, "{}", effects[index].message());
                    assert_eq!(image.written() == 0, index == 3, "thread {index}");
                    pixels(&image)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(frames[0] == frames[1] && frames[1] == frames[2]);
    effects.into_iter().for_each(|effect| host.destroy(effect));
}

#[test]
fn keyframes_are_shown_as_many_as_there_are() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &[("keyframeCount", Value::I(3))]);
    let secret = |name: &str| effect.p(name).props.int("OfxParamPropSecret") == Some(1);
    assert_eq!((secret("promptB"), secret("promptC"), secret("seedD")), (false, false, true));
    effect.set("keyframeCount", Value::I(5));
    // What time or the node itself brought asks for nothing.
    let input = Props::default();
    input.put("OfxPropName", Value::text("keyframeCount"));
    input.put("OfxPropChangeReason", Value::text("OfxChangePluginEdited"));
    host.act("OfxActionInstanceChanged", effect.handle(), Some(&input), None);
    assert!(secret("seedD"));
    assert_eq!(host.edited(&effect, "keyframeCount"), OK);
    assert_eq!((secret("seedD"), secret("promptE"), secret("promptF")), (false, false, true));
    host.destroy(effect);
}
