//! A part of a picture becomes another while the rest stays, as a movie and a contact sheet.
//!
//! ```text
//! cargo run --example inpainting_transition
//! cargo run --example inpainting_transition -- --model path/to/stable-diffusion-2-inpainting
//! cargo run --example inpainting_transition -- --image plate.png --mask hole.png --to "a red boat"
//! ```

mod common;

use clap::Parser;
use common::{ModelArguments, Picture, latent_mix, read_png, watched, write_transition};
use latentblend::{
    BlendOptions, Format, ImageRef, Inpainting, Keyframe, LatentMix, Layout, Mask, MaskChannel,
    Preset, Session, Source, Transfer,
};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Prompts and seeds of the original's second example.
const ORIGINAL: [(&str, u64); 2] = [
    (
        "photo of a futuristic alien temple in a desert, mystic, glowing, organic, intricate, sci-fi \
         movie, mesmerizing, scary",
        190791709,
    ),
    (
        "aerial photo of a futuristic alien temple in a blue coastal area, the sun is shining with a \
         bright light",
        6579436,
    ),
];

/// What the original keeps of 512x512 pixels: x1, y1, x2, y2. All else is repainted.
const ORIGINAL_KEPT: [usize; 4] = [170, 340, 280, 420];

/// Prompts in the words that the demo model knows.
const DEMO: [(&str, u64); 2] = [
    ("a photo of a red castle in the middle over green hills by day, sunny", 4),
    ("a photo of a red castle in the middle by the sea by day, with white clouds", 9),
];

/// What is kept of the demo model's pictures, in 512ths too.
const DEMO_KEPT: [usize; 4] = [160, 192, 352, 416];

/// A part of a picture becomes another, the rest stays what it is.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    loading: ModelArguments,
    /// The picture, as PNG [default: painted by the model, from --from and its seed]
    #[arg(long)]
    image: Option<PathBuf>,
    /// What is repainted, as PNG of the picture's shape: white repaints, black keeps
    #[arg(long, conflicts_with_all = ["keep", "repaint"])]
    mask: Option<PathBuf>,
    /// Repaint all but this rectangle: X1,Y1,X2,Y2 in 512ths of the picture [default: the original's]
    #[arg(long, value_parser = rectangle, conflicts_with = "repaint")]
    keep: Option<[usize; 4]>,
    /// Repaint this rectangle only
    #[arg(long, value_parser = rectangle)]
    repaint: Option<[usize; 4]>,
    /// What the picture shows
    #[arg(long)]
    from: Option<String>,
    /// What it becomes
    #[arg(long)]
    to: Option<String>,
    #[arg(long)]
    seed_from: Option<u64>,
    #[arg(long)]
    seed_to: Option<u64>,
    /// Start with what the first prompt makes of the hole, and not with the picture itself
    #[arg(long)]
    generated: bool,
    /// Over how many pixels the patch fades in, inwards [default: one pixel of a latent]
    #[arg(long)]
    feather: Option<f64>,
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
    /// Length of the movie [default: 7; the demo model: 3]
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// The movie; a contact sheet of the same name is written beside it
    #[arg(long, default_value = "inpainting.mp4")]
    out: PathBuf,
}

fn preset(text: &str) -> Result<Preset, String> {
    let found = Preset::ALL.into_iter().find(|preset| preset.name() == text);
    found.ok_or_else(|| format!("wanted one of {}", Preset::ALL.map(Preset::name).join(", ")))
}

fn rectangle(text: &str) -> Result<[usize; 4], String> {
    let sides: Option<Vec<usize>> = text.split(',').map(|side| side.trim().parse().ok()).collect();
    let sides = sides.and_then(|sides| <[usize; 4]>::try_from(sides).ok());
    let good = |&[x1, y1, x2, y2]: &[usize; 4]| x1 < x2 && x2 <= 512 && y1 < y2 && y2 <= 512;
    sides.filter(good).ok_or_else(|| "wanted X1,Y1,X2,Y2 within 0 to 512".into())
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
    let model = arguments.loading.watched(ModelArguments::load_inpainting)?;
    let [from, to] = if demo { DEMO } else { ORIGINAL };
    let keyframe = |prompt: &Option<String>, seed: Option<u64>, default: (&str, u64)| {
        Keyframe::new(prompt.as_deref().unwrap_or(default.0), seed.unwrap_or(default.1))
    };
    let keyframes = [
        keyframe(&arguments.from, arguments.seed_from, from),
        keyframe(&arguments.to, arguments.seed_to, to),
    ];
    let options = BlendOptions {
        preset: arguments.preset,
        depth: arguments.depth,
        latent_mix: arguments.latent_mix,
        guidance: arguments.guidance,
        ..BlendOptions::default()
    };
    for keyframe in &keyframes {
        eprintln!("  seed {:>10}: {}", keyframe.seed, keyframe.prompt);
    }
    let source = match &arguments.image {
        Some(path) => source_of(&read_png(path)?, path)?,
        None => {
            // An inpainting model without a mask paints whole pictures.
            let session = Session::new(&model, &keyframes[..1], &options)?;
            let frame = watched("picture", |call| session.render(0.0, call))?;
            let layout =
                Layout::packed(frame.width(), frame.height(), Format::RgbU16, Transfer::Srgb);
            let bytes: Vec<u8> =
                frame.to_rgb16().iter().flat_map(|sample| sample.to_ne_bytes()).collect();
            Source::new(&ImageRef::new(&bytes, 0, layout)?)?
        }
    };
    let mask = mask_for(arguments, source.size(), demo)?;
    let inpainting = Inpainting {
        from_source: !arguments.generated,
        feather: arguments.feather,
        ..Inpainting::new(source, mask)
    };
    let session = Session::inpainting(&model, &keyframes, &options, &inpainting)?;
    watched("branches", |call| session.prepare(call))?;
    let seconds = arguments.seconds.unwrap_or(if demo { 3.0 } else { 7.0 });
    let frames = (seconds * arguments.fps).round() as usize;
    write_transition(&session, &arguments.out, frames, arguments.fps)
}

/// A picture from a file, as a source.
fn source_of(picture: &Picture, path: &Path) -> Result<Source, Box<dyn Error>> {
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

/// What is repainted: a file, or a rectangle, or all but one.
fn mask_for(
    arguments: &Arguments,
    [width, height]: [usize; 2],
    demo: bool,
) -> Result<Mask, Box<dyn Error>> {
    if let Some(path) = &arguments.mask {
        let picture = read_png(path)?;
        let format = match (picture.channels, picture.deep) {
            (1, false) => Format::AU8,
            (1, true) => Format::AU16,
            (3, false) => Format::RgbU8,
            (4, false) => Format::RgbaU8,
            _ => return Err(format!("{}: wanted grey or RGB", path.display()).into()),
        };
        let layout = Layout::packed(picture.width, picture.height, format, Transfer::Srgb);
        let image = ImageRef::new(&picture.bytes, 0, layout)?;
        return Ok(Mask::read(&image, MaskChannel::First)?);
    }
    let scaled = |[x1, y1, x2, y2]: [usize; 4]| {
        [x1 * width / 512, y1 * height / 512, x2 * width / 512, y2 * height / 512]
    };
    if let Some(repainted) = arguments.repaint {
        return Ok(Mask::rectangle(width, height, scaled(repainted))?);
    }
    let kept = arguments.keep.unwrap_or(if demo { DEMO_KEPT } else { ORIGINAL_KEPT });
    let kept = Mask::rectangle(width, height, scaled(kept))?;
    Ok(Mask::new(width, height, kept.values().iter().map(|v| 1.0 - v).collect())?)
}
