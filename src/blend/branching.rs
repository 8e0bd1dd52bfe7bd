//! In: steps, depth, a number of leaves. Out: [`Branching`], at which steps branches leave, and how many.
//!
//! The rule is that of the original's version of 2022 (`autosetup_branching`); that of 2023 is in `stems.rs`.

use super::plan::Look;
use crate::error::{Error, Result};

/// Where branches leave, and how many there are from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branching {
    /// Diffusion steps, rising.
    pub injections: Vec<usize>,
    /// Branches from each of those steps on.
    pub branches: Vec<usize>,
}

/// The most levels of a tree.
pub(super) const LEVELS: usize = 64;

/// Steps between two injections at the least.
const DISTANCE: usize = 3;

impl Branching {
    /// The branching for `steps` diffusion steps: the first branches leave at `depth` of them, and
    /// their number grows geometrically up to `leaves`.
    ///
    /// [`Look::Compat2022`] keeps what 2022's rule does beyond that: it gives no tree for fewer than 10
    /// steps, injections past the end for a depth close to 1, and drops all leaves along with an
    /// injection that it drops.
    ///
    /// # Errors
    /// `InvalidArgument` for a depth outside 0..1, or for fewer than 2 leaves.
    pub fn automatic(steps: usize, depth: f64, leaves: usize, look: Look) -> Result<Self> {
        if !(0.0..1.0).contains(&depth) {
            return Err(Error::invalid(format!("depth {depth}: wanted 0 to below 1")));
        }
        if leaves < 2 {
            return Err(Error::invalid(format!("{leaves} leaves: wanted at least 2")));
        }
        let current = look != Look::Compat2022;
        let mut first = (steps as f64 * depth).round_ties_even();
        let mut last = steps as f64 - DISTANCE as f64;
        let mut count = (steps / 5).saturating_sub(1);
        let mut distance = DISTANCE;
        if current && steps < 2 {
            count = 0;
        } else if current {
            count = count.max(1);
            distance = DISTANCE.min((steps / 5).max(1));
            first = first.clamp(1.0, (steps - 1) as f64);
            last = last.max(first);
        } else if first >= steps as f64 {
            return Err(Error::invalid(format!(
                "depth {depth} puts the first branches at step {first} of {steps}"
            )));
        }
        // Spaced as numpy's linspace, whose last value is exact.
        let between = if count > 1 { (last - first) / (count - 1) as f64 } else { 0.0 };
        let mut branching = Branching { injections: vec![0], branches: vec![2] };
        for index in 0..count {
            let exact = index > 0 && index + 1 == count;
            let injection = if exact { last } else { first + index as f64 * between } as usize;
            let before = branching.injections.last().copied().unwrap_or(0);
            if injection >= before + distance {
                let share = (index + 1) as f64 / count as f64;
                let (two, all) = (2f64.log10(), (leaves as f64).log10());
                let branches = 10f64.powf(two + (all - two) * share).round_ties_even();
                branching.injections.push(injection);
                branching.branches.push(branches as usize);
            }
        }
        if current
            && branching.branches.len() > 1
            && let Some(last) = branching.branches.last_mut()
        {
            *last = leaves;
        }
        Ok(branching)
    }

    /// Checks a branching against a number of steps, and puts the two keyframes in front where they
    /// are missing.
    pub(super) fn checked(mut self, steps: usize) -> Result<Self> {
        if self.injections.len() != self.branches.len() {
            return Err(Error::invalid(format!(
                "{} injections and {} branch counts: wanted as many of one as of the other",
                self.injections.len(),
                self.branches.len()
            )));
        }
        if self.injections.first() != Some(&0) {
            self.injections.insert(0, 0);
            self.branches.insert(0, 2);
        }
        if self.branches[0] != 2 {
            return Err(Error::invalid(format!(
                "{} branches at step 0: wanted 2, the keyframes",
                self.branches[0]
            )));
        }
        if let Some(pair) = self.injections.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(format!(
                "injections at steps {} and {}: wanted rising steps",
                pair[0], pair[1]
            )));
        }
        if let Some(late) = self.injections.iter().find(|&&step| step >= steps) {
            return Err(Error::invalid(format!("an injection at step {late} of {steps}")));
        }
        if self.injections.len() > LEVELS {
            let count = self.injections.len();
            return Err(Error::invalid(format!("{count} injections: wanted up to {LEVELS}")));
        }
        const MOST: usize = 100_000;
        if let Some(odd) = self.branches.iter().find(|&&n| !(2..=MOST).contains(&n)) {
            return Err(Error::invalid(format!("{odd} branches: wanted 2 to {MOST}")));
        }
        Ok(self)
    }
}
