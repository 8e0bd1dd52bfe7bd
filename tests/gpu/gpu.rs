//! What has to be seen on a machine with a GPU: `tests/gpu/run.sh` runs all of it.
//!
//!     gpu devices                the devices that can be used, or what is missing (status 2)
//!     gpu ops                    every operation against the reference backend; the same bytes in any batch
//!     gpu demo                   the demo model: frames against the CPU's, a transition of 45 frames
//!     gpu check FOLDER           a model's networks against what diffusers made with them in f32 (peer.py make)
//!     gpu bench FOLDER SIZE [GB] a model's steps, decodes and a 'medium' transition of 45 frames; GB: a limit of memory
//!
//! Prints lines of Markdown tables; ends with status 1 where a bound is passed.

#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../common/operations.rs"]
mod operations;

mod bench;
mod check;

use latentblend::backend::{Backend, Cuda, CudaDriver, CudaTile, Reference};
use latentblend::{
    BlendOptions, Call, DeviceChoice, Frame, Keyframe, LoadOptions, Model, Precision, Preset,
    Session,
};
use operations::{Case, Random, cases, difference};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

type Outcome = Result<bool, Box<dyn Error>>;

const FRAMES: usize = 45;

/// What the library warns of goes where errors go.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        eprintln!("gpu: {}: {}", record.level(), record.args());
    }
    fn flush(&self) {}
}

/// The number of the first device that can be used.
fn first() -> Result<u32, Box<dyn Error>> {
    let driver = CudaDriver::find()?;
    let usable = driver.devices().iter().find(|device| device.usable().is_ok());
    Ok(usable.ok_or("no device can be used")?.ordinal)
}

fn cuda(precision: Precision) -> Result<Cuda, Box<dyn Error>> {
    Ok(Cuda::new(&CudaDriver::find()?, first()?, precision)?)
}

/// Whether steps were recorded and ran so; says it.
fn replayed(meter: &Cuda) -> bool {
    let replays = meter.replays();
    let (recorded, replayed) = (replays.recorded, replays.replayed);
    println!("\n{recorded} steps were recorded, {replayed} ran by what was recorded");
    if let Some(why) = &replays.refused {
        println!("\n**not recorded**: {why}");
    }
    replays.refused.is_none() && replayed > 0
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

/// Whether values are the same to the last bit, as far as both go.
fn bits(a: &[f32], b: &[f32]) -> bool {
    !a.is_empty() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn told(same: bool) -> &'static str {
    if same { "the same" } else { "**DIFFERENT**" }
}

/// Every operation, in both kinds of numbers.
fn ops() -> Outcome {
    let mut good = true;
    println!("| operation | f16 | bf16 |\n|---|---|---|");
    let half = cuda(Precision::F16)?;
    let brain = match half.info().computes_in(Precision::Bf16) {
        Ok(_) => Some(cuda(Precision::Bf16)?),
        Err(why) => {
            eprintln!("gpu: bf16 is skipped: {why}");
            None
        }
    };
    for (name, case) in cases() {
        let wanted = case.run(&Reference);
        let mut columns = Vec::new();
        for (device, bound) in [(Some(&half), 2e-3), (brain.as_ref(), 1.6e-2)] {
            let Some(device) = device else {
                columns.push("skipped".to_owned());
                continue;
            };
            // Small cases would never occupy a large device, and so never take a large tile.
            let values = |tile| {
                device.force_tile(tile);
                case.run(device)
            };
            let [small, lean, large] =
                [CudaTile::Small, CudaTile::Lean, CudaTile::Large].map(values);
            let error = difference(&large, &wanted);
            let fine = error <= bound;
            let same = bits(small.data(), large.data()) && bits(lean.data(), large.data());
            good &= fine && same;
            columns.push(format!(
                "{error:.1e}{}{}",
                if fine { "" } else { " **too much**" },
                if same { "" } else { " **the tiles' bytes differ**" }
            ));
        }
        println!("| {name} | {} |", columns.join(" | "));
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
    half.force_tile(CudaTile::Auto);
    let all = run(16)?;
    for tile in [CudaTile::Auto, CudaTile::Small, CudaTile::Lean, CudaTile::Large] {
        half.force_tile(tile);
        for n in [1, 2, 3, 5, 8] {
            let same = bits(&run(n)?, &all);
            good &= same;
            println!("\nbytes of a batch of {n} ({tile:?}) and of 16: {}", told(same));
        }
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
    let meter = cuda(Precision::F16)?;
    let gpu = Model::load_with(folder, &on(DeviceChoice::Cuda(first()?)), &Call::new())?;
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
            let same = bits(alone.rgb(), frames[20].rgb());
            good &= same;
            println!("demo model, a frame alone and in a batch: {}", told(same));
        }
    }
    good &= replayed(&meter);
    Ok(good)
}

fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["devices"] => devices(),
        ["ops"] => ops(),
        ["demo"] => demo(),
        ["check", folder] => check::check(Path::new(folder)),
        ["bench", folder, size] => bench::bench(Path::new(folder), size.parse()?, None),
        ["bench", folder, size, gigabytes] => {
            bench::bench(Path::new(folder), size.parse()?, Some(gigabytes.parse()?))
        }
        _ => Err("wanted: devices, ops, demo, check FOLDER, or bench FOLDER SIZE [GB]".into()),
    }
}

fn main() -> ExitCode {
    static WARNINGS: Warnings = Warnings;
    log::set_max_level(log::LevelFilter::Warn);
    // Nobody else has set one.
    let _ = log::set_logger(&WARNINGS);
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
