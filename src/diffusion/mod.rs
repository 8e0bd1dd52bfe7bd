//! In: prompts' token ids, seeds and steps. Out: conditioning, noise, denoised latents and frames.
//!
//! Knows nothing of transitions: what is blended with what is decided above.

mod convert;
mod engine;
mod executor;
mod guidance;
mod latent;
mod memory;
mod model;
mod noise;
mod pipeline;
mod sampler;
mod schedule;

pub use convert::convert;
pub use engine::{Batch, Branch, Denoising, Engine, Posterior};
pub(crate) use executor::Priority;
pub use guidance::GuidanceSteps;
pub use latent::{Context, Latent};
pub(crate) use memory::physical;
pub use model::{Model, ModelInfo};
pub use noise::{NoiseKind, cpu_normals, cuda_normals, noise};
pub use sampler::{StepWeights, ddim};
pub use schedule::{Schedule, SchedulePolicy, Step};
