//! What bad input gets from C: an error with a message, out parameters untouched, nothing printed, and a
//! process that goes on.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{
    empty, fail, image, keyframe, load, made, outcome, session, small_options, succeed, tiny_path,
};
use latentblend::capi::*;
use std::ffi::{CString, c_char, c_void};
use std::ptr::{dangling_mut, null, null_mut};

const INVALID: lb_status = LB_ERROR_INVALID_ARGUMENT;

/// Handles that are none: NULL, small, unaligned, all bits, and the bits of every kind of handle.
fn none() -> Vec<*mut c_void> {
    let kinds =
        [0xE1u64, 0xC2, 0xA3, 0x94, 0x85].map(|kind| kind << 56 | 0x00ff_ffff << 32 | 0xffff_ffff);
    let bits = [0, 1, 8, u64::MAX, 1 << 63].into_iter().chain(kinds);
    bits.map(|bits| std::ptr::without_provenance_mut(bits as usize)).collect()
}

#[test]
fn every_function_bears_handles_that_are_none() {
    let mut pixels = [7u8; 8 * 8 * 3];
    let good = image(&mut pixels, 8, 8);
    let images = [&raw const good];
    for handle in none() {
        let (error, cancel) = (handle.cast::<lb_error>(), handle.cast::<lb_cancel>());
        let (model, session) = (handle.cast::<lb_model>(), handle.cast::<lb_session>());
        assert_eq!(lb_error_status(error), INVALID);
        // SAFETY: the string is static.
        assert_eq!(unsafe { *lb_error_message(error) }, 0);
        lb_error_free(error);
        assert!(lb_cancel_retain(cancel).is_null());
        lb_cancel_request(cancel);
        assert!(!lb_cancel_requested(cancel));
        lb_cancel_release(cancel);
        assert!(lb_model_retain(model).is_null());
        lb_model_release(model);
        assert!(lb_session_retain(session).is_null());
        lb_session_purge(session);
        lb_session_release(session);
        // SAFETY: everything but the handles is as the header asks.
        unsafe {
            let mut about: lb_model_info = empty();
            fail(INVALID, "model is", |e| lb_model_get_info(model, &mut about, e));
            assert!(about.name.is_null() && about.native_width == 0, "a failed call wrote");
            let mut size = [7u32; 2];
            let [width, height] = size.each_mut().map(std::ptr::from_mut);
            fail(INVALID, "model is", |e| {
                lb_model_working_size(model, 1920, 1080, 1.0, width, height, e)
            });
            assert_eq!(size, [7; 2], "a failed call wrote");
            let mut about: lb_session_info = empty();
            fail(INVALID, "session is", |e| lb_session_get_info(session, &mut about, e));
            assert_eq!(about.width, 0, "a failed call wrote");
            let (mut out, frame) = (dangling_mut::<lb_session>(), keyframe(c"a lake", 1));
            let frames = [&raw const frame];
            fail(INVALID, "model is", |e| {
                lb_session_new(model, frames.as_ptr(), 1, null(), &mut out, e)
            });
            assert_eq!(out, dangling_mut());
            fail(INVALID, "session is", |e| lb_session_prepare(session, null(), e));
            fail(INVALID, "session is", |e| lb_session_render(session, 0.5, &good, null(), e));
            fail(INVALID, "session is", |e| {
                lb_session_render_many(session, &0.5, images.as_ptr(), 1, null(), e)
            });
            if !handle.is_null() {
                let call = lb_call { cancel, ..empty() };
                let mut out = dangling_mut::<lb_model>();
                fail(INVALID, "lb_call.cancel", |e| {
                    lb_model_load(null(), null(), &call, &mut out, e)
                });
                assert_eq!(out, dangling_mut());
            }
        }
    }
    assert!(pixels.iter().all(|&p| p == 7), "a failed call wrote pixels");
}

#[test]
fn every_function_bears_null() {
    let path = tiny_path("base");
    let model = load(&path);
    let session = session(model, &small_options());
    let times = [0.5];
    // SAFETY: NULL is what the header allows; the rest is as it asks.
    unsafe {
        let status = lb_model_load(path.as_ptr(), null(), null(), null_mut(), null_mut());
        assert_eq!(status, INVALID);
        fail(INVALID, "lb_model_info is NULL", |e| lb_model_get_info(model, null_mut(), e));
        fail(INVALID, "lb_session_info is NULL", |e| lb_session_get_info(session, null_mut(), e));
        fail(INVALID, "lb_device_info is NULL", |e| lb_device_get(0, null_mut(), e));
        fail(INVALID, "lb_image is NULL", |e| lb_session_render(session, 0.5, null(), null(), e));
        fail(INVALID, "t is NULL", |e| {
            lb_session_render_many(session, null(), null(), 1, null(), e)
        });
        fail(INVALID, "images is NULL", |e| {
            lb_session_render_many(session, times.as_ptr(), null(), 1, null(), e)
        });
        let images = [null::<lb_image>()];
        fail(INVALID, "lb_image is NULL", |e| {
            lb_session_render_many(session, times.as_ptr(), images.as_ptr(), 1, null(), e)
        });
        succeed(|e| lb_session_render_many(session, null(), null(), 0, null(), e));
        fail(INVALID, "frames", |e| {
            lb_session_render_many(session, times.as_ptr(), images.as_ptr(), usize::MAX, null(), e)
        });
        let (mut side, unset) = (7, null_mut());
        fail(INVALID, "working_width is NULL", |e| {
            lb_model_working_size(model, 1920, 1080, 1.0, unset, &mut side, e)
        });
        fail(INVALID, "working_height is NULL", |e| {
            lb_model_working_size(model, 1920, 1080, 1.0, &mut side, unset, e)
        });
        assert_eq!(side, 7, "a failed call wrote its out parameter");
        let mut out = dangling_mut();
        let frames = [null::<lb_keyframe>()];
        fail(INVALID, "lb_keyframe is NULL", |e| {
            lb_session_new(model, frames.as_ptr(), 1, null(), &mut out, e)
        });
        fail(INVALID, "wanted up to", |e| {
            lb_session_new(model, frames.as_ptr(), usize::MAX, null(), &mut out, e)
        });
        assert_eq!(out, dangling_mut());
        fail(INVALID, "text is NULL", |e| lb_doctor(null(), null_mut(), 10, null_mut(), e));
        lb_model_options_init(null_mut(), 100);
        lb_blend_options_init(null_mut(), 100);
        lb_image_init(null_mut(), 100);
        lb_placement_init(null_mut(), 100);
        lb_set_log_callback(None, null_mut(), 99);
        for number in [-1, 9, 98, i32::MIN, i32::MAX] {
            let name = std::ffi::CStr::from_ptr(lb_status_name(number));
            assert_eq!(name, c"LB_ERROR_UNKNOWN");
        }
    }
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn bad_ways_to_load_a_model_are_named() {
    let path = tiny_path("base");
    let options = || made(lb_model_options_init);
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
        (lb_model_options { precision: 9, ..options() }, INVALID, "precision 9"),
        (
            lb_model_options { precision: LB_PRECISION_F16, ..options() },
            LB_ERROR_UNSUPPORTED,
            "f32",
        ),
        (lb_model_options { flags: 4, ..options() }, LB_ERROR_UNSUPPORTED, "flags 0x4"),
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
        (lb_blend_options { reserved: 1, ..good }, LB_ERROR_UNSUPPORTED, "reserved 0x1"),
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

/// Calls `check` with copies of `value` that claim other sizes, each with what must come of it.
fn sizes<T: Copy>(
    name: &str,
    value: T,
    first: usize,
    check: &dyn Fn(*const c_void) -> (lb_status, String),
) {
    const ROOM: usize = 1 << 17;
    let mut bytes = vec![0u8; ROOM];
    let base = bytes.as_mut_ptr();
    let claim = |size: usize, last: u8| {
        // SAFETY: the room is larger than any struct.
        unsafe {
            base.cast::<T>().write_unaligned(value);
            base.cast::<usize>().write_unaligned(size);
            base.add(1000).write(last);
        }
        check(base.cast_const().cast())
    };
    for size in [0, 1, 8, first - 1, (1 << 16) + 1, usize::MAX] {
        let (status, message) = claim(size, 0);
        assert_eq!(status, INVALID, "{name} of {size} bytes: {message}");
        assert!(message.contains(&format!("{name}.struct_size is {size}")), "{message}");
    }
    let (status, message) = claim(1001, 1);
    assert_eq!(status, LB_ERROR_UNSUPPORTED, "{message}");
    assert!(message.contains(&format!("{name} sets a field at byte 1000")), "{message}");
    for size in [first, size_of::<T>(), 1000, 1 << 16] {
        let (status, message) = claim(size, 0);
        assert_eq!(status, LB_OK, "{name} of {size} bytes: {message}");
    }
}

#[test]
fn every_struct_may_be_shorter_or_longer_and_no_other_size_is_believed() {
    let model = load(&tiny_path("base"));
    let session = session(model, &small_options());
    let mut pixels = vec![0u8; 8 * 8 * 3];
    let good = image(&mut pixels, 8, 8);
    let place =
        lb_placement { bounds: [0, 0, 8, 8], window: [0, 0, 8, 8], ..made(lb_placement_init) };
    let path = tiny_path("base");
    let kept = |status: (lb_status, String), session: *mut lb_session| {
        lb_session_release(session);
        status
    };
    let new = |frame: *const lb_keyframe, options: *const lb_blend_options| {
        let (mut out, frames) = (null_mut(), [frame]);
        // SAFETY: as the header asks.
        let status =
            outcome(|e| unsafe { lb_session_new(model, frames.as_ptr(), 1, options, &mut out, e) });
        kept(status, out)
    };
    let options = small_options();
    let frame = keyframe(c"a lake", 1);
    // SAFETY, for all of these: the structs have as many bytes as they say, or are refused by their size.
    sizes("lb_keyframe", frame, 32, &|p| new(p.cast(), &options));
    sizes("lb_blend_options", options, 104, &|p| new(&frame, p.cast()));
    sizes("lb_call", empty::<lb_call>(), 32, &|p| {
        outcome(|e| unsafe { lb_session_prepare(session, p.cast(), e) })
    });
    sizes("lb_image", good, 64, &|p| {
        outcome(|e| unsafe { lb_session_render(session, 0.5, p.cast(), null(), e) })
    });
    sizes("lb_placement", place, 56, &|p| {
        let placed = lb_image { placement: p.cast(), ..good };
        outcome(|e| unsafe { lb_session_render(session, 0.5, &placed, null(), e) })
    });
    sizes("lb_model_options", made(lb_model_options_init), 24, &|p| {
        let mut out = null_mut();
        let status =
            outcome(|e| unsafe { lb_model_load(path.as_ptr(), p.cast(), null(), &mut out, e) });
        lb_model_release(out);
        status
    });
    sizes("lb_model_info", empty::<lb_model_info>(), 32, &|p| {
        outcome(|e| unsafe { lb_model_get_info(model, p.cast_mut().cast(), e) })
    });
    sizes("lb_session_info", empty::<lb_session_info>(), 56, &|p| {
        outcome(|e| unsafe { lb_session_get_info(session, p.cast_mut().cast(), e) })
    });
    sizes("lb_device_info", empty::<lb_device_info>(), 168, &|p| {
        outcome(|e| unsafe { lb_device_get(0, p.cast_mut().cast(), e) })
    });
    sizes("lb_timing", lb_timing { pace: LB_PACE_LINEAR, ..made(lb_timing_init) }, 72, &|p| {
        let mut out = null_mut();
        let status =
            outcome(|e| unsafe { lb_session_timed(session, p.cast(), null(), &mut out, e) });
        kept(status, out)
    });
    let adapt = lb_adapt { samples: 2, distance: LB_DISTANCE_LATENTS, ..made(lb_adapt_init) };
    sizes("lb_adapt", adapt, 32, &|p| {
        let mut out = null_mut();
        let status =
            outcome(|e| unsafe { lb_session_adapted(session, p.cast(), null(), &mut out, e) });
        kept(status, out)
    });
    let (x, y) = ([0.0, 1.0], [4.0, 2.0]);
    let curve = lb_curve { x: x.as_ptr(), y: y.as_ptr(), count: 2, ..empty() };
    sizes("lb_curve", curve, 40, &|p| {
        new(&frame, &lb_blend_options { guidance_over_t: p.cast(), ..options })
    });
    let plate = [128u8; 8 * 8 * 3];
    let source = lb_source {
        data: plate.as_ptr().cast(),
        row_bytes: 8 * 3,
        width: 8,
        height: 8,
        format: LB_FORMAT_RGB_U8,
        ..made(lb_source_init)
    };
    sizes("lb_source", source, 56, &|p| new(&lb_keyframe { image: p.cast(), ..frame }, &options));
    let marks = lb_source { row_bytes: 8, format: LB_FORMAT_A_U8, ..source };
    let repaints =
        lb_inpainting_options { source: &source, mask: &marks, ..made(lb_inpainting_options_init) };
    sizes("lb_inpainting_options", repaints, 72, &|p| {
        let (mut out, frames) = (null_mut(), [&raw const frame]);
        let status = outcome(|e| unsafe {
            let frames = frames.as_ptr();
            lb_session_new_inpainting(model, frames, 1, &options, p.cast(), &mut out, e)
        });
        kept(status, out)
    });
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("session.safetensors");
    let saved = CString::new(saved.to_str().unwrap()).unwrap();
    succeed(|e| unsafe { lb_session_save(session, saved.as_ptr(), null(), e) });
    sizes("lb_restore_options", made(lb_restore_options_init), 24, &|p| {
        let mut out = null_mut();
        let status = outcome(|e| unsafe {
            lb_session_load(model, saved.as_ptr(), p.cast(), null(), &mut out, e)
        });
        kept(status, out)
    });
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn a_shorter_struct_is_not_written_beyond_its_end() {
    let model = load(&tiny_path("base"));
    let session = session(model, &small_options());
    // What an older caller has: the first version's fields, and then memory that isn't ours.
    let older = |size: usize, write: &dyn Fn(*mut c_void) -> (lb_status, String)| {
        let mut memory = vec![0xa5u8; 256];
        memory[..size].fill(0);
        memory[..8].copy_from_slice(&size.to_ne_bytes());
        assert_eq!(write(memory.as_mut_ptr().cast()).0, LB_OK);
        assert_eq!(memory[..8], size.to_ne_bytes(), "the size is the caller's");
        assert!(memory[8..size].iter().any(|&b| b != 0), "nothing was written");
        assert!(memory[size..].iter().all(|&b| b == 0xa5), "memory beyond the struct was written");
    };
    // SAFETY, for both: the memory is longer than the structs say they are.
    older(32, &|p| outcome(|e| unsafe { lb_model_get_info(model, p.cast(), e) }));
    older(56, &|p| outcome(|e| unsafe { lb_session_get_info(session, p.cast(), e) }));
    let mut memory = [0xa5u8; 128];
    // SAFETY: the memory is longer than what is asked to be filled.
    unsafe { lb_blend_options_init(memory.as_mut_ptr().cast(), 104) };
    assert!(memory[104..].iter().all(|&b| b == 0xa5));
    let mut memory = [0xa5u8; 512];
    // SAFETY: as above; a newer caller's struct is longer, and its tail gets zeros.
    unsafe { lb_image_init(memory.as_mut_ptr().cast(), 400) };
    assert!(memory[size_of::<lb_image>()..400].iter().all(|&b| b == 0));
    assert!(memory[400..].iter().all(|&b| b == 0xa5));
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn a_release_in_flight_is_safe() {
    let model = load(&tiny_path("base"));
    let options = lb_blend_options { steps: 30, width: 64, height: 64, ..small_options() };
    let mut alone = vec![0u8; 64 * 64 * 3];
    let wanted = session(model, &options);
    let target = image(&mut alone, 64, 64);
    // SAFETY: as the header asks.
    succeed(|e| unsafe { lb_session_render(wanted, 0.3, &target, null(), e) });
    lb_session_release(wanted);
    let cancel = lb_cancel_new();
    for round in 0..6 {
        let session = session(model, &options);
        let address = session.addr();
        let token = cancel.addr();
        let work = std::thread::spawn(move || {
            let session = std::ptr::without_provenance_mut::<lb_session>(address);
            let mut pixels = vec![0u8; 64 * 64 * 3];
            let image = image(&mut pixels, 64, 64);
            let call = lb_call { cancel: std::ptr::without_provenance_mut(token), ..empty() };
            // SAFETY: as the header asks; the handle may be stale by now, which is no more than an error.
            let status = outcome(|e| unsafe { lb_session_render(session, 0.3, &image, &call, e) });
            (status, pixels)
        });
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        lb_session_release(session);
        if round == 5 {
            lb_model_release(model);
            lb_cancel_release(cancel);
        }
        let (status, pixels) = work.join().unwrap();
        match status.0 {
            LB_OK => assert_eq!(pixels, alone, "another frame"),
            status => assert_eq!(status, INVALID),
        }
    }
    assert!(lb_model_retain(model).is_null());
}

#[test]
fn every_function_of_the_header_is_called_here() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(root.join("include/latentblend.h")).unwrap();
    let read = |name: &str| std::fs::read_to_string(root.join("tests").join(name)).unwrap();
    let files = ["capi_bad_input.rs", "capi.rs", "capi_info.rs", "capi_images.rs", "capi_time.rs"];
    let here: String = files.into_iter().map(read).collect();
    // None of these takes anything that could be bad.
    let plain = ["lb_version", "lb_abi_version", "lb_version_string", "lb_device_count"];
    let mut seen = 0;
    for name in common::c::functions(&header) {
        seen += 1;
        // By a call of its own, or handed to one that makes the struct.
        let called = ["(", ",", ")"].iter().any(|end| here.contains(&format!("{name}{end}")));
        assert!(called || plain.contains(&name.as_str()), "{name} is not tested with bad input");
    }
    assert!(seen >= 30, "only {seen} functions were found");
}

/// Runs the tests of this file in a process of their own, whose output is looked at.
#[test]
fn nothing_is_printed() {
    const CHILD: &str = "LATENTBLEND_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--test-threads", "1", "every_", "bad_", "a_release"])
        .env(CHILD, "1")
        .env_remove("LATENTBLEND_LOG")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "something was printed");
    // What is left is the test harness's own.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let own = line.is_empty() || line.starts_with("running ") || line.starts_with("test ");
        assert!(own, "printed: {line}");
    }
}
