//! In: two latents and a fraction. Out: what lies between them on an arc of its own for every channel and
//! every band of frequencies: a way of mixing that is measured here and not in the library.
//!
//! One angle for the whole latent weighs what two latents don't share by the angle of what they do share (the
//! layout), so their independent detail may lose some of its size. Here every band keeps its own.

use latentblend::{Latent, Result};

/// Bands besides what is left below them: each low pass reaches twice as far as the one before.
const BANDS: usize = 3;

/// The latent at `fraction` between `p` and `q`; both ends are exact.
///
/// # Errors
/// Those of [`Latent::new`].
pub(crate) fn band_slerp(p: &Latent, q: &Latent, fraction: f64) -> Result<Latent> {
    if fraction == 0.0 || p == q {
        return Ok(p.clone());
    }
    if fraction == 1.0 {
        return Ok(q.clone());
    }
    let [_, height, width] = p.shape();
    let size = height * width;
    let mut mixed = Vec::with_capacity(p.data().len());
    for (p, q) in p.data().chunks(size).zip(q.data().chunks(size)) {
        let (p, q) = (bands(p, height, width), bands(q, height, width));
        let mut channel = vec![0f64; size];
        for (p, q) in p.iter().zip(&q) {
            let between = arc(p, q, fraction);
            channel.iter_mut().zip(between).for_each(|(sum, value)| *sum += value);
        }
        mixed.extend(channel.iter().map(|&v| v as f32));
    }
    Latent::new(p.shape(), mixed)
}

/// A channel taken apart: bands from fine to coarse, what is left without its mean, and the mean.
fn bands(channel: &[f32], height: usize, width: usize) -> Vec<Vec<f64>> {
    let mut rest: Vec<f64> = channel.iter().map(|&v| f64::from(v)).collect();
    let mut parts = Vec::new();
    for band in 0..BANDS {
        let low = low_pass(&rest, height, width, 1 << band);
        parts.push(rest.iter().zip(&low).map(|(v, l)| v - l).collect());
        rest = low;
    }
    let mean = rest.iter().sum::<f64>() / rest.len() as f64;
    parts.push(rest.iter().map(|v| v - mean).collect());
    parts.push(vec![mean; rest.len()]);
    parts
}

/// Convolved with (1, 2, 1) / 4 along both axes, the neighbours being `step` pixels away, edges repeated.
fn low_pass(values: &[f64], height: usize, width: usize, step: usize) -> Vec<f64> {
    let along = |values: &[f64], stride: usize, length: usize, at: &dyn Fn(usize) -> usize| {
        let one = |p: usize| {
            let place = at(p);
            let (before, behind) = (place.min(step), (length - 1 - place).min(step));
            0.25 * values[p - before * stride]
                + 0.5 * values[p]
                + 0.25 * values[p + behind * stride]
        };
        (0..values.len()).map(one).collect::<Vec<f64>>()
    };
    let across = along(values, 1, width, &|p| p % width);
    along(&across, width, height, &|p| p / width)
}

/// On the arc between two vectors, brought to the norm that lies between theirs; a mean, whose angle is none,
/// goes along the line.
fn arc(p: &[f64], q: &[f64], fraction: f64) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = [dot(p, p).sqrt(), dot(q, q).sqrt()];
    let line = |from: f64, to: f64| -> Vec<f64> {
        p.iter().zip(q).map(|(p, q)| from * p + to * q).collect()
    };
    let cosine = dot(p, q) / (norms[0] * norms[1]);
    let even = p.iter().all(|v| *v == p[0]) && q.iter().all(|v| *v == q[0]);
    if even || !cosine.is_finite() || cosine.abs() > 1.0 - 1e-7 {
        return line(1.0 - fraction, fraction);
    }
    let angle = cosine.acos();
    let weights = [1.0 - fraction, fraction].map(|f| (angle * f).sin() / angle.sin());
    let mut between = line(weights[0] / norms[0], weights[1] / norms[1]);
    let norm = (1.0 - fraction) * norms[0] + fraction * norms[1];
    between.iter_mut().for_each(|v| *v *= norm);
    between
}
