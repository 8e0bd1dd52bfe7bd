//! In: packed networks on one backend. Out: an [`Engine`].

use super::engine::{Batch, Denoising, Engine, Posterior};
use super::facts::Facts;
use super::guidance::GuidanceSteps;
use super::latent::{Context, Latent};
use super::needs::{Needs, Outline, check};
use super::run::Run;
use crate::backend::{Backend, CudaImage, CudaPicture, HostTensor, Numerics, Workers};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::model::{LoadMeter, Source, TextConfig, UnetConfig, VaeConfig, Weights};
use crate::net::{Evaluation, Layers, TextEncoder, TimeBias, Unet, Vae};
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Timesteps whose embeddings are kept; a run seldom has more.
const TIMES: usize = 128;

/// The networks of a model on a backend.
pub(crate) struct Pipeline<B: Backend> {
    /// Decodes beside what else runs, on devices that do two things at once. Goes first, for it reads the weights.
    beside: Option<B>,
    /// There is no room for both: decodes take turns with the rest from now on.
    alone: AtomicBool,
    /// Held by steps and decodes: shared by what may go beside others, and not by what goes by itself.
    turns: RwLock<()>,
    pub(super) backend: B,
    /// Who computes, whichever thread calls.
    pub(super) workers: Workers,
    text: TextEncoder<B>,
    pub(super) unet: Unet<B>,
    vae: Vae<B>,
    scaling_factor: f64,
    /// Pixels per latent pixel.
    factor: usize,
    /// What stays known without the weights.
    facts: Arc<Facts>,
    /// Samples that the UNet has evaluated.
    pub(super) samples: AtomicU64,
    /// Embeddings of timesteps, the last used last.
    times: Mutex<Vec<(u64, Arc<TimeBias<B>>)>>,
}

impl<B: Backend> Pipeline<B> {
    /// Reads the networks one after the other; each tensor is packed before the next is read. `limit` is
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
        let weights = backend.weight_bytes(meter.numbers()) + text.table_bytes();
        let beside = backend.beside()?;
        let both = (&backend, beside.is_some());
        let facts = Facts::new(both, &workers, outline, weights, text.shape());
        Ok(Pipeline {
            beside,
            alone: AtomicBool::new(false),
            turns: RwLock::default(),
            backend,
            workers,
            text,
            unet,
            vae,
            scaling_factor,
            factor,
            facts: Arc::new(facts),
            samples: AtomicU64::new(0),
            times: Mutex::default(),
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

    pub(super) fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Lets go of everything, and gives the memory of it back to whoever it is from: how much that was, in bytes.
    pub(super) fn give_back(self) -> u64 {
        let Pipeline { beside, backend, text, unet, vae, times, facts, .. } = self;
        drop((beside, times));
        let idle = backend.trim();
        drop((text, unet, vae));
        // What lies idle now are the weights themselves.
        backend.trim();
        facts.weights + idle
    }

    #[cfg(test)]
    pub(super) fn backend(&self) -> &B {
        &self.backend
    }

    /// The branches that are evaluated at once: as many as there is memory for.
    pub(super) fn together(&self, [height, width]: [usize; 2]) -> usize {
        let most = self.backend.branches().max(1);
        let Some(available) = self.backend.available() else { return most };
        let size = [width * self.factor, height * self.factor];
        let needs = self.facts.outline.needs(size, 1).unwrap_or_default();
        let kept = match (&self.beside, self.decoder()) {
            (None, _) => 0,
            // What decoding has not taken yet.
            (_, Some(beside)) => needs.decode.saturating_sub(beside.held()),
            // Between the steps, of what they share.
            (_, None) => needs.decode,
        };
        let room = available.saturating_sub(kept) / needs.denoise.max(1);
        most.min(usize::try_from(room).unwrap_or(most)).max(1)
    }

    /// What decodes beside the rest, as long as there is room for both.
    fn decoder(&self) -> Option<&B> {
        self.beside.as_ref().filter(|_| !self.alone.load(Ordering::Relaxed))
    }

    /// Has pictures decoded between the rest from now on, for lack of room.
    pub(super) fn decode_between(&self) {
        if let Some(beside) = &self.beside
            && !self.alone.swap(true, Ordering::Relaxed)
        {
            beside.trim();
        }
    }

    /// A turn beside others, for a step or a decode, until it is dropped; nothing where one thing is done at a time.
    ///
    /// This and [`by_itself`](Self::by_itself) come before all that the backend locks, and on the thread that then works:
    /// within `workers.run`, never around it. On a device that does two things at once such work splits nothing among the
    /// pool, so no other job that wants a turn can come to run on its thread, and whoever has a turn ends it without
    /// another thread of the pool.
    pub(super) fn shared(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.beside.is_some().then(|| self.turns.read())
    }

    /// The same without any other step or decode, for whose end it waits.
    pub(super) fn by_itself(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        self.beside.is_some().then(|| self.turns.write())
    }

    /// The picture of a latent, as `taken` makes it of a backend's. Where the device has no room to decode beside the rest,
    /// it is made between the rest, by the same operations, and at last without what is kept for speed.
    fn picture<T: Send>(
        &self,
        latent: &Latent,
        taken: impl Fn(&B, B::Tensor) -> Result<T> + Sync,
    ) -> Result<T> {
        let on = |backend: &B| {
            let x = self.upload_to(backend, &[latent], 1.0 / self.scaling_factor)?;
            taken(backend, self.vae.decode(backend, &x)?)
        };
        {
            let _shared = self.shared();
            // Only now: while it waited, a step may have told that there is no room.
            if let Some(beside) = self.decoder() {
                // On the calling thread: a pool of one would let nothing run beside it.
                match on(beside) {
                    Err(e) if e.kind() == ErrorKind::OutOfMemory => self.decode_between(),
                    made => return made,
                }
            }
        }
        self.workers.run(|| {
            let _by_itself = self.by_itself();
            match on(&self.backend) {
                Err(e) if e.kind() == ErrorKind::OutOfMemory && self.beside.is_some() => {
                    self.room();
                    on(&self.backend)
                }
                made => made,
            }
        })
    }

    /// Lets go of idle memory, and of what is kept for speed.
    pub(super) fn room(&self) -> u64 {
        self.beside.as_ref().map_or(0, Backend::trim) + self.backend.trim()
    }

    /// The embedding of `timestep`, which all branches of all runs share.
    pub(super) fn time(&self, timestep: f64) -> Result<Arc<TimeBias<B>>> {
        let key = timestep.to_bits();
        if let Some((_, time)) = self.times.lock().iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(time));
        }
        let time = Arc::new(self.unet.time(&self.backend, timestep)?);
        let mut times = self.times.lock();
        if times.len() >= TIMES {
            times.remove(0);
        }
        times.push((key, Arc::clone(&time)));
        Ok(time)
    }

    /// Latents as an activation (n, h, w, channels), each value times `scale`.
    pub(super) fn upload(&self, latents: &[&Latent], scale: f64) -> Result<B::Tensor> {
        self.upload_to(&self.backend, latents, scale)
    }

    fn upload_to(&self, backend: &B, latents: &[&Latent], scale: f64) -> Result<B::Tensor> {
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
        backend.upload(&HostTensor::new([latents.len(), height, width, channels], values)?)
    }

    /// What the guided prediction of each sample is multiplied with ([`GuidanceSteps::correction`]).
    pub(super) fn corrections(
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
    pub(super) fn download(&self, x: &B::Tensor) -> Result<Vec<Latent>> {
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
        let host = self.workers.run(|| {
            let _shared = self.shared();
            self.text.forward(&self.backend, prompts)
        })?;
        let (tokens, width) = (host.shape()[2], host.shape()[3]);
        host.data().chunks(tokens * width).map(|c| Context::new(tokens, c.to_vec())).collect()
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        self.facts.evaluations(branches, steps)
    }

    fn needs(&self, size: [usize; 2], branches: usize) -> Needs {
        self.facts.needs(size, branches)
    }

    fn weight_bytes(&self) -> u64 {
        self.facts.weights
    }

    fn threads(&self) -> usize {
        self.facts.threads
    }

    fn trim(&self) -> u64 {
        self.times.lock().clear();
        // There may be room again.
        self.alone.store(false, Ordering::Relaxed);
        self.room()
    }

    fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    fn context_shape(&self) -> Option<[usize; 2]> {
        Some(self.facts.context)
    }

    fn numerics(&self) -> Numerics {
        self.facts.numerics.clone()
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
            let _shared = self.shared();
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

    fn reaches(&self, image: &CudaImage) -> bool {
        self.backend.reaches(image)
    }

    fn converts(&self) -> bool {
        self.backend.converts()
    }

    fn decodes_beside(&self) -> bool {
        self.beside.is_some()
    }

    fn decode_there(&self, latent: &Latent) -> Result<Option<CudaPicture>> {
        self.picture(latent, |backend, x| Ok(backend.picture(&x)))
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        // One at a time: a decode is the library's largest need of memory.
        let one = |latent: &Latent| {
            let picture = self.picture(latent, |backend, x| backend.download(&x))?;
            let [height, width] = [picture.shape()[1], picture.shape()[2]];
            let values = picture.into_data();
            let values = values.into_iter().map(|v| v * 0.5 + 0.5).collect();
            Frame::new(width, height, values)
        };
        latents.iter().map(one).collect()
    }
}
