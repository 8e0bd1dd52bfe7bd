//! In: a model's files. Out: [`Model`], its networks on the device that was chosen.

use super::executor::Executor;
use super::keeper::{Keep, Keeper};
use super::model::{Model, ModelInfo};
use super::pipeline::Pipeline;
use crate::backend::{
    Backend, Chosen, Cpu, CpuBf16, Cuda, CudaDriver, Level, Precision, Reference, Workers,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    self as files, DiffusionConfig, Embedded, Known, LoadMeter, LoadOptions, PredictionType,
    Source, TextConfig, Tokenizer, UnetConfig, VaeConfig,
};
use crate::progress::Call;
use std::path::Path;
use std::sync::Arc;

/// Below this, the answer to [`Pipeline::probe`] is that of a velocity.
const PROBE_LIMIT: f64 = -1.0;

/// What networks are loaded from and how, once and again.
struct Loading<'a> {
    source: &'a Source,
    configs: (&'a TextConfig, &'a UnetConfig, &'a VaeConfig),
    workers: Workers,
    options: &'a LoadOptions,
    executor: &'a Arc<Executor>,
    /// Whether the networks themselves are to tell what they predict.
    ask: bool,
}

impl Loading<'_> {
    /// The networks on `backend`, and once they were let go of on one that `renew` makes; and, if that is asked, what
    /// tells the kind of their prediction.
    fn onto<B: Backend>(
        &self,
        backend: B,
        meter: &LoadMeter<'_>,
        renew: impl Fn() -> Result<B> + Send + Sync + 'static,
    ) -> Result<(Arc<dyn Keep>, Option<f64>)> {
        let (text, unet, vae) = self.configs;
        let (workers, limit) = (self.workers.clone(), self.options.memory_limit);
        let configs = self.configs;
        let pipeline =
            Pipeline::load(backend, workers.clone(), self.source, meter, configs, limit)?;
        let found = if self.ask { Some(pipeline.probe(unet)?) } else { None };
        let (source, wanted) = (self.source.anchored(), meter.fingerprint());
        let (text, unet, vae) = (text.clone(), unet.clone(), vae.clone());
        let again = move |call: &Call<'_>| {
            let source = source.again()?;
            let (meter, configs) = (LoadMeter::new(call), (&text, &unet, &vae));
            let pipeline =
                Pipeline::load(renew()?, workers.clone(), &source, &meter, configs, limit)?;
            let found = meter.fingerprint();
            if found != wanted {
                return Err(Error::bad_model(format!(
                    "{}: another model by now, of fingerprint {found}: wanted {wanted}",
                    source.place()
                )));
            }
            Ok(pipeline)
        };
        let again = move |call: &Call<'_>| {
            again(call).map_err(|error| match error.kind() {
                ErrorKind::Cancelled => error,
                _ => error.at("weights that were let go of cannot be loaded again"),
            })
        };
        let keeper = Keeper::new(pipeline, again, self.options.idle, self.executor);
        Ok((Arc::new(keeper), found))
    }
}

/// Where a model goes.
enum Onto {
    Cpu(Option<Level>, Precision),
    Cuda(Arc<CudaDriver>, Cuda),
}

impl Onto {
    fn new(options: &LoadOptions) -> Result<Self> {
        match options.device.resolve(options.precision)? {
            Chosen::Cuda { driver, ordinal } => {
                let cuda = Cuda::new(&driver, ordinal, options.precision)?;
                Ok(Onto::Cuda(driver, cuda))
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
        let executor = match &onto {
            Onto::Cuda(_, cuda) => Executor::of(&format!("cuda{}", cuda.info().ordinal), true),
            Onto::Cpu(..) => Executor::of("cpu", false),
        }?;
        let loading = Loading {
            source,
            configs: (&text, &unet, &vae),
            workers: Workers::new(options.threads)?,
            options,
            executor: &executor,
            ask: options.prediction_type.is_none() && !stated,
        };
        let mut limit = options.memory_limit;
        let (engine, found) = match onto {
            Onto::Cuda(driver, cuda) => {
                cuda.limit_memory(limit);
                let (ordinal, precision) = (cuda.info().ordinal, cuda.precision());
                let own = limit;
                limit = Some(limit.unwrap_or(u64::MAX).min(cuda.info().memory));
                loading.onto(cuda, &meter, move || {
                    let cuda = Cuda::new(&driver, ordinal, precision)?;
                    // Another model's limit stays where this one has none.
                    if own.is_some() {
                        cuda.limit_memory(own);
                    }
                    Ok(cuda)
                })?
            }
            Onto::Cpu(Some(level), Precision::Bf16) => {
                loading.onto(CpuBf16::new(level), &meter, move || Ok(CpuBf16::new(level)))?
            }
            Onto::Cpu(Some(level), _) => {
                loading.onto(Cpu::new(level), &meter, move || Ok(Cpu::new(level)))?
            }
            Onto::Cpu(None, _) => loading.onto(Reference, &meter, || Ok(Reference))?,
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
        Model::kept(engine, executor, tokenizer, info, &licence, limit)
    }
}
