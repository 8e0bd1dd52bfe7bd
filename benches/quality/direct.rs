//! In: a model, and what to denoise. Out: latents, without any session: by the engine alone. What sessions
//! are judged by, and full resampling.

use latentblend::{
    Batch, Branch, Context, EmbeddingMix, Frame, GuidanceDamping, GuidanceSteps, Keyframe, Latent,
    LatentMix, Model, NoiseKind, Plan, PromptRules, Result, Schedule, SchedulePolicy, mix_contexts,
    noise, parents,
};
use std::ops::Range;
use std::sync::Arc;

/// The guidance scale at keyframes, and what of it is left in the middle: the library's defaults.
pub(crate) const GUIDANCE: f64 = 4.0;
const DAMPER: f64 = 0.5;

/// Keyframes with all that their runs need.
pub(crate) struct Ends {
    pub(crate) noises: [Latent; 2],
    pub(crate) positives: [Context; 2],
    negative: Arc<Context>,
}

/// The conditioning of a prompt.
fn context(model: &Model, prompt: &str, rules: PromptRules) -> Result<Context> {
    let (ids, _) = model.tokenize_as(prompt, rules)?;
    let mut contexts = model.engine().encode_prompts(&[&ids])?;
    Ok(contexts.remove(0))
}

impl Ends {
    pub(crate) fn new(
        model: &Model,
        keyframes: &[Keyframe; 2],
        rules: PromptRules,
    ) -> Result<Self> {
        let info = model.info();
        let [width, height] = info.native_size.map(|side| side / info.factor);
        let shape = [info.latent_channels, height, width];
        let [a, b] = keyframes;
        Ok(Ends {
            noises: [
                noise(NoiseKind::Cuda, a.seed, shape)?,
                noise(NoiseKind::Cuda, b.seed, shape)?,
            ],
            positives: [context(model, &a.prompt, rules)?, context(model, &b.prompt, rules)?],
            negative: Arc::new(context(model, "", rules)?),
        })
    }

    fn branch(&self, latent: Latent, positive: Context, guidance: f64) -> Branch {
        Branch {
            latent,
            history: None,
            feed: None,
            positive: Arc::new(positive),
            negative: Arc::clone(&self.negative),
            guidance,
            extra: None,
        }
    }

    /// The first keyframe's run, at its start.
    pub(crate) fn first_branch(&self) -> Branch {
        self.branch(self.noises[0].clone(), self.positives[0].clone(), GUIDANCE)
    }

    /// The picture of one keyframe alone.
    pub(crate) fn solo(
        &self,
        model: &Model,
        end: usize,
        schedule: &Arc<Schedule>,
    ) -> Result<Frame> {
        let branch = self.branch(self.noises[end].clone(), self.positives[end].clone(), GUIDANCE);
        let latents = run(model, vec![branch], schedule, 0..schedule.steps.len())?;
        Ok(model.engine().decode(&latents)?.remove(0))
    }

    /// The latents at `times`, each sampled from its own start to its end: the noise on the arc between
    /// the keyframes', the conditioning on the straight line.
    pub(crate) fn resampled(
        &self,
        model: &Model,
        steps: usize,
        times: &[f64],
    ) -> Result<Vec<Latent>> {
        let schedule = Arc::new(model.schedule(steps, SchedulePolicy::Model)?);
        let [a, b] = &self.positives;
        let branch = |&t: &f64| {
            let latent = LatentMix::Arc.between(&self.noises[0], &self.noises[1], t)?;
            Ok(self.branch(latent, mix_contexts(EmbeddingMix::Linear, a, b, t)?, GUIDANCE))
        };
        let branches: Result<Vec<Branch>> = times.iter().map(branch).collect();
        run(model, branches?, &schedule, 0..steps)
    }

    /// The latents at `times` of a tree by `plan`, which are a session's. Beside them, for each level behind the first, the mean cosine of the latents that its
    /// branches start between.
    pub(crate) fn tree(
        &self,
        model: &Model,
        plan: &Plan,
        schedule: &Arc<Schedule>,
        times: &[f64],
        mix: LatentMix,
    ) -> Result<(Vec<Latent>, Vec<f64>)> {
        let [a, b] = &self.positives;
        let mut above: (Vec<f64>, Vec<Latent>) = (vec![0.0, 1.0], self.noises.to_vec());
        let mut cosines = Vec::new();
        for (index, level) in plan.levels().iter().enumerate() {
            let last = index + 1 == plan.levels().len();
            let fractions = if last { times } else { level.fractions.as_slice() };
            if index > 0 {
                let pairs = above.1.windows(2).map(|pair| cosine(&pair[0], &pair[1]));
                cosines.push(pairs.sum::<f64>() / (above.1.len() - 1) as f64);
            }
            let branch = |&fraction: &f64| {
                let place = parents(&above.0, fraction);
                let latent = mix.between(&above.1[place.left], &above.1[place.right], place.mix)?;
                let positive = mix_contexts(EmbeddingMix::NormPreserving, a, b, fraction)?;
                let guidance = GuidanceDamping::TowardsOne.at(GUIDANCE, DAMPER, fraction);
                Ok(self.branch(latent, positive, guidance))
            };
            let branches: Result<Vec<Branch>> = fractions.iter().map(branch).collect();
            let latents = run(model, branches?, schedule, level.steps.clone())?;
            above = (fractions.to_vec(), latents);
        }
        Ok((above.1, cosines))
    }
}

/// The cosine of the angle between two latents.
fn cosine(p: &Latent, q: &Latent) -> f64 {
    let dot = |a: &Latent, b: &Latent| -> f64 {
        a.data().iter().zip(b.data()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(p, q) / (dot(p, p) * dot(q, q)).sqrt()
}

/// The branches' latents after `steps` of `schedule`.
pub(crate) fn run(
    model: &Model,
    branches: Vec<Branch>,
    schedule: &Arc<Schedule>,
    steps: Range<usize>,
) -> Result<Vec<Latent>> {
    let keep = steps.end - 1;
    let guidance = Arc::new(GuidanceSteps::default());
    let batch = Batch { branches, schedule: Arc::clone(schedule), steps, keep, guidance };
    let mut running = Arc::clone(model.engine()).denoise(batch)?;
    loop {
        if let Some(trails) = running.advance()? {
            return Ok(trails.iter().map(|trail| trail.last().latent.clone()).collect());
        }
    }
}
