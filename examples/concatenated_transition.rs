//! A transition through many prompts, as a movie and a contact sheet: each leads to the next, and, with
//! `--loop`, the last to the first.
//!
//! ```text
//! cargo run --example concatenated_transition
//! cargo run --example concatenated_transition -- --loop --pace linear
//! cargo run --example concatenated_transition -- --model path/to/stable-diffusion-2 --preset high
//! ```

mod common;

use clap::{Parser, ValueEnum};
use common::{
    ModelArguments, Movie, ProgressBar, contact_sheet, evenly, latent_mix, watched, write_png8,
};
use latentblend::{
    BlendOptions, Call, Easing, Even, Keyframe, LatentMix, Pace, Preset, Segment, Session, Timing,
};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prompts and seeds of the original's third example.
const ORIGINAL: [(&str, u64); 6] = [
    (
        "surrealistic statue made of glitter and dirt, standing in a lake, atmospheric light, \
         strange glow",
        954375479,
    ),
    ("statue of a mix between a tree and human, made of marble, incredibly detailed", 332539350),
    (
        "weird statue of a frog monkey, many colors, standing next to the ruins of an ancient city",
        956051013,
    ),
    ("statue of a spider that looked like a human", 408831845),
    ("statue of a bird that looked like a scorpion", 250009012),
    (
        "statue of an ancient cybernetic messenger annoucing good news, golden, futuristic",
        675588737,
    ),
];

/// Prompts in the words that the demo model knows.
const DEMO: [(&str, u64); 6] = [
    ("a red lighthouse by the sea at night under a clear sky, with a full moon", 39),
    ("a blue hot air balloon over green hills by day, sunny, photo", 34),
    ("a photo of a red castle over hills at dusk under a clear sky", 1),
    ("a photo of a yellow sailing boat on a mountain lake at dawn", 5),
    ("a windmill in a field by day", 4),
    ("a photo of palms in the desert at sunset under a clear sky", 7),
];

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum How {
    /// Equal change from frame to frame
    Even,
    /// The same, segments being long in proportion to what changes in them
    Across,
    /// t goes as time goes
    Linear,
    /// From leaf to leaf, as in 2022
    Leaves,
}

/// Many pictures slowly become each other.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    loading: ModelArguments,
    /// What a picture shows; once for each [default: six]
    #[arg(long = "prompt")]
    prompts: Vec<String>,
    /// The seed of each picture's noise
    #[arg(long = "seed")]
    seeds: Vec<u64>,
    /// The last picture leads back to the first
    #[arg(long = "loop")]
    looped: bool,
    /// Diffusion steps, 1 to 999 [default: the preset's]
    #[arg(long)]
    steps: Option<usize>,
    /// Where the first branches leave, as a share of the steps
    #[arg(long, default_value_t = 0.55)]
    depth: f64,
    /// How branches are mixed: bands, or arc, on which the middle loses detail [default: the look's, bands]
    #[arg(long, value_parser = latent_mix)]
    latent_mix: Option<LatentMix>,
    /// lowest, low, medium, high or ultra
    #[arg(long, default_value = "medium", value_parser = preset)]
    preset: Preset,
    /// Width and height in pixels, such as 768x512 [default: the model's own]
    #[arg(long, value_parser = size)]
    size: Option<[usize; 2]>,
    /// How time goes
    #[arg(long, value_enum, default_value = "even")]
    pace: How,
    /// Let each picture rest for a moment
    #[arg(long)]
    rest: bool,
    /// Length of each segment [default: 15; the demo model: 2]
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// The movie; a contact sheet of the same name is written beside it
    #[arg(long, default_value = "concatenated.mp4")]
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

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn keyframes(arguments: &Arguments) -> Vec<Keyframe> {
    let defaults = if arguments.loading.model.is_none() { DEMO } else { ORIGINAL };
    let prompts: Vec<&str> = match arguments.prompts.is_empty() {
        true => defaults.iter().map(|(prompt, _)| *prompt).collect(),
        false => arguments.prompts.iter().map(String::as_str).collect(),
    };
    let seed = |index: usize| {
        let default = defaults[index % defaults.len()].1 + (index / defaults.len()) as u64;
        arguments.seeds.get(index).copied().unwrap_or(default)
    };
    prompts.iter().enumerate().map(|(index, prompt)| Keyframe::new(*prompt, seed(index))).collect()
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = arguments.out.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let model = arguments.loading.watched(ModelArguments::load)?;
    let keyframes = keyframes(arguments);
    for keyframe in &keyframes {
        eprintln!("  seed {:>10}: {}", keyframe.seed, keyframe.prompt);
    }
    let options = BlendOptions {
        size: arguments.size,
        preset: arguments.preset,
        steps: arguments.steps,
        depth: arguments.depth,
        latent_mix: arguments.latent_mix,
        looped: arguments.looped,
        ..BlendOptions::default()
    };
    let session = Session::new(&model, &keyframes, &options)?;
    let seconds =
        arguments.seconds.unwrap_or(if arguments.loading.model.is_none() { 2.0 } else { 15.0 });
    let each = (seconds * arguments.fps).round().max(1.0) as usize;
    let frames = each * session.segments() + usize::from(!arguments.looped);
    watched("branches", |call| session.prepare(call))?;
    let segments = match arguments.rest {
        true => vec![Segment { easing: Easing::InOut, ..Segment::default() }; session.segments()],
        false => Vec::new(),
    };
    let even = Even { across: arguments.pace == How::Across, ..Even::default() };
    let pace = match arguments.pace {
        How::Even | How::Across => Pace::Even(even),
        How::Linear => Pace::Linear,
        How::Leaves => Pace::Leaves,
    };
    let timing = Timing { pace, segments };
    let session = watched("time", |call| session.timed(&timing, call))?;
    movie(&session, arguments, &session.timeline().frames(frames))
}

/// Renders every frame into the movie, and some into the sheet.
fn movie(session: &Session, arguments: &Arguments, times: &[f64]) -> Result<(), Box<dyn Error>> {
    const BATCH: usize = 4;
    const SHEET: usize = 30;
    let [width, height] = session.size();
    let mut bar = ProgressBar::new("frames", times.len() as u64);
    let mut movie = Movie::create(&arguments.out, width, height, arguments.fps)?;
    let chosen = evenly(times.len(), SHEET);
    let mut shown = Vec::new();
    for (batch, part) in times.chunks(BATCH).enumerate() {
        for (index, frame) in session.render_many(part, &Call::new())?.iter().enumerate() {
            let number = batch * BATCH + index;
            let rgb = frame.to_rgb8();
            movie.push(&rgb)?;
            if chosen.contains(&number) {
                shown.push((times[number], rgb));
            }
            bar.step();
        }
    }
    movie.finish()?;
    bar.finish();
    let shown: Vec<(f64, &[u8])> = shown.iter().map(|(t, rgb)| (*t, rgb.as_slice())).collect();
    let (sheet, sheet_width, sheet_height) = contact_sheet(&shown, width, height, 6)?;
    let path = arguments.out.with_extension("png");
    write_png8(&path, sheet_width, sheet_height, &sheet)?;
    eprintln!("  {} ({} frames), {}", arguments.out.display(), times.len(), path.display());
    Ok(())
}
