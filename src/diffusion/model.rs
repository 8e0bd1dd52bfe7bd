//! In: an engine, its tokenizer and device thread. Out: [`Model`], these with what they are, ready for any number
//! of sessions.

use super::engine::{Batch, Engine, Posterior};
use super::executor::{Executor, Pending, Priority, Turn, Urgency};
use super::keeper::{Hold, Keep};
use super::latent::{Context, Latent};
use super::needs::check;
use super::schedule::{Schedule, SchedulePolicy};
use super::state::Trail;
use crate::backend::CudaPicture;
use crate::error::{Error, Result};
use crate::frame::{Frame, working_size_in};
use crate::model::{DiffusionConfig, Fingerprint, Known, PredictionType, PromptRules, Tokenizer};
use crate::progress::{Call, Stage};
use std::ffi::{CStr, CString};
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
    /// The same where its weights come and go.
    keep: Option<Arc<dyn Keep>>,
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

impl Model {
    /// A model around an engine of the caller's own: an analytic denoiser, say. `prompts` are then
    /// given to [`Engine::encode_prompts`] as their UTF-8 bytes.
    pub fn from_engine(engine: Arc<dyn Engine>, info: ModelInfo) -> Result<Self> {
        let (executor, texts) = (Executor::of("cpu", false)?, Texts::new(&info, ""));
        let (keep, tokenizer, memory_limit) = (None, None, None);
        let inner = Inner { engine, keep, executor, tokenizer, info, texts, memory_limit };
        Ok(Model(Arc::new(inner)))
    }

    /// A model that was loaded from files.
    pub(super) fn kept(
        keep: Arc<dyn Keep>,
        executor: Arc<Executor>,
        tokenizer: Tokenizer,
        info: ModelInfo,
        licence: &str,
        memory_limit: Option<u64>,
    ) -> Result<Self> {
        let texts = Texts::new(&info, licence);
        let engine: Arc<dyn Engine> = Arc::clone(&keep) as _;
        let (keep, tokenizer) = (Some(keep), Some(tokenizer));
        let inner = Inner { engine, keep, executor, tokenizer, info, texts, memory_limit };
        Ok(Model(Arc::new(inner)))
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

    /// The memory that the weights take now, in bytes: 0 while they are let go of, and for an engine that doesn't say.
    pub fn memory_bytes(&self) -> u64 {
        let keep = self.0.keep.as_ref();
        keep.map_or_else(|| self.0.engine.weight_bytes(), |keep| keep.held_bytes())
    }

    /// The most memory in bytes that the weights and calls for pictures of `size` (width, height) pixels take
    /// together, in bytes, if up to `branches` branches are denoised at once: 1 for a frame, a few while a tree
    /// is prepared (the engine goes no further than its batch). 0 besides the weights for an engine that
    /// doesn't say. The same whether or not the weights are held now.
    pub fn peak_bytes(&self, size: [usize; 2], branches: usize) -> u64 {
        let needs = self.0.engine.needs(size, branches);
        let call = match self.decodes_beside() {
            true => needs.denoise.saturating_add(needs.decode).max(needs.encode),
            false => needs.most(),
        };
        self.0.engine.weight_bytes().saturating_add(call)
    }

    /// Fails where frames of `size` take more memory than the model may, or than the machine has.
    pub(crate) fn check_memory(&self, size: [usize; 2]) -> Result<()> {
        // A device that lacks the room for more does one thing at a time.
        let call = self.0.engine.needs(size, usize::MAX).most();
        let needed = self.0.engine.weight_bytes().saturating_add(call);
        let [width, height] = size;
        check(&format!("a frame of {width}x{height} pixels"), needed, self.0.memory_limit)
    }

    /// Lets go of the idle memory that the model keeps so that its next call is quick (on the CPU, buffers of up
    /// to 256 MiB; on a CUDA device, recorded steps and idle memory), and returns how many bytes that were. Calls
    /// that run keep theirs; frames stay the same, and the next one takes a little longer. What sessions hold is
    /// theirs ([`Session::purge`](crate::Session::purge)).
    pub fn trim(&self) -> u64 {
        self.0.engine.trim()
    }

    /// Lets go of the weights and of all other memory that the model has on its device, and returns how many bytes that
    /// were. While calls run on it they keep them: then it returns 0, and the weights go when the last of them is done.
    /// The next call loads them again from where they came, as a part of it that reports [`Stage::Load`] and can be
    /// cancelled; calls that come at the same time share that. Frames stay the same bytes. Meanwhile info, tokenizer,
    /// sessions and what they have computed stay. [`LoadOptions::idle`](crate::LoadOptions::idle) does it by itself.
    ///
    /// The files must be there then, with the same weights: a call fails with `NotFound`, `BadModel` or `Io` where they
    /// are not, and works again once they are. Nothing goes of a model around an engine of the caller's own.
    pub fn unload(&self) -> u64 {
        self.0.keep.as_ref().map_or(0, |keep| keep.unload())
    }

    /// Counts a call, which may consist of several: until the result is dropped, weights that are there stay.
    pub(crate) fn hold(&self) -> Hold {
        self.0.keep.as_ref().and_then(|keep| keep.hold())
    }

    /// The same, with the weights there.
    pub(crate) fn ready(&self, call: &Call<'_>) -> Result<Hold> {
        let hold = self.hold();
        if let Some(keep) = &self.0.keep {
            keep.ready(call)?;
        }
        Ok(hold)
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
        let (engine, hold) = (Arc::clone(&self.0.engine), self.ready(call)?);
        let mut ids = ids.into_iter();
        let mut contexts = Vec::with_capacity(ids.len());
        let work = move || {
            let _held = &hold;
            if let Some(ids) = ids.next() {
                contexts.extend(sized(engine.encode_prompts(&[&ids])?, 1, "contexts")?);
            }
            Ok(if ids.len() == 0 { Turn::Done(std::mem::take(&mut contexts)) } else { Turn::More })
        };
        let watch = |done| call.report(Stage::Text, done, prompts.len(), 0.0);
        self.0.executor.run(priority, call.token(), work, watch)
    }

    /// The states along a batch; `watch`, which polls `call`, is told the evaluations that are done and in all.
    pub(crate) fn denoise(
        &self,
        priority: Priority,
        batch: Batch,
        call: &Call<'_>,
        mut watch: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Trail>> {
        let branches = batch.branches.len();
        let evaluations = self.0.engine.evaluations(branches, batch.steps.len());
        let (engine, hold) = (Arc::clone(&self.0.engine), self.ready(call)?);
        let mut batch = Some(batch);
        let mut running = None;
        let work = move || {
            let _held = &hold;
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
        self.0.executor.run(priority, call.token(), work, |done| watch(done, evaluations))
    }

    /// The posterior of the latent of a picture.
    pub(crate) fn encode(
        &self,
        priority: Priority,
        picture: Frame,
        call: &Call<'_>,
    ) -> Result<Posterior> {
        let (engine, hold) = (Arc::clone(&self.0.engine), self.ready(call)?);
        let work = move || {
            let _held = &hold;
            Ok(Turn::Done(engine.encode(&picture)?))
        };
        self.0.executor.run(priority, call.token(), work, |_| call.again())
    }

    /// Whether pictures are decoded beside what else runs.
    pub(crate) fn decodes_beside(&self) -> bool {
        self.0.engine.decodes_beside()
    }

    /// Begins to make the picture of each latent, one by one; left on the device. `None`: they are the host's.
    pub(crate) fn decode_there(
        &self,
        latents: Vec<Latent>,
        call: &Call<'_>,
    ) -> Result<Pending<Option<Vec<CudaPicture>>>> {
        let (engine, hold) = (Arc::clone(&self.0.engine), self.ready(call)?);
        let mut latents = latents.into_iter();
        let mut pictures = Vec::with_capacity(latents.len());
        let work = move || {
            let _held = &hold;
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
        Ok(self.0.executor.beside(call.token(), work))
    }

    /// Begins to make the picture of each latent, one by one.
    pub(crate) fn decode(
        &self,
        latents: Vec<Latent>,
        call: &Call<'_>,
    ) -> Result<Pending<Vec<Frame>>> {
        let engine = Arc::clone(&self.0.engine);
        // Frames that are a caller's own pictures want no weights.
        let hold = if latents.is_empty() { None } else { self.ready(call)? };
        let mut latents = latents.into_iter();
        let mut frames = Vec::with_capacity(latents.len());
        let work = move || {
            let _held = &hold;
            if let Some(latent) = latents.next() {
                frames.extend(sized(engine.decode(&[latent])?, 1, "frames")?);
            }
            if latents.len() == 0 {
                Ok(Turn::Done(std::mem::take(&mut frames)))
            } else {
                Ok(Turn::More)
            }
        };
        Ok(self.0.executor.beside(call.token(), work))
    }
}
