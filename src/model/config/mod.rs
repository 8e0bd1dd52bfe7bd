//! In: the JSON configurations of a diffusers folder. Out: the sizes and choices of each network,
//! with a clear refusal of what is not of the Stable Diffusion 2 family.
//!
//! Sizes come from here alone, so a small model of the same architecture loads like the large one.

mod diffusion;
mod text;
mod unet;
mod vae;

pub use diffusion::{DiffusionConfig, PredictionType, Spacing};
pub(crate) use text::TextConfig;
pub(crate) use unet::UnetConfig;
pub(crate) use vae::VaeConfig;

use crate::error::{Error, Result};
use crate::model::Source;

// Defaults of diffusers, for fields that several files leave out.

fn thirty_two() -> usize {
    32
}
fn norm_eps() -> f64 {
    1e-5
}
fn yes() -> bool {
    true
}

/// No model of the family comes near these; a damaged file doesn't reach an allocation.
const MOST_LAYERS: usize = 64;
const MOST_CHANNELS: usize = 1 << 16;

/// Checks that every level's channels can be normalised in groups and split into heads.
fn check_channels(channels: &[usize], groups: usize) -> std::result::Result<(), String> {
    let sound = |&c: &usize| (1..=MOST_CHANNELS).contains(&c);
    if channels.is_empty() || channels.len() > 8 || !channels.iter().all(sound) {
        return Err(format!(
            "block_out_channels {channels:?}: 1 to 8 numbers up to {MOST_CHANNELS} are wanted"
        ));
    }
    match channels.iter().find(|&&c| groups == 0 || c % groups != 0) {
        Some(c) => Err(format!("{c} channels do not split into norm_num_groups {groups}")),
        None => Ok(()),
    }
}

/// Reads a configuration, whose `fixed` settings are absent, null, or one of the values given.
fn checked<T: serde::de::DeserializeOwned>(
    source: &Source,
    name: &str,
    fixed: &[(&str, &[&str])],
) -> Result<T> {
    let value: serde_json::Value = source.json(name)?;
    for (field, accepted) in fixed {
        let set = &value[*field];
        if !set.is_null() && !accepted.contains(&set.to_string().as_str()) {
            let wanted = accepted.first().unwrap_or(&"none");
            return refuse(source, name, format!("{field} is {set}, wanted {wanted}"));
        }
    }
    serde_json::from_value(value)
        .map_err(|e| Error::bad_model(format!("{}: {e}", source.label(name))))
}

/// Adds the file to a message.
fn refuse<T>(source: &Source, name: &str, what: impl AsRef<str>) -> Result<T> {
    Err(Error::bad_model(format!("{}: {}", source.label(name), what.as_ref())))
}
