//! In: a recipe and keyframes. Out: the latent at any place of a transition: the plan's numbers joined
//! with latents.
//!
//! A branch is made when all are there that it starts from or is drawn to; what is missing is made level
//! by level, each level's branches together (`lineage.rs` says what stands where).

use super::cache::Cache;
use super::conditioning::Contexts;
use super::inpainting::Repainting;
use super::keyframe::{Keyframe, Kind};
use super::lineage::{Lineage, Node, Roots};
use super::meter::Meter;
use super::options::Recipe;
use super::scene::Scene;
use super::timing::Place;
use crate::diffusion::{Batch, Branch, Feed, Latent, Model, Priority, State, Trail, noise};
use crate::error::{Error, Result};
use crate::progress::{Call, Stage};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Trails by their branch.
pub(super) type Trails = HashMap<Node, Arc<Trail>>;

/// The tree of one session.
pub(crate) struct Tree {
    model: Model,
    keyframes: Vec<Keyframe>,
    recipe: Recipe,
    /// The caller's own pictures, if there are any.
    scene: Option<Arc<Scene>>,
    pub(super) contexts: Mutex<Contexts>,
    /// What an inpainting model is told when everything is to be painted.
    pub(super) empty_mask: Mutex<Option<Arc<Latent>>>,
    cache: Cache,
    /// Evaluations of the UNet that were made for this session.
    evaluated: AtomicU64,
}

impl Tree {
    pub(crate) fn new(
        model: Model,
        keyframes: Vec<Keyframe>,
        recipe: Recipe,
        scene: Option<Arc<Scene>>,
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
        match self.keyframes.get(self.lineage().keyframe(node)?)?.kind() {
            Kind::Origin(origin) => origin.trail(node.level, self.lineage().leaf_level()),
            Kind::Prompt | Kind::Image(_) => None,
        }
    }

    /// Whether a branch has not to be made.
    pub(super) fn has(&self, node: Node) -> bool {
        self.brought(node).is_some() || self.cache.missing(std::iter::once(node)).is_empty()
    }

    pub(crate) fn scene(&self) -> Option<&Arc<Scene>> {
        self.scene.as_ref()
    }

    /// The scene with what is repainted of it, in an inpainting session.
    pub(super) fn repainting(&self) -> Option<(&Scene, &Repainting)> {
        let scene = self.scene.as_deref()?;
        Some((scene, scene.repainting()?))
    }

    /// Width and height in pixels of what the model makes.
    pub(crate) fn working_size(&self) -> [usize; 2] {
        self.recipe.working_size(self.model.info())
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

    /// What a branch that is sampled starts from, and is drawn to.
    pub(super) fn roots(&self, level: usize, place: Place) -> Roots {
        let mut roots = self.lineage().roots(level, place);
        if self.is_image(place) {
            // An image is drawn nowhere else; its own run is where frames near it are drawn to.
            roots.draw = self.lineage().drawn_to(level, roots.from[0]);
        }
        roots
    }

    /// The branches that have to be there before one can start, and where they lie. Noise is at hand, but for
    /// that of images.
    pub(super) fn needs(&self, roots: &Roots) -> impl Iterator<Item = (Node, Place)> {
        let placed = roots.needs().map(|node| (node, self.lineage().place_of(node)));
        placed.filter(|&(node, place)| node.level > 0 || self.given(node, place).is_some())
    }

    /// The branches that have to be made before those at `wanted` are there, these included. `have` is
    /// asked for every branch whether it is there already.
    pub(super) fn missing(
        &self,
        wanted: &[(Node, Place)],
        mut have: impl FnMut(Node) -> bool,
    ) -> BTreeMap<Node, (Place, Roots)> {
        let mut seen: BTreeMap<Node, Place> = wanted.iter().copied().collect();
        let mut missing = BTreeMap::new();
        // A branch needs only such as stand before it.
        while let Some((node, place)) = seen.pop_last() {
            if have(node) {
                continue;
            }
            let roots = self.roots(node.level, place);
            if self.given(node, place).is_none() {
                seen.extend(self.needs(&roots));
            }
            missing.insert(node, (place, roots));
        }
        missing
    }

    /// The branches that frames start from, segment by segment, as far as the cache has room.
    pub(super) fn prepared(&self) -> Vec<Vec<(Node, Place)>> {
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

    /// Fills the cache with the branches that frames start from, segment by segment, as far as they fit.
    pub(crate) fn prepare(&self, call: &Call<'_>) -> Result<()> {
        let wanted = self.prepared();
        let (evaluations, hold) = (self.evaluations_of_segments(&wanted), self.model.hold());
        let mut meter = Meter::new(call, evaluations, hold);
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

    /// The noise of a keyframe; of an image, that which its seed stands for.
    pub(super) fn noise_of(&self, index: usize) -> Result<Latent> {
        let keyframe = self
            .keyframes
            .get(index)
            .ok_or_else(|| Error::internal("a keyframe beyond the last"))?;
        match (keyframe.kind(), &keyframe.start) {
            (Kind::Origin(origin), _) => {
                origin.noise().cloned().ok_or_else(|| Error::internal("an origin without noise"))
            }
            (_, Some(latent)) => Ok(Latent::clone(latent)),
            (_, None) => noise(self.recipe.noise, keyframe.seed, self.recipe.shape),
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
        self.finish_by(wanted, priority, meter, usize::MAX, &mut |_| Ok(()))
    }

    /// The same; of the last level at most `together` are made at once, and `there` is told what is there before each
    /// time and at the end.
    pub(super) fn finish_by(
        &self,
        wanted: &[(Node, Place)],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
        together: usize,
        there: &mut dyn FnMut(&Trails) -> Result<()>,
    ) -> Result<Trails> {
        let call = meter.call();
        let mut known = Trails::new();
        loop {
            // What is there is held on to, and what nobody needs any more is let go of.
            let before = std::mem::take(&mut known);
            let mut missing = self.missing(wanted, |node| {
                let found = before.get(&node).or_else(|| self.brought(node)).cloned();
                let found = found.or_else(|| self.cache.get(node));
                found.is_some_and(|trail| known.insert(node, trail).is_none())
            });
            there(&known)?;
            let Some((&Node { level, .. }, _)) = missing.first_key_value() else {
                return Ok(known);
            };
            // An image's run is made at once, as far as it is wanted.
            let given = |(&node, (place, _)): (&Node, &(Place, Roots))| self.given(node, *place);
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
            } else if level == self.lineage().leaf_level() {
                nodes.truncate(together);
            }
            missing.retain(|node, _| node.level == level);
            let made =
                self.cache.gather(&nodes, priority, &mut || call.again(), &mut |claimed| {
                    let branches: Vec<_> = claimed.iter().map(|node| &missing[node]).collect();
                    let keep = self.recipe.spans[level - 1].keep;
                    self.run(level, &branches, keep, &known, priority, meter)
                })?;
            known.extend(made);
            if level < self.lineage().leaf_level() {
                let segments: BTreeSet<usize> =
                    nodes.iter().map(|node| missing[node].0.segment).collect();
                segments.into_iter().for_each(|segment| self.forget_above(level, segment));
            }
        }
    }

    /// Runs branches of one level through its steps, and keeps their states after step `keep` and later ones.
    /// All that they need is among `known`.
    pub(super) fn run(
        &self,
        level: usize,
        branches: &[&(Place, Roots)],
        keep: usize,
        known: &Trails,
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Trail>> {
        let places: Vec<Place> = branches.iter().map(|(place, _)| *place).collect();
        let contexts = self.contexts(&places, priority, meter.call())?;
        let extra = self.extra(priority, meter.call())?;
        let span = &self.recipe.spans[level - 1];
        let mut batch = Vec::with_capacity(branches.len());
        for (place, origin) in branches {
            let (positive, negative) = self.mixed(&contexts, *place)?;
            let [left, right] = origin.from;
            let left = self.start(left, span.steps.start, known)?;
            let right = self.start(right, span.steps.start, known)?;
            let start = left.mix(&right, origin.mix, self.recipe.latent_mix)?;
            let trail = |node: Node| {
                known.get(&node).cloned().ok_or_else(|| Error::internal("a branch was lost"))
            };
            let feed = match &origin.draw {
                Some(draw) => Some(Arc::new(Feed {
                    left: trail(draw.to[0])?,
                    right: trail(draw.to[1])?,
                    mix: draw.mix,
                    coefficients: Arc::clone(&draw.coefficients),
                    latent_mix: self.recipe.latent_mix,
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
            keep,
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
        let trails = self.model.denoise(priority, batch, meter.call(), |done, total| {
            self.evaluated.fetch_add(done.saturating_sub(counted) as u64, Ordering::Relaxed);
            (evaluations, counted) = (total, done.max(counted));
            meter.denoise(done, total)
        })?;
        meter.done += evaluations;
        Ok(trails)
    }

    /// The state of a branch before step `step`: noise, or what a step before has left.
    pub(super) fn start(&self, node: Node, step: usize, known: &Trails) -> Result<State> {
        if node.level == 0 {
            return match known.get(&node).or_else(|| self.brought(node)) {
                // The run of an image has it, and what goes on from another session.
                Some(trail) => Ok(trail.last().clone()),
                None => Ok(State::from(self.noise_of(node.index as usize)?)),
            };
        }
        let trail = known.get(&node).zip(step.checked_sub(1));
        let state = trail.and_then(|(trail, before)| trail.after(before));
        state.cloned().ok_or_else(|| Error::internal("a branch to start from was lost"))
    }

    /// The branches that are kept at present, but for finished frames.
    pub(crate) fn kept_branches(&self) -> Vec<(Node, Arc<Trail>)> {
        self.cache.inner()
    }

    /// The first step after which a branch's states are kept, how many are, and whether with a history; `None`
    /// where it is no branch of this tree that others start from, or is not made.
    pub(crate) fn kept_steps(&self, node: Node) -> Option<(usize, usize, bool)> {
        let lineage = self.lineage();
        let keyframe = lineage.keyframe(node).and_then(|keyframe| self.keyframes.get(keyframe));
        if let Some(Kind::Origin(_)) = keyframe.map(Keyframe::kind) {
            return None;
        }
        let Some(level) = node.level.checked_sub(1) else {
            let image = matches!(keyframe.map(Keyframe::kind), Some(Kind::Image(_)));
            return image.then_some((0, 1, false));
        };
        if node.level >= lineage.leaf_level() || node.index >= lineage.total(node.level) {
            return None;
        }
        let span = &self.recipe.spans[level];
        Some((span.keep, span.steps.end - span.keep, self.recipe.schedule.sampler.multistep()))
    }
}
