//! In: a caller's wishes. Out: [`Recipe`], the same wishes checked and turned into numbers: the plan,
//! the schedule and the size of the latents.

use super::image::KeyframeImage;
use super::mix::EmbeddingMix;
use super::plan::{Branching, GuidanceDamping, Look, Plan, Preset};
use crate::diffusion::{Latent, ModelInfo, NoiseKind, Schedule, SchedulePolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::model::PromptRules;
use std::sync::Arc;

/// One end of a transition: what the picture shows there, and the seed of its noise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyframe {
    /// What the picture shows. May be empty.
    pub prompt: String,
    /// What it must not show. May be empty.
    pub negative_prompt: String,
    /// The seed of its noise, as PyTorch's generators read it.
    pub seed: u64,
    /// The start latent itself, in place of the seed's noise.
    pub start: Option<Arc<Latent>>,
    /// The picture itself; the prompt then says what it shows, and may be empty.
    pub image: Option<KeyframeImage>,
}

impl Keyframe {
    /// A keyframe without negative prompt.
    pub fn new(prompt: impl Into<String>, seed: u64) -> Self {
        Keyframe { prompt: prompt.into(), seed, ..Keyframe::default() }
    }

    /// The same with a start latent in place of the seed's noise.
    pub fn start(mut self, latent: Latent) -> Self {
        self.start = Some(Arc::new(latent));
        self
    }

    /// The same with a negative prompt.
    pub fn negative(mut self, prompt: impl Into<String>) -> Self {
        self.negative_prompt = prompt.into();
        self
    }
}

/// How a transition is made. The defaults are those of the original's first example.
#[derive(Clone, Debug, PartialEq)]
pub struct BlendOptions {
    /// Width and height in pixels, multiples of 8; `None`: what the model was trained at.
    pub size: Option<[usize; 2]>,
    /// The tree's fineness, and the number of steps where `steps` says none.
    pub preset: Preset,
    /// Diffusion steps, 1 to 999; `None`: the preset's.
    pub steps: Option<usize>,
    /// Where the first branches leave their keyframes, as a share of the steps, 0 to below 1. Late
    /// branches keep more of their keyframes' composition.
    pub depth: f64,
    /// How many frames the transition is meant for, from which presets derive the number of leaves.
    pub frames: usize,
    /// The tree in full, instead of `preset`, `depth` and `frames`.
    pub branching: Option<Branching>,
    /// How much denser branches lie in the middle; below 1.7 they are spaced evenly.
    pub mid_compression: f64,
    /// The guidance scale at the keyframes, 0 to 100; 1 or less turns guidance off.
    pub guidance: f64,
    /// What of the guidance is left in the middle, above 0 to 1.
    pub guidance_mid_damper: f64,
    /// Whose random numbers the seeds stand for.
    pub noise: NoiseKind,
    /// Which version's choices are taken.
    pub look: Look,
    /// Memory for latents that can be made again. Any value gives the same frames; 0 makes each frame
    /// from noise.
    pub cache_bytes: usize,
}

impl Default for BlendOptions {
    fn default() -> Self {
        BlendOptions {
            size: None,
            preset: Preset::Medium,
            steps: None,
            depth: 0.65,
            frames: 360,
            branching: None,
            mid_compression: 2.0,
            guidance: 4.0,
            guidance_mid_damper: 0.5,
            noise: NoiseKind::Cuda,
            look: Look::Current,
            cache_bytes: 256 << 20,
        }
    }
}

/// Checked options, as numbers.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// (channels, height, width) of a latent.
    pub(crate) shape: [usize; 3],
    pub(crate) plan: Plan,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) guidance: f64,
    pub(crate) damper: f64,
    pub(crate) damping: GuidanceDamping,
    pub(crate) embedding_mix: EmbeddingMix,
    pub(crate) prompt_rules: PromptRules,
    pub(crate) noise: NoiseKind,
    pub(crate) cache_bytes: usize,
}

impl Recipe {
    pub(crate) fn new(options: &BlendOptions, model: &ModelInfo) -> Result<Self> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value.is_finite() && (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::invalid(format!("{name} {value}: wanted {low} to {high}")))
            }
        };
        within("guidance scale", options.guidance, 0.0, 100.0)?;
        let damper = options.guidance_mid_damper;
        if !(damper > 0.0 && damper <= 1.0) {
            return Err(Error::invalid(format!(
                "guidance mid damper {damper}: wanted above 0 to 1"
            )));
        }
        let compat = options.look == Look::Compat2022;
        let policy = if compat { SchedulePolicy::Compat2022 } else { SchedulePolicy::Model };
        let steps = options.steps.unwrap_or(options.preset.steps());
        let schedule = Schedule::new(&model.diffusion, steps, policy)?;
        let branching = match &options.branching {
            Some(branching) => branching.clone(),
            None => {
                const MOST: usize = 200_000;
                if options.frames > MOST {
                    let frames = options.frames;
                    return Err(Error::invalid(format!("{frames} frames: wanted up to {MOST}")));
                }
                let leaves = options.preset.leaves(options.frames);
                Branching::automatic(steps, options.depth, leaves, options.look)?
            }
        };
        // The schedule of 2022 may be shorter than was asked for.
        let plan = Plan::new(schedule.steps.len(), &branching, options.mid_compression)?;
        let size = options.size.unwrap_or(model.native_size);
        // No guidance is a scale of exactly 1; damping must not take that for a strength.
        let unguided = options.guidance == 1.0 || options.guidance <= 1.0 && !compat;
        Ok(Recipe {
            shape: latent_shape(size, model)?,
            plan,
            schedule: Arc::new(schedule),
            guidance: if unguided { 1.0 } else { options.guidance },
            damper: if unguided { 1.0 } else { options.guidance_mid_damper },
            damping: if compat { GuidanceDamping::Compat2022 } else { GuidanceDamping::TowardsOne },
            embedding_mix: if compat { EmbeddingMix::Linear } else { EmbeddingMix::NormPreserving },
            prompt_rules: if compat { PromptRules::OpenClip } else { PromptRules::Transformers },
            noise: options.noise,
            cache_bytes: options.cache_bytes,
        })
    }

    /// The guidance scale at `fraction`.
    pub(crate) fn guidance_at(&self, fraction: f64) -> f64 {
        self.damping.at(self.guidance, self.damper, fraction)
    }
}

/// The latent of a picture of `size` pixels.
fn latent_shape([width, height]: [usize; 2], model: &ModelInfo) -> Result<[usize; 3]> {
    /// Beyond this no machine holds the activations; a typing error does not reach an allocation.
    const MOST: usize = 16_384;
    for (name, length) in [("width", width), ("height", height)] {
        if length == 0 || !length.is_multiple_of(model.factor) {
            return Err(Error::invalid(format!(
                "{name} {length} is not a multiple of {}",
                model.factor
            )));
        }
        if length > MOST {
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("{name} {length} is beyond the most of {MOST} pixels"),
            ));
        }
    }
    Ok([model.latent_channels, height / model.factor, width / model.factor])
}
