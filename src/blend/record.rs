//! In: a session's numbers. Out: [`Record`], the same as a session's file holds them in its header, and the
//! numbers back, checked.
//!
//! Floats are written as text, so that they come back bit for bit (`exact.rs`).

use super::branching::Branching;
use super::curve::Curve;
use super::exact::Exact;
use super::keyframe_record::KeyframeRecord;
use super::mix::EmbeddingMix;
use super::options::Recipe;
use super::plan::{GuidanceDamping, Level, Plan};
use super::scene_record::{PictureRecord, SceneRecord};
use super::timeline::Timeline;
use crate::backend::Numerics;
use crate::diffusion::{GuidanceSteps, LatentMix, ModelInfo, NoiseKind, Sampler, Schedule, Step};
use crate::error::{Error, Result};
use crate::model::{PredictionType, PromptRules};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The header of a session's file.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// [`SESSION_FORMAT`](super::SESSION_FORMAT), looked at first.
    pub(super) format: u32,
    /// [`ALGORITHM`].
    pub(super) algorithm: u32,
    /// The version of the library that wrote it, for people.
    pub(super) library: String,
    pub(super) model: ModelRecord,
    pub(super) numerics: NumericsRecord,
    recipe: RecipeRecord,
    pub(super) keyframes: Vec<KeyframeRecord>,
    /// What the pictures are that the file holds.
    #[serde(default)]
    pub(super) pictures: Vec<PictureRecord>,
    #[serde(default)]
    pub(super) scene: Option<SceneRecord>,
    pub(super) timeline: Timeline,
}

/// The version of all that decides a frame besides weights, numbers in the file, and numerics: how branches
/// are mixed, how conditioning is, what a sampler's step is. Raised when any of these changes.
pub(super) const ALGORITHM: u32 = 1;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ModelRecord {
    /// Of its weights, in hexadecimal.
    fingerprint: Option<String>,
    inpainting: bool,
    factor: usize,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NumericsRecord {
    device: String,
    kernels: String,
    precision: String,
    /// Of the host's own functions, by which latents are mixed: a hash of what they give.
    host: String,
}

#[derive(Serialize, Deserialize)]
struct RecipeRecord {
    /// (channels, height, width) of a latent.
    shape: [usize; 3],
    plan: PlanRecord,
    plans: Option<Vec<PlanRecord>>,
    looped: bool,
    /// (timestep, signal share before, signal share behind)
    schedule: Vec<(usize, Exact, Exact)>,
    prediction_type: String,
    sampler: String,
    /// Whether the plan is the tree of 2023.
    nested: bool,
    branch1: Option<Vec<Exact>>,
    parental: Vec<Option<Vec<Exact>>>,
    #[serde(with = "super::exact")]
    guidance: f64,
    #[serde(with = "super::exact")]
    damper: f64,
    damping: String,
    guidance_over_t: Option<Curve>,
    guidance_factors: Vec<Exact>,
    #[serde(with = "super::exact")]
    guidance_rescale: f64,
    embedding_mix: String,
    /// Not in formats 1 and 2, which had but the arc.
    #[serde(default = "arc")]
    latent_mix: String,
    prompt_rules: String,
    noise: String,
    cache_bytes: u64,
}

fn arc() -> String {
    LatentMix::Arc.name().to_owned()
}

/// The steps of each level, and its fractions.
type PlanRecord = Vec<([usize; 2], Vec<Exact>)>;

/// A choice and its name in files.
type Names<T> = &'static [(T, &'static str)];

const PREDICTIONS: Names<PredictionType> =
    &[(PredictionType::Epsilon, "epsilon"), (PredictionType::Velocity, "v")];
const SAMPLERS: Names<Sampler> = &[(Sampler::Ddim, "ddim"), (Sampler::DpmSolver2M, "dpm++2m")];
const DAMPINGS: Names<GuidanceDamping> = &[
    (GuidanceDamping::TowardsOne, "towards-one"),
    (GuidanceDamping::Compat2022, "compat-2022"),
    (GuidanceDamping::Compat2023, "compat-2023"),
];
const MIXES: Names<EmbeddingMix> =
    &[(EmbeddingMix::NormPreserving, "norm-preserving"), (EmbeddingMix::Linear, "linear")];
const LATENT_MIXES: Names<LatentMix> = &[(LatentMix::Arc, "arc"), (LatentMix::Bands, "bands")];
const RULES: Names<PromptRules> =
    &[(PromptRules::Transformers, "transformers"), (PromptRules::OpenClip, "open-clip")];
const NOISES: Names<NoiseKind> = &[(NoiseKind::Cuda, "cuda"), (NoiseKind::Cpu, "cpu")];

fn name_of<T: PartialEq>(names: Names<T>, value: T) -> Result<String> {
    let found = names.iter().find(|(known, _)| *known == value);
    let (_, name) = found.ok_or_else(|| Error::internal("a choice without a name in files"))?;
    Ok((*name).to_owned())
}

fn named<T: Copy>(names: Names<T>, name: &str) -> Result<T> {
    let found = names.iter().find(|(_, known)| *known == name);
    found.map(|(value, _)| *value).ok_or_else(|| Error::invalid(format!("'{name}' is not known")))
}

/// The tree of 2023, whose places follow from its numbers.
fn nested(levels: &PlanRecord) -> Result<Plan> {
    let inner = levels.get(1..).unwrap_or_default();
    let branching = Branching {
        injections: inner.iter().map(|([start, _], _)| *start).collect(),
        branches: inner.iter().map(|(_, fractions)| fractions.len()).collect(),
    };
    let steps = levels.first().map_or(0, |([_, end], _)| *end);
    let plan = Plan::nested(steps, &branching)?;
    let same = |(level, (range, fractions)): (&Level, &([usize; 2], Vec<Exact>))| {
        let there = fractions.iter().map(|f| f.0);
        [level.steps.start, level.steps.end] == *range && level.fractions.iter().copied().eq(there)
    };
    match plan.levels().iter().zip(levels).all(same) {
        true => Ok(plan),
        false => Err(Error::invalid("a tree of 2023 with branches at other places")),
    }
}

impl ModelRecord {
    pub(super) fn of(info: &ModelInfo) -> Self {
        ModelRecord {
            fingerprint: info.fingerprint.map(|print| print.to_string()),
            inpainting: info.inpainting,
            factor: info.factor,
        }
    }

    /// # Errors
    /// `InvalidArgument` where a session was made with this model, and now there is `other`.
    pub(super) fn check(&self, other: &ModelRecord) -> Result<()> {
        if self == other {
            return Ok(());
        }
        let name = |record: &ModelRecord| match &record.fingerprint {
            Some(print) => format!("a model of fingerprint {print}"),
            None => "a model without fingerprint".to_owned(),
        };
        Err(Error::invalid(format!("made with {}, not with {}", name(self), name(other))))
    }
}

impl NumericsRecord {
    pub(super) fn of(numerics: Numerics) -> Self {
        let Numerics { device, kernels, precision } = numerics;
        NumericsRecord { device, kernels, precision, host: host() }
    }

    /// What differs from `other`, if anything does.
    pub(super) fn difference(&self, other: &NumericsRecord) -> Option<String> {
        let parts = [
            ("device", &self.device, &other.device),
            ("kernels", &self.kernels, &other.kernels),
            ("precision", &self.precision, &other.precision),
            ("host functions", &self.host, &other.host),
        ];
        let differ = parts.iter().filter(|(_, a, b)| a != b);
        let differ: Vec<String> =
            differ.map(|(what, there, here)| format!("{what} '{there}', here '{here}'")).collect();
        (!differ.is_empty()).then(|| differ.join(", "))
    }
}

/// A hash of what this machine's elementary functions give at some places: libraries differ in last bits.
fn host() -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for step in 1..=64 {
        // Not folded at compile time, where other functions would be asked.
        let x = std::hint::black_box(f64::from(step) / 65.0);
        for value in [x.sin(), x.cos(), x.acos(), x.ln(), x.exp(), x.powf(0.3)] {
            hash.update(&value.to_bits().to_le_bytes());
        }
        let x = std::hint::black_box(x as f32);
        for value in [x.sin(), x.cos(), x.ln(), x.exp()] {
            hash.update(&value.to_bits().to_le_bytes());
        }
    }
    format!("{:016x}", hash.digest())
}

impl Record {
    pub(super) fn new(
        model: ModelRecord,
        numerics: NumericsRecord,
        recipe: &Recipe,
        shown: (Vec<KeyframeRecord>, Vec<PictureRecord>, Option<SceneRecord>),
        timeline: Timeline,
    ) -> Result<Self> {
        let (keyframes, pictures, scene) = shown;
        // Whole, so that what is added to a recipe cannot be forgotten here.
        let Recipe {
            shape,
            plan,
            // Follows from the plan and the crossfeeds.
            spans: _,
            plans,
            looped,
            schedule,
            branch1,
            parental,
            guidance,
            damper,
            damping,
            guidance_over_t,
            guidance_steps,
            embedding_mix,
            latent_mix,
            prompt_rules,
            noise,
            cache_bytes,
        } = recipe;
        let Schedule { steps, prediction_type, sampler } = &**schedule;
        let GuidanceSteps { factors, rescale } = &**guidance_steps;
        let levels = |plan: &Plan| -> PlanRecord {
            let levels = plan.levels().iter();
            let exact = |l: &Level| l.fractions.iter().copied().map(Exact).collect();
            levels.map(|l| ([l.steps.start, l.steps.end], exact(l))).collect()
        };
        let exact = |drawn: &Option<Arc<[f64]>>| -> Option<Vec<Exact>> {
            drawn.as_ref().map(|drawn| drawn.iter().copied().map(Exact).collect())
        };
        let recipe = RecipeRecord {
            shape: *shape,
            plan: levels(plan),
            plans: plans.as_ref().map(|plans| plans.iter().map(levels).collect()),
            looped: *looped,
            schedule: steps
                .iter()
                .map(|s| (s.timestep, Exact(s.alpha), Exact(s.alpha_next)))
                .collect(),
            prediction_type: name_of(PREDICTIONS, *prediction_type)?,
            sampler: name_of(SAMPLERS, *sampler)?,
            nested: plan.is_nested(),
            branch1: exact(branch1),
            parental: parental.iter().map(exact).collect(),
            guidance: *guidance,
            damper: *damper,
            damping: name_of(DAMPINGS, *damping)?,
            guidance_over_t: guidance_over_t.clone(),
            guidance_factors: factors.iter().copied().map(Exact).collect(),
            guidance_rescale: *rescale,
            embedding_mix: name_of(MIXES, *embedding_mix)?,
            latent_mix: name_of(LATENT_MIXES, *latent_mix)?,
            prompt_rules: name_of(RULES, *prompt_rules)?,
            noise: name_of(NOISES, *noise)?,
            cache_bytes: *cache_bytes as u64,
        };
        Ok(Record {
            format: super::SESSION_FORMAT,
            algorithm: ALGORITHM,
            library: env!("CARGO_PKG_VERSION").to_owned(),
            model,
            numerics,
            recipe,
            keyframes,
            pictures,
            scene,
            timeline,
        })
    }

    /// The recipe, whatever the file says: every number is looked at.
    pub(super) fn recipe(&self, info: &ModelInfo) -> Result<Recipe> {
        let record = &self.recipe;
        let plan = |levels: &PlanRecord| {
            let levels = levels.iter().map(|([start, end], fractions)| Level {
                steps: *start..*end,
                fractions: fractions.iter().map(|f| f.0).collect(),
            });
            match record.nested {
                true => Plan::from_nested_levels(levels.collect()),
                false => Plan::from_levels(levels.collect()),
            }
        };
        let shared = match record.nested {
            true => nested(&record.plan)?,
            false => plan(&record.plan)?,
        };
        let plans = match &record.plans {
            Some(plans) => Some(Arc::new(plans.iter().map(plan).collect::<Result<Vec<_>>>()?)),
            None => None,
        };
        let shape = |plan: &Plan| -> Vec<_> {
            plan.levels().iter().map(|l| (l.steps.clone(), l.fractions.len())).collect()
        };
        let segments = (self.keyframes.len() + usize::from(record.looped)).saturating_sub(1);
        if let Some(plans) = &plans
            && (plans.len() != segments || plans.iter().any(|plan| shape(plan) != shape(&shared)))
        {
            return Err(Error::invalid("plans of segments that don't fit each other"));
        }
        let train = info.diffusion.train_steps;
        for &(timestep, Exact(before), Exact(behind)) in &record.schedule {
            let share = |alpha: f64| alpha > 0.0 && alpha <= 1.0;
            if timestep >= train || !share(before) || !share(behind) {
                return Err(Error::invalid(format!(
                    "a step at timestep {timestep} from {before} to {behind}"
                )));
            }
        }
        let steps = record.schedule.len();
        if shared.last().steps.end != steps {
            let end = shared.last().steps.end;
            return Err(Error::invalid(format!("a plan of {end} steps, a schedule of {steps}")));
        }
        let drawn = |drawn: &Option<Vec<Exact>>| -> Result<Option<Arc<[f64]>>> {
            let Some(drawn) = drawn else { return Ok(None) };
            if drawn.len() != steps || !drawn.iter().all(|c| (0.0..=1.0).contains(&c.0)) {
                return Err(Error::invalid(format!(
                    "a crossfeed at {} of {steps} steps",
                    drawn.len()
                )));
            }
            Ok(drawn.iter().map(|c| c.0).collect::<Vec<_>>()).map(|drawn| Some(drawn.into()))
        };
        let branch1 = drawn(&record.branch1)?;
        let parental = record.parental.iter().map(drawn).collect::<Result<Vec<_>>>()?;
        if parental.len() != shared.levels().len()
            || parental[0].is_some()
            || branch1.is_some() && shared.levels().len() == 1
        {
            return Err(Error::invalid("crossfeeds that don't fit the plan"));
        }
        let [channels, height, width] = record.shape;
        let size = [width, height].map(|length| length.saturating_mul(info.factor));
        if channels != info.latent_channels {
            return Err(Error::invalid(format!("latents of {channels} channels")));
        }
        let (guidance, damper) = (record.guidance, record.damper);
        if !((0.0..=100.0).contains(&guidance) && damper > 0.0 && damper <= 1.0) {
            return Err(Error::invalid(format!("guidance {guidance}, damper {damper}")));
        }
        if let Some(curve) = &record.guidance_over_t
            && !curve.range().iter().all(|y| (0.0..=100.0).contains(y))
        {
            return Err(Error::invalid("a guidance scale outside 0 to 100"));
        }
        let course = GuidanceSteps {
            factors: record.guidance_factors.iter().map(|f| f.0).collect(),
            rescale: record.guidance_rescale,
        };
        course.check()?;
        let step =
            |&(timestep, Exact(alpha), Exact(alpha_next)): &_| Step { timestep, alpha, alpha_next };
        Ok(Recipe {
            shape: super::options::latent_shape(size, info)?,
            spans: super::options::spans(&shared, steps, branch1.as_deref(), &parental),
            plan: shared,
            plans,
            looped: record.looped,
            branch1,
            parental,
            schedule: Arc::new(Schedule {
                steps: record.schedule.iter().map(step).collect(),
                prediction_type: named(PREDICTIONS, &record.prediction_type)?,
                sampler: named(SAMPLERS, &record.sampler)?,
            }),
            guidance,
            damper,
            damping: named(DAMPINGS, &record.damping)?,
            guidance_over_t: record.guidance_over_t.clone(),
            guidance_steps: Arc::new(course),
            embedding_mix: named(MIXES, &record.embedding_mix)?,
            latent_mix: named(LATENT_MIXES, &record.latent_mix)?,
            prompt_rules: named(RULES, &record.prompt_rules)?,
            noise: named(NOISES, &record.noise)?,
            cache_bytes: usize::try_from(record.cache_bytes).unwrap_or(usize::MAX),
        })
    }
}
