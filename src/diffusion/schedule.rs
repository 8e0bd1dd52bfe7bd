//! In: the schedule that a model was trained with, and a number of steps. Out: [`Schedule`], the
//! timesteps of a run and the signal shares at them.

use super::sampler::{Sampler, StepWeights, ddim, dpm_solver_2m};
use crate::error::{Error, Result};
use crate::model::{DiffusionConfig, PredictionType, Spacing};

/// Which rule turns a number of steps into timesteps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchedulePolicy {
    /// Exactly the number asked for, with the spacing that the model's configuration names.
    #[default]
    Model,
    /// What the original of 2022 ran for that number: the `ldm` DDIM schedule made for one step less,
    /// cut off after the number asked for. Its length need not be that number.
    Compat2022,
    /// The same of the original of 2023, which runs all of it, and fails where it has not just as many
    /// steps as were asked for.
    Compat2023,
}

/// One step of a run: from signal share `alpha` at `timestep` to `alpha_next`.
///
/// A signal share is the product of (1 - beta) up to a timestep (alpha-bar in Ho et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What the UNet is told.
    pub timestep: usize,
    /// The signal share of the latent that goes in.
    pub alpha: f64,
    /// The signal share of the latent that comes out.
    pub alpha_next: f64,
}

/// The steps of a run, from noise to picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// In the order in which they run.
    pub steps: Vec<Step>,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// How a run goes from step to step.
    pub sampler: Sampler,
}

impl Schedule {
    /// The schedule of `count` steps of DDIM.
    ///
    /// # Errors
    /// Those of [`Schedule::with_sampler`].
    pub fn new(config: &DiffusionConfig, count: usize, policy: SchedulePolicy) -> Result<Self> {
        Schedule::with_sampler(config, count, policy, Sampler::Ddim)
    }

    /// The schedule of `count` steps of a sampler, spaced as diffusers spaces them for it.
    ///
    /// # Errors
    /// `InvalidArgument` for 0 steps, for as many steps as the training has timesteps, for a number at
    /// which the original of 2022 or 2023 fails itself, and for a sampler that it did not have.
    pub fn with_sampler(
        config: &DiffusionConfig,
        count: usize,
        policy: SchedulePolicy,
        sampler: Sampler,
    ) -> Result<Self> {
        if config.train_steps < 2 || config.steps_offset >= config.train_steps {
            return Err(Error::invalid(format!(
                "{} training timesteps with an offset of {}: wanted at least 2, and a smaller offset",
                config.train_steps, config.steps_offset
            )));
        }
        let most = config.train_steps - 1;
        if !(1..=most).contains(&count) {
            return Err(Error::invalid(format!("{count} steps: wanted 1 to {most}")));
        }
        let shares = signal_shares(config);
        let year = match policy {
            SchedulePolicy::Model => None,
            SchedulePolicy::Compat2022 => Some(2022),
            SchedulePolicy::Compat2023 => Some(2023),
        };
        let steps = match (year, sampler) {
            (Some(year), Sampler::Ddim) => ldm_steps(&shares, count, year)?,
            (Some(year), other) => {
                let name = other.name();
                return Err(Error::invalid(format!("sampler {name}: compat {year} has ddim")));
            }
            (None, Sampler::Ddim) => model_steps(config, &shares, count)?,
            (None, Sampler::DpmSolver2M) => solver_steps(config, &shares, count)?,
        };
        Ok(Schedule { steps, prediction_type: config.prediction_type, sampler })
    }

    /// The weights of step `index`, for a run that has a `history` or none. Steps beyond the schedule
    /// are no steps: they leave a latent as it is.
    pub fn weights(&self, index: usize, history: bool) -> StepWeights {
        let Some(step) = self.steps.get(index) else {
            return StepWeights { latent: 1.0, prediction: 0.0, history: 0.0 };
        };
        match self.sampler {
            Sampler::Ddim => ddim(step, self.prediction_type),
            Sampler::DpmSolver2M => {
                let before = index.checked_sub(1).filter(|_| history).map(|b| &self.steps[b]);
                dpm_solver_2m(step, before, self.prediction_type)
            }
        }
    }
}

/// alpha-bar of every training timestep.
fn signal_shares(config: &DiffusionConfig) -> Vec<f64> {
    let root = |beta: f64| {
        if config.square_root_spacing { beta.sqrt() } else { beta }
    };
    let (start, end) = (root(config.beta_start), root(config.beta_end));
    let mut share = 1.0;
    (0..config.train_steps)
        .map(|index| {
            let beta = start + (end - start) * index as f64 / (config.train_steps - 1) as f64;
            share *= 1.0 - if config.square_root_spacing { beta * beta } else { beta };
            share
        })
        .collect()
}

/// DDIM's timesteps as diffusers spaces them (Song et al. 2021; `DDIMScheduler.set_timesteps`).
fn model_steps(config: &DiffusionConfig, shares: &[f64], count: usize) -> Result<Vec<Step>> {
    let train = config.train_steps;
    let stride = train / count;
    let last = if config.final_alpha_one { 1.0 } else { shares[0] };
    let timestep = |index: usize| match config.spacing {
        Spacing::Leading => (count - 1 - index) * stride + config.steps_offset,
        // Rounded half to even, as numpy does.
        Spacing::Trailing => {
            let exact = train as f64 - index as f64 * (train as f64 / count as f64);
            (exact.round_ties_even() as usize).saturating_sub(1)
        }
        Spacing::Linspace => {
            let between = (train - 1) as f64 / (count.max(2) - 1) as f64;
            ((count - 1 - index) as f64 * between).round_ties_even() as usize
        }
    };
    (0..count)
        .map(|index| {
            let timestep = timestep(index);
            let alpha = *shares.get(timestep).ok_or_else(|| {
                Error::invalid(format!(
                    "{count} steps with an offset of {} reach timestep {timestep} of {train}",
                    config.steps_offset
                ))
            })?;
            let alpha_next = timestep.checked_sub(stride).map_or(last, |before| shares[before]);
            Ok(Step { timestep, alpha, alpha_next })
        })
        .collect()
}

/// The timesteps of a multistep solver as diffusers spaces them (`DPMSolverMultistepScheduler` with its
/// defaults): those that lie before the last of one more, which is the end, without noise.
fn solver_steps(config: &DiffusionConfig, shares: &[f64], count: usize) -> Result<Vec<Step>> {
    let train = config.train_steps;
    let timestep = |index: usize| match config.spacing {
        Spacing::Leading => (count - index) * (train / (count + 1)) + config.steps_offset,
        // Rounded half to even, as numpy does.
        Spacing::Trailing => {
            let exact = train as f64 - index as f64 * (train as f64 / count as f64);
            (exact.round_ties_even() as usize).saturating_sub(1)
        }
        Spacing::Linspace => {
            let between = (train - 1) as f64 / count as f64;
            ((count - index) as f64 * between).round_ties_even() as usize
        }
    };
    let timesteps: Vec<usize> = (0..count).map(timestep).collect();
    let share = |&timestep: &usize| {
        shares.get(timestep).copied().ok_or_else(|| {
            Error::invalid(format!(
                "{count} steps with an offset of {} reach timestep {timestep} of {train}",
                config.steps_offset
            ))
        })
    };
    let alphas = timesteps.iter().map(share).collect::<Result<Vec<f64>>>()?;
    let next = alphas.iter().copied().skip(1).chain([1.0]);
    let steps = timesteps.iter().zip(&alphas).zip(next);
    Ok(steps
        .map(|((&timestep, &alpha), alpha_next)| Step { timestep, alpha, alpha_next })
        .collect())
}

/// The steps that the original of 2022 or 2023 ran when asked for `count` (its
/// `make_schedule(count - 1)`).
fn ldm_steps(shares: &[f64], count: usize, year: u32) -> Result<Vec<Step>> {
    let train = shares.len();
    let stride = match count {
        0 | 1 => {
            return Err(Error::invalid(format!("{count} steps: compat {year} wants at least 2")));
        }
        _ => train / (count - 1),
    };
    let timesteps: Vec<usize> = (0..train).step_by(stride).map(|t| t + 1).collect();
    if timesteps.last().is_some_and(|&t| t >= train) {
        return Err(Error::invalid(format!(
            "{count} steps: the original of {year} reaches timestep {train} of {train} and fails"
        )));
    }
    if year == 2023 && timesteps.len() != count {
        return Err(Error::invalid(format!(
            "{count} steps: the original of {year} makes a schedule of {} and fails",
            timesteps.len()
        )));
    }
    let alpha_next = |index: usize| match index.checked_sub(1) {
        Some(before) => shares[timesteps[before]],
        None => shares[0],
    };
    Ok(timesteps
        .iter()
        .enumerate()
        .rev()
        .take(count)
        .map(|(index, &timestep)| Step {
            timestep,
            alpha: shares[timestep],
            alpha_next: alpha_next(index),
        })
        .collect())
}
