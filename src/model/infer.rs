//! In: the names and shapes in a single file. Out: the configurations that a folder would hold, or why
//! the file is not of the Stable Diffusion 2 family.

use super::naming::{TEXT, UNET, VAE};
use super::tensors::Entry;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What Stable Diffusion 2 has and no shape tells.
const HEAD: usize = 64;
const GROUPS: usize = 32;
/// Its text encoder is used without the last of 24 layers.
const TEXT_WIDTH: usize = 1024;
const TEXT_LAYERS: usize = 23;

type Outcome<T> = Result<T, String>;

/// The tensors of a single file, by name.
pub(super) struct Shapes<'a>(pub(super) &'a HashMap<String, Entry>);

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The first two axes of a tensor; a missing second is 1.
    fn get(&self, name: &str) -> Outcome<[usize; 2]> {
        let shape = &self.0.get(name).ok_or_else(|| format!("tensor {name} is missing"))?.shape;
        match shape[..] {
            [a] => Ok([a, 1]),
            [a, b, ..] => Ok([a, b]),
            [] => Err(format!("tensor {name} has no axes")),
        }
    }

    fn any(&self, part: &str) -> bool {
        self.0.keys().any(|name| name.starts_with(part))
    }

    /// Refuses what other programs and other models leave in single files.
    pub(super) fn check_family(&self) -> Outcome<()> {
        let families = [
            ("conditioner.embedders.", "this is an SDXL model (conditioner.embedders)"),
            (
                "cond_stage_model.transformer.",
                "this is an SD 1.x model (cond_stage_model.transformer)",
            ),
            ("cond_stage_model.roberta.", "this is a model of another text encoder (roberta)"),
            ("model.diffusion_model.joint_blocks.", "this is an SD 3 model (joint_blocks)"),
            ("model.diffusion_model.double_blocks.", "this is a Flux model (double_blocks)"),
            ("double_blocks.", "this is a Flux model (double_blocks)"),
            (
                "model.diffusion_model.label_emb.",
                "the UNet has class embeddings (an upscaler or unCLIP)",
            ),
            ("lora_", "this is a LoRA, not a model"),
            ("down_blocks.", "this is one network of a folder in diffusers layout"),
        ];
        if let Some((_, what)) = families.iter().find(|(prefix, _)| self.any(prefix)) {
            return Err(format!("{what}; Stable Diffusion 2 is wanted"));
        }
        let token = format!("{TEXT}token_embedding.weight");
        if self.has(&token) && self.get(&token)?[1] == 768 {
            return Err(
                "this is an SD 1.x model (token embedding of width 768); Stable Diffusion 2 is wanted"
                    .into(),
            );
        }
        for (prefix, what) in [(UNET, "UNet"), (VAE, "VAE"), (TEXT, "text encoder")] {
            if !self.any(prefix) {
                return Err(format!("no {what}: no tensor's name starts with {prefix}"));
            }
        }
        if self.any("model.diffusion_model.input_blocks.1.1.transformer_blocks.1.") {
            return Err(
                "the UNet's transformers are more than one block deep: not of Stable Diffusion 2"
                    .into(),
            );
        }
        Ok(())
    }

    /// `unet/config.json`.
    pub(super) fn unet(&self) -> Outcome<Value> {
        let name = |part: &str| format!("{UNET}{part}");
        let [first, inputs] = self.get(&name("input_blocks.0.0.weight"))?;
        let [outputs, _] = self.get(&name("out.2.weight"))?;
        let mut channels: Vec<usize> = Vec::new();
        let mut layers: Vec<usize> = Vec::new();
        let mut attention: Vec<bool> = Vec::new();
        let mut open = false;
        for index in 1.. {
            let block = name(&format!("input_blocks.{index}"));
            if self.has(&format!("{block}.0.op.weight")) {
                open = false;
                continue;
            }
            let resnet = format!("{block}.0.out_layers.3.weight");
            if !self.has(&resnet) {
                break;
            }
            let [output, _] = self.get(&resnet)?;
            let deep = self.has(&format!("{block}.1.proj_in.weight"));
            if !open {
                channels.push(output);
                layers.push(0);
                attention.push(deep);
                open = true;
            }
            if let Some(count) = layers.last_mut() {
                *count += 1;
            }
            if channels.last() != Some(&output) || attention.last() != Some(&deep) {
                return Err(format!("{block} is unlike its level: not of Stable Diffusion 2"));
            }
        }
        if channels.first() != Some(&first) || layers.iter().any(|count| *count != layers[0]) {
            return Err(format!(
                "levels of {channels:?} channels with {layers:?} residual blocks, after a convolution \
                 of {first}: not of Stable Diffusion 2"
            ));
        }
        let query = "1.transformer_blocks.0.attn2.to_k.weight";
        let [_, context] = self.get(&name(&format!("middle_block.{query}")))?;
        let heads = heads(&channels, "UNet")?;
        let kind = |deep: bool, a: &str, b: &str| if deep { a.to_owned() } else { b.to_owned() };
        let down = attention.iter().map(|&a| kind(a, "CrossAttnDownBlock2D", "DownBlock2D"));
        let up = attention.iter().rev().map(|&a| kind(a, "CrossAttnUpBlock2D", "UpBlock2D"));
        Ok(json!({
            "_class_name": "UNet2DConditionModel",
            "act_fn": "silu",
            "attention_head_dim": heads,
            "block_out_channels": channels,
            "center_input_sample": false,
            "cross_attention_dim": context,
            "down_block_types": down.collect::<Vec<_>>(),
            "downsample_padding": 1,
            "flip_sin_to_cos": true,
            "freq_shift": 0,
            "in_channels": inputs,
            "layers_per_block": layers[0],
            "mid_block_scale_factor": 1,
            "norm_eps": 1e-5,
            "norm_num_groups": GROUPS,
            "out_channels": outputs,
            "up_block_types": up.collect::<Vec<_>>(),
            "use_linear_projection": true,
        }))
    }

    /// `vae/config.json`.
    pub(super) fn vae(&self) -> Outcome<Value> {
        let level = |level: usize, index: usize| {
            format!("{VAE}encoder.down.{level}.block.{index}.conv1.weight")
        };
        let count = (0..).take_while(|&index| self.has(&level(0, index))).count();
        let levels = (0..).take_while(|&index| self.has(&level(index, 0))).count();
        let channels = (0..levels)
            .map(|index| Ok(self.get(&level(index, 0))?[0]))
            .collect::<Outcome<Vec<usize>>>()?;
        let [latent, _] = self.get(&format!("{VAE}post_quant_conv.weight"))?;
        groups(&channels, "VAE")?;
        Ok(json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": channels,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "in_channels": 3,
            "latent_channels": latent,
            "layers_per_block": count,
            "norm_num_groups": GROUPS,
            "out_channels": 3,
            "scaling_factor": 0.18215,
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
        }))
    }

    /// `text_encoder/config.json`.
    pub(super) fn text(&self) -> Outcome<Value> {
        let name = |part: &str| format!("{TEXT}{part}");
        let block = |index| name(&format!("transformer.resblocks.{index}.mlp.c_fc.weight"));
        let [vocabulary, width] = self.get(&name("token_embedding.weight"))?;
        let [positions, _] = self.get(&name("positional_embedding"))?;
        let [inner, _] = self.get(&block(0))?;
        let blocks = (0..).take_while(|&index| self.has(&block(index))).count();
        let layers = if width == TEXT_WIDTH { TEXT_LAYERS } else { blocks - 1 };
        let heads = heads(&[width], "text encoder")?;
        Ok(json!({
            "architectures": ["CLIPTextModel"],
            "bos_token_id": vocabulary.saturating_sub(2),
            "eos_token_id": vocabulary.saturating_sub(1),
            "hidden_act": "gelu",
            "hidden_size": width,
            "intermediate_size": inner,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": positions,
            "model_type": "clip_text_model",
            "num_attention_heads": heads[0],
            "num_hidden_layers": layers,
            "pad_token_id": 1,
            "projection_dim": width,
            "vocab_size": vocabulary,
        }))
    }
}

/// `scheduler/scheduler_config.json`, which says what the UNet predicts only where that is known.
pub(super) fn scheduler(prediction_type: Option<&str>) -> Value {
    let mut config = json!({
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": false,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": false,
        "steps_offset": 1,
    });
    if let Some(kind) = prediction_type {
        config["prediction_type"] = json!(kind);
    }
    config
}

/// The number of heads of each level: channels are split into heads of 64, as in Stable Diffusion 2.
fn heads(channels: &[usize], what: &str) -> Outcome<Vec<usize>> {
    groups(channels, what)?;
    match channels.iter().find(|&&count| count == 0 || count % HEAD != 0) {
        Some(count) => Err(format!(
            "{what}: {count} channels do not split into heads of {HEAD}, and no configuration says \
             otherwise"
        )),
        None => Ok(channels.iter().map(|count| count / HEAD).collect()),
    }
}

fn groups(channels: &[usize], what: &str) -> Outcome<()> {
    match channels.iter().find(|&&count| count == 0 || count % GROUPS != 0) {
        Some(count) => Err(format!(
            "{what}: {count} channels do not split into {GROUPS} groups, and no configuration says \
             otherwise"
        )),
        None => Ok(()),
    }
}
