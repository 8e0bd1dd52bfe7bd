//! Images in CUDA memory, on a played driver: the bytes are those of the CPU's memory, and nobody but the driver touches
//! them.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, unreachable_pub, reason = "a test's own")]

mod host;
#[path = "../../tests/common/played.rs"]
#[allow(dead_code, reason = "shared with the library's tests")]
mod played;
#[path = "cuda/there.rs"]
mod there;

use host::bundle::{bundle, tiny};
use host::compare::{GENERAL, GENERATOR, TRANSITION, create};
use host::effect::{Image, Shape};
use host::props::Value;
use host::repainted::{mask_image, node, picture};
use host::{Host, OK, Quirks};
use played::machine;
use there::{enabled, same_in_both};

const SUPPORTED: &str = "OfxImageEffectPropCudaRenderSupported";
const STREAMS: &str = "OfxImageEffectPropCudaStreamSupported";
/// The node's model computes on the CPU.
const ON_CPU: (&str, Value) = ("device", Value::I(1));

/// A host that has CUDA memory.
fn host() -> Host {
    let host = Host::load(bundle(), Quirks::default());
    host.data.props.put(SUPPORTED, Value::text("true"));
    host
}

/// The tiny model with pictures of 16x16 pixels: a played device is slow.
fn tiniest() -> (tempfile::TempDir, String) {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &to),
                false => assert!(std::fs::copy(&path, &to).is_ok(), "{}", path.display()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(tiny().as_ref(), folder.path());
    let config = folder.path().join("unet/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let small = text.replace("\"sample_size\": 16", "\"sample_size\": 2");
    assert_ne!(text, small);
    std::fs::write(config, small).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn cuda_memory_is_offered_only_to_hosts_that_have_it() {
    let (_, _guard) = machine();
    let said = |host: &Host| [SUPPORTED, STREAMS].map(|name| host.describe().props.text(name));
    assert_eq!(said(&host()), ["true", "true"]);
    // One that doesn't know of it, one that says no, and one that has no such properties.
    let plain = Host::load(bundle(), Quirks::default());
    assert_eq!(said(&plain), ["false", "false"]);
    plain.data.props.put(SUPPORTED, Value::text("false"));
    assert_eq!(said(&plain), ["false", "false"]);
    drop(plain);
    let refused = vec!["OfxImageEffectPropCuda"];
    let host = Host::load(bundle(), Quirks { refused, ..Quirks::default() });
    host.data.props.put(SUPPORTED, Value::text("true"));
    assert!(host.describe().props.get(SUPPORTED, 0).is_none());
}

#[test]
fn a_frame_in_cuda_memory_is_the_one_in_the_cpus_in_every_format() {
    let (played, _guard) = machine();
    let host = host();
    let effect = create(&host, GENERATOR, &[ON_CPU]);
    for depth in ["OfxBitDepthByte", "OfxBitDepthShort", "OfxBitDepthHalf", "OfxBitDepthFloat"] {
        for components in ["OfxImageComponentRGBA", "OfxImageComponentRGB"] {
            let shape = Shape { depth, components, padding: 12, ..Shape::new(64, 48) };
            for window in [shape.bounds, [5, 3, 40, 31]] {
                let target = || Image::new(&shape);
                same_in_both(played, (&host, &effect), &[], &target, (0.0, window, &[]));
            }
            // Every second line, and the others stay.
            let fields = ["OfxFieldLower", "OfxFieldUpper"];
            for (field, window) in fields.into_iter().zip([shape.bounds, [5, 4, 40, 31]]) {
                let field = [("OfxImageEffectPropFieldToRender", Value::text(field))];
                let target = || Image::new(&shape);
                same_in_both(played, (&host, &effect), &[], &target, (0.0, window, &field));
            }
        }
    }
    host.destroy(effect);
}

#[test]
fn clips_in_cuda_memory_are_repainted_and_grown_out_of_as_in_the_cpus() {
    let (played, _guard) = machine();
    let host = host();
    let shape = Shape { padding: 8, depth: "OfxBitDepthFloat", ..Shape::new(64, 48) };
    let (source, later) = (picture(&shape, 1), picture(&shape, 5));
    let (mask, none) = (mask_image(&shape), Image::new(&shape));
    none.paint(|_, _| [0.0; 4]);
    let target = || Image::new(&shape);
    let window = shape.bounds;
    // The whole picture, the patch alone, over a plate that moves.
    let effect = node(&host, GENERAL, &[ON_CPU]);
    effect.show_at("Source", 1.0, &source);
    effect.show_at("Source", 2.0, &later);
    effect.show("Mask", &mask);
    let clips: [&Image; 3] = [&source, &later, &mask];
    let both = |time: f64| {
        same_in_both(played, (&host, &effect), &clips, &target, (time, window, &[]));
    };
    both(1.0);
    effect.set("outputMode", Value::I(1));
    both(1.0);
    effect.set("outputMode", Value::I(0));
    effect.set("hold", Value::I(1));
    both(2.0);
    // A mask that marks nothing: the source itself, or a patch of nothing.
    effect.set("hold", Value::I(0));
    effect.show("Mask", &none);
    let clips: [&Image; 3] = [&source, &later, &none];
    for mode in [0, 1] {
        effect.set("outputMode", Value::I(mode));
        same_in_both(played, (&host, &effect), &clips, &target, (1.0, window, &[]));
    }
    host.destroy(effect);
    // And a transition between two clips.
    let effect = create(&host, TRANSITION, &[ON_CPU]);
    *effect.p("Transition").keys.lock().unwrap() = vec![(0.0, 0.0), (8.0, 1.0)];
    effect.show("SourceFrom", &source);
    effect.show("SourceTo", &later);
    for time in [0.0, 3.0, 8.0] {
        let clips: [&Image; 2] = [&source, &later];
        same_in_both(played, (&host, &effect), &clips, &target, (time, window, &[]));
    }
    host.destroy(effect);
}

#[test]
fn a_model_on_the_device_fills_its_memory_without_the_host_and_waits_for_no_stream() {
    let (played, _guard) = machine();
    let host = host();
    let (_folder, path) = tiniest();
    let values =
        [("modelPath", Value::text(&path)), ("sizeMode", Value::I(1)), ("steps", Value::I(2))];
    let effect = create(&host, GENERATOR, &values);
    let shape = Shape { depth: "OfxBitDepthFloat", ..Shape::new(20, 14) };
    let target = || Image::new(&shape);
    same_in_both(played, (&host, &effect), &[], &target, (0.0, shape.bounds, &[]));
    let image = target();
    image.lift(played);
    effect.target(&image);
    let count = || ["convert", "waits", "held by 1"].map(|what| played.get(what));
    let before = count();
    assert_eq!(host.render(&effect, 0.0, shape.bounds, &enabled(true)), OK);
    let after = count();
    assert_eq!(after[0] - before[0], 1, "the device did not write it");
    assert_eq!(after[1], before[1], "a stream of the host's was waited for");
    assert_eq!((before[2], after[2]), (0, 0), "another device was used");
    assert_eq!(played.get("context"), 0, "a context was left current");
    host.destroy(effect);
}

#[test]
fn a_device_that_fails_sends_the_host_to_the_cpus_memory_where_the_cpu_goes_on() {
    const GPU_OUT_OF_MEMORY: i32 = 1001;
    const GPU_RENDER_FAILED: i32 = 1002;
    let (played, _guard) = machine();
    let host = host();
    let (_folder, path) = tiniest();
    let values = [
        ("modelPath", Value::text(&path)),
        ("sizeMode", Value::I(1)),
        ("steps", Value::I(2)),
        // A card is for hosts that take the frame for good.
        ("errorCard", Value::I(1)),
        ("seedA", Value::I(77)),
    ];
    let effect = create(&host, GENERATOR, &values);
    let shape = Shape::new(20, 14);
    let (image, lifted) = (Image::new(&shape), Image::new(&shape));
    let render = |image: &Image, told: &[(&str, Value)]| {
        effect.target(image);
        host.render(&effect, 0.0, shape.bounds, told)
    };
    effect.set("device", Value::I(1));
    assert_eq!(render(&image, &[]), OK);
    let cpu = image.pixels();
    effect.set("device", Value::I(0));
    lifted.lift(played);
    played.set("failure", 700);
    played.set("fail after", 0);
    assert_eq!(render(&lifted, &enabled(true)), GPU_RENDER_FAILED);
    assert!(effect.message().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{}", effect.message());
    // As the host does then. The device stays lost.
    let again = Image::new(&shape);
    assert_eq!(render(&again, &[]), OK, "{}", effect.message());
    assert!(again.pixels() == cpu, "not the CPU's picture");
    assert_eq!(effect.message(), "");
    // It comes back, and has too little memory.
    played.set("lost", 0);
    assert_eq!(render(&lifted, &enabled(true)), OK, "{}", effect.message());
    assert_eq!(host.edited(&effect, "freeMemory"), OK);
    played.set("limit", 1 << 20);
    assert_eq!(render(&lifted, &enabled(true)), GPU_OUT_OF_MEMORY, "{}", effect.message());
    played.set("limit", 4 << 30);
    assert_eq!(render(&lifted, &enabled(false)), OK, "{}", effect.message());
    // What is no device's memory, and a model that isn't there.
    let nowhere = Image::new(&shape);
    nowhere.props.put("OfxImagePropData", Value::P(0x1000));
    assert_eq!(render(&nowhere, &enabled(true)), GPU_RENDER_FAILED);
    assert!(effect.message().contains("no device's memory"), "{}", effect.message());
    effect.set("modelPath", Value::text("/not/there"));
    let before = played.get("waits");
    assert_eq!(render(&lifted, &enabled(true)), GPU_RENDER_FAILED);
    assert!(effect.message().contains("/not/there"), "{}", effect.message());
    assert_eq!(played.get("waits"), before);
    host.destroy(effect);
}
