//! In: a preset, or steps and branch counts. Out: [`Plan`], the tree of a transition as numbers: which
//! fractions branch off at which diffusion step, and between which parents.
//!
//! A plan knows nothing of latents. The rules are those of the original's version of 2022
//! (`latent_blending.py`, b99d18f: get_spacing, get_closest_idx), and those of 2023 (`stems.rs`).

use super::branching::{Branching, LEVELS};
use super::stems;
use crate::error::{Error, Result};

/// Which version's choices a transition is made with, so that a look stays what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Look {
    /// This library's own, with the original's slips mended.
    #[default]
    Current,
    /// All choices of the original's version of 2022 (b99d18f) at once: its schedule, presets,
    /// guidance damping, straight mixing of conditioning, its tokenizer's rules, and spaces for
    /// underscores in prompts. The same weights and noise then give its leaves.
    Compat2022,
    /// All choices of the original's version of February 2023 (7933b99) at once: the schedule of 2022, as
    /// far as it has the steps that were asked for; branches put in one by one that run to the end;
    /// both crossfeeds; its guidance damping; straight mixing of conditioning. For one thing see
    /// [`Branching::stems`]: branches halve the widest gap, where that version asked LPIPS.
    Compat2023,
}

/// The presets of 2022: a number of steps, and of frames held in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// 12 steps, 5 leaves: a first look.
    Lowest,
    /// 15 steps, a leaf for every 16 frames.
    Low,
    /// 30 steps, a leaf for every 8 frames.
    #[default]
    Medium,
    /// 60 steps, a leaf for every 4 frames.
    High,
    /// 100 steps, a leaf for every 2 frames.
    Ultra,
}

impl Preset {
    /// All presets, from the quickest to the finest.
    pub const ALL: [Preset; 5] =
        [Preset::Lowest, Preset::Low, Preset::Medium, Preset::High, Preset::Ultra];

    /// Its name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Lowest => "lowest",
            Preset::Low => "low",
            Preset::Medium => "medium",
            Preset::High => "high",
            Preset::Ultra => "ultra",
        }
    }

    /// Diffusion steps.
    pub fn steps(self) -> usize {
        match self {
            Preset::Lowest => 12,
            Preset::Low => 15,
            Preset::Medium => 30,
            Preset::High => 60,
            Preset::Ultra => 100,
        }
    }

    /// Leaves of a transition that is meant for `frames` frames.
    pub fn leaves(self, frames: usize) -> usize {
        let leaves = match self {
            Preset::Lowest => 5,
            Preset::Low => frames / 16,
            Preset::Medium => frames / 8,
            Preset::High => frames / 4,
            Preset::Ultra => frames / 2,
        };
        leaves.max(2)
    }
}

/// One level of the tree: branches that run side by side for some steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The steps they run.
    pub steps: std::ops::Range<usize>,
    /// Where they lie in the transition: rising, first 0, last 1.
    pub fractions: Vec<f64>,
}

/// Between which branches of the level above a fraction lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parents {
    /// The branch at or before the fraction.
    pub left: usize,
    /// The branch behind it; the same one where the fraction is the left branch's own.
    pub right: usize,
    /// The share of the right one, 0 to below 1.
    pub mix: f64,
}

/// A branch between which and another one a branch starts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Source {
    fraction: f64,
    level: usize,
    index: usize,
}

/// Two branches by level and place within, and the share of the second: what a branch starts between.
pub(super) type Sources = ([(usize, usize); 2], f64);

/// The tree of a transition between two keyframes, as numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    levels: Vec<Level>,
    /// For each level the branches that its own start between, rising.
    sources: Vec<Vec<Source>>,
    nested: bool,
}

impl Plan {
    /// The tree of a run of `steps` steps. `compression` bends the fractions of each level towards the
    /// middle, where most changes (from 1.7 on; below, they are spaced evenly).
    ///
    /// # Errors
    /// `InvalidArgument` for a branching that does not fit the steps.
    pub fn new(steps: usize, branching: &Branching, compression: f64) -> Result<Self> {
        if !(compression.is_finite() && (0.0..=100.0).contains(&compression)) {
            return Err(Error::invalid(format!("mid compression {compression}: wanted 0 to 100")));
        }
        let branching = branching.clone().checked(steps)?;
        let ends = branching.injections.iter().skip(1).copied().chain([steps]);
        let levels = branching.injections.iter().zip(ends).zip(&branching.branches);
        let levels: Vec<Level> = levels
            .map(|((&start, end), &count)| Level {
                steps: start..end,
                fractions: spacing(count, compression),
            })
            .collect();
        Ok(Plan::of_levels(levels))
    }

    /// The tree of levels whose branches start between those of the level above.
    fn of_levels(levels: Vec<Level>) -> Self {
        let above = |level: usize| match level.checked_sub(1) {
            Some(above) => sources_of(&levels, above),
            None => Vec::new(),
        };
        let sources = (0..levels.len()).map(above).collect();
        Plan { levels, sources, nested: false }
    }

    /// The tree of 2023: `branching.branches` counts the branches that are put in at each of the
    /// injections, besides the keyframes. A branch starts between its two nearest neighbours of all that
    /// were put in earlier, and runs to the end.
    ///
    /// # Errors
    /// `InvalidArgument` for a branching that does not fit the steps.
    pub fn nested(steps: usize, branching: &Branching) -> Result<Self> {
        let Branching { injections, branches } = branching;
        if injections.len() != branches.len() || injections.is_empty() {
            return Err(Error::invalid(format!(
                "{} injections and {} branch counts: wanted as many of one as of the other",
                injections.len(),
                branches.len()
            )));
        }
        if let Some(pair) = injections.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(format!(
                "injections at steps {} and {}: wanted rising steps",
                pair[0], pair[1]
            )));
        }
        if let Some(odd) = injections.iter().find(|step| !(1..steps).contains(*step)) {
            return Err(Error::invalid(format!("an injection at step {odd} of {steps}")));
        }
        const MOST: usize = 100_000;
        let total = branches.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if branches.contains(&0) || total.is_none_or(|total| total > MOST) {
            return Err(Error::invalid(format!(
                "branches {branches:?}: wanted 1 and more each, {MOST} in all"
            )));
        }
        let mut levels = vec![Level { steps: 0..steps, fractions: vec![0.0, 1.0] }];
        let fractions = stems::places(branches).into_iter();
        levels.extend(
            injections
                .iter()
                .zip(fractions)
                .map(|(&s, fractions)| Level { steps: s..steps, fractions }),
        );
        Ok(Plan::of_nested_levels(levels))
    }

    /// The tree of levels whose branches start between those of all levels above.
    fn of_nested_levels(levels: Vec<Level>) -> Self {
        let mut sources = vec![Vec::new()];
        for level in 1..levels.len() {
            let mut all: Vec<Source> = (0..level).flat_map(|l| sources_of(&levels, l)).collect();
            all.sort_by(|a, b| a.fraction.total_cmp(&b.fraction));
            sources.push(all);
        }
        Plan { levels, sources, nested: true }
    }

    /// The tree of these levels, whose branches run to the end.
    ///
    /// # Errors
    /// `InvalidArgument` where the first level is other than the two keyframes, branches of the others don't lie
    /// between them, in one place each, or don't leave later than those of the level before.
    pub(super) fn from_nested_levels(levels: Vec<Level>) -> Result<Self> {
        let wrong = |what: &str| Err(Error::invalid(format!("a tree of 2023 with {what}")));
        let (first, inner) = match levels.split_first() {
            Some((first, inner)) if !inner.is_empty() => (first, inner),
            _ => return wrong("keyframes alone"),
        };
        if first.steps.start != 0 || first.fractions != [0.0, 1.0] {
            return wrong("another first level than the keyframes");
        }
        let end = first.steps.end;
        let starts = levels.windows(2).all(|pair| pair[0].steps.start < pair[1].steps.start);
        if !starts || levels.iter().any(|l| l.steps.end != end || l.steps.is_empty()) {
            return wrong("branches that don't leave one level after the other");
        }
        let rise = |l: &Level| l.fractions.windows(2).all(|pair| pair[0] < pair[1]);
        let within = |l: &Level| l.fractions.iter().all(|&f| f > 0.0 && f < 1.0);
        if !inner.iter().all(|l| !l.fractions.is_empty() && rise(l) && within(l)) {
            return wrong("branches that don't rise between the keyframes");
        }
        let plan = Plan::of_nested_levels(levels);
        match plan.leaves().windows(2).all(|pair| pair[0] < pair[1]) {
            true => Ok(plan),
            false => wrong("two branches in one place"),
        }
    }

    /// Whether branches are put in one by one and run to the end, as in 2023.
    pub(super) fn is_nested(&self) -> bool {
        self.nested
    }

    /// Between which branches one of `level` starts at `fraction`; not for the first level.
    pub(super) fn sources(&self, level: usize, fraction: f64) -> Sources {
        let sources = &self.sources[level];
        let Parents { left, right, mix } = among(sources.len(), |i| sources[i].fraction, fraction);
        ([left, right].map(|index| (sources[index].level, sources[index].index)), mix)
    }

    /// The fractions of the pictures that the version whose plan this is would compute, rising.
    pub fn leaves(&self) -> Vec<f64> {
        if !self.nested {
            return self.last().fractions.clone();
        }
        let mut leaves: Vec<f64> = self.levels.iter().flat_map(|l| &l.fractions).copied().collect();
        leaves.sort_by(f64::total_cmp);
        leaves
    }

    /// The tree of these levels.
    ///
    /// # Errors
    /// `InvalidArgument` for no levels or more than 64, steps that don't follow each other from 0 on, a first
    /// level of others than the two keyframes, and fractions that don't rise from 0 to 1.
    pub(super) fn from_levels(levels: Vec<Level>) -> Result<Self> {
        const MOST: usize = 100_000;
        let mut step = 0;
        for level in &levels {
            let (steps, fractions) = (&level.steps, &level.fractions);
            if steps.start != step || steps.is_empty() {
                return Err(Error::invalid(format!(
                    "a level of steps {steps:?} after step {step}"
                )));
            }
            step = steps.end;
            let ends = [fractions.first(), fractions.last()] == [Some(&0.0), Some(&1.0)];
            let rise = fractions.windows(2).all(|pair| pair[0] <= pair[1]);
            if !(ends && rise && (2..=MOST).contains(&fractions.len())) {
                return Err(Error::invalid("a level whose fractions don't rise from 0 to 1"));
            }
        }
        match levels.first() {
            Some(first) if levels.len() <= LEVELS && first.fractions.len() == 2 => {
                Ok(Plan::of_levels(levels))
            }
            _ => Err(Error::invalid(format!(
                "{} levels: wanted 1 to {LEVELS}, the first with the two keyframes",
                levels.len()
            ))),
        }
    }

    /// The levels, in the order in which they run. The first holds the two keyframes.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The last level: its steps are what a frame costs. In the tree of 2022 its fractions are the leaves.
    pub fn last(&self) -> &Level {
        &self.levels[self.levels.len() - 1]
    }

    /// Evaluations of one branch in all levels together, the unit of cost. Crossfeeds add to it.
    pub fn branch_steps(&self) -> usize {
        self.levels.iter().map(|level| level.steps.len() * level.fractions.len()).sum()
    }
}

/// The branches of one level as sources.
fn sources_of(levels: &[Level], level: usize) -> Vec<Source> {
    let fractions = levels[level].fractions.iter().enumerate();
    fractions.map(|(index, &fraction)| Source { fraction, level, index }).collect()
}

/// Where `fraction` lies among `fractions`, which rise from 0 to 1.
pub fn parents(fractions: &[f64], fraction: f64) -> Parents {
    among(fractions.len(), |index| fractions[index], fraction)
}

/// Where `fraction` lies among the first `count` values of `of`, which rise.
fn among(count: usize, of: impl Fn(usize) -> f64, fraction: f64) -> Parents {
    // The first value behind it.
    let (mut behind, mut end) = (0, count);
    while behind < end {
        let middle = behind + (end - behind) / 2;
        if of(middle) <= fraction {
            behind = middle + 1;
        } else {
            end = middle;
        }
    }
    let left = behind.saturating_sub(1);
    if behind < count && of(left) < fraction {
        let mix = (fraction - of(left)) / (of(behind) - of(left));
        return Parents { left, right: behind, mix };
    }
    Parents { left, right: left, mix: 0.0 }
}

/// `count` fractions from 0 to 1, denser towards the middle for a `compression` of 1.7 and more.
pub fn spacing(count: usize, compression: f64) -> Vec<f64> {
    const BENT: f64 = 1.7;
    if count < 2 {
        return vec![0.0; count];
    }
    if compression < BENT {
        return (0..count).map(|index| index as f64 / (count - 1) as f64).collect();
    }
    let half = count / 2;
    let left = |index: usize| (1.0 - (1.0 - index as f64 / half as f64).powf(compression)) / 2.0;
    (0..count)
        .map(|index| match index {
            // An odd count has a branch in the very middle, an even one leaves it out.
            _ if index < half => left(index),
            _ if index == half && count % 2 == 1 => 0.5,
            _ => 1.0 - left(count - 1 - index),
        })
        .collect()
}

/// The guidance scale at `fraction`, and the rule for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuidanceDamping {
    /// g = 1 + (g0 - 1) (1 - (1 - d) m): d = 1 keeps the scale, d = 0 takes it to 1 in the middle.
    #[default]
    TowardsOne,
    /// g = g0 - g0 (1 - d) m, as in 2022: d = 0 takes it to 0.
    Compat2022,
    /// g = g0 - (g0 (1 - d) - 1) m, as in 2023: d = 0 takes it to 1, d = 1 to g0 + 1.
    Compat2023,
}

impl GuidanceDamping {
    /// `scale` is g0, `damper` d, and m falls from 1 in the middle to 0 at the keyframes.
    pub fn at(self, scale: f64, damper: f64, fraction: f64) -> f64 {
        let middle = 1.0 - (fraction - 0.5).abs() / 0.5;
        if middle == 0.0 {
            return scale;
        }
        match self {
            GuidanceDamping::TowardsOne => 1.0 + (scale - 1.0) * (1.0 - (1.0 - damper) * middle),
            GuidanceDamping::Compat2022 => scale - scale * (1.0 - damper) * middle,
            GuidanceDamping::Compat2023 => scale - (scale * (1.0 - damper) - 1.0) * middle,
        }
    }
}
