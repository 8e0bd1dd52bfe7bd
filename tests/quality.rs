//! The yardsticks of `benches/quality`, on pictures whose answer is known.

#![allow(dead_code, reason = "a part of the benchmark's files")]

#[path = "../benches/quality/docs.rs"]
mod docs;
#[path = "../benches/quality/flow.rs"]
mod flow;
#[path = "../benches/quality/metrics.rs"]
mod metrics;

use flow::{Plane, flow, movement};
use latentblend::{Frame, cpu_normals};

const SIDE: usize = 96;

/// A texture of soft waves in all directions, seen from (x, y) pixels aside.
fn plane(x: f32, y: f32) -> Plane {
    let value = |p: usize| {
        let (u, v) = ((p % SIDE) as f32 + x, (p / SIDE) as f32 + y);
        let waves = (0.31 * u + 0.17 * v).sin() + (0.23 * v - 0.11 * u).sin() + (0.4 * v).cos();
        0.5 + 0.1 * waves + 0.08 * (0.37 * u).cos()
    };
    Plane { width: SIDE, height: SIDE, data: (0..SIDE * SIDE).map(value).collect() }
}

fn frame(value: impl Fn(usize, usize) -> f32) -> Frame {
    let pixels = (0..SIDE * SIDE).map(|p| value(p % SIDE, p / SIDE));
    Frame::new(SIDE, SIDE, pixels.flat_map(|v| [v; 3]).collect()).unwrap()
}

/// Grain without order, different for each seed.
fn grain(seed: u64) -> Vec<f32> {
    cpu_normals(seed, SIDE * SIDE)
}

#[test]
fn the_flow_of_a_known_shift_is_that_shift() {
    for (x, y) in [(0.0, 0.0), (0.4, 0.0), (1.0, -2.0), (2.5, 1.5), (-3.0, 2.0)] {
        let [dx, dy] = flow(&plane(x, y), &plane(0.0, 0.0));
        // Away from the border, beyond which nothing can be found.
        let inner = |p: &usize| {
            let (u, v) = (p % SIDE, p / SIDE);
            (12..SIDE - 12).contains(&u) && (12..SIDE - 12).contains(&v)
        };
        let pixels: Vec<usize> = (0..SIDE * SIDE).filter(inner).collect();
        let mean = |d: &[f32]| pixels.iter().map(|&p| d[p]).sum::<f32>() / pixels.len() as f32;
        let off = pixels.iter().map(|&p| (dx[p] - x).powi(2) + (dy[p] - y).powi(2)).sum::<f32>();
        let off = (off / pixels.len() as f32).sqrt();
        println!("shift ({x}, {y}): found ({:.3}, {:.3}), off by {off:.3}", mean(&dx), mean(&dy));
        assert!((mean(&dx) - x).abs() < 0.03 && (mean(&dy) - y).abs() < 0.03);
        assert!(off < 0.15);
    }
}

#[test]
fn a_change_of_brightness_alone_is_no_movement() {
    let still = plane(0.0, 0.0);
    let brighter = Plane { data: still.data.iter().map(|v| v + 0.1).collect(), ..still.clone() };
    assert!(movement(&still, &still) == 0.0);
    assert!(movement(&still, &brighter) < 0.01, "{}", movement(&still, &brighter));
    let moved = movement(&still, &plane(2.0, 0.0));
    assert!((1.7..2.1).contains(&moved), "{moved}");
}

#[test]
fn a_cross_fade_of_grain_loses_half_its_detail_and_is_all_ghost() {
    let (a, b) = (grain(1), grain(2));
    let mix = |t: f32| {
        frame(|x, y| {
            let p = y * SIDE + x;
            0.5 + 0.05 * ((1.0 - t) * a[p] + t * b[p])
        })
    };
    let times: Vec<f64> = (0..9).map(|k| f64::from(k) / 8.0).collect();
    let frames: Vec<Frame> = times.iter().map(|&t| mix(t as f32)).collect();
    let faded = metrics::measure(&frames, &times).unwrap();
    println!("{faded:?}");
    assert!((faded.detail - 0.5).abs() < 0.03);
    assert!(faded.ghosting > 0.9999);
    assert!((faded.contrast - 0.5f64.sqrt()).abs() < 0.02);
    assert!(faded.brightness < 1e-3);
    assert!(faded.jerk < 1e-3 && faded.cv_pixels < 1e-3);

    // Pictures of their own between them: neither.
    let own: Vec<Frame> = (0..9)
        .map(|k| {
            let grain = grain(10 + k);
            frame(|x, y| 0.5 + 0.05 * grain[y * SIDE + x])
        })
        .collect();
    let own = metrics::measure(&own, &times).unwrap();
    assert!((own.detail - 1.0).abs() < 0.1 && own.ghosting < 0.01);
    assert!(own.jerk > 1.5 && own.directness > 5.0);
}

#[test]
fn uneven_steps_show() {
    let at = |level: f32| frame(|x, _| level + 0.001 * x as f32);
    let of = |levels: &[f32]| {
        let frames: Vec<Frame> = levels.iter().map(|&level| at(level)).collect();
        let last = (levels.len() - 1) as f64;
        let times: Vec<f64> = (0..levels.len()).map(|k| k as f64 / last).collect();
        metrics::measure(&frames, &times).unwrap()
    };
    let even = of(&[0.0, 0.1, 0.2, 0.3, 0.4]);
    assert!(even.cv < 1e-3 && even.gini < 1e-3 && even.pdv < 1e-9);
    assert!((even.largest - 1.0).abs() < 1e-3 && (even.directness - 1.0).abs() < 1e-3);
    // Three steps of nothing, and one of all.
    let jump = of(&[0.0, 0.0, 0.0, 0.0, 0.4]);
    assert!((jump.ppl - even.ppl).abs() < 1e-3 * even.ppl);
    assert!((jump.largest - 4.0).abs() < 1e-6 && (jump.cv - 3f64.sqrt()).abs() < 1e-6);
    assert!((jump.gini - 0.75).abs() < 1e-6);
    assert_eq!(metrics::gini(&[1.0, 1.0, 1.0]), 0.0);
}

#[test]
fn tables_go_between_their_marks_and_nowhere_else() {
    let page = "a\n<!-- measured: x -->\n\nold\n\n<!-- end of x -->\nb\n";
    let new = page.replace("old", "| 1 | 2 |");
    assert_eq!(docs::replaced(page, "x", "| 1 | 2 |\n\n").unwrap(), new);
    assert_eq!(docs::replaced(&new, "x", "old").unwrap(), page);
    assert_eq!(
        docs::replaced(page, "y", "").unwrap_err(),
        "no <!-- measured: y --> ... <!-- end of y -->"
    );
    // The page has all the parts that the benchmark writes.
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/quality.md"));
    let page = page.unwrap();
    for name in ["compared", "tried", "exact"] {
        assert_ne!(docs::replaced(&page, name, "other").unwrap(), page, "{name}");
    }
}
