//! In: a model folder in diffusers layout, or the embedded one. Out: configurations, the tokenizer,
//! and named tensors in host memory.
//!
//! Knows nothing of what the tensors mean.

mod config;
mod source;
mod tokenizer;
mod weights;

pub use config::{DiffusionConfig, PredictionType, Spacing};
pub(crate) use config::{TextConfig, UnetConfig, VaeConfig};
pub use source::Embedded;
pub(crate) use source::Source;
pub(crate) use tokenizer::Tokenizer;
pub(crate) use weights::{LoadMeter, Weights};
