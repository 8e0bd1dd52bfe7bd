//! In: what a call wants. Out: [`Meter`], how much of it is done; and the evaluations of the UNet that it
//! takes.

use super::cache::BATCH;
use super::lineage::Node;
use super::timing::Place;
use super::tree::Tree;
use crate::diffusion::Hold;
use crate::error::Result;
use crate::progress::{Call, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// What a decode costs, counted in evaluations of the UNet: for progress only.
const DECODE_COST: usize = 2;

/// Counts evaluations over a whole call.
pub(crate) struct Meter<'a, 'b> {
    call: &'a Call<'b>,
    pub(super) done: usize,
    total: usize,
    /// From its beginning to its end the model's weights stay.
    _hold: Hold,
}

impl<'a, 'b> Meter<'a, 'b> {
    /// For a call on the model of `hold` that takes `total` evaluations.
    pub(super) fn new(call: &'a Call<'b>, total: usize, hold: Hold) -> Self {
        Meter { call, done: 0, total, _hold: hold }
    }

    pub(super) fn call(&self) -> &'a Call<'b> {
        self.call
    }

    pub(super) fn denoise(&self, done: usize, total: usize) -> Result<()> {
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
            let steps = self.recipe().spans[level - 1].steps.len();
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
        batches.map(|batch| self.model().engine().evaluations(batch, steps)).sum()
    }

    /// A meter for a call that wants the latents of `wanted`, and `decodes` of them as frames.
    pub(crate) fn meter<'a, 'b>(
        &self,
        call: &'a Call<'b>,
        wanted: &[(Node, Place)],
        decodes: usize,
    ) -> Meter<'a, 'b> {
        let total = self.evaluations(wanted) + decodes * DECODE_COST;
        Meter::new(call, total, self.model().hold())
    }

    /// Evaluations that `prepare` would take now.
    pub(crate) fn evaluations_to_prepare(&self) -> usize {
        self.evaluations_of_segments(&self.prepared())
    }

    /// Evaluations of segments that are made one after the other.
    pub(super) fn evaluations_of_segments(&self, segments: &[Vec<(Node, Place)>]) -> usize {
        let mut made = BTreeSet::new();
        segments.iter().map(|wanted| self.evaluations_after(wanted, &mut made)).sum()
    }
}
