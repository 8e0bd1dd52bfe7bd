//! Hosts as they are: missing suites, NULL functions, refused properties, failed creations, an instance for each
//! frame, many threads, aborts; and what the node says when something fails.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::{bundle, tiny};
use host::effect::{Effect, Image, Shape};
use host::engine::{More, Wanted, engine};
use host::props::{Props, Value};
use host::suites::OURS;
use host::{BAD_HANDLE, FAILED, Host, OK, Quirks};
use latentblend::capi::*;
use std::sync::atomic::{AtomicBool, Ordering};

const GENERATOR: &str = "OfxImageEffectContextGenerator";
const CONTEXTS: [&str; 4] = [
    GENERATOR,
    "OfxImageEffectContextGeneral",
    "OfxImageEffectContextFilter",
    "OfxImageEffectContextTransition",
];

fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("modelPath", Value::text(&tiny())),
        ("preset", Value::I(0)),
        ("steps", Value::I(3)),
        ("sizeMode", Value::I(1)),
    ]
}

fn shape() -> Shape {
    Shape::new(24, 18)
}

fn short(options: &mut lb_blend_options) {
    (options.preset, options.steps) = (LB_PRESET_LOWEST, 3);
}

/// The C API's frame for `values` at a fraction.
fn frame(t: f64) -> Vec<u8> {
    let wanted = Wanted {
        model: Some(tiny()),
        prompts: vec![
            ("a white lighthouse on the left, the sea at sunset".into(), 420),
            ("an old castle in the middle, mountains by night".into(), 421),
        ],
        negative: String::new(),
        options: short,
        size: [0, 0],
        t,
        transfer: LB_TRANSFER_SRGB,
        fit: LB_FIT_CROP,
        filter: LB_FILTER_BICUBIC,
        pixel_aspect: 1.0,
        more: More::default(),
    };
    engine().frame(&wanted, &shape(), shape().bounds, shape().bounds)
}

/// An image's pixels, top row first.
fn pixels(image: &Image) -> Vec<u8> {
    let [x1, y1, x2, y2] = image.shape.bounds;
    (y1..y2).rev().flat_map(|y| image.row(y, x1, x2)).collect()
}

fn render(host: &Host, effect: &Effect, image: &Image) -> i32 {
    effect.target(image);
    host.render(effect, 0.0, image.shape.bounds, &[])
}

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
fn actions_on_an_instance_whose_creation_failed_are_refused() {
    let quirks = Quirks { refused: vec!["OfxPropInstanceData"], ..Quirks::default() };
    let host = Host::load(bundle(), quirks);
    let (effect, status) = host.try_create(GENERATOR, &values());
    assert_eq!(status, FAILED);
    let (input, out) = (Props::default(), Props::default());
    for action in [
        "OfxImageEffectActionRender",
        "OfxImageEffectActionGetRegionOfDefinition",
        "OfxImageEffectActionIsIdentity",
        "OfxImageEffectActionGetClipPreferences",
        "OfxImageEffectActionBeginSequenceRender",
        "OfxActionInstanceChanged",
    ] {
        let status = host.act(action, effect.handle(), Some(&input), Some(&out));
        assert_eq!(status, BAD_HANDLE, "{action}");
    }
    // And one that never was is destroyed without harm, and without reading what may be gone.
    assert_eq!(host.act("OfxActionDestroyInstance", effect.handle(), None, None), OK);
    assert_eq!(host.act("OfxActionCreateInstance", std::ptr::null_mut(), None, None), BAD_HANDLE);
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
fn a_model_that_is_not_there_is_named_with_every_place_that_was_tried() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    let image = Image::new(&shape());
    let fails = |path: &str| {
        effect.set("modelPath", Value::text(path));
        assert_eq!(render(&host, &effect, &image), FAILED, "{path}");
        assert_eq!(image.written(), 0, "a failed render wrote pixels");
        effect.message()
    };
    let message = fails("100%/no-such-model");
    for place in [
        "Contents/Resources/models/100%/no-such-model",
        "/usr/share/latentblend/models/100%/no-such-model",
    ] {
        assert!(message.contains(place), "{place}: {message}");
    }
    assert_eq!(
        fails("${LATENTBLEND_TEST_UNSET}/sd"),
        "Model '${LATENTBLEND_TEST_UNSET}/sd': the environment variable LATENTBLEND_TEST_UNSET is not set"
    );
    assert_eq!(fails("/not/there"), "Model '/not/there' was not found. Tried: /not/there.");
    // There, but no model: the engine's own words.
    assert!(fails(env!("CARGO_MANIFEST_DIR")).contains("config.json"), "{}", effect.message());
    // The status line tells it to hosts whose messages can't be trusted.
    assert_eq!(host.edited(&effect, "negative"), OK);
    assert!(
        effect.value("status") == Value::text(&effect.message()),
        "{:?}",
        effect.value("status")
    );
    // The next render may succeed, and takes the message away. A variable, a file of the folder, white space.
    // CARGO_MANIFEST_DIR is set by cargo for whatever it runs.
    for path in [
        "$CARGO_MANIFEST_DIR/../tests/golden/tiny/base",
        " ${CARGO_MANIFEST_DIR}/../tests/golden/tiny/base/model_index.json\n",
    ] {
        effect.set("modelPath", Value::text(path));
        assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
        assert_eq!(effect.message(), "");
        assert!(pixels(&image) == frame(0.5));
    }
    host.destroy(effect);
}

#[test]
fn an_error_card_is_drawn_only_where_failed_frames_pass_for_good_ones() {
    for (name, choice, drawn) in [
        ("MLT", 0, true),
        ("fr.inria.Natron", 0, true),
        ("other", 0, false),
        ("other", 1, true),
        ("MLT", 2, false),
    ] {
        let host = Host::load(bundle(), Quirks { name, ..Quirks::default() });
        let mut values = values();
        values.push(("errorCard", Value::I(choice)));
        values.push(("modelPath", Value::text("/not/there")));
        let effect = host.create(GENERATOR, &values);
        for (depth, components) in [
            ("OfxBitDepthByte", "OfxImageComponentRGBA"),
            ("OfxBitDepthShort", "OfxImageComponentRGB"),
            ("OfxBitDepthHalf", "OfxImageComponentRGBA"),
            ("OfxBitDepthFloat", "OfxImageComponentRGB"),
        ] {
            let shape = Shape {
                bounds: [3, 4, 200, 104],
                depth,
                components,
                padding: 8,
                ..Shape::new(1, 1)
            };
            let image = Image::new(&shape);
            let status = render(&host, &effect, &image);
            assert_eq!(status, if drawn { OK } else { FAILED }, "{name} {choice}");
            assert_eq!(image.written() > 0, drawn, "{name} {choice}");
            assert!(image.guards_are_whole());
            assert!(effect.message().contains("/not/there"));
        }
        // Red with white signs on it.
        if drawn {
            let image = Image::new(&Shape::new(200, 100));
            assert_eq!(render(&host, &effect, &image), OK);
            let bytes = pixels(&image);
            let count = |wanted: [u8; 4]| bytes.chunks(4).filter(|p| **p == wanted).count();
            let (red, white) = (count([128, 0, 0, 255]), count([255, 255, 255, 255]));
            assert_eq!(red + white, 200 * 100);
            assert!((300..6000).contains(&white), "{white} dots");
        }
        host.destroy(effect);
    }
}

#[test]
fn pixels_on_a_gpu_are_never_touched() {
    const GPU_RENDER_FAILED: i32 = 1002;
    let host = Host::load(bundle(), Quirks::default());
    let described = host.describe();
    assert_eq!(described.props.text("OfxImageEffectPropCudaRenderSupported"), "false");
    assert_eq!(described.props.text("OfxImageEffectPropCPURenderSupported"), "true");
    let mut values = values();
    values.push(("errorCard", Value::I(1)));
    let effect = host.create(GENERATOR, &values);
    let image = Image::new(&shape());
    // Where reading or writing would end the process.
    image.props.put("OfxImagePropData", Value::P(0x10));
    effect.target(&image);
    for name in ["Cuda", "OpenGL", "OpenCL", "Metal"] {
        let more = [(format!("OfxImageEffectProp{name}Enabled"), Value::I(1))];
        let more = more.each_ref().map(|(name, value)| (name.as_str(), value.clone()));
        assert_eq!(host.render(&effect, 0.0, shape().bounds, &more), GPU_RENDER_FAILED, "{name}");
        assert!(!effect.message().is_empty());
    }
    host.destroy(effect);
}

#[test]
fn images_of_no_known_kind_are_refused_with_their_kind() {
    const IMAGE_FORMAT: i32 = 1000;
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    let tried = |name: &str, value: Value, status: i32, said: &str| {
        let image = Image::new(&shape());
        image.props.put(name, value);
        assert_eq!(render(&host, &effect, &image), status, "{name}");
        assert!(effect.message().contains(said), "{said}: {}", effect.message());
        assert_eq!(image.written(), 0);
        assert_eq!(effect.images_held(), 0, "an image was not released");
    };
    let alpha = Value::text("OfxImageComponentAlpha");
    tried("OfxImageEffectPropComponents", alpha, IMAGE_FORMAT, "OfxImageComponentAlpha");
    tried("OfxImageEffectPropPixelDepth", Value::text("odd"), IMAGE_FORMAT, "odd");
    tried("OfxImagePropRowBytes", Value::I(8), FAILED, "rows of 8 bytes");
    tried("OfxImagePropData", Value::P(0), FAILED, "no pixels");
    *effect.c("Output").image.lock().unwrap() = None;
    assert_eq!(host.render(&effect, 0.0, shape().bounds, &[]), FAILED);
    host.destroy(effect);
}

#[test]
fn buttons_compute_ahead_report_stop_and_free() {
    let host = Host::load(bundle(), Quirks::default());
    let effect = host.create(GENERATOR, &values());
    assert_eq!(effect.value("status"), Value::text("Nothing loaded yet"));
    assert_eq!(host.edited(&effect, "prepare"), OK);
    let told = effect.progress.lock().unwrap().clone();
    assert_eq!((told[0], told[told.len() - 1]), (-1.0, 2.0), "begun and ended: {told:?}");
    assert!(told[1..told.len() - 1].iter().all(|p| (0.0..=1.0).contains(p)), "{told:?}");
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    assert!(status.to_str().unwrap().starts_with("Pre-computed: 128x128"), "{status:?}");
    let Value::S(version) = effect.value("version") else { panic!("no text") };
    assert!(version.to_str().unwrap().contains("engine 0."), "{version:?}");

    // Stopped: what there is is kept, and nothing is wrong.
    effect.set("steps", Value::I(150));
    effect.progress.lock().unwrap().clear();
    effect.stop_after.store(3, Ordering::SeqCst);
    assert_eq!(host.edited(&effect, "prepare"), OK);
    let Value::S(status) = effect.value("status") else { panic!("no text") };
    assert!(status.to_str().unwrap().starts_with("Pre-computation stopped"), "{status:?}");
    assert!(effect.progress.lock().unwrap().len() < 8);
    assert_eq!(effect.progress.lock().unwrap().last(), Some(&2.0));

    assert_eq!(host.edited(&effect, "freeMemory"), OK);
    assert_eq!(effect.value("status"), Value::text("Memory freed"));
    effect.set("steps", Value::I(3));
    let image = Image::new(&shape());
    assert_eq!(render(&host, &effect, &image), OK, "{}", effect.message());
    assert!(pixels(&image) == frame(0.5));
    host.destroy(effect);
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
