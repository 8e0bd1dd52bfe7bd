//! The promises under load: many threads and many renders, cancels anywhere, frames beside a running
//! prepare, and the memory of a full-sized tree.

mod common;

use common::mixture::Mixture;
use common::watched::watched_model;
use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Call, Cancel, ErrorKind, Format, Frame, ImageMut, Keyframe, Layout, Model,
    Preset, Session, Transfer,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Numbers that are the same in every run (Steele et al. 2014, SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

const THREADS: u64 = 8;
const RENDERS: usize = 1000;

/// The bytes of a frame in several formats and colours, as a caller's image holds them.
fn pixels(frame: &Frame, kind: usize) -> Vec<u8> {
    let kinds = [
        (Format::RgbU8, Transfer::Srgb),
        (Format::RgbaU16, Transfer::Linear),
        (Format::RgbF16, Transfer::AcesCg),
        (Format::RgbaF32, Transfer::Srgb),
    ];
    let (format, transfer) = kinds[kind % kinds.len()];
    let layout = Layout::packed(frame.width(), frame.height(), format, transfer);
    let mut bytes = vec![0; frame.width() * frame.height() * format.bytes_per_pixel()];
    frame.write(&mut ImageMut::new(&mut bytes, 0, layout).unwrap(), None).unwrap();
    bytes
}

/// Eight threads, a thousand renders each, against the bytes of frames that were made one by one.
fn hammer(make: impl Fn(usize) -> Session, last_t: f64) {
    let times: Vec<f64> = (0..24).map(|i| f64::from(i) / 23.0 * last_t).collect();
    let alone = make(usize::MAX);
    let wanted: Vec<Vec<Vec<u8>>> = times
        .iter()
        .map(|&t| {
            let frame = alone.render(t, &Call::new()).unwrap();
            (0..4).map(|kind| pixels(&frame, kind)).collect()
        })
        .collect();
    // One session keeps everything, the other next to nothing, and both are purged now and then.
    let sessions = [make(usize::MAX), make(3 * 64)];
    let rendered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (times, wanted, sessions, rendered) = (&times, &wanted, &sessions, &rendered);
            scope.spawn(move || {
                let mut numbers = Numbers(thread);
                let mut left = RENDERS;
                while left > 0 {
                    let session = &sessions[numbers.below(16).min(1)];
                    match numbers.below(400) {
                        0 => session.purge(),
                        1 => session.prepare(&Call::new()).unwrap(),
                        _ => {}
                    }
                    let count = (1 + numbers.below(3)).min(left);
                    let places: Vec<usize> =
                        (0..count).map(|_| numbers.below(times.len())).collect();
                    let asked: Vec<f64> = places.iter().map(|&place| times[place]).collect();
                    let frames = session.render_many(&asked, &Call::new()).unwrap();
                    for (frame, &place) in frames.iter().zip(&places) {
                        let kind = numbers.below(4);
                        assert!(pixels(frame, kind) == wanted[place][kind], "t {}", times[place]);
                    }
                    left -= count;
                    rendered.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(rendered.into_inner(), THREADS as usize * RENDERS);
}

#[test]
fn eight_threads_with_a_thousand_renders_each_see_the_same_bytes() {
    let model = tiny("base");
    hammer(
        |cache_bytes| {
            let (keyframes, options) = short();
            let size = Some([8, 8]);
            let options = BlendOptions { cache_bytes, size, steps: Some(3), ..options };
            Session::new(&model, &keyframes, &options).unwrap()
        },
        1.0,
    );
}

/// A denoiser without weights over latents of 4x4.
fn mixture() -> Model {
    let mean = |k: usize| (0..64).map(|i| ((i * (k + 2)) as f64).sin()).collect();
    Mixture {
        weights: vec![0.2, 0.3, 0.5],
        means: (0..3).map(mean).collect(),
        sigmas: vec![0.3, 0.5, 0.8],
        prompts: (3..5).map(mean).collect(),
    }
    .model()
}

#[test]
fn eight_threads_see_the_same_bytes_of_a_chain_without_networks() {
    let model = mixture();
    hammer(
        |cache_bytes| {
            let keyframes = [Keyframe::new("0", 1), Keyframe::new("1", 2), Keyframe::new("0", 3)];
            let preset = Preset::Lowest;
            let options = BlendOptions { cache_bytes, preset, ..BlendOptions::default() };
            Session::new(&model, &keyframes, &options).unwrap()
        },
        2.0,
    );
}

#[test]
fn a_hundred_cancels_anywhere_leave_the_same_bytes() {
    let (model, log) = watched_model();
    let (keyframes, options) = short();
    let options = BlendOptions { size: Some([16, 16]), steps: Some(6), ..options };
    let make = || Session::new(&model, &keyframes, &options).unwrap();
    const TIMES: [f64; 3] = [0.25, 0.5, 0.9];
    let wanted = make().render_many(&TIMES, &Call::new()).unwrap();
    let work = |session: &Session, kind: usize, call: &Call<'_>| match kind {
        0 => session.prepare(call),
        1 => session.render(TIMES[0], call).map(|_| ()),
        2 => session.render_many(&TIMES, call).map(|_| ()),
        _ => session.latents(&TIMES, call).map(|_| ()),
    };
    // How many turns each takes from the start.
    let lengths: Vec<usize> = (0..4)
        .map(|kind| {
            let before = log.turns();
            work(&make(), kind, &Call::new()).unwrap();
            log.turns() - before
        })
        .collect();
    assert!(lengths.iter().all(|&length| length > 4), "{lengths:?}");
    let mut numbers = Numbers(100);
    // One session goes through all of it, and each cancel has a fresh one as well.
    let survivor = make();
    for round in 0..100 {
        let kind = numbers.below(4);
        let session = if round % 2 == 0 { make() } else { survivor.clone() };
        session.purge();
        let stop = log.turns() + 1 + numbers.below(lengths[kind]);
        let token = Cancel::new();
        log.on_turn({
            let token = token.clone();
            move |turn| {
                if turn == stop {
                    token.request();
                }
            }
        });
        let result = work(&session, kind, &Call::new().cancel(&token));
        log.on_turn(|_| {});
        // Prompts are known to the survivor, so that its call may be through before; the last turn's
        // cancel may come too late as well.
        match result {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                assert!(log.turns() <= stop, "turns were taken after the cancel");
            }
            Ok(()) => assert!(log.turns() <= stop, "a cancel was ignored"),
        }
        let again = session.render_many(&TIMES, &Call::new()).unwrap();
        assert!(again.iter().zip(&wanted).all(|(a, b)| same(a, b)), "after cancel {round}");
    }
}

#[test]
fn a_frame_beside_a_prepare_waits_for_the_running_step_and_no_more() {
    let (model, log) = watched_model();
    let (keyframes, options) = short();
    let options = BlendOptions { preset: Preset::Medium, size: Some([16, 16]), ..options };
    let other = BlendOptions { preset: Preset::Lowest, ..options.clone() };
    for round in 0..12 {
        let long = Session::new(&model, &keyframes, &options).unwrap();
        let frame = Session::new(&model, &keyframes, &other).unwrap();
        let at = log.turns() + 4 + 2 * round;
        // Turn `at` of the prepare lasts until the frame's call has been waiting.
        let (running, waiting) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        log.on_turn({
            let (running, waiting) = (Arc::clone(&running), Arc::clone(&waiting));
            move |turn| {
                if turn == at {
                    running.store(true, Ordering::SeqCst);
                    while !waiting.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        });
        let token = Cancel::new();
        std::thread::scope(|scope| {
            let prepare = scope.spawn(|| long.prepare(&Call::new().cancel(&token)));
            while !running.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let call = Call::new().on_progress(|_| {
                waiting.store(true, Ordering::SeqCst);
                ControlFlow::Continue(())
            });
            frame.render(0.3, &call).unwrap();
            log.on_turn(|_| {});
            token.request();
            assert_eq!(prepare.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        });
        // What the device did from then on until the frame's decode, which is the last entry of its kind.
        let turns = log.entries().split_off(at);
        let decode = turns.iter().rposition(|turn| *turn == (0, 0)).unwrap();
        let steps = Preset::Medium.steps();
        let patient = turns[..decode].iter().filter(|turn| turn.0 == steps).count();
        assert_eq!(patient, 0, "beside the running one: {turns:?}");
        // Two prompts and two negative ones, the keyframes' block, the frame's own, and the decode.
        assert!(decode >= 3 + 12, "{turns:?}");
    }
}

/// What a tree of the size of Stable Diffusion 2 holds in latents at its highest, while it is filled and
/// while a frame is made of it. Runs on a denoiser without weights, whose latents are as large.
#[test]
fn the_medium_tree_of_512_pixels_holds_less_than_64_mb_of_latents() {
    let (height, width) = (64, 64);
    let length = 4 * height * width;
    let model = Mixture {
        weights: vec![1.0],
        means: vec![vec![0.0; length]],
        sigmas: vec![0.5],
        prompts: vec![vec![0.1; length], vec![-0.1; length]],
    }
    .model();
    let options = BlendOptions {
        size: Some([width, height]),
        preset: Preset::Medium,
        ..BlendOptions::default()
    };
    let keyframes = [Keyframe::new("0", 1), Keyframe::new("1", 2)];
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let highest = Arc::new(AtomicUsize::new(0));
    let watch = || {
        let (session, highest) = (session.clone(), Arc::clone(&highest));
        Call::new().on_progress(move |_| {
            highest.fetch_max(session.cached_bytes(), Ordering::Relaxed);
            ControlFlow::Continue(())
        })
    };
    session.prepare(&watch()).unwrap();
    let latent = length * size_of::<f32>();
    let kept = session.cached_bytes();
    session.render(0.37, &watch()).unwrap();
    // Beside the cache there is a batch on its way, of 16 branches at most: what it starts from, what it
    // has become, and what comes back.
    let highest = highest.load(Ordering::Relaxed) + 3 * 16 * latent;
    println!("kept {kept} bytes, at most {highest}");
    assert_eq!(kept, 13 * latent);
    assert!(highest < 64_000_000, "{highest} bytes");
}
