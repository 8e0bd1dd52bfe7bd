//! In: a model's files. Out: [`Model`], its networks on the device that was chosen.

use super::engine::Engine;
use super::executor::Executor;
use super::model::{Model, ModelInfo};
use super::pipeline::Pipeline;
use crate::backend::{Backend, Chosen, Cpu, CpuBf16, Cuda, Level, Precision, Reference, Workers};
use crate::error::{Error, Result};
use crate::model::{
    self as files, DiffusionConfig, Embedded, Known, LoadMeter, LoadOptions, PredictionType,
    Source, TextConfig, Tokenizer, UnetConfig, VaeConfig,
};
use crate::progress::Call;
use std::path::Path;
use std::sync::Arc;

/// Below this, the answer to [`Pipeline::probe`] is that of a velocity.
const PROBE_LIMIT: f64 = -1.0;

/// The networks on a backend; and, if that is asked, what tells the kind of their prediction.
fn loaded<B: Backend>(
    backend: B,
    source: &Source,
    meter: &LoadMeter<'_>,
    configs: (&TextConfig, &UnetConfig, &VaeConfig),
    (workers, options, ask): (Workers, &LoadOptions, bool),
) -> Result<(Arc<dyn Engine>, Option<f64>)> {
    let limit = options.memory_limit;
    let pipeline = Pipeline::load(backend, workers, source, meter, configs, limit)?;
    let found = if ask { Some(pipeline.probe(configs.1)?) } else { None };
    Ok((Arc::new(pipeline), found))
}

/// Where a model goes.
enum Onto {
    Cpu(Option<Level>, Precision),
    Cuda(Cuda),
}

impl Onto {
    fn new(options: &LoadOptions) -> Result<Self> {
        match options.device.resolve(options.precision)? {
            Chosen::Cuda { driver, ordinal } => {
                Ok(Onto::Cuda(Cuda::new(&driver, ordinal, options.precision)?))
            }
            Chosen::Cpu => {
                let (level, precision) = options.precision.on_cpu()?;
                Ok(Onto::Cpu(level, precision))
            }
        }
    }
}

impl Model {
    /// Loads any model of the Stable Diffusion 2 architecture: a folder in diffusers layout, or a
    /// single `.safetensors` or `.ckpt` file in the naming of the original releases. Weights may be in
    /// f32, f16 or bf16. May take seconds; reports and can be cancelled.
    ///
    /// Of a `.ckpt` or `.bin` file only tensors are read, and nothing in it is executed. Single files
    /// come without configurations: sizes are told from the shapes of the tensors, and what the UNet
    /// predicts from one evaluation of it, unless [`LoadOptions`] or a file beside it says so.
    ///
    /// # Errors
    /// `NotFound` for a missing folder or file, `BadModel` for one that is damaged or of another
    /// family, `Unsupported` for PyTorch files from before version 1.6, `Cancelled`.
    pub fn load(path: impl AsRef<Path>, call: &Call<'_>) -> Result<Self> {
        Model::load_with(path, &LoadOptions::default(), call)
    }

    /// Loads a model of whose files the caller knows more than they say.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn load_with(
        path: impl AsRef<Path>,
        options: &LoadOptions,
        call: &Call<'_>,
    ) -> Result<Self> {
        let source = Source::open_path(path.as_ref(), options.config.as_deref())?;
        Model::from_source(&source, options, None, call)
    }

    /// Loads a model whose files are embedded in the program.
    pub fn embedded(files: Embedded, options: &LoadOptions, call: &Call<'_>) -> Result<Self> {
        Model::from_source(&Source::Embedded(files), options, None, call)
    }

    /// Loads the embedded demo model: small pictures of landscapes, from prompts in the words that its
    /// card lists (`models/demo/README.md`).
    #[cfg(feature = "demo")]
    pub fn demo(call: &Call<'_>) -> Result<Self> {
        Model::demo_with(&LoadOptions::default(), call)
    }

    /// The same, as `options` say.
    #[cfg(feature = "demo")]
    pub fn demo_with(options: &LoadOptions, call: &Call<'_>) -> Result<Self> {
        let source = Source::Embedded(latentblend_demo::STANDARD);
        Model::from_source(&source, options, Some(Known::DEMO), call)
    }

    /// Loads the embedded demo model for inpainting.
    #[cfg(feature = "demo-inpainting")]
    pub fn demo_inpainting(call: &Call<'_>) -> Result<Self> {
        Model::demo_inpainting_with(&LoadOptions::default(), call)
    }

    /// The same, as `options` say.
    #[cfg(feature = "demo-inpainting")]
    pub fn demo_inpainting_with(options: &LoadOptions, call: &Call<'_>) -> Result<Self> {
        let source = Source::Embedded(latentblend_demo::INPAINTING);
        Model::from_source(&source, options, Some(Known::DEMO), call)
    }

    fn from_source(
        source: &Source,
        options: &LoadOptions,
        known: Option<Known>,
        call: &Call<'_>,
    ) -> Result<Self> {
        call.poll()?;
        let onto = Onto::new(options)?;
        let unet = UnetConfig::read(source)?;
        let text = TextConfig::read(source)?;
        let vae = VaeConfig::read(source)?;
        let (mut diffusion, stated) = DiffusionConfig::read(source)?;
        let bad = |what: String| {
            Error::bad_model(format!("{}: {what}", source.label("unet/config.json")))
        };
        if unet.context != text.width {
            return Err(bad(format!(
                "cross_attention_dim {} does not fit the text encoder's width {} (768 is SD 1.x, 2048 SDXL)",
                unet.context, text.width
            )));
        }
        let latent = vae.latent_channels;
        let inpainting = unet.in_channels == 2 * latent + 1;
        if unet.out_channels != latent || !(inpainting || unet.in_channels == latent) {
            return Err(bad(format!(
                "{} channels in and {} out: wanted {latent} or {} in (inpainting), {latent} out",
                unet.in_channels,
                unet.out_channels,
                2 * latent + 1
            )));
        }
        let tokenizer = Tokenizer::read(source, text.positions, text.vocab_size)?;
        let meter = LoadMeter::new(call);
        let factor = vae.factor();
        let configs = (&text, &unet, &vae);
        let ask = options.prediction_type.is_none() && !stated;
        let how = (Workers::new(options.threads)?, options, ask);
        let mut limit = options.memory_limit;
        let (executor, (engine, found)) = match onto {
            Onto::Cuda(cuda) => {
                cuda.limit_memory(limit);
                limit = Some(limit.unwrap_or(u64::MAX).min(cuda.info().memory));
                let executor = Executor::of(&format!("cuda{}", cuda.info().ordinal))?;
                (executor, loaded(cuda, source, &meter, configs, how)?)
            }
            Onto::Cpu(level, precision) => (
                Executor::of("cpu")?,
                match (level, precision) {
                    (Some(level), Precision::Bf16) => {
                        loaded(CpuBf16::new(level), source, &meter, configs, how)?
                    }
                    (Some(level), _) => loaded(Cpu::new(level), source, &meter, configs, how)?,
                    (None, _) => loaded(Reference, source, &meter, configs, how)?,
                },
            ),
        };
        diffusion.spacing = options.spacing.unwrap_or(diffusion.spacing);
        if let Some(kind) = options.prediction_type {
            diffusion.prediction_type = kind;
        } else if found.is_some_and(|found| found < PROBE_LIMIT) {
            diffusion.prediction_type = PredictionType::Velocity;
        }
        // Of the published models those that predict the velocity were trained at 768 pixels.
        let side = if diffusion.prediction_type == PredictionType::Velocity { 96 } else { 64 };
        let [height, width] = unet.sample_size.unwrap_or([side; 2]);
        let known = known.or_else(|| Known::find(&unet, &text, &diffusion));
        let info = ModelInfo {
            latent_channels: latent,
            factor,
            native_size: [width * factor, height * factor],
            inpainting,
            diffusion,
            fingerprint: Some(meter.fingerprint()),
            known,
        };
        let licence = files::licence(source, info.known.as_ref());
        Model::new(engine, executor, Some(tokenizer), info, &licence, limit)
    }
}
