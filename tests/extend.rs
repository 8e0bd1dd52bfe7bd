//! Live retarget: a session that goes on from a frame of another.
#![allow(unsafe_code, reason = "an allocator that counts")]

mod common;

use common::mixture::Mixture;
use common::{same, short, tiny};
use latentblend::{
    BlendOptions, Branching, Call, Cancel, Crossfeed, Curve, ErrorKind, Format, Frame, ImageRef,
    Inpainting, Interpolation, Keyframe, KeyframeImage, Latent, LatentMix, Layout as PixelLayout,
    Look, Mask, Model, Preset, RestoreOptions, Session, Source, Transfer,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Bytes that are allocated at present.
static LIVE: AtomicI64 = AtomicI64::new(0);

struct Counting;

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tests here run one after the other: one of them counts bytes.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn render(session: &Session, t: f64) -> Frame {
    session.render(t, &Call::new()).unwrap()
}

/// Three levels, so that inner ones are in play.
fn deep(options: BlendOptions) -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 3, 5] };
    BlendOptions { steps: Some(9), branching: Some(branching), ..options }
}

fn chain(model: &Model, options: &BlendOptions) -> Session {
    let [first, second] = short().0;
    let keyframes = [first, second, Keyframe::new("dunes", 7).negative("rain")];
    Session::new(model, &keyframes, options).unwrap()
}

#[test]
fn the_first_frame_is_the_old_one_bit_for_bit() {
    let _turn = turn();
    let to = Keyframe::new("a red house", 99).negative("fog");
    for name in ["base", "v"] {
        let model = tiny(name);
        let guided = BlendOptions {
            guidance_over_t: Some(
                Curve::new(&[[0.0, 3.0], [2.0, 6.0]], Interpolation::Linear).unwrap(),
            ),
            ..short().1
        };
        let single = Branching { injections: vec![0], branches: vec![2] };
        for options in [
            short().1,
            deep(short().1),
            deep(guided),
            BlendOptions { branching: Some(single), steps: Some(3), ..short().1 },
            BlendOptions { look: Look::Compat2022, ..short().1 },
            BlendOptions { guidance: 1.0, ..short().1 },
            BlendOptions { cache_bytes: 0, ..deep(short().1) },
            BlendOptions { latent_mix: Some(LatentMix::Arc), ..deep(short().1) },
        ] {
            let session = chain(&model, &options);
            for from_t in [0.0, 0.375, 0.61, 1.0, 1.9, 2.0] {
                let old = render(&session, from_t);
                let extended = session.extend(from_t, &to, &Call::new()).unwrap();
                assert!(same(&render(&extended, 0.0), &old), "{name} at {from_t}: {options:?}");
                assert_eq!(extended.last_t(), 1.0);
            }
        }
    }
}

#[test]
fn the_last_frame_is_the_new_keyframe_and_the_way_has_no_jump() {
    let _turn = turn();
    let model = tiny("base");
    let options = deep(short().1);
    let session = chain(&model, &options);
    let to = Keyframe::new("a red house", 99);
    let extended = session.extend(0.61, &to, &Call::new()).unwrap();
    let alone = Session::new(&model, &[to], &options).unwrap();
    assert!(same(&render(&extended, 1.0), &render(&alone, 0.0)));
    // The frame beside the first is close to it: it started from the same latents.
    let distance = |a: &Frame, b: &Frame| latentblend::Distance::Frames.between(a, b).unwrap();
    let (start, near) = (render(&extended, 0.0), render(&extended, 1.0 / 256.0));
    let whole = distance(&start, &render(&extended, 1.0));
    let step = distance(&start, &near);
    assert!(step > 0.0 && step < whole / 16.0, "{step} of {whole}");
}

#[test]
fn an_extension_can_be_extended_from_anywhere_and_is_the_same_whatever_was_asked_before() {
    let _turn = turn();
    let model = tiny("base");
    let options = deep(short().1);
    let (b, c) = (Keyframe::new("a red house", 99), Keyframe::new("snow", 5));
    let walk = |prepare: bool, cache_bytes: usize| {
        let mut session = chain(&model, &BlendOptions { cache_bytes, ..options.clone() });
        for (from, to) in [(1.3, &b), (0.4, &c), (0.0, &b), (1.0, &c)] {
            if prepare {
                session.prepare(&Call::new()).unwrap();
                render(&session, 0.2);
            }
            let before = render(&session, from);
            session = session.extend(from, to, &Call::new()).unwrap();
            assert!(same(&render(&session, 0.0), &before), "from {from}");
        }
        [0.0, 0.3, 1.0].map(|t| render(&session, t))
    };
    let wanted = walk(false, usize::MAX);
    for got in [walk(true, usize::MAX), walk(true, 0), walk(false, 3000)] {
        assert!(got.iter().zip(&wanted).all(|(a, b)| same(a, b)));
    }
}

/// Extends 300 times, and fails where memory grows. `latent` is the size of one.
///
/// How many buffers the model's threads want at once depends on how they happen to meet, so idle ones are let go of
/// before bytes are counted: what is left is what somebody holds.
fn stays_flat(model: &Model, mut session: Session, latent: i64, to: impl Fn(u64) -> Keyframe) {
    let (mut held, mut live) = (Vec::with_capacity(300), Vec::with_capacity(300));
    for round in 0..300u64 {
        let to = to(round);
        let t = [0.25, 0.5, 1.0, 0.02][round as usize % 4];
        render(&session, t);
        session = session.extend(t, &to, &Call::new()).unwrap();
        held.push(session.memory_bytes());
        model.trim();
        live.push(LIVE.load(Ordering::Relaxed));
    }
    let most = |values: &[i64]| values.iter().copied().max().unwrap();
    let held: Vec<i64> = held.into_iter().map(|bytes| bytes as i64).collect();
    println!("held {} bytes; live {} then {}", held[299], most(&live[20..60]), most(&live[260..]));
    assert!(held[10] > 0 && most(&held[10..50]) == most(&held[250..]), "{held:?}");
    // All that the process has allocated: a chain that kept its past would hold 240 latents more.
    assert!(most(&live[260..]) - most(&live[20..60]) < 40 * latent, "{live:?}");
}

fn words(round: u64) -> Keyframe {
    Keyframe::new(["a red house", "snow", "dunes"][round as usize % 3], round)
}

#[test]
fn memory_stays_flat_over_hundreds_of_extensions() {
    let _turn = turn();
    let model = tiny("base");
    let options = BlendOptions { size: Some([32, 32]), ..deep(short().1) };
    stays_flat(&model, chain(&model, &options), 4 * 4 * 4 * 4, words);
    let fed = Some(Crossfeed::new(0.4, 0.9, 0.5));
    let fed = BlendOptions { branch1_crossfeed: fed, parental_crossfeed: fed, ..options };
    stays_flat(&model, chain(&model, &fed), 4 * 4 * 4 * 4, words);
    let of_2023 = BlendOptions {
        look: Look::Compat2023,
        branching: None,
        steps: Some(12),
        frames: 40,
        depth: 0.3,
        ..fed
    };
    stays_flat(&model, chain(&model, &of_2023), 4 * 4 * 4 * 4, words);
}

#[test]
fn memory_stays_flat_with_pictures_too() {
    let _turn = turn();
    let model = tiny("base");
    let options = BlendOptions { size: Some([32, 32]), ..deep(short().1) };
    let picture = |round: u64| {
        let pixel = |i: usize| (i as u64 * 7 + round * 31) as u8;
        let bytes: Vec<u8> = (0..40 * 36 * 3).map(pixel).collect();
        let layout = PixelLayout::packed(40, 36, Format::RgbU8, Transfer::Srgb);
        Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap()
    };
    // Every other keyframe is a picture, and some extensions begin at one, or beside it.
    let to = |round: u64| match round % 2 {
        0 => words(round),
        _ => words(round).image(KeyframeImage { blend: 0.3, ..picture(round).into() }),
    };
    stays_flat(&model, Session::new(&model, &[to(1), to(0)], &options).unwrap(), 256, to);
    let mask = Mask::rectangle(40, 36, [8, 8, 30, 30]).unwrap();
    let inpainting = Inpainting { from_source: true, ..Inpainting::new(picture(0), mask) };
    let session = Session::inpainting(&model, &[to(0), to(1)], &options, &inpainting).unwrap();
    stays_flat(&model, session, 256, to);
}

#[test]
fn what_does_not_fit_is_refused_and_a_cancel_leaves_the_session_usable() {
    let _turn = turn();
    let model = tiny("base");
    let options = deep(short().1);
    let session = chain(&model, &options);
    let to = Keyframe::new("a red house", 99);
    let message =
        |result: latentblend::Result<Session>| result.map(|_| ()).unwrap_err().message().to_owned();
    let extended = session.extend(2.5, &to, &Call::new());
    assert_eq!(message(extended), "t 2.5: wanted 0 to 2");
    let wrong = to.clone().start(Latent::new([4, 1, 1], vec![0.0; 4]).unwrap());
    assert!(message(session.extend(0.5, &wrong, &Call::new())).starts_with("a start latent of"));
    let token = Cancel::new();
    token.request();
    let cancelled = session.extend(0.5, &to, &Call::new().cancel(&token));
    assert_eq!(cancelled.map(|_| ()).unwrap_err().kind(), ErrorKind::Cancelled);
    // A frame's origin fits sessions whose branches leave at the same steps, and no others.
    let extended = session.extend(0.5, &to, &Call::new()).unwrap();
    let from = extended.keyframes()[0].clone();
    assert!(from.origin.is_some());
    let again = Session::new(&model, &[to.clone(), from.clone()], &options).unwrap();
    assert!(same(&render(&again, 1.0), &render(&session, 0.5)));
    let other = BlendOptions { preset: Preset::Lowest, branching: None, steps: None, ..options };
    let other = Session::new(&model, &[from, to], &other);
    assert!(message(other).starts_with("a keyframe from a session whose branches leave at steps"));
}

/// A keyframe that is the session's frame at `t`.
fn from(session: &Session, t: f64) -> Keyframe {
    let origin = session.origin(t, &Call::new()).unwrap();
    Keyframe { origin: Some(Arc::new(origin)), ..Keyframe::default() }
}

fn refused(session: latentblend::Result<Session>) -> String {
    let error = session.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    error.message().to_owned()
}

#[test]
fn a_frame_of_another_model_is_refused() {
    let _turn = turn();
    // The same sizes of latents and conditioning, other weights.
    let models = ["base", "v"].map(tiny);
    let to = Keyframe::new("a red house", 99);
    let options = deep(short().1);
    for (own, other) in [(0, 1), (1, 0)] {
        let keyframe = from(&chain(&models[own], &options), 0.61);
        let prints = [own, other].map(|m| models[m].info().fingerprint.unwrap());
        let session = Session::new(&models[other], &[keyframe, to.clone()], &options);
        assert_eq!(
            refused(session),
            format!(
                "a keyframe from a session with a model of fingerprint {}: here there is a model of \
                 fingerprint {}",
                prints[0], prints[1]
            )
        );
    }
    // Loaded twice, or copied into a file and back, it is the same model.
    let session = chain(&models[0], &options);
    let folder = tempfile::tempdir().unwrap();
    let extended = session.extend(0.61, &to, &Call::new()).unwrap();
    let path = folder.path().join("session");
    extended.save(&path, &Call::new()).unwrap();
    let twin = tiny("base");
    let back = Session::load(&twin, &path, &RestoreOptions::default(), &Call::new()).unwrap();
    let again = Session::new(&models[0], back.keyframes(), &options).unwrap();
    assert!(same(&render(&again, 0.0), &render(&session, 0.61)));
    let other = Session::new(&models[1], back.keyframes(), &options);
    assert!(refused(other).starts_with("a keyframe from a session with a model of fingerprint"));
}

#[test]
fn conditioning_of_another_shape_is_refused() {
    let _turn = turn();
    // Engines of a caller's own have no fingerprint by which they could be told apart.
    let model = |length: usize| {
        let means = vec![vec![0.1; length], vec![-0.2; length]];
        let (weights, sigmas) = (vec![0.5; 2], vec![0.3; 2]);
        Mixture { weights, means, sigmas, prompts: vec![vec![0.5; length]] }.model()
    };
    let options = |size: usize| BlendOptions { size: Some([size; 2]), ..deep(short().1) };
    let keyframes = [Keyframe::new("0", 1), Keyframe::new("", 2)];
    let session = Session::new(&model(16), &keyframes, &options(2)).unwrap();
    let here = [from(&session, 0.5), keyframes[1].clone()];
    let message = refused(Session::new(&model(64), &here, &options(4)));
    let wanted = "a keyframe from a session with conditioning of 1x16 values: here it has 1x64";
    assert_eq!(message, wanted);
    let again = Session::new(&model(16), &here, &options(2)).unwrap();
    assert!(same(&render(&again, 0.0), &render(&session, 0.5)));
}

#[test]
fn a_frame_of_a_repainted_picture_is_refused_where_nothing_is_repainted() {
    let _turn = turn();
    let model = tiny("base");
    let options = BlendOptions { size: Some([32, 32]), ..deep(short().1) };
    let bytes: Vec<u8> = (0..40 * 36 * 3u32).map(|i| (i * 7) as u8).collect();
    let layout = PixelLayout::packed(40, 36, Format::RgbU8, Transfer::Srgb);
    let source = Source::new(&ImageRef::new(&bytes, 0, layout).unwrap()).unwrap();
    let mask = Mask::rectangle(40, 36, [8, 8, 30, 30]).unwrap();
    let inpainting = Inpainting::new(source, mask);
    let [first, second] = short().0;
    let keyframes = [first, second.clone()];
    let session = Session::inpainting(&model, &keyframes, &options, &inpainting).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let extended = session.extend(0.5, &second, &Call::new()).unwrap();
    extended.save(&path, &Call::new()).unwrap();
    let back = Session::load(&model, &path, &RestoreOptions::default(), &Call::new()).unwrap();
    let wanted =
        "a keyframe from a session that repaints a part of a picture: here nothing is repainted";
    for keyframe in [from(&session, 0.5), back.keyframes()[0].clone()] {
        let here = [keyframe, second.clone()];
        assert_eq!(refused(Session::new(&model, &here, &options)), wanted);
        // Over the same picture it is what it was.
        let again = Session::inpainting(&model, &here, &options, &inpainting).unwrap();
        assert!(same(&render(&again, 0.0), &render(&session, 0.5)));
    }
    // The other way round there is nothing against it: the picture is laid over.
    let plain = chain(&model, &options);
    let here = [from(&plain, 0.5), second];
    Session::inpainting(&model, &here, &options, &inpainting).unwrap();
}
