//! In: a caller's wishes. Out: [`Recipe`], the same wishes checked and turned into numbers: the plan,
//! the schedule and the size of the latents.

use super::branching::Branching;
use super::crossfeed::Crossfeed;
use super::curve::Curve;
use super::mix::EmbeddingMix;
use super::plan::{GuidanceDamping, Look, Plan, Preset};
use super::stems::StemLimit;
use crate::diffusion::{
    GuidanceSteps, LatentMix, ModelInfo, NoiseKind, Sampler, Schedule, SchedulePolicy,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::PromptRules;
use std::ops::Range;
use std::sync::Arc;

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
    /// The tree in full, instead of `preset`, `depth` and `frames`. In [`Look::Compat2023`] its branches
    /// count those that are put in besides the keyframes.
    pub branching: Option<Branching>,
    /// How much denser branches lie in the middle; below 1.7 they are spaced evenly.
    pub mid_compression: f64,
    /// The guidance scale at the keyframes, 0 to 100; 1 or less turns guidance off.
    pub guidance: f64,
    /// What of the guidance is left in the middle, above 0 to 1.
    pub guidance_mid_damper: f64,
    /// The guidance scale by t, through the whole transition, in place of `guidance` and its damper: values
    /// of 0 to 100, of which those up to 1 turn guidance off.
    pub guidance_over_t: Option<Curve>,
    /// What of the guidance scale g is left along a run: x is 0 at its first step and 1 at its last, and the
    /// scale there is 1 + (g - 1) y, for y of 0 to 100. At 0 the negative prompt is not evaluated.
    pub guidance_over_steps: Option<Curve>,
    /// Steps that are guided, from the first on; behind them guidance is off, and each step costs half.
    /// `None`: all.
    pub guided_steps: Option<usize>,
    /// How far guided predictions are brought back to the deviation of unguided ones, 0 (not at all) to 1
    /// ([`GuidanceSteps::rescale`]). For models that predict the velocity; 0.7 is the usual value.
    pub guidance_rescale: f64,
    /// Whether the last keyframe leads back to the first; t then runs to their number.
    pub looped: bool,
    /// Whose random numbers the seeds stand for.
    pub noise: NoiseKind,
    /// How a run goes from step to step.
    pub sampler: Sampler,
    /// How far each keyframe but the first is drawn to the one before, as long as no branches have left,
    /// so that the two look more alike. `None`: as the look has it, which is off but in
    /// [`Look::Compat2023`] (0.1, 0.6, 0.8).
    pub branch1_crossfeed: Option<Crossfeed>,
    /// How far branches are drawn to what lies between the two that they started from, which run on for
    /// that. `None`: as the look has it, which is off but in [`Look::Compat2023`] (0.1, 0.8, 0.8).
    pub parental_crossfeed: Option<Crossfeed>,
    /// How latents are mixed where branches start between others. `None`: as the look has it, which is by
    /// bands, for frames in the middle keep more of their keyframes' detail that way; in
    /// [`Look::Compat2022`] and [`Look::Compat2023`] there is but the arc.
    pub latent_mix: Option<LatentMix>,
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
            guidance_over_t: None,
            guidance_over_steps: None,
            guided_steps: None,
            guidance_rescale: 0.0,
            looped: false,
            noise: NoiseKind::Cuda,
            sampler: Sampler::Ddim,
            branch1_crossfeed: None,
            parental_crossfeed: None,
            latent_mix: None,
            look: Look::Current,
            cache_bytes: 256 << 20,
        }
    }
}

/// What the branches of one level run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Their steps. Beyond the plan's, where others are drawn to them.
    pub(crate) steps: Range<usize>,
    /// The first step after which others start from their states, or are drawn to them.
    pub(crate) keep: usize,
}

/// Checked options, as numbers.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// (channels, height, width) of a latent.
    pub(crate) shape: [usize; 3],
    pub(crate) plan: Plan,
    /// What branches run, for each level of the plan.
    pub(crate) spans: Vec<Span>,
    /// The trees of the segments, where each has branches of its own; else all have `plan`.
    pub(crate) plans: Option<Arc<Vec<Plan>>>,
    /// Whether the last keyframe leads back to the first.
    pub(crate) looped: bool,
    pub(crate) schedule: Arc<Schedule>,
    /// How far each keyframe is drawn to the one before, for each step; `None`: not at all.
    pub(crate) branch1: Option<Arc<[f64]>>,
    /// How far branches are drawn to their parents, for each level of the plan and each step.
    pub(crate) parental: Vec<Option<Arc<[f64]>>>,
    pub(crate) guidance: f64,
    pub(crate) damper: f64,
    pub(crate) damping: GuidanceDamping,
    pub(crate) guidance_over_t: Option<Curve>,
    pub(crate) guidance_steps: Arc<GuidanceSteps>,
    pub(crate) embedding_mix: EmbeddingMix,
    pub(crate) latent_mix: LatentMix,
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
        let look = options.look;
        let year = match look {
            Look::Current => None,
            Look::Compat2022 => Some(2022),
            Look::Compat2023 => Some(2023),
        };
        let latent_mix = match (year, options.latent_mix) {
            (None, wanted) => wanted.unwrap_or(LatentMix::Bands),
            (Some(_), None | Some(LatentMix::Arc)) => LatentMix::Arc,
            (Some(year), Some(wanted)) => {
                let (wanted, had) = (wanted.name(), LatentMix::Arc.name());
                return Err(Error::invalid(format!(
                    "latent mix {wanted}: compat {year} has {had}"
                )));
            }
        };
        let policy = match look {
            Look::Current => SchedulePolicy::Model,
            Look::Compat2022 => SchedulePolicy::Compat2022,
            Look::Compat2023 => SchedulePolicy::Compat2023,
        };
        let steps = options.steps.unwrap_or(options.preset.steps());
        let schedule = Schedule::with_sampler(&model.diffusion, steps, policy, options.sampler)?;
        let branching = match &options.branching {
            Some(branching) => branching.clone(),
            None => {
                const MOST: usize = 200_000;
                if options.frames > MOST {
                    let frames = options.frames;
                    return Err(Error::invalid(format!("{frames} frames: wanted up to {MOST}")));
                }
                let leaves = options.preset.leaves(options.frames);
                match look {
                    Look::Compat2023 => {
                        Branching::stems(steps, options.depth, StemLimit::Frames(leaves))?
                    }
                    _ => Branching::automatic(steps, options.depth, leaves, look)?,
                }
            }
        };
        // The schedule of 2022 may be shorter than was asked for.
        let count = schedule.steps.len();
        let plan = match look {
            Look::Compat2023 => Plan::nested(count, &branching)?,
            _ => Plan::new(count, &branching, options.mid_compression)?,
        };
        let size = options.size.unwrap_or(model.native_size);
        let compat = look != Look::Current;
        // No guidance is a scale of exactly 1; damping must not take that for a strength.
        let unguided = options.guidance == 1.0 || options.guidance <= 1.0 && !compat;
        let [branch1, parental] = crossfeeds(options)?;
        let branch1 = branch1_coefficients(branch1, &plan, count)?;
        let parental = parental_coefficients(parental, &plan, count);
        let guidance_steps = guidance_steps(options, schedule.steps.len())?;
        if let Some(curve) = &options.guidance_over_t {
            curve.range().into_iter().try_for_each(|y| within("guidance scale", y, 0.0, 100.0))?;
        }
        Ok(Recipe {
            shape: latent_shape(size, model)?,
            spans: spans(&plan, count, branch1.as_deref(), &parental),
            plan,
            plans: None,
            looped: options.looped,
            schedule: Arc::new(schedule),
            branch1,
            parental,
            guidance: if unguided { 1.0 } else { options.guidance },
            damper: if unguided { 1.0 } else { options.guidance_mid_damper },
            guidance_over_t: options.guidance_over_t.clone(),
            guidance_steps: Arc::new(guidance_steps),
            damping: match look {
                Look::Compat2022 => GuidanceDamping::Compat2022,
                Look::Compat2023 if !unguided => GuidanceDamping::Compat2023,
                _ => GuidanceDamping::TowardsOne,
            },
            embedding_mix: if compat { EmbeddingMix::Linear } else { EmbeddingMix::NormPreserving },
            latent_mix,
            prompt_rules: if compat { PromptRules::OpenClip } else { PromptRules::Transformers },
            noise: options.noise,
            cache_bytes: options.cache_bytes,
        })
    }

    /// The tree of a segment.
    pub(crate) fn plan_of(&self, segment: usize) -> &Plan {
        match &self.plans {
            Some(plans) => plans.get(segment).unwrap_or(&self.plan),
            None => &self.plan,
        }
    }

    /// The guidance scale at `t`, `fraction` of the way through its segment, before its course over steps.
    /// `own` are the scales that the segment's keyframes bring along; they fade into the recipe's.
    pub(crate) fn guidance_at(&self, t: f64, fraction: f64, own: [Option<f64>; 2]) -> f64 {
        let usual = match &self.guidance_over_t {
            Some(curve) => curve.at(t),
            None => self.guidance,
        };
        let scale = match own {
            [None, None] => usual,
            [from, to] => {
                let [from, to] = [from, to].map(|own| own.unwrap_or(usual));
                (1.0 - fraction) * from + fraction * to
            }
        };
        match &self.guidance_over_t {
            // No guidance is a scale of exactly 1.
            Some(_) => {
                if scale > 1.0 {
                    scale
                } else {
                    1.0
                }
            }
            None => self.damping.at(scale, self.damper, fraction),
        }
    }

    /// Width and height in pixels at which the model works.
    pub(crate) fn working_size(&self, model: &ModelInfo) -> [usize; 2] {
        let [_, height, width] = self.shape;
        [width, height].map(|length| length * model.factor)
    }

    /// The memory that the state of one branch takes, in bytes.
    pub(crate) fn state_bytes(&self) -> usize {
        let latents = if self.schedule.sampler.multistep() { 2 } else { 1 };
        self.shape.iter().product::<usize>() * size_of::<f32>() * latents
    }
}

/// The branch-1 and the parental crossfeed, checked.
fn crossfeeds(options: &BlendOptions) -> Result<[Crossfeed; 2]> {
    let default = |range| match options.look {
        Look::Compat2023 => Crossfeed::new(0.1, range, 0.8),
        _ => Crossfeed::OFF,
    };
    let branch1 = options.branch1_crossfeed.unwrap_or(default(0.6));
    let parental = options.parental_crossfeed.unwrap_or(default(0.8));
    branch1.check("branch-1")?;
    parental.check("parental")?;
    Ok([branch1, parental])
}

/// The same as numbers for each step, unless nothing is ever drawn.
pub(super) fn effective(mut coefficients: Vec<f64>, end: usize) -> Option<Arc<[f64]>> {
    coefficients.iter_mut().skip(end).for_each(|c| *c = 0.0);
    coefficients.iter().any(|&c| c > 0.0).then(|| coefficients.into())
}

/// A keyframe is drawn as long as no branches have left: afterwards its frame would part from those next
/// to it, which are not. (In 2023 it did.)
fn branch1_coefficients(
    crossfeed: Crossfeed,
    plan: &Plan,
    steps: usize,
) -> Result<Option<Arc<[f64]>>> {
    let end = if plan.is_nested() { steps } else { plan.levels()[0].steps.end };
    let coefficients = effective(crossfeed.coefficients(steps, 0), end);
    if coefficients.is_some() && plan.levels().len() == 1 {
        return Err(Error::invalid(
            "a branch-1 crossfeed wants branches that leave the keyframes on their way, and there are none",
        ));
    }
    Ok(coefficients)
}

/// Branches of the first level are the keyframes and have no parents.
fn parental_coefficients(
    crossfeed: Crossfeed,
    plan: &Plan,
    steps: usize,
) -> Vec<Option<Arc<[f64]>>> {
    let of = |(level, start): (usize, usize)| match level {
        0 => None,
        _ => effective(crossfeed.coefficients(steps, start), steps),
    };
    plan.levels().iter().map(|level| level.steps.start).enumerate().map(of).collect()
}

/// The last step before which something is drawn by `coefficients`; 0 for none.
fn last_drawn(coefficients: Option<&[f64]>) -> usize {
    coefficients.and_then(|c| c.iter().rposition(|&c| c > 0.0)).unwrap_or(0)
}

/// What the branches of each level run, and what is kept of it.
pub(super) fn spans(
    plan: &Plan,
    steps: usize,
    branch1: Option<&[f64]>,
    parental: &[Option<Arc<[f64]>>],
) -> Vec<Span> {
    let levels = plan.levels();
    let of = |(level, starts): (usize, usize)| {
        let Some(next) = levels.get(level + 1) else {
            return Span { steps: starts..steps, keep: steps - 1 };
        };
        // Frames start at the last level's steps, of any branch of a nested plan.
        let end = if plan.is_nested() { plan.last().steps.start } else { next.steps.start };
        let children =
            if plan.is_nested() { level + 1..levels.len() } else { level + 1..level + 2 };
        let drawn = children.map(|child| last_drawn(parental[child].as_deref())).max().unwrap_or(0);
        let (drawn, keep) = match branch1 {
            Some(branch1) if level == 0 => (drawn.max(last_drawn(Some(branch1))), 0),
            _ => (drawn, next.steps.start - 1),
        };
        // Before step i others are drawn to the state after step i - 1.
        Span { steps: starts..end.max(drawn), keep }
    };
    levels.iter().map(|level| level.steps.start).enumerate().map(of).collect()
}

/// The course of guidance along the steps of a run.
fn guidance_steps(options: &BlendOptions, steps: usize) -> Result<GuidanceSteps> {
    let share = |step: usize| step as f64 / (steps.max(2) - 1) as f64;
    let mut factors: Vec<f64> = match &options.guidance_over_steps {
        Some(curve) => (0..steps).map(|step| curve.at(share(step))).collect(),
        None => Vec::new(),
    };
    if let Some(guided) = options.guided_steps {
        factors.resize(steps, 1.0);
        factors.iter_mut().skip(guided).for_each(|factor| *factor = 0.0);
    }
    let course = GuidanceSteps { factors, rescale: options.guidance_rescale };
    course.check()?;
    Ok(course)
}

/// The latent of a picture of `size` pixels.
pub(super) fn latent_shape([width, height]: [usize; 2], model: &ModelInfo) -> Result<[usize; 3]> {
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
