//! How even a transition's time is, before and after: draws the change from frame to frame as SVG.
//!
//! ```text
//! cargo run --example even_time -- --out even_time.svg
//! ```

use clap::Parser;
use latentblend::{BlendOptions, Call, Distance, Keyframe, Model, Pace, Preset, Session, Timing};
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

/// Draws the change from frame to frame, with linear and with even time.
#[derive(Parser)]
struct Arguments {
    /// A Stable Diffusion 2 model; without it, the embedded demo model
    #[arg(long)]
    model: Option<PathBuf>,
    /// Frames of the whole
    #[arg(long, default_value_t = 121)]
    frames: usize,
    #[arg(long, default_value = "even_time.svg")]
    out: PathBuf,
}

const PROMPTS: [(&str, u64); 3] = [
    ("a blue hot air balloon over green hills by day, sunny, photo", 34),
    ("a red lighthouse by the sea at night under a clear sky, with a full moon", 39),
    ("a photo of a red castle over hills at dusk under a clear sky", 1),
];

/// A curve's name, colour, and values.
type Line = (&'static str, &'static str, Vec<f64>);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let model = match &arguments.model {
        Some(path) => Model::load(path, &Call::new())?,
        None => Model::demo(&Call::new())?,
    };
    let keyframes = PROMPTS.map(|(prompt, seed)| Keyframe::new(prompt, seed));
    let options = BlendOptions { preset: Preset::Medium, ..BlendOptions::default() };
    let session = Session::new(&model, &keyframes, &options)?;
    session.prepare(&Call::new())?;
    let mut lines: Vec<Line> = Vec::new();
    for (name, colour, pace) in
        [("linear", "#b0522b", Pace::Linear), ("even", "#2b6cb0", Timing::default().pace)]
    {
        let timing = Timing { pace, ..Timing::default() };
        let timed = session.timed(&timing, &Call::new())?;
        let changes = timed.changes(arguments.frames, &Distance::Frames, &Call::new())?;
        let [mean, variation, largest] = summary(&changes);
        println!(
            "{name:>7}: mean {mean:.4}, variation {variation:.3}, largest step {:.2} of the mean",
            largest / mean
        );
        lines.push((name, colour, changes));
    }
    std::fs::write(&arguments.out, svg(&lines))?;
    println!("{}", arguments.out.display());
    Ok(())
}

/// Mean, standard deviation over mean, and largest.
fn summary(values: &[f64]) -> [f64; 3] {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    [mean, square.sqrt() / mean, values.iter().copied().fold(0.0, f64::max)]
}

fn svg(lines: &[Line]) -> String {
    const SIZE: [f64; 2] = [760.0, 260.0];
    const LEFT: f64 = 52.0;
    const BOTTOM: f64 = 34.0;
    let [width, height] = SIZE;
    let most = lines.iter().flat_map(|line| &line.2).copied().fold(0.0, f64::max) * 1.05;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let y = |value: f64| height - BOTTOM - value / most * (height - BOTTOM - 12.0);
    for tick in 0..=4 {
        let value = most * f64::from(tick) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.3}</text>",
            y(value),
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    for (number, (name, colour, values)) in lines.iter().enumerate() {
        let x = |index: usize| {
            LEFT + (width - LEFT - 8.0) * index as f64 / (values.len() - 1).max(1) as f64
        };
        let points = values.iter().enumerate();
        let points: Vec<String> =
            points.map(|(index, &v)| format!("{:.1},{:.1}", x(index), y(v))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>",
            points.join(" ")
        );
        let [_, variation, _] = summary(values);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name} time: variation {variation:.2}</text>",
            LEFT + 10.0,
            26.0 + 16.0 * number as f64
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">change from frame to frame, through two segments</text>\n</svg>",
        LEFT + (width - LEFT) / 2.0,
        height - 10.0
    );
    svg
}
