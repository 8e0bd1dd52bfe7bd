//! In: a model folder in diffusers layout, a single file, or the embedded model. Out: configurations,
//! the tokenizer, and named tensors in host memory; and either layout written from the other.
//!
//! Knows nothing of what the tensors mean.

mod checkpoint;
mod config;
mod export;
mod fingerprint;
mod infer;
mod known;
mod licence;
mod naming;
mod options;
mod pickle;
mod single;
mod source;
mod tensors;
mod tokenizer;
mod vocabulary;
mod weights;

#[cfg(test)]
mod tests;

pub use config::{DiffusionConfig, PredictionType, Spacing};
pub(crate) use config::{TextConfig, UnetConfig, VaeConfig};
pub use export::ModelLayout;
pub(crate) use export::export;
pub use fingerprint::Fingerprint;
pub use known::Known;
pub(crate) use licence::licence;
pub use options::LoadOptions;
pub use source::Embedded;
pub(crate) use source::Source;
pub use tokenizer::PromptRules;
pub(crate) use tokenizer::Tokenizer;
pub(crate) use weights::{LoadMeter, Weights};
