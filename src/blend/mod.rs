//! In: a model, keyframes, options, and t. Out: the frame at t.
//!
//! Knows networks only as an [`Engine`](crate::diffusion::Engine) that denoises batches.

mod cache;
mod crossfeed;
mod lineage;
mod mix;
mod options;
mod plan;
mod session;
mod stems;
mod timing;
mod tree;

pub use crossfeed::Crossfeed;
pub use mix::{EmbeddingMix, mix_contexts};
pub use options::{BlendOptions, Keyframe};
pub use plan::{Branching, GuidanceDamping, Level, Look, Parents, Plan, Preset, parents, spacing};
pub use session::Session;
pub use stems::StemLimit;
