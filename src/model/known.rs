//! In: what the configurations of a model say. Out: which published model that is, and its licence.
//!
//! The hashes of the published weights could not be had when this was written, so models are told by
//! what sets them apart in their configurations; a model fine-tuned from one of them looks the same.

use super::config::{DiffusionConfig, PredictionType, Spacing, TextConfig, UnetConfig};

/// A published model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// What it is called.
    pub name: &'static str,
    /// The licence that its weights were published under.
    pub licence: &'static str,
    /// Whether it is this very model, rather than one of the same kind.
    pub exact: bool,
}

const RAIL: &str = "CreativeML Open RAIL++-M";

impl Known {
    /// The model embedded in this library.
    #[cfg(any(feature = "demo", feature = "demo-inpainting"))]
    pub(crate) const DEMO: Known =
        Known { name: "latentblend demo model", licence: "MIT OR Apache-2.0", exact: true };

    /// The published model of these sizes and this schedule.
    pub(crate) fn find(
        unet: &UnetConfig,
        text: &TextConfig,
        diffusion: &DiffusionConfig,
    ) -> Option<Self> {
        let full = unet.channels == [320, 640, 1280, 1280]
            && unet.attention == [true, true, true, false]
            && unet.layers == 2
            && unet.context == 1024
            && (text.width, text.layers, text.vocab_size) == (1024, 23, 49408);
        if !full {
            return None;
        }
        let kind = (unet.in_channels, diffusion.prediction_type, diffusion.spacing);
        let (name, licence) = match kind {
            (9, PredictionType::Epsilon, _) => ("Stable Diffusion 2 inpainting", RAIL),
            (4, PredictionType::Velocity, _) => ("Stable Diffusion 2.0 or 2.1 at 768 pixels", RAIL),
            (4, PredictionType::Epsilon, Spacing::Leading) => {
                ("Stable Diffusion 2.0 or 2.1 base at 512 pixels", RAIL)
            }
            (4, PredictionType::Epsilon, Spacing::Trailing) => {
                ("SD-Turbo", "Stability AI Community License")
            }
            _ => return None,
        };
        Some(Known { name, licence, exact: false })
    }
}
