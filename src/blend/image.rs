//! In: a keyframe's image. Out: the latents of its run, at the steps at which the tree branches.
//!
//! A keyframe is a trajectory. That of a prompt is sampled from noise; that of an image is found by running
//! the sampler backwards from the image's latent (DDIM inversion, Song et al. 2021, section 4.3), with the
//! keyframe's prompt and without guidance, so that sampling forwards comes back to the image.

use super::options::Keyframe;
use super::scene::encoded;
use super::timing::Place;
use super::tree::{Meter, Node, Tree};
use crate::diffusion::{Batch, Branch, Latent, Priority, Schedule, Step};
use crate::error::{Error, Result};
use crate::frame::{Fit, Source};
use std::collections::HashMap;
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

impl From<Source> for KeyframeImage {
    fn from(source: Source) -> Self {
        KeyframeImage::new(source)
    }
}

impl Keyframe {
    /// The same as an image: the keyframe is then `image`, and the prompt, which may be empty, says what it
    /// shows.
    pub fn image(mut self, image: impl Into<KeyframeImage>) -> Self {
        self.image = Some(image.into());
        self
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
    }
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
    /// The keyframe at a place.
    fn keyframe_at(place: Place) -> Option<usize> {
        match place.fraction {
            0.0 => Some(place.segment),
            1.0 => Some(place.segment + 1),
            _ => None,
        }
    }

    fn image_of(&self, keyframe: usize) -> Option<&KeyframeImage> {
        self.keyframes().get(keyframe)?.image.as_ref()
    }

    /// The keyframe from whose image a branch's end comes, instead of being sampled. The last block of an
    /// image itself is sampled like any other, so that frames near it are near its own.
    pub(super) fn given(&self, node: Node, place: Place) -> Option<usize> {
        let keyframe = Self::keyframe_at(place)?;
        let image = self.image_of(keyframe)?;
        (node.level < self.leaf_level() || image.strength < 1.0).then_some(keyframe)
    }

    /// The guidance scale at a place: 1 at an image, for its run is found without guidance.
    pub(super) fn guidance(&self, place: Place) -> f64 {
        let share = |keyframe: usize, away: f64| match self.image_of(keyframe) {
            Some(image) if image.strength == 1.0 => smoothstep(away / UNGUIDED),
            _ => 1.0,
        };
        let full = self.recipe().guidance_at(place.fraction);
        let share =
            share(place.segment, place.fraction) * share(place.segment + 1, 1.0 - place.fraction);
        if share == 1.0 { full } else { 1.0 + (full - 1.0) * share }
    }

    /// The latent of an image keyframe at the end of a level.
    pub(super) fn from_image(
        &self,
        node: Node,
        keyframe: usize,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Arc<Latent>> {
        let known = |level: usize| {
            let mut found = HashMap::new();
            let node = if level == node.level { node } else { self.node_of(level, keyframe) };
            // A claim that is made on the way is given up at once.
            drop(self.cache().look_up(&[node], priority, &mut found));
            found.remove(&node)
        };
        if let Some(latent) = known(node.level) {
            return Ok(latent);
        }
        // The whole run is made at once, by whoever claims its start.
        let start = self.node_of(0, keyframe);
        let mut made: Option<Vec<Arc<Latent>>> = None;
        let call = meter.call();
        self.cache().gather(&[start], priority, &mut || call.again(), &mut |_| {
            let run = self.trajectory(keyframe, priority, meter)?;
            let first = Latent::clone(&run[0]);
            // Only what is given: the last block of an image itself is sampled, and kept as such.
            let place = self.keyframe_place(keyframe);
            let levels = run.iter().enumerate().skip(1);
            let nodes = levels.map(|(level, l)| (self.node_of(level, keyframe), Arc::clone(l)));
            self.cache().insert(nodes.filter(|(node, _)| self.given(*node, place).is_some()));
            made = Some(run);
            Ok(vec![first])
        })?;
        if made.is_none() {
            if let Some(latent) = known(node.level) {
                return Ok(latent);
            }
            // The cache had no room for it.
            made = Some(self.trajectory(keyframe, priority, meter)?);
        }
        let latent = made.as_ref().and_then(|run| run.get(node.level));
        latent.cloned().ok_or_else(|| Error::internal("a level beyond the last"))
    }

    /// The branch of a keyframe in a level.
    pub(super) fn node_of(&self, level: usize, keyframe: usize) -> Node {
        if level == self.leaf_level() {
            return self.leaf(Place { segment: keyframe, fraction: 0.0 });
        }
        let per_segment = self.fractions(level).len() as u64 - 1;
        Node { level, index: keyframe as u64 * per_segment }
    }

    /// The latents of an image keyframe's run: its start, and the end of each level.
    fn trajectory(
        &self,
        keyframe: usize,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Arc<Latent>>> {
        let (Some(image), Some(scene)) = (self.image_of(keyframe), self.scene()) else {
            return Err(Error::internal("a keyframe without an image"));
        };
        let picture = scene.working(keyframe, self.working_size())?;
        let clean = encoded(self.model(), priority, picture, meter.call())?;
        let place = Place { segment: keyframe, fraction: 0.0 };
        let node = self.node_of(self.leaf_level(), keyframe);
        let contexts = self.contexts(&[(node, place)], priority, meter.call())?;
        let (positive, negative) = self.mixed(&contexts, place)?;
        let extra = self.extra(priority, meter.call())?;
        let guidance = if image.strength == 1.0 { 1.0 } else { self.recipe().guidance_at(0.0) };
        let mut run = |latent: &Latent, schedule: &Arc<Schedule>, steps, masked| {
            let branch = Branch {
                latent: latent.clone(),
                positive: Arc::clone(&positive),
                negative: Arc::clone(&negative),
                guidance,
                extra: extra.clone(),
            };
            let batch = Batch { branches: vec![branch], schedule: Arc::clone(schedule), steps };
            let places: &[Place] = if masked { &[place] } else { &[] };
            let mut latents = self.denoise(batch, places, priority, meter)?;
            latents.pop().ok_or_else(|| Error::internal("no latent came back"))
        };
        let schedule = &self.recipe().schedule;
        let levels = self.recipe().plan.levels();
        let count = schedule.steps.len();
        if image.strength == 1.0 {
            let backwards = Arc::new(inverse(schedule));
            let mut latents = vec![clean];
            for level in levels.iter().rev() {
                let steps = count - level.steps.end..count - level.steps.start;
                let from = &latents[latents.len() - 1];
                let latent = run(from, &backwards, steps, false)?;
                latents.push(latent);
            }
            return Ok(latents.into_iter().rev().map(Arc::new).collect());
        }
        let noise = self.noise_of(keyframe)?;
        let skipped = ((image.strength * count as f64).round_ties_even() as usize).min(count - 1);
        let mut latents = vec![noised(&clean, &noise, schedule.steps[0].alpha)?];
        for level in levels {
            let latent = if level.steps.end <= skipped {
                noised(&clean, &noise, schedule.steps[level.steps.end].alpha)?
            } else if level.steps.start >= skipped {
                run(&latents[latents.len() - 1], schedule, level.steps.clone(), true)?
            } else {
                let from = noised(&clean, &noise, schedule.steps[skipped].alpha)?;
                run(&from, schedule, skipped..level.steps.end, true)?
            };
            latents.push(latent);
        }
        Ok(latents.into_iter().map(Arc::new).collect())
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
        let schedule = Schedule { steps, prediction_type: PredictionType::Epsilon };
        let back = inverse(&schedule);
        assert_eq!(back.steps, [step(1, 0.99, 0.6), step(501, 0.6, 0.2)]);
        assert_eq!(inverse(&back), schedule);
    }
}
