//! In: the trails of two other branches. Out: [`Feed`], which draws a running branch towards what lies
//! between them, before some of its steps.

use super::latent_mix::LatentMix;
use super::state::{State, Trail};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Draws a branch towards the trails of others: before step i, by `coefficients[i]` towards where they
/// were after step i - 1 (the crossfeeds of the original's version of 2023, `run_diffusion_standard`).
#[derive(Clone, Debug)]
pub struct Feed {
    /// The trail of the one branch.
    pub left: Arc<Trail>,
    /// The trail of the other, which may be the same.
    pub right: Arc<Trail>,
    /// The share of the other in what is drawn to, 0 to 1.
    pub mix: f64,
    /// For each step of the schedule how far to go, from 0 (not at all) to 1 (all the way).
    pub coefficients: Arc<[f64]>,
    /// How it is mixed with what it is drawn to, and that from the two.
    pub latent_mix: LatentMix,
}

impl Feed {
    /// Whether the branch is drawn anywhere before `step`.
    pub fn acts_at(&self, step: usize) -> bool {
        step > 0 && self.coefficients.get(step).is_some_and(|&c| c > 0.0)
    }

    /// The state with which to go into `step` in place of `state`.
    ///
    /// # Errors
    /// `Internal` where the trails hold no state for that step.
    pub fn draw(&self, step: usize, state: State) -> Result<State> {
        if !self.acts_at(step) {
            return Ok(state);
        }
        let target = |trail: &'_ Trail| match trail.after(step - 1) {
            Some(state) => Ok(state.clone()),
            None => Err(Error::internal(format!("no state to be drawn to before step {step}"))),
        };
        let target = target(&self.left)?.mix(&target(&self.right)?, self.mix, self.latent_mix)?;
        state.mix(&target, self.coefficients[step], self.latent_mix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Latent;

    fn trail(values: &[f32]) -> Arc<Trail> {
        let state = |&v: &f32| State::from(Latent::new([1, 1, 2], vec![v, 1.0]).unwrap());
        Arc::new(Trail::new(1, values.iter().map(state).collect()).unwrap())
    }

    #[test]
    fn a_branch_is_drawn_only_where_it_shall_be() {
        let (left, right) = (trail(&[0.0, 1.0]), trail(&[0.0, 2.0]));
        let coefficients = Arc::from([1.0, 0.0, 1.0, 1.0, 0.5, 0.0]);
        let feed = Feed { left, right, mix: 0.0, coefficients, latent_mix: LatentMix::Arc };
        let state = State::from(Latent::new([1, 1, 2], vec![5.0, 1.0]).unwrap());
        let value = |step: usize| feed.draw(step, state.clone()).map(|s| s.latent.data()[0]);
        assert_eq!([0, 1, 5, 6].map(|step| value(step).unwrap()), [5.0; 4]);
        assert_eq!((value(2).unwrap(), value(3).unwrap()), (0.0, 1.0));
        assert!(value(4).is_err(), "no state after step 3");
    }
}
