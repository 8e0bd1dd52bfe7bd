//! In: two latents and a fraction. Out: the latent between them on the arc.
//!
//! Summed on the host in f64 in one fixed order, so that every backend mixes alike. Fractions 0 and 1
//! give back the one or the other, bit for bit.

use super::latent::Latent;
use crate::error::{Error, Result};

/// Spherical linear interpolation (Shoemake 1985) with one angle for the whole latent, as the
/// original's `interpolate_spherical`; norms are not touched, so theirs are interpolated alike.
///
/// # Errors
/// `InvalidArgument` where the shapes differ.
pub fn slerp(p: &Latent, q: &Latent, fraction: f64) -> Result<Latent> {
    same_shape(p, q)?;
    if fraction == 0.0 || p == q {
        return Ok(p.clone());
    }
    if fraction == 1.0 {
        return Ok(q.clone());
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let (p_data, q_data) = (p.data(), q.data());
    let norms = dot(p_data, p_data).sqrt() * dot(q_data, q_data).sqrt();
    let (from, to) = if norms > 0.0 {
        // Kept from the poles, where the sine in the denominator vanishes.
        const EDGE: f64 = 1e-7;
        let angle = (dot(p_data, q_data) / norms).clamp(-1.0 + EDGE, 1.0 - EDGE).acos();
        let sine = angle.sin();
        ((angle * (1.0 - fraction)).sin() / sine, (angle * fraction).sin() / sine)
    } else {
        (1.0 - fraction, fraction)
    };
    weighted(p, q, from, to)
}

/// The point on the straight line between two latents.
pub(super) fn lerp(p: &Latent, q: &Latent, fraction: f64) -> Result<Latent> {
    same_shape(p, q)?;
    if fraction == 0.0 || p == q {
        return Ok(p.clone());
    }
    if fraction == 1.0 {
        return Ok(q.clone());
    }
    weighted(p, q, 1.0 - fraction, fraction)
}

pub(super) fn same_shape(p: &Latent, q: &Latent) -> Result<()> {
    if p.shape() == q.shape() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "latents of shape {:?} and {:?} cannot be mixed",
        p.shape(),
        q.shape()
    )))
}

fn weighted(p: &Latent, q: &Latent, from: f64, to: f64) -> Result<Latent> {
    let mixed = p.data().iter().zip(q.data());
    let mixed = mixed.map(|(&a, &b)| (from * f64::from(a) + to * f64::from(b)) as f32);
    Latent::new(p.shape(), mixed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_exact_and_equal_inputs_stay() {
        let p = Latent::new([1, 1, 3], vec![0.1, -0.7, 3.0]).unwrap();
        let q = Latent::new([1, 1, 3], vec![1.1, 0.2, -1.0]).unwrap();
        for mix in [slerp, lerp] {
            assert_eq!(mix(&p, &q, 0.0).unwrap(), p);
            assert_eq!(mix(&p, &q, 1.0).unwrap(), q);
            assert_eq!(mix(&p, &p, 0.3).unwrap(), p);
        }
    }

    #[test]
    fn a_quarter_circle_is_halved() {
        let p = Latent::new([1, 1, 2], vec![1.0, 0.0]).unwrap();
        let q = Latent::new([1, 1, 2], vec![0.0, 1.0]).unwrap();
        let half = slerp(&p, &q, 0.5).unwrap();
        let root = std::f32::consts::FRAC_1_SQRT_2;
        assert!(half.data().iter().all(|v| (v - root).abs() < 1e-7), "{half:?}");
    }
}
