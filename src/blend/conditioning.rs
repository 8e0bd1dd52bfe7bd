//! In: the prompts of keyframes and a place. Out: what a branch is told there: mixed conditioning, the guidance
//! scale and, for a model of nine channels that repaints nothing, the empty mask.

use super::keyframe::{Keyframe, Kind};
use super::mix::mix_contexts;
use super::timing::Place;
use super::tree::Tree;
use crate::diffusion::{Context, Latent, Priority};
use crate::error::Result;
use crate::frame::Frame;
use crate::progress::Call;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The conditioning of prompts.
pub(super) type Contexts = HashMap<String, Arc<Context>>;

/// Prompts whose conditioning is kept (0.3 MB each with SD 2's text encoder).
const PROMPTS: usize = 64;

impl Tree {
    /// The keyframes that a place lies between, or is.
    pub(super) fn ends_of(&self, place: Place) -> [&Keyframe; 2] {
        let [from, to] = self.lineage().ends(place).map(|keyframe| &self.keyframes()[keyframe]);
        match place.fraction {
            0.0 => [from, from],
            1.0 => [to, to],
            _ => [from, to],
        }
    }

    /// The conditioning of a branch. Prompts' own is shared, so that it is projected once per batch.
    pub(super) fn mixed(
        &self,
        contexts: &Contexts,
        place: Place,
    ) -> Result<(Arc<Context>, Arc<Context>)> {
        let [from, to] = self.ends_of(place);
        let mix = |[p, q]: [&Arc<Context>; 2]| match Arc::ptr_eq(p, q) {
            true => Ok(Arc::clone(p)),
            false => mix_contexts(self.recipe().embedding_mix, p, q, place.fraction).map(Arc::new),
        };
        let told = [from, to].map(|keyframe| match keyframe.kind() {
            Kind::Origin(origin) => origin.contexts.each_ref(),
            Kind::Prompt | Kind::Image(_) => {
                [&contexts[&keyframe.prompt], &contexts[&keyframe.negative_prompt]]
            }
        });
        Ok((mix(told.map(|pair| pair[0]))?, mix(told.map(|pair| pair[1]))?))
    }

    /// The guidance scale at a place, before its course over steps. A keyframe that comes from another
    /// session brings the scale that it had there.
    pub(super) fn guidance_at(&self, place: Place) -> f64 {
        let own = self.ends_of(place).map(|keyframe| match keyframe.kind() {
            Kind::Origin(origin) => Some(origin.guidance),
            Kind::Prompt | Kind::Image(_) => None,
        });
        let t = place.segment as f64 + place.fraction;
        let t = self.lineage().around(t);
        self.recipe().guidance_at(t, place.fraction, own)
    }

    /// The conditioning of all prompts that branches need, computed at the first need.
    pub(super) fn contexts(
        &self,
        places: &[Place],
        priority: Priority,
        call: &Call<'_>,
    ) -> Result<Contexts> {
        let ends = places.iter().flat_map(|place| self.ends_of(*place));
        let ends = ends.filter(|keyframe| !matches!(keyframe.kind(), Kind::Origin(_)));
        let prompts = ends.flat_map(|k| [k.prompt.as_str(), k.negative_prompt.as_str()]);
        let prompts: BTreeSet<&str> = prompts.collect();
        let known = self.contexts.lock().clone();
        let missing = prompts.iter().copied().filter(|prompt| !known.contains_key(*prompt));
        let missing: Vec<&str> = missing.collect();
        let mut contexts = known;
        if !missing.is_empty() {
            let made =
                self.model().contexts(priority, &missing, self.recipe().prompt_rules, call)?;
            let made = missing.into_iter().map(String::from).zip(made.into_iter().map(Arc::new));
            contexts.extend(made);
            let mut kept = self.contexts.lock();
            kept.extend(contexts.iter().map(|(prompt, c)| (prompt.clone(), Arc::clone(c))));
            if kept.len() > PROMPTS {
                kept.retain(|prompt, _| prompts.contains(prompt.as_str()));
            }
        }
        Ok(contexts)
    }

    /// A mask of ones, and the latent of a picture that is grey all over.
    pub(super) fn empty_mask(&self, priority: Priority, call: &Call<'_>) -> Result<Arc<Latent>> {
        if let Some(known) = &*self.empty_mask.lock() {
            return Ok(Arc::clone(known));
        }
        let [channels, height, width] = self.recipe().shape;
        let factor = self.model().info().factor;
        let grey = vec![0.5; height * width * factor * factor * 3];
        let grey = Frame::new(width * factor, height * factor, grey)?;
        let masked = self.model().encode(priority, grey, call)?.mean;
        let mut extra = vec![1.0; height * width];
        extra.extend_from_slice(masked.data());
        let extra = Arc::new(Latent::new([1 + channels, height, width], extra)?);
        *self.empty_mask.lock() = Some(Arc::clone(&extra));
        Ok(extra)
    }
}
