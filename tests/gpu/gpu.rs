//! What has to be seen on a machine with a GPU: `tests/gpu/run.sh` runs all of it.
//!
//!     gpu devices                the devices that can be used, or what is missing (status 2)
//!     gpu ops                    every operation against the reference backend; the same bytes in any batch
//!     gpu demo                   the demo model: frames against the CPU's, a transition of 45 frames
//!     gpu bench FOLDER SIZE [GB] a model's steps, decodes and a 'medium' transition of 45 frames; GB: a limit of memory
//!
//! Prints lines of Markdown tables; ends with status 1 where a bound is passed.

#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../common/operations.rs"]
mod operations;

use latentblend::backend::{Backend, Cuda, CudaDriver, Reference};
use latentblend::{
    Batch, BlendOptions, Branch, Call, DeviceChoice, Frame, GuidanceSteps, Keyframe, LoadOptions,
    Model, NoiseKind, Precision, Preset, SchedulePolicy, Session, noise,
};
use operations::{Case, Random, cases, difference};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

type Outcome = Result<bool, Box<dyn Error>>;

const PROMPTS: [&str; 2] =
    ["a photo of a mountain lake at dawn, very detailed", "ruins of a temple, fog, oil on canvas"];
const FRAMES: usize = 45;

fn cuda(precision: Precision) -> Result<Cuda, Box<dyn Error>> {
    Ok(Cuda::new(&CudaDriver::find()?, 0, precision)?)
}

/// What there is to run on.
fn devices() -> Outcome {
    let driver = CudaDriver::find()?;
    println!("driver {}, CUDA {}", driver.path(), driver.version());
    let mut usable = false;
    for device in driver.devices() {
        let [major, minor] = device.capability;
        println!(
            "device {}: {}, compute capability {major}.{minor}, {} multiprocessors, {:.1} GB",
            device.ordinal,
            device.name,
            device.multiprocessors,
            device.memory as f64 / 1e9
        );
        usable |= device.usable().is_ok();
    }
    Ok(usable)
}

/// Every operation, in both kinds of numbers.
fn ops() -> Outcome {
    let mut good = true;
    println!("| operation | f16 | bf16 |\n|---|---|---|");
    let (half, brain) = (cuda(Precision::F16)?, cuda(Precision::Bf16)?);
    for (name, case) in cases() {
        let wanted = case.run(&Reference);
        let errors =
            [difference(&case.run(&half), &wanted), difference(&case.run(&brain), &wanted)];
        let fine = errors[0] <= 2e-3 && errors[1] <= 1.6e-2;
        good &= fine;
        let mark = if fine { "" } else { " **too much**" };
        println!("| {name} | {:.1e} | {:.1e}{mark} |", errors[0], errors[1]);
    }
    // At the sizes of a real network, where all multiprocessors are busy: the same bytes in any batch.
    let mut random = Random(3);
    let (h, w, c) = (32, 32, 320);
    let x = random.tensor(&[16, h, w, c], 1.0);
    let spec = latentblend::backend::ConvSpec::same(1);
    let conv = half.conv(random.tensor(&[640, c, 3, 3], 0.02), None, spec)?;
    let qkv = half.linear(random.tensor(&[1920, 640], 0.05), None)?;
    let plain = latentblend::backend::Activation::Identity;
    let run = |n: usize| -> Result<Vec<f32>, Box<dyn Error>> {
        let some = x.data()[..n * h * w * c].to_vec();
        let x = half.upload(&latentblend::backend::HostTensor::new([n, h, w, c], some)?)?;
        let x = half.conv2d((&x).into(), &conv, latentblend::backend::Add::Nothing)?;
        let x = half.dense(&x, &qkv, plain, latentblend::backend::Add::Nothing)?;
        Ok(half.download(&half.self_attention(&x, 10, false)?)?.into_data())
    };
    let all = run(16)?;
    for n in [1, 2, 3, 5, 8] {
        let same = run(n)?.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
        good &= same;
        println!(
            "\nbytes of a batch of {n} and of 16: {}",
            if same { "the same" } else { "**DIFFERENT**" }
        );
    }
    Ok(good)
}

/// The ratio of signal to noise of a picture in 0..=1, in decibels.
fn psnr(a: &Frame, b: &Frame) -> f64 {
    let squares = a
        .rgb()
        .iter()
        .zip(b.rgb())
        .map(|(&a, &b)| (f64::from(a.clamp(0.0, 1.0)) - f64::from(b.clamp(0.0, 1.0))).powi(2));
    -10.0 * (squares.sum::<f64>() / a.rgb().len() as f64).log10()
}

fn demo() -> Outcome {
    let on = |device| LoadOptions { device, ..LoadOptions::default() };
    // From its folder: embedded, it would travel twice.
    let folder = "models/demo/standard";
    let gpu = Model::load_with(folder, &on(DeviceChoice::Cuda(0)), &Call::new())?;
    let exact = LoadOptions { precision: Precision::F32, ..on(DeviceChoice::Cpu) };
    let cpu = Model::load_with(folder, &exact, &Call::new())?;
    let keyframes = [
        Keyframe::new("a hot air balloon above hills, day", 420),
        Keyframe::new("a lighthouse by the sea, night", 69731932),
    ];
    let options = BlendOptions { preset: Preset::Medium, ..BlendOptions::default() };
    let session = |model: &Model| Session::new(model, &keyframes, &options);
    let times: Vec<f64> = (0..FRAMES).map(|i| i as f64 / (FRAMES - 1) as f64).collect();
    let mut good = true;
    let few = [0.0, 0.3, 0.5, 1.0];
    let wanted = session(&cpu)?.render_many(&few, &Call::new())?;
    let got = session(&gpu)?.render_many(&few, &Call::new())?;
    for ((t, a), b) in few.iter().zip(&got).zip(&wanted) {
        let ratio = psnr(a, b);
        good &= ratio >= 45.0;
        println!("demo model, t = {t}: {ratio:.1} dB from the CPU's frame (wanted 45)");
    }
    // Twice: the first time steps are recorded.
    for round in ["first", "second"] {
        let start = Instant::now();
        let frames = session(&gpu)?.render_many(&times, &Call::new())?;
        let seconds = start.elapsed().as_secs_f64();
        println!("demo model, {} frames, {round} time: {seconds:.2} s", frames.len());
        if round == "first" {
            let alone = session(&gpu)?.render(times[20], &Call::new())?;
            let same =
                alone.rgb().iter().zip(frames[20].rgb()).all(|(a, b)| a.to_bits() == b.to_bits());
            good &= same;
            println!(
                "demo model, a frame alone and in a batch: {}",
                if same { "the same" } else { "**DIFFERENT**" }
            );
        }
    }
    Ok(good)
}

/// Seconds of one guided step of `count` branches of `side` latent pixels: the mean of 20 steps, after as many.
fn step(model: &Model, side: usize, count: usize) -> Result<f64, Box<dyn Error>> {
    const STEPS: usize = 20;
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
    let batch = Batch {
        branches: (0..count).map(branch).collect::<Result<_, _>>()?,
        schedule: Arc::new(model.schedule(30, SchedulePolicy::default())?),
        steps: 0..STEPS,
        keep: STEPS - 1,
        guidance: Arc::new(GuidanceSteps::default()),
    };
    let mut seconds = 0.0;
    for _ in 0..2 {
        let mut running = Arc::clone(model.engine()).denoise(batch.clone())?;
        let start = Instant::now();
        while running.advance()?.is_none() {}
        seconds = start.elapsed().as_secs_f64() / STEPS as f64;
    }
    Ok(seconds)
}

fn bench(folder: &Path, size: usize, gigabytes: Option<f64>) -> Outcome {
    let limit = gigabytes.map(|gigabytes| (gigabytes * 1e9) as u64);
    let options = LoadOptions {
        device: DeviceChoice::Cuda(0),
        memory_limit: limit,
        ..LoadOptions::default()
    };
    let start = Instant::now();
    let model = Model::load_with(folder, &options, &Call::new())?;
    let meter = Cuda::new(&CudaDriver::find()?, 0, Precision::F16)?;
    meter.limit_memory(limit);
    let side = size / model.info().factor;
    let held = |meter: &Cuda| meter.memory_held() as f64 / 1e9;
    println!(
        "\n{size}x{size}, loaded in {:.1} s, {:.2} GB",
        start.elapsed().as_secs_f64(),
        held(&meter)
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
    for round in ["first", "second"] {
        let session = Session::new(&model, &keyframes, &blend)?;
        let times = session.leaves();
        let start = Instant::now();
        let frames = session.render_many(&times, &Call::new())?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "\n'medium', {} leaves, {} samples evaluated, {round} time: {seconds:.2} s, {:.2} GB held at the end",
            frames.len(),
            session.evaluated(),
            held(&meter)
        );
    }
    Ok(true)
}

fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["devices"] => devices(),
        ["ops"] => ops(),
        ["demo"] => demo(),
        ["bench", folder, size] => bench(Path::new(folder), size.parse()?, None),
        ["bench", folder, size, gigabytes] => {
            bench(Path::new(folder), size.parse()?, Some(gigabytes.parse()?))
        }
        _ => Err("wanted: devices, ops, demo, or bench FOLDER SIZE [GB]".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu: {error}");
            // Without a driver or a device nothing was tried, so nothing failed.
            match CudaDriver::find() {
                Ok(_) => ExitCode::FAILURE,
                Err(_) => ExitCode::from(2),
            }
        }
    }
}
