//! What each parameter does, as strips of frames of the demo model: the pictures of docs/parameters.md.
//!
//! ```text
//! cargo run --example parameter_strips -- --out docs/pictures/parameters
//! cargo run --example parameter_strips -- --only depth,guidance
//! ```
//!
//! A row for each value, in the order in which this program prints them. Each strip is one PNG of at most
//! 80,000 bytes.

use clap::Parser;
use latentblend::{
    BlendOptions, Branching, Call, Crossfeed, Frame, Keyframe, LatentMix, Model, Pace, Preset,
    Sampler, Session, Timing,
};
use std::error::Error;
use std::path::PathBuf;

/// Draws what each parameter does
#[derive(Parser)]
struct Arguments {
    /// Where the strips go
    #[arg(long, default_value = "parameters")]
    out: PathBuf,
    /// Only these, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

const PROMPTS: [&str; 2] = [
    "a blue hot air balloon over green hills by day, sunny, photo",
    "a red lighthouse by the sea at night under a clear sky, with a full moon",
];
const SEEDS: [u64; 2] = [34, 39];
const COLUMNS: usize = 7;
const SIDE: usize = 96;
const GAP: usize = 3;
const LARGEST: usize = 80_000;

/// One row of a strip: how it is told, and what is other than by default.
struct Row {
    told: String,
    seeds: [u64; 2],
    options: BlendOptions,
    pace: Pace,
}

fn row(told: impl Into<String>, options: BlendOptions) -> Row {
    Row { told: told.into(), seeds: SEEDS, options, pace: Pace::Linear }
}

fn defaults() -> BlendOptions {
    BlendOptions::default()
}

/// All strips, by their files' names.
fn strips() -> Vec<(&'static str, Vec<Row>)> {
    let depth = |depth: f64| row(format!("depth {depth}"), BlendOptions { depth, ..defaults() });
    let preset = |preset: Preset| {
        row(format!("preset {}", preset.name()), BlendOptions { preset, ..defaults() })
    };
    let branches = |told: &str, injections: &[usize], branches: &[usize]| {
        let branching = Branching { injections: injections.into(), branches: branches.into() };
        row(told, BlendOptions { branching: Some(branching), ..defaults() })
    };
    let steps = |steps: usize, sampler: Sampler| {
        let told = format!("{steps} steps, {}", sampler.name());
        row(told, BlendOptions { steps: Some(steps), sampler, ..defaults() })
    };
    let guidance = |guidance: f64| {
        let told = format!("guidance {guidance}");
        row(told, BlendOptions { guidance, guidance_mid_damper: 1.0, ..defaults() })
    };
    let damper = |guidance_mid_damper: f64| {
        let told = format!("damper {guidance_mid_damper}");
        row(told, BlendOptions { guidance: 7.0, guidance_mid_damper, ..defaults() })
    };
    let mixing = |latent_mix: LatentMix| {
        let told = format!("mixing by {}", latent_mix.name());
        row(told, BlendOptions { latent_mix: Some(latent_mix), ..defaults() })
    };
    let branch1 = |power: f64| {
        let branch1_crossfeed = Some(Crossfeed::new(power, 0.6, 0.8));
        let told = format!("branch-1 crossfeed of power {power}");
        row(told, BlendOptions { branch1_crossfeed, ..defaults() })
    };
    let parental = |power: f64| {
        let parental_crossfeed = Some(Crossfeed::new(power, 0.8, 0.8));
        let told = format!("parental crossfeed of power {power}, depth 0.3");
        row(told, BlendOptions { parental_crossfeed, depth: 0.3, ..defaults() })
    };
    let pace = |told: &str, pace: Pace| Row { pace, ..row(told, defaults()) };
    let seeds = |seeds: [u64; 2]| Row { seeds, ..row(format!("seeds {seeds:?}"), defaults()) };
    vec![
        ("depth", vec![depth(0.2), depth(0.65), depth(0.9)]),
        ("preset", vec![preset(Preset::Lowest), preset(Preset::Medium), preset(Preset::High)]),
        (
            "branches",
            vec![
                branches("straight from the keyframes at step 20", &[0, 20], &[2, 45]),
                branches("as 'medium' has it", &[0, 20, 23, 27], &[2, 4, 13, 45]),
                branches("at every second step", &[0, 20, 22, 24, 26, 28], &[2, 5, 9, 17, 33, 65]),
            ],
        ),
        (
            "steps",
            vec![
                steps(8, Sampler::Ddim),
                steps(15, Sampler::Ddim),
                steps(15, Sampler::DpmSolver2M),
                steps(60, Sampler::Ddim),
            ],
        ),
        ("guidance", vec![guidance(1.0), guidance(4.0), guidance(10.0)]),
        ("damper", vec![damper(1.0), damper(0.5), damper(0.1)]),
        ("mixing", LatentMix::ALL.map(mixing).into()),
        ("branch1", vec![branch1(0.0), branch1(0.1), branch1(0.5)]),
        ("parental", vec![parental(0.0), parental(0.1), parental(0.5)]),
        (
            "even_time",
            vec![pace("linear time", Pace::Linear), pace("even time", Timing::default().pace)],
        ),
        ("seeds", vec![seeds(SEEDS), seeds([34, 34]), seeds([21, 22])]),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.out)?;
    let model = Model::demo(&Call::new())?;
    for (name, rows) in strips() {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let mut pictures = Vec::new();
        for row in &rows {
            let before = model.engine().samples();
            pictures.push(frames(&model, row)?);
            let samples = model.engine().samples() - before;
            println!("{name}: {} ({samples} samples of the UNet)", row.told);
        }
        let (pixels, width, height) = strip(&pictures);
        let file = smallest(&pixels, width, height)?;
        let path = arguments.out.join(name).with_extension("png");
        println!("{}: {width}x{height}, {} bytes", path.display(), file.len());
        std::fs::write(path, file)?;
    }
    Ok(())
}

/// The frames of a row, even in its time.
fn frames(model: &Model, row: &Row) -> Result<Vec<Frame>, latentblend::Error> {
    let keyframes = [0, 1].map(|end| Keyframe::new(PROMPTS[end], row.seeds[end]));
    let session = Session::new(model, &keyframes, &row.options)?;
    let timing = Timing { pace: row.pace.clone(), ..Timing::default() };
    let session = session.timed(&timing, &Call::new())?;
    session.render_many(&session.timeline().frames(COLUMNS), &Call::new())
}

/// Rows of frames, reduced and side by side.
fn strip(rows: &[Vec<Frame>]) -> (Vec<[u8; 3]>, usize, usize) {
    let width = COLUMNS * (SIDE + GAP) - GAP;
    let height = rows.len() * (SIDE + GAP) - GAP;
    let mut pixels = vec![[255; 3]; width * height];
    for (row, frames) in rows.iter().enumerate() {
        for (column, frame) in frames.iter().enumerate() {
            let [top, left] = [row, column].map(|place| place * (SIDE + GAP));
            for place in 0..SIDE * SIDE {
                let (x, y) = (place % SIDE, place / SIDE);
                pixels[(top + y) * width + left + x] = reduced(frame, x, y);
            }
        }
    }
    (pixels, width, height)
}

/// A pixel of the reduced frame: the mean over its area, pixels weighed by what of them it covers.
fn reduced(frame: &Frame, x: usize, y: usize) -> [u8; 3] {
    let span = |place: usize, length: usize| {
        let scale = length as f64 / SIDE as f64;
        let (from, to) = (place as f64 * scale, (place + 1) as f64 * scale);
        (from as usize..(to.ceil() as usize).min(length))
            .map(move |pixel| (pixel, to.min((pixel + 1) as f64) - from.max(pixel as f64)))
    };
    let (mut sums, mut all) = ([0.0; 3], 0.0);
    for (row, down) in span(y, frame.height()) {
        for (column, across) in span(x, frame.width()) {
            let at = 3 * (row * frame.width() + column);
            all += across * down;
            for (sum, value) in sums.iter_mut().zip(&frame.rgb()[at..at + 3]) {
                *sum += across * down * f64::from(value.clamp(0.0, 1.0));
            }
        }
    }
    sums.map(|sum| (sum / all * 255.0).round() as u8)
}

/// The strip as PNG with as many colours as fit.
fn smallest(pixels: &[[u8; 3]], width: usize, height: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut colours = 256;
    loop {
        let palette = palette(pixels, colours);
        let mut known = std::collections::HashMap::new();
        let nearest = |pixel: &[u8; 3]| {
            let far = |entry: &[u8; 3]| -> u32 {
                (0..3).map(|c| u32::from(entry[c].abs_diff(pixel[c])).pow(2)).sum()
            };
            let found = palette.iter().enumerate().min_by_key(|(_, entry)| far(entry));
            found.map_or(0, |(index, _)| index as u8)
        };
        let indices: Vec<u8> =
            pixels.iter().map(|p| *known.entry(*p).or_insert_with(|| nearest(p))).collect();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width as u32, height as u32);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(palette.concat());
        encoder.set_compression(png::Compression::High);
        encoder.set_filter(png::Filter::NoFilter);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&indices)?;
        writer.finish()?;
        if file.len() <= LARGEST || colours <= 16 {
            return Ok(file);
        }
        colours = colours * 3 / 4;
    }
}

/// The means of boxes of colours: the box that is widest is cut at the middle of its pixels, again and again
/// (median cut, Heckbert 1982).
fn palette(pixels: &[[u8; 3]], colours: usize) -> Vec<[u8; 3]> {
    let mut boxes = vec![pixels.to_vec()];
    let widest = |pixels: &Vec<[u8; 3]>| {
        let width = |channel: usize| {
            let values = || pixels.iter().map(|pixel| pixel[channel]);
            values().max().unwrap_or(0) - values().min().unwrap_or(0)
        };
        let channel = (0..3).max_by_key(|&channel| width(channel)).unwrap_or(0);
        (width(channel), channel)
    };
    let mut widths: Vec<(u8, usize)> = boxes.iter().map(widest).collect();
    while boxes.len() < colours {
        // Wide and full: a few odd pixels don't take the colours of many.
        let weight = |k: usize| u64::from(widths[k].0) * (boxes[k].len() as f64).sqrt() as u64;
        let Some(largest) = (0..boxes.len()).max_by_key(|&k| weight(k)) else { break };
        if widths[largest].0 == 0 {
            break;
        }
        let (_, channel) = widths[largest];
        boxes[largest].sort_unstable_by_key(|pixel| pixel[channel]);
        let half = boxes[largest].len() / 2;
        let rest = boxes[largest].split_off(half);
        widths[largest] = widest(&boxes[largest]);
        widths.push(widest(&rest));
        boxes.push(rest);
    }
    boxes
        .iter()
        .filter(|pixels| !pixels.is_empty())
        .map(|pixels| {
            let mean = |channel: usize| {
                let sum: usize = pixels.iter().map(|pixel| usize::from(pixel[channel])).sum();
                ((sum + pixels.len() / 2) / pixels.len()) as u8
            };
            [0, 1, 2].map(mean)
        })
        .collect()
}
