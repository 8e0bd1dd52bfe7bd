//! In: what the configurations of a model say. Out: which published model that is, and its licence.
//!
//! The hashes of the published weights could not be had when this was written, so models are told by
//! what sets them apart in their configurations; a model fine-tuned from one of them looks the same.
//!
//! Licences are those that the models' own cards and repositories name: `LICENSE-MODEL` of
//! Stability-AI/stablediffusion and the cards of stable-diffusion-2, -2-base, -2-inpainting and -2-1 say
//! CreativeML Open RAIL++-M (24 November 2022); sd-turbo came out under the Stability AI Non-Commercial
//! Research Community License (28 November 2023), and its card now points to stability.ai/license, the
//! Stability AI Community License.

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
    /// Where the licence's text is published; empty where it travels with this library.
    pub url: &'static str,
}

const RAIL: (&str, &str) = (
    "CreativeML Open RAIL++-M",
    "https://github.com/Stability-AI/stablediffusion/blob/main/LICENSE-MODEL",
);
const TURBO: (&str, &str) = (
    "Stability AI Community License; at first, Stability AI Non-Commercial Research Community License",
    "https://stability.ai/license",
);

impl Known {
    /// The model embedded in this library.
    #[cfg(any(feature = "demo", feature = "demo-inpainting"))]
    pub(crate) const DEMO: Known = Known {
        name: "latentblend demo model",
        licence: "MIT OR Apache-2.0",
        exact: true,
        url: "",
    };

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
        let (name, (licence, url)) = match kind {
            (9, PredictionType::Epsilon, _) => ("Stable Diffusion 2 inpainting", RAIL),
            (4, PredictionType::Velocity, _) => ("Stable Diffusion 2.0 or 2.1 at 768 pixels", RAIL),
            (4, PredictionType::Epsilon, Spacing::Leading) => {
                ("Stable Diffusion 2.0 or 2.1 base at 512 pixels", RAIL)
            }
            (4, PredictionType::Epsilon, Spacing::Trailing) => ("SD-Turbo", TURBO),
            _ => return None,
        };
        Some(Known { name, licence, exact: false, url })
    }
}
