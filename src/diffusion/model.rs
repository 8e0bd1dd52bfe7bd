//! In: a model's files. Out: [`Model`], loaded networks with their tokenizer and device thread, ready
//! for any number of sessions.

use super::engine::{Batch, Engine, Posterior};
use super::executor::{Executor, Priority, Turn, Urgency};
use super::latent::{Context, Latent};
use super::needs::check;
use super::pipeline::Pipeline;
use super::schedule::{Schedule, SchedulePolicy};
use super::state::Trail;
use crate::backend::{
    Backend, Chosen, Cpu, CpuBf16, Cuda, CudaPicture, Level, Precision, Reference, Workers,
};
use crate::error::{Error, Result};
use crate::frame::{Frame, working_size_in};
use crate::model::{
    self as files, DiffusionConfig, Embedded, Fingerprint, Known, LoadMeter, LoadOptions,
    PredictionType, PromptRules, Source, TextConfig, Tokenizer, UnetConfig, VaeConfig,
};
use crate::progress::{Call, Cancel, Stage};
use std::ffi::{CStr, CString};
use std::path::Path;
use std::sync::Arc;

/// What a model is, as far as a caller may want to know.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Pixels per latent pixel, along each axis.
    pub factor: usize,
    /// Width and height in pixels that the model was trained at.
    pub native_size: [usize; 2],
    /// Whether the UNet takes a mask and a masked picture.
    pub inpainting: bool,
    /// The noise schedule and its sampling.
    pub diffusion: DiffusionConfig,
    /// Tells its weights from others'; a model around an engine of the caller's own may have none.
    pub fingerprint: Option<Fingerprint>,
    /// The published model that it is, or is of the kind of.
    pub known: Option<Known>,
}

/// Below this, the answer to [`Pipeline::probe`] is that of a velocity.
const PROBE_LIMIT: f64 = -1.0;

impl ModelInfo {
    /// What the UNet predicts.
    pub fn prediction_type(&self) -> PredictionType {
        self.diffusion.prediction_type
    }

    /// The size in pixels at which this model works best for a picture of `size` (width, height) whose
    /// pixels are `pixel_aspect` times as wide as high: its native area in that shape, as
    /// [`working_size`](crate::working_size)
    /// rounds it, in multiples of [`factor`](Self::factor).
    ///
    /// # Errors
    /// `InvalidArgument` for a picture without area and a pixel aspect that is not within 0.01 to 100.
    pub fn working_size(&self, size: [usize; 2], pixel_aspect: f64) -> Result<[usize; 2]> {
        for (name, side) in ["width", "height"].into_iter().zip(size) {
            if side == 0 {
                return Err(Error::invalid(format!("{name} 0: wanted at least 1")));
            }
        }
        if !(0.01..=100.0).contains(&pixel_aspect) {
            return Err(Error::invalid(format!("pixel aspect {pixel_aspect}: wanted 0.01 to 100")));
        }
        let [width, height] = size.map(|side| side as f64);
        working_size_in(self.factor, self.native_size, width * pixel_aspect / height)
    }
}

struct Inner {
    engine: Arc<dyn Engine>,
    executor: Arc<Executor>,
    tokenizer: Option<Tokenizer>,
    info: ModelInfo,
    texts: Texts,
    /// What weights and a call may take together.
    memory_limit: Option<u64>,
}

/// What a model is called, and so on. NUL-ended, so that the C surface can lend them.
struct Texts {
    name: CString,
    licence: CString,
    fingerprint: CString,
}

impl Texts {
    fn new(info: &ModelInfo, licence: &str) -> Self {
        let text = |text: &str| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        let fingerprint = info.fingerprint.map(|f| f.to_string()).unwrap_or_default();
        Texts {
            name: text(info.known.map_or("", |known| known.name)),
            licence: text(licence),
            fingerprint: text(&fingerprint),
        }
    }
}

/// A text that was made of a `str`.
fn plain(text: &CStr) -> &str {
    text.to_str().unwrap_or_default()
}

/// What an engine gave back, which may be a caller's own: as many as were asked for.
fn sized<T>(values: Vec<T>, wanted: usize, what: &str) -> Result<Vec<T>> {
    match values.len() == wanted {
        true => Ok(values),
        false => Err(Error::internal(format!(
            "{} {what} from the engine, wanted {wanted}",
            values.len()
        ))),
    }
}

/// A loaded model: shared, immutable, usable from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

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

    /// A model around an engine of the caller's own: an analytic denoiser, say. `prompts` are then
    /// given to [`Engine::encode_prompts`] as their UTF-8 bytes.
    pub fn from_engine(engine: Arc<dyn Engine>, info: ModelInfo) -> Result<Self> {
        Model::new(engine, Executor::of("cpu")?, None, info, "", None)
    }

    fn new(
        engine: Arc<dyn Engine>,
        executor: Arc<Executor>,
        tokenizer: Option<Tokenizer>,
        info: ModelInfo,
        licence: &str,
        memory_limit: Option<u64>,
    ) -> Result<Self> {
        let texts = Texts::new(&info, licence);
        Ok(Model(Arc::new(Inner { engine, executor, tokenizer, info, texts, memory_limit })))
    }

    /// What the model is called, or the published one that it is of the kind of (`ModelInfo::known` says
    /// which); empty where neither is known.
    pub fn name(&self) -> &str {
        plain(&self.0.texts.name)
    }

    /// The licence of its weights: the text that lies beside them, else its name and where to find it,
    /// else that none is known. Empty for an engine of the caller's own.
    pub fn licence(&self) -> &str {
        plain(&self.0.texts.licence)
    }

    /// The memory that the weights take, in bytes; 0 for an engine that doesn't say.
    pub fn memory_bytes(&self) -> u64 {
        self.0.engine.weight_bytes()
    }

    /// The most memory in bytes that the weights and calls for pictures of `size` (width, height) pixels take
    /// together, in bytes, if up to `branches` branches are denoised at once: 1 for a frame, a few while a tree
    /// is prepared (the engine goes no further than its batch). 0 besides the weights for an engine that
    /// doesn't say.
    pub fn peak_bytes(&self, size: [usize; 2], branches: usize) -> u64 {
        let call = self.0.engine.needs(size, branches).most();
        self.memory_bytes().saturating_add(call)
    }

    /// Fails where frames of `size` take more memory than the model may, or than the machine has.
    pub(crate) fn check_memory(&self, size: [usize; 2]) -> Result<()> {
        let needed = self.peak_bytes(size, usize::MAX);
        let [width, height] = size;
        check(&format!("a frame of {width}x{height} pixels"), needed, self.0.memory_limit)
    }

    /// Lets go of the idle memory that the model keeps so that its next call is quick (on the CPU, buffers of up
    /// to 256 MiB; on a CUDA device, recorded steps and idle memory), and returns how many bytes that were. Calls that run keep theirs; frames stay the same, and
    /// the next one takes a little longer. What sessions hold is theirs
    /// ([`Session::purge`](crate::Session::purge)).
    pub fn trim(&self) -> u64 {
        self.0.engine.trim()
    }

    /// Name, licence and fingerprint, for as long as a reference to the model is held.
    pub(crate) fn texts(&self) -> [&CStr; 3] {
        [&self.0.texts.name, &self.0.texts.licence, &self.0.texts.fingerprint]
    }

    /// What this model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// The networks, for callers who sample by themselves. They run on the caller's thread.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.engine
    }

    /// The token ids of `prompt`, at the text encoder's full length, and what found no room.
    pub fn tokenize(&self, prompt: &str) -> Result<(Vec<u32>, Option<String>)> {
        self.tokenize_as(prompt, PromptRules::Transformers)
    }

    /// The same by other rules.
    pub fn tokenize_as(
        &self,
        prompt: &str,
        rules: PromptRules,
    ) -> Result<(Vec<u32>, Option<String>)> {
        match &self.0.tokenizer {
            Some(tokenizer) => {
                let tokens = tokenizer.encode(prompt, rules)?;
                Ok((tokens.ids, tokens.dropped))
            }
            None => Ok((prompt.bytes().map(u32::from).collect(), None)),
        }
    }

    /// The timesteps of a run of `steps` steps.
    pub fn schedule(&self, steps: usize, policy: SchedulePolicy) -> Result<Schedule> {
        Schedule::new(&self.0.info.diffusion, steps, policy)
    }

    /// Holds `prepare`s back while a frame is made.
    pub(crate) fn urgent(&self) -> Urgency {
        self.0.executor.urgent()
    }

    /// The conditioning of each prompt, one by one.
    pub(crate) fn contexts(
        &self,
        priority: Priority,
        prompts: &[&str],
        rules: PromptRules,
        call: &Call<'_>,
    ) -> Result<Vec<Context>> {
        let ids = prompts.iter().map(|prompt| Ok(self.tokenize_as(prompt, rules)?.0));
        let ids: Vec<Vec<u32>> = ids.collect::<Result<_>>()?;
        let engine = Arc::clone(&self.0.engine);
        let mut ids = ids.into_iter();
        let mut contexts = Vec::with_capacity(ids.len());
        let work = move || {
            if let Some(ids) = ids.next() {
                contexts.extend(sized(engine.encode_prompts(&[&ids])?, 1, "contexts")?);
            }
            Ok(if ids.len() == 0 { Turn::Done(std::mem::take(&mut contexts)) } else { Turn::More })
        };
        let watch = |done| call.report(Stage::Text, done, prompts.len(), 0.0);
        self.0.executor.run(priority, call.token(), work, watch)
    }

    /// The states along a batch; `watch` is told the evaluations that are done and in all.
    pub(crate) fn denoise(
        &self,
        priority: Priority,
        batch: Batch,
        cancel: Option<Cancel>,
        mut watch: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Trail>> {
        let branches = batch.branches.len();
        let evaluations = self.0.engine.evaluations(branches, batch.steps.len());
        let engine = Arc::clone(&self.0.engine);
        let mut batch = Some(batch);
        let mut running = None;
        let work = move || {
            if let Some(batch) = batch.take() {
                running = Some(Arc::clone(&engine).denoise(batch)?);
            }
            let Some(running) = &mut running else {
                return Err(Error::internal("a batch was lost"));
            };
            match running.advance()? {
                None => Ok(Turn::More),
                Some(trails) => Ok(Turn::Done(sized(trails, branches, "latents")?)),
            }
        };
        self.0.executor.run(priority, cancel, work, |done| watch(done, evaluations))
    }

    /// The posterior of the latent of a picture.
    pub(crate) fn encode(
        &self,
        priority: Priority,
        picture: Frame,
        call: &Call<'_>,
    ) -> Result<Posterior> {
        let engine = Arc::clone(&self.0.engine);
        let work = move || Ok(Turn::Done(engine.encode(&picture)?));
        self.0.executor.run(priority, call.token(), work, |_| call.again())
    }

    /// The same, left on the device; `None` where they are the host's.
    pub(crate) fn decode_there(
        &self,
        latents: Vec<Latent>,
        cancel: Option<Cancel>,
        watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<Option<Vec<CudaPicture>>> {
        let engine = Arc::clone(&self.0.engine);
        let mut latents = latents.into_iter();
        let mut pictures = Vec::with_capacity(latents.len());
        let work = move || {
            if let Some(latent) = latents.next() {
                let Some(picture) = engine.decode_there(&latent)? else {
                    return Ok(Turn::Done(None));
                };
                pictures.push(picture);
            }
            if latents.len() == 0 {
                Ok(Turn::Done(Some(std::mem::take(&mut pictures))))
            } else {
                Ok(Turn::More)
            }
        };
        self.0.executor.run(Priority::Urgent, cancel, work, watch)
    }

    /// The picture of each latent, one by one.
    pub(crate) fn decode(
        &self,
        latents: Vec<Latent>,
        cancel: Option<Cancel>,
        watch: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Frame>> {
        let engine = Arc::clone(&self.0.engine);
        let mut latents = latents.into_iter();
        let mut frames = Vec::with_capacity(latents.len());
        let work = move || {
            if let Some(latent) = latents.next() {
                frames.extend(sized(engine.decode(&[latent])?, 1, "frames")?);
            }
            if latents.len() == 0 {
                Ok(Turn::Done(std::mem::take(&mut frames)))
            } else {
                Ok(Turn::More)
            }
        };
        self.0.executor.run(Priority::Urgent, cancel, work, watch)
    }
}
