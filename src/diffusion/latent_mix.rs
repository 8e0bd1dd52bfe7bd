//! In: two latents, a fraction, and by which rule. Out: [`LatentMix`], the rules for what lies between.

use super::bands::band_slerp;
use super::latent::Latent;
use super::slerp::{same_shape, slerp};
use crate::error::Result;

/// How latents are mixed, where a branch starts between two others or is drawn to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LatentMix {
    /// On one arc for the whole latent ([`slerp`]), as the original does.
    #[default]
    Arc,
    /// On an arc of its own for every channel and every band of frequencies: detail that two latents don't share
    /// keeps its size, where one arc, whose angle is that of the shared layout, lets it fade.
    Bands,
}

impl LatentMix {
    /// All rules.
    pub const ALL: [LatentMix; 2] = [LatentMix::Arc, LatentMix::Bands];

    /// Its name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            LatentMix::Arc => "arc",
            LatentMix::Bands => "bands",
        }
    }

    /// The latent at `fraction` of the way from `p` to `q`; 0 and 1 give back the one or the other, bit for bit.
    /// Summed on the host in f64 in one fixed order, so that every backend mixes alike.
    ///
    /// # Errors
    /// `InvalidArgument` where the shapes differ.
    pub fn between(self, p: &Latent, q: &Latent, fraction: f64) -> Result<Latent> {
        same_shape(p, q)?;
        match self {
            LatentMix::Arc => slerp(p, q, fraction),
            LatentMix::Bands => band_slerp(p, q, fraction),
        }
    }
}
