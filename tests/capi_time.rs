//! Time, guidance, extending and files, called as C calls them.
#![cfg(feature = "demo")]
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod common;

use common::c::{keyframe, made, outcome, succeed};
use latentblend::capi::*;
use latentblend::{
    Adapt, BlendOptions, Call, Distance, Easing, Even, Keyframe, Model, Pace, Preset, Segment,
    Session, Timing,
};
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

const PROMPTS: [(&CStr, u64); 3] =
    [(c"a castle at dusk", 1), (c"a lake by day", 2), (c"a red house", 3)];

fn demo() -> *mut lb_model {
    let mut model = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe { lb_model_load(null(), null(), null(), &mut model, error) });
    model
}

fn options() -> lb_blend_options {
    let (width, height) = (64, 64);
    lb_blend_options { preset: LB_PRESET_LOWEST, width, height, ..made(lb_blend_options_init) }
}

fn session(model: *mut lb_model, options: &lb_blend_options) -> *mut lb_session {
    let frames = PROMPTS.map(|(prompt, seed)| keyframe(prompt, seed));
    let pointers = [&raw const frames[0], &raw const frames[1], &raw const frames[2]];
    let mut session = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 3, options, &mut session, error)
    });
    session
}

fn rust(change: impl FnOnce(&mut BlendOptions)) -> Session {
    let keyframes = PROMPTS.map(|(prompt, seed)| Keyframe::new(prompt.to_str().unwrap(), seed));
    let mut options =
        BlendOptions { preset: Preset::Lowest, size: Some([64, 64]), ..BlendOptions::default() };
    change(&mut options);
    Session::new(&Model::demo(&Call::new()).unwrap(), &keyframes, &options).unwrap()
}

fn pixels(session: *mut lb_session, t: f64) -> Vec<u8> {
    let mut pixels = vec![0; 64 * 64 * 3];
    let mut image: lb_image = made(lb_image_init);
    image.data = pixels.as_mut_ptr().cast();
    (image.width, image.height, image.row_bytes) = (64, 64, 64 * 3);
    image.format = LB_FORMAT_RGB_U8;
    succeed(|error| unsafe { lb_session_render(session, t, &image, null(), error) });
    pixels
}

fn of_rust(session: &Session, t: f64) -> Vec<u8> {
    session.render(t, &Call::new()).unwrap().to_rgb8()
}

fn frame_times(session: *mut lb_session, count: usize) -> Vec<f64> {
    let mut times = vec![f64::NAN; count];
    succeed(|error| unsafe { lb_session_frame_times(session, count, times.as_mut_ptr(), error) });
    times
}

fn curve(x: &[f64], y: &[f64]) -> lb_curve {
    lb_curve {
        struct_size: size_of::<lb_curve>(),
        x: x.as_ptr(),
        y: y.as_ptr(),
        count: x.len() as u64,
        interpolation: LB_INTERPOLATION_LINEAR,
        flags: 0,
    }
}

#[test]
fn a_loop_and_guidance_over_time_are_those_of_the_rust_library() {
    let model = demo();
    let (x, y) = ([0.0, 1.0, 3.0], [3.0, 6.0, 3.0]);
    let over_t = curve(&x, &y);
    let options = lb_blend_options {
        looped: 1,
        guided_steps: 7,
        guidance_rescale: 0.5,
        guidance_over_t: &over_t,
        ..options()
    };
    let ring = session(model, &options);
    let mut info = lb_session_info {
        struct_size: size_of::<lb_session_info>(),
        // SAFETY: numbers may be zero.
        ..unsafe { std::mem::zeroed() }
    };
    succeed(|error| unsafe { lb_session_get_info(ring, &mut info, error) });
    assert_eq!((info.last_t, info.segments, info.looped), (3.0, 3, 1));
    assert_eq!(frame_times(ring, 6), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    let wanted = rust(|o| {
        o.looped = true;
        o.guided_steps = Some(7);
        o.guidance_rescale = 0.5;
        let points: Vec<[f64; 2]> = x.iter().zip(y).map(|(&x, y)| [x, y]).collect();
        let linear = latentblend::Interpolation::Linear;
        o.guidance_over_t = Some(latentblend::Curve::new(&points, linear).unwrap());
    });
    assert_eq!(pixels(ring, 2.4), of_rust(&wanted, 2.4));
    let mut about: lb_model_info = unsafe { std::mem::zeroed() };
    about.struct_size = size_of::<lb_model_info>();
    succeed(|error| unsafe { lb_model_get_info(model, &mut about, error) });
    // Two keyframes over 8 steps and a frame over 4, of which the first seven are guided.
    assert_eq!(about.samples, 2 * (2 * 7 + 1) + 4);
    let bad = curve(&[1.0, 0.0], &y);
    let frames = PROMPTS.map(|(prompt, seed)| keyframe(prompt, seed));
    let pointers = [&raw const frames[0]];
    let mut out = null_mut();
    let bad = lb_blend_options { guidance_over_t: &bad, looped: 0, ..options };
    let (status, message) = outcome(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 1, &bad, &mut out, error)
    });
    assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
    assert_eq!(message, "a curve with x 0 after 1: wanted rising x");
    lb_session_release(ring);
    lb_model_release(model);
}

#[test]
fn time_is_that_of_the_rust_library() {
    let model = demo();
    let plain = session(model, &options());
    let ours = rust(|_| {});
    let timed = |timing: &lb_timing| {
        let mut timed = null_mut();
        succeed(|error| unsafe { lb_session_timed(plain, timing, null(), &mut timed, error) });
        timed
    };
    let (lengths, easings) = ([1.0, 3.0], [LB_EASING_IN, LB_EASING_LINEAR]);
    let own = curve(&[0.0, 0.5, 1.0], &[0.0, 0.2, 1.0]);
    let curves = [null(), &raw const own];
    let even = lb_timing {
        pace: LB_PACE_EVEN,
        distance: LB_DISTANCE_LATENTS,
        samples: 9,
        lengths: lengths.as_ptr(),
        easings: easings.as_ptr(),
        easing_curves: curves.as_ptr(),
        segments: 2,
        ..made(lb_timing_init)
    };
    let points = [[0.0, 0.0], [0.5, 0.2], [1.0, 1.0]];
    let linear = latentblend::Interpolation::Linear;
    let easing = Easing::Curve(latentblend::Curve::new(&points, linear).unwrap());
    let measure = Even { distance: Distance::Latents, samples: 9, across: false };
    let wanted = Timing {
        pace: Pace::Even(measure.clone()),
        segments: vec![
            Segment { length: 1.0, easing: Easing::In },
            Segment { length: 3.0, easing },
        ],
    };
    let wanted = ours.timed(&wanted, &Call::new()).unwrap();
    let handle = timed(&even);
    assert_eq!(frame_times(handle, 17), wanted.timeline().frames(17));
    let mut t = 0.0;
    succeed(|error| unsafe { lb_session_t_at(handle, 0.4, &mut t, error) });
    assert_eq!(t, wanted.timeline().t(0.4));
    let mut changes = [0.0; 8];
    succeed(|error| unsafe {
        let room = changes.len();
        let kind = LB_DISTANCE_LATENTS;
        lb_session_changes(handle, 9, kind, null(), changes.as_mut_ptr(), room, null(), error)
    });
    assert_eq!(&changes[..], wanted.changes(9, &Distance::Latents, &Call::new()).unwrap());
    lb_session_release(handle);
    let linear = timed(&lb_timing { pace: LB_PACE_LINEAR, ..made(lb_timing_init) });
    assert_eq!(frame_times(linear, 5), [0.0, 0.5, 1.0, 1.5, 2.0]);
    lb_session_release(linear);

    let mut adapted = null_mut();
    let adapt = lb_adapt { samples: 9, distance: LB_DISTANCE_LATENTS, ..made(lb_adapt_init) };
    succeed(|error| unsafe { lb_session_adapted(plain, &adapt, null(), &mut adapted, error) });
    let wanted = ours.adapted(&Adapt { even: measure, strength: 1.0 }, &Call::new()).unwrap();
    assert_eq!(pixels(adapted, 0.3), of_rust(&wanted, 0.3));
    lb_session_release(adapted);

    let mut out = null_mut();
    let mut refused = |timing: &lb_timing| {
        let call = |error: *mut *mut lb_error| unsafe {
            lb_session_timed(plain, timing, null(), &mut out, error)
        };
        let (status, message) = outcome(call);
        assert_eq!(status, LB_ERROR_INVALID_ARGUMENT);
        message
    };
    let good: lb_timing = made(lb_timing_init);
    assert_eq!(refused(&lb_timing { pace: 9, ..good }), "pace 9: wanted an LB_PACE value");
    assert_eq!(
        refused(&lb_timing { distance: 9, ..good }),
        "distance 9: wanted an LB_DISTANCE value"
    );
    assert_eq!(
        refused(&lb_timing { distance: LB_DISTANCE_LPIPS, ..good }),
        "lpips is not a live lb_lpips"
    );
    assert_eq!(
        refused(&lb_timing { pace: LB_PACE_CURVE, ..good }),
        "lb_timing.curve is NULL, with LB_PACE_CURVE"
    );
    let three = lb_timing { lengths: lengths.as_ptr(), segments: 1, ..good };
    assert_eq!(refused(&three), "timing of 1 segments: the transition has 2");
    assert!(refused(&lb_timing { segments: u64::MAX, ..good }).contains("segments"));
    assert_eq!(refused(&lb_timing { samples: 1, ..good }), "1 samples: wanted 2 to 4097");
    assert!(out.is_null(), "a failed call wrote its out parameter");
    lb_session_release(plain);
    lb_model_release(model);
}

#[test]
fn an_extension_and_a_file_are_those_of_the_rust_library() {
    let model = demo();
    let first = session(model, &options());
    let mut extended = null_mut();
    let to = keyframe(c"a snowy mountain", 9);
    succeed(|error| unsafe { lb_session_extend(first, 0.6, &to, null(), &mut extended, error) });
    let before = pixels(first, 0.6);
    lb_session_release(first);
    assert_eq!(pixels(extended, 0.0), before);
    let ours = rust(|_| {});
    let wanted = ours.extend(0.6, &Keyframe::new("a snowy mountain", 9), &Call::new()).unwrap();
    assert_eq!(pixels(extended, 0.5), of_rust(&wanted, 0.5));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.safetensors");
    let path = CString::new(path.to_str().unwrap()).unwrap();
    succeed(|error| unsafe { lb_session_save(extended, path.as_ptr(), null(), error) });
    let mut loaded = null_mut();
    let options: lb_restore_options = made(lb_restore_options_init);
    succeed(|error| unsafe {
        lb_session_load(model, path.as_ptr(), &options, null(), &mut loaded, error)
    });
    assert_eq!(pixels(loaded, 0.0), before);
    let mut out = null_mut();
    let (status, message) = outcome(|error| unsafe {
        lb_session_load(model, c"/nowhere/at/all".as_ptr(), null(), null(), &mut out, error)
    });
    assert_eq!(status, LB_ERROR_NOT_FOUND, "{message}");
    std::fs::write(folder.path().join("session.safetensors"), b"nothing").unwrap();
    let (status, message) = outcome(|error| unsafe {
        lb_session_load(model, path.as_ptr(), null(), null(), &mut out, error)
    });
    assert_eq!(status, LB_ERROR_BAD_MODEL, "{message}");
    let bad = lb_restore_options { flags: 3, ..options };
    let (status, _) = outcome(|error| unsafe {
        lb_session_load(model, path.as_ptr(), &bad, null(), &mut out, error)
    });
    assert_eq!(status, LB_ERROR_UNSUPPORTED);
    let (status, message) =
        outcome(|error| unsafe { lb_session_extend(loaded, 0.5, null(), null(), &mut out, error) });
    assert_eq!((status, message.as_str()), (LB_ERROR_INVALID_ARGUMENT, "lb_keyframe is NULL"));
    assert!(out.is_null(), "a failed call wrote its out parameter");
    let mut lpips = null_mut();
    let (status, _) = outcome(|error| unsafe { lb_lpips_load(path.as_ptr(), &mut lpips, error) });
    assert_eq!(status, LB_ERROR_BAD_MODEL);
    assert!(lb_lpips_retain(lpips).is_null());
    lb_lpips_release(lpips);
    lb_session_release(loaded);
    lb_session_release(extended);
    lb_model_release(model);
}

/// The C example compiles without a warning; without a compiler the test says so.
#[test]
fn the_example_in_c_compiles_without_a_warning() {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = tempfile::tempdir().unwrap();
    let run = std::process::Command::new("gcc")
        .args(["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c", "-I"])
        .arg(format!("{root}/include"))
        .arg(format!("{root}/examples/c/concatenated_transition.c"))
        .arg("-o")
        .arg(folder.path().join("example.o"))
        .output();
    match run {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{text}");
        }
        Err(error) => println!("skipped: gcc cannot be run ({error})"),
    }
}

#[test]
fn what_fills_in_defaults_leaves_bad_memory_alone() {
    // SAFETY: NULL is allowed; of the structs no more than the stated bytes may be written.
    unsafe {
        lb_timing_init(null_mut(), size_of::<lb_timing>());
        lb_adapt_init(null_mut(), size_of::<lb_adapt>());
        lb_restore_options_init(null_mut(), size_of::<lb_restore_options>());
        let mut bytes = [0x5a_5a_5a_5a_5a_5a_5a_5a_u64; 64];
        for size in [0, 1, 7, usize::MAX] {
            lb_timing_init(bytes.as_mut_ptr().cast(), size);
            lb_adapt_init(bytes.as_mut_ptr().cast(), size);
            lb_restore_options_init(bytes.as_mut_ptr().cast(), size);
        }
        assert_eq!(bytes, [0x5a_5a_5a_5a_5a_5a_5a_5a; 64]);
    }
}
