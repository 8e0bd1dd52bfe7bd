//! Seamless transitions between prompts with Stable Diffusion 2.0, by *latent blending*.
//!
//! A [`Session`] joins keyframes (a prompt and a seed each) and answers "give me the frame at t" for any
//! t, exactly, in any order, from any thread: intermediate latents of the keyframes' diffusion runs are
//! mixed on a sphere over a branching tree, and each frame runs the remaining diffusion steps for its
//! very own t. One picture slowly becomes the other, with no motion, and every frame is a picture of its
//! own rather than a cross-fade.
//!
//! ```
//! use latentblend::{BlendOptions, Call, Keyframe, Model, Preset, Session};
//!
//! # fn main() -> latentblend::Result<()> {
//! let model = Model::demo(&Call::new())?; // or Model::load("path/to/stable-diffusion-2", ...)
//! let keyframes = [
//!     Keyframe::new("a mountain lake at dawn", 420),
//!     Keyframe::new("a lighthouse by the sea at night", 69731932).negative("rain"),
//! ];
//! let options = BlendOptions { preset: Preset::Lowest, ..BlendOptions::default() };
//! let session = Session::new(&model, &keyframes, &options)?;
//! let frame = session.render(0.5, &Call::new())?; // half-way
//! assert_eq!(frame.to_rgb8().len(), 128 * 128 * 3);
//! # Ok(())
//! # }
//! ```
//!
//! # The path of a frame
//!
//! ```text
//! prompt ─ tokenizer ─▶ ids ─ text encoder ─▶ conditioning ─┐
//! seed ─── noise ─▶ start latent ───────────────────────────┤   plan: numbers only
//!                                                           ▼   (levels, fractions, parents)
//!                       denoise: a batch of branches, one UNet call per diffusion step
//!                                                           ▼
//!                       latent at t ─ VAE decode ─▶ Frame (RGB f32)
//! ```
//!
//! The modules stand in that order and each uses only those before it: `error`, `progress`, `frame`,
//! [`backend`] (operations on the hardware), `model` (files), `net` (the three networks), `diffusion`
//! (noise, schedule, sampler), `blend` (mixing, plan, tree, session), `doctor` (a report on all of them). `docs/architecture.md` walks the
//! same path at length.
//!
//! # Conduct
//!
//! Nothing is printed, nothing is fetched, and the process is never ended. Every function may be called
//! from any thread at any time; calls that need the same device take turns of one UNet evaluation.
//! Progress and cancelling belong to one call and go through [`Call`].
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

pub mod backend;
mod blend;
pub mod capi;
mod diffusion;
mod doctor;
mod error;
mod frame;
mod model;
mod net;
mod progress;

pub use backend::{DeviceChoice, Precision};
pub use blend::{
    Adapt, BlendOptions, Branching, Crossfeed, Curve, Distance, Easing, EmbeddingMix, Even,
    GuidanceDamping, Inpainting, Interpolation, Keyframe, KeyframeImage, Level, Look, Origin,
    Output, Pace, Parents, Plan, Preset, RestoreOptions, SESSION_FORMAT, Segment, Session,
    StemLimit, Target, Timeline, Timing, inverse, mix_contexts, parents, spacing,
};
pub use diffusion::{
    Batch, Branch, Context, Denoising, Engine, Feed, GuidanceSteps, Latent, LatentMix, Model,
    ModelInfo, Needs, NoiseKind, Posterior, Sampler, Schedule, SchedulePolicy, State, Step,
    StepWeights, Trail, convert, cpu_normals, cuda_normals, data_prediction, ddim, dpm_solver_2m,
    noise, slerp,
};
pub use doctor::doctor;
pub use error::{Error, ErrorKind, Result};
pub use frame::{
    Filter, Fit, Format, Frame, Highlights, ImageMut, ImageRef, Layout, Mask, MaskChannel,
    Placement, Source, Transfer, working_size,
};
pub use model::{
    DiffusionConfig, Embedded, Fingerprint, Known, LoadOptions, ModelLayout, PredictionType,
    PromptRules, Spacing,
};
pub use net::Lpips;
pub use progress::{Call, Cancel, Progress, Stage};

#[cfg(test)]
#[allow(unreachable_pub, dead_code, reason = "shared with the tests")]
#[path = "../tests/common/golden.rs"]
mod golden;
