//! The C surface, called as C calls it.
#![cfg(feature = "demo")]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use latentblend::capi::*;
use latentblend::{
    BlendOptions, Call, Crossfeed, Keyframe, LatentMix, Look, Model, Preset, Sampler, Session,
};
use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

/// The status and message of a call, its error freed.
fn failure(call: impl FnOnce(*mut *mut lb_error) -> lb_status) -> (lb_status, String) {
    let mut error = null_mut();
    let status = call(&mut error);
    assert_eq!(error.is_null(), status == LB_OK, "an error without a failure, or the reverse");
    if error.is_null() {
        return (status, String::new());
    }
    assert_eq!(lb_error_status(error), status);
    // SAFETY: the error is alive.
    let message = unsafe { CStr::from_ptr(lb_error_message(error)) }.to_str().unwrap().to_owned();
    lb_error_free(error);
    assert_eq!(lb_error_status(error), LB_ERROR_INVALID_ARGUMENT, "a freed error is none");
    lb_error_free(error);
    (status, message)
}

fn succeed(call: impl FnOnce(*mut *mut lb_error) -> lb_status) {
    assert_eq!(failure(call), (LB_OK, String::new()));
}

fn demo() -> *mut lb_model {
    let mut model = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe { lb_model_load(null(), null(), null(), &mut model, error) });
    model
}

fn options() -> lb_blend_options {
    let mut options = std::mem::MaybeUninit::uninit();
    // SAFETY: the size is that of the memory.
    unsafe {
        lb_blend_options_init(options.as_mut_ptr(), size_of::<lb_blend_options>());
        options.assume_init()
    }
}

fn keyframe(prompt: &CStr, seed: u64) -> lb_keyframe {
    let struct_size = size_of::<lb_keyframe>();
    // SAFETY: all zeros are a keyframe.
    let empty: lb_keyframe = unsafe { std::mem::zeroed() };
    lb_keyframe { struct_size, prompt: prompt.as_ptr(), seed, ..empty }
}

fn session(model: *mut lb_model) -> *mut lb_session {
    let frames = [keyframe(c"a castle at dusk", 1), keyframe(c"a lake by day", 2)];
    let pointers = [&raw const frames[0], &raw const frames[1]];
    let options = lb_blend_options { preset: LB_PRESET_LOWEST, ..options() };
    let mut session = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 2, &options, &mut session, error)
    });
    session
}

fn image(pixels: &mut [u8], width: u32, height: u32) -> lb_image {
    let mut image = std::mem::MaybeUninit::uninit();
    // SAFETY: the size is that of the memory.
    let mut image: lb_image = unsafe {
        lb_image_init(image.as_mut_ptr(), size_of::<lb_image>());
        image.assume_init()
    };
    image.data = pixels.as_mut_ptr().cast();
    (image.width, image.height, image.row_bytes) = (width, height, width as isize * 3);
    image.format = LB_FORMAT_RGB_U8;
    image
}

#[test]
fn a_frame_is_that_of_the_rust_library() {
    let model = demo();
    let session = session(model);
    // The order of releases doesn't matter.
    lb_model_release(model);
    let mut info = lb_session_info {
        struct_size: size_of::<lb_session_info>(),
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: as the header asks.
    succeed(|error| unsafe { lb_session_get_info(session, &mut info, error) });
    assert_eq!((info.width, info.height, info.last_t, info.steps), (128, 128, 1.0, 12));
    succeed(|error| unsafe { lb_session_prepare(session, null(), error) });
    let mut pixels = vec![0; 128 * 128 * 3];
    let image = image(&mut pixels, 128, 128);
    succeed(|error| unsafe { lb_session_render(session, 0.4, &image, null(), error) });
    lb_session_release(session);

    let keyframes = [Keyframe::new("a castle at dusk", 1), Keyframe::new("a lake by day", 2)];
    let options = BlendOptions { preset: Preset::Lowest, ..BlendOptions::default() };
    let model = Model::demo(&Call::new()).unwrap();
    let frame = Session::new(&model, &keyframes, &options).unwrap().render(0.4, &Call::new());
    assert_eq!(pixels, frame.unwrap().to_rgb8());
}

#[test]
fn sampler_look_and_crossfeeds_reach_the_frame() {
    let model = demo();
    let rust = Model::demo(&Call::new()).unwrap();
    let prompts = [c"a castle at dusk", c"a lake by day"];
    let default = || BlendOptions { preset: Preset::Lowest, ..BlendOptions::default() };
    let plain = lb_blend_options { preset: LB_PRESET_LOWEST, ..options() };
    let drawn = lb_blend_options {
        branch1_crossfeed_power: 0.3,
        branch1_crossfeed_range: 0.5,
        branch1_crossfeed_decay: 0.9,
        parental_crossfeed_power: 0.4,
        parental_crossfeed_range: 1.0,
        parental_crossfeed_decay: 0.2,
        sampler: LB_SAMPLER_DPM_SOLVER_2M,
        latent_mix: LB_LATENT_MIX_ARC,
        ..plain
    };
    let looked = lb_blend_options { look: LB_LOOK_COMPAT_2023, ..plain };
    let cases = [
        (
            drawn,
            BlendOptions {
                sampler: Sampler::DpmSolver2M,
                latent_mix: Some(LatentMix::Arc),
                branch1_crossfeed: Some(Crossfeed::new(0.3, 0.5, 0.9)),
                parental_crossfeed: Some(Crossfeed::new(0.4, 1.0, 0.2)),
                ..default()
            },
        ),
        (looked, BlendOptions { look: Look::Compat2023, ..default() }),
    ];
    let mut frames = Vec::new();
    for (raw, options) in cases {
        let given = [keyframe(prompts[0], 1), keyframe(prompts[1], 2)];
        let pointers = [&raw const given[0], &raw const given[1]];
        let mut session = null_mut();
        // SAFETY: as the header asks.
        succeed(|error| unsafe {
            lb_session_new(model, pointers.as_ptr(), 2, &raw const raw, &mut session, error)
        });
        let mut pixels = vec![0; 128 * 128 * 3];
        let image = image(&mut pixels, 128, 128);
        succeed(|error| unsafe { lb_session_render(session, 0.9, &image, null(), error) });
        lb_session_release(session);
        let named = [(prompts[0], 1), (prompts[1], 2)];
        let named = named.map(|(prompt, seed)| Keyframe::new(prompt.to_str().unwrap(), seed));
        let frame = Session::new(&rust, &named, &options).unwrap().render(0.9, &Call::new());
        assert_eq!(pixels, frame.unwrap().to_rgb8());
        frames.push(pixels);
    }
    assert_ne!(frames[0], frames[1]);
    lb_model_release(model);
}

#[test]
fn handles_that_are_none_are_errors_and_nothing_worse() {
    let model = demo();
    let session = session(model);
    let mut pixels = vec![7; 128 * 128 * 3];
    let image = image(&mut pixels, 128, 128);
    let render = |handle: *mut c_void| {
        failure(|error| unsafe { lb_session_render(handle.cast(), 0.5, &image, null(), error) })
    };
    let stale = |message: &str| (LB_ERROR_INVALID_ARGUMENT, message.to_owned());
    assert_eq!(render(null_mut()), stale("session is NULL"));
    assert_eq!(render(model.cast()), stale("session is not a live lb_session"));
    assert_eq!(render(std::ptr::dangling_mut()), stale("session is not a live lb_session"));
    assert_eq!(lb_session_retain(session), session);
    lb_session_release(session);
    lb_session_release(session);
    assert_eq!(render(session.cast()), stale("session is not a live lb_session"));
    lb_session_release(session);
    lb_session_purge(session);
    assert!(lb_session_retain(session).is_null());
    lb_model_release(null_mut());
    lb_model_release(model);
    assert!(lb_model_retain(model).is_null());
    assert!(pixels.iter().all(|&p| p == 7), "a failed call wrote pixels");
}

#[test]
fn bad_arguments_are_named_and_nothing_is_written() {
    let model = demo();
    let session = session(model);
    let mut pixels = vec![7; 128 * 128 * 3];
    let good = image(&mut pixels, 128, 128);
    let render = |t: f64, image: &lb_image| {
        failure(|error| unsafe { lb_session_render(session, t, image, null(), error) })
    };
    let cases: [(lb_status, lb_image, f64, &str); 13] = [
        (LB_ERROR_INVALID_ARGUMENT, good, f64::NAN, "t NaN"),
        (LB_ERROR_INVALID_ARGUMENT, good, -0.5, "t -0.5: wanted 0 to 1"),
        (LB_ERROR_INVALID_ARGUMENT, good, f64::INFINITY, "t inf"),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { width: 64, ..good }, 0.5, "64x128"),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { width: 0, ..good }, 0.5, ""),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { width: u32::MAX, ..good }, 0.5, ""),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { data: null_mut(), ..good }, 0.5, ""),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { row_bytes: 100, ..good }, 0.5, ""),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { format: 77, ..good }, 0.5, "0x004d"),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { transfer: 9, ..good }, 0.5, "9"),
        (LB_ERROR_INVALID_ARGUMENT, lb_image { memory: 5, ..good }, 0.5, "memory 5"),
        (LB_ERROR_UNSUPPORTED, lb_image { memory: LB_MEMORY_CUDA, ..good }, 0.5, "CUDA"),
        (LB_ERROR_UNSUPPORTED, lb_image { flags: 2, ..good }, 0.5, "flags 0x2"),
    ];
    for (status, image, t, text) in cases {
        let (got, message) = render(t, &image);
        assert_eq!(got, status, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    let none = failure(|error| unsafe { lb_session_render(session, 0.5, null(), null(), error) });
    assert_eq!(none, (LB_ERROR_INVALID_ARGUMENT, "lb_image is NULL".into()));
    // Without a place for the error the status still tells.
    let bad = lb_image { format: 77, ..good };
    let status = unsafe { lb_session_render(session, 0.5, &bad, null(), null_mut()) };
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);

    let mut out = std::ptr::dangling_mut::<lb_session>();
    let before = out;
    let prompt = CString::new([b'a', 0xff]).unwrap();
    let frames = [keyframe(&prompt, 1)];
    let pointers = [&raw const frames[0]];
    let new = |keyframes, count, options: &lb_blend_options, out: *mut *mut lb_session| {
        failure(|error| unsafe { lb_session_new(model, keyframes, count, options, out, error) })
    };
    let (status, message) = new(pointers.as_ptr(), 1, &options(), &mut out);
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(message.starts_with("lb_keyframe.prompt is not UTF-8"), "{message}");
    let good = [keyframe(c"a lake", 1)];
    let good = [&raw const good[0]];
    for (change, text) in [
        (
            lb_blend_options { width: 500, height: 64, ..options() },
            "width 500 is not a multiple of 8",
        ),
        (lb_blend_options { preset: 0, ..options() }, "preset 0"),
        (lb_blend_options { look: 7, ..options() }, "look 7"),
        (lb_blend_options { sampler: 0, ..options() }, "sampler 0: wanted an LB_SAMPLER value"),
        (
            lb_blend_options { branch1_crossfeed_power: -0.5, ..options() },
            "power -0.5: wanted 0 to 1",
        ),
        (
            lb_blend_options { parental_crossfeed_power: f64::NAN, ..options() },
            "parental crossfeed power NaN",
        ),
        (
            lb_blend_options {
                parental_crossfeed_power: 0.5,
                parental_crossfeed_range: 2.0,
                ..options()
            },
            "parental crossfeed range 2: wanted 0 to 1",
        ),
        (
            lb_blend_options {
                sampler: LB_SAMPLER_DPM_SOLVER_2M,
                look: LB_LOOK_COMPAT_2023,
                ..options()
            },
            "sampler dpm++2m: compat 2023 has ddim",
        ),
        (
            lb_blend_options {
                latent_mix: LB_LATENT_MIX_BANDS,
                look: LB_LOOK_COMPAT_2022,
                ..options()
            },
            "latent mix bands: compat 2022 has arc",
        ),
        (lb_blend_options { depth: f64::NAN, ..options() }, "depth NaN"),
        (lb_blend_options { guidance: -1.0, ..options() }, "guidance scale -1"),
        (lb_blend_options { levels: 3, ..options() }, "NULL, with a count of 3"),
        (lb_blend_options { levels: u64::MAX, ..options() }, "wanted up to"),
        (lb_blend_options { struct_size: 4, ..options() }, "lb_blend_options.struct_size is 4"),
    ] {
        let (status, message) = new(good.as_ptr(), 1, &change, &mut out);
        assert_eq!(status, LB_ERROR_INVALID_ARGUMENT, "{message}");
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
    assert_eq!(new(null(), 1, &options(), &mut out).1, "keyframes is NULL, with a count of 1");
    assert_eq!(new(good.as_ptr(), 0, &options(), &mut out).1, "0 keyframes: wanted 1 to 10000");
    assert_eq!(new(good.as_ptr(), 1, &options(), null_mut()).1, "session is NULL");
    assert_eq!(out, before, "a failed call wrote its out parameter");
    assert!(pixels.iter().all(|&p| p == 7), "a failed call wrote pixels");
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn structs_may_be_shorter_or_longer() {
    let model = demo();
    #[repr(C)]
    struct Longer {
        known: lb_keyframe,
        later: [u64; 2],
    }
    let prompt = c"a lake";
    let mut longer = Longer { known: keyframe(prompt, 1), later: [0; 2] };
    longer.known.struct_size = size_of::<Longer>();
    let mut session = null_mut();
    let new = |longer: &Longer, session: &mut *mut lb_session| {
        let pointers = [&raw const longer.known];
        failure(|error| unsafe {
            lb_session_new(model, pointers.as_ptr(), 1, null(), session, error)
        })
    };
    assert_eq!(new(&longer, &mut session).0, LB_OK, "a tail of zeros is nothing new");
    lb_session_release(session);
    longer.later[1] = 5;
    let (status, message) = new(&longer, &mut session);
    assert_eq!(status, LB_ERROR_UNSUPPORTED);
    assert!(message.contains("lb_keyframe sets a field at byte 80"), "{message}");
    lb_model_release(model);
}

#[test]
fn a_call_is_watched_and_cancelled() {
    extern "C" fn count(user: *mut c_void, progress: *const lb_progress) -> i32 {
        // SAFETY: the test hands over a counter, and the library a report.
        let (counter, progress) = unsafe { (&mut *user.cast::<(u32, u32)>(), &*progress) };
        assert!((0.0..=1.0).contains(&progress.fraction));
        counter.0 += 1;
        i32::from(counter.0 > counter.1)
    }
    let model = demo();
    let session = session(model);
    let mut counter = (0u32, 3u32);
    let mut call = lb_call {
        struct_size: size_of::<lb_call>(),
        cancel: null_mut(),
        progress: Some(count),
        user: (&raw mut counter).cast(),
    };
    let (status, message) = failure(|error| unsafe { lb_session_prepare(session, &call, error) });
    assert_eq!((status, counter.0), (LB_ERROR_CANCELLED, 4), "{message}");
    call.progress = None;
    call.cancel = lb_cancel_new();
    assert!(!lb_cancel_requested(call.cancel));
    lb_cancel_request(call.cancel);
    assert!(lb_cancel_requested(call.cancel));
    let (status, _) = failure(|error| unsafe { lb_session_prepare(session, &call, error) });
    assert_eq!(status, LB_ERROR_CANCELLED);
    lb_cancel_release(call.cancel);
    let (status, message) = failure(|error| unsafe { lb_session_prepare(session, &call, error) });
    assert_eq!(
        (status, message.as_str()),
        (LB_ERROR_INVALID_ARGUMENT, "lb_call.cancel is not a live lb_cancel")
    );
    succeed(|error| unsafe { lb_session_prepare(session, null(), error) });
    lb_session_release(session);
    lb_model_release(model);
}

#[test]
fn placement_and_bottom_up_rows_reach_the_frame() {
    let model = demo();
    let session = session(model);
    let mut top_down = vec![0; 128 * 128 * 3];
    let plain = image(&mut top_down, 128, 128);
    succeed(|error| unsafe { lb_session_render(session, 0.5, &plain, null(), error) });
    let mut bottom_up = vec![0u8; 128 * 128 * 3];
    let mut flipped = image(&mut bottom_up, 128, 128);
    flipped.data = bottom_up[127 * 128 * 3..].as_mut_ptr().cast();
    flipped.row_bytes = -(128 * 3);
    succeed(|error| unsafe { lb_session_render(session, 0.5, &flipped, null(), error) });
    assert!(top_down.chunks(384).eq(bottom_up.chunks(384).rev()));
    // A window of the frame's own size is the frame's pixels.
    let mut part = vec![0u8; 32 * 16 * 3];
    let placement = lb_placement {
        struct_size: size_of::<lb_placement>(),
        bounds: [0, 0, 128, 128],
        window: [8, 100, 40, 116],
        fit: LB_FIT_CROP,
        filter: LB_FILTER_LANCZOS,
        pixel_aspect: 1.0,
    };
    let placed = lb_image { placement: &placement, ..image(&mut part, 32, 16) };
    succeed(|error| unsafe { lb_session_render(session, 0.5, &placed, null(), error) });
    let wanted = top_down.chunks(384).skip(100).take(16).flat_map(|row| &row[24..120]);
    assert!(part.iter().eq(wanted));
    // A bad second image is known before the first is written, and before the work.
    let mut first = vec![7u8; 128 * 128 * 3];
    let (good, empty) =
        (image(&mut first, 128, 128), lb_placement { window: [8, 8, 8, 8], ..placement });
    let bad = lb_image { placement: &empty, ..placed };
    let (times, images) = ([0.5, 0.5], [&raw const good, &raw const bad]);
    let (status, message) = failure(|error| unsafe {
        lb_session_render_many(session, times.as_ptr(), images.as_ptr(), 2, null(), error)
    });
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(message.starts_with("window [8, 8, 8, 8]: empty"), "{message}");
    assert!(first.iter().all(|&p| p == 7), "a failed call wrote pixels");
    let unknown = lb_placement { fit: 9, ..placement };
    let placed = lb_image { placement: &unknown, ..placed };
    let (status, message) =
        failure(|error| unsafe { lb_session_render(session, 0.5, &placed, null(), error) });
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert!(message.contains("fit 9"), "{message}");
    lb_session_release(session);
    lb_model_release(model);
}
