//! How good transitions are: dissolve, full resampling, the original's versions of 2022 and 2023, and this
//! library, at equal evaluations of the UNet, on the embedded demo model. docs/quality.md has the results.
//!
//! ```text
//! cargo bench --bench quality                              # all; what is there already is not made again
//! cargo bench --bench quality -- --pairs 3 --seeds 1 --frames 17 --methods 2022,ours
//! cargo bench --bench quality -- --report                  # the tables only, of what was measured
//! ```
//!
//! Writes into `--out`: `rows.jsonl` (each transition when it is done), `quality.csv`, `quality.md`,
//! `exact.json`, and `strips/`, nine frames of each transition, for `realism.py` to look at.

mod bands;
mod direct;
mod exact;
mod flow;
mod methods;
mod metrics;
mod pairs;
mod table;

#[path = "../../examples/common/mod.rs"]
mod common;

use clap::Parser;
use exact::Exact;
use latentblend::{Call, Frame, Model};
use methods::{Method, budget};
use pairs::{ORDER, PAIRS, keyframes};
use std::collections::HashSet;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use table::{Judged, Row};

/// Measures transitions on the demo model
#[derive(Parser)]
struct Arguments {
    /// Of the 12 pairs so many, near and far ones among the first
    #[arg(long, default_value_t = PAIRS.len())]
    pairs: usize,
    /// Seeds of each pair
    #[arg(long, default_value_t = 3)]
    seeds: usize,
    /// Frames of a transition, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "17,120")]
    frames: Vec<usize>,
    /// Separated by commas; "tried" for options of this library
    #[arg(long, value_delimiter = ',', default_value = "compared")]
    methods: Vec<String>,
    /// Where the results go [default: quality, in cargo's target folder]
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/quality"))]
    out: PathBuf,
    /// Begin nothing more after so many minutes
    #[arg(long, default_value_t = 1e6)]
    minutes: f64,
    /// Look for exactness on so many pairs; 0 leaves what is there
    #[arg(long, default_value_t = 3)]
    exact: usize,
    /// Measure nothing; write the tables
    #[arg(long)]
    report: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut methods = Vec::new();
    for name in &arguments.methods {
        match name.as_str() {
            "compared" => methods.extend(Method::COMPARED),
            "tried" => methods.extend(Method::TRIED),
            name => methods.push(
                Method::named(name).ok_or_else(|| format!("{name} is not the name of a method"))?,
            ),
        }
    }
    if let Some(odd) = arguments.frames.iter().find(|frames| **frames < 5) {
        return Err(format!("{odd} frames: wanted at least 5").into());
    }
    std::fs::create_dir_all(arguments.out.join("strips"))?;
    if !arguments.report {
        measured(&arguments, &methods)?;
    }
    report(&arguments.out)
}

/// The transitions that were measured before.
fn rows(out: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    let path = out.join("rows.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Makes and measures what is missing: a seed after the other, so that a run that ends early has all pairs.
fn measured(arguments: &Arguments, methods: &[Method]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let limit = Duration::from_secs_f64(60.0 * arguments.minutes.clamp(0.0, 1e7));
    let model = Model::demo(&Call::new())?;
    if arguments.exact > 0 {
        let inpainting = Model::demo_inpainting(&Call::new())?;
        let exact = Exact::find(&model, &inpainting, arguments.exact)?;
        std::fs::write(arguments.out.join("exact.json"), serde_json::to_string(&exact)?)?;
        println!("{}", table::exactness(&exact));
    }
    let done: HashSet<String> = rows(&arguments.out)?.iter().map(Row::strip).collect();
    let mut file =
        OpenOptions::new().create(true).append(true).open(arguments.out.join("rows.jsonl"))?;
    for seed in 0..arguments.seeds {
        for &frames in &arguments.frames {
            let budget = budget(&model, frames)?;
            for pair in ORDER.into_iter().take(arguments.pairs) {
                for &method in methods {
                    let name = method.name();
                    if done.contains(&format!("{name}-{frames}-{pair}-{seed}")) {
                        continue;
                    }
                    if start.elapsed() > limit {
                        println!("the time is up: {} minutes", arguments.minutes);
                        return Ok(());
                    }
                    let row = transition(&model, method, [pair, seed], frames, budget, arguments)?;
                    writeln!(file, "{}", serde_json::to_string(&row)?)?;
                    println!(
                        "{:>6.0} s {:<24} {:>4.0} evaluations of {budget} ({}): {}",
                        start.elapsed().as_secs_f64(),
                        row.strip(),
                        row.evaluations,
                        PAIRS[pair].name,
                        row.how
                    );
                }
            }
        }
    }
    Ok(())
}

fn transition(
    model: &Model,
    method: Method,
    [pair, seed]: [usize; 2],
    frames: usize,
    budget: usize,
    arguments: &Arguments,
) -> Result<Row, Box<dyn Error>> {
    let before = model.engine().samples();
    let made = method.make(model, &keyframes(pair, seed), frames, budget)?;
    let samples = model.engine().samples() - before;
    let row = Row {
        method: method.name().to_owned(),
        frames,
        pair,
        seed,
        evaluations: samples as f64 / 2.0,
        budget,
        decodes: made.decodes,
        how: made.how,
        metrics: metrics::measure(&made.frames, &made.t)?,
    };
    strip(&made.frames, &arguments.out.join("strips").join(row.strip() + ".png"))?;
    Ok(row)
}

/// Nine frames, even in time, side by side.
fn strip(frames: &[Frame], path: &Path) -> Result<(), Box<dyn Error>> {
    let chosen: Vec<(Vec<u8>, usize)> = common::evenly(frames.len(), 9)
        .into_iter()
        .map(|index| (frames[index].to_rgb8(), frames[index].width()))
        .collect();
    let height = frames[0].height();
    let row = |y: usize| {
        chosen.iter().flat_map(move |(rgb, width)| &rgb[3 * width * y..3 * width * (y + 1)])
    };
    let pixels: Vec<u8> = (0..height).flat_map(row).copied().collect();
    common::write_png8(path, pixels.len() / 3 / height, height, &pixels)?;
    Ok(())
}

/// Writes the tables of all that was measured.
fn report(out: &Path) -> Result<(), Box<dyn Error>> {
    let rows = rows(out)?;
    let judged: Option<Judged> = match File::open(out.join("realism.json")) {
        Ok(file) => Some(serde_json::from_reader(file)?),
        Err(_) => None,
    };
    let mut text = String::from("## At equal evaluations\n\n");
    text += &table::markdown(&rows, judged.as_ref(), &Method::COMPARED);
    let tried: Vec<Method> = [Method::Ours].into_iter().chain(Method::TRIED).collect();
    text += "## Options that were tried\n\n";
    text += &table::markdown(&rows, judged.as_ref(), &tried);
    if let Ok(file) = File::open(out.join("exact.json")) {
        let exact: Exact = serde_json::from_reader(file)?;
        text += &table::exactness(&exact);
    }
    std::fs::write(out.join("quality.csv"), table::csv(&rows))?;
    std::fs::write(out.join("quality.md"), &text)?;
    println!("{text}");
    println!("{}: quality.csv, quality.md", out.display());
    Ok(())
}
