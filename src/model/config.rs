//! In: the JSON configurations of a diffusers folder. Out: the sizes and choices of each network,
//! with a clear refusal of what is not of the Stable Diffusion 2 family.
//!
//! Sizes come from here alone, so a small model of the same architecture loads like the large one.

use super::source::Source;
use crate::error::{Error, Result};
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
fn thirty_two() -> usize {
    32
}
fn norm_eps() -> f64 {
    1e-5
}
fn yes() -> bool {
    true
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

/// What the UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PredictionType {
    /// The noise.
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022).
    #[serde(rename = "v_prediction")]
    Velocity,
}

/// Which of the training timesteps a run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Multiples of 1000 / steps, rounded down, plus the offset: Stable Diffusion 2.
    Leading,
    /// Counted down from the last timestep: SD-Turbo.
    Trailing,
    /// From the last timestep to the first, both included, rounded.
    Linspace,
}

/// The noise schedule that a model was trained with, and how it is sampled.
#[derive(Clone, Debug)]
pub struct DiffusionConfig {
    /// Timesteps of the training.
    pub train_steps: usize,
    /// The first beta.
    pub beta_start: f64,
    /// The last beta.
    pub beta_end: f64,
    /// Whether betas are spaced evenly in their square root (`scaled_linear`) or themselves.
    pub square_root_spacing: bool,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// Which timesteps a run visits.
    pub spacing: Spacing,
    /// Added to each timestep of the leading spacing.
    pub steps_offset: usize,
    /// Whether the last step ends at a signal share of 1, rather than at that of timestep 0.
    pub final_alpha_one: bool,
}

#[derive(Debug, Deserialize)]
struct SchedulerFile {
    #[serde(rename = "_class_name", default)]
    class_name: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    #[serde(default)]
    beta_schedule: String,
    prediction_type: Option<PredictionType>,
    timestep_spacing: Option<String>,
    #[serde(default)]
    steps_offset: usize,
    set_alpha_to_one: Option<bool>,
}

fn thousand() -> usize {
    1000
}

/// The number of each of `levels` levels.
fn per_level(value: &PerLevel, levels: usize) -> Option<Vec<usize>> {
    match value {
        PerLevel::One(n) => Some(vec![*n; levels]),
        PerLevel::Each(each) if each.len() == levels => Some(each.clone()),
        PerLevel::Each(_) => None,
    }
}

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

/// The same for the VAE.
const VAE_FIXED: &[(&str, &[&str])] =
    &[("act_fn", &["\"silu\""]), ("latents_mean", &[]), ("latents_std", &[])];

/// The same for the scheduler.
const SCHEDULER_FIXED: &[(&str, &[&str])] = &[
    ("thresholding", &["false"]),
    ("clip_sample", &["false"]),
    ("rescale_betas_zero_snr", &["false"]),
    ("trained_betas", &[]),
    ("use_flow_sigmas", &["false"]),
];

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

/// No model of the family comes near these; a damaged file doesn't reach an allocation.
const MOST_LAYERS: usize = 64;
const MOST_CHANNELS: usize = 1 << 16;

/// Adds the file to a message.
fn refuse<T>(source: &Source, name: &str, what: impl AsRef<str>) -> Result<T> {
    Err(Error::bad_model(format!("{}: {}", source.label(name), what.as_ref())))
}

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

impl DiffusionConfig {
    /// The configuration, and whether it says, or implies, what the UNet predicts.
    pub(crate) fn read(source: &Source) -> Result<(Self, bool)> {
        const NAME: &str = "scheduler/scheduler_config.json";
        let file: SchedulerFile = checked(source, NAME, SCHEDULER_FIXED)?;
        let no = |what: String| refuse(source, NAME, what);
        let square_root_spacing = match file.beta_schedule.as_str() {
            "scaled_linear" => true,
            "linear" => false,
            other => {
                return no(format!("beta_schedule '{other}': wanted 'scaled_linear' or 'linear'"));
            }
        };
        // What goes without saying depends on the class that wrote the file, as in diffusers.
        let even = ["DPMSolver", "Euler"].iter().any(|class| file.class_name.starts_with(class));
        let spacing = match file.timestep_spacing.as_deref() {
            None if even => Spacing::Linspace,
            None | Some("leading") => Spacing::Leading,
            Some("trailing") => Spacing::Trailing,
            Some("linspace") => Spacing::Linspace,
            Some(other) => {
                return no(format!(
                    "timestep_spacing '{other}': wanted 'leading', 'trailing' or 'linspace'"
                ));
            }
        };
        if !(2..=100_000).contains(&file.num_train_timesteps) {
            return no(format!(
                "num_train_timesteps {}: wanted 2 to 100000",
                file.num_train_timesteps
            ));
        }
        if file.steps_offset >= file.num_train_timesteps {
            return no(format!("steps_offset {}: beyond the timesteps", file.steps_offset));
        }
        // Euler's last step ends at no noise, whatever its file says; the default of the field is that
        // of the class that wrote the file, and PNDM's differs from DDIM's.
        let final_alpha_one = file.class_name.starts_with("Euler")
            || file.set_alpha_to_one.unwrap_or(file.class_name != "PNDMScheduler");
        let betas = [file.beta_start, file.beta_end];
        if betas.iter().any(|beta| !(*beta > 0.0 && *beta < 1.0)) {
            return no(format!("betas {betas:?}: wanted numbers between 0 and 1"));
        }
        // To diffusers, whose file names its class, the noise goes without saying.
        let stated = file.prediction_type.is_some() || !file.class_name.is_empty();
        let config = DiffusionConfig {
            train_steps: file.num_train_timesteps,
            beta_start: file.beta_start,
            beta_end: file.beta_end,
            square_root_spacing,
            prediction_type: file.prediction_type.unwrap_or(PredictionType::Epsilon),
            spacing,
            steps_offset: file.steps_offset,
            final_alpha_one,
        };
        Ok((config, stated))
    }
}
