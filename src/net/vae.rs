//! In: a picture, or a latent. Out: the posterior of the latent, or a picture. The KL autoencoder.

use super::attention::PixelAttention;
use super::layers::Layers;
use super::resnet::Resnet;
use crate::backend::{Activation, Add, Backend, ConvSpec, NormSpec};
use crate::error::Result;
use crate::model::VaeConfig;

/// The VAE's group norms all use this, which its configuration does not name.
const EPSILON: f64 = 1e-6;

/// The key of a decode, as a step of its own ([`Backend::recorded`]).
const DECODE: usize = 2;

struct Block<B: Backend> {
    resnets: Vec<Resnet<B>>,
    /// The convolution behind a change of size, if there is one.
    resize: Option<B::Conv>,
}

struct Middle<B: Backend> {
    resnets: [Resnet<B>; 2],
    attention: PixelAttention<B>,
}

/// One direction of the VAE.
struct Half<B: Backend> {
    conv_in: B::Conv,
    blocks: Vec<Block<B>>,
    middle: Middle<B>,
    norm_out: B::Norm,
    conv_out: B::Conv,
}

/// The VAE, both ways.
pub(crate) struct Vae<B: Backend> {
    encoder: Half<B>,
    quant: B::Conv,
    post_quant: B::Conv,
    decoder: Half<B>,
}

fn norm(config: &VaeConfig) -> NormSpec {
    NormSpec::Group { groups: config.groups, epsilon: EPSILON }
}

fn middle<B: Backend>(
    layers: &mut Layers<'_, '_, B>,
    half: &str,
    channels: usize,
    config: &VaeConfig,
) -> Result<Middle<B>> {
    let at = |part: &str| format!("{half}.mid_block.{part}");
    let square = [channels, channels];
    Ok(Middle {
        resnets: [
            Resnet::load(layers, &at("resnets.0"), square, norm(config))?,
            Resnet::load(layers, &at("resnets.1"), square, norm(config))?,
        ],
        attention: PixelAttention::load(layers, &at("attentions.0"), channels, norm(config))?,
    })
}

/// The blocks of one half: `channels` in running order, `layers` residual blocks each.
fn blocks<B: Backend>(
    layers: &mut Layers<'_, '_, B>,
    half: &str,
    channels: &[usize],
    count: usize,
    config: &VaeConfig,
) -> Result<Vec<Block<B>>> {
    // The encoder pads below and to the right only, so that its stride of 2 halves exactly.
    let (direction, resize, spec) = match half {
        "encoder" => ("down", "downsamplers", ConvSpec::halving(0, 1)),
        _ => ("up", "upsamplers", ConvSpec::upsampling()),
    };
    let mut input = channels[0];
    let mut blocks = Vec::with_capacity(channels.len());
    for (level, &output) in channels.iter().enumerate() {
        let name = format!("{half}.{direction}_blocks.{level}");
        let mut resnets = Vec::with_capacity(count);
        for index in 0..count {
            let name = format!("{name}.resnets.{index}");
            resnets.push(Resnet::load(layers, &name, [input, output], norm(config))?);
            input = output;
        }
        let resize = if level + 1 < channels.len() {
            Some(layers.conv(&format!("{name}.{resize}.0.conv"), [output, output], 3, spec)?)
        } else {
            None
        };
        blocks.push(Block { resnets, resize });
    }
    Ok(blocks)
}

impl<B: Backend> Vae<B> {
    pub(crate) fn load(layers: &mut Layers<'_, '_, B>, config: &VaeConfig) -> Result<Self> {
        let latent = config.latent_channels;
        let outward: Vec<usize> = config.channels.iter().rev().copied().collect();
        let (outer, inner) = (config.channels[0], outward[0]);
        let (same, point) = (ConvSpec::same(1), ConvSpec::same(0));
        let encoder = Half {
            conv_in: layers.conv("encoder.conv_in", [3, outer], 3, same)?,
            blocks: blocks(layers, "encoder", &config.channels, config.layers, config)?,
            middle: middle(layers, "encoder", inner, config)?,
            norm_out: layers.norm("encoder.conv_norm_out", inner, norm(config))?,
            conv_out: layers.conv("encoder.conv_out", [inner, 2 * latent], 3, same)?,
        };
        let decoder = Half {
            conv_in: layers.conv("decoder.conv_in", [latent, inner], 3, same)?,
            blocks: blocks(layers, "decoder", &outward, config.layers + 1, config)?,
            middle: middle(layers, "decoder", inner, config)?,
            norm_out: layers.norm("decoder.conv_norm_out", outer, norm(config))?,
            conv_out: layers.conv("decoder.conv_out", [outer, 3], 3, same)?,
        };
        Ok(Vae {
            encoder,
            quant: layers.conv("quant_conv", [2 * latent, 2 * latent], 1, point)?,
            post_quant: layers.conv("post_quant_conv", [latent, latent], 1, point)?,
            decoder,
        })
    }

    /// Mean and log-variance (n, h / f, w / f, 2 latent channels) of pictures (n, h, w, 3) in -1..=1.
    pub(crate) fn encode(&self, backend: &B, pictures: &B::Tensor) -> Result<B::Tensor> {
        let half = &self.encoder;
        let mut x = backend.conv2d(pictures.into(), &half.conv_in, Add::Nothing)?;
        for block in &half.blocks {
            x = block.resnets(backend, x)?;
            if let Some(conv) = &block.resize {
                x = backend.conv2d((&x).into(), conv, Add::Nothing)?;
            }
        }
        x = half.middle.forward(backend, x)?;
        x = half.finish(backend, &x)?;
        backend.conv2d((&x).into(), &self.quant, Add::Nothing)
    }

    /// Pictures (n, f h, f w, 3), nominally -1..=1, of latents (n, h, w, latent channels).
    pub(crate) fn decode(&self, backend: &B, latents: &B::Tensor) -> Result<B::Tensor> {
        backend.recorded(&[DECODE], &[latents], &|inputs| self.decoded(backend, &inputs[0]))
    }

    fn decoded(&self, backend: &B, latents: &B::Tensor) -> Result<B::Tensor> {
        let half = &self.decoder;
        let mut x = backend.conv2d(latents.into(), &self.post_quant, Add::Nothing)?;
        x = backend.conv2d((&x).into(), &half.conv_in, Add::Nothing)?;
        x = half.middle.forward(backend, x)?;
        for block in &half.blocks {
            x = block.resnets(backend, x)?;
            if let Some(conv) = &block.resize {
                let [_, height, width, _] = backend.shape(&x);
                x = backend.upsample_conv2d(&x, 2 * height, 2 * width, conv)?;
            }
        }
        half.finish(backend, &x)
    }
}

impl<B: Backend> Half<B> {
    fn finish(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let silu = Activation::Silu;
        backend.norm_conv2d(x.into(), &self.norm_out, silu, &self.conv_out, Add::Nothing)
    }
}

impl<B: Backend> Block<B> {
    fn resnets(&self, backend: &B, mut x: B::Tensor) -> Result<B::Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(backend, x, None, None)?;
        }
        Ok(x)
    }
}

impl<B: Backend> Middle<B> {
    fn forward(&self, backend: &B, x: B::Tensor) -> Result<B::Tensor> {
        let x = self.resnets[0].forward(backend, x, None, None)?;
        let x = self.attention.forward(backend, &x)?;
        self.resnets[1].forward(backend, x, None, None)
    }
}
