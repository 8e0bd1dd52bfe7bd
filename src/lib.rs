//! Seamless transitions between prompts with Stable Diffusion 2.0, by latent blending.
pub mod backend;
mod blend;
mod diffusion;
mod error;
mod frame;
mod model;
mod net;
mod progress;

pub use blend::*;
pub use diffusion::*;
pub use error::{Error, ErrorKind, Result};
pub use frame::Frame;
pub use model::{DiffusionConfig, Embedded, PredictionType, Spacing};
pub use progress::{Call, Cancel, Progress, Stage};

#[cfg(test)]
#[allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared with the tests"
)]
#[path = "../tests/common/golden.rs"]
mod golden;
