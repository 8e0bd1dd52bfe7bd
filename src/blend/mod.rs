//! In: a model, keyframes, options, and t. Out: the frame at t.
//!
//! Knows networks only as an [`Engine`](crate::diffusion::Engine) that denoises batches.

mod cache;
mod crossfeed;
mod image;
mod inpainting;
mod lineage;
mod mix;
mod options;
mod plan;
mod scene;
mod session;
mod shot;
mod stems;
mod timing;
mod tree;

pub use crossfeed::Crossfeed;
pub use image::{KeyframeImage, inverse};
pub use inpainting::Inpainting;
pub use mix::{EmbeddingMix, mix_contexts};
pub use options::{BlendOptions, Keyframe};
pub use plan::{Branching, GuidanceDamping, Level, Look, Parents, Plan, Preset, parents, spacing};
pub use session::Session;
pub use shot::{Output, Target};
pub use stems::StemLimit;
