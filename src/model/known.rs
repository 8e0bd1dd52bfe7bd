//! In: what the configurations of a model say. Out: which published model that is, and its licence.
//!
//! The hashes of the published weights could not be had when this was written, so models are told by
//! what sets them apart in their configurations; a model fine-tuned from one of them looks the same.
//!
//! What the table says was read where the models' makers say it:
//!
//! * Licences: `LICENSE-MODEL` of Stability-AI/stablediffusion, and the cards of stable-diffusion-2, -2-base,
//!   -2-inpainting, -2-1 and -2-1-base, say CreativeML Open RAIL++-M (24 November 2022).
//!   `model_licenses/LICENCE-SD-Turbo` of Stability-AI/generative-models is the Stability AI Non-Commercial
//!   Research Community License (28 November 2023); the card of sd-turbo now points to stability.ai/license,
//!   the Stability AI Community License.
//! * Predictions: `modelcard.md` of Stability-AI/stablediffusion has a v-objective for `768-v-ema.ckpt` (2.0,
//!   and 2.1, which goes on from it) and none for `512-base-ema.ckpt` and `512-inpainting-ema.ckpt`. The
//!   configuration of the latter (`v2-inpainting-inference.yaml`) has nine channels in and no
//!   `parameterization`, and its `scheduler_config.json` no `prediction_type`, which both mean the noise.
//! * Spacing: that of sd-turbo alone has `"timestep_spacing": "trailing"`, with the noise as its prediction.
//!
//! `512-depth-ema.ckpt` has five channels in and the unCLIP models class embeddings; both are refused where
//! configurations are read. Stability AI has withdrawn the folders of Stable Diffusion 2 from Hugging Face
//! in November 2025; copies are kept by others.

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
