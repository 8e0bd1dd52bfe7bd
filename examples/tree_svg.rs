//! The tree of a real session, drawn as SVG: its branches from noise to picture, and the frames at its leaves.
//!
//! ```text
//! cargo run --example tree_svg -- --out tree.svg
//! cargo run --example tree_svg -- --model path/to/stable-diffusion-2 --frames 100
//! ```

use clap::Parser;
use latentblend::{BlendOptions, Call, Frame, Keyframe, Model, Preset, Session, parents};
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

/// Draws a session's tree, with the frames at its leaves
#[derive(Parser)]
struct Arguments {
    /// A Stable Diffusion 2 model; without it, the embedded demo model
    #[arg(long)]
    model: Option<PathBuf>,
    #[arg(long, default_value = "a blue hot air balloon over green hills by day, sunny, photo")]
    from: String,
    #[arg(
        long,
        default_value = "a red lighthouse by the sea at night under a clear sky, with a full moon"
    )]
    to: String,
    /// Frames that the transition is meant for: one leaf for every eight
    #[arg(long, default_value_t = 72)]
    frames: usize,
    #[arg(long, default_value = "tree.svg")]
    out: PathBuf,
}

/// Of the drawing.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const STEP: f64 = 13.0;
/// Colours of the levels.
const COLOURS: [&str; 5] = ["#2b6cb0", "#2f8f5b", "#b0862b", "#b0522b", "#7a4fa3"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let model = match &arguments.model {
        Some(path) => Model::load(path, &Call::new())?,
        None => Model::demo(&Call::new())?,
    };
    let keyframes = [Keyframe::new(&arguments.from, 34), Keyframe::new(&arguments.to, 39)];
    let options = BlendOptions {
        preset: Preset::Medium,
        frames: arguments.frames,
        ..BlendOptions::default()
    };
    let session = Session::new(&model, &keyframes, &options)?;
    let frames = session.render_many(&session.leaves(), &Call::new())?;
    std::fs::write(&arguments.out, svg(&session, &frames)?)?;
    for level in session.plan().levels() {
        println!(
            "steps {:>2} to {:>2}: {} branches",
            level.steps.start,
            level.steps.end,
            level.fractions.len()
        );
    }
    println!("{}", arguments.out.display());
    Ok(())
}

fn svg(session: &Session, frames: &[Frame]) -> Result<String, Box<dyn Error>> {
    let plan = session.plan();
    let steps = session.schedule().steps.len();
    let x = |fraction: f64| LEFT + fraction * (WIDTH - LEFT - RIGHT);
    let y = |step: usize| TOP + step as f64 * STEP;
    // Pictures stand side by side, as wide as fits; branches lie where their fractions are.
    let place = (WIDTH - LEFT) / frames.len() as f64;
    let side = (place - 6.0).min(128.0);
    let pictures = y(steps) + 46.0;
    let ratio = frames[0].height() as f64 / frames[0].width() as f64;
    let height = pictures + side * ratio + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\">fraction of the transition</text>\n"
    );
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"#eee\"/>\
             <text x=\"{0:.1}\" y=\"{3:.1}\" text-anchor=\"middle\" fill=\"#777\">{tenth}</text>",
            x(tenth),
            TOP,
            y(steps),
            TOP - 6.0
        );
    }
    for (index, level) in plan.levels().iter().enumerate() {
        let (start, end) = (y(level.steps.start), y(level.steps.end));
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{start:.1}\" y2=\"{start:.1}\" stroke=\"#ccc\" stroke-dasharray=\"3 4\"/>\
             <text x=\"{0:.1}\" y=\"{1:.1}\" text-anchor=\"end\" fill=\"#555\">{2}</text>",
            LEFT - 14.0,
            start + 5.0,
            if index == 0 { "noise".to_owned() } else { format!("step {}", level.steps.start) }
        );
        for &fraction in &level.fractions {
            // Where it starts: on the arc between its neighbours in the level above.
            if let Some(above) = index.checked_sub(1).map(|above| &plan.levels()[above].fractions) {
                let from = parents(above, fraction);
                for parent in [from.left, from.right] {
                    let _ = writeln!(
                        svg,
                        "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"0.8\" opacity=\"0.45\"/>",
                        x(above[parent]),
                        x(fraction),
                        start,
                        start + STEP
                    );
                }
            }
            let first = if index == 0 { start } else { start + STEP };
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{first:.1}\" y2=\"{end:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <circle cx=\"{0:.1}\" cy=\"{end:.1}\" r=\"3.4\" fill=\"{colour}\"/>",
                x(fraction)
            );
        }
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{steps} steps</text>",
        LEFT - 14.0,
        y(steps) + 5.0
    );
    for (index, (frame, &leaf)) in frames.iter().zip(&session.leaves()).enumerate() {
        let left = LEFT - 20.0 + place * index as f64 + (place - side) / 2.0;
        let picture = base64(&png(frame, side as usize)?);
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#999\" stroke-width=\"0.8\"/>\
             <image x=\"{left:.1}\" y=\"{pictures:.1}\" width=\"{side:.1}\" height=\"{:.1}\" href=\"data:image/png;base64,{picture}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{leaf:.3}</text>",
            x(leaf),
            left + side / 2.0,
            y(steps) + 4.0,
            pictures - 3.0,
            side * ratio,
            left + side / 2.0,
            pictures + side * ratio + 18.0
        );
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A frame as a PNG file of at most `side` pixels' width.
fn png(frame: &Frame, side: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let (width, rgb) = (frame.width(), frame.to_rgb8());
    let across = side.min(width);
    let down = frame.height() * across / width;
    // Every pixel is the mean of those that it covers, the nearest at the least.
    let mut pixels = Vec::with_capacity(3 * across * down);
    let covered = |place: usize, count: usize, length: usize| {
        let first = place * length / count;
        first..((place + 1) * length).div_ceil(count).max(first + 1)
    };
    for y in 0..down {
        for x in 0..across {
            for channel in 0..3 {
                let (mut sum, mut count) = (0, 0);
                for row in covered(y, down, frame.height()) {
                    for column in covered(x, across, width) {
                        sum += u32::from(rgb[3 * (row * width + column) + channel]);
                        count += 1;
                    }
                }
                pixels.push((sum / count) as u8);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, across as u32, down as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |k: usize| usize::from(chunk.get(k).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for k in 0..4 {
            let sign = char::from(SIGNS[bits >> (18 - 6 * k) & 63]);
            text.push(if k <= chunk.len() { sign } else { '=' });
        }
    }
    text
}
