//! In: a model, keyframes, options, and t. Out: the frame at t.
//!
//! Knows networks only as an [`Engine`](crate::diffusion::Engine) that denoises batches.

mod adapt;
mod branching;
mod cache;
mod conditioning;
mod crossfeed;
mod curve;
mod develop;
mod distance;
mod easing;
mod even;
mod exact;
mod extend;
mod image;
mod inpainting;
mod keyframe;
mod keyframe_record;
mod lineage;
mod memory;
mod meter;
mod mix;
mod options;
mod origin;
mod plan;
mod record;
mod scene;
mod scene_record;
mod session;
mod shot;
mod stems;
mod store;
mod tensor;
mod there;
mod timeline;
mod timing;
mod tree;

pub use adapt::Adapt;
pub use branching::Branching;
pub use crossfeed::Crossfeed;
pub use curve::{Curve, Interpolation};
pub use distance::Distance;
pub use easing::Easing;
pub use even::Even;
pub use image::{KeyframeImage, inverse};
pub use inpainting::Inpainting;
pub use keyframe::Keyframe;
pub use mix::{EmbeddingMix, mix_contexts};
pub use options::BlendOptions;
pub use origin::Origin;
pub use plan::{GuidanceDamping, Level, Look, Parents, Plan, Preset, parents, spacing};
pub use session::Session;
pub use shot::{Output, Target};
pub use stems::StemLimit;
pub use store::{RestoreOptions, SESSION_FORMAT};
pub use timeline::{Pace, Segment, Timeline, Timing};
