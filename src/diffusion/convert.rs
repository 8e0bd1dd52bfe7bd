//! In: a model on disk, in either layout. Out: the same weights in the other.

use super::model::Model;
use crate::error::Result;
use crate::model::{DiffusionConfig, LoadOptions, ModelLayout, PredictionType, Source, export};
use crate::progress::Call;
use std::path::Path;

/// Writes the model at `from` to `to`, which must not exist yet, in `layout`.
///
/// Every number in use is kept bit for bit, so the model's fingerprint stays. A single file gets the
/// configurations and, unless it is CLIP's own, the tokenizer in its header; without them this library
/// could not tell the sizes of small models. Its text encoder has the layers that are in use: one that
/// came from a folder lacks the 24th, which Stable Diffusion 2 never runs. Where nothing says what the
/// UNet predicts, the model is loaded to find out.
///
/// # Errors
/// Those of [`Model::load_with`], `InvalidArgument` where `to` is there already, `Io`. What is half
/// written is removed.
pub fn convert(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    layout: ModelLayout,
    options: &LoadOptions,
    call: &Call<'_>,
) -> Result<()> {
    let from = from.as_ref();
    let source = Source::open_path(from, options.config.as_deref())?;
    let (config, stated) = DiffusionConfig::read(&source)?;
    let kind = match options.prediction_type {
        Some(kind) => kind,
        None if stated => config.prediction_type,
        None => Model::load_with(from, options, call)?.info().prediction_type(),
    };
    let sample_size = if kind == PredictionType::Velocity { 96 } else { 64 };
    let spacing = options.spacing.unwrap_or(config.spacing);
    export(&source, to.as_ref(), layout, (kind, spacing), sample_size, call)
}
