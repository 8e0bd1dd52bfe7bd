//! In: two latents and a fraction. Out: what lies between them on an arc of its own for every channel and
//! every band of frequencies.
//!
//! One angle for the whole latent weighs what two latents don't share by the angle of what they do share (the
//! layout), so their independent detail loses some of its size. Here every band keeps its own. Summed on the host
//! in f64 in one fixed order, as [`slerp`](super::slerp::slerp) is; fractions 0 and 1 give back the one or the
//! other, bit for bit.

use super::latent::Latent;
use crate::error::Result;

/// Bands besides what is left below them: each low pass reaches twice as far as the one before.
const BANDS: usize = 3;

/// The latent at `fraction` between `p` and `q`, of the same shape.
///
/// # Errors
/// Those of [`Latent::new`].
pub(super) fn band_slerp(p: &Latent, q: &Latent, fraction: f64) -> Result<Latent> {
    if fraction == 0.0 || p == q {
        return Ok(p.clone());
    }
    if fraction == 1.0 {
        return Ok(q.clone());
    }
    let [_, height, width] = p.shape();
    let mut mixed = Vec::with_capacity(p.data().len());
    for (p, q) in p.data().chunks(height * width).zip(q.data().chunks(height * width)) {
        let mut channel = vec![0f64; height * width];
        for (p, q) in bands(p, height, width).iter().zip(&bands(q, height, width)) {
            let [from, to] = weights(p, q, fraction);
            for ((sum, p), q) in channel.iter_mut().zip(p).zip(q) {
                *sum += from * p + to * q;
            }
        }
        mixed.extend(channel.iter().map(|&v| v as f32));
    }
    Latent::new(p.shape(), mixed)
}

/// A channel taken apart: bands from fine to coarse, what is left without its mean, and the mean.
fn bands(channel: &[f32], height: usize, width: usize) -> Vec<Vec<f64>> {
    let mut rest: Vec<f64> = channel.iter().map(|&v| f64::from(v)).collect();
    let mut parts = Vec::with_capacity(BANDS + 2);
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
    let soft = |before: f64, here: f64, behind: f64| 0.25 * before + 0.5 * here + 0.25 * behind;
    let mut across = Vec::with_capacity(values.len());
    for row in values.chunks(width) {
        let at =
            |x: usize| soft(row[x.saturating_sub(step)], row[x], row[(x + step).min(width - 1)]);
        across.extend((0..width).map(at));
    }
    let mut low = Vec::with_capacity(values.len());
    for y in 0..height {
        let [before, behind] = [y.saturating_sub(step), (y + step).min(height - 1)];
        let row = |y: usize| across[y * width..(y + 1) * width].iter();
        let all = row(before).zip(row(y)).zip(row(behind));
        low.extend(all.map(|((&before, &here), &behind)| soft(before, here, behind)));
    }
    low
}

/// The shares of two vectors in what lies on the arc between them, brought to the norm that lies between theirs.
/// Where there is no angle (a vector of nothing, one direction, a mean), the shares are those of the line.
fn weights(p: &[f64], q: &[f64], fraction: f64) -> [f64; 2] {
    /// Below this the sine in the denominator says nothing.
    const EDGE: f64 = 1e-7;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = [dot(p, p).sqrt(), dot(q, q).sqrt()];
    let flat = |v: &[f64]| v.iter().all(|value| *value == v[0]);
    let cosine = dot(p, q) / (norms[0] * norms[1]);
    if flat(p) && flat(q) || !cosine.is_finite() || cosine.abs() > 1.0 - EDGE {
        return [1.0 - fraction, fraction];
    }
    let angle = cosine.acos();
    let norm = (1.0 - fraction) * norms[0] + fraction * norms[1];
    let share = |f: f64, own: f64| (angle * f).sin() / angle.sin() / own * norm;
    [share(1.0 - fraction, norms[0]), share(fraction, norms[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{cpu_normals, slerp};

    /// Grain over a layout that all of these share.
    fn latent(seed: u64, shape: [usize; 3]) -> Latent {
        let [channels, height, width] = shape;
        let count = channels * height * width;
        let grain = cpu_normals(seed, count);
        let layout = |i: usize| (i / width % height) as f32 / 2.0 - height as f32 / 4.0;
        Latent::new(shape, (0..count).map(|i| grain[i] + layout(i)).collect()).unwrap()
    }

    fn apart(a: &Latent, b: &Latent) -> f32 {
        a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn the_ends_are_exact_and_what_is_near_them_is_near() {
        for shape in [[4, 16, 16], [1, 1, 1], [2, 1, 9], [3, 5, 2], [1, 2, 1], [4, 7, 13]] {
            let (p, q) = (latent(1, shape), latent(2, shape));
            assert_eq!(band_slerp(&p, &q, 0.0).unwrap(), p);
            assert_eq!(band_slerp(&p, &q, 1.0).unwrap(), q);
            assert_eq!(band_slerp(&p, &p, 0.3).unwrap(), p);
            assert!(apart(&band_slerp(&p, &q, 1e-6).unwrap(), &p) < 1e-4, "{shape:?}");
            assert!(apart(&band_slerp(&p, &q, 1.0 - 1e-6).unwrap(), &q) < 1e-4, "{shape:?}");
            let half = band_slerp(&p, &q, 0.5).unwrap();
            assert!(half.data().iter().all(|v| v.is_finite()), "{shape:?}");
            // The same both ways, but for the order of two products.
            assert!(apart(&half, &band_slerp(&q, &p, 0.5).unwrap()) < 1e-5, "{shape:?}");
        }
    }

    #[test]
    fn bands_add_up_to_the_channel() {
        let channel = latent(3, [1, 9, 12]);
        let parts = bands(channel.data(), 9, 12);
        assert_eq!(parts.len(), BANDS + 2);
        for (index, &value) in channel.data().iter().enumerate() {
            let sum: f64 = parts.iter().map(|part| part[index]).sum();
            assert!((sum - f64::from(value)).abs() < 1e-12);
        }
    }

    #[test]
    fn detail_keeps_its_size_where_one_angle_for_all_loses_some() {
        let (p, q) = (latent(1, [4, 16, 16]), latent(2, [4, 16, 16]));
        // What neighbours in a row differ by is grain, and none of the layout.
        let detail =
            |l: &Latent| l.data().windows(2).map(|w| f64::from(w[1] - w[0]).powi(2)).sum::<f64>();
        let between = (detail(&p) + detail(&q)) / 2.0;
        let banded = detail(&band_slerp(&p, &q, 0.5).unwrap()) / between;
        let whole = detail(&slerp(&p, &q, 0.5).unwrap()) / between;
        assert!((banded - 1.0).abs() < 0.05, "{banded}");
        assert!(whole < 0.8, "the layout is shared, so the whole latent's angle is small: {whole}");
    }

    #[test]
    fn opposite_and_empty_bands_go_along_the_line() {
        let p = Latent::new([1, 1, 2], vec![1.0, -1.0]).unwrap();
        let q = Latent::new([1, 1, 2], vec![-1.0, 1.0]).unwrap();
        let none = Latent::new([1, 1, 2], vec![0.0, 0.0]).unwrap();
        assert_eq!(band_slerp(&p, &q, 0.25).unwrap().data(), [0.5, -0.5]);
        assert_eq!(band_slerp(&p, &none, 0.25).unwrap().data(), [0.75, -0.75]);
    }
}
