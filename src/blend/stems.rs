//! In: steps, depth, and a number of frames or a time. Out: the tree of the original's version of 2023:
//! at which steps branches are put in, how many there, and where.
//!
//! That version puts every branch where two neighbouring pictures differ most, by LPIPS. Here it is the
//! widest gap, the first of equals, so that a tree is known before the first picture and is the same on
//! every machine.

use super::branching::Branching;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What bounds the tree of 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StemLimit {
    /// Pictures in the tree, both keyframes included; 3 to 100000.
    Frames(usize),
    /// Seconds, and what a step of one branch takes: for a plan that is made once, and kept by its
    /// numbers. The rule overshoots the time by up to two branches.
    Seconds {
        /// What may be spent, 0 to 1e6.
        budget: f64,
        /// A step of one branch, 0 to 1e6; decoding counts as 0.15 s a picture.
        per_step: f64,
    },
}

/// Branches at the most.
const MOST: usize = 100_000;

impl Branching {
    /// The branching of 2023 for `steps` diffusion steps (`get_time_based_branching`; 7933b99): branches
    /// from `depth` of the steps on at every third step, one at first; then, one by one, another at the
    /// first step whose successor has twice as many, or else at the last. `branches` counts those put in
    /// at each step; the two keyframes are not among them.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit out of range, and for a depth that leaves no step to put a branch in,
    /// at which that version fails.
    pub fn stems(steps: usize, depth: f64, limit: StemLimit) -> Result<Self> {
        if !(0.0..1.0).contains(&depth) {
            return Err(Error::invalid(format!("depth {depth}: wanted 0 to below 1")));
        }
        let within =
            |what: &str, value: f64| match value.is_finite() && (0.0..=1e6).contains(&value) {
                true => Ok(()),
                false => Err(Error::invalid(format!("{what} {value}: wanted 0 to 1000000"))),
            };
        match limit {
            StemLimit::Frames(frames) if !(3..=MOST).contains(&frames) => {
                return Err(Error::invalid(format!(
                    "{frames} frames in the tree: wanted 3 to {MOST}"
                )));
            }
            StemLimit::Seconds { budget, per_step } => {
                within("a time in seconds of", budget)?;
                within("a step in seconds of", per_step)?;
            }
            StemLimit::Frames(_) => {}
        }
        let first = (steps as f64 * depth).round_ties_even() as usize;
        let mut injections: Vec<usize> = (first..steps.saturating_sub(1)).step_by(3).collect();
        if first == 0 || injections.is_empty() {
            return Err(Error::invalid(format!(
                "depth {depth} puts the first branches at step {first} of {steps}, where the original of 2023 fails"
            )));
        }
        let mut branches = vec![1usize; injections.len()];
        for round in 0.. {
            let sum: usize = branches.iter().sum();
            let spent: usize = injections.iter().zip(&branches).map(|(i, n)| (steps - i) * n).sum();
            let behind = branches.windows(2).position(|pair| pair[1] >= 2 * pair[0]);
            let last = branches.len() - 1;
            branches[behind.unwrap_or(last)] += 1;
            let enough = match limit {
                StemLimit::Frames(frames) => sum + 1 >= frames - 2,
                StemLimit::Seconds { budget, per_step } => {
                    spent as f64 * per_step + 0.15 * sum as f64 > budget || sum + 1 >= MOST
                }
            };
            if !enough {
                continue;
            }
            // Too many from the start: fewer steps, with one branch each.
            if let StemLimit::Frames(frames) = limit
                && round == 0
            {
                let (from, to) = (injections[0], injections[last]);
                injections = spread(from, to, frames - 2);
                branches = vec![1; injections.len()];
            }
            break;
        }
        let mut branching = Branching { injections: Vec::new(), branches: Vec::new() };
        for (injection, count) in injections.into_iter().zip(branches) {
            match branching.branches.last_mut() {
                Some(before) if branching.injections.last() == Some(&injection) => *before += count,
                _ => {
                    branching.injections.push(injection);
                    branching.branches.push(count);
                }
            }
        }
        Ok(branching)
    }
}

/// `count` whole numbers from `from` to `to`, cut as numpy's `linspace(...).astype(int)` does.
fn spread(from: usize, to: usize, count: usize) -> Vec<usize> {
    let between = (to - from) as f64 / count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|index| match index > 0 && index + 1 == count {
            true => to,
            false => (from as f64 + index as f64 * between) as usize,
        })
        .collect()
}

/// Where the branches of each level lie: one after the other in the middle of the widest gap, the first
/// of equals. Rising within a level.
pub(super) fn places(branches: &[usize]) -> Vec<Vec<f64>> {
    // Gaps are halves of halves, and their bits order as they do.
    let gap = |from: f64, to: f64| ((to - from).to_bits(), Reverse(from.to_bits()), to.to_bits());
    let mut gaps = BinaryHeap::from([gap(0.0, 1.0)]);
    let place = |gaps: &mut BinaryHeap<_>| {
        let (_, Reverse(from), to) = gaps.pop().unwrap_or(gap(0.0, 1.0));
        let (from, to) = (f64::from_bits(from), f64::from_bits(to));
        let middle = (from + to) / 2.0;
        gaps.push(gap(from, middle));
        gaps.push(gap(middle, to));
        middle
    };
    branches
        .iter()
        .map(|&count| {
            let mut level: Vec<f64> = (0..count).map(|_| place(&mut gaps)).collect();
            level.sort_by(f64::total_cmp);
            level
        })
        .collect()
}
