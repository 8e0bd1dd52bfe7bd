//! In: `scheduler/scheduler_config.json`. Out: the noise schedule that a model was trained with, what
//! its UNet predicts, and which timesteps a run visits.

use super::{checked, refuse};
use crate::error::Result;
use crate::model::Source;
use serde::Deserialize;

/// What the UNet predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PredictionType {
    /// The noise.
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022).
    #[serde(rename = "v_prediction")]
    Velocity,
}

/// Which of the training timesteps a run visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Multiples of 1000 / steps, rounded down, plus the offset: Stable Diffusion 2.
    Leading,
    /// Counted down from the last timestep: SD-Turbo.
    Trailing,
    /// From the last timestep to the first, both included, rounded.
    Linspace,
}

/// The noise schedule that a model was trained with, and how it is sampled.
#[derive(Clone, Debug)]
pub struct DiffusionConfig {
    /// Timesteps of the training.
    pub train_steps: usize,
    /// The first beta.
    pub beta_start: f64,
    /// The last beta.
    pub beta_end: f64,
    /// Whether betas are spaced evenly in their square root (`scaled_linear`) or themselves.
    pub square_root_spacing: bool,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// Which timesteps a run visits.
    pub spacing: Spacing,
    /// Added to each timestep of the leading spacing.
    pub steps_offset: usize,
    /// Whether the last step ends at a signal share of 1, rather than at that of timestep 0.
    pub final_alpha_one: bool,
}

#[derive(Debug, Deserialize)]
struct SchedulerFile {
    #[serde(rename = "_class_name", default)]
    class_name: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
    beta_start: f64,
    beta_end: f64,
    #[serde(default)]
    beta_schedule: String,
    prediction_type: Option<PredictionType>,
    timestep_spacing: Option<String>,
    #[serde(default)]
    steps_offset: usize,
    set_alpha_to_one: Option<bool>,
}

fn thousand() -> usize {
    1000
}

/// Settings that Stable Diffusion 2 leaves at one value; see the UNet's.
const SCHEDULER_FIXED: &[(&str, &[&str])] = &[
    ("thresholding", &["false"]),
    ("clip_sample", &["false"]),
    ("rescale_betas_zero_snr", &["false"]),
    ("trained_betas", &[]),
    ("use_flow_sigmas", &["false"]),
];

impl DiffusionConfig {
    /// The configuration, and whether it says, or implies, what the UNet predicts.
    pub(crate) fn read(source: &Source) -> Result<(Self, bool)> {
        const NAME: &str = "scheduler/scheduler_config.json";
        let file: SchedulerFile = checked(source, NAME, SCHEDULER_FIXED)?;
        let no = |what: String| refuse(source, NAME, what);
        let square_root_spacing = match file.beta_schedule.as_str() {
            "scaled_linear" => true,
            "linear" => false,
            other => {
                return no(format!("beta_schedule '{other}': wanted 'scaled_linear' or 'linear'"));
            }
        };
        // What goes without saying depends on the class that wrote the file, as in diffusers.
        let even = ["DPMSolver", "Euler"].iter().any(|class| file.class_name.starts_with(class));
        let spacing = match file.timestep_spacing.as_deref() {
            None if even => Spacing::Linspace,
            None | Some("leading") => Spacing::Leading,
            Some("trailing") => Spacing::Trailing,
            Some("linspace") => Spacing::Linspace,
            Some(other) => {
                return no(format!(
                    "timestep_spacing '{other}': wanted 'leading', 'trailing' or 'linspace'"
                ));
            }
        };
        if !(2..=100_000).contains(&file.num_train_timesteps) {
            return no(format!(
                "num_train_timesteps {}: wanted 2 to 100000",
                file.num_train_timesteps
            ));
        }
        if file.steps_offset >= file.num_train_timesteps {
            return no(format!("steps_offset {}: beyond the timesteps", file.steps_offset));
        }
        // Euler's last step ends at no noise, whatever its file says; the default of the field is that
        // of the class that wrote the file, and PNDM's differs from DDIM's.
        let final_alpha_one = file.class_name.starts_with("Euler")
            || file.set_alpha_to_one.unwrap_or(file.class_name != "PNDMScheduler");
        let betas = [file.beta_start, file.beta_end];
        if betas.iter().any(|beta| !(*beta > 0.0 && *beta < 1.0)) {
            return no(format!("betas {betas:?}: wanted numbers between 0 and 1"));
        }
        // To diffusers, whose file names its class, the noise goes without saying.
        let stated = file.prediction_type.is_some() || !file.class_name.is_empty();
        let config = DiffusionConfig {
            train_steps: file.num_train_timesteps,
            beta_start: file.beta_start,
            beta_end: file.beta_end,
            square_root_spacing,
            prediction_type: file.prediction_type.unwrap_or(PredictionType::Epsilon),
            spacing,
            steps_offset: file.steps_offset,
            final_alpha_one,
        };
        Ok((config, stated))
    }
}
