//! In: prompts' token ids, seeds and steps. Out: conditioning, noise, denoised latents and frames.
//!
//! Knows nothing of transitions: what is blended with what is decided above.

mod bands;
mod convert;
mod engine;
mod executor;
mod facts;
mod feed;
mod guidance;
mod keeper;
mod latent;
mod latent_mix;
mod load;
mod memory;
mod model;
mod needs;
mod noise;
mod pipeline;
mod run;
mod sampler;
mod schedule;
mod slerp;
mod state;

pub use convert::convert;
pub use engine::{Batch, Branch, Denoising, Engine, Posterior};
pub(crate) use executor::{Pending, Priority};
pub use feed::Feed;
pub use guidance::GuidanceSteps;
pub(crate) use keeper::Hold;
pub use latent::{Context, Latent};
pub use latent_mix::LatentMix;
pub(crate) use memory::physical;
pub use model::{Model, ModelInfo};
pub use needs::Needs;
pub(crate) use needs::estimate;
pub use noise::{NoiseKind, cpu_normals, cuda_normals, noise};
pub use sampler::{Sampler, StepWeights, data_prediction, ddim, dpm_solver_2m};
pub use schedule::{Schedule, SchedulePolicy, Step};
pub use slerp::slerp;
pub use state::{State, Trail};
