//! In: a model's configurations, and what its backend takes for a shape. Out: [`Outline`], which says what a model
//! takes in memory before it is loaded, and what a call takes before it is made.
//!
//! The networks themselves are run, on a backend that computes nothing: no formula has to follow them.

use super::memory::physical;
use crate::backend::{
    Backend, Cpu, CpuBf16, Footprint, HostTensor, Precision, Reference, Shapes, Workers,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TextConfig, UnetConfig, VaeConfig};
use crate::net::{Evaluation, Layers, TextEncoder, Unet, Vae};

/// The most memory in bytes that calls for pictures of one size take, besides the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Evaluating the UNet.
    pub denoise: u64,
    /// Making a latent's picture.
    pub decode: u64,
    /// Making a picture's latent.
    pub encode: u64,
}

impl Needs {
    /// The most of them: calls take turns.
    pub fn most(&self) -> u64 {
        self.denoise.max(self.decode).max(self.encode)
    }
}

/// A model's networks without weights.
pub(super) struct Outline {
    shapes: Shapes,
    unet: Unet<Shapes>,
    vae: Vae<Shapes>,
    /// Of all weights, packed.
    pub(super) weights: u64,
    /// Taken by the threads.
    threads: u64,
    /// Channels of a latent, of the UNet's input, and of the pictures' factor.
    latent: [usize; 2],
    factor: usize,
    /// Tokens of a prompt and their width.
    context: [usize; 2],
}

impl Outline {
    /// `half`: whether the files hold numbers of f16 only; `threads` compute.
    pub(super) fn new(
        footprint: Footprint,
        half: bool,
        threads: usize,
        (text, unet, vae): (&TextConfig, &UnetConfig, &VaeConfig),
    ) -> Result<Self> {
        let shapes = Shapes::new(footprint, half);
        let nobody = Workers::caller();
        let mut layers = Layers { backend: &shapes, weights: None, workers: &nobody };
        let words = TextEncoder::load(&mut layers, text)?.table_bytes_of(half);
        let (latent, factor) = ([unet.out_channels, unet.in_channels], vae.factor());
        let (unet, vae) = (Unet::load(&mut layers, unet)?, Vae::load(&mut layers, vae)?);
        let (weights, context) = (shapes.weights() + words, [text.positions, text.width]);
        let threads = footprint.thread * threads as u64 + footprint.idle;
        Ok(Outline { shapes, unet, vae, weights, threads, latent, factor, context })
    }

    /// What calls take for pictures of `size` (width, height), `branches` being denoised together.
    pub(super) fn needs(&self, size: [usize; 2], branches: usize) -> Result<Needs> {
        let shapes = &self.shapes;
        let [width, height] = size.map(|side| side / self.factor);
        let [channels, inputs] = self.latent;
        let [tokens, across] = self.context;
        let upload = |n: usize, c: usize| shapes.upload(&HostTensor::hollow([n, height, width, c]));
        let denoise = shapes.peak(|| {
            // A prompt and a negative one for each; a sampler may remember as much as a latent.
            let contexts = HostTensor::hollow([2 * branches, 1, tokens, across]);
            let keys_values = self.unet.keys_values(shapes, &contexts)?;
            let (latents, history) = (upload(branches, channels)?, upload(branches, channels)?);
            let extra = match inputs - channels {
                0 => None,
                more => Some(upload(branches, more)?),
            };
            let (rows, prompts): (Vec<usize>, Vec<usize>) =
                (0..2 * branches).map(|sample| (sample / 2, sample)).unzip();
            let prediction = self.unet.forward(
                shapes,
                &Evaluation {
                    latents: &latents,
                    extra: extra.as_ref(),
                    rows: &rows,
                    prompts: &prompts,
                    time: &self.unet.time(shapes, 0.0)?,
                    keys_values: &keys_values,
                },
            )?;
            let half: Vec<usize> = (0..branches).collect();
            let told = shapes.gather(&prediction, &half)?;
            let not = shapes.gather(&prediction, &half)?;
            let terms = [&latents, &told, &not, &history].map(|x| (x, [0.0f32].as_slice()));
            shapes.combine(&terms)
        })?;
        let decode = shapes.peak(|| {
            let x = self.vae.decode(shapes, &upload(1, channels)?)?;
            // What is handed over is f32, once as it was computed and once as it is wanted.
            upload(2 * 3 * self.factor, self.factor).map(|_| x)
        })?;
        let encode = shapes.peak(|| {
            let picture = HostTensor::hollow([1, height * self.factor, width * self.factor, 3]);
            self.vae.encode(shapes, &shapes.upload(&picture)?)
        })?;
        let [denoise, decode, encode] =
            [denoise, decode, encode].map(|bytes| bytes.saturating_add(self.threads));
        Ok(Needs { denoise, decode, encode })
    }
}

/// What the weights of a model that isn't loaded would take, and with them a frame of `size` (width, height), as
/// it would be computed here where the choice is left open. `half`: whether its files hold f16.
pub(crate) fn estimate(
    configs: (&TextConfig, &UnetConfig, &VaeConfig),
    half: bool,
    size: [usize; 2],
) -> Result<[u64; 2]> {
    let footprint = match Precision::Auto.on_cpu()? {
        (Some(level), Precision::Bf16) => CpuBf16::new(level).footprint(),
        (Some(level), _) => Cpu::new(level).footprint(),
        (None, _) => Reference.footprint(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let outline = Outline::new(footprint, half, cores, configs)?;
    let call = outline.needs(size, 1)?.most();
    Ok([outline.weights, outline.weights.saturating_add(call)])
}

/// Fails where `bytes` for `what` are more than is `allowed`, or than the machine has.
pub(super) fn check(what: &str, bytes: u64, allowed: Option<u64>) -> Result<()> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let refused = |there: u64, word: &str| {
        let needed = mib(bytes);
        let what = format!("{what} needs about {needed} MiB of memory, {} {word}", there >> 20);
        Err(Error::new(ErrorKind::OutOfMemory, what))
    };
    match (allowed, physical()) {
        (Some(allowed), _) if bytes > allowed => refused(allowed, "are allowed"),
        (_, Some(there)) if bytes > there => refused(there, "are there"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dry run against what is then held, on the demo model.
    #[cfg(feature = "demo")]
    #[test]
    fn what_a_call_holds_is_what_it_was_said_to_need() {
        let level = crate::backend::Level::best();
        held_and_said(Cpu::new(level), |cpu, work| cpu.held_during(work));
        held_and_said(CpuBf16::new(level), |cpu, work| cpu.held_during(work));
    }

    /// `held` runs some work on the backend and says what it held meanwhile.
    #[cfg(feature = "demo")]
    fn held_and_said<B: Backend>(backend: B, held: fn(&B, &mut dyn FnMut()) -> u64) {
        use crate::diffusion::pipeline::Pipeline;
        use crate::diffusion::{Batch, Branch, Engine, Latent, Sampler, Schedule, Step};
        use crate::frame::Frame;
        use crate::model::{LoadMeter, PredictionType, Source};
        use crate::progress::Call;
        use std::sync::Arc;

        let source = Source::Embedded(latentblend_demo::STANDARD);
        let configs = (
            &TextConfig::read(&source).unwrap(),
            &UnetConfig::read(&source).unwrap(),
            &VaeConfig::read(&source).unwrap(),
        );
        let call = Call::new();
        let meter = LoadMeter::new(&call);
        let workers = Workers::new(2).unwrap();
        let pipeline = Pipeline::load(backend, workers, &source, &meter, configs, None).unwrap();
        let pipeline = Arc::new(pipeline);
        let threads = pipeline.facts().outline.threads;
        let [width, height] = [384, 256];
        let latent = Latent::new([4, 32, 48], vec![0.5; 4 * 32 * 48]).unwrap();
        let context = Arc::new(pipeline.encode_prompts(&[&vec![0; 77]]).unwrap().remove(0));
        let branch = Branch {
            latent: latent.clone(),
            history: None,
            feed: None,
            positive: Arc::clone(&context),
            negative: Arc::new((*context).clone()),
            guidance: 4.0,
            extra: None,
        };
        let kind = PredictionType::Epsilon;
        let step = Step { timestep: 481, alpha: 0.25, alpha_next: 0.3 };
        let schedule =
            Schedule { steps: vec![step], prediction_type: kind, sampler: Sampler::Ddim };
        for branches in [1, 3] {
            let batch = Batch {
                branches: vec![branch.clone(); branches],
                schedule: Arc::new(schedule.clone()),
                steps: 0..1,
                keep: 0,
                guidance: Arc::default(),
            };
            let needs = pipeline.needs([width, height], branches);
            let mut batch = Some(batch);
            let denoised = held(pipeline.backend(), &mut || {
                let mut run = Arc::clone(&pipeline).denoise(batch.take().unwrap()).unwrap();
                run.advance().unwrap().unwrap();
            });
            let decoded = held(pipeline.backend(), &mut || {
                pipeline.decode(std::slice::from_ref(&latent)).unwrap();
            });
            let picture = Frame::new(width, height, vec![0.5; 3 * width * height]).unwrap();
            let encoded = held(pipeline.backend(), &mut || {
                pipeline.encode(&picture).unwrap();
            });
            for (what, need, held) in [
                ("denoise", needs.denoise, denoised),
                ("decode", needs.decode, decoded),
                ("encode", needs.encode, encoded),
            ] {
                println!("{branches} {what}: {need} bytes said, {threads} of threads, {held} held");
                assert!(held <= need, "{what}: {held} bytes, {need} were said");
                let least = (need - threads) as f64 * 0.85;
                assert!(held as f64 >= least, "{what}: {held} bytes, {need} were said");
            }
        }
    }

    #[test]
    fn what_is_more_than_allowed_or_there_is_refused_with_both_numbers() {
        assert!(check("a model", 5 << 20, None).is_ok());
        assert!(check("a model", 5 << 20, Some(5 << 20)).is_ok());
        let error = check("a model", (5 << 20) + 1, Some(5 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert_eq!(error.message(), "a model needs about 6 MiB of memory, 5 are allowed");
        if physical().is_some() {
            let error = check("a model", 1 << 60, Some(u64::MAX)).unwrap_err();
            assert!(error.message().ends_with(" are there"), "{}", error.message());
        }
    }
}
