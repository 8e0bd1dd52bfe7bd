//! How good transitions are: dissolve, full resampling, the original's versions of 2022 and 2023, and this
//! library, at equal evaluations of the UNet, on the embedded demo model. docs/quality.md has the results.
//!
//! ```text
//! cargo bench --bench quality                              # all; what is there already is not made again
//! cargo bench --bench quality -- --realism SCRATCH --docs  # realism too, and the tables into docs/quality.md
//! cargo bench --bench quality -- --pairs 3 --seeds 1 --frames 17 --methods 2022,ours
//! cargo bench --bench quality -- --report                  # the tables only, of what was measured
//! ```
//!
//! Writes into a folder of `--out` for the model's fingerprint: `rows.jsonl` (each transition when it is done),
//! `quality.csv`, `quality.md`, `exact.json`, and `strips/`, nine frames of each transition, for `realism.py` to
//! look at.

mod direct;
mod docs;
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
use latentblend::{Call, Frame, LoadOptions, Model, Precision};
use methods::{Method, budget};
use pairs::{ORDER, PAIRS, keyframes};
use std::collections::HashSet;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
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
    /// Look for exactness on so many pairs; what is there is left
    #[arg(long, default_value_t = 3)]
    exact: usize,
    /// Measure nothing; write the tables
    #[arg(long)]
    report: bool,
    /// Forget what was measured before on this model: after a change of what is measured
    #[arg(long, conflicts_with = "report")]
    fresh: bool,
    /// Judge realism too (realism.py), whose pictures and classifier are kept in this folder
    #[arg(long, value_name = "SCRATCH")]
    realism: Option<PathBuf>,
    /// The Python that runs it, with torch and diffusers
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Put the tables into docs/quality.md
    #[arg(long)]
    docs: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::parse();
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
    let model = Model::demo_with(&numerics(), &Call::new())?;
    let print = model.info().fingerprint.map(|print| print.to_string()).unwrap_or_default();
    // Figures of other weights are no figures of these.
    arguments.out.push(print.get(..8).unwrap_or("unknown"));
    if arguments.fresh && arguments.out.exists() {
        std::fs::remove_dir_all(&arguments.out)?;
    }
    std::fs::create_dir_all(arguments.out.join("strips"))?;
    if !arguments.report {
        measured(&model, &arguments, &methods)?;
    }
    if let Some(scratch) = &arguments.realism {
        realism(&arguments, scratch)?;
    }
    report(&arguments)
}

/// f32 on every machine: at 120 frames a frame differs from the next by little more than bf16 rounds.
fn numerics() -> LoadOptions {
    LoadOptions { precision: Precision::F32, ..LoadOptions::default() }
}

/// Lets `realism.py` look at the strips that it has not seen yet.
fn realism(arguments: &Arguments, scratch: &Path) -> Result<(), Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/quality/realism.py");
    let mut command = Command::new(&arguments.python);
    command.arg(script).arg("--out").arg(&arguments.out).arg("--work").arg(scratch);
    let status = command.status().map_err(|e| format!("{}: {e}", arguments.python.display()))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{} {script}: {status}", arguments.python.display()).into()),
    }
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
fn measured(
    model: &Model,
    arguments: &Arguments,
    methods: &[Method],
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let limit = Duration::from_secs_f64(60.0 * arguments.minutes.clamp(0.0, 1e7));
    if arguments.exact > exact(&arguments.out)?.map_or(0, |exact| exact.pairs) {
        let inpainting = Model::demo_inpainting_with(&numerics(), &Call::new())?;
        let exact = Exact::find(model, &inpainting, arguments.exact)?;
        std::fs::write(arguments.out.join("exact.json"), serde_json::to_string(&exact)?)?;
        println!("{}", table::exactness(&exact));
    }
    let done: HashSet<String> = rows(&arguments.out)?.iter().map(Row::strip).collect();
    let mut file =
        OpenOptions::new().create(true).append(true).open(arguments.out.join("rows.jsonl"))?;
    for seed in 0..arguments.seeds {
        for &frames in &arguments.frames {
            let budget = budget(model, frames)?;
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
                    let row = transition(model, method, [pair, seed], frames, budget, arguments)?;
                    // At once, so that lines of other calls don't get into it.
                    file.write_all((serde_json::to_string(&row)? + "\n").as_bytes())?;
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

/// What was found to be the same to the last bit, if that was looked for.
fn exact(out: &Path) -> Result<Option<Exact>, Box<dyn Error>> {
    match File::open(out.join("exact.json")) {
        Ok(file) => Ok(Some(serde_json::from_reader(file)?)),
        Err(_) => Ok(None),
    }
}

/// Writes the tables of all that was measured.
fn report(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let out = arguments.out.as_path();
    let rows = rows(out)?;
    let judged: Option<Judged> = match File::open(out.join("realism.json")) {
        Ok(file) => Some(serde_json::from_reader(file)?),
        Err(_) => None,
    };
    let tried: Vec<Method> = [Method::Ours].into_iter().chain(Method::TRIED).collect();
    let parts = [
        ("compared", table::markdown(&rows, judged.as_ref(), &Method::COMPARED)),
        ("tried", table::markdown(&rows, judged.as_ref(), &tried)),
        ("exact", exact(out)?.as_ref().map(table::exactness).unwrap_or_default()),
    ];
    let text: String = parts.iter().map(|(name, part)| format!("## {name}\n\n{part}")).collect();
    std::fs::write(out.join("quality.csv"), table::csv(&rows))?;
    std::fs::write(out.join("quality.md"), &text)?;
    println!("{text}");
    if arguments.docs {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/quality.md");
        let mut page = std::fs::read_to_string(path)?;
        for (name, part) in parts.iter().filter(|(_, part)| !part.is_empty()) {
            page = docs::replaced(&page, name, part)?;
        }
        std::fs::write(path, page)?;
        println!("{path}: read what stands around the tables");
    }
    println!("{}: quality.csv, quality.md", out.display());
    Ok(())
}
