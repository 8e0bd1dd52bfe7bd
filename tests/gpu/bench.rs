//! In: a model of Stable Diffusion 2's size. Out: how long steps, decodes and a transition take, in how much memory, and
//! whether its frames are what they must be.

use super::{Outcome, bits, cuda, first, replayed, told};
use latentblend::backend::Cuda;
use latentblend::{
    Batch, BlendOptions, Branch, Call, DeviceChoice, Frame, GuidanceSteps, Keyframe, LoadOptions,
    Model, NoiseKind, Precision, Preset, SchedulePolicy, Session, noise,
};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const PROMPTS: [&str; 2] =
    ["a photo of a mountain lake at dawn, very detailed", "ruins of a temple, fog, oil on canvas"];

/// Seconds of one guided step of `count` branches of `side` latent pixels, after a few by which it is recorded.
fn step(model: &Model, side: usize, count: usize) -> Result<f64, Box<dyn Error>> {
    const WARM: usize = 4;
    let measured = if count < 8 { 20 } else { 10 };
    let ids = model.tokenize(PROMPTS[0])?.0;
    let none = model.tokenize("")?.0;
    let contexts = model.engine().encode_prompts(&[&ids, &none])?;
    let [positive, negative] = [0, 1].map(|i| Arc::new(contexts[i].clone()));
    let shape = [model.info().latent_channels, side, side];
    let branch = |seed: usize| -> Result<Branch, Box<dyn Error>> {
        Ok(Branch {
            latent: noise(NoiseKind::Cuda, seed as u64, shape)?,
            history: None,
            feed: None,
            // Each its own, as branches between prompts have.
            positive: Arc::new((*positive).clone()),
            negative: Arc::clone(&negative),
            guidance: 7.5,
            extra: None,
        })
    };
    let batch = |steps: usize| -> Result<Batch, Box<dyn Error>> {
        Ok(Batch {
            branches: (0..count).map(branch).collect::<Result<_, _>>()?,
            schedule: Arc::new(model.schedule(30, SchedulePolicy::default())?),
            steps: 0..steps,
            keep: steps - 1,
            guidance: Arc::new(GuidanceSteps::default()),
        })
    };
    let mut seconds = 0.0;
    for steps in [WARM, measured] {
        let mut running = Arc::clone(model.engine()).denoise(batch(steps)?)?;
        let start = Instant::now();
        while running.advance()?.is_none() {}
        seconds = start.elapsed().as_secs_f64() / steps as f64;
    }
    Ok(seconds)
}

/// Whether frames are pictures: finite, not of one colour, and not all the same; says what is not so.
fn pictures(frames: &[Frame]) -> bool {
    let mut good = true;
    for (index, frame) in frames.iter().enumerate() {
        let values = frame.rgb();
        let odd = values.iter().filter(|v| !v.is_finite()).count();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let squares = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        let spread = (squares / values.len() as f64).sqrt();
        // NaN is no spread.
        let fine = odd == 0 && spread >= 0.01;
        good &= fine;
        if !fine {
            println!("\n**leaf {index}: {odd} values are not finite, spread {spread:.4}**");
        }
    }
    let (Some(a), Some(b)) = (frames.first(), frames.last()) else { return false };
    if bits(a.rgb(), b.rgb()) {
        println!("\n**the first and the last leaf are the same picture**");
        good = false;
    }
    good
}

/// The bits of all frames, in a number.
fn digest(frames: &[Frame]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in frames.iter().flat_map(Frame::rgb) {
        value.to_bits().hash(&mut hasher);
    }
    hasher.finish()
}

/// What is in use of the device's memory, by whomever, in GB.
fn used(meter: &Cuda) -> Result<f64, Box<dyn Error>> {
    let [free, total] = meter.memory_free()?;
    Ok((total - free) as f64 / 1e9)
}

pub(crate) fn bench(folder: &Path, size: usize, gigabytes: Option<f64>) -> Outcome {
    let limit = gigabytes.map(|gigabytes| (gigabytes * 1e9) as u64);
    let device = DeviceChoice::Cuda(first()?);
    let options = LoadOptions { device, memory_limit: limit, ..LoadOptions::default() };
    // By then the context and the kernels are there.
    let meter = cuda(Precision::F16)?;
    let before = used(&meter)?;
    let start = Instant::now();
    let model = Model::load_with(folder, &options, &Call::new())?;
    meter.limit_memory(limit);
    let side = size / model.info().factor;
    println!(
        "\n{size}x{size}, loaded in {:.1} s, {:.2} GB",
        start.elapsed().as_secs_f64(),
        used(&meter)? - before
    );
    println!("\n| | branches | ms a step | ms a pair |\n|---|---|---|---|");
    let counts: &[usize] = if limit.is_some() { &[1] } else { &[1, 2, 4, 8, 16, 32] };
    for &count in counts {
        let ms = step(&model, side, count)? * 1e3;
        println!("| guided step | {count} | {ms:.2} | {:.2} |", ms / count as f64);
    }
    let shape = [model.info().latent_channels, side, side];
    let latent = noise(NoiseKind::Cuda, 1, shape)?;
    let mut ms = 0.0;
    for _ in 0..4 {
        let start = Instant::now();
        model.engine().decode(std::slice::from_ref(&latent))?;
        ms = start.elapsed().as_secs_f64() * 1e3;
    }
    println!("| decode, with the copy to the host | 1 | {ms:.2} | |");
    let keyframes = [Keyframe::new(PROMPTS[0], 420), Keyframe::new(PROMPTS[1], 69731932)];
    let blend = BlendOptions {
        size: Some([size, size]),
        preset: Preset::Medium,
        ..BlendOptions::default()
    };
    let mut good = true;
    let mut digests = Vec::new();
    for round in ["first", "second"] {
        let session = Session::new(&model, &keyframes, &blend)?;
        let times = session.leaves();
        let start = Instant::now();
        let frames = session.render_many(&times, &Call::new())?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "\n'medium', {} leaves, {} samples evaluated, {round} time: {seconds:.2} s",
            frames.len(),
            session.evaluated()
        );
        digests.push(digest(&frames));
        if round == "second" {
            good &= pictures(&frames);
            // Nothing is given back to the driver in between, so what is used now is the most that was.
            let now = used(&meter)?;
            println!(
                "\n{now:.2} GB of the device in use, {:.2} of it by the model, {before:.2} before (context, kernels, others)",
                now - before
            );
            let middle = times.len() / 2;
            let alone = Session::new(&model, &keyframes, &blend)?;
            let same = bits(alone.render(times[middle], &Call::new())?.rgb(), frames[middle].rgb());
            good &= same;
            println!("\nleaf {middle} alone and among all: {}", told(same));
        }
    }
    let same = digests[0] == digests[1];
    good &= same;
    println!("\nframes of {size}: {:016x}, both times: {}", digests[0], told(same));
    good &= replayed(&meter);
    Ok(good)
}
