//! In: two conditionings and a fraction. Out: what lies between them. (Latents are mixed by
//! [`LatentMix`](crate::diffusion::LatentMix).)
//!
//! Everything is summed on the host in f64 in one fixed order, so that every backend mixes alike.
//! Fractions 0 and 1 give back the one or the other, bit for bit.

use crate::diffusion::Context;
use crate::error::{Error, Result};

/// How the conditioning of two prompts is mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EmbeddingMix {
    /// Along the straight line, each token brought back to the norm that lies between the two: plain
    /// lines shorten tokens in the middle.
    #[default]
    NormPreserving,
    /// Along the straight line, as the original does.
    Linear,
}

/// The conditioning at `fraction` of the way from `p` to `q`.
pub fn mix_contexts(
    kind: EmbeddingMix,
    p: &Context,
    q: &Context,
    fraction: f64,
) -> Result<Context> {
    if p.tokens() != q.tokens() || p.width() != q.width() {
        return Err(Error::invalid(format!(
            "conditionings of {}x{} and {}x{} values cannot be mixed",
            p.tokens(),
            p.width(),
            q.tokens(),
            q.width()
        )));
    }
    if fraction == 0.0 || p == q {
        return Ok(p.clone());
    }
    if fraction == 1.0 {
        return Ok(q.clone());
    }
    let width = p.width();
    let mut mixed = Vec::with_capacity(p.data().len());
    let mut token = vec![0f64; width];
    for (a, b) in p.data().chunks(width).zip(q.data().chunks(width)) {
        for ((m, &a), &b) in token.iter_mut().zip(a).zip(b) {
            *m = (1.0 - fraction) * f64::from(a) + fraction * f64::from(b);
        }
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let scale = match kind {
            EmbeddingMix::Linear => 1.0,
            EmbeddingMix::NormPreserving => {
                let from = norm(&mut a.iter().map(|&v| f64::from(v)));
                let to = norm(&mut b.iter().map(|&v| f64::from(v)));
                let line = norm(&mut token.iter().copied());
                let wanted = (1.0 - fraction) * from + fraction * to;
                if line > 0.0 { wanted / line } else { 1.0 }
            }
        };
        mixed.extend(token.iter().map(|m| (m * scale) as f32));
    }
    Context::new(p.tokens(), mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_exact_and_equal_inputs_stay() {
        let p = Context::new(1, vec![0.1, -0.7, 3.0]).unwrap();
        let q = Context::new(1, vec![1.1, 0.2, -1.0]).unwrap();
        for kind in [EmbeddingMix::NormPreserving, EmbeddingMix::Linear] {
            assert_eq!(mix_contexts(kind, &p, &q, 0.0).unwrap(), p);
            assert_eq!(mix_contexts(kind, &p, &q, 1.0).unwrap(), q);
            assert_eq!(mix_contexts(kind, &p, &p, 0.3).unwrap(), p);
        }
    }

    #[test]
    fn tokens_keep_their_norm() {
        let p = Context::new(1, vec![3.0, 0.0]).unwrap();
        let q = Context::new(1, vec![0.0, 5.0]).unwrap();
        let norm = |c: &Context| c.data().iter().map(|v| v * v).sum::<f32>().sqrt();
        let kept = mix_contexts(EmbeddingMix::NormPreserving, &p, &q, 0.5).unwrap();
        assert!((norm(&kept) - 4.0).abs() < 1e-6);
        let line = mix_contexts(EmbeddingMix::Linear, &p, &q, 0.5).unwrap();
        assert_eq!(line.data(), [1.5, 2.5]);
    }
}
