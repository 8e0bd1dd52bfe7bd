//! In: steps of a schedule. Out: the weights with which a latent, the UNet's predictions and a
//! sampler's memory make the next latent.

use super::schedule::Step;
use crate::model::PredictionType;

/// How a run goes from one latent to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sampler {
    /// Deterministic DDIM (Song et al. 2021): first order.
    #[default]
    Ddim,
    /// DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2): second order from one
    /// evaluation a step, by what the step before predicted. As good as DDIM in about half the steps.
    DpmSolver2M,
}

impl Sampler {
    /// All samplers.
    pub const ALL: [Sampler; 2] = [Sampler::Ddim, Sampler::DpmSolver2M];

    /// Its name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Sampler::Ddim => "ddim",
            Sampler::DpmSolver2M => "dpm++2m",
        }
    }

    /// Whether a step needs what the step before predicted.
    pub fn multistep(self) -> bool {
        self == Sampler::DpmSolver2M
    }
}

/// The next latent is `latent` x the latent + `prediction` x the guided prediction + `history` x the
/// clean latent that was predicted in the step before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepWeights {
    /// The share of the latent.
    pub latent: f64,
    /// The share of the prediction.
    pub prediction: f64,
    /// The share of the history; 0 where a step does without.
    pub history: f64,
}

/// Deterministic DDIM (Song et al. 2021, equation 12 with sigma 0), solved for latent and prediction:
/// x0 = (x - sqrt(1 - a) e) / sqrt(a), next = sqrt(a') x0 + sqrt(1 - a') e for noise predictions, and
/// x0 = sqrt(a) x - sqrt(1 - a) v, e = sqrt(a) v + sqrt(1 - a) x for velocities (Salimans & Ho 2022).
pub fn ddim(step: &Step, prediction: PredictionType) -> StepWeights {
    let (signal, noise) = (step.alpha.sqrt(), (1.0 - step.alpha).sqrt());
    let (next_signal, next_noise) = (step.alpha_next.sqrt(), (1.0 - step.alpha_next).sqrt());
    let (latent, prediction) = match prediction {
        PredictionType::Epsilon => {
            (next_signal / signal, next_noise - next_signal * noise / signal)
        }
        PredictionType::Velocity => {
            (next_signal * signal + next_noise * noise, next_noise * signal - next_signal * noise)
        }
    };
    StepWeights { latent, prediction, history: 0.0 }
}

/// The clean latent that a prediction stands for, x0 in [`ddim`], by the same two shares.
pub fn data_prediction(step: &Step, prediction: PredictionType) -> StepWeights {
    let (signal, noise) = (step.alpha.sqrt(), (1.0 - step.alpha).sqrt());
    let (latent, prediction) = match prediction {
        PredictionType::Epsilon => (1.0 / signal, -noise / signal),
        PredictionType::Velocity => (signal, -noise),
    };
    StepWeights { latent, prediction, history: 0.0 }
}

/// DPM-Solver++(2M) (Lu et al. 2022, algorithm 2; the multistep form of its second-order solver for
/// data prediction). With lambda = ln(sqrt(a) / sqrt(1 - a)), h the step in lambda and r the step
/// before in units of h, m the clean latent as predicted now and m' as predicted in the step `before`:
///
/// next = sqrt(1 - a') / sqrt(1 - a) x + sqrt(a') (1 - exp(-h)) ((1 + 1 / 2r) m - 1 / 2r m')
///
/// Without a step before it is of first order, and then the same as [`ddim`]; so is the step to a
/// latent without noise, where h is infinite (as in diffusers' `DPMSolverMultistepScheduler` with its
/// defaults).
pub fn dpm_solver_2m(step: &Step, before: Option<&Step>, kind: PredictionType) -> StepWeights {
    let (signal, noise) = (step.alpha.sqrt(), (1.0 - step.alpha).sqrt());
    let (next_signal, next_noise) = (step.alpha_next.sqrt(), (1.0 - step.alpha_next).sqrt());
    let lambda = |alpha: f64| (alpha / (1.0 - alpha)).ln() / 2.0;
    // exp(-h) without the logarithms.
    let data = next_signal - signal * next_noise / noise;
    let second = match before {
        Some(before) if step.alpha_next < 1.0 => {
            let (h, h_before) = (
                lambda(step.alpha_next) - lambda(step.alpha),
                lambda(step.alpha) - lambda(before.alpha),
            );
            h / (2.0 * h_before)
        }
        _ => 0.0,
    };
    let clean = data_prediction(step, kind);
    StepWeights {
        latent: next_noise / noise + data * (1.0 + second) * clean.latent,
        prediction: data * (1.0 + second) * clean.prediction,
        history: -data * second,
    }
}
