//! In: a keyframe's image. Out: the latents of its run, at the steps at which the tree branches.
//!
//! A keyframe is a trajectory. That of a prompt is sampled from noise; that of an image is found by running
//! the sampler backwards from the image's latent (DDIM inversion, Song et al. 2021, section 4.3), with the
//! keyframe's prompt and without guidance, so that sampling forwards comes back to the image.

use super::keyframe::Kind;
use super::lineage::Node;
use super::meter::Meter;
use super::scene::encoded;
use super::timing::Place;
use super::tree::Tree;
use crate::diffusion::{Batch, Branch, Latent, Priority, Sampler, Schedule, State, Step, Trail};
use crate::error::{Error, Result};
use crate::frame::{Fit, Source};
use std::ops::Range;
use std::sync::Arc;

/// The image of a keyframe, and how it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyframeImage {
    /// The image, in any format and colour space, HDR too.
    pub source: Source,
    /// How much of it is kept, above 0 to 1. At 1 the keyframe *is* the image. Below, the first
    /// `strength` of the steps are left out, and the rest repaint the image (its latent, with the seed's
    /// noise) after the prompt: 0.9 changes little, 0.3 keeps hardly more than the layout.
    pub strength: f64,
    /// How far the image's own pixels reach into the transition, in t, 0 to 0.5: what detail the model
    /// cannot hold fades over this range. 0: they are shown at the keyframe itself only.
    pub blend: f64,
    /// How an image of another shape than the session's first is brought into its bounds.
    pub fit: Fit,
    /// The highest value of a channel, display-encoded, which the highlight curve brings to 1; 0 to 1000,
    /// up to 1 being no curve. `None`: that of the image itself. See [`Highlights`](crate::Highlights).
    pub peak: Option<f64>,
}

impl KeyframeImage {
    /// The image itself, its detail fading over 0.08 of the way to the next keyframe.
    pub fn new(source: Source) -> Self {
        KeyframeImage { source, strength: 1.0, blend: 0.08, fit: Fit::Crop, peak: None }
    }

    /// Fails for numbers out of their ranges.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            let strength = self.strength;
            return Err(Error::invalid(format!("image strength {strength}: wanted above 0 to 1")));
        }
        if !(0.0..=0.5).contains(&self.blend) {
            return Err(Error::invalid(format!("image blend {}: wanted 0 to 0.5", self.blend)));
        }
        Ok(())
    }
}

/// How many of `count` steps an image of a strength leaves out.
fn skipped(strength: f64, count: usize) -> usize {
    match strength {
        1.0 => 0,
        _ => ((strength * count as f64).round_ties_even() as usize).min(count - 1),
    }
}

impl From<Source> for KeyframeImage {
    fn from(source: Source) -> Self {
        KeyframeImage::new(source)
    }
}

/// The steps of `schedule` backwards, from picture to noise.
///
/// The network is told the timestep of the forward step that is undone, as `DDIMInverseScheduler` of
/// diffusers has it; its prediction is read at the latent that is there, so the weights are those of a
/// step from the one signal share to the other.
pub fn inverse(schedule: &Schedule) -> Schedule {
    let back = |s: &Step| Step { alpha: s.alpha_next, alpha_next: s.alpha, ..*s };
    Schedule {
        steps: schedule.steps.iter().rev().map(back).collect(),
        prediction_type: schedule.prediction_type,
        sampler: Sampler::Ddim,
    }
}

/// The clean latent that a step went by, from the latents before and after it: where the line of signal and
/// noise through both has no noise. With x = sqrt(a) z + sqrt(1 - a) e before and after, solved for z.
fn clean_between(before: &Latent, after: &Latent, step: &Step) -> Result<Latent> {
    let (signal, rest) = (step.alpha.sqrt(), (1.0 - step.alpha).sqrt());
    let (next_signal, next_rest) = (step.alpha_next.sqrt(), (1.0 - step.alpha_next).sqrt());
    let scale = 1.0 / (rest * next_signal - next_rest * signal);
    let values = before.data().iter().zip(after.data()).map(|(&before, &after)| {
        ((rest * f64::from(after) - next_rest * f64::from(before)) * scale) as f32
    });
    Latent::new(before.shape(), values.collect())
}

/// A picture's latent with noise, at signal share `alpha`: sqrt(a) z + sqrt(1 - a) n.
pub(super) fn noised(clean: &Latent, noise: &Latent, alpha: f64) -> Result<Latent> {
    let (signal, rest) = (alpha.sqrt(), (1.0 - alpha).sqrt());
    let values = clean.data().iter().zip(noise.data());
    let values = values.map(|(&z, &n)| (signal * f64::from(z) + rest * f64::from(n)) as f32);
    Latent::new(clean.shape(), values.collect())
}

/// 0 up to 0, 1 from 1 on, smooth between.
pub(super) fn smoothstep(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// How much of a segment guidance takes to come back from an image, which is inverted without.
const UNGUIDED: f64 = 0.25;

impl Tree {
    fn image_of(&self, keyframe: usize) -> Option<&KeyframeImage> {
        match self.keyframes().get(keyframe)?.kind() {
            Kind::Image(image) => Some(image),
            Kind::Prompt | Kind::Origin(_) => None,
        }
    }

    /// The keyframe from whose image a branch's end comes, instead of being sampled. The last block of an
    /// image itself is sampled like any other, so that frames near it are near its own.
    pub(super) fn given(&self, node: Node, place: Place) -> Option<usize> {
        let keyframe = self.lineage().keyframe_at(place)?;
        let image = self.image_of(keyframe)?;
        (node.level < self.lineage().leaf_level() || image.strength < 1.0).then_some(keyframe)
    }

    /// The guidance scale at a place: 1 at an image, for its run is found without guidance.
    pub(super) fn guidance(&self, place: Place) -> f64 {
        let share = |keyframe: usize, away: f64| match self.image_of(keyframe) {
            Some(image) if image.strength == 1.0 => smoothstep(away / UNGUIDED),
            _ => 1.0,
        };
        let full = self.guidance_at(place);
        let [from, to] = self.lineage().ends(place);
        let share = share(from, place.fraction) * share(to, 1.0 - place.fraction);
        if share == 1.0 { full } else { 1.0 + (full - 1.0) * share }
    }

    /// Whether a place is that of a keyframe that is an image.
    pub(super) fn is_image(&self, place: Place) -> bool {
        let image = self.lineage().keyframe_at(place).and_then(|keyframe| self.image_of(keyframe));
        image.is_some_and(|image| image.strength == 1.0)
    }

    /// The steps that an image keyframe's run takes; backwards, and all, for the image itself.
    pub(super) fn image_steps(&self, keyframe: usize) -> Range<usize> {
        let count = self.recipe().schedule.steps.len();
        let strength = self.image_of(keyframe).map_or(1.0, |image| image.strength);
        skipped(strength, count)..count
    }

    /// The trails of an image keyframe's branches.
    pub(super) fn image_trails(
        &self,
        keyframe: usize,
        nodes: &[Node],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<(Node, Arc<Trail>)>> {
        let lineage = self.lineage();
        let trails = |run: &[State], nodes: &[Node]| -> Result<Vec<(Node, Arc<Trail>)>> {
            let of = |&node: &Node| Ok((node, Arc::new(self.part_of(run, node.level)?)));
            nodes.iter().map(of).collect()
        };
        // Whoever claims the branch that frames start from makes the whole run.
        let level = if self.recipe().plan.is_nested() { 1 } else { lineage.leaf_level() - 1 };
        let anchor = lineage.node_of_keyframe(level, keyframe);
        let mut made = None;
        let call = meter.call();
        self.cache().gather(&[anchor], priority, &mut || call.again(), &mut |_| {
            let run = self.trajectory(keyframe, priority, meter)?;
            let trails = trails(&run, nodes)?;
            self.cache().insert(trails.iter().cloned());
            made = Some(trails);
            Ok(vec![self.part_of(&run, level)?])
        })?;
        if let Some(made) = made {
            return Ok(made);
        }
        let known = |&node: &Node| Some((node, self.cache().get(node)?));
        if let Some(known) = nodes.iter().map(known).collect() {
            return Ok(known);
        }
        // Somebody wanted other branches of it, or the cache had no room.
        let made = trails(&self.trajectory(keyframe, priority, meter)?, nodes)?;
        self.cache().insert(made.iter().cloned());
        Ok(made)
    }

    /// What a level keeps of a run, of which there is the start and the state after each step.
    fn part_of(&self, run: &[State], level: usize) -> Result<Trail> {
        let Some(span) = level.checked_sub(1).and_then(|index| self.recipe().spans.get(index))
        else {
            return Trail::new(0, run[..1].to_vec());
        };
        Trail::new(span.keep, run[span.keep + 1..=span.steps.end].to_vec())
    }

    /// An image keyframe's run: its start, and the state after each step.
    fn trajectory(
        &self,
        keyframe: usize,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<State>> {
        let (Some(image), Some(scene)) = (self.image_of(keyframe), self.scene()) else {
            return Err(Error::internal("a keyframe without an image"));
        };
        let picture = scene.working(keyframe, self.working_size())?;
        let clean = encoded(self.model(), priority, picture, meter.call())?;
        let place = self.keyframe_place(keyframe);
        let contexts = self.contexts(&[place], priority, meter.call())?;
        let (positive, negative) = self.mixed(&contexts, place)?;
        let extra = self.extra(priority, meter.call())?;
        let schedule = &self.recipe().schedule;
        let count = schedule.steps.len();
        let itself = image.strength == 1.0;
        let branch = |State { latent, history }: State| Branch {
            latent,
            history,
            feed: None,
            positive,
            negative,
            guidance: if itself { 1.0 } else { self.guidance_at(place) },
            extra,
        };
        let states = |trail: &Trail, steps: Range<usize>| -> Result<Vec<State>> {
            let after = |step| trail.after(step).cloned();
            let states: Option<Vec<State>> = steps.map(after).collect();
            states.ok_or_else(|| Error::internal("a step of an image's run was lost"))
        };
        let lost = || Error::internal("no latent came back");
        if itself {
            let batch = Batch {
                branches: vec![branch(State::from(clean.clone()))],
                schedule: Arc::new(inverse(schedule)),
                steps: 0..count,
                keep: 0,
                guidance: Arc::default(),
            };
            let trail = self.denoise(batch, &[], priority, meter)?.pop().ok_or_else(lost)?;
            let mut run = vec![State::from(clean)];
            run.extend(states(&trail, 0..count)?);
            run.reverse();
            if schedule.sampler.multistep() {
                for (index, step) in schedule.steps.iter().enumerate() {
                    let history = clean_between(&run[index].latent, &run[index + 1].latent, step)?;
                    run[index + 1].history = Some(history);
                }
            }
            return Ok(run);
        }
        let noise = self.noise_of(keyframe)?;
        let steps = self.image_steps(keyframe);
        // Steps that were left out went by the image itself, which is what a multistep sampler would
        // remember of them.
        let multistep = schedule.sampler.multistep();
        let before = schedule.steps[..=steps.start].iter().enumerate();
        let noised = before.map(|(index, step)| {
            let history = (multistep && index > 0).then(|| clean.clone());
            Ok(State { latent: noised(&clean, &noise, step.alpha)?, history })
        });
        let mut run = noised.collect::<Result<Vec<State>>>()?;
        let from = run[steps.start].clone();
        let batch = Batch {
            branches: vec![branch(from)],
            schedule: Arc::clone(schedule),
            steps: steps.clone(),
            keep: steps.start,
            guidance: Arc::clone(&self.recipe().guidance_steps),
        };
        let trail = self.denoise(batch, &[place], priority, meter)?.pop().ok_or_else(lost)?;
        run.extend(states(&trail, steps)?);
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PredictionType;

    #[test]
    fn an_inverse_schedule_goes_back_the_same_way() {
        let step = |timestep, alpha, alpha_next| Step { timestep, alpha, alpha_next };
        let steps = vec![step(501, 0.2, 0.6), step(1, 0.6, 0.99)];
        let (prediction_type, sampler) = (PredictionType::Epsilon, Sampler::Ddim);
        let schedule = Schedule { steps, prediction_type, sampler };
        let back = inverse(&schedule);
        assert_eq!(back.steps, [step(1, 0.99, 0.6), step(501, 0.6, 0.2)]);
        assert_eq!(inverse(&back), schedule);
    }
}
