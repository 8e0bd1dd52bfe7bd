//! In: `text_encoder/config.json`. Out: the sizes of the text encoder.

use super::{MOST_CHANNELS, MOST_LAYERS, norm_eps, refuse};
use crate::error::Result;
use crate::model::Source;
use serde::Deserialize;

/// The sizes of the text encoder.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TextConfig {
    pub(crate) vocab_size: usize,
    #[serde(rename = "hidden_size")]
    pub(crate) width: usize,
    #[serde(rename = "num_hidden_layers")]
    pub(crate) layers: usize,
    #[serde(rename = "num_attention_heads")]
    pub(crate) heads: usize,
    #[serde(rename = "intermediate_size")]
    pub(crate) inner: usize,
    #[serde(rename = "max_position_embeddings", default = "seventy_seven")]
    pub(crate) positions: usize,
    #[serde(rename = "layer_norm_eps", default = "norm_eps")]
    pub(crate) epsilon: f64,
    #[serde(default)]
    hidden_act: String,
}

fn seventy_seven() -> usize {
    77
}

impl TextConfig {
    pub(crate) fn read(source: &Source) -> Result<Self> {
        const NAME: &str = "text_encoder/config.json";
        let config: TextConfig = source.json(NAME)?;
        let no = |what: String| refuse(source, NAME, what);
        if config.hidden_act != "gelu" {
            return no(format!(
                "hidden_act '{}': wanted 'gelu' (quick_gelu is SD 1.x)",
                config.hidden_act
            ));
        }
        if config.heads == 0 || config.width == 0 || !config.width.is_multiple_of(config.heads) {
            return no(format!(
                "width {} does not split into {} heads",
                config.width, config.heads
            ));
        }
        for (name, value, least, most) in [
            ("max_position_embeddings", config.positions, 3, 1 << 16),
            ("vocab_size", config.vocab_size, 1, 1 << 24),
            ("hidden_size", config.width, 1, MOST_CHANNELS),
            ("intermediate_size", config.inner, 1, 4 * MOST_CHANNELS),
            ("num_hidden_layers", config.layers, 1, MOST_LAYERS),
        ] {
            if !(least..=most).contains(&value) {
                return no(format!("{name} {value}: wanted {least} to {most}"));
            }
        }
        if config.epsilon.is_nan() || config.epsilon <= 0.0 {
            return no(format!("layer_norm_eps {}: wanted above 0", config.epsilon));
        }
        Ok(config)
    }
}
