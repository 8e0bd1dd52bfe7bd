//! In: perhaps a path. Out: every place where a model was looked for, and what was found there. Headers
//! and configurations are read, weights are not.

use crate::diffusion::estimate;
use crate::error::Result;
use crate::model::{
    DiffusionConfig, Known, LoadMeter, PredictionType, Source, TextConfig, UnetConfig, VaeConfig,
    Weights, licence,
};
use crate::progress::Call;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
pub(super) struct Models {
    /// The folders in which models are sought by name, the nearest first.
    search_path: Vec<Folder>,
    tried: Vec<Tried>,
}

#[derive(Serialize)]
struct Folder {
    path: String,
    /// The variable that names it, or that it is one of the system's data folders.
    from: &'static str,
    there: bool,
}

#[derive(Serialize)]
struct Tried {
    path: String,
    from: &'static str,
    usable: bool,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Model(Found),
    Not { why: String },
}

/// What a model's headers and configurations say.
#[derive(Serialize)]
struct Found {
    layout: &'static str,
    /// The published model that it is, or is of the kind of.
    name: Option<&'static str>,
    /// The first line of the licence.
    licence: String,
    native_size: Option<[usize; 2]>,
    /// Nothing where only the UNet itself can tell.
    prediction: Option<&'static str>,
    inpainting: bool,
    /// What its weights would take, and with them a frame of its native size.
    weight_bytes: u64,
    peak_bytes: u64,
}

/// Folders of models are not walked further than this.
const MOST: usize = 64;

fn look(source: &Source) -> Result<Found> {
    let unet = UnetConfig::read(source)?;
    let text = TextConfig::read(source)?;
    let vae = VaeConfig::read(source)?;
    let (diffusion, stated) = DiffusionConfig::read(source)?;
    let call = Call::new();
    let meter = LoadMeter::new(&call);
    let mut half = true;
    for (folder, stem) in [
        ("text_encoder", "model"),
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
    ] {
        half &= Weights::open(source, folder, stem, &meter)?.are_f16();
    }
    let known = match source {
        #[cfg(any(feature = "demo", feature = "demo-inpainting"))]
        Source::Embedded(_) => Some(Known::DEMO),
        _ => Known::find(&unet, &text, &diffusion),
    };
    let words = licence(source, known.as_ref());
    let [high, wide] = unet.sample_size.unwrap_or([64; 2]).map(|side| side * vae.factor());
    let [weight_bytes, peak_bytes] = estimate((&text, &unet, &vae), half, [wide, high])?;
    Ok(Found {
        layout: match source {
            Source::Folder(_) => "folder",
            Source::Single(_) => "single file",
            Source::Embedded(_) => "embedded",
        },
        name: known.map(|known| known.name),
        licence: words.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("").to_owned(),
        native_size: unet.sample_size.map(|[h, w]| [w * vae.factor(), h * vae.factor()]),
        prediction: stated.then_some(match diffusion.prediction_type {
            PredictionType::Epsilon => "epsilon",
            PredictionType::Velocity => "v",
        }),
        inpainting: unet.in_channels == 2 * vae.latent_channels + 1,
        weight_bytes,
        peak_bytes,
    })
}

fn tried(path: String, from: &'static str, found: Result<Found>) -> Tried {
    match found {
        Ok(found) => Tried { path, from, usable: true, outcome: Outcome::Model(found) },
        Err(error) => {
            Tried { path, from, usable: false, outcome: Outcome::Not { why: error.to_string() } }
        }
    }
}

fn at(path: &Path, from: &'static str) -> Tried {
    let found = Source::open_path(path, None).and_then(|source| look(&source));
    tried(path.display().to_string(), from, found)
}

/// Whether something in a folder of models has the outward form of one.
fn looks_like_one(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    path.join("model_index.json").is_file()
        || path.join("unet").is_dir()
        || path.is_file() && ["safetensors", "ckpt"].contains(&ending)
}

/// The folders in which the node seeks a model by its name: those of LATENTBLEND_MODELS, then
/// latentblend/models of the user's and the system's data folders (XDG base directories).
fn search_path() -> Vec<(PathBuf, &'static str)> {
    let list = |name: &str, otherwise: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        let value = value.unwrap_or_else(|| otherwise.into());
        std::env::split_paths(&value).filter(|p| !p.as_os_str().is_empty()).collect::<Vec<_>>()
    };
    let own = list("LATENTBLEND_MODELS", "").into_iter().map(|path| (path, "LATENTBLEND_MODELS"));
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let home = home.map(|path| path.display().to_string()).unwrap_or_default();
    let user =
        list("XDG_DATA_HOME", &home).into_iter().map(|path| (path, "the user's data folder"));
    let system = list("XDG_DATA_DIRS", "/usr/local/share:/usr/share");
    let system = system.into_iter().map(|path| (path, "a data folder of the system"));
    let data = user.chain(system).map(|(path, from)| (path.join("latentblend/models"), from));
    own.chain(data).collect()
}

pub(super) fn models(model: Option<&Path>) -> Models {
    let mut found: Vec<Tried> = model.map(|path| at(path, "argument")).into_iter().collect();
    if let Some(path) = std::env::var_os("LATENTBLEND_SD2").filter(|path| !path.is_empty()) {
        found.push(at(Path::new(&path), "LATENTBLEND_SD2"));
    }
    let folders = search_path();
    for (folder, from) in &folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| e.ok());
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(MOST).collect();
        paths.sort();
        found.extend(paths.iter().filter(|p| looks_like_one(p)).map(|path| at(path, from)));
    }
    #[cfg(feature = "demo")]
    found.push(tried(
        "embedded demo model".into(),
        "this library",
        look(&Source::Embedded(latentblend_demo::STANDARD)),
    ));
    #[cfg(feature = "demo-inpainting")]
    found.push(tried(
        "embedded demo model for inpainting".into(),
        "this library",
        look(&Source::Embedded(latentblend_demo::INPAINTING)),
    ));
    let search_path = folders.into_iter().map(|(path, from)| {
        let there = path.is_dir();
        Folder { path: path.display().to_string(), from, there }
    });
    Models { search_path: search_path.collect(), tried: found }
}
