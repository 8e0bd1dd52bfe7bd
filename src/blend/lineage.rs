//! In: a recipe and a number of keyframes. Out: the nodes of a tree: where each lies, and what it is
//! started from and drawn to. Numbers only.
//!
//! Level 0 is the keyframes' noise. Level k holds the branches that the plan puts in at its k-th block of
//! steps. Branches of a level are counted through the whole transition; where a level holds the keyframes
//! too, the last one of a segment *is* the first of the next. The last level is never laid out: a frame
//! runs it for its very own fraction.

use super::options::Recipe;
use super::plan::parents;
use super::timing::Place;
use std::ops::Range;
use std::sync::Arc;

/// One branch: its level, and its place within. In the last level that is the fraction itself, in
/// units of 2^-24 through the whole transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) level: usize,
    pub(crate) index: u64,
}

/// What a branch is started from and drawn to.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    /// It starts between these two,
    pub(super) from: [Node; 2],
    /// at this share of the second.
    pub(super) mix: f64,
    pub(super) draw: Option<Draw>,
}

/// What a branch is drawn to on its way.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) to: [Node; 2],
    pub(super) mix: f64,
    /// For each step of the schedule.
    pub(super) coefficients: Arc<[f64]>,
}

impl Roots {
    /// The branches that have to be there first, and the noise of level 0.
    pub(super) fn needs(&self) -> impl Iterator<Item = Node> + use<> {
        let drawn = self.draw.as_ref().map(|draw| draw.to);
        self.from.into_iter().chain(drawn.into_iter().flatten())
    }
}

/// The nodes of one session's tree.
#[derive(Clone, Copy)]
pub(super) struct Lineage<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) keyframes: usize,
}

const ENDS: [f64; 2] = [0.0, 1.0];

/// What a whole t is, as the index of a frame.
const WHOLE: u64 = 1 << 24;

impl<'a> Lineage<'a> {
    /// The last level, whose branches are frames.
    pub(super) fn leaf_level(self) -> usize {
        self.recipe.plan.levels().len()
    }

    /// The fractions of a level's branches within one segment.
    fn fractions(self, level: usize, segment: usize) -> &'a [f64] {
        let levels = self.recipe.plan_of(segment).levels();
        level.checked_sub(1).map_or(&ENDS, |index| &levels[index].fractions)
    }

    /// How many branches of a level one segment adds, and whether the one that follows is its, too: the
    /// first of the next segment, a keyframe's. The same in every segment.
    fn counts(self, level: usize) -> (u64, bool) {
        let fractions = self.fractions(level, 0);
        match fractions.first() {
            Some(0.0) => (fractions.len() as u64 - 1, true),
            _ => (fractions.len() as u64, false),
        }
    }

    /// Segments: one less than keyframes, or as many where the last leads back to the first.
    pub(super) fn segments(self) -> usize {
        self.keyframes - usize::from(!self.recipe.looped)
    }

    pub(super) fn last_segment(self) -> usize {
        self.segments().saturating_sub(1)
    }

    /// `t`, or 0 where a loop comes back to its first keyframe.
    pub(super) fn around(self, t: f64) -> f64 {
        if self.recipe.looped && t == self.segments() as f64 { 0.0 } else { t }
    }

    /// The branch `index` of a level; a loop's last keyframe is its first.
    pub(super) fn node(self, level: usize, index: u64) -> Node {
        let (count, shared) = self.counts(level);
        let first = self.recipe.looped && shared && index == self.segments() as u64 * count;
        Node { level, index: if first { 0 } else { index } }
    }

    /// How many branches a level has in all; not for the last.
    pub(super) fn total(self, level: usize) -> u64 {
        let (count, shared) = self.counts(level);
        self.segments() as u64 * count + u64::from(shared && !self.recipe.looped)
    }

    /// The keyframe at a place; `None` between them.
    pub(super) fn keyframe_at(self, place: Place) -> Option<usize> {
        match place.fraction {
            0.0 => Some(place.segment),
            1.0 => Some(self.ends(place)[1]),
            _ => None,
        }
    }

    /// The keyframes at both ends of a place's segment.
    pub(super) fn ends(self, place: Place) -> [usize; 2] {
        Lineage::ends_among(self.keyframes, place)
    }

    /// The same among a number of keyframes. In a loop, and where there is one alone, the first is behind the
    /// last.
    pub(super) fn ends_among(keyframes: usize, place: Place) -> [usize; 2] {
        [place.segment, (place.segment + 1) % keyframes.max(1)]
    }

    /// The keyframe that a branch is; `None` for others, those of a level that is not there among them.
    pub(super) fn keyframe(self, node: Node) -> Option<usize> {
        if node.level > self.leaf_level() {
            return None;
        }
        if node.level == self.leaf_level() {
            return node.index.is_multiple_of(WHOLE).then_some((node.index / WHOLE) as usize);
        }
        let (count, shared) = self.counts(node.level);
        (shared && node.index.is_multiple_of(count)).then(|| (node.index / count) as usize)
    }

    /// The indices of a level's branches in one segment, the keyframes at both its ends included; that behind
    /// a loop's last is the first ([`Lineage::node`]).
    pub(super) fn indices(self, level: usize, segment: usize) -> Range<u64> {
        let (count, shared) = self.counts(level);
        let first = segment as u64 * count;
        match (self.segments() > 0, shared) {
            (true, shared) => first..first + count + u64::from(shared),
            (false, shared) => 0..u64::from(shared),
        }
    }

    pub(super) fn nodes(
        self,
        level: usize,
        segment: usize,
    ) -> impl Iterator<Item = Node> + use<'a> {
        self.indices(level, segment).map(move |index| self.node(level, index))
    }

    /// Where a branch lies that is no frame.
    pub(super) fn place_of(self, node: Node) -> Place {
        let (count, _) = self.counts(node.level);
        let segment = (node.index / count.max(1)).min(self.last_segment() as u64);
        let fractions = self.fractions(node.level, segment as usize);
        let fraction = fractions[(node.index - segment * count) as usize];
        Place { segment: segment as usize, fraction }
    }

    /// The frame's branch at `place`.
    pub(super) fn leaf(self, place: Place) -> Node {
        let t = self.around(place.segment as f64 + place.fraction);
        Node { level: self.leaf_level(), index: (t * WHOLE as f64).round_ties_even() as u64 }
    }

    /// What a branch of `level` at `place` is started from and drawn to.
    pub(super) fn roots(self, level: usize, place: Place) -> Roots {
        let Some(plan_level) = level.checked_sub(2) else {
            return self.roots_of_keyframe(place);
        };
        let plan_level = plan_level + 1;
        let plan = self.recipe.plan_of(place.segment);
        let (sources, mix) = plan.sources(plan_level, place.fraction);
        let from = sources.map(|(level, index)| {
            let level = level + 1;
            let (count, _) = self.counts(level);
            self.node(level, place.segment as u64 * count + index as u64)
        });
        let draw = if from[0] != from[1] {
            let coefficients = self.recipe.parental[plan_level].clone();
            coefficients.map(|coefficients| Draw { to: from, mix, coefficients })
        } else if plan.is_nested() {
            // The branch that is there already, on its way to the end.
            self.roots(from[0].level, self.place_of(from[0])).draw
        } else if ENDS.contains(&place.fraction) {
            // A keyframe, drawn to itself.
            None
        } else {
            let coefficients = self.recipe.parental[plan_level].clone();
            coefficients.map(|coefficients| Draw { to: from, mix, coefficients })
        };
        Roots { from, mix, draw: draw.filter(|draw| self.acts(level, draw)) }
    }

    /// Whether a branch of `level` is drawn in any of its steps.
    fn acts(self, level: usize, draw: &Draw) -> bool {
        let steps = self.recipe.spans[level - 1].steps.clone();
        draw.coefficients[steps].iter().any(|&c| c > 0.0)
    }

    /// The parental crossfeed of a branch of `level` that lies just where `node` does.
    pub(super) fn drawn_to(self, level: usize, node: Node) -> Option<Draw> {
        let coefficients = self.recipe.parental.get(level.checked_sub(1)?)?.clone()?;
        let draw = Draw { to: [node; 2], mix: 0.0, coefficients };
        Some(draw).filter(|draw| self.acts(level, draw))
    }

    /// The branch of a keyframe in a level that holds the keyframes.
    pub(super) fn node_of_keyframe(self, level: usize, keyframe: usize) -> Node {
        if level == self.leaf_level() {
            return self.leaf(Place { segment: keyframe, fraction: 0.0 });
        }
        Node { level, index: keyframe as u64 * self.counts(level).0 }
    }

    /// A branch of the first level: a keyframe, drawn to the one before; or, where there is no other
    /// level, a frame between the noise of two.
    fn roots_of_keyframe(self, place: Place) -> Roots {
        let parents = parents(&ENDS, place.fraction);
        let noise = |index: usize| self.node(0, (place.segment + index) as u64);
        let from = [noise(parents.left), noise(parents.right)];
        let before = match self.leaf_level() {
            1 => None,
            _ => from[0].index.checked_sub(1).map(|index| Node { level: 1, index }),
        };
        let draw = before.zip(self.recipe.branch1.clone());
        let draw = draw.map(|(node, coefficients)| Draw { to: [node; 2], mix: 0.0, coefficients });
        Roots { from, mix: parents.mix, draw }
    }

    /// Whether branches of this level wait for one another, and so are made one by one.
    pub(super) fn is_chain(self, level: usize) -> bool {
        level == 1 && self.recipe.branch1.is_some()
    }
}
