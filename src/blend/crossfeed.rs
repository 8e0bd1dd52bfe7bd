//! In: power, range and decay. Out: how far a branch is drawn to others before each of its steps.

use crate::error::{Error, Result};

/// How strongly branches are drawn to others on their way, so that they keep more of them. The formulas
/// are those of the original's version of 2023 (`compute_latents2`, `compute_latents_mix`; 7933b99).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Crossfeed {
    /// How far a branch is drawn at first, 0 (not at all) to 1 (onto the other).
    pub power: f64,
    /// Up to which share of the steps, 0 to 1.
    pub range: f64,
    /// What share of the power is left at the end of the range, 0 to 1.
    pub decay: f64,
}

impl Crossfeed {
    /// None.
    pub const OFF: Crossfeed = Crossfeed { power: 0.0, range: 0.0, decay: 0.0 };

    /// A crossfeed of `power`, over `range` of the steps, down to `decay` of its power.
    pub fn new(power: f64, range: f64, decay: f64) -> Self {
        Crossfeed { power, range, decay }
    }

    pub(super) fn check(&self, name: &str) -> Result<()> {
        for (what, value) in [("power", self.power), ("range", self.range), ("decay", self.decay)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::invalid(format!(
                    "{name} crossfeed {what} {value}: wanted 0 to 1"
                )));
            }
        }
        Ok(())
    }

    /// The first of `steps` steps before which nothing is drawn any more.
    pub fn stop(&self, steps: usize) -> usize {
        (steps as f64 * self.range).round_ties_even() as usize
    }

    /// For each of `steps` steps how far a branch that starts at `start` is drawn before it: from the
    /// power in a straight line to decay x power at the end of the range. Before its very first step it
    /// is where it would be drawn to, so there the coefficient is 0; the first that counts has decayed
    /// once already.
    pub fn coefficients(&self, steps: usize, start: usize) -> Vec<f64> {
        let count = self.stop(steps).min(steps).saturating_sub(start);
        let last = self.power * self.decay;
        let between = (last - self.power) / count.saturating_sub(1).max(1) as f64;
        (0..steps)
            .map(|step| match step.checked_sub(start) {
                // Spaced as numpy's linspace, whose last value is exact.
                Some(index) if index > 0 && index + 1 == count => last,
                Some(index) if index > 0 && index < count => self.power + index as f64 * between,
                _ => 0.0,
            })
            .collect()
    }
}
