//! One machine's share of a transition: plan once, render anywhere.
//!
//! ```text
//! cargo run --example render_range -- plan session.safetensors --frames 240
//! cargo run --example render_range -- render session.safetensors --frames 240 --range 0-59 --out frames
//! ```
//!
//! `plan` decides everything, makes the branches that frames start from, and writes them to a file. Any number
//! of processes then render disjoint ranges, and all frames are those of one process, bit for bit
//! (docs/render-farm.md).

mod common;

use clap::{Args, Parser, Subcommand};
use common::{ModelArguments, latent_mix, write_png8, write_png16};
use latentblend::{
    BlendOptions, Call, Keyframe, LatentMix, Preset, RestoreOptions, Session, Timing,
};
use std::error::Error;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

/// Plans a transition, or renders a range of its frames.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Decides everything and writes it to a file, with the work that frames share
    Plan(Plan),
    /// Renders some frames of a planned transition
    Render(Render),
    /// Says what a file holds
    Show(Show),
}

#[derive(Args)]
struct Plan {
    /// The file to write
    session: PathBuf,
    #[command(flatten)]
    loading: ModelArguments,
    /// What a picture shows; once for each
    #[arg(long = "prompt", default_values = [
        "a blue hot air balloon over green hills by day, sunny, photo",
        "a red lighthouse by the sea at night under a clear sky, with a full moon",
    ])]
    prompts: Vec<String>,
    /// The seed of each picture's noise
    #[arg(long = "seed", default_values = ["34", "39"])]
    seeds: Vec<u64>,
    /// The last picture leads back to the first
    #[arg(long = "loop")]
    looped: bool,
    /// How branches are mixed: bands, or arc, on which the middle loses detail [default: the look's, bands]
    #[arg(long, value_parser = latent_mix)]
    latent_mix: Option<LatentMix>,
    /// lowest, low, medium, high or ultra
    #[arg(long, default_value = "medium", value_parser = preset)]
    preset: Preset,
    /// Frames of the whole, from which the preset derives its leaves
    #[arg(long)]
    frames: usize,
    /// Let t go as time goes, rather than by equal change
    #[arg(long)]
    linear: bool,
    /// Only decide: whoever renders makes the branches that it needs
    #[arg(long)]
    bare: bool,
}

#[derive(Args)]
struct Render {
    /// The file that `plan` wrote
    session: PathBuf,
    #[command(flatten)]
    loading: ModelArguments,
    /// Frames of the whole
    #[arg(long)]
    frames: usize,
    /// The frames to render, such as 0-59: first and last, or one
    #[arg(long, value_parser = range)]
    range: RangeInclusive<usize>,
    /// The folder for NNNNN.png
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// 16 bits a channel, not 8
    #[arg(long)]
    deep: bool,
    /// Render although this machine rounds otherwise than the one that planned
    #[arg(long)]
    accept_other_numerics: bool,
}

#[derive(Args)]
struct Show {
    session: PathBuf,
    #[command(flatten)]
    loading: ModelArguments,
}

fn preset(text: &str) -> Result<Preset, String> {
    let names = Preset::ALL.map(Preset::name);
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| format!("wanted one of {}", names.join(", ")))
}

fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("wanted FIRST-LAST, such as 0-59, or one frame".into()),
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Plan(arguments) => plan(&arguments),
        What::Render(arguments) => render(&arguments),
        What::Show(arguments) => show(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: &Plan) -> Result<(), Box<dyn Error>> {
    let model = arguments.loading.load(&Call::new())?;
    if arguments.prompts.len() != arguments.seeds.len() {
        let (prompts, seeds) = (arguments.prompts.len(), arguments.seeds.len());
        return Err(format!("{prompts} prompts and {seeds} seeds: wanted one for each").into());
    }
    let keyframes = arguments.prompts.iter().zip(&arguments.seeds);
    let keyframes: Vec<Keyframe> = keyframes.map(|(p, &seed)| Keyframe::new(p, seed)).collect();
    let segments = keyframes.len() - usize::from(!arguments.looped);
    let options = BlendOptions {
        preset: arguments.preset,
        frames: arguments.frames.div_ceil(segments.max(1)),
        looped: arguments.looped,
        latent_mix: arguments.latent_mix,
        // Whoever renders wants to find all of it.
        cache_bytes: usize::MAX,
        ..BlendOptions::default()
    };
    let mut session = Session::new(&model, &keyframes, &options)?;
    if !arguments.linear {
        session = session.timed(&Timing::default(), &Call::new())?;
    }
    match arguments.bare {
        true => session.purge(),
        false => session.prepare(&Call::new())?,
    }
    session.save(&arguments.session, &Call::new())?;
    let length = std::fs::metadata(&arguments.session)?.len();
    eprintln!("  {}: {} kB", arguments.session.display(), length.div_ceil(1024));
    Ok(())
}

fn render(arguments: &Render) -> Result<(), Box<dyn Error>> {
    let model = arguments.loading.load(&Call::new())?;
    let options = RestoreOptions {
        accept_other_numerics: arguments.accept_other_numerics,
        ..RestoreOptions::default()
    };
    let session = Session::load(&model, &arguments.session, &options, &Call::new())?;
    if *arguments.range.end() >= arguments.frames {
        let (last, frames) = (arguments.range.end(), arguments.frames);
        return Err(format!("frame {last} of {frames}: wanted up to {}", frames - 1).into());
    }
    std::fs::create_dir_all(&arguments.out)?;
    for frame in arguments.range.clone() {
        let t = session.timeline().frame(frame, arguments.frames);
        let picture = session.render(t, &Call::new())?;
        let path = arguments.out.join(format!("{frame:05}.png"));
        let (width, height) = (picture.width(), picture.height());
        match arguments.deep {
            true => write_png16(&path, width, height, &picture.to_rgb16())?,
            false => write_png8(&path, width, height, &picture.to_rgb8())?,
        }
        eprintln!("  {} (t {t:.4})", path.display());
    }
    Ok(())
}

fn show(arguments: &Show) -> Result<(), Box<dyn Error>> {
    let model = arguments.loading.load(&Call::new())?;
    let options = RestoreOptions { accept_other_numerics: true, ..RestoreOptions::default() };
    let session = Session::load(&model, &arguments.session, &options, &Call::new())?;
    let [width, height] = session.size();
    println!("{width}x{height} pixels, t from 0 to {}", session.last_t());
    for (index, keyframe) in session.keyframes().iter().enumerate() {
        println!("{index}: seed {}: {}", keyframe.seed, keyframe.prompt);
    }
    println!("{} kB of branches", session.cached_bytes() >> 10);
    Ok(())
}
