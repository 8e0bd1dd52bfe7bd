//! In: a model, and what diffusers made with it in f32 (peer.py make). Out: how far its networks are from that.

use super::{Outcome, first, replayed};
use latentblend::{
    Batch, Branch, Call, Context, DeviceChoice, Latent, LoadOptions, Model, Precision, Sampler,
    Schedule, Step,
};
use safetensors::tensor::{SafeTensors, TensorView};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// The root of the mean square of a difference, relative to that of the values, that is allowed in f16; or twice what
/// diffusers has in f16 on the same device.
const BOUND: f64 = 5e-3;

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    let chunks = view.data().chunks_exact(4);
    chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// (1, channels, height, width), times a factor.
fn latent(view: &TensorView<'_>, factor: f32) -> Result<Latent, Box<dyn Error>> {
    let shape = <[usize; 3]>::try_from(&view.shape()[1..])?;
    Ok(Latent::new(shape, floats(view).iter().map(|v| v * factor).collect())?)
}

/// One evaluation of the UNet, out of a step whose result is the prediction itself: with no signal after it, DDIM's
/// weights are 0 for the latent and 1 for the prediction.
fn predict(
    model: &Model,
    latent: Latent,
    context: &Arc<Context>,
) -> Result<Latent, Box<dyn Error>> {
    let branch = Branch {
        latent,
        history: None,
        feed: None,
        positive: Arc::clone(context),
        negative: Arc::clone(context),
        guidance: 1.0,
        extra: None,
    };
    let step = Step { timestep: 481, alpha: 0.25, alpha_next: 0.0 };
    let prediction_type = model.info().prediction_type();
    let schedule =
        Arc::new(Schedule { steps: vec![step], prediction_type, sampler: Sampler::Ddim });
    let batch =
        Batch { branches: vec![branch], schedule, steps: 0..1, keep: 0, guidance: Arc::default() };
    let mut run = Arc::clone(model.engine()).denoise(batch)?;
    loop {
        if let Some(trails) = run.advance()? {
            let trail = trails.first().ok_or("no latent came back")?;
            return Ok(trail.last().latent.clone());
        }
    }
}

fn difference(got: &[f32], wanted: &[f32]) -> f64 {
    if got.len() != wanted.len() {
        return f64::NAN;
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = squares(&mut got.iter().zip(wanted).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    (error / squares(&mut wanted.iter().map(|&v| f64::from(v)))).sqrt()
}

pub(crate) fn check(folder: &Path) -> Outcome {
    let bytes = std::fs::read(folder.join("wanted.safetensors"))?;
    let stored = SafeTensors::deserialize(&bytes)?;
    let device = DeviceChoice::Cuda(first()?);
    let options = LoadOptions { device, precision: Precision::F16, ..LoadOptions::default() };
    let meter = super::cuda(Precision::F16)?;
    let model = Model::load_with(folder, &options, &Call::new())?;
    let context = Arc::new(Context::new(77, floats(&stored.tensor("context")?))?);
    let mut good = true;
    println!("\n| network | error | diffusers' in f16 |\n|---|---|---|");
    for size in [512, 768] {
        // As it is, as it is recorded, and as it is replayed.
        for round in ["", ", recorded", ", replayed"] {
            let x = latent(&stored.tensor(&format!("latent{size}"))?, 1.0)?;
            let unet = predict(&model, x, &context)?.data().to_vec();
            // The engine divides by the scaling factor, the stored input is behind that.
            let x = latent(&stored.tensor(&format!("latent{size}"))?, 0.18215)?;
            let frame = model.engine().decode(&[x])?.remove(0);
            let pixels = frame.height() * frame.width();
            let value = |i: usize| frame.rgb()[i % pixels * 3 + i / pixels] * 2.0 - 1.0;
            let picture: Vec<f32> = (0..3 * pixels).map(value).collect();
            for (name, got) in [("unet", unet), ("decoded", picture)] {
                let error = difference(&got, &floats(&stored.tensor(&format!("{name}{size}"))?));
                let peer = floats(&stored.tensor(&format!("{name}{size}_error"))?);
                let peer = f64::from(*peer.first().ok_or("an empty tensor")?);
                // NaN is no error below a bound.
                let fine = error <= BOUND.max(2.0 * peer);
                good &= fine;
                let mark = if fine { "" } else { " **too much**" };
                println!("| {name}, {size}{round} | {error:.1e}{mark} | {peer:.1e} |");
            }
        }
    }
    good &= replayed(&meter);
    Ok(good)
}
