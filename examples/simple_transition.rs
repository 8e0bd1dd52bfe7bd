//! A transition between two prompts, as a movie and a contact sheet.
//!
//! ```text
//! cargo run --example simple_transition
//! cargo run --example simple_transition -- --model path/to/stable-diffusion-2 --preset high
//! ```

mod common;

use clap::{Parser, ValueEnum};
use common::{
    ModelArguments, Movie, ProgressBar, contact_sheet, evenly, latent_mix, watched, write_png8,
    write_png16,
};
use latentblend::{
    BlendOptions, Call, Crossfeed, Frame, Keyframe, LatentMix, Look, NoiseKind, Preset, Sampler,
    Session,
};
use std::cell::RefCell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Prompts and seeds of the original's first example.
const ORIGINAL: [(&str, u64); 2] = [
    (
        "photo of a beautiful cherry forest covered in white flowers, ambient light, very detailed, \
         magic",
        69731932,
    ),
    (
        "photo of an golden statue with a funny hat, surrounded by ferns and vines, grainy analog \
         photograph, mystical ambience, incredible detail",
        504430820,
    ),
];

/// Prompts in the words that the demo model knows.
const DEMO: [(&str, u64); 2] = [
    ("a blue hot air balloon over green hills by day, sunny, photo", 34),
    ("a red lighthouse by the sea at night under a clear sky, with a full moon", 39),
];

#[derive(Clone, Copy, ValueEnum)]
enum Noise {
    Cuda,
    Cpu,
}

/// One picture slowly becomes another.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    loading: ModelArguments,
    /// What the first picture shows
    #[arg(long)]
    from: Option<String>,
    /// What the last picture shows
    #[arg(long)]
    to: Option<String>,
    /// What no picture shows
    #[arg(long, default_value = "")]
    negative: String,
    #[arg(long)]
    seed_from: Option<u64>,
    #[arg(long)]
    seed_to: Option<u64>,
    /// Diffusion steps, 1 to 999 [default: the preset's]
    #[arg(long)]
    steps: Option<usize>,
    /// Guidance scale; 1 or less turns guidance off
    #[arg(long, default_value_t = 4.0)]
    guidance: f64,
    /// Where the first branches leave, as a share of the steps
    #[arg(long, default_value_t = 0.65)]
    depth: f64,
    /// lowest, low, medium, high or ultra
    #[arg(long, default_value = "medium", value_parser = preset)]
    preset: Preset,
    /// Width and height in pixels, such as 768x512 [default: the model's own]
    #[arg(long, value_parser = size)]
    size: Option<[usize; 2]>,
    /// Frames of the movie [default: seconds times fps]
    #[arg(long)]
    frames: Option<usize>,
    /// Length of the movie [default: 12; the demo model: 4]
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// ddim, or dpm++2m, which needs about half the steps
    #[arg(long, default_value = "ddim", value_parser = sampler)]
    sampler: Sampler,
    /// Draw the second picture to the first: power,range,decay from 0 to 1, such as 0.1,0.6,0.8
    #[arg(long, value_parser = crossfeed)]
    branch1_crossfeed: Option<Crossfeed>,
    /// Draw each picture to those it lies between: power,range,decay, such as 0.1,0.8,0.8
    #[arg(long, value_parser = crossfeed)]
    parental_crossfeed: Option<Crossfeed>,
    /// How branches are mixed: bands, or arc, on which the middle loses detail [default: the look's, bands]
    #[arg(long, value_parser = latent_mix)]
    latent_mix: Option<LatentMix>,
    /// Make all choices as the version of a year did: 2022 or 2023
    #[arg(long, value_parser = look)]
    compat: Option<Look>,
    /// Whose random numbers the seeds stand for
    #[arg(long, value_enum, default_value = "cuda")]
    noise: Noise,
    /// Write the tree's leaves to this file: fractions, latents and pictures, as safetensors
    #[arg(long)]
    leaves: Option<PathBuf>,
    /// Write every frame as PNG too, with 8 or 16 bits, beside the movie
    #[arg(long, value_parser = ["8", "16"])]
    png: Option<String>,
    /// The movie; a contact sheet of the same name is written beside it
    #[arg(long, default_value = "transition.mp4")]
    out: PathBuf,
}

fn preset(text: &str) -> Result<Preset, String> {
    let names = Preset::ALL.map(Preset::name);
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| format!("wanted one of {}", names.join(", ")))
}

fn size(text: &str) -> Result<[usize; 2], String> {
    let parts = text.split_once('x').and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    parts.ok_or_else(|| "wanted WIDTHxHEIGHT, such as 768x512".into())
}

fn look(text: &str) -> Result<Look, String> {
    match text {
        "2022" => Ok(Look::Compat2022),
        "2023" => Ok(Look::Compat2023),
        _ => Err("wanted 2022 or 2023".into()),
    }
}

fn sampler(text: &str) -> Result<Sampler, String> {
    let names = Sampler::ALL.map(Sampler::name);
    let found = Sampler::ALL.into_iter().find(|sampler| sampler.name() == text);
    found.ok_or_else(|| format!("wanted one of {}", names.join(", ")))
}

fn crossfeed(text: &str) -> Result<Crossfeed, String> {
    let parts: Option<Vec<f64>> = text.split(',').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some(&[power, range, decay]) => Ok(Crossfeed::new(power, range, decay)),
        _ => Err("wanted three numbers, such as 0.1,0.6,0.8".into()),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    // A folder that can't be made is better known now than after the first frame.
    if let Some(folder) = arguments.out.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let model = arguments.loading.watched(ModelArguments::load)?;
    eprintln!("  model loaded in {:.2} s", start.elapsed().as_secs_f64());
    let demo = arguments.loading.model.is_none();
    let [from, to] = if demo { DEMO } else { ORIGINAL };
    let keyframe = |prompt: &Option<String>, seed: Option<u64>, default: (&str, u64)| {
        let prompt = prompt.clone().unwrap_or(default.0.to_owned());
        Keyframe::new(prompt, seed.unwrap_or(default.1)).negative(&arguments.negative)
    };
    let keyframes = [
        keyframe(&arguments.from, arguments.seed_from, from),
        keyframe(&arguments.to, arguments.seed_to, to),
    ];
    let seconds = arguments.seconds.unwrap_or(if demo { 4.0 } else { 12.0 });
    let frames = arguments.frames.unwrap_or((seconds * arguments.fps).round() as usize).max(2);
    let options = BlendOptions {
        size: arguments.size,
        preset: arguments.preset,
        steps: arguments.steps,
        depth: arguments.depth,
        guidance: arguments.guidance,
        noise: match arguments.noise {
            Noise::Cuda => NoiseKind::Cuda,
            Noise::Cpu => NoiseKind::Cpu,
        },
        sampler: arguments.sampler,
        branch1_crossfeed: arguments.branch1_crossfeed,
        parental_crossfeed: arguments.parental_crossfeed,
        latent_mix: arguments.latent_mix,
        look: arguments.compat.unwrap_or_default(),
        ..BlendOptions::default()
    };
    let session = Session::new(&model, &keyframes, &options)?;
    for keyframe in &keyframes {
        eprintln!("  seed {:>10}: {}", keyframe.seed, keyframe.prompt);
        if let (_, Some(dropped)) = model.tokenize(&keyframe.prompt)? {
            eprintln!("  no room for the end of this prompt: {dropped}");
        }
    }
    watched("branches", |call| session.prepare(call))?;
    if let Some(path) = &arguments.leaves {
        write_leaves(&session, path)?;
    }
    movie(&session, arguments, &times(&session, frames, arguments.compat))?;
    eprintln!("  all in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The t of each frame: even in t, or, as in 2022 and 2023, even from leaf to leaf.
fn times(session: &Session, frames: usize, look: Option<Look>) -> Vec<f64> {
    let leaves = session.leaves();
    let even = (0..frames).map(|index| index as f64 / (frames - 1) as f64);
    match look {
        Some(_) => even
            .map(|share| {
                let place = share * (leaves.len() - 1) as f64;
                let left = (place as usize).min(leaves.len() - 2);
                leaves[left] + (place - left as f64) * (leaves[left + 1] - leaves[left])
            })
            .collect(),
        _ => even.collect(),
    }
}

/// Renders every frame into the movie, the sheet, and PNG files where they are asked for.
fn movie(session: &Session, arguments: &Arguments, times: &[f64]) -> Result<(), Box<dyn Error>> {
    const BATCH: usize = 4;
    const SHEET: usize = 20;
    let folder = arguments.out.with_extension("");
    if arguments.png.is_some() {
        std::fs::create_dir_all(&folder)?;
    }
    let mut bar = ProgressBar::new("frames", times.len() as u64);
    let mut movie: Option<Movie> = None;
    let sheet_frames = RefCell::new(Vec::new());
    let chosen = evenly(times.len(), SHEET);
    let mut size = (0, 0);
    for (batch, part) in times.chunks(BATCH).enumerate() {
        for (index, frame) in session.render_many(part, &Call::new())?.iter().enumerate() {
            let number = batch * BATCH + index;
            size = (frame.width(), frame.height());
            let rgb = frame.to_rgb8();
            if movie.is_none() {
                movie = Some(Movie::create(&arguments.out, size.0, size.1, arguments.fps)?);
            }
            if let Some(movie) = &mut movie {
                movie.push(&rgb)?;
            }
            if let Some(bits) = &arguments.png {
                write_png(&folder.join(format!("{number:05}.png")), frame, bits == "16")?;
            }
            if chosen.contains(&number) {
                sheet_frames.borrow_mut().push((times[number], rgb));
            }
            bar.step();
        }
    }
    if let Some(movie) = movie {
        movie.finish()?;
    }
    bar.finish();
    let frames = sheet_frames.into_inner();
    let frames: Vec<(f64, &[u8])> = frames.iter().map(|(t, rgb)| (*t, rgb.as_slice())).collect();
    let (sheet, width, height) = contact_sheet(&frames, size.0, size.1, 5)?;
    let path = arguments.out.with_extension("png");
    write_png8(&path, width, height, &sheet)?;
    eprintln!("  {} ({} frames), {}", arguments.out.display(), times.len(), path.display());
    Ok(())
}

fn write_png(path: &Path, frame: &Frame, deep: bool) -> Result<(), common::OutputError> {
    let (width, height) = (frame.width(), frame.height());
    if deep {
        write_png16(path, width, height, &frame.to_rgb16())
    } else {
        write_png8(path, width, height, &frame.to_rgb8())
    }
}

/// `fractions` (n), `latents` (n, channels, height, width) and `pictures` (n, height, width, 3).
fn write_leaves(session: &Session, path: &Path) -> Result<(), Box<dyn Error>> {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let times = session.leaves();
    let latents = watched("leaves", |call| session.latents(&times, call))?;
    let frames = watched("pictures", |call| session.render_many(&times, call))?;
    let bytes = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
        values.flat_map(f32::to_le_bytes).collect()
    };
    let fractions: Vec<u8> = times.iter().flat_map(|t| t.to_le_bytes()).collect();
    let latent_bytes = bytes(&mut latents.iter().flat_map(|latent| latent.data()).copied());
    let picture_bytes = bytes(&mut frames.iter().flat_map(|frame| frame.rgb()).copied());
    let [channels, height, width] = latents[0].shape();
    let count = times.len();
    let picture = vec![count, frames[0].height(), frames[0].width(), 3];
    let tensors = [
        ("fractions", TensorView::new(Dtype::F64, vec![count], &fractions)?),
        (
            "latents",
            TensorView::new(Dtype::F32, vec![count, channels, height, width], &latent_bytes)?,
        ),
        ("pictures", TensorView::new(Dtype::F32, picture, &picture_bytes)?),
    ];
    serialize_to_file(tensors, None, path)?;
    Ok(())
}
