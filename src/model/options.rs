//! In: what a caller knows better than a model's files. Out: [`LoadOptions`].

use super::config::{PredictionType, Spacing};
use std::path::PathBuf;

/// What a caller says about a model that its files do not, or say wrongly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What the UNet predicts. By default what the configuration says; a single file without one is
    /// asked by a single evaluation of the UNet.
    pub prediction_type: Option<PredictionType>,
    /// Which timesteps a run visits; a single file of SD-Turbo needs `Trailing` here.
    pub spacing: Option<Spacing>,
    /// Where the configurations and the tokenizer of a single file are: a diffusers folder (its weights
    /// are not looked at), a `.json` file that holds one text of such a folder under each name, or the
    /// original `.yaml`. By default `NAME.latentblend.json` beside the file, the header of a file that
    /// [`convert`](crate::convert) wrote, or `NAME.yaml`.
    pub config: Option<PathBuf>,
}
