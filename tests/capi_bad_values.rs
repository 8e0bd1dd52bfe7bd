//! What values out of their ranges get from C: an error that names value and wish, before any work.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{
    empty, fail, image, keyframe, load, made, outcome, session, small_options, succeed, tiny_path,
};
use latentblend::capi::*;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{dangling_mut, null, null_mut};

const INVALID: lb_status = LB_ERROR_INVALID_ARGUMENT;

#[test]
fn bad_ways_to_load_a_model_are_named() {
    let path = tiny_path("base");
    let options = || made(lb_model_options_init);
    let by_name = |name: &'static CStr| lb_model_options {
        device_by: LB_DEVICE_BY_NAME,
        device_what: name.as_ptr().cast(),
        ..options()
    };
    let load_with =
        |path: *const c_char, options: &lb_model_options, wanted: lb_status, text: &str| {
            let mut out = dangling_mut::<lb_model>();
            // SAFETY: as the header asks.
            fail(wanted, text, |e| unsafe { lb_model_load(path, options, null(), &mut out, e) });
            assert_eq!(out, dangling_mut(), "a failed call wrote its out parameter");
        };
    for (change, wanted, text) in [
        (lb_model_options { device: 7, ..options() }, INVALID, "device kind 7"),
        (lb_model_options { ordinal: 1, ..options() }, INVALID, "ordinal 1"),
        (lb_model_options { device: LB_DEVICE_CUDA, ..options() }, LB_ERROR_UNSUPPORTED, "CUDA"),
        (lb_model_options { device_by: 9, ..options() }, INVALID, "device_by 9"),
        (
            lb_model_options { device_what: c"cpu".as_ptr().cast(), ..options() },
            INVALID,
            "without a device_by",
        ),
        (by_name(c"gpu"), INVALID, "device \"gpu\": wanted"),
        (by_name(c"GPU-89-3"), INVALID, "device \"GPU-89-3\": wanted"),
        (lb_model_options { ordinal: 1, ..by_name(c"cpu") }, INVALID, "ordinal 1 and device_by 2"),
        (lb_model_options { device: LB_DEVICE_CPU, ..by_name(c"cpu") }, INVALID, "device kind 1"),
        (lb_model_options { device: LB_DEVICE_CUDA, ..by_name(c"cpu") }, INVALID, "that is none"),
        (lb_model_options { device_reserved: 1, ..options() }, LB_ERROR_UNSUPPORTED, "reserved"),
        (lb_model_options { precision: 9, ..options() }, INVALID, "precision 9"),
        (
            lb_model_options { precision: LB_PRECISION_F16, ..options() },
            LB_ERROR_UNSUPPORTED,
            "f32",
        ),
        (lb_model_options { flags: 4, ..options() }, LB_ERROR_UNSUPPORTED, "flags 0x4"),
        (
            lb_model_options { idle_seconds: -1.0, ..options() },
            INVALID,
            "idle_seconds -1: wanted 0",
        ),
        (lb_model_options { idle_seconds: f64::NAN, ..options() }, INVALID, "idle_seconds NaN"),
        (
            lb_model_options { idle_seconds: f64::INFINITY, ..options() },
            INVALID,
            "idle_seconds inf",
        ),
    ] {
        load_with(path.as_ptr(), &change, wanted, text);
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| CString::new(folder.path().join(name).to_str().unwrap()).unwrap();
    std::fs::write(folder.path().join("text.safetensors"), "not a model").unwrap();
    std::fs::write(folder.path().join("empty.ckpt"), "").unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    for (name, wanted) in [
        ("missing", LB_ERROR_NOT_FOUND),
        ("text.safetensors", LB_ERROR_BAD_MODEL),
        ("empty.ckpt", LB_ERROR_BAD_MODEL),
        ("folder", LB_ERROR_NOT_FOUND),
    ] {
        load_with(at(name).as_ptr(), &options(), wanted, name);
    }
    load_with(c"".as_ptr(), &options(), LB_ERROR_NOT_FOUND, "");
    load_with([b'a', 0xff, 0].as_ptr().cast(), &options(), INVALID, "path is not UTF-8");
    let long = CString::new("x".repeat(100_000)).unwrap();
    // SAFETY: as the header asks.
    let status =
        unsafe { lb_model_load(long.as_ptr(), null(), null(), &mut null_mut(), null_mut()) };
    assert_ne!(status, LB_OK);
}

#[test]
fn bad_plates_are_named_and_good_ones_have_a_size() {
    let model = load(&tiny_path("base"));
    let size = |width, height, aspect| {
        let [mut across, mut down] = [7, 7];
        // SAFETY: as the header asks.
        let result = outcome(|e| unsafe {
            lb_model_working_size(model, width, height, aspect, &mut across, &mut down, e)
        });
        assert!(result.0 == LB_OK || [across, down] == [7; 2], "a failed call wrote");
        (result, [across, down])
    };
    for (width, height, aspect, text) in [
        (0, 1080, 1.0, "width 0"),
        (1920, 0, 1.0, "height 0"),
        (1920, 1080, 0.0, "pixel aspect 0"),
        (1920, 1080, -1.0, "pixel aspect -1"),
        (1920, 1080, f64::NAN, "pixel aspect NaN"),
        (1920, 1080, f64::INFINITY, "pixel aspect inf"),
        (1920, 1080, 1e-9, "pixel aspect 0.000000001"),
        (1920, 1080, 101.0, "pixel aspect 101"),
    ] {
        let ((status, message), _) = size(width, height, aspect);
        assert_eq!(status, INVALID, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    // Whatever is believed can be worked at.
    let mut about: lb_model_info = empty();
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_model_get_info(model, &mut about, e) });
    for (width, height, aspect) in [
        (1920, 1080, 1.0),
        (720, 576, 1.46),
        (4096, 2160, 2.0),
        (1, 1, 1.0),
        (u32::MAX, 1, 100.0),
        (1, u32::MAX, 0.01),
    ] {
        let ((status, message), size) = size(width, height, aspect);
        assert_eq!(status, LB_OK, "{message}");
        assert!(size.iter().all(|side| side % about.size_multiple == 0 && *side > 0), "{size:?}");
        let [width, height] = size;
        let options = lb_blend_options { width, height, ..small_options() };
        lb_session_release(session(model, &options));
    }
    // The native shape is worked at the native size, and a plate's transpose at its transpose.
    let native = [about.native_width, about.native_height];
    assert_eq!(size(3 * native[0], 3 * native[1], 1.0).1, native);
    let [width, height] = size(1920, 1080, 1.0).1;
    assert_eq!(size(1080, 1920, 1.0).1, [height, width]);
    lb_model_release(model);
}

#[test]
fn bad_sizes_and_numbers_of_a_session_are_named() {
    let model = load(&tiny_path("base"));
    let frame = keyframe(c"a lake", 1);
    let frames = [&raw const frame, &raw const frame];
    let good = small_options();
    let (zeros, falling) = ([0u32, 0], [2u32, 1]);
    for (change, status, text) in [
        (
            lb_blend_options { width: u32::MAX - 7, height: 8, ..good },
            LB_ERROR_OUT_OF_MEMORY,
            "16384 pixels",
        ),
        (lb_blend_options { width: 0, ..good }, INVALID, "width 0"),
        (lb_blend_options { width: 12, ..good }, INVALID, "width 12 is not a multiple of 8"),
        (lb_blend_options { steps: 1000, ..good }, INVALID, "1000 steps"),
        (lb_blend_options { steps: u32::MAX, ..good }, INVALID, "steps"),
        (lb_blend_options { frames: u32::MAX, ..good }, INVALID, "frames"),
        (lb_blend_options { noise: 0, ..good }, INVALID, "noise 0"),
        (lb_blend_options { preset: 77, ..good }, INVALID, "preset 77"),
        (lb_blend_options { look: 2021, ..good }, INVALID, "look 2021"),
        (lb_blend_options { flags: 1 << 31, ..good }, LB_ERROR_UNSUPPORTED, "flags"),
        (
            lb_blend_options { latent_mix: 3, ..good },
            LB_ERROR_INVALID_ARGUMENT,
            "latent_mix 3: wanted an LB_LATENT_MIX value",
        ),
        (lb_blend_options { looped: 2, ..good }, INVALID, "looped 2"),
        (lb_blend_options { depth: -0.1, ..good }, INVALID, "depth -0.1"),
        (lb_blend_options { depth: f64::INFINITY, ..good }, INVALID, "depth inf"),
        (lb_blend_options { guidance: f64::NAN, ..good }, INVALID, "NaN"),
        (lb_blend_options { guidance: 1e9, ..good }, INVALID, "guidance"),
        (lb_blend_options { guidance_mid_damper: 0.0, ..good }, INVALID, "damper"),
        (lb_blend_options { mid_compression: f64::NAN, ..good }, INVALID, "NaN"),
        (lb_blend_options { levels: 2, injections: zeros.as_ptr(), ..good }, INVALID, "NULL"),
        (
            lb_blend_options {
                levels: 2,
                injections: falling.as_ptr(),
                branches: falling.as_ptr(),
                ..good
            },
            INVALID,
            "",
        ),
        (
            lb_blend_options {
                levels: 2,
                injections: zeros.as_ptr(),
                branches: zeros.as_ptr(),
                ..good
            },
            INVALID,
            "",
        ),
    ] {
        let mut out = dangling_mut::<lb_session>();
        // SAFETY: as the header asks.
        fail(status, text, |e| unsafe {
            lb_session_new(model, frames.as_ptr(), 2, &change, &mut out, e)
        });
        assert_eq!(out, dangling_mut(), "a failed call wrote its out parameter");
    }
    lb_model_release(model);
}

#[test]
fn bad_places_and_images_are_named_before_the_work() {
    let model = load(&tiny_path("base"));
    let session = session(model, &small_options());
    let mut pixels = vec![7u8; 16 * 16 * 8];
    let good = image(&mut pixels, 8, 8);
    let mut about: lb_session_info = empty();
    let place =
        lb_placement { bounds: [0, 0, 8, 8], window: [0, 0, 8, 8], ..made(lb_placement_init) };
    let extreme = [i32::MIN, i32::MIN, i32::MAX, i32::MAX];
    for (placement, text) in [
        (lb_placement { bounds: [0; 4], ..place }, "bounds"),
        (lb_placement { bounds: [8, 8, 0, 0], ..place }, "bounds"),
        (lb_placement { window: extreme, ..place }, "window"),
        (lb_placement { bounds: extreme, window: extreme, ..place }, ""),
        (lb_placement { window: [0, 0, 9, 8], ..place }, "window"),
        (lb_placement { pixel_aspect: f64::NAN, ..place }, "NaN"),
        (lb_placement { pixel_aspect: 0.0, ..place }, "pixel aspect 0"),
        (lb_placement { pixel_aspect: -1.0, ..place }, "-1"),
        (lb_placement { pixel_aspect: f64::INFINITY, ..place }, "inf"),
        (lb_placement { filter: 44, ..place }, "filter 44"),
        (lb_placement { fit: 44, ..place }, "fit 44"),
    ] {
        let placed = lb_image { placement: &placement, ..good };
        // SAFETY: as the header asks.
        fail(INVALID, text, |e| unsafe { lb_session_render(session, 0.5, &placed, null(), e) });
    }
    for (change, text) in [
        (lb_image { row_bytes: isize::MIN, ..good }, ""),
        (lb_image { row_bytes: isize::MAX, ..good }, ""),
        (lb_image { row_bytes: 0, ..good }, "row"),
        (lb_image { row_bytes: 23, ..good }, "row"),
        (lb_image { width: u32::MAX, height: u32::MAX, ..good }, ""),
        (lb_image { height: 0, ..good }, ""),
        (lb_image { format: 0, ..good }, "format"),
        (lb_image { format: 0x0501, ..good }, "format"),
        (lb_image { transfer: 0, ..good }, "transfer"),
        (lb_image { memory: u32::MAX, ..good }, "memory"),
    ] {
        // SAFETY: the images are refused before their memory is touched.
        fail(INVALID, text, |e| unsafe { lb_session_render(session, 0.5, &change, null(), e) });
    }
    for t in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-6, 1.0 + 1e-6, 1e300] {
        // SAFETY: as the header asks.
        fail(INVALID, &format!("t {t}"), |e| unsafe {
            lb_session_render(session, t, &good, null(), e)
        });
    }
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_session_get_info(session, &mut about, e) });
    assert_eq!(about.evaluations_done, 0, "work was done for a call that cannot succeed");
    assert!(pixels.iter().all(|&p| p == 7), "a failed call wrote pixels");
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn nothing_is_printed() {
    common::c::prints_nothing(&["bad_"]);
}
