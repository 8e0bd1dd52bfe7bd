//! In: what a caller knows better than a model's files, and how it is to be computed. Out: [`LoadOptions`].

use super::config::{PredictionType, Spacing};
use crate::backend::{DeviceChoice, Precision};
use std::path::PathBuf;
use std::time::Duration;

/// What a caller says about a model that its files do not, or say wrongly, and how it is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// What the model is loaded onto.
    pub device: DeviceChoice,
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
    /// What it computes with. Frames are the same, bit for bit, for one precision only.
    pub precision: Precision,
    /// How many threads it computes with, besides those that call; 0: one for each core. Frames do not depend
    /// on it.
    pub threads: usize,
    /// The most bytes of memory that the weights and any call on them may take together; what would take more
    /// is refused before it is begun. By default what the machine has. On a CUDA device it is the device's memory,
    /// and a limit that all models on the device have together: that of the last loaded.
    pub memory_limit: Option<u64>,
    /// How long the weights stay without a call on the model; then they go by themselves, as by
    /// [`Model::unload`](crate::Model::unload), and the next call loads them again. By default they stay.
    pub idle: Option<Duration>,
}
