//! In: latents. Out: [`State`], what a run carries from one step to the next, and [`Trail`], the states
//! along a run.

use super::latent::Latent;
use super::latent_mix::LatentMix;
use super::slerp::lerp;
use crate::error::{Error, Result};

/// What a run carries from one step to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The latent.
    pub latent: Latent,
    /// What a multistep sampler remembers: the clean latent that was predicted in the step before.
    /// `None` before the first step, and for samplers of one step.
    pub history: Option<Latent>,
}

impl From<Latent> for State {
    fn from(latent: Latent) -> Self {
        State { latent, history: None }
    }
}

impl State {
    /// The state at `fraction` between this one (0) and `other` (1); both ends are exact.
    ///
    /// Latents go as `mix` says: noise of full size must be in between, too. Beside an arc for the whole latent,
    /// predictions of clean latents, which hold no noise, go along the straight line, which is also what a
    /// prediction does when the latent goes over from the one to the other (docs/architecture.md has the
    /// figures); mixed by bands, whose detail keeps its size, they do as the latents. Where one side has no
    /// history, the mix has none, and a run from there begins at first order.
    ///
    /// # Errors
    /// `InvalidArgument` where the shapes differ.
    pub fn mix(&self, other: &State, fraction: f64, mix: LatentMix) -> Result<State> {
        if fraction == 0.0 {
            return Ok(self.clone());
        }
        if fraction == 1.0 {
            return Ok(other.clone());
        }
        let history = match (&self.history, &other.history) {
            (Some(p), Some(q)) => Some(match mix {
                LatentMix::Arc => lerp(p, q, fraction)?,
                LatentMix::Bands => mix.between(p, q, fraction)?,
            }),
            _ => None,
        };
        Ok(State { latent: mix.between(&self.latent, &other.latent, fraction)?, history })
    }

    /// The memory that the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.latent.bytes() + self.history.as_ref().map_or(0, Latent::bytes)
    }
}

/// The states of one branch after some consecutive steps of its schedule, the last of its run included.
#[derive(Clone, Debug, PartialEq)]
pub struct Trail {
    first: usize,
    states: Vec<State>,
}

impl Trail {
    /// The `states` after step `first` of a schedule and those that follow.
    ///
    /// # Errors
    /// `InvalidArgument` for no states.
    pub fn new(first: usize, states: Vec<State>) -> Result<Self> {
        if states.is_empty() {
            return Err(Error::invalid("a trail without states"));
        }
        Ok(Trail { first, states })
    }

    /// The state after step `step`, if it was kept.
    pub fn after(&self, step: usize) -> Option<&State> {
        self.states.get(step.checked_sub(self.first)?)
    }

    /// The state at the run's end.
    pub fn last(&self) -> &State {
        // Never empty: `new` sees to it.
        &self.states[self.states.len() - 1]
    }

    /// The states, in the order of the steps.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The step after which the first of the states was kept.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many states were kept.
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// The memory that the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.states.iter().map(State::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latent(values: [f32; 2]) -> Latent {
        Latent::new([1, 1, 2], values.to_vec()).unwrap()
    }

    #[test]
    fn the_ends_of_a_mix_are_exact_and_history_goes_along() {
        let p = State { latent: latent([1.0, 0.0]), history: Some(latent([1.0, 3.0])) };
        let q = State { latent: latent([0.0, 1.0]), history: Some(latent([3.0, 1.0])) };
        let bare = State::from(latent([0.0, 1.0]));
        for mix in LatentMix::ALL {
            assert_eq!(p.mix(&q, 0.0, mix).unwrap(), p);
            assert_eq!(p.mix(&q, 1.0, mix).unwrap(), q);
            assert_eq!(p.mix(&p, 0.3, mix).unwrap(), p);
            assert_eq!(p.mix(&q, 0.5, mix).unwrap().history.unwrap(), latent([2.0, 2.0]));
            assert_eq!(p.mix(&bare, 0.5, mix).unwrap().history, None);
        }
        assert_eq!((p.bytes(), bare.bytes()), (16, 8));
    }

    #[test]
    fn a_trail_knows_its_steps() {
        let states = [1.0, 2.0].map(|v| State::from(latent([v, v]))).to_vec();
        let trail = Trail::new(3, states.clone()).unwrap();
        assert_eq!(trail.after(2), None);
        assert_eq!(trail.after(3), Some(&states[0]));
        assert_eq!((trail.after(4), trail.last()), (Some(&states[1]), &states[1]));
        assert_eq!((trail.after(5), trail.bytes(), trail.count()), (None, 16, 2));
        assert!(Trail::new(3, Vec::new()).is_err());
    }
}
