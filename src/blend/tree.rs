//! In: a recipe and keyframes. Out: the latent at any place of a transition: the plan's numbers joined
//! with latents.
//!
//! Level 0 is the keyframes' noise. Level k holds the branches that run during the k-th block of steps,
//! each started between two branches of the level above it. Branches of a level are counted through the
//! whole transition, so that the last one of a segment *is* the first of the next. The last level is
//! never laid out: a frame runs it for its very own fraction.

use super::cache::{BATCH, Cache};
use super::inpainting::Repainting;
use super::mix::{mix_contexts, slerp};
use super::options::{Keyframe, Recipe};
use super::plan::parents;
use super::scene::Scene;
use super::timing::Place;
use crate::diffusion::{Batch, Branch, Context, Latent, Model, Priority, noise};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::progress::{Call, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a decode costs, counted in evaluations of the UNet: for progress only.
const DECODE_COST: usize = 2;

/// One branch: its level, and its place within. In the last level that is the fraction itself, in
/// units of 2^-24 through the whole transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) level: usize,
    pub(crate) index: u64,
}

/// The conditioning of prompts.
type Contexts = HashMap<String, Arc<Context>>;

/// Prompts whose conditioning is kept (0.3 MB each with SD 2's text encoder).
const PROMPTS: usize = 64;

/// The tree of one session.
pub(crate) struct Tree {
    model: Model,
    keyframes: Vec<Keyframe>,
    recipe: Recipe,
    /// The caller's own pictures, if there are any.
    scene: Option<Scene>,
    contexts: Mutex<Contexts>,
    /// What an inpainting model is told when everything is to be painted.
    empty_mask: Mutex<Option<Arc<Latent>>>,
    cache: Cache,
}

/// Counts evaluations over a whole call.
pub(crate) struct Meter<'a, 'b> {
    call: &'a Call<'b>,
    done: usize,
    total: usize,
}

impl<'a, 'b> Meter<'a, 'b> {
    pub(super) fn call(&self) -> &'a Call<'b> {
        self.call
    }

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
    pub(crate) fn new(
        model: Model,
        keyframes: Vec<Keyframe>,
        recipe: Recipe,
        scene: Option<Scene>,
    ) -> Self {
        let cache = Cache::new(recipe.cache_bytes, recipe.plan.levels().len());
        Tree {
            model,
            keyframes,
            recipe,
            scene,
            contexts: Mutex::default(),
            empty_mask: Mutex::default(),
            cache,
        }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
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

    pub(crate) fn scene(&self) -> Option<&Scene> {
        self.scene.as_ref()
    }

    /// The scene with what is repainted of it, in an inpainting session.
    pub(super) fn repainting(&self) -> Option<(&Scene, &Repainting)> {
        let scene = self.scene.as_ref()?;
        Some((scene, scene.repainting()?))
    }

    /// Width and height in pixels of what the model makes.
    pub(crate) fn working_size(&self) -> [usize; 2] {
        let [_, height, width] = self.recipe.shape;
        [width, height].map(|length| length * self.model.info().factor)
    }

    /// The last level, whose branches are frames.
    pub(super) fn leaf_level(&self) -> usize {
        self.recipe.plan.levels().len()
    }

    /// The fractions of a level's branches within one segment.
    pub(super) fn fractions(&self, level: usize) -> &[f64] {
        const ENDS: [f64; 2] = [0.0, 1.0];
        match level.checked_sub(1) {
            None => &ENDS,
            Some(index) => &self.recipe.plan.levels()[index].fractions,
        }
    }

    /// The branches of a level in one segment, both its ends included.
    fn nodes(&self, level: usize, segment: usize) -> impl Iterator<Item = Node> + use<> {
        let count = self.fractions(level).len() - 1;
        let last = if self.keyframes.len() > 1 { count } else { 0 };
        let first = segment * count;
        (first..=first + last).map(move |index| Node { level, index: index as u64 })
    }

    /// Whether a level of a segment is all there, or there is no such segment.
    fn complete(&self, level: usize, segment: Option<usize>) -> bool {
        match segment.filter(|&segment| segment <= self.last_segment()) {
            Some(segment) => self.cache.missing(self.nodes(level, segment)).is_empty(),
            None => true,
        }
    }

    fn last_segment(&self) -> usize {
        self.keyframes.len().saturating_sub(2)
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

    /// Where a keyframe lies.
    pub(crate) fn keyframe_place(&self, keyframe: usize) -> Place {
        let segment = keyframe.min(self.last_segment());
        Place { segment, fraction: (keyframe - segment) as f64 }
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
        let places: HashMap<Node, Place> = wanted.iter().copied().collect();
        let missing = self.cache.missing(wanted.iter().map(|(node, _)| *node));
        let mut nodes: BTreeMap<Node, Place> =
            missing.into_iter().map(|node| (node, places[&node])).collect();
        let mut images = BTreeSet::new();
        while let Some((&Node { level, .. }, _)) = nodes.first_key_value() {
            nodes.retain(|&node, &mut place| {
                let image = self.given(node, place);
                images.extend(image);
                image.is_none()
            });
            if level == 0 {
                break;
            }
            let steps = self.recipe.plan.levels()[level - 1].steps.len();
            total += self.evaluations_of(nodes.len(), steps);
            let above = nodes.values().flat_map(|&place| self.start_of(level, place).0);
            let above = self.cache.missing(above);
            nodes = above.into_iter().map(|node| (node, self.place_of(node))).collect();
        }
        // An image's run is made at once.
        total + images.len() * self.evaluations_of(1, self.recipe.schedule.steps.len())
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

    /// Fills the cache with the branches that frames start from, segment by segment, as far as they fit.
    pub(crate) fn prepare(&self, call: &Call<'_>) -> Result<()> {
        let last = self.leaf_level() - 1;
        let bytes = self.recipe.shape.iter().product::<usize>() * size_of::<f32>();
        let per_segment = self.nodes(last, 0).count();
        let room = self.recipe.cache_bytes / bytes.max(1) / per_segment;
        let segments = 0..=self.last_segment();
        let segments = segments.take(if last == 0 { 0 } else { room });
        let nodes: Vec<Vec<Node>> = segments.map(|s| self.nodes(last, s).collect()).collect();
        let wanted: Vec<_> = nodes.iter().flatten().map(|&n| (n, self.place_of(n))).collect();
        let mut meter = self.meter(call, &wanted, 0);
        for nodes in nodes {
            self.ends(&nodes, Priority::Patient, &mut meter)?;
        }
        call.report(Stage::Denoise, 1, 1, 1.0)
    }

    /// Lets go of what nothing can start from any more: the levels above `level` in a segment where that
    /// one is all there. Branches at a keyframe are the next segment's too.
    fn forget_above(&self, level: usize, segment: usize) {
        if !self.complete(level, Some(segment)) {
            return;
        }
        let left = self.complete(level, segment.checked_sub(1));
        let right = self.complete(level, Some(segment + 1));
        self.cache.retain(|node| {
            let count =
                if node.level < level { self.fractions(node.level).len() as u64 - 1 } else { 0 };
            let (first, last) = (segment as u64 * count, (segment as u64 + 1) * count);
            let inside = first < node.index && node.index < last
                || node.index == first && left
                || node.index == last && right;
            node.level >= level || !inside
        });
    }

    /// The latents at the end of branches of one level.
    fn ends(
        &self,
        nodes: &[Node],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<HashMap<Node, Arc<Latent>>> {
        if nodes.is_empty() || nodes[0].level == 0 {
            let start = |&node: &Node| match self.given(node, self.place_of(node)) {
                Some(keyframe) => Ok((node, self.from_image(node, keyframe, priority, meter)?)),
                None => Ok((node, Arc::new(self.noise_of(node.index as usize)?))),
            };
            return nodes.iter().map(start).collect();
        }
        let placed: Vec<_> = nodes.iter().map(|&node| (node, self.place_of(node))).collect();
        let latents = self.finish(&placed, priority, meter)?;
        let mut segments: Vec<usize> = placed.iter().map(|(_, place)| place.segment).collect();
        segments.dedup();
        for segment in segments {
            self.forget_above(nodes[0].level, segment);
        }
        Ok(latents)
    }

    /// The noise of a keyframe.
    pub(super) fn noise_of(&self, keyframe: usize) -> Result<Latent> {
        let keyframe = self
            .keyframes
            .get(keyframe)
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
        self.cache.gather(&nodes, priority, &mut || call.again(), &mut |missing| {
            let placed: Vec<_> = missing.iter().map(|node| (*node, places[node])).collect();
            self.run(&placed, priority, meter)
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
        let given: Vec<_> = placed.iter().map(|&(node, place)| self.given(node, place)).collect();
        if given.iter().any(Option::is_some) {
            let rest = placed.iter().zip(&given).filter(|(_, given)| given.is_none());
            let rest: Vec<_> = rest.map(|(placed, _)| *placed).collect();
            let mut sampled = self.run(&rest, priority, meter)?.into_iter();
            let one = |(&(node, _), given)| match given {
                Some(keyframe) => {
                    self.from_image(node, keyframe, priority, meter).map(|l| Latent::clone(&l))
                }
                None => sampled.next().ok_or_else(|| Error::internal("a branch was lost")),
            };
            return placed.iter().zip(given).map(one).collect();
        }
        let contexts = self.contexts(placed, priority, meter.call)?;
        let extra = self.extra(priority, meter.call)?;
        let starts = placed.iter().map(|&(_, place)| self.start_of(level, place));
        let starts: Vec<([Node; 2], f64)> = starts.collect();
        let mut wanted: Vec<Node> = starts.iter().flat_map(|(pair, _)| *pair).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let ends = self.ends(&wanted, priority, meter)?;
        let mut branches = Vec::with_capacity(placed.len());
        for ((_, place), ([left, right], mix)) in placed.iter().zip(starts) {
            let (positive, negative) = self.mixed(&contexts, *place)?;
            branches.push(Branch {
                latent: slerp(&ends[&left], &ends[&right], mix)?,
                positive,
                negative,
                guidance: self.guidance(*place),
                extra: extra.clone(),
            });
        }
        drop(ends);
        let batch = Batch {
            branches,
            schedule: Arc::clone(&self.recipe.schedule),
            steps: self.recipe.plan.levels()[level - 1].steps.clone(),
        };
        let places: Vec<Place> = placed.iter().map(|(_, place)| *place).collect();
        self.denoise(batch, &places, priority, meter)
    }

    /// Runs a batch through its steps.
    pub(super) fn sampled(
        &self,
        batch: Batch,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Latent>> {
        let mut evaluations = 0;
        let latents = self.model.denoise(priority, batch, meter.call.token(), |done, total| {
            evaluations = total;
            meter.denoise(done, total)
        })?;
        meter.done += evaluations;
        Ok(latents)
    }

    /// The keyframes that a place lies between, or is.
    fn ends_of(&self, place: Place) -> [&Keyframe; 2] {
        let from = &self.keyframes[place.segment];
        let to = self.keyframes.get(place.segment + 1).unwrap_or(from);
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
        let mix = |from: &str, to: &str| {
            let (p, q) = (&contexts[from], &contexts[to]);
            match from == to {
                true => Ok(Arc::clone(p)),
                false => {
                    mix_contexts(self.recipe.embedding_mix, p, q, place.fraction).map(Arc::new)
                }
            }
        };
        Ok((mix(&from.prompt, &to.prompt)?, mix(&from.negative_prompt, &to.negative_prompt)?))
    }

    /// The conditioning of all prompts that branches need, computed at the first need.
    pub(super) fn contexts(
        &self,
        placed: &[(Node, Place)],
        priority: Priority,
        call: &Call<'_>,
    ) -> Result<Contexts> {
        let ends = placed.iter().flat_map(|(_, place)| self.ends_of(*place));
        let prompts = ends.flat_map(|k| [k.prompt.as_str(), k.negative_prompt.as_str()]);
        let prompts: BTreeSet<&str> = prompts.collect();
        let known = self.contexts.lock().clone();
        let missing = prompts.iter().copied().filter(|prompt| !known.contains_key(*prompt));
        let missing: Vec<&str> = missing.collect();
        let mut contexts = known;
        if !missing.is_empty() {
            let made = self.model.contexts(priority, &missing, self.recipe.prompt_rules, call)?;
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
        let [channels, height, width] = self.recipe.shape;
        let factor = self.model.info().factor;
        let grey = vec![0.5; height * width * factor * factor * 3];
        let grey = Frame::new(width * factor, height * factor, grey)?;
        let masked = self.model.encode(priority, grey, call)?.mean;
        let mut extra = vec![1.0; height * width];
        extra.extend_from_slice(masked.data());
        let extra = Arc::new(Latent::new([1 + channels, height, width], extra)?);
        *self.empty_mask.lock() = Some(Arc::clone(&extra));
        Ok(extra)
    }

    /// The frames of finished latents.
    pub(crate) fn decode(&self, latents: Vec<Latent>, meter: &Meter<'_, '_>) -> Result<Vec<Frame>> {
        let total = latents.len();
        self.model.decode(latents, meter.call.token(), |done| meter.decode(done, total))
    }
}
