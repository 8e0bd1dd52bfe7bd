//! In: packed networks on one backend. Out: an [`Engine`]. Guidance and the sampler's step happen here.

use super::engine::{Batch, Branch, Denoising, Engine, Posterior};
use super::feed::Feed;
use super::guidance::GuidanceSteps;
use super::latent::{Context, Latent};
use super::needs::{Needs, Outline, check};
use super::sampler::{StepWeights, data_prediction};
use super::state::{State, Trail};
use crate::backend::{Backend, HostTensor, Numerics, Workers};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::{LoadMeter, Source, TextConfig, UnetConfig, VaeConfig, Weights};
use crate::net::{Evaluation, KeysValues, Layers, TextEncoder, Unet, Vae};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Branches evaluated in one call of the UNet. Cancelling waits for one such call at most.
const BRANCHES: usize = 4;

/// The networks of a model on a backend.
pub(crate) struct Pipeline<B: Backend> {
    backend: B,
    /// Who computes, whichever thread calls.
    workers: Workers,
    text: TextEncoder<B>,
    unet: Unet<B>,
    vae: Vae<B>,
    scaling_factor: f64,
    /// Pixels per latent pixel.
    factor: usize,
    /// Says what calls take.
    outline: Outline,
    /// Of all weights.
    numbers: u64,
    /// Samples that the UNet has evaluated.
    samples: AtomicU64,
}

impl<B: Backend> Pipeline<B> {
    /// Reads the networks one after the other; each tensor is packed and released before the next. `limit` is
    /// what all of them may take.
    pub(crate) fn load(
        backend: B,
        workers: Workers,
        source: &Source,
        meter: &LoadMeter<'_>,
        configs: (&TextConfig, &UnetConfig, &VaeConfig),
        limit: Option<u64>,
    ) -> Result<Self> {
        let (text, unet, vae) = configs;
        let stem = "diffusion_pytorch_model";
        // All three are opened first, so that progress knows the whole and a damaged file fails early.
        let mut text_weights = Weights::open(source, "text_encoder", "model", meter)?;
        let mut unet_weights = Weights::open(source, "unet", stem, meter)?;
        let mut vae_weights = Weights::open(source, "vae", stem, meter)?;
        let all = [&text_weights, &unet_weights, &vae_weights];
        let half = all.iter().all(|weights| weights.are_f16());
        let outline = Outline::new(backend.footprint(), half, workers.count(), configs)?;
        check("the model", outline.weights, limit)?;
        let mut layers = Layers::of(&backend, &workers, &mut text_weights);
        let text = TextEncoder::load(&mut layers, text)?;
        text_weights.finish()?;
        let mut layers = Layers::of(&backend, &workers, &mut unet_weights);
        let unet = Unet::load(&mut layers, unet)?;
        unet_weights.finish()?;
        let mut layers = Layers::of(&backend, &workers, &mut vae_weights);
        let (scaling_factor, factor) = (vae.scaling_factor, vae.factor());
        let vae = Vae::load(&mut layers, vae)?;
        vae_weights.finish()?;
        meter.finish()?;
        Ok(Pipeline {
            backend,
            workers,
            text,
            unet,
            vae,
            scaling_factor,
            factor,
            outline,
            numbers: meter.numbers(),
            samples: AtomicU64::new(0),
        })
    }

    /// How far the UNet's prediction lies below an even grey at the noisiest timestep, on average. With
    /// the signal gone, a UNet that predicts the noise gives about its input back, and one that
    /// predicts the velocity gives minus the picture, far below it (stable-diffusion.cpp's test).
    pub(crate) fn probe(&self, unet: &UnetConfig) -> Result<f64> {
        self.workers.run(|| self.grey(unet))
    }

    fn grey(&self, unet: &UnetConfig) -> Result<f64> {
        const SIDE: usize = 8;
        let [latent, inputs] = [unet.out_channels, unet.in_channels];
        let grey = |shape: [usize; 4], value: f32| {
            HostTensor::new(shape, vec![value; shape.iter().product()])
        };
        let context = grey([1, 1, 2, unet.context], 0.5)?;
        let extra = match inputs - latent {
            0 => None,
            more => Some(self.backend.upload(&grey([1, SIDE, SIDE, more], 0.0)?)?),
        };
        let evaluation = Evaluation {
            latents: &self.backend.upload(&grey([1, SIDE, SIDE, latent], 0.5)?)?,
            extra: extra.as_ref(),
            rows: &[0],
            prompts: &[0],
            time: &self.unet.time(&self.backend, 999.0)?,
            keys_values: &self.unet.keys_values(&self.backend, &context)?,
        };
        let output = self.backend.download(&self.unet.forward(&self.backend, &evaluation)?)?;
        let sum: f64 = output.data().iter().map(|&v| f64::from(v) - 0.5).sum();
        Ok(sum / output.data().len() as f64)
    }

    #[cfg(test)]
    pub(super) fn outline(&self) -> &Outline {
        &self.outline
    }

    #[cfg(test)]
    pub(super) fn backend(&self) -> &B {
        &self.backend
    }

    /// Latents as an activation (n, h, w, channels), each value times `scale`.
    fn upload(&self, latents: &[&Latent], scale: f64) -> Result<B::Tensor> {
        let [channels, height, width] = latents.first().map_or([0; 3], |latent| latent.shape());
        let pixels = height * width;
        let mut values = Vec::with_capacity(latents.len() * pixels * channels);
        for latent in latents {
            if latent.shape() != [channels, height, width] {
                return Err(Error::invalid(format!(
                    "latents of shapes {:?} and {:?} in one batch",
                    [channels, height, width],
                    latent.shape()
                )));
            }
            for pixel in 0..pixels {
                let channel =
                    |c: usize| (f64::from(latent.data()[c * pixels + pixel]) * scale) as f32;
                values.extend((0..channels).map(channel));
            }
        }
        self.backend.upload(&HostTensor::new([latents.len(), height, width, channels], values)?)
    }

    /// What the guided prediction of each sample is multiplied with ([`GuidanceSteps::correction`]).
    fn corrections(
        &self,
        course: &GuidanceSteps,
        predictions: [&B::Tensor; 2],
        scales: &[f64],
    ) -> Result<Vec<f64>> {
        let [positive, negative] = predictions.map(|x| self.backend.download(x));
        let (positive, negative) = (positive?, negative?);
        let length = (positive.data().len() / scales.len().max(1)).max(1);
        let pairs = positive.data().chunks(length).zip(negative.data().chunks(length));
        Ok(pairs.zip(scales).map(|((p, n), &g)| course.correction(p, n, g)).collect())
    }

    /// The latents that an activation (n, h, w, channels) holds.
    fn download(&self, x: &B::Tensor) -> Result<Vec<Latent>> {
        let host = self.backend.download(x)?;
        let [_, height, width, channels] = self.backend.shape(x);
        let pixels = height * width;
        host.data()
            .chunks(pixels * channels)
            .map(|sample| {
                let value = |index: usize| sample[index % pixels * channels + index / pixels];
                let values = (0..pixels * channels).map(value).collect();
                Latent::new([channels, height, width], values)
            })
            .collect()
    }
}

impl<B: Backend> Engine for Pipeline<B> {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        let host = self.workers.run(|| self.text.forward(&self.backend, prompts))?;
        let (tokens, width) = (host.shape()[2], host.shape()[3]);
        host.data().chunks(tokens * width).map(|c| Context::new(tokens, c.to_vec())).collect()
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        branches.div_ceil(BRANCHES) * steps
    }

    fn needs(&self, size: [usize; 2], branches: usize) -> Needs {
        // What cannot be run dry cannot be run either, and then says why.
        self.outline.needs(size, branches.clamp(1, BRANCHES)).unwrap_or_default()
    }

    fn weight_bytes(&self) -> u64 {
        self.backend.weight_bytes(self.numbers) + self.text.table_bytes()
    }

    fn threads(&self) -> usize {
        self.workers.count()
    }

    fn trim(&self) -> u64 {
        self.backend.trim()
    }

    fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    fn context_shape(&self) -> Option<[usize; 2]> {
        Some(self.text.shape())
    }

    fn numerics(&self) -> Numerics {
        self.backend.numerics()
    }

    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>> {
        let workers = self.workers.clone();
        Ok(Box::new(workers.run(|| Run::new(self, batch))?))
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        for (name, length) in [("width", frame.width()), ("height", frame.height())] {
            if !length.is_multiple_of(self.factor) {
                return Err(Error::invalid(format!(
                    "{name} {length} is not a multiple of {}",
                    self.factor
                )));
            }
        }
        let values = frame.rgb().iter().map(|&v| v * 2.0 - 1.0).collect();
        let host = HostTensor::new([1, frame.height(), frame.width(), 3], values)?;
        let moments = self.workers.run(|| {
            self.download(&self.vae.encode(&self.backend, &self.backend.upload(&host)?)?)
        })?;
        let [channels, height, width] = moments[0].shape();
        let (mean, log_variance) = moments[0].data().split_at(moments[0].data().len() / 2);
        let shape = [channels / 2, height, width];
        let scaled = mean.iter().map(|&v| (f64::from(v) * self.scaling_factor) as f32).collect();
        Ok(Posterior {
            mean: Latent::new(shape, scaled)?,
            log_variance: Latent::new(shape, log_variance.to_vec())?,
        })
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        let mut frames = Vec::with_capacity(latents.len());
        // One at a time: a decode is the library's largest need of memory.
        for latent in latents {
            let picture = self.workers.run(|| {
                let x = self.upload(&[latent], 1.0 / self.scaling_factor)?;
                self.backend.download(&self.vae.decode(&self.backend, &x)?)
            })?;
            let [height, width] = [picture.shape()[1], picture.shape()[2]];
            let values = picture.into_data();
            let values = values.into_iter().map(|v| v * 0.5 + 0.5).collect();
            frames.push(Frame::new(width, height, values)?);
        }
        Ok(frames)
    }
}

/// Some branches of a batch, evaluated together.
struct Group<B: Backend> {
    latents: B::Tensor,
    /// What a multistep sampler remembers of each branch.
    history: Option<B::Tensor>,
    /// What draws each branch.
    feeds: Vec<Option<Arc<Feed>>>,
    /// The states after each step that is kept.
    kept: Vec<Vec<State>>,
    extra: Option<B::Tensor>,
    guidance: Vec<f64>,
    guided: Layout,
    /// For steps at which guidance is off.
    plain: Layout,
    keys_values: KeysValues<B>,
}

/// The samples of one evaluation.
struct Layout {
    /// The latent of each sample, guided branches twice.
    rows: Vec<usize>,
    /// The prompt of each sample.
    prompts: Vec<usize>,
    /// Which sample is a branch's prediction under its prompt, and under its negative prompt.
    positive: Vec<usize>,
    negative: Vec<usize>,
}

/// A batch on its way through its steps.
struct Run<B: Backend> {
    pipeline: Arc<Pipeline<B>>,
    batch: Batch,
    groups: Vec<Group<B>>,
    done: usize,
}

impl<B: Backend> Run<B> {
    fn new(pipeline: Arc<Pipeline<B>>, mut batch: Batch) -> Result<Self> {
        batch.check()?;
        batch.keep = batch.keep.clamp(batch.steps.start, batch.steps.end - 1);
        let branches = std::mem::take(&mut batch.branches);
        let mut groups = Vec::with_capacity(branches.len().div_ceil(BRANCHES));
        for part in branches.chunks(BRANCHES) {
            groups.push(Group::new(&pipeline, part)?);
        }
        Ok(Run { pipeline, batch, groups, done: 0 })
    }

    /// The kept states of each branch.
    fn trails(&mut self) -> Result<Vec<Trail>> {
        let mut trails = Vec::new();
        for group in &mut self.groups {
            let mut branches: Vec<Vec<State>> = vec![Vec::new(); group.guidance.len()];
            for states in group.kept.drain(..) {
                branches.iter_mut().zip(states).for_each(|(branch, state)| branch.push(state));
            }
            for states in branches {
                trails.push(Trail::new(self.batch.keep, states)?);
            }
        }
        Ok(trails)
    }
}

impl<B: Backend> Group<B> {
    fn new(pipeline: &Pipeline<B>, branches: &[Branch]) -> Result<Self> {
        let mut contexts: Vec<&Arc<Context>> = Vec::new();
        let (mut rows, mut prompts) = (Vec::new(), Vec::new());
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        // A context that several branches share is projected once.
        for (row, branch) in branches.iter().enumerate() {
            let mut add = |context| {
                let known = contexts.iter().position(|c| Arc::ptr_eq(c, context));
                prompts.push(known.unwrap_or(contexts.len()));
                if known.is_none() {
                    contexts.push(context);
                }
                rows.push(row);
                rows.len() - 1
            };
            positive.push(add(&branch.positive));
            let guided = branch.guidance != 1.0;
            negative.push(if guided { add(&branch.negative) } else { positive[row] });
        }
        let all: Vec<usize> = (0..branches.len()).collect();
        let plain = Layout {
            prompts: positive.iter().map(|&sample: &usize| prompts[sample]).collect(),
            rows: all.clone(),
            positive: all.clone(),
            negative: all,
        };
        let (tokens, width) = contexts.first().map_or((0, 0), |c| (c.tokens(), c.width()));
        let mut values = Vec::with_capacity(contexts.len() * tokens * width);
        contexts.iter().for_each(|context| values.extend_from_slice(context.data()));
        let values = HostTensor::new([contexts.len(), 1, tokens, width], values)?;
        let latents: Vec<&Latent> = branches.iter().map(|branch| &branch.latent).collect();
        let extra: Vec<&Latent> = branches.iter().filter_map(|b| b.extra.as_deref()).collect();
        if !extra.is_empty() && extra.len() != branches.len() {
            return Err(Error::invalid("some branches of a batch lack their mask"));
        }
        let histories: Vec<&Latent> = branches.iter().filter_map(|b| b.history.as_ref()).collect();
        Ok(Group {
            latents: pipeline.upload(&latents, 1.0)?,
            history: match histories.is_empty() {
                true => None,
                false => Some(pipeline.upload(&histories, 1.0)?),
            },
            feeds: branches.iter().map(|branch| branch.feed.clone()).collect(),
            kept: Vec::new(),
            extra: if extra.is_empty() { None } else { Some(pipeline.upload(&extra, 1.0)?) },
            guidance: branches.iter().map(|branch| branch.guidance).collect(),
            guided: Layout { rows, prompts, positive, negative },
            plain,
            keys_values: pipeline.unet.keys_values(&pipeline.backend, &values)?,
        })
    }

    /// The states of the branches as they are now.
    fn states(&self, pipeline: &Pipeline<B>) -> Result<Vec<State>> {
        let latents = pipeline.download(&self.latents)?;
        let histories = match &self.history {
            Some(history) => pipeline.download(history)?.into_iter().map(Some).collect(),
            None => vec![None; latents.len()],
        };
        let states = latents.into_iter().zip(histories);
        Ok(states.map(|(latent, history)| State { latent, history }).collect())
    }

    /// Draws the branches to others before `step`. On the host: latents are small beside what the UNet
    /// makes of them, and every backend then mixes alike.
    fn draw(&mut self, pipeline: &Pipeline<B>, step: usize) -> Result<()> {
        if !self.feeds.iter().flatten().any(|feed| feed.acts_at(step)) {
            return Ok(());
        }
        let mut states = self.states(pipeline)?;
        for (state, feed) in states.iter_mut().zip(&self.feeds) {
            if let Some(feed) = feed {
                *state = feed.draw(step, state.clone())?;
            }
        }
        let latents: Vec<&Latent> = states.iter().map(|state| &state.latent).collect();
        self.latents = pipeline.upload(&latents, 1.0)?;
        let histories: Vec<&Latent> =
            states.iter().filter_map(|state| state.history.as_ref()).collect();
        if self.history.is_some() {
            if histories.len() != states.len() {
                return Err(Error::internal("a branch lost its history"));
            }
            self.history = Some(pipeline.upload(&histories, 1.0)?);
        }
        Ok(())
    }
}

impl<B: Backend> Denoising for Run<B> {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        let workers = self.pipeline.workers.clone();
        workers.run(|| self.step())
    }
}

impl<B: Backend> Run<B> {
    /// One evaluation.
    fn step(&mut self) -> Result<Option<Vec<Trail>>> {
        let Pipeline { backend, unet, .. } = &*self.pipeline;
        let evaluations = self.groups.len() * self.batch.steps.len();
        if self.done < evaluations {
            let number = self.batch.steps.start + self.done / self.groups.len();
            let count = self.groups.len();
            let schedule = &self.batch.schedule;
            let step = &schedule.steps[number];
            let group = &mut self.groups[self.done % count];
            group.draw(&self.pipeline, number)?;
            let course = &self.batch.guidance;
            let off = course.factor(number) == 0.0;
            let layout = if off { &group.plain } else { &group.guided };
            let time = unet.time(backend, step.timestep as f64)?;
            let evaluation = Evaluation {
                latents: &group.latents,
                extra: group.extra.as_ref(),
                rows: &layout.rows,
                prompts: &layout.prompts,
                time: &time,
                keys_values: &group.keys_values,
            };
            let prediction = unet.forward(backend, &evaluation)?;
            self.pipeline.samples.fetch_add(layout.rows.len() as u64, Ordering::Relaxed);
            let positive = backend.gather(&prediction, &layout.positive)?;
            let negative = backend.gather(&prediction, &layout.negative)?;
            let scales: Vec<f64> =
                group.guidance.iter().map(|&g| course.scale(g, number)).collect();
            let corrections = match course.rescale > 0.0 && !off {
                true => self.pipeline.corrections(course, [&positive, &negative], &scales)?,
                false => vec![1.0; scales.len()],
            };
            let each = |weight: &dyn Fn(f64) -> f64| -> Vec<f32> {
                scales.iter().map(|&g| weight(g) as f32).collect()
            };
            // Of a prediction: times what rescaling leaves of it.
            let part = |weight: &dyn Fn(f64) -> f64| -> Vec<f32> {
                let scales = scales.iter().zip(&corrections);
                scales.map(|(&g, correction)| (weight(g) * correction) as f32).collect()
            };
            // Latent and guided prediction, weighed, and what else there is to add.
            let sum = |weights: &StepWeights| {
                let (latent, told, not) = (
                    each(&|_| weights.latent),
                    part(&|g| weights.prediction * g),
                    part(&|g| weights.prediction * (1.0 - g)),
                );
                let history = each(&|_| weights.history);
                let mut terms = vec![
                    (&group.latents, latent.as_slice()),
                    (&positive, told.as_slice()),
                    (&negative, not.as_slice()),
                ];
                if weights.history != 0.0
                    && let Some(before) = &group.history
                {
                    terms.push((before, history.as_slice()));
                }
                backend.combine(&terms)
            };
            let next = sum(&schedule.weights(number, group.history.is_some()))?;
            let history = match schedule.sampler.multistep() {
                true => Some(sum(&data_prediction(step, schedule.prediction_type))?),
                false => None,
            };
            group.latents = next;
            group.history = history;
            if number >= self.batch.keep {
                let states = group.states(&self.pipeline)?;
                group.kept.push(states);
            }
            self.done += 1;
        }
        if self.done < evaluations {
            return Ok(None);
        }
        self.trails().map(Some)
    }
}
