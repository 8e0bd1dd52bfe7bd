//! In: named tensors and activations. Out: activations. The three networks of Stable Diffusion 2,
//! written once over [`Backend`](crate::backend::Backend).
//!
//! Knows nothing of sampling, blending or files' places; which tensors there must be and of what shape
//! stands here and nowhere else.

mod attention;
mod layers;
mod lpips;
mod resnet;
mod table;
mod text_encoder;
mod unet;
mod vae;

#[cfg(test)]
mod tests;

pub(crate) use layers::Layers;
pub use lpips::Lpips;
pub(crate) use lpips::LpipsFeatures;
pub(crate) use text_encoder::TextEncoder;
pub(crate) use unet::{Evaluation, KeysValues, TimeBias, Unet};
pub(crate) use vae::Vae;
