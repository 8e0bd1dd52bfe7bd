//! The library's side of `tests/fullsize/run.py`: what its networks make of given inputs, and the
//! memory that a frame takes.
//!
//! ```text
//! fullsize networks MODEL INPUTS.safetensors OUTPUTS.safetensors
//! fullsize frame MODEL
//! ```

use latentblend::{
    Batch, BlendOptions, Branch, Branching, Call, Context, Error, ErrorKind, Frame, Keyframe,
    Latent, LoadOptions, Model, Precision, Sampler, Schedule, Session, Step,
};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Values with their shape, as they go to a file.
type Tensors = BTreeMap<&'static str, (Vec<usize>, Vec<f32>)>;

/// The highest memory of this process so far, in bytes.
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    let chunks = view.data().chunks_exact(4);
    chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// A stored (1, channels, height, width), some of its channels, as a latent.
fn latent(view: &TensorView<'_>, channels: std::ops::Range<usize>) -> Outcome<Latent> {
    let (height, width) = (view.shape()[2], view.shape()[3]);
    let pixels = height * width;
    let values = floats(view)[channels.start * pixels..channels.end * pixels].to_vec();
    Ok(Latent::new([channels.len(), height, width], values)?)
}

/// One evaluation of the UNet, out of a step whose result is the prediction itself: with no signal
/// after it, DDIM's weights are 0 for the latent and 1 for the prediction.
fn predict(model: &Model, view: &TensorView<'_>, context: Context) -> Outcome<Latent> {
    let channels = view.shape()[1];
    let context = Arc::new(context);
    let branch = Branch {
        latent: latent(view, 0..4)?,
        history: None,
        feed: None,
        positive: Arc::clone(&context),
        negative: context,
        guidance: 1.0,
        extra: if channels > 4 { Some(Arc::new(latent(view, 4..channels)?)) } else { None },
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
            let trail = trails.into_iter().next().ok_or("no latent came back")?;
            return Ok(trail.last().latent.clone());
        }
    }
}

fn load(model: &str, precision: Precision) -> Outcome<Model> {
    let options = LoadOptions { precision, ..LoadOptions::default() };
    Ok(Model::load_with(model, &options, &Call::new())?)
}

fn networks(model: &str, inputs: &str, outputs: &str) -> Outcome<serde_json::Value> {
    let start = Instant::now();
    let model = load(model, Precision::F32)?;
    let loaded = start.elapsed();
    let bytes = std::fs::read(inputs)?;
    let inputs = SafeTensors::deserialize(&bytes)?;
    let engine = model.engine();
    let mut found = Tensors::new();
    let context = inputs.tensor("context")?;
    let context = Context::new(77, floats(&context))?;
    let inpainting = model.info().inpainting;
    let name = if inpainting { "unet9" } else { "unet4" };
    let start = Instant::now();
    let view = inputs.tensor(if inpainting { "latent9" } else { "latent4" })?;
    let predicted = predict(&model, &view, context)?;
    let evaluation = start.elapsed();
    found.insert(name, (predicted.shape().to_vec(), predicted.data().to_vec()));
    // The other networks are the same in both folders.
    if !inpainting {
        let ids = inputs.tensor("ids")?;
        let ids: Vec<u32> =
            ids.data().chunks_exact(8).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8).collect();
        let prompts: Vec<&[u32]> = ids.chunks(77).collect();
        let contexts = engine.encode_prompts(&prompts)?;
        let width = contexts[0].width();
        let values = contexts.iter().flat_map(|context| context.data().to_vec()).collect();
        found.insert("text", (vec![contexts.len(), 77, width], values));

        // The engine divides by the scaling factor, the recorded input is behind that.
        const FACTOR: f32 = 0.18215;
        let scaled = latent(&inputs.tensor("vae_latent")?, 0..4)?;
        let values = scaled.data().iter().map(|v| v * FACTOR).collect();
        let frame = engine.decode(&[Latent::new(scaled.shape(), values)?])?.remove(0);
        let (height, width) = (frame.height(), frame.width());
        let pixel = |i: usize| frame.rgb()[i % (height * width) * 3 + i / (height * width)];
        let values = (0..3 * height * width).map(|i| pixel(i) * 2.0 - 1.0).collect();
        found.insert("decoded", (vec![3, height, width], values));

        let image = inputs.tensor("image")?;
        let (height, width) = (image.shape()[2], image.shape()[3]);
        let values = floats(&image);
        let value = |i: usize| values[i % 3 * height * width + i / 3] * 0.5 + 0.5;
        let frame = Frame::new(width, height, (0..values.len()).map(value).collect())?;
        let posterior = engine.encode(&frame)?;
        let mean = posterior.mean.data().iter().map(|v| v / FACTOR).collect();
        found.insert("mean", (posterior.mean.shape().to_vec(), mean));
        let spread = posterior.log_variance;
        found.insert("logvar", (spread.shape().to_vec(), spread.data().to_vec()));
    }
    let bytes: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = found
        .into_iter()
        .map(|(name, (shape, values))| {
            (name, (shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    serialize_to_file(views, None, Path::new(outputs))?;
    Ok(serde_json::json!({
        "load_seconds": loaded.as_secs_f64(),
        "evaluation_seconds": evaluation.as_secs_f64(),
        "peak_bytes": peak()?,
    }))
}

/// A frame half-way between two keyframes, guided, in the fewest steps that have a tree.
fn frame(model: &str, precision: Precision) -> Outcome<serde_json::Value> {
    let model = load(model, precision)?;
    let loaded = peak()?;
    let keyframes =
        [Keyframe::new("a mountain lake at dawn", 420), Keyframe::new("a lighthouse at night", 7)];
    let options = BlendOptions {
        size: Some([512, 512]),
        steps: Some(2),
        branching: Some(Branching { injections: vec![0, 1], branches: vec![2, 3] }),
        ..BlendOptions::default()
    };
    let session = Session::new(&model, &keyframes, &options)?;
    let (start, evaluations) = (Instant::now(), session.evaluations(&[0.5])?);
    session.latents(&[0.5], &Call::new())?;
    let denoised = peak()?;
    let rendered = session.render(0.5, &Call::new())?;
    if !rendered.rgb().iter().all(|v| v.is_finite()) {
        return Err(Error::new(ErrorKind::Internal, "the frame is not finite").into());
    }
    Ok(serde_json::json!({
        "size": [rendered.width(), rendered.height()],
        "evaluations": evaluations,
        "precision": model.engine().numerics().precision,
        "weight_bytes": model.memory_bytes(),
        "estimated_peak_bytes": model.peak_bytes([512, 512], 2),
        "peak_bytes_loaded": loaded,
        "peak_bytes_denoised": denoised,
        "peak_bytes": peak()?,
        "cached_bytes": session.cached_bytes(),
        "seconds": start.elapsed().as_secs_f64(),
    }))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["networks", model, inputs, outputs] => networks(model, inputs, outputs),
        ["frame", model, precision] => {
            precision.parse().map_err(Into::into).and_then(|precision| frame(model, precision))
        }
        _ => {
            let usage =
                "usage: fullsize networks MODEL INPUTS OUTPUTS | fullsize frame MODEL PRECISION";
            Err(usage.into())
        }
    };
    match outcome {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fullsize: {error}");
            ExitCode::FAILURE
        }
    }
}
