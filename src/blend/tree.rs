//! In: a recipe and keyframes. Out: the latent at any place of a transition: the plan's numbers joined
//! with latents.
//!
//! A branch is made when all are there that it starts from or is drawn to; what is missing is made level
//! by level, each level's branches together (`lineage.rs` says what stands where).

use super::cache::{BATCH, Cache};
use super::conditioning::Contexts;
use super::extend;
use super::inpainting::Repainting;
use super::lineage::{Lineage, Node, Origin};
use super::options::{Keyframe, Recipe};
use super::scene::Scene;
use super::timing::Place;
use crate::diffusion::{Batch, Branch, Feed, Latent, Model, Priority, State, Trail, noise};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::progress::{Call, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a decode costs, counted in evaluations of the UNet: for progress only.
const DECODE_COST: usize = 2;

/// Trails by their branch.
type Trails = HashMap<Node, Arc<Trail>>;

/// The tree of one session.
pub(crate) struct Tree {
    model: Model,
    keyframes: Vec<Keyframe>,
    recipe: Recipe,
    /// The caller's own pictures, if there are any.
    scene: Option<Scene>,
    pub(super) contexts: Mutex<Contexts>,
    /// What an inpainting model is told when everything is to be painted.
    pub(super) empty_mask: Mutex<Option<Arc<Latent>>>,
    cache: Cache,
    /// Evaluations of the UNet that were made for this session.
    evaluated: AtomicU64,
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
            evaluated: AtomicU64::new(0),
        }
    }

    /// Evaluations of the UNet that have been made for this session, cancelled calls' included.
    pub(crate) fn evaluated(&self) -> u64 {
        self.evaluated.load(Ordering::Relaxed)
    }

    /// The memory that latents, conditioning, and what keyframes brought along take, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let contexts: usize = self.contexts.lock().values().map(|c| c.data().len()).sum();
        let mask = self.empty_mask.lock().as_ref().map_or(0, |latent| latent.data().len());
        let brought = self.keyframes.iter().map(|keyframe| {
            let start = keyframe.start.as_ref().map_or(0, |latent| latent.bytes());
            start + keyframe.origin.as_ref().map_or(0, |origin| origin.bytes())
        });
        let brought: usize = brought.sum();
        (self.cache.bytes() + brought + (contexts + mask) * size_of::<f32>()) as u64
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

    pub(super) fn lineage(&self) -> Lineage<'_> {
        Lineage { recipe: &self.recipe, keyframes: self.keyframes.len() }
    }

    /// Segments: one less than keyframes, or as many where the last leads back to the first.
    pub(crate) fn segments(&self) -> usize {
        self.lineage().segments()
    }

    /// What a keyframe brings along of a branch.
    fn brought(&self, node: Node) -> Option<&Arc<Trail>> {
        let keyframe = self.lineage().keyframe(node)?;
        self.keyframes.get(keyframe)?.origin.as_ref()?.trails().get(node.level)
    }

    /// Whether a branch has not to be made.
    fn has(&self, node: Node) -> bool {
        self.brought(node).is_some() || self.cache.missing(std::iter::once(node)).is_empty()
    }

    pub(crate) fn scene(&self) -> Option<&Scene> {
        self.scene.as_ref()
    }

    /// Fails in sessions with pictures, with which `what` is not supported.
    pub(super) fn check_pictures(&self, what: &str) -> Result<()> {
        match self.scene {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{what} is not supported in a session with pictures"),
            )),
        }
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

    /// Where a keyframe lies.
    pub(crate) fn keyframe_place(&self, keyframe: usize) -> Place {
        let segment = keyframe.min(self.lineage().last_segment());
        Place { segment, fraction: (keyframe - segment) as f64 }
    }

    /// The frame's branch at `place`.
    pub(crate) fn leaf(&self, place: Place) -> Node {
        self.lineage().leaf(place)
    }

    /// Whether a level of a segment is all there, or there is no such segment.
    fn complete(&self, level: usize, segment: Option<usize>) -> bool {
        let lineage = self.lineage();
        match segment.filter(|&segment| segment <= lineage.last_segment()) {
            Some(segment) => lineage.nodes(level, segment).all(|node| self.has(node)),
            None => true,
        }
    }

    /// The branches that have to be made before those at `wanted` are there, these included. `have` is
    /// asked for every branch whether it is there already.
    fn missing(
        &self,
        wanted: &[(Node, Place)],
        mut have: impl FnMut(Node) -> bool,
    ) -> BTreeMap<Node, (Place, Origin)> {
        let lineage = self.lineage();
        let mut seen: BTreeMap<Node, Place> = wanted.iter().copied().collect();
        let mut missing = BTreeMap::new();
        // A branch needs only such as stand before it.
        while let Some((node, place)) = seen.pop_last() {
            if have(node) {
                continue;
            }
            let mut origin = lineage.origin(node.level, place);
            if self.given(node, place).is_none() {
                if self.is_image(place) {
                    // An image is drawn nowhere else; its own run is where frames near it are drawn to.
                    origin.draw = lineage.drawn_to(node.level, origin.from[0]);
                }
                let needs = origin.needs().map(|node| (node, lineage.place_of(node)));
                let made = |(node, place): &(Node, Place)| {
                    node.level > 0 || self.given(*node, *place).is_some()
                };
                seen.extend(needs.filter(made));
            }
            missing.insert(node, (place, origin));
        }
        missing
    }

    /// Evaluations that the branches at `wanted` need, those they start from included, and that are not
    /// in the cache.
    pub(crate) fn evaluations(&self, wanted: &[(Node, Place)]) -> usize {
        self.evaluations_after(wanted, &mut BTreeSet::new())
    }

    /// The same once the branches of `made` are there; adds those that are made for it.
    fn evaluations_after(&self, wanted: &[(Node, Place)], made: &mut BTreeSet<Node>) -> usize {
        let missing = self.missing(wanted, |node| made.contains(&node) || self.has(node));
        made.extend(missing.keys());
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut images = BTreeSet::new();
        for (&node, &(place, _)) in &missing {
            match self.given(node, place) {
                Some(keyframe) => drop(images.insert(keyframe)),
                None => *counts.entry(node.level).or_default() += 1,
            }
        }
        let of = |(level, count): (usize, usize)| {
            let steps = self.recipe.spans[level - 1].steps.len();
            match self.lineage().is_chain(level) {
                true => count * self.evaluations_of(1, steps),
                false => self.evaluations_of(count, steps),
            }
        };
        // An image's run is made at once.
        let run = |keyframe: usize| self.evaluations_of(1, self.image_steps(keyframe).len());
        counts.into_iter().map(of).sum::<usize>() + images.into_iter().map(run).sum::<usize>()
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

    /// The branches that frames start from, segment by segment, as far as the cache has room.
    fn prepared(&self) -> Vec<Vec<(Node, Place)>> {
        let (lineage, leaf) = (self.lineage(), self.lineage().leaf_level());
        // Frames start from the level above them; those of a nested plan from any.
        let first = if self.recipe.plan.is_nested() { 1 } else { leaf.max(2) - 1 };
        let bytes = |level: usize| {
            let span = &self.recipe.spans[level - 1];
            lineage.nodes(level, 0).count() * (span.steps.end - span.keep)
        };
        let per_segment: usize =
            (first..leaf).map(bytes).sum::<usize>() * self.recipe.state_bytes();
        let room = self.recipe.cache_bytes / per_segment.max(1);
        let segments = 0..=lineage.last_segment();
        let segments = segments.take(if leaf == 1 { 0 } else { room });
        let placed = |segment: usize| -> Vec<(Node, Place)> {
            let nodes = (first..leaf).flat_map(|level| lineage.nodes(level, segment));
            nodes.map(|node| (node, lineage.place_of(node))).collect()
        };
        segments.map(placed).collect()
    }

    /// Evaluations that `prepare` would take now.
    pub(crate) fn evaluations_to_prepare(&self) -> usize {
        self.evaluations_of_segments(&self.prepared())
    }

    /// Evaluations of segments that are made one after the other.
    fn evaluations_of_segments(&self, segments: &[Vec<(Node, Place)>]) -> usize {
        let mut made = BTreeSet::new();
        segments.iter().map(|wanted| self.evaluations_after(wanted, &mut made)).sum()
    }

    /// Fills the cache with the branches that frames start from, segment by segment, as far as they fit.
    pub(crate) fn prepare(&self, call: &Call<'_>) -> Result<()> {
        let wanted = self.prepared();
        let mut meter = Meter { call, done: 0, total: self.evaluations_of_segments(&wanted) };
        for wanted in wanted {
            self.finish(&wanted, Priority::Patient, &mut meter)?;
        }
        call.report(Stage::Denoise, 1, 1, 1.0)
    }

    /// Lets go of what nothing can start from any more: the levels above `level` in a segment where that
    /// one is all there. Branches at a keyframe are the next segment's too.
    fn forget_above(&self, level: usize, segment: usize) {
        if self.recipe.plan.is_nested() || !self.complete(level, Some(segment)) {
            return;
        }
        // The neighbours; those of a loop's ends are each other's.
        let (lineage, looped) = (self.lineage(), self.recipe.looped);
        let end = lineage.last_segment();
        let before = segment.checked_sub(1).or(looped.then_some(end));
        let behind = if segment == end && looped { 0 } else { segment + 1 };
        let left = self.complete(level, before);
        let right = self.complete(level, Some(behind));
        let indices: Vec<_> = (0..level).map(|level| lineage.indices(level, segment)).collect();
        self.cache.retain(|node| {
            let Some(indices) = indices.get(node.level) else {
                return true;
            };
            let (first, last) = (indices.start, indices.end.saturating_sub(1));
            let shared = lineage.node(node.level, last).index;
            let inside = first < node.index && node.index < last
                || node.index == first && left
                || node.index == shared && right;
            !inside
        });
    }

    /// The noise of a keyframe.
    pub(super) fn noise_of(&self, index: usize) -> Result<Latent> {
        let keyframe = self
            .keyframes
            .get(index)
            .ok_or_else(|| Error::internal("a keyframe beyond the last"))?;
        let node = Node { level: 0, index: index as u64 };
        match (self.brought(node), &keyframe.start) {
            (Some(trail), _) => Ok(trail.last().latent.clone()),
            (None, Some(latent)) => Ok(Latent::clone(latent)),
            (None, None) => noise(self.recipe.noise, keyframe.seed, self.recipe.shape),
        }
    }

    /// The trails of branches, each at its place: from the cache, or made, and before them those that
    /// they need.
    pub(crate) fn finish(
        &self,
        wanted: &[(Node, Place)],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Trails> {
        let call = meter.call;
        let mut known = Trails::new();
        loop {
            // What is there is held on to, and what nobody needs any more is let go of.
            let before = std::mem::take(&mut known);
            let mut missing = self.missing(wanted, |node| {
                let found = before.get(&node).or_else(|| self.brought(node)).cloned();
                let found = found.or_else(|| self.cache.get(node));
                found.is_some_and(|trail| known.insert(node, trail).is_none())
            });
            let Some((&Node { level, .. }, _)) = missing.first_key_value() else {
                return Ok(known);
            };
            // An image's run is made at once, as far as it is wanted.
            let given = |(&node, (place, _)): (&Node, &(Place, Origin))| self.given(node, *place);
            if let Some(keyframe) = missing.iter().find_map(given) {
                missing.retain(|&node, (place, _)| self.given(node, *place) == Some(keyframe));
                let nodes: Vec<Node> = missing.keys().copied().collect();
                known.extend(self.image_trails(keyframe, &nodes, priority, meter)?);
                for (node, (place, _)) in missing {
                    if (1..self.lineage().leaf_level()).contains(&node.level) {
                        self.forget_above(node.level, place.segment);
                    }
                }
                continue;
            }
            let mut nodes: Vec<Node> =
                missing.keys().copied().take_while(|node| node.level == level).collect();
            if self.lineage().is_chain(level) {
                nodes.truncate(1);
            }
            missing.retain(|node, _| node.level == level);
            let made =
                self.cache.gather(&nodes, priority, &mut || call.again(), &mut |claimed| {
                    let branches: Vec<_> = claimed.iter().map(|node| &missing[node]).collect();
                    self.run(level, &branches, &known, priority, meter)
                })?;
            known.extend(made);
            if level < self.lineage().leaf_level() {
                let segments: BTreeSet<usize> =
                    nodes.iter().map(|node| missing[node].0.segment).collect();
                segments.into_iter().for_each(|segment| self.forget_above(level, segment));
            }
        }
    }

    /// Runs branches of one level through its steps. All that they need is among `known`.
    fn run(
        &self,
        level: usize,
        branches: &[&(Place, Origin)],
        known: &Trails,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Trail>> {
        let places: Vec<Place> = branches.iter().map(|(place, _)| *place).collect();
        let contexts = self.contexts(&places, priority, meter.call)?;
        let extra = self.extra(priority, meter.call)?;
        let span = &self.recipe.spans[level - 1];
        let mut batch = Vec::with_capacity(branches.len());
        for (place, origin) in branches {
            let (positive, negative) = self.mixed(&contexts, *place)?;
            let [left, right] = origin.from;
            let left = self.start(left, span.steps.start, known)?;
            let start = left.mix(&self.start(right, span.steps.start, known)?, origin.mix)?;
            let trail = |node: Node| {
                known.get(&node).cloned().ok_or_else(|| Error::internal("a branch was lost"))
            };
            let feed = match &origin.draw {
                Some(draw) => Some(Arc::new(Feed {
                    left: trail(draw.to[0])?,
                    right: trail(draw.to[1])?,
                    mix: draw.mix,
                    coefficients: Arc::clone(&draw.coefficients),
                })),
                None => None,
            };
            batch.push(Branch {
                latent: start.latent,
                history: start.history,
                feed,
                positive,
                negative,
                guidance: self.guidance(*place),
                extra: extra.clone(),
            });
        }
        let batch = Batch {
            branches: batch,
            schedule: Arc::clone(&self.recipe.schedule),
            steps: span.steps.clone(),
            keep: span.keep,
            guidance: Arc::clone(&self.recipe.guidance_steps),
        };
        self.denoise(batch, &places, priority, meter)
    }

    /// Runs a batch through its steps.
    pub(super) fn sampled(
        &self,
        batch: Batch,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Trail>> {
        let (mut evaluations, mut counted) = (0, 0);
        let trails = self.model.denoise(priority, batch, meter.call.token(), |done, total| {
            self.evaluated.fetch_add(done.saturating_sub(counted) as u64, Ordering::Relaxed);
            (evaluations, counted) = (total, done.max(counted));
            meter.denoise(done, total)
        })?;
        meter.done += evaluations;
        Ok(trails)
    }

    /// The state of a branch before step `step`: noise, or what a step before has left.
    fn start(&self, node: Node, step: usize, known: &Trails) -> Result<State> {
        if node.level == 0 {
            return match known.get(&node) {
                // The run of an image has it.
                Some(trail) => Ok(trail.last().clone()),
                None => Ok(State::from(self.noise_of(node.index as usize)?)),
            };
        }
        let trail = known.get(&node).zip(step.checked_sub(1));
        let state = trail.and_then(|(trail, before)| trail.after(before));
        state.cloned().ok_or_else(|| Error::internal("a branch to start from was lost"))
    }

    /// What the frame at `place` leaves to a session that goes on from it.
    pub(crate) fn origin(&self, place: Place, call: &Call<'_>) -> Result<extend::Origin> {
        self.check_pictures("going on from a session's frame")?;
        self.recipe.check_extension()?;
        let mut meter = self.meter(call, &[(self.leaf(place), place)], 0);
        let levels = self.recipe.plan.levels();
        let mut states = Vec::with_capacity(levels.len());
        // From the noise on, so that nothing is let go of before it was used.
        for (index, level) in levels.iter().enumerate() {
            let Origin { from, mix, .. } = self.lineage().origin(index + 1, place);
            let above = from.into_iter().filter(|node| node.level > 0);
            let above: Vec<_> = above.map(|node| (node, self.lineage().place_of(node))).collect();
            let known = self.finish(&above, Priority::Urgent, &mut meter)?;
            let [left, right] = from.map(|node| self.start(node, level.steps.start, &known));
            states.push(left?.mix(&right?, mix)?);
        }
        let contexts = self.contexts(&[place], Priority::Urgent, call)?;
        let (positive, negative) = self.mixed(&contexts, place)?;
        let starts = levels.iter().map(|level| level.steps.start).collect();
        extend::Origin::new(states, starts, [positive, negative], self.guidance_at(place))
    }

    /// The branches that are kept at present, but for finished frames.
    pub(crate) fn kept_branches(&self) -> Vec<(Node, Arc<Trail>)> {
        self.cache.inner()
    }

    /// The first step after which a branch's states are kept, and how many are; `None` where it is no branch
    /// of this tree that others start from.
    pub(crate) fn kept_steps(&self, node: Node) -> Option<(usize, usize)> {
        let lineage = self.lineage();
        let inner = (1..lineage.leaf_level()).contains(&node.level);
        if !inner || node.index >= lineage.total(node.level) {
            return None;
        }
        let span = &self.recipe.spans[node.level - 1];
        Some((span.keep, span.steps.end - span.keep))
    }

    /// The frames of finished latents.
    pub(crate) fn decode(&self, latents: Vec<Latent>, meter: &Meter<'_, '_>) -> Result<Vec<Frame>> {
        let total = latents.len();
        self.model.decode(latents, meter.call.token(), |done| meter.decode(done, total))
    }
}
