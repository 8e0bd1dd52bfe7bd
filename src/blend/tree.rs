//! In: a recipe and keyframes. Out: the latent at any place of a transition: the plan's numbers joined
//! with latents.
//!
//! Level 0 is the keyframes' noise. Level k holds the branches that run during the k-th block of steps,
//! each started between two branches of the level above it. Branches of a level are counted through the
//! whole transition, so that the last one of a segment *is* the first of the next. The last level is
//! never laid out: a frame runs it for its very own fraction.

use super::cache::Cache;
use super::mix::{mix_contexts, slerp};
use super::options::{Keyframe, Recipe};
use super::plan::parents;
use super::timing::Place;
use crate::diffusion::{Batch, Branch, Context, Latent, Model, Priority, noise};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::progress::{Call, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Branches that are denoised together; a cancelled `prepare` keeps the batches it has finished.
const BATCH: usize = 16;

/// What a decode costs, counted in evaluations of the UNet: for progress only.
const DECODE_COST: usize = 2;

/// One branch: its level, and its place within. In the last level that is the fraction itself, in
/// units of 2^-24 through the whole transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) level: usize,
    pub(crate) index: u64,
}

/// The conditioning of one keyframe.
#[derive(Clone)]
struct KeyContext {
    positive: Arc<Context>,
    negative: Arc<Context>,
}

/// What keyframes need before the first step: conditioning, and an inpainting model's empty mask.
struct Conditioning {
    keys: Vec<KeyContext>,
    extra: Option<Arc<Latent>>,
}

/// The tree of one session.
pub(crate) struct Tree {
    model: Model,
    keyframes: Vec<Keyframe>,
    recipe: Recipe,
    conditioning: Mutex<Option<Arc<Conditioning>>>,
    cache: Cache,
}

/// Counts evaluations over a whole call.
pub(crate) struct Meter<'a, 'b> {
    call: &'a Call<'b>,
    done: usize,
    total: usize,
}

impl Meter<'_, '_> {
    fn denoise(&self, done: usize, total: usize) -> Result<()> {
        self.report(Stage::Denoise, done, total, self.done + done)
    }

    pub(crate) fn decode(&self, done: usize, total: usize) -> Result<()> {
        self.report(Stage::Decode, done, total, self.done + done * DECODE_COST)
    }

    fn report(&self, stage: Stage, done: usize, total: usize, units: usize) -> Result<()> {
        self.call.report(stage, done, total, units as f64 / self.total.max(1) as f64)
    }
}

impl Tree {
    pub(crate) fn new(model: Model, keyframes: Vec<Keyframe>, recipe: Recipe) -> Self {
        let cache = Cache::new(recipe.cache_bytes, recipe.plan.levels().len());
        Tree { model, keyframes, recipe, conditioning: Mutex::new(None), cache }
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub(crate) fn keyframes(&self) -> &[Keyframe] {
        &self.keyframes
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The last level, whose branches are frames.
    fn leaf_level(&self) -> usize {
        self.recipe.plan.levels().len()
    }

    /// The fractions of a level's branches within one segment.
    fn fractions(&self, level: usize) -> &[f64] {
        const ENDS: [f64; 2] = [0.0, 1.0];
        match level.checked_sub(1) {
            None => &ENDS,
            Some(index) => &self.recipe.plan.levels()[index].fractions,
        }
    }

    /// All branches of a level.
    fn nodes(&self, level: usize) -> impl Iterator<Item = Node> + use<> {
        let segments = self.keyframes.len() - 1;
        let count = segments * (self.fractions(level).len() - 1) + 1;
        (0..count as u64).map(move |index| Node { level, index })
    }

    /// Where a branch lies.
    fn place_of(&self, node: Node) -> Place {
        let fractions = self.fractions(node.level);
        let per_segment = fractions.len() as u64 - 1;
        let segments = self.keyframes.len() as u64 - 1;
        let segment = (node.index / per_segment).min(segments.saturating_sub(1));
        let fraction = fractions[(node.index - segment * per_segment) as usize];
        Place { segment: segment as usize, fraction }
    }

    /// The frame's branch at `place`.
    pub(crate) fn leaf(&self, place: Place) -> Node {
        let t = place.segment as f64 + place.fraction;
        Node { level: self.leaf_level(), index: (t * 16_777_216.0).round_ties_even() as u64 }
    }

    /// The branches of level `level - 1` between which a branch of `level` at `place` starts, and the
    /// share of the second.
    fn start_of(&self, level: usize, place: Place) -> ([Node; 2], f64) {
        let fractions = self.fractions(level - 1);
        let parents = parents(fractions, place.fraction);
        let base = place.segment * (fractions.len() - 1);
        let node = |index: usize| Node { level: level - 1, index: (base + index) as u64 };
        ([node(parents.left), node(parents.right)], parents.mix)
    }

    /// Evaluations that the branches at `wanted` need, those they start from included, and that are not
    /// in the cache.
    pub(crate) fn evaluations(&self, wanted: &[(Node, Place)]) -> usize {
        let mut total = 0;
        let mut nodes: BTreeMap<Node, Place> = BTreeMap::new();
        for node in self.cache.missing(wanted.iter().map(|(node, _)| *node)) {
            nodes.extend(wanted.iter().filter(|(n, _)| *n == node).copied());
        }
        while let Some((&Node { level, .. }, _)) = nodes.first_key_value() {
            if level == 0 {
                break;
            }
            let steps = self.recipe.plan.levels()[level - 1].steps.len();
            total += self.evaluations_of(nodes.len(), steps);
            let above = nodes.values().flat_map(|&place| self.start_of(level, place).0);
            let above = self.cache.missing(above);
            nodes = above.into_iter().map(|node| (node, self.place_of(node))).collect();
        }
        total
    }

    fn evaluations_of(&self, branches: usize, steps: usize) -> usize {
        let batches = (0..branches).step_by(BATCH);
        let batches = batches.map(|start| (branches - start).min(BATCH));
        batches.map(|batch| self.model.engine().evaluations(batch, steps)).sum()
    }

    /// A meter for a call that wants the latents of `wanted`, and `decodes` of them as frames.
    pub(crate) fn meter<'a, 'b>(
        &self,
        call: &'a Call<'b>,
        wanted: &[(Node, Place)],
        decodes: usize,
    ) -> Meter<'a, 'b> {
        let total = self.evaluations(wanted) + decodes * DECODE_COST;
        Meter { call, done: 0, total }
    }

    /// Fills the cache with the branches that frames start from.
    pub(crate) fn prepare(&self, call: &Call<'_>) -> Result<()> {
        let levels = 1..self.leaf_level();
        let Some(last) = levels.clone().next_back() else {
            return call.poll();
        };
        if self.recipe.shape.iter().product::<usize>() * size_of::<f32>() > self.recipe.cache_bytes
        {
            // Not one latent could be kept.
            return call.poll();
        }
        let placed = |node: Node| (node, self.place_of(node));
        let wanted: Vec<_> = self.nodes(last).map(placed).collect();
        let mut meter = self.meter(call, &wanted, 0);
        for level in levels {
            // A level that is missing nothing below it is not needed any more.
            let below = level < last && self.cache.missing(self.nodes(level + 1)).is_empty();
            if !below {
                let nodes: Vec<Node> = self.nodes(level).collect();
                for batch in nodes.chunks(BATCH) {
                    self.ends(batch, Priority::Patient, &mut meter)?;
                }
            }
        }
        Ok(())
    }

    /// The latents at the end of branches of one level.
    fn ends(
        &self,
        nodes: &[Node],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<HashMap<Node, Arc<Latent>>> {
        if nodes.is_empty() || nodes[0].level == 0 {
            return nodes
                .iter()
                .map(|&node| Ok((node, Arc::new(self.start_noise(node)?))))
                .collect();
        }
        let placed: Vec<_> = nodes.iter().map(|&node| (node, self.place_of(node))).collect();
        let latents = self.finish(&placed, priority, meter)?;
        // Once all of a level is there, nothing starts from the levels above it any more.
        let level = placed[0].0.level;
        if self.cache.missing(self.nodes(level)).is_empty() {
            self.cache.retain(|node| node.level >= level);
        }
        Ok(latents)
    }

    /// The noise of a keyframe.
    fn start_noise(&self, node: Node) -> Result<Latent> {
        let keyframe = self
            .keyframes
            .get(node.index as usize)
            .ok_or_else(|| Error::internal("a keyframe beyond the last"))?;
        match &keyframe.start {
            Some(latent) => Ok(Latent::clone(latent)),
            None => noise(self.recipe.noise, keyframe.seed, self.recipe.shape),
        }
    }

    /// The latents at the end of branches of one level, each at its place: from the cache, or started
    /// between their parents and denoised.
    pub(crate) fn finish(
        &self,
        wanted: &[(Node, Place)],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<HashMap<Node, Arc<Latent>>> {
        let places: HashMap<Node, Place> = wanted.iter().copied().collect();
        let nodes: Vec<Node> = wanted.iter().map(|(node, _)| *node).collect();
        let call = meter.call;
        self.cache.gather(&nodes, priority, &mut || call.poll(), &mut |missing| {
            let placed: Vec<_> = missing.iter().map(|node| (*node, places[node])).collect();
            let mut latents = Vec::with_capacity(missing.len());
            for batch in placed.chunks(BATCH) {
                latents.extend(self.run(batch, priority, meter)?);
            }
            Ok(latents)
        })
    }

    /// Runs branches of one level from their parents to the level's last step.
    fn run(
        &self,
        placed: &[(Node, Place)],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Latent>> {
        let Some(&(Node { level, .. }, _)) = placed.first() else {
            return Ok(Vec::new());
        };
        let conditioning = self.conditioning(priority, meter.call)?;
        let starts = placed.iter().map(|&(_, place)| self.start_of(level, place));
        let starts: Vec<([Node; 2], f64)> = starts.collect();
        let mut wanted: Vec<Node> = starts.iter().flat_map(|(pair, _)| *pair).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let ends = self.ends(&wanted, priority, meter)?;
        let mut branches = Vec::with_capacity(placed.len());
        for ((_, place), ([left, right], mix)) in placed.iter().zip(starts) {
            let (positive, negative) = self.mixed(&conditioning, *place)?;
            branches.push(Branch {
                latent: slerp(&ends[&left], &ends[&right], mix)?,
                positive,
                negative,
                guidance: self.recipe.guidance_at(place.fraction),
                extra: conditioning.extra.clone(),
            });
        }
        drop(ends);
        let batch = Batch {
            branches,
            schedule: Arc::clone(&self.recipe.schedule),
            steps: self.recipe.plan.levels()[level - 1].steps.clone(),
        };
        let mut evaluations = 0;
        let latents = self.model.denoise(priority, batch, |done, total| {
            evaluations = total;
            meter.denoise(done, total)
        })?;
        meter.done += evaluations;
        Ok(latents)
    }

    /// The conditioning of a branch. Keyframes' own is shared, so that it is projected once per batch.
    fn mixed(
        &self,
        conditioning: &Conditioning,
        place: Place,
    ) -> Result<(Arc<Context>, Arc<Context>)> {
        let keys = &conditioning.keys;
        let from = &keys[place.segment];
        let to = keys.get(place.segment + 1).unwrap_or(from);
        let mix = |p: &Arc<Context>, q: &Arc<Context>| {
            if place.fraction == 0.0 || Arc::ptr_eq(p, q) {
                Ok(Arc::clone(p))
            } else if place.fraction == 1.0 {
                Ok(Arc::clone(q))
            } else {
                mix_contexts(self.recipe.embedding_mix, p, q, place.fraction).map(Arc::new)
            }
        };
        Ok((mix(&from.positive, &to.positive)?, mix(&from.negative, &to.negative)?))
    }

    /// The keyframes' conditioning, computed at the first need.
    fn conditioning(&self, priority: Priority, call: &Call<'_>) -> Result<Arc<Conditioning>> {
        if let Some(known) = &*self.conditioning.lock() {
            return Ok(Arc::clone(known));
        }
        let mut prompts: Vec<&str> = Vec::new();
        for keyframe in &self.keyframes {
            for prompt in [keyframe.prompt.as_str(), keyframe.negative_prompt.as_str()] {
                if !prompts.contains(&prompt) {
                    prompts.push(prompt);
                }
            }
        }
        call.report(Stage::Text, 0, prompts.len(), 0.0)?;
        let contexts = self.model.contexts(priority, &prompts, call)?;
        let contexts: HashMap<&str, Arc<Context>> =
            prompts.iter().copied().zip(contexts.into_iter().map(Arc::new)).collect();
        let key = |keyframe: &Keyframe| KeyContext {
            positive: Arc::clone(&contexts[keyframe.prompt.as_str()]),
            negative: Arc::clone(&contexts[keyframe.negative_prompt.as_str()]),
        };
        let keys = self.keyframes.iter().map(key).collect();
        let extra = if self.model.info().inpainting {
            Some(Arc::new(self.empty_mask(priority, call)?))
        } else {
            None
        };
        let conditioning = Arc::new(Conditioning { keys, extra });
        *self.conditioning.lock() = Some(Arc::clone(&conditioning));
        Ok(conditioning)
    }

    /// What an inpainting model is told when everything is to be painted: a mask of ones, and the
    /// latent of a picture that is grey all over.
    fn empty_mask(&self, priority: Priority, call: &Call<'_>) -> Result<Latent> {
        let [channels, height, width] = self.recipe.shape;
        let factor = self.model.info().factor;
        let grey = vec![0.5; height * width * factor * factor * 3];
        let grey = Frame::new(width * factor, height * factor, grey)?;
        let masked = self.model.encode(priority, grey, call)?.mean;
        let mut extra = vec![1.0; height * width];
        extra.extend_from_slice(masked.data());
        Latent::new([1 + channels, height, width], extra)
    }

    /// The frames of finished latents.
    pub(crate) fn decode(&self, latents: Vec<Latent>, meter: &Meter<'_, '_>) -> Result<Vec<Frame>> {
        let total = latents.len();
        self.model.decode(latents, |done| meter.decode(done, total))
    }
}
