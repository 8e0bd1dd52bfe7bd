//! In: `unet/config.json`. Out: the sizes of the UNet.

use super::{
    MOST_CHANNELS, MOST_LAYERS, check_channels, checked, norm_eps, refuse, thirty_two, yes,
};
use crate::error::Result;
use crate::model::Source;
use serde::Deserialize;

/// One number for all levels, or a number for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum PerLevel {
    One(usize),
    Each(Vec<usize>),
}

/// The fields of `unet/config.json` that decide the network.
#[derive(Debug, Deserialize)]
struct UnetFile {
    in_channels: usize,
    out_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    #[serde(default = "two")]
    layers_per_block: PerLevel,
    attention_head_dim: PerLevel,
    num_attention_heads: Option<PerLevel>,
    cross_attention_dim: PerLevel,
    #[serde(default = "thirty_two")]
    norm_num_groups: usize,
    #[serde(default = "norm_eps")]
    norm_eps: f64,
    #[serde(default)]
    use_linear_projection: bool,
    #[serde(default = "yes")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default = "silu")]
    act_fn: String,
    addition_embed_type: Option<String>,
    class_embed_type: Option<String>,
    num_class_embeds: Option<usize>,
    sample_size: Option<PerLevel>,
}

fn two() -> PerLevel {
    PerLevel::One(2)
}
fn silu() -> String {
    "silu".into()
}

/// The sizes of the UNet.
#[derive(Clone, Debug)]
pub(crate) struct UnetConfig {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) channels: Vec<usize>,
    /// Whether a level has transformers, from the outermost level inwards.
    pub(crate) attention: Vec<bool>,
    pub(crate) heads: Vec<usize>,
    pub(crate) layers: usize,
    pub(crate) context: usize,
    pub(crate) groups: usize,
    pub(crate) epsilon: f64,
    pub(crate) flip_sin_to_cos: bool,
    pub(crate) frequency_shift: f64,
    /// The latent height and width that the model was trained at, if the file says.
    pub(crate) sample_size: Option<[usize; 2]>,
}

/// The number of each of `levels` levels.
fn per_level(value: &PerLevel, levels: usize) -> Option<Vec<usize>> {
    match value {
        PerLevel::One(n) => Some(vec![*n; levels]),
        PerLevel::Each(each) if each.len() == levels => Some(each.clone()),
        PerLevel::Each(_) => None,
    }
}

/// Settings that Stable Diffusion 2 leaves at one value, and that would change the result at another:
/// a file that sets them otherwise is refused rather than read wrongly.
const UNET_FIXED: &[(&str, &[&str])] = &[
    ("transformer_layers_per_block", &["1"]),
    ("center_input_sample", &["false"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("only_cross_attention", &["false"]),
    ("mid_block_only_cross_attention", &["false"]),
    ("cross_attention_norm", &[]),
    ("attention_type", &["\"default\""]),
    ("encoder_hid_dim", &[]),
    ("time_cond_proj_dim", &[]),
    ("time_embedding_type", &["\"positional\""]),
    ("time_embedding_act_fn", &[]),
    ("timestep_post_act", &[]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("resnet_skip_time_act", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("dropout", &["0", "0.0"]),
];

impl UnetConfig {
    pub(crate) fn read(source: &Source) -> Result<Self> {
        const NAME: &str = "unet/config.json";
        let file: UnetFile = checked(source, NAME, UNET_FIXED)?;
        let no = |what: String| refuse(source, NAME, what);
        let levels = file.block_out_channels.len();
        if file.addition_embed_type.is_some() {
            return no(
                "this is an SDXL model (addition_embed_type is set); Stable Diffusion 2 is wanted"
                    .into(),
            );
        }
        if file.class_embed_type.is_some() || file.num_class_embeds.is_some() {
            return no(
                "the UNet has class embeddings (an upscaler?); Stable Diffusion 2 has none".into()
            );
        }
        if !file.use_linear_projection {
            return no("this is an SD 1.x model (use_linear_projection is false); Stable Diffusion 2 is wanted".into());
        }
        if file.act_fn != "silu" {
            return no(format!("act_fn '{}': wanted 'silu'", file.act_fn));
        }
        if let Err(what) = check_channels(&file.block_out_channels, file.norm_num_groups) {
            return no(what);
        }
        let attention: Option<Vec<bool>> = file
            .down_block_types
            .iter()
            .map(|kind| match kind.as_str() {
                "CrossAttnDownBlock2D" => Some(true),
                "DownBlock2D" => Some(false),
                _ => None,
            })
            .collect();
        let up: Option<Vec<bool>> = file
            .up_block_types
            .iter()
            .rev()
            .map(|kind| match kind.as_str() {
                "CrossAttnUpBlock2D" => Some(true),
                "UpBlock2D" => Some(false),
                _ => None,
            })
            .collect();
        let attention = match (attention, up) {
            (Some(down), Some(up)) if down == up && down.len() == levels => down,
            _ => {
                return no(format!(
                    "block types {:?} and {:?} are not those of Stable Diffusion 2 with {levels} levels",
                    file.down_block_types, file.up_block_types
                ));
            }
        };
        // What diffusers calls attention_head_dim is the number of heads, unless the other is given.
        let heads = file.num_attention_heads.as_ref().unwrap_or(&file.attention_head_dim);
        let heads = match per_level(heads, levels) {
            Some(heads) => heads,
            None => return no(format!("attention_head_dim: {levels} numbers are wanted")),
        };
        for (&channels, &heads) in file.block_out_channels.iter().zip(&heads) {
            if heads == 0 || !channels.is_multiple_of(heads) {
                return no(format!("{channels} channels do not split into {heads} heads"));
            }
        }
        let (PerLevel::One(layers), PerLevel::One(context)) =
            (file.layers_per_block, file.cross_attention_dim)
        else {
            return no("layers_per_block and cross_attention_dim: one number each is wanted".into());
        };
        for (name, value, most) in [
            ("in_channels", file.in_channels, MOST_CHANNELS),
            ("out_channels", file.out_channels, MOST_CHANNELS),
            ("cross_attention_dim", context, MOST_CHANNELS),
            ("layers_per_block", layers, MOST_LAYERS),
        ] {
            if !(1..=most).contains(&value) {
                return no(format!("{name} {value}: wanted 1 to {most}"));
            }
        }
        let half = file.block_out_channels[0] / 2;
        if !(file.norm_eps > 0.0 && (0.0..half as f64).contains(&file.freq_shift)) {
            return no(format!(
                "norm_eps {}, freq_shift {}: wanted above 0, and 0 to below {half}",
                file.norm_eps, file.freq_shift
            ));
        }
        let sample_size = file.sample_size.and_then(|size| per_level(&size, 2));
        if sample_size.as_ref().is_some_and(|s| s.iter().any(|n| !(1..=4096).contains(n))) {
            return no(format!("sample_size {sample_size:?}: wanted 1 to 4096"));
        }
        Ok(UnetConfig {
            in_channels: file.in_channels,
            out_channels: file.out_channels,
            channels: file.block_out_channels,
            attention,
            heads,
            layers,
            context,
            groups: file.norm_num_groups,
            epsilon: file.norm_eps,
            flip_sin_to_cos: file.flip_sin_to_cos,
            frequency_shift: file.freq_shift,
            sample_size: sample_size.map(|size| [size[0], size[1]]),
        })
    }
}
