//! `latentblend.hpp`, driven from Rust.
#![allow(clippy::unwrap_used, reason = "a test")]

use latentblend::capi::{LB_EASING_IN, LB_EASING_LINEAR, LB_PACE_EVEN, LB_PACE_LINEAR};
use latentblend::{
    Adapt, BlendOptions, Call, Distance, Easing, Even, Keyframe, Model, Pace, Preset, Segment,
    Session, Timing,
};
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

/// The same transition in Rust.
fn in_rust() -> Session {
    let keyframes =
        [Keyframe::new("a castle at dusk", 1).negative("rain"), Keyframe::new("a lake by day", 2)];
    let options =
        BlendOptions { preset: Preset::Lowest, size: Some([64, 48]), ..BlendOptions::default() };
    Session::new(&Model::demo(&Call::new()).unwrap(), &keyframes, &options).unwrap()
}

#[test]
fn time_and_branches_through_cpp_are_those_of_rust() {
    let (session, rust) = (small(), in_rust());
    let even = Even { distance: Distance::Latents, samples: 5, across: false };
    let measured = Timing { pace: Pace::Even(even.clone()), ..Timing::default() };
    let wanted = rust.timed(&measured, &Call::new()).unwrap();
    let timed = ffi::timed(&session, LB_PACE_EVEN, &[]).unwrap();
    assert_eq!(ffi::frame_times(&timed, 7).unwrap(), wanted.timeline().frames(7));
    assert!(ffi::frame_times(&timed, 0).unwrap().is_empty());
    let eased =
        Timing { pace: Pace::Linear, segments: vec![Segment { length: 1.0, easing: Easing::In }] };
    let wanted = rust.timed(&eased, &Call::new()).unwrap();
    let timed = ffi::timed(&session, LB_PACE_LINEAR, &[LB_EASING_IN]).unwrap();
    assert_eq!(ffi::frame_times(&timed, 7).unwrap(), wanted.timeline().frames(7));
    let two = ffi::timed(&session, LB_PACE_LINEAR, &[LB_EASING_LINEAR; 2]);
    assert_eq!(message(two), "timing of 2 segments: the transition has 1");
    let wanted = rust.changes(4, &Distance::Frames, &Call::new()).unwrap();
    assert_eq!(ffi::changes(&session, 4).unwrap(), wanted);
    let adapt = Adapt { even, strength: 0.5 };
    let wanted = rust.adapted(&adapt, &Call::new()).unwrap().render(0.3, &Call::new()).unwrap();
    let adapted = ffi::adapted(&session, 0.5).unwrap();
    assert_eq!(ffi::render(&adapted, 0.3).unwrap(), wanted.to_rgb8());
    assert!(message(ffi::adapted(&session, f64::NAN)).contains("strength NaN"));
}

#[test]
fn what_goes_on_and_what_was_saved_are_those_of_rust() {
    let (model, session, rust) = (ffi::demo().unwrap(), small(), in_rust());
    let to = ffi::Frame { prompt: "a red house", negative_prompt: "", seed: 3 };
    let mut quiet = Watcher::default();
    let extended = ffi::extend(&session, 0.6, &to, &mut quiet).unwrap();
    assert!(quiet.fractions.is_sorted() && !quiet.fractions.is_empty());
    let wanted = rust.extend(0.6, &Keyframe::new("a red house", 3), &Call::new()).unwrap();
    let frame = wanted.render(0.4, &Call::new()).unwrap().to_rgb8();
    assert_eq!(ffi::render(&extended, 0.4).unwrap(), frame);
    session.purge();
    let mut failing = Watcher { fail_at: Some(1), ..Watcher::default() };
    let failed = message(ffi::extend(&session, 0.3, &to, &mut failing));
    assert_eq!(failed, "the watcher failed at report 1");

    let path = std::env::temp_dir().join(format!("bridge-{}.safetensors", std::process::id()));
    let path = path.to_str().unwrap();
    ffi::save(&extended, path).unwrap();
    drop(extended);
    assert_eq!(ffi::render(&ffi::restore(&model, path).unwrap(), 0.4).unwrap(), frame);
    std::fs::write(path, "nothing").unwrap();
    assert!(message(ffi::restore(&model, path)).contains("not a session's file"));
    assert!(message(ffi::load_lpips(path)).contains("not a safetensors file"));
    std::fs::remove_file(path).unwrap();
    assert!(message(ffi::restore(&model, path)).contains(path));
    assert_eq!(message(ffi::save(&session, "a\0b")), "path holds a NUL");
}

#[test]
fn a_patch_through_cpp_leaves_the_rest_as_it_is() {
    let model = ffi::demo().unwrap();
    let plate: Vec<u8> = (0..64 * 48 * 3u32).map(|i| (i * 7 % 251) as u8).collect();
    let mask: Vec<u8> = (0..64 * 48).map(|i| if i % 64 < 32 { 255 } else { 0 }).collect();
    let session = ffi::repaint(&model, &FRAMES, &plate, &mask, 64, 48).unwrap();
    let frame = ffi::render(&session, 0.5).unwrap();
    let halves = |picture: &[u8]| -> [Vec<u8>; 2] {
        let rows = || picture.chunks(64 * 3);
        [
            rows().flat_map(|r| &r[..96]).copied().collect(),
            rows().flat_map(|r| &r[96..]).copied().collect(),
        ]
    };
    let ([painted, kept], [before, wanted]) = (halves(&frame), halves(&plate));
    assert!(painted != before && kept == wanted);
    let nothing = ffi::repaint(&model, &FRAMES, &plate, &[0; 64 * 48], 64, 48);
    assert!(message(nothing).contains("the mask marks nothing"));
    assert_eq!(ffi::working_size(&model, 1920, 1080, 1.0).unwrap(), [176, 96]);
    assert_eq!(ffi::working_size(&model, 960, 1080, 2.0).unwrap(), [176, 96]);
    assert_eq!(message(ffi::working_size(&model, 960, 0, 1.0)), "height 0: wanted at least 1");
}
