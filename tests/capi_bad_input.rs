//! What bad handles and NULL get from C: an error with a message, out parameters untouched, nothing printed, and a
//! process that goes on.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{
    empty, fail, image, keyframe, load, outcome, session, small_options, succeed, tiny_path,
};
use latentblend::capi::*;
use std::ffi::c_void;
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
        assert_eq!(lb_model_trim(model), 0);
        assert!(lb_session_retain(session).is_null());
        lb_session_purge(session);
        lb_session_release(session);
        // SAFETY: everything but the handles is as the header asks.
        unsafe {
            let mut bytes = 7;
            fail(INVALID, "model is", |e| lb_model_unload(model, &mut bytes, e));
            assert_eq!(bytes, 7, "a failed call wrote");
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
        fail(INVALID, "lb_device_info is NULL", |e| {
            lb_device_find(LB_DEVICE_BY_NAME, c"cpu".as_ptr().cast(), null_mut(), e)
        });
        fail(INVALID, "lb_image is NULL", |e| lb_copy(null(), null(), e));
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
    let files = [
        "capi_bad_input.rs",
        "capi_bad_values.rs",
        "capi_structs.rs",
        "capi.rs",
        "capi_info.rs",
        "capi_images.rs",
        "capi_time.rs",
    ];
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

#[test]
fn nothing_is_printed() {
    common::c::prints_nothing(&["every_", "a_release"]);
}
