//! In: the frames of a transition and their t. Out: [`Metrics`], how it looks in numbers.

use crate::flow::{Plane, movement};
use latentblend::{Distance, Frame, Result};
use serde::{Deserialize, Serialize};

/// d_i is the distance ([`Distance::Frames`]) of frames i and i + 1; A and B are the first and last frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metrics {
    /// Sum of d_i.
    pub(crate) ppl: f64,
    /// PPL over the distance of A and B; 1 at the least.
    pub(crate) directness: f64,
    /// Variance of d_i.
    pub(crate) pdv: f64,
    /// Their standard deviation over their mean.
    pub(crate) cv: f64,
    /// The same of the root mean square differences of pixels: a distance that no timing here goes by.
    pub(crate) cv_pixels: f64,
    /// Sum over all pairs |d_i - d_j| / (2 n^2 mean): 0 where all are equal.
    pub(crate) gini: f64,
    /// The largest d_i over their mean.
    pub(crate) largest: f64,
    /// Mean |x_(i+1) - 2 x_i + x_(i-1)| over mean |x_(i+1) - x_i|, over pixels.
    pub(crate) jerk: f64,
    /// The least over t of E(x_t) / ((1 - t) E(A) + t E(B)), E being the mean square of what the low pass
    /// (1, 4, 6, 4, 1) / 16 takes from the lightness.
    pub(crate) detail: f64,
    /// The same mean over the frames of the middle half.
    pub(crate) detail_middle: f64,
    /// The share of a frame's variance that some a A + b B + c explains; mean over the middle half.
    pub(crate) ghosting: f64,
    /// The least over t of the lightness's standard deviation over what lies between A's and B's.
    pub(crate) contrast: f64,
    /// The largest over t of |mean lightness - what lies between A's and B's|.
    pub(crate) brightness: f64,
    /// Mean length of the optical flow between adjacent frames, in pixels of a frame.
    pub(crate) movement: f64,
}

/// Mean, standard deviation.
pub(crate) fn spread(values: &[f64]) -> [f64; 2] {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    [mean, variance.sqrt()]
}

fn over(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// See [`Metrics::gini`].
pub(crate) fn gini(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let [mean, _] = spread(values);
    let pairs = values.iter().flat_map(|a| values.iter().map(move |b| (a - b).abs()));
    over(pairs.sum::<f64>(), 2.0 * count * count * mean)
}

/// Energy of the finest detail.
pub(crate) fn detail(plane: &Plane) -> f64 {
    let low = plane.blurred();
    let squares = plane.data.iter().zip(&low.data).map(|(v, l)| f64::from(v - l).powi(2));
    squares.sum::<f64>() / plane.data.len() as f64
}

/// See [`Metrics::ghosting`].
pub(crate) fn ghosting(frame: &Frame, a: &Frame, b: &Frame) -> f64 {
    let centred = |frame: &Frame| {
        let values: Vec<f64> = frame.rgb().iter().map(|&v| f64::from(v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.into_iter().map(|v| v - mean).collect::<Vec<f64>>()
    };
    let dot = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * q).sum::<f64>();
    let (x, a, b) = (centred(frame), centred(a), centred(b));
    let (aa, ab, bb) = (dot(&a, &a), dot(&a, &b), dot(&b, &b));
    let (ax, bx) = (dot(&a, &x), dot(&b, &x));
    let determinant = aa * bb - ab * ab;
    // Two pictures that are one, but for a factor, explain what one of them does.
    if determinant <= 1e-12 * aa * bb {
        return over(ax * ax, aa * dot(&x, &x));
    }
    let (u, v) = ((ax * bb - bx * ab) / determinant, (bx * aa - ax * ab) / determinant);
    over(u * ax + v * bx, dot(&x, &x))
}

fn root_mean_square(p: &Frame, q: &Frame) -> f64 {
    let squares = p.rgb().iter().zip(q.rgb()).map(|(p, q)| f64::from(p - q).powi(2));
    (squares.sum::<f64>() / p.rgb().len() as f64).sqrt()
}

/// The numbers of `frames`, which are at `t` (0 to 1, of one segment).
///
/// # Errors
/// Where the frames' sizes differ.
pub(crate) fn measure(frames: &[Frame], t: &[f64]) -> Result<Metrics> {
    let last = frames.len() - 1;
    let (a, b) = (&frames[0], &frames[last]);
    let planes: Vec<Plane> = frames.iter().map(Plane::lightness).collect();
    let pairs = || frames.windows(2);
    let changes: Result<Vec<f64>> =
        pairs().map(|pair| Distance::Frames.between(&pair[0], &pair[1])).collect();
    let changes = changes?;
    let [mean, deviation] = spread(&changes);
    let pixels: Vec<f64> = pairs().map(|pair| root_mean_square(&pair[0], &pair[1])).collect();
    let [pixel_mean, pixel_deviation] = spread(&pixels);
    let ppl: f64 = changes.iter().sum();

    let mut second = 0.0;
    for three in frames.windows(3) {
        let [p, q, r] = [0, 1, 2].map(|k| three[k].rgb());
        let bends = p.iter().zip(q).zip(r).map(|((p, q), r)| f64::from((r - 2.0 * q + p).abs()));
        second += bends.sum::<f64>() / p.len() as f64 / (last - 1) as f64;
    }
    let first = |pair: &[Frame]| {
        let steps = pair[0].rgb().iter().zip(pair[1].rgb()).map(|(p, q)| f64::from((q - p).abs()));
        steps.sum::<f64>() / pair[0].rgb().len() as f64
    };
    let first = pairs().map(first).sum::<f64>() / last as f64;

    let between = |ends: [f64; 2], t: f64| (1.0 - t) * ends[0] + t * ends[1];
    let lights =
        |plane: &Plane| spread(&plane.data.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>());
    let details: Vec<f64> = planes.iter().map(detail).collect();
    let looks: Vec<[f64; 2]> = planes.iter().map(lights).collect();
    let mut metrics = Metrics {
        ppl,
        directness: over(ppl, Distance::Frames.between(a, b)?),
        pdv: deviation * deviation,
        cv: over(deviation, mean),
        cv_pixels: over(pixel_deviation, pixel_mean),
        gini: gini(&changes),
        largest: over(changes.iter().copied().fold(0.0, f64::max), mean),
        jerk: over(second, first),
        detail: f64::MAX,
        contrast: f64::MAX,
        movement: planes.windows(2).map(|pair| movement(&pair[0], &pair[1])).sum::<f64>()
            / last as f64,
        ..Metrics::default()
    };
    let mut middle = 0.0;
    for (index, &t) in t.iter().enumerate() {
        let ratio = over(details[index], between([details[0], details[last]], t));
        let [brightness, contrast] = looks[index];
        let [dark, plain] = [0, 1].map(|k| between([looks[0][k], looks[last][k]], t));
        metrics.detail = metrics.detail.min(ratio);
        metrics.contrast = metrics.contrast.min(over(contrast, plain));
        metrics.brightness = metrics.brightness.max((brightness - dark).abs());
        if (last..=3 * last).contains(&(4 * index)) {
            metrics.ghosting += ghosting(&frames[index], a, b);
            metrics.detail_middle += ratio;
            middle += 1.0;
        }
    }
    metrics.ghosting /= f64::max(middle, 1.0);
    metrics.detail_middle /= f64::max(middle, 1.0);
    Ok(metrics)
}
