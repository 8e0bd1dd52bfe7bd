//! Which model, and how it is computed: options that the examples share.

use clap::Args;
use latentblend::{Call, DeviceChoice, LoadOptions, Model, Precision};
use std::path::PathBuf;

/// The options.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArguments {
    /// A Stable Diffusion 2 model: a diffusers folder, or a .safetensors or .ckpt file; without it, the embedded
    /// demo model
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
    /// What it runs on: auto, cpu, cuda, or cuda:1 and so on
    #[arg(long, default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// What it computes with: auto, f32, f16 (GPUs) or bf16
    #[arg(long, default_value_t)]
    pub(crate) precision: Precision,
    /// How many threads it computes with; 0: one for each core
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
}

impl ModelArguments {
    fn options(&self) -> LoadOptions {
        let (device, precision, threads) = (self.device, self.precision, self.threads);
        LoadOptions { device, precision, threads, ..LoadOptions::default() }
    }

    /// The model.
    pub(crate) fn load(&self, call: &Call<'_>) -> latentblend::Result<Model> {
        match &self.model {
            Some(path) => Model::load_with(path, &self.options(), call),
            None => Model::demo_with(&self.options(), call),
        }
    }

    /// The model, or the embedded one for inpainting.
    pub(crate) fn load_inpainting(&self, call: &Call<'_>) -> latentblend::Result<Model> {
        match &self.model {
            Some(path) => Model::load_with(path, &self.options(), call),
            None => Model::demo_inpainting_with(&self.options(), call),
        }
    }

    /// The same under a progress bar, which says what is loaded.
    pub(crate) fn watched(
        &self,
        load: impl FnOnce(&Self, &Call<'_>) -> latentblend::Result<Model>,
    ) -> latentblend::Result<Model> {
        if self.model.is_none() {
            eprintln!("  no --model given: the embedded demo model, 128x128 pixels");
        }
        super::watched("model", |call| load(self, call))
    }
}
