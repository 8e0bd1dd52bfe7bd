//! In: one step of a schedule. Out: the weights with which a latent and the UNet's predictions make
//! the next latent.

use super::schedule::Step;
use crate::model::PredictionType;

/// The next latent is `latent` x the latent + `prediction` x the guided prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepWeights {
    /// The share of the latent.
    pub latent: f64,
    /// The share of the prediction.
    pub prediction: f64,
}

/// Deterministic DDIM (Song et al. 2021, equation 12 with sigma 0), solved for latent and prediction:
/// x0 = (x - sqrt(1 - a) e) / sqrt(a), next = sqrt(a') x0 + sqrt(1 - a') e for noise predictions, and
/// x0 = sqrt(a) x - sqrt(1 - a) v, e = sqrt(a) v + sqrt(1 - a) x for velocities (Salimans & Ho 2022).
pub fn ddim(step: &Step, prediction: PredictionType) -> StepWeights {
    let (signal, noise) = (step.alpha.sqrt(), (1.0 - step.alpha).sqrt());
    let (next_signal, next_noise) = (step.alpha_next.sqrt(), (1.0 - step.alpha_next).sqrt());
    match prediction {
        PredictionType::Epsilon => StepWeights {
            latent: next_signal / signal,
            prediction: next_noise - next_signal * noise / signal,
        },
        PredictionType::Velocity => StepWeights {
            latent: next_signal * signal + next_noise * noise,
            prediction: next_noise * signal - next_signal * noise,
        },
    }
}
