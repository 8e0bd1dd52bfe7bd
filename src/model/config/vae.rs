//! In: `vae/config.json`. Out: the sizes of the VAE.

use super::{MOST_CHANNELS, MOST_LAYERS, check_channels, checked, refuse, thirty_two, yes};
use crate::error::Result;
use crate::model::Source;
use serde::Deserialize;

/// The sizes of the VAE.
#[derive(Clone, Debug)]
pub(crate) struct VaeConfig {
    pub(crate) channels: Vec<usize>,
    pub(crate) layers: usize,
    pub(crate) latent_channels: usize,
    pub(crate) groups: usize,
    pub(crate) scaling_factor: f64,
}

impl VaeConfig {
    /// Pixels per latent pixel: each level but the last halves the picture.
    pub(crate) fn factor(&self) -> usize {
        1 << (self.channels.len() - 1)
    }
}

#[derive(Debug, Deserialize)]
struct VaeFile {
    block_out_channels: Vec<usize>,
    #[serde(default = "one")]
    layers_per_block: usize,
    latent_channels: usize,
    #[serde(default = "thirty_two")]
    norm_num_groups: usize,
    #[serde(default = "scaling_factor")]
    scaling_factor: f64,
    shift_factor: Option<f64>,
    #[serde(default = "yes")]
    use_quant_conv: bool,
    #[serde(default = "yes")]
    use_post_quant_conv: bool,
    #[serde(default = "yes")]
    mid_block_add_attention: bool,
}

fn one() -> usize {
    1
}
fn scaling_factor() -> f64 {
    0.18215
}

/// Settings that Stable Diffusion 2 leaves at one value; see the UNet's.
const VAE_FIXED: &[(&str, &[&str])] =
    &[("act_fn", &["\"silu\""]), ("latents_mean", &[]), ("latents_std", &[])];

impl VaeConfig {
    pub(crate) fn read(source: &Source) -> Result<Self> {
        const NAME: &str = "vae/config.json";
        let file: VaeFile = checked(source, NAME, VAE_FIXED)?;
        let no = |what: String| refuse(source, NAME, what);
        if let Err(what) = check_channels(&file.block_out_channels, file.norm_num_groups) {
            return no(what);
        }
        if !(file.use_quant_conv && file.use_post_quant_conv && file.mid_block_add_attention)
            || file.shift_factor.is_some_and(|shift| shift != 0.0)
        {
            return no("the VAE lacks quant_conv, post_quant_conv or the middle attention, or has a shift_factor: not of Stable Diffusion 2".into());
        }
        if !(file.scaling_factor.is_finite() && file.scaling_factor > 0.0) {
            return no(format!("scaling_factor {}: wanted a positive number", file.scaling_factor));
        }
        let (latent, layers) = (file.latent_channels, file.layers_per_block);
        if !(1..=MOST_CHANNELS).contains(&latent) || !(1..=MOST_LAYERS).contains(&layers) {
            return no(format!(
                "latent_channels {latent}, layers_per_block {layers}: out of range"
            ));
        }
        Ok(VaeConfig {
            channels: file.block_out_channels,
            layers: file.layers_per_block,
            latent_channels: file.latent_channels,
            groups: file.norm_num_groups,
            scaling_factor: file.scaling_factor,
        })
    }
}
