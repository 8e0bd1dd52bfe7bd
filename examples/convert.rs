//! Writes a model in its other layout: a diffusers folder from a single file, or a single
//! `.safetensors` file from a folder.
//!
//! ```text
//! cargo run --example convert -- v2-1_512-ema-pruned.safetensors stable-diffusion-2-1-base
//! cargo run --example convert -- stable-diffusion-2-1-base model.safetensors
//! ```

use clap::{Parser, ValueEnum};
use latentblend::{
    Call, LoadOptions, Model, ModelLayout, PredictionType, Progress, Spacing, convert,
};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[derive(Clone, Copy, ValueEnum)]
enum Prediction {
    Epsilon,
    Velocity,
}

/// Writes a model as a single file or as a folder; every number is kept bit for bit.
#[derive(Parser)]
struct Arguments {
    /// A diffusers folder, or a .safetensors or .ckpt file
    from: PathBuf,
    /// What to write: NAME.safetensors, or the name of a folder; must not be there yet
    to: PathBuf,
    /// What the UNet predicts [default: what the configuration says, or the UNet itself]
    #[arg(long)]
    prediction: Option<Prediction>,
    /// Configurations for a single file that has none: a diffusers folder, a .json or a .yaml file
    #[arg(long)]
    config: Option<PathBuf>,
    /// The model is of the kind of SD-Turbo, whose timesteps are counted from the last
    #[arg(long)]
    turbo: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let layout = match arguments.to.extension() {
        Some(ending) if ending == "safetensors" => ModelLayout::SingleFile,
        _ => ModelLayout::Folder,
    };
    let options = LoadOptions {
        prediction_type: arguments.prediction.map(|kind| match kind {
            Prediction::Epsilon => PredictionType::Epsilon,
            Prediction::Velocity => PredictionType::Velocity,
        }),
        spacing: arguments.turbo.then_some(Spacing::Trailing),
        config: arguments.config,
        ..LoadOptions::default()
    };
    let bar = indicatif::ProgressBar::new(1000);
    let call = Call::new().on_progress(|progress: &Progress| {
        bar.set_position((progress.fraction * 1000.0) as u64);
        ControlFlow::Continue(())
    });
    convert(&arguments.from, &arguments.to, layout, &options, &call)?;
    let model = Model::load(&arguments.to, &call)?;
    bar.finish_and_clear();
    let info = model.info();
    let known = info.known.map_or("of no known model", |known| known.name);
    println!("{}: {known}, {:?}", arguments.to.display(), info.prediction_type());
    if let Some(fingerprint) = info.fingerprint {
        println!("fingerprint {fingerprint}");
    }
    Ok(())
}
