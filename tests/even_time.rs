//! Even time: equal change in equal times, branches where the change is, and the distances behind both.

mod common;

use common::{golden, same, short, tiny};
use latentblend::{
    Adapt, BlendOptions, Branching, Call, Cancel, Curve, Distance, ErrorKind, Even, Frame,
    Interpolation, Keyframe, Look, Lpips, Model, Pace, Session, Timing,
};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use std::path::PathBuf;
use std::sync::Arc;

const FRAMES: usize = 49;

fn options() -> BlendOptions {
    let branching = Branching { injections: vec![0, 4, 7], branches: vec![2, 5, 9] };
    BlendOptions { steps: Some(9), branching: Some(branching), ..short().1 }
}

fn session(model: &Model, change: impl FnOnce(&mut BlendOptions)) -> Session {
    let mut options = options();
    change(&mut options);
    let [first, second] = short().0;
    let third = Keyframe::new("dunes", 7);
    Session::new(model, &[first, second, third], &options).unwrap()
}

fn timing(distance: Distance) -> Timing {
    let even = Even { distance, ..Even::default() };
    Timing { pace: Pace::Even(even), ..Timing::default() }
}

/// Standard deviation over mean.
fn variation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    square.sqrt() / mean
}

/// How uneven the frames of each segment are.
fn unevenness(session: &Session, distance: &Distance) -> Vec<f64> {
    let changes = session.changes(FRAMES, distance, &Call::new()).unwrap();
    assert_eq!(changes.len(), FRAMES - 1);
    changes.chunks((FRAMES - 1) / 2).map(variation).collect()
}

#[test]
fn equal_time_means_equal_change() {
    let model = tiny("base");
    let before = session(&model, |_| {});
    for distance in [Distance::Frames, Distance::Latents] {
        let after = before.timed(&timing(distance.clone()), &Call::new()).unwrap();
        let (linear, even) = (unevenness(&before, &distance), unevenness(&after, &distance));
        println!("{}: variation {linear:.3?} becomes {even:.3?}", distance.name());
        for (linear, even) in linear.iter().zip(&even) {
            assert!(*even < linear / 3.0, "{}: {linear} becomes {even}", distance.name());
        }
        // Time rises, and meets the keyframes.
        let times = after.timeline().frames(FRAMES);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert_eq!((times[0], times[(FRAMES - 1) / 2], times[FRAMES - 1]), (0.0, 1.0, 2.0));
    }
}

#[test]
fn across_segments_lengths_follow_the_change() {
    let model = tiny("base");
    // The third keyframe has the second's noise, so that little changes between them.
    let [first, second] = short().0;
    let third = Keyframe::new("dunes", second.seed);
    let before = Session::new(&model, &[first, second, third], &options()).unwrap();
    let even = Even { across: true, ..Even::default() };
    let timing = Timing { pace: Pace::Even(even), ..Timing::default() };
    let after = before.timed(&timing, &Call::new()).unwrap();
    let changes = after.changes(FRAMES, &Distance::Frames, &Call::new()).unwrap();
    let linear = before.changes(FRAMES, &Distance::Frames, &Call::new()).unwrap();
    println!("variation {:.3} becomes {:.3}", variation(&linear), variation(&changes));
    assert!(variation(&changes) < variation(&linear) / 3.0);
}

#[test]
fn the_default_is_even_and_linear_in_compat() {
    let model = tiny("base");
    let timed = |look: Look| {
        let session = session(&model, |options| options.look = look);
        session.timed(&Timing::default(), &Call::new()).unwrap().timeline().frames(9)
    };
    let linear = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];
    assert_eq!(timed(Look::Compat2022), linear);
    assert_ne!(timed(Look::Current), linear);
}

#[test]
fn the_pace_of_2022_goes_from_leaf_to_leaf() {
    let model = tiny("base");
    let session = session(&model, |_| {});
    let timing = Timing { pace: Pace::Leaves, ..Timing::default() };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    let leaves = session.leaves();
    let got = timed.timeline().frames(leaves.len());
    assert!(got.iter().zip(&leaves).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {leaves:?}");
}

#[test]
fn a_caller_may_bring_a_curve() {
    let model = tiny("base");
    let session = session(&model, |_| {});
    let points = [[0.0, 2.0], [0.5, 0.5], [1.0, 1.0]];
    let curve = Curve::new(&points, Interpolation::Linear).unwrap();
    let timing = Timing { pace: Pace::Curve(curve), ..Timing::default() };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    assert_eq!(timed.timeline().frames(5), [2.0, 1.25, 0.5, 0.75, 1.0]);
}

#[test]
fn the_same_options_give_the_same_plan_whatever_the_cache_and_threads() {
    let even = Even { samples: 12, ..Even::default() };
    let adapt = Adapt { even: even.clone(), ..Adapt::default() };
    let timing = Timing { pace: Pace::Even(even), ..Timing::default() };
    let wanted = {
        let model = tiny("base");
        let session = session(&model, |_| {});
        let timed = session.timed(&timing, &Call::new()).unwrap();
        let adapted = session.adapted(&adapt, &Call::new()).unwrap();
        let plans = [0, 1].map(|segment| adapted.plan_of(segment).clone());
        (timed.timeline().clone(), plans, adapted.render(0.4, &Call::new()).unwrap())
    };
    let model = tiny("base");
    for limit in [0, 1000, usize::MAX] {
        let session = session(&model, |options| options.cache_bytes = limit);
        session.prepare(&Call::new()).unwrap();
        session.render_many(&[0.9, 0.1, 1.5], &Call::new()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let timed = session.timed(&timing, &Call::new()).unwrap();
                    assert_eq!(timed.timeline(), &wanted.0, "{limit} bytes");
                    let adapted = session.adapted(&adapt, &Call::new()).unwrap();
                    for (segment, plan) in wanted.1.iter().enumerate() {
                        assert_eq!(adapted.plan_of(segment), plan, "{limit} bytes");
                    }
                    assert!(same(&adapted.render(0.4, &Call::new()).unwrap(), &wanted.2));
                });
            }
        });
    }
}

#[test]
fn branches_go_where_the_change_is_and_cost_stays() {
    let model = tiny("base");
    let before = session(&model, |_| {});
    let after = before.adapted(&Adapt::default(), &Call::new()).unwrap();
    for t in [0.0, 1.0, 2.0] {
        let (a, b) = (before.render(t, &Call::new()), after.render(t, &Call::new()));
        assert!(same(&a.unwrap(), &b.unwrap()), "the keyframe at {t} is another picture");
    }
    // Gaps between adjacent leaves are more even than as they were planned.
    for segment in 0..2 {
        let gaps = |session: &Session| {
            let leaves = &session.plan_of(segment).last().fractions;
            let times: Vec<f64> = leaves.iter().map(|f| segment as f64 + f).collect();
            let frames = before.render_many(&times, &Call::new()).unwrap();
            let pairs = frames.windows(2);
            let gaps = pairs.map(|pair| Distance::Frames.between(&pair[0], &pair[1]).unwrap());
            variation(&gaps.collect::<Vec<f64>>())
        };
        let (planned, placed) = (gaps(&before), gaps(&after));
        println!("segment {segment}: gaps vary by {planned:.3}, then by {placed:.3}");
        assert!(placed < planned / 2.0, "{planned} becomes {placed}");
        let shape = |session: &Session| {
            let levels = session.plan_of(segment).levels().iter();
            levels.map(|l| (l.steps.clone(), l.fractions.len())).collect::<Vec<_>>()
        };
        assert_eq!(shape(&before), shape(&after), "a frame costs what it did");
    }
    // Leaves of each segment are where t says.
    let leaves = after.leaves();
    assert_eq!(leaves.len(), 17);
    assert!(leaves.windows(2).all(|pair| pair[0] < pair[1]));
    let alone = after.render(leaves[3], &Call::new()).unwrap();
    let many = after.render_many(&leaves[2..5], &Call::new()).unwrap();
    assert!(same(&alone, &many[1]));
}

#[test]
fn measuring_is_bounded_watched_and_cancelled() {
    let (model, log) = common::watched::watched_model();
    let session = session(&model, |_| {});
    session.prepare(&Call::new()).unwrap();
    let prepared = log.turns();
    let even = Even { samples: 12, ..Even::default() };
    let timing = |even: &Even| Timing { pace: Pace::Even(even.clone()), ..Timing::default() };
    let reports = common::Reports::default();
    session.timed(&timing(&even), &reports.call()).unwrap();
    // Frames are decoded one a turn, and nothing else takes turns of (0, 0) now.
    let decodes = log.entries()[prepared..].iter().filter(|entry| **entry == (0, 0)).count();
    assert_eq!(decodes, 2 * 12);
    let reports = reports.0.lock().unwrap();
    assert!(reports.windows(2).all(|pair| pair[0].fraction <= pair[1].fraction));
    assert!((reports.last().unwrap().fraction - 1.0).abs() < 1e-9);
    let token = Cancel::new();
    token.request();
    let error = session.timed(&timing(&even), &Call::new().cancel(&token)).map(|_| ());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
    let bad = Even { samples: 1, ..even };
    let error = session.timed(&timing(&bad), &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "1 samples: wanted 2 to 4097");
    let bad = Adapt { strength: 2.0, ..Adapt::default() };
    let error = session.adapted(&bad, &Call::new()).map(|_| ()).unwrap_err();
    assert_eq!(error.message(), "strength 2: wanted 0 to 1");
}

#[test]
fn a_transition_in_which_nothing_changes_keeps_its_time() {
    let model = tiny("base");
    let still = [Keyframe::new("dunes", 7), Keyframe::new("dunes", 7)];
    let options = BlendOptions { guidance_mid_damper: 1.0, ..short().1 };
    let session = Session::new(&model, &still, &options).unwrap();
    let even = Even { across: true, ..Even::default() };
    let timing = Timing { pace: Pace::Even(even), ..Timing::default() };
    let timed = session.timed(&timing, &Call::new()).unwrap();
    assert_eq!(timed.timeline().frames(3), [0.0, 0.5, 1.0]);
    let adapted = session.adapted(&Adapt::default(), &Call::new()).unwrap();
    assert_eq!(adapted.plan_of(0), session.plan());
}

/// The numbers of `tests/golden/lpips_alex.py`.
fn value(stream: u64, index: u64) -> f32 {
    let mut z = stream.wrapping_mul(1 << 40).wrapping_add(index).wrapping_add(1);
    z = z.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as f64 / 8_388_608.0 - 1.0) as f32
}

/// Writes weights of LPIPS by that formula, under the package's names or torchvision's.
fn weights(folder: &std::path::Path, package: bool) -> PathBuf {
    let layers =
        [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3)];
    let mut tensors = Vec::new();
    for (index, (number, outputs, inputs, side)) in layers.into_iter().enumerate() {
        let fan = inputs * side * side;
        let scale = (6.0 / fan as f64).sqrt() as f32;
        let stream = 3 * index as u64;
        let values = |stream: u64, count: usize, change: &dyn Fn(f32) -> f32| -> Vec<u8> {
            let values = (0..count as u64).map(|k| change(value(stream, k)));
            values.flat_map(f32::to_le_bytes).collect()
        };
        let trunk = match package {
            true => format!("net.slice{}.{number}", index + 1),
            false => format!("features.{number}"),
        };
        let head = format!("{}{index}.model.1.weight", if package { "lin" } else { "lins." });
        tensors.push((
            format!("{trunk}.weight"),
            vec![outputs, inputs, side, side],
            values(stream, outputs * fan, &|v| v * scale),
        ));
        let bias = values(stream + 1, outputs, &|v| v * 0.1);
        tensors.push((format!("{trunk}.bias"), vec![outputs], bias));
        let values = values(stream + 2, outputs, &f32::abs);
        tensors.push((head, vec![1, outputs, 1, 1], values));
    }
    let path = folder.join(if package { "package.safetensors" } else { "torchvision.safetensors" });
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, &path).unwrap();
    path
}

#[test]
fn lpips_equals_the_lpips_package() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = golden::json("lpips");
    for package in [true, false] {
        let path = weights(folder.path(), package);
        let metric = Distance::Lpips(Arc::new(Lpips::load(&path).unwrap()));
        for (number, case) in recorded.as_array().unwrap().iter().enumerate() {
            let [height, width] = ["height", "width"].map(|k| case[k].as_u64().unwrap() as usize);
            // Planes of -1 to 1 become pixels of 0 to 1.
            let frame = |pixel: &dyn Fn(u64) -> f32| {
                let size = (height * width) as u64;
                let values = (0..size).flat_map(|p| [0, 1, 2].map(|c| pixel(c * size + p)));
                let values = values.map(|v| v * 0.5 + 0.5).collect();
                Frame::new(width, height, values).unwrap()
            };
            let of = |k: u64| move |index: u64| value(100 + 2 * number as u64 + k, index);
            let (p, q) = (of(0), of(1));
            let near = frame(&|index| p(index) + 0.05 * (q(index) - p(index)));
            let (p, q) = (frame(&p), frame(&q));
            for (name, other) in [("far", &q), ("near", &near)] {
                // The distance is LPIPS' root.
                let got = metric.between(&p, other).unwrap().powi(2);
                let wanted = case[name].as_f64().unwrap();
                println!("{width}x{height} {name}: {got:.7}, the package {wanted:.7}");
                assert!((got / wanted - 1.0).abs() < 1e-4, "{got} for {wanted}");
            }
        }
    }
}

#[test]
fn a_file_that_is_not_lpips_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Lpips::load(folder.path().join("none")).map(|_| ()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let path = folder.path().join("odd.safetensors");
    std::fs::write(&path, b"odd").unwrap();
    assert_eq!(Lpips::load(&path).map(|_| ()).unwrap_err().kind(), ErrorKind::BadModel);
    let model = golden::path("tiny/base/vae/diffusion_pytorch_model.safetensors");
    let error = Lpips::load(model).map(|_| ()).unwrap_err();
    assert!(error.message().ends_with("net.slice1.0.weight is missing"), "{error}");
    let metric = Distance::Lpips(Arc::new(Lpips::load(weights(folder.path(), true)).unwrap()));
    let small = Frame::new(16, 40, vec![0.5; 16 * 40 * 3]).unwrap();
    let error = metric.between(&small, &small).unwrap_err();
    assert!(error.message().contains("LPIPS wants at least 31"), "{error}");
}

#[test]
fn time_goes_by_lpips_where_its_weights_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let metric = Distance::Lpips(Arc::new(Lpips::load(weights(folder.path(), true)).unwrap()));
    let model = tiny("base");
    let before = session(&model, |_| {});
    let even = Even { distance: metric.clone(), samples: 17, across: false };
    let timing = Timing { pace: Pace::Even(even), ..Timing::default() };
    let after = before.timed(&timing, &Call::new()).unwrap();
    let of = |session: &Session| {
        let changes = session.changes(25, &metric, &Call::new()).unwrap();
        changes.chunks(12).map(variation).collect::<Vec<f64>>()
    };
    let (linear, even) = (of(&before), of(&after));
    println!("lpips: variation {linear:.3?} becomes {even:.3?}");
    assert!(even.iter().zip(&linear).all(|(even, linear)| *even < linear / 2.0));
}
