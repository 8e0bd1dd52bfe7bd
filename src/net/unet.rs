//! In: noisy latents, a timestep and the keys and values of prompts. Out: the prediction for each
//! sample. The UNet of Stable Diffusion 2, with 4 or 9 input channels.

use super::attention::Transformer;
use super::layers::Layers;
use super::resnet::Resnet;
use crate::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Sources};
use crate::error::Result;
use crate::model::UnetConfig;

/// A residual block, the projection of its time embedding, and the transformer behind it.
struct Stage<B: Backend> {
    resnet: Resnet<B>,
    time: B::Linear,
    transformer: Option<Transformer<B>>,
}

struct Down<B: Backend> {
    stages: Vec<Stage<B>>,
    downsample: Option<B::Conv>,
}

struct Up<B: Backend> {
    stages: Vec<Stage<B>>,
    upsample: Option<B::Conv>,
}

/// The first number of the key of an evaluation, as a step of its own ([`Backend::recorded`]).
const EVALUATION: usize = 1;

/// The UNet.
pub(crate) struct Unet<B: Backend> {
    time1: B::Linear,
    time2: B::Linear,
    conv_in: B::Conv,
    down: Vec<Down<B>>,
    middle: [Stage<B>; 2],
    up: Vec<Up<B>>,
    norm_out: B::Norm,
    conv_out: B::Conv,
    config: UnetConfig,
}

/// The time embedding of one timestep, projected for each residual block.
pub(crate) struct TimeBias<B: Backend>(Vec<B::Tensor>);

/// The keys and values of a set of prompts, for each transformer.
pub(crate) struct KeysValues<B: Backend>(Vec<B::Tensor>);

/// One evaluation: each sample is a latent seen under a prompt.
pub(crate) struct Evaluation<'a, B: Backend> {
    /// (latents, h, w, channels)
    pub(crate) latents: &'a B::Tensor,
    /// Mask and masked picture of an inpainting model, (latents, h, w, 5).
    pub(crate) extra: Option<&'a B::Tensor>,
    /// The latent of each sample.
    pub(crate) rows: &'a [usize],
    /// The prompt of each sample.
    pub(crate) prompts: &'a [usize],
    pub(crate) time: &'a TimeBias<B>,
    pub(crate) keys_values: &'a KeysValues<B>,
}

/// Loads the parts of the UNet in the order in which they run.
struct Loader<'a, 'b, 'c, B> {
    layers: &'a mut Layers<'b, 'c, B>,
    config: &'a UnetConfig,
}

impl<B: Backend> Loader<'_, '_, '_, B> {
    fn stage(
        &mut self,
        block: &str,
        index: usize,
        channels: [usize; 2],
        heads: Option<usize>,
    ) -> Result<Stage<B>> {
        let config = self.config;
        let norm = NormSpec::Group { groups: config.groups, epsilon: config.epsilon };
        let name = format!("{block}.resnets.{index}");
        let time = [config.channels[0] * 4, channels[1]];
        Ok(Stage {
            resnet: Resnet::load(self.layers, &name, channels, norm)?,
            time: self.layers.linear(&format!("{name}.time_emb_proj"), time)?,
            transformer: match heads {
                None => None,
                Some(heads) => Some(Transformer::load(
                    self.layers,
                    &format!("{block}.attentions.{index}"),
                    channels[1],
                    config.context,
                    heads,
                    config.groups,
                )?),
            },
        })
    }
}

impl<B: Backend> Unet<B> {
    pub(crate) fn load(layers: &mut Layers<'_, '_, B>, config: &UnetConfig) -> Result<Self> {
        let channels = &config.channels;
        let (first, levels) = (channels[0], channels.len());
        let heads = |level: usize| config.attention[level].then_some(config.heads[level]);
        let wide = first * 4;
        let time1 = layers.linear("time_embedding.linear_1", [first, wide])?;
        let time2 = layers.linear("time_embedding.linear_2", [wide, wide])?;
        let same = ConvSpec::same(1);
        let conv_in = layers.conv("conv_in", [config.in_channels, first], 3, same)?;
        let mut loader = Loader { layers, config };

        let mut skips = vec![first];
        let mut down = Vec::with_capacity(levels);
        let mut input = first;
        for (level, &output) in channels.iter().enumerate() {
            let block = format!("down_blocks.{level}");
            let mut stages = Vec::with_capacity(config.layers);
            for index in 0..config.layers {
                stages.push(loader.stage(&block, index, [input, output], heads(level))?);
                input = output;
                skips.push(output);
            }
            let downsample = if level + 1 < levels {
                skips.push(output);
                let spec = ConvSpec::halving(1, 1);
                let name = format!("{block}.downsamplers.0.conv");
                Some(loader.layers.conv(&name, [output, output], 3, spec)?)
            } else {
                None
            };
            down.push(Down { stages, downsample });
        }

        // The middle has a transformer whether or not the innermost level has one.
        let middle = [
            loader.stage("mid_block", 0, [input, input], Some(config.heads[levels - 1]))?,
            loader.stage("mid_block", 1, [input, input], None)?,
        ];

        let mut up = Vec::with_capacity(levels);
        for (index, level) in (0..levels).rev().enumerate() {
            let block = format!("up_blocks.{index}");
            let output = channels[level];
            let mut stages = Vec::with_capacity(config.layers + 1);
            for stage in 0..=config.layers {
                let skip = skips.pop().unwrap_or(first);
                stages.push(loader.stage(&block, stage, [input + skip, output], heads(level))?);
                input = output;
            }
            let upsample = if level > 0 {
                let name = format!("{block}.upsamplers.0.conv");
                Some(loader.layers.conv(&name, [output, output], 3, ConvSpec::upsampling())?)
            } else {
                None
            };
            up.push(Up { stages, upsample });
        }
        let norm = NormSpec::Group { groups: config.groups, epsilon: config.epsilon };
        Ok(Unet {
            time1,
            time2,
            conv_in,
            down,
            middle,
            up,
            norm_out: loader.layers.norm("conv_norm_out", first, norm)?,
            conv_out: loader.layers.conv("conv_out", [first, config.out_channels], 3, same)?,
            config: config.clone(),
        })
    }

    /// The stages in the order in which they run, which is the order of [`TimeBias`].
    fn stages(&self) -> impl Iterator<Item = &Stage<B>> {
        let down = self.down.iter().flat_map(|block| &block.stages);
        let up = self.up.iter().flat_map(|block| &block.stages);
        down.chain(&self.middle).chain(up)
    }

    /// The projected embedding of `timestep`, for every residual block.
    pub(crate) fn time(&self, backend: &B, timestep: f64) -> Result<TimeBias<B>> {
        let waves = self.waves(timestep);
        let waves = HostTensor::new([1, 1, 1, waves.len()], waves)?;
        let silu = Activation::Silu;
        let x = backend.dense(&backend.upload(&waves)?, &self.time1, silu, Add::Nothing)?;
        // Every block takes the embedding through SiLU first, so it is done once.
        let x = backend.dense(&x, &self.time2, silu, Add::Nothing)?;
        let project =
            |stage: &Stage<B>| backend.dense(&x, &stage.time, Activation::Identity, Add::Nothing);
        Ok(TimeBias(self.stages().map(project).collect::<Result<_>>()?))
    }

    /// cos and sin of the timestep at frequencies from 1 down to 1e-4 (Vaswani et al. 2017, 3.5, as
    /// diffusers orders them). The argument is rounded to f32 as there, for its sine depends on it.
    fn waves(&self, timestep: f64) -> Vec<f32> {
        let half = self.config.channels[0] / 2;
        let mut waves = vec![0.0; self.config.channels[0]];
        let scale = -(10_000f64.ln()) as f32;
        for index in 0..half {
            let exponent =
                scale * index as f32 / (half as f64 - self.config.frequency_shift) as f32;
            let angle = f64::from(timestep as f32 * f64::from(exponent).exp() as f32);
            let (sine, cosine) = (angle.sin() as f32, angle.cos() as f32);
            let (a, b) = if self.config.flip_sin_to_cos { (cosine, sine) } else { (sine, cosine) };
            waves[index] = a;
            waves[half + index] = b;
        }
        waves
    }

    /// The keys and values of `contexts` (prompts, 1, tokens, width), for every transformer.
    pub(crate) fn keys_values(&self, backend: &B, contexts: &HostTensor) -> Result<KeysValues<B>> {
        let contexts = backend.upload(contexts)?;
        let transformers = self.stages().filter_map(|stage| stage.transformer.as_ref());
        let all = transformers.map(|t| t.keys_values(backend, &contexts)).collect::<Result<_>>()?;
        Ok(KeysValues(all))
    }

    /// The prediction (samples, h, w, out channels), as a step that the backend may record.
    pub(crate) fn predict(&self, backend: &B, at: &Evaluation<'_, B>) -> Result<B::Tensor> {
        let (times, extras) = (at.time.0.len(), usize::from(at.extra.is_some()));
        let mut inputs = vec![at.latents];
        inputs.extend(at.extra);
        inputs.extend(&at.time.0);
        inputs.extend(&at.keys_values.0);
        let mut key = vec![EVALUATION, at.rows.len()];
        key.extend(at.rows);
        key.extend(at.prompts);
        backend.recorded(&key, &inputs, &|inputs| {
            let (first, rest) = inputs.split_at(1 + extras);
            let (time, keys_values) = rest.split_at(times);
            let at = Evaluation {
                latents: &first[0],
                extra: first.get(1),
                rows: at.rows,
                prompts: at.prompts,
                time: &TimeBias(time.to_vec()),
                keys_values: &KeysValues(keys_values.to_vec()),
            };
            self.forward(backend, &at)
        })
    }

    /// The prediction (samples, h, w, out channels).
    pub(crate) fn forward(&self, backend: &B, at: &Evaluation<'_, B>) -> Result<B::Tensor> {
        let mut run =
            Run { backend, at, time: &at.time.0, keys_values: &at.keys_values.0, fan: None };
        let plain = at.rows.iter().copied().eq(0..backend.shape(at.latents)[0]);
        run.fan = (!plain).then_some(at.rows);

        let input = Sources { first: at.latents, second: at.extra };
        let mut x = backend.conv2d(input, &self.conv_in, Add::Nothing)?;
        let mut skips = vec![x.clone()];
        for block in &self.down {
            for stage in &block.stages {
                x = run.stage(stage, x, None, &mut skips)?;
                skips.push(x.clone());
            }
            if let Some(conv) = &block.downsample {
                x = backend.conv2d((&x).into(), conv, Add::Nothing)?;
                skips.push(x.clone());
            }
        }
        for stage in &self.middle {
            x = run.stage(stage, x, None, &mut skips)?;
        }
        for block in &self.up {
            for stage in &block.stages {
                let Some(skip) = skips.pop() else { break };
                x = run.stage(stage, x, Some(skip), &mut skips)?;
            }
            if let (Some(conv), Some(skip)) = (&block.upsample, skips.last()) {
                // The size of the skip, not twice the size: latents need not be multiples of 8.
                let [_, height, width, _] = backend.shape(skip);
                x = backend.upsample_conv2d(&x, height, width, conv)?;
            }
        }
        let silu = Activation::Silu;
        backend.norm_conv2d((&x).into(), &self.norm_out, silu, &self.conv_out, Add::Nothing)
    }
}

/// What changes while one evaluation runs through the stages.
struct Run<'a, B: Backend> {
    backend: &'a B,
    at: &'a Evaluation<'a, B>,
    time: &'a [B::Tensor],
    keys_values: &'a [B::Tensor],
    /// Set until the first cross-attention has parted the latents into samples.
    fan: Option<&'a [usize]>,
}

impl<B: Backend> Run<'_, B> {
    fn stage(
        &mut self,
        stage: &Stage<B>,
        x: B::Tensor,
        skip: Option<B::Tensor>,
        skips: &mut [B::Tensor],
    ) -> Result<B::Tensor> {
        let (time, rest) = self.time.split_at(1);
        self.time = rest;
        let x = stage.resnet.forward(self.backend, x, skip, Some(&time[0]))?;
        let Some(transformer) = &stage.transformer else {
            return Ok(x);
        };
        let (keys_values, rest) = self.keys_values.split_at(1);
        self.keys_values = rest;
        let fan = self.fan.take();
        let prompts = self.at.prompts;
        let x = transformer.forward(self.backend, &x, &keys_values[0], prompts, fan)?;
        if let Some(rows) = fan {
            for skip in skips {
                *skip = self.backend.gather(skip, rows)?;
            }
        }
        Ok(x)
    }
}
