//! What several tests need: recorded data, small models, and a denoiser with a closed form.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by test files that use a part each"
)]

pub mod c;
pub mod folder;
pub mod golden;
pub mod mixture;
pub mod operations;
pub mod pictures;
pub mod played;
pub mod scripted;
pub mod single;
pub mod watched;

use golden::Recorded;
use latentblend::{
    BlendOptions, Call, DiffusionConfig, Frame, Keyframe, Latent, LoadOptions, Model, Precision,
    PredictionType, Preset, Result, Spacing,
};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The noise schedule of Stable Diffusion 2.0-base.
pub fn stable_diffusion_2(spacing: Spacing) -> DiffusionConfig {
    DiffusionConfig {
        train_steps: 1000,
        beta_start: 0.00085,
        beta_end: 0.012,
        square_root_spacing: true,
        prediction_type: PredictionType::Epsilon,
        spacing,
        steps_offset: 1,
        final_alpha_one: false,
    }
}

/// What tests ask for whose bounds mean f32, on whatever processor they run.
pub fn in_f32() -> LoadOptions {
    LoadOptions { precision: Precision::F32, ..LoadOptions::default() }
}

/// The model at `path`, in f32.
pub fn load(path: impl AsRef<Path>) -> Result<Model> {
    Model::load_with(path, &in_f32(), &Call::new())
}

/// A tiny checkpoint of random weights, in f32: "base", "v" or "inpainting".
pub fn tiny(name: &str) -> Model {
    load(golden::path("tiny").join(name)).unwrap()
}

/// One recorded (channels, height, width) as a latent.
pub fn latent(recorded: &Recorded) -> Latent {
    let shape: [usize; 3] = recorded.shape.as_slice().try_into().unwrap();
    Latent::new(shape, recorded.f32()).unwrap()
}

/// A short transition between two prompts.
pub fn short() -> ([Keyframe; 2], BlendOptions) {
    let keyframes = [
        Keyframe::new("a lighthouse at night", 420).negative("rain"),
        Keyframe::new("a quiet lake", 69731932),
    ];
    let options =
        BlendOptions { size: Some([64, 48]), preset: Preset::Lowest, ..BlendOptions::default() };
    (keyframes, options)
}

/// Whether two frames are the same to the last bit.
pub fn same(a: &Frame, b: &Frame) -> bool {
    a.width() == b.width()
        && a.height() == b.height()
        && a.rgb().iter().zip(b.rgb()).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Collects what a progress callback is told.
#[derive(Clone, Default)]
pub struct Reports(pub Arc<Mutex<Vec<latentblend::Progress>>>);

impl Reports {
    pub fn call(&self) -> Call<'static> {
        let reports = Arc::clone(&self.0);
        Call::new().on_progress(move |progress| {
            reports.lock().unwrap().push(*progress);
            std::ops::ControlFlow::Continue(())
        })
    }
}
