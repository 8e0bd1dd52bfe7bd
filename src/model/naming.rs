//! In: a network's sizes. Out: the names of its tensors in diffusers' folders, which the networks ask
//! for, and in the original single files of Stable Diffusion 2, side by side.

use super::config::{TextConfig, UnetConfig, VaeConfig};

/// One tensor under both names.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) folder: String,
    pub(super) single: String,
    /// Which third of the rows of the single file's tensor this is, where it holds q, k and v.
    pub(super) third: Option<usize>,
    /// Whether the single file keeps a linear layer as a 1x1 convolution.
    pub(super) pointwise: bool,
    /// Whether a network may lack it.
    pub(super) optional: bool,
}

/// Where the networks' names start in a single file.
pub(super) const UNET: &str = "model.diffusion_model.";
pub(super) const VAE: &str = "first_stage_model.";
pub(super) const TEXT: &str = "cond_stage_model.model.";

/// The name that newer files give to what a folder's file calls `name`.
pub(super) fn canonical(network: &str, name: &str) -> String {
    const OLD: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    let bare = ["embeddings.", "encoder.", "final_layer_norm."];
    match network {
        "vae" if name.contains(".attentions.") => {
            OLD.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
        }
        // Newer text encoders leave the outer module's name away.
        "text_encoder" if bare.iter().any(|part| name.starts_with(part)) => {
            format!("text_model.{name}")
        }
        _ => name.to_owned(),
    }
}

/// Pairs under one prefix each.
struct Names {
    prefix: &'static str,
    pairs: Vec<Pair>,
}

impl Names {
    fn push(&mut self, folder: String, single: String) -> &mut Pair {
        let single = format!("{}{single}", self.prefix);
        self.pairs.push(Pair { folder, single, third: None, pointwise: false, optional: false });
        let last = self.pairs.len() - 1;
        &mut self.pairs[last]
    }

    fn weight(&mut self, folder: &str, single: &str) -> &mut Pair {
        self.push(format!("{folder}.weight"), format!("{single}.weight"))
    }

    fn layer(&mut self, folder: &str, single: &str) {
        self.weight(folder, single);
        self.push(format!("{folder}.bias"), format!("{single}.bias"));
    }

    /// A layer whose parts have these names below `folder` and `single`.
    fn layers(&mut self, folder: &str, single: &str, parts: &[(&str, &str)]) {
        for (a, b) in parts {
            self.layer(&format!("{folder}.{a}"), &format!("{single}.{b}"));
        }
    }

    fn shortcut(&mut self, folder: &str, single: &str) {
        let from = self.pairs.len();
        self.layer(folder, single);
        self.pairs[from..].iter_mut().for_each(|pair| pair.optional = true);
    }

    fn unet_stage(&mut self, block: &str, index: usize, single: &str, first: usize, deep: bool) {
        let (folder, single_resnet) =
            (format!("{block}.resnets.{index}"), format!("{single}.{first}"));
        let parts = [
            ("norm1", "in_layers.0"),
            ("conv1", "in_layers.2"),
            ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"),
            ("time_emb_proj", "emb_layers.1"),
        ];
        self.layers(&folder, &single_resnet, &parts);
        self.shortcut(
            &format!("{folder}.conv_shortcut"),
            &format!("{single_resnet}.skip_connection"),
        );
        if !deep {
            return;
        }
        let (folder, single) =
            (format!("{block}.attentions.{index}"), format!("{single}.{}", first + 1));
        let same = |part: &'static str| (part, part);
        self.layers(&folder, &single, &["norm", "proj_in", "proj_out"].map(same));
        let inner = |name: &str| format!("{name}.transformer_blocks.0");
        let (folder, single) = (inner(&folder), inner(&single));
        let layers =
            ["norm1", "norm2", "norm3", "attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj"];
        self.layers(&folder, &single, &layers.map(same));
        self.layers(&folder, &single, &[same("ff.net.2")]);
        for part in ["attn1", "attn2"] {
            for part in ["to_q", "to_k", "to_v"].map(|p| format!("{part}.{p}")) {
                self.weight(&format!("{folder}.{part}"), &format!("{single}.{part}"));
            }
        }
    }

    fn vae_resnet(&mut self, folder: &str, single: &str) {
        let parts = ["norm1", "conv1", "norm2", "conv2"].map(|part| (part, part));
        self.layers(folder, single, &parts);
        self.shortcut(&format!("{folder}.conv_shortcut"), &format!("{single}.nin_shortcut"));
    }
}

/// The names of the UNet's tensors.
pub(super) fn unet(config: &UnetConfig) -> Vec<Pair> {
    let mut names = Names { prefix: UNET, pairs: Vec::new() };
    names.layer("time_embedding.linear_1", "time_embed.0");
    names.layer("time_embedding.linear_2", "time_embed.2");
    names.layer("conv_in", "input_blocks.0.0");
    names.layer("conv_norm_out", "out.0");
    names.layer("conv_out", "out.2");
    let (levels, step) = (config.channels.len(), config.layers + 1);
    for level in 0..levels {
        let block = format!("down_blocks.{level}");
        for index in 0..config.layers {
            let single = format!("input_blocks.{}", step * level + index + 1);
            names.unet_stage(&block, index, &single, 0, config.attention[level]);
        }
        if level + 1 < levels {
            let single = format!("input_blocks.{}.0.op", step * (level + 1));
            names.layer(&format!("{block}.downsamplers.0.conv"), &single);
        }
    }
    names.unet_stage("mid_block", 0, "middle_block", 0, true);
    names.unet_stage("mid_block", 1, "middle_block", 2, false);
    for up in 0..levels {
        let (block, deep) = (format!("up_blocks.{up}"), config.attention[levels - 1 - up]);
        for index in 0..step {
            let single = format!("output_blocks.{}", step * up + index);
            names.unet_stage(&block, index, &single, 0, deep);
        }
        if up + 1 < levels {
            let place = 1 + usize::from(deep);
            let single = format!("output_blocks.{}.{place}.conv", step * up + config.layers);
            names.layer(&format!("{block}.upsamplers.0.conv"), &single);
        }
    }
    names.pairs
}

/// The names of the VAE's tensors.
pub(super) fn vae(config: &VaeConfig) -> Vec<Pair> {
    let mut names = Names { prefix: VAE, pairs: Vec::new() };
    names.layer("quant_conv", "quant_conv");
    names.layer("post_quant_conv", "post_quant_conv");
    let levels = config.channels.len();
    for half in ["encoder", "decoder"] {
        names.layers(
            half,
            half,
            &[("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out")],
        );
        let (folder, single) = (format!("{half}.mid_block"), format!("{half}.mid"));
        names.vae_resnet(&format!("{folder}.resnets.0"), &format!("{single}.block_1"));
        names.vae_resnet(&format!("{folder}.resnets.1"), &format!("{single}.block_2"));
        let (folder, single) = (format!("{folder}.attentions.0"), format!("{single}.attn_1"));
        names.layers(&folder, &single, &[("group_norm", "norm")]);
        for (a, b) in [("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")] {
            let (a, b) = (format!("{folder}.{a}"), format!("{single}.{b}"));
            names.weight(&a, &b).pointwise = true;
            names.push(format!("{a}.bias"), format!("{b}.bias"));
        }
        // The decoder's levels are counted from the outside in a single file, as the encoder's are.
        let (way, resize, count) = match half {
            "encoder" => ("down", "downsample", config.layers),
            _ => ("up", "upsample", config.layers + 1),
        };
        for block in 0..levels {
            let level = if half == "encoder" { block } else { levels - 1 - block };
            let folder = format!("{half}.{way}_blocks.{block}");
            let single = format!("{half}.{way}.{level}");
            for index in 0..count {
                names.vae_resnet(
                    &format!("{folder}.resnets.{index}"),
                    &format!("{single}.block.{index}"),
                );
            }
            if block + 1 < levels {
                names.layer(
                    &format!("{folder}.{resize}rs.0.conv"),
                    &format!("{single}.{resize}.conv"),
                );
            }
        }
    }
    names.pairs
}

/// The names of the text encoder's tensors.
pub(super) fn text(config: &TextConfig) -> Vec<Pair> {
    let mut names = Names { prefix: TEXT, pairs: Vec::new() };
    let embeddings = "text_model.embeddings";
    names.weight(&format!("{embeddings}.token_embedding"), "token_embedding");
    let positions = format!("{embeddings}.position_embedding.weight");
    names.push(positions, "positional_embedding".into());
    names.layer("text_model.final_layer_norm", "ln_final");
    for index in 0..config.layers {
        let folder = format!("text_model.encoder.layers.{index}");
        let single = format!("transformer.resblocks.{index}");
        let parts = [
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ];
        names.layers(&folder, &single, &parts);
        for (third, part) in ["q", "k", "v"].iter().enumerate() {
            for kind in ["weight", "bias"] {
                let folder = format!("{folder}.self_attn.{part}_proj.{kind}");
                let single = format!("{single}.attn.in_proj_{kind}");
                names.push(folder, single).third = Some(third);
            }
        }
    }
    names.pairs
}
