//! When something fails: what the node says, where, and what it leaves alone.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, reason = "a test's own")]

mod host;

use host::bundle::bundle;
use host::effect::{Image, Shape};
use host::props::{Props, Value};
use host::quick::{GENERATOR, frame, pixels, render, shape, values};
use host::{BAD_HANDLE, FAILED, Host, OK, Quirks};

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
