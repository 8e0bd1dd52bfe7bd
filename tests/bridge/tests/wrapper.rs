//! `latentblend.hpp`, driven from Rust.
#![allow(clippy::unwrap_used, reason = "a test")]

use latentblend::{BlendOptions, Call, Keyframe, Model, Preset, Session};
use latentblend_bridge::{Lines, Watcher, ffi};

const FRAMES: [ffi::Frame<'static>; 2] = [
    ffi::Frame { prompt: "a castle at dusk", negative_prompt: "rain", seed: 1 },
    ffi::Frame { prompt: "a lake by day", negative_prompt: "", seed: 2 },
];

fn small() -> cxx::UniquePtr<ffi::Session> {
    ffi::session(&ffi::demo().unwrap(), &FRAMES, 64, 48).unwrap()
}

fn message<T>(result: Result<T, cxx::Exception>) -> String {
    match result {
        Ok(_) => panic!("it went well"),
        Err(error) => error.what().to_owned(),
    }
}

#[test]
fn a_frame_through_cpp_is_that_of_rust() {
    let session = small();
    let keyframes =
        [Keyframe::new("a castle at dusk", 1).negative("rain"), Keyframe::new("a lake by day", 2)];
    let options =
        BlendOptions { preset: Preset::Lowest, size: Some([64, 48]), ..BlendOptions::default() };
    let model = Model::demo(&Call::new()).unwrap();
    let rust = Session::new(&model, &keyframes, &options).unwrap();
    let wanted: Vec<Vec<u8>> =
        [0.4, 0.0, 1.0].iter().map(|&t| rust.render(t, &Call::new()).unwrap().to_rgb8()).collect();
    assert_eq!(ffi::render(&session, 0.4).unwrap(), wanted[0]);
    assert_eq!(ffi::render_many(&session, &[0.4, 0.0, 1.0]).unwrap(), wanted.concat());
    assert!(ffi::render_many(&session, &[]).unwrap().is_empty());
    let upward = ffi::render_bottom_up(&session, 0.4).unwrap();
    assert!(upward.chunks(64 * 3).rev().flatten().eq(&wanted[0]));
    assert_eq!(ffi::version(), latentblend::capi::lb_version());
}

#[test]
fn what_c_refuses_is_an_exception_with_status_and_message() {
    let session = small();
    assert_eq!(message(ffi::render(&session, f64::NAN)), "t NaN: wanted 0 to 1");
    let mut text = String::new();
    assert_eq!(ffi::render_status(&session, 2.0, &mut text), 1);
    assert_eq!(text, "t 2: wanted 0 to 1");
    assert_eq!(ffi::render_status(&session, 0.5, &mut text), 0);
    let model = ffi::demo().unwrap();
    let odd = ffi::session(&model, &FRAMES, 500, 64);
    assert_eq!(message(odd), "width 500 is not a multiple of 8");
    assert_eq!(message(ffi::session(&model, &[], 0, 0)), "0 keyframes: wanted 1 to 10000");
    assert!(message(ffi::load("no/such/place")).contains("no/such/place"));
    // What C would cut off is refused before C sees it.
    assert_eq!(message(ffi::load("a\0b")), "path holds a NUL");
    let frame = ffi::Frame { prompt: "a\0b", negative_prompt: "", seed: 1 };
    assert_eq!(message(ffi::session(&model, &[frame], 0, 0)), "prompt holds a NUL");
}

#[test]
fn what_a_callback_throws_ends_its_call_and_arrives() {
    let session = small();
    let mut quiet = Watcher::default();
    let frame = ffi::render_watched(&session, 0.5, &mut quiet).unwrap();
    assert!(quiet.fractions.is_sorted() && quiet.fractions.len() > 3, "{:?}", quiet.fractions);
    session.purge();
    let mut failing = Watcher { fail_at: Some(2), ..Watcher::default() };
    let thrown = message(ffi::render_watched(&session, 0.5, &mut failing));
    assert_eq!(thrown, "the watcher failed at report 2");
    assert_eq!(failing.fractions.len(), 2, "it was told more after it had thrown");
    let mut cancelling = Watcher { cancel_at: Some(2), ..Watcher::default() };
    let cancelled = message(ffi::render_watched(&session, 0.5, &mut cancelling));
    assert_eq!(cancelled, "the call was cancelled");
    // The session goes on as if nothing had been.
    assert_eq!(ffi::render(&session, 0.5).unwrap(), frame);
}

#[test]
fn a_token_stops_a_call_from_another_thread_and_stays_requested() {
    let (session, token) = (small(), ffi::cancel().unwrap());
    assert!(!token.requested());
    let result = std::thread::scope(|scope| {
        let preparing = scope.spawn(|| ffi::prepare(&session, &token).map_err(|e| e.to_string()));
        token.request();
        preparing.join().unwrap()
    });
    assert!(token.requested());
    assert_eq!(result, Err("the call was cancelled".to_owned()));
    assert_eq!(message(ffi::prepare(&session, &token)), "the call was cancelled");
    let before = ffi::evaluations(&session).unwrap();
    ffi::prepare(&session, &ffi::cancel().unwrap()).unwrap();
    assert!(ffi::evaluations(&session).unwrap() < before);
}

#[test]
fn owners_move_and_share() {
    let model = ffi::demo().unwrap();
    let same = ffi::share_model(&model).unwrap();
    drop(model);
    let mut session = ffi::session(&same, &FRAMES, 64, 48).unwrap();
    drop(same);
    let moved = ffi::move_out(session.pin_mut());
    assert_eq!(message(ffi::render(&session, 0.5)), "session is NULL");
    assert_eq!(message(ffi::share(&session)), "there is no object to share");
    let shared = ffi::share(&moved).unwrap();
    let frame = ffi::render(&moved, 0.5).unwrap();
    drop(moved);
    assert_eq!(ffi::render(&shared, 0.5).unwrap(), frame);
}

#[test]
fn a_log_is_told_and_what_it_throws_is_kept() {
    let model = ffi::demo().unwrap();
    let long = "mountain ".repeat(90);
    let mut lines = Lines::default();
    ffi::logged(&model, &long, &mut lines).unwrap();
    assert!(lines.0.iter().any(|l| l.starts_with("2 no room for the end")), "{lines:?}");
    assert_eq!(message(ffi::log_that_throws(&model, &long)), "the log is full");
    // Nobody listens any more.
    let told = lines.0.len();
    ffi::session(&model, &[ffi::Frame { prompt: &long, negative_prompt: "", seed: 1 }], 0, 0)
        .unwrap();
    assert_eq!(lines.0.len(), told);
}
