//! In: token ids, latents and conditioning. Out: conditioning, latents and frames. [`Engine`] is where
//! the choice of backend is erased: blending sees only this.

use super::feed::Feed;
use super::guidance::GuidanceSteps;
use super::latent::{Context, Latent};
use super::needs::Needs;
use super::schedule::Schedule;
use super::state::Trail;
use crate::backend::{CudaImage, CudaPicture, Numerics};
use crate::error::{Error, Result};
use crate::frame::Frame;
use std::ops::Range;
use std::sync::Arc;

/// One latent on its way, with its own prompt and guidance.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Where it starts.
    pub latent: Latent,
    /// What a multistep sampler remembers at the start: the clean latent that was predicted in the step
    /// before. Without it, and with other samplers, the first step is of first order.
    pub history: Option<Latent>,
    /// Other branches that it is drawn to on its way.
    pub feed: Option<Arc<Feed>>,
    /// The conditioning of the prompt.
    pub positive: Arc<Context>,
    /// The conditioning of the negative prompt.
    pub negative: Arc<Context>,
    /// The guidance scale g: the prediction is n + g (p - n) (Ho & Salimans 2021). At exactly 1 the
    /// negative prompt is not evaluated. See [`Batch::guidance`] for its course along the steps.
    pub guidance: f64,
    /// Further input channels of an inpainting model: mask and masked picture.
    pub extra: Option<Arc<Latent>>,
}

/// Branches that take the same steps together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// All of one shape.
    pub branches: Vec<Branch>,
    /// The run they are on.
    pub schedule: Arc<Schedule>,
    /// The part of the schedule to take; not empty.
    pub steps: Range<usize>,
    /// The first step after which a branch's state is handed back; the last is in any case.
    pub keep: usize,
    /// How guidance goes along the steps.
    pub guidance: Arc<GuidanceSteps>,
}

impl Batch {
    /// Fails for steps that are none, or beyond the schedule, for branches of which only some have
    /// a history, and for a course of guidance that is none.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self) -> Result<()> {
        let (steps, length) = (&self.steps, self.schedule.steps.len());
        if steps.is_empty() || steps.end > length {
            return Err(Error::invalid(format!("steps {steps:?} of a schedule of {length}")));
        }
        let with = self.branches.iter().filter(|branch| branch.history.is_some()).count();
        if with != 0 && with != self.branches.len() {
            return Err(Error::invalid("some branches of a batch lack their history"));
        }
        self.guidance.check()
    }
}

/// A batch on its way. Each call of [`Denoising::advance`] is one evaluation of the UNet.
pub trait Denoising: Send {
    /// Runs one evaluation; after the last, `Some` with the states of each branch from
    /// [`Batch::keep`] on, in the order of the branches.
    fn advance(&mut self) -> Result<Option<Vec<Trail>>>;
}

/// Loaded networks on a device. A sample's result never depends on the rest of its batch.
pub trait Engine: Send + Sync {
    /// The conditioning of prompts, each given as the text encoder's full number of token ids.
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>>;

    /// Evaluations of the UNet that a batch of `branches` over `steps` steps takes.
    fn evaluations(&self, branches: usize, steps: usize) -> usize;

    /// What calls take in memory for pictures of `size` (width, height) pixels, of which up to `branches` are
    /// denoised together; nothing from an engine that doesn't know. Sessions that could not be rendered are
    /// refused by it.
    fn needs(&self, size: [usize; 2], branches: usize) -> Needs {
        let _ = (size, branches);
        Needs::default()
    }

    /// The memory in bytes that the weights take; 0 where an engine doesn't say.
    fn weight_bytes(&self) -> u64 {
        0
    }

    /// The threads that it computes with; 0 where an engine doesn't say.
    fn threads(&self) -> usize {
        0
    }

    /// Lets go of idle memory that it keeps for the next call, and says how many bytes that were. Results stay
    /// the same.
    fn trim(&self) -> u64 {
        0
    }

    /// Samples that the UNet has evaluated so far: a guided step takes two, an unguided one takes one.
    /// 0 from an engine that doesn't count.
    fn samples(&self) -> u64 {
        0
    }

    /// Tokens and values of each that the conditioning of a prompt has; `None` where an engine doesn't say.
    /// Conditioning from elsewhere is held against it.
    fn context_shape(&self) -> Option<[usize; 2]> {
        None
    }

    /// What decides the last bits of its results.
    fn numerics(&self) -> Numerics {
        Numerics::unknown()
    }

    /// Prepares a batch to be denoised.
    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>>;

    /// Mean and log-variance of the posterior of `frame`'s latent, in the sampler's scale.
    fn encode(&self, frame: &Frame) -> Result<Posterior>;

    /// Whether its device can write `image` by itself: then [`decode_there`](Engine::decode_there) gives the picture.
    fn reaches(&self, image: &CudaImage) -> bool {
        let _ = image;
        false
    }

    /// Whether its device converts pictures to callers' formats: then [`decode_there`](Engine::decode_there) gives them.
    fn converts(&self) -> bool {
        false
    }

    /// Whether it decodes beside the denoising, which another thread asks for meanwhile.
    fn decodes_beside(&self) -> bool {
        false
    }

    /// The picture of a latent, left on the device; `None` from an engine whose pictures are the host's.
    fn decode_there(&self, latent: &Latent) -> Result<Option<CudaPicture>> {
        let _ = latent;
        Ok(None)
    }

    /// The picture of each latent.
    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>>;
}

/// The VAE's posterior: its mean is the latent of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    /// The mean, times the scaling factor.
    pub mean: Latent,
    /// The logarithm of the variance, before scaling.
    pub log_variance: Latent,
}
