//! Pictures that were there before become one another, or what a prompt says: as a movie and a contact sheet.
//!
//! ```text
//! cargo run --example image_transition
//! cargo run --example image_transition -- first.png second.png --prompt "a beach" --prompt "a forest"
//! cargo run --example image_transition -- photo.png --to "an oil painting of a harbour" --model path
//! ```

mod common;

use clap::Parser;
use common::{ModelArguments, latent_mix, read_png, watched, write_transition};
use latentblend::{
    BlendOptions, Call, Format, Frame, ImageRef, Keyframe, KeyframeImage, LatentMix, Layout,
    Preset, Session, Source, Transfer,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Pictures that the demo model paints for itself when none are given: what it may paint, and what is said
/// of it as a keyframe.
const DEMO: [(&str, u64); 2] = [
    ("a photo of a blue hot air balloon over green hills by day, sunny", 34),
    ("a photo of a red lighthouse by the sea at dusk under a clear sky", 2),
];

/// Pictures become one another.
#[derive(Parser)]
struct Arguments {
    /// Pictures as PNG, in order [default: two that the demo model paints]
    images: Vec<PathBuf>,
    /// What they show, one for each, in order; may be left out
    #[arg(long = "prompt")]
    prompts: Vec<String>,
    /// A last keyframe that is no picture, but this prompt
    #[arg(long)]
    to: Option<String>,
    /// The seed of that last keyframe
    #[arg(long, default_value_t = 420)]
    seed: u64,
    #[command(flatten)]
    loading: ModelArguments,
    /// How much of each picture is kept, above 0 to 1; below 1 they are repainted
    #[arg(long, default_value_t = 1.0)]
    strength: f64,
    /// How far the pictures' own pixels reach into the transition, in t
    #[arg(long, default_value_t = 0.08)]
    blend: f64,
    #[arg(long, default_value_t = 4.0)]
    guidance: f64,
    #[arg(long, default_value_t = 0.65)]
    depth: f64,
    /// How branches are mixed: bands, or arc, on which the middle loses detail [default: the look's, bands]
    #[arg(long, value_parser = latent_mix)]
    latent_mix: Option<LatentMix>,
    /// lowest, low, medium, high or ultra
    #[arg(long, default_value = "medium", value_parser = preset)]
    preset: Preset,
    /// Length of the movie for each pair [default: 7; the demo model: 3]
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// The movie; a contact sheet of the same name is written beside it
    #[arg(long, default_value = "images.mp4")]
    out: PathBuf,
}

fn preset(text: &str) -> Result<Preset, String> {
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| format!("wanted one of {}", Preset::ALL.map(Preset::name).join(", ")))
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
    let demo = arguments.loading.model.is_none();
    let model = arguments.loading.watched(ModelArguments::load)?;
    let mut prompts = arguments.prompts.clone();
    let mut sources = Vec::new();
    for path in &arguments.images {
        sources.push(read(path)?);
    }
    if sources.is_empty() {
        for (prompt, seed) in DEMO {
            let options = BlendOptions { guidance: arguments.guidance, ..BlendOptions::default() };
            let session = Session::new(&model, &[Keyframe::new(prompt, seed)], &options)?;
            sources.push(with_grain(&session.render(0.0, &Call::new())?)?);
            if prompts.len() < sources.len() {
                prompts.push(prompt.to_owned());
            }
        }
    }
    let mut keyframes = Vec::new();
    for (index, source) in sources.into_iter().enumerate() {
        let image = KeyframeImage {
            strength: arguments.strength,
            blend: arguments.blend,
            ..KeyframeImage::new(source)
        };
        let prompt = prompts.get(index).map_or("", String::as_str);
        eprintln!("  picture {index}: {prompt}");
        keyframes.push(Keyframe::new(prompt, arguments.seed).image(image));
    }
    if let Some(prompt) = &arguments.to {
        eprintln!("  seed {:>10}: {prompt}", arguments.seed);
        keyframes.push(Keyframe::new(prompt, arguments.seed));
    }
    if keyframes.len() < 2 {
        return Err("one picture alone goes nowhere: wanted another, or --to".into());
    }
    let options = BlendOptions {
        preset: arguments.preset,
        depth: arguments.depth,
        latent_mix: arguments.latent_mix,
        guidance: arguments.guidance,
        ..BlendOptions::default()
    };
    let session = Session::new(&model, &keyframes, &options)?;
    watched("branches", |call| session.prepare(call))?;
    let seconds = arguments.seconds.unwrap_or(if demo { 3.0 } else { 7.0 }) * session.last_t();
    let frames = (seconds * arguments.fps).round() as usize;
    write_transition(&session, &arguments.out, frames, arguments.fps)
}

fn read(path: &Path) -> Result<Source, Box<dyn Error>> {
    let picture = read_png(path)?;
    let format = match (picture.channels, picture.deep) {
        (3, false) => Format::RgbU8,
        (4, false) => Format::RgbaU8,
        (3, true) => Format::RgbU16,
        (4, true) => Format::RgbaU16,
        _ => return Err(format!("{}: wanted a picture in colour", path.display()).into()),
    };
    let layout = Layout::packed(picture.width, picture.height, format, Transfer::Srgb);
    Ok(Source::new(&ImageRef::new(&picture.bytes, 0, layout)?)?)
}

/// The picture with some grain: detail that no latent holds, so that it can be seen to fade.
fn with_grain(frame: &Frame) -> Result<Source, Box<dyn Error>> {
    let (width, height) = (frame.width(), frame.height());
    let mut state = 1u32;
    let mut grain = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut bytes = Vec::with_capacity(width * height * 12);
    for pixel in frame.rgb().chunks_exact(3) {
        let grain = 0.05 * grain();
        bytes.extend(pixel.iter().flat_map(|v| (v + grain).to_ne_bytes()));
    }
    let layout = Layout::packed(width, height, Format::RgbF32, Transfer::Srgb);
    Ok(Source::new(&ImageRef::new(&bytes, 0, layout)?)?)
}
