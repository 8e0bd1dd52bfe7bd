//! Structs of older and newer callers: shorter and longer ones are read and written as far as they go.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{
    empty, image, keyframe, load, made, outcome, session, small_options, succeed, tiny_path,
};
use latentblend::capi::*;
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

const INVALID: lb_status = LB_ERROR_INVALID_ARGUMENT;

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
fn nothing_is_printed() {
    common::c::prints_nothing(&["every_", "a_shorter"]);
}
