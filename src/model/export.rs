//! In: a model in either layout. Out: the same weights in the other, bit for bit.

use super::config::{PredictionType, Spacing};
use super::naming::Pair;
use super::single::{METADATA, TEXTS, pairs};
use super::source::Source;
use super::vocabulary::{self, MERGES, SPECIAL, VOCABULARY};
use super::weights::{LoadMeter, Weights};
use crate::error::{Error, Result};
use crate::progress::Call;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// How a model lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelLayout {
    /// A folder in diffusers layout.
    Folder,
    /// One `.safetensors` file in the naming of Stable Diffusion's own releases.
    SingleFile,
}

const NETWORKS: [(&str, &str); 3] = [
    ("text_encoder", "model"),
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];

/// A tensor to be written, put together from rows of others.
struct Planned {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Which network's, and its parts' names there.
    network: usize,
    parts: Vec<String>,
}

/// Writes the model of `source` to `target`, which must not exist yet. `prediction_type` and `spacing`
/// are what its configuration will say; `sample_size` goes into one that has none.
pub(crate) fn export(
    source: &Source,
    target: &Path,
    layout: ModelLayout,
    (prediction_type, spacing): (PredictionType, Spacing),
    sample_size: usize,
    call: &Call<'_>,
) -> Result<()> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(Error::invalid(format!("{}: is there already", target.display())));
    }
    let texts = texts(source, (prediction_type, spacing), sample_size)?;
    let meter = LoadMeter::new(call);
    let mut weights = NETWORKS
        .into_iter()
        .map(|(folder, stem)| Weights::open(source, folder, stem, &meter))
        .collect::<Result<Vec<_>>>()?;
    match layout {
        ModelLayout::SingleFile => {
            if target.extension().is_none_or(|e| e != "safetensors") {
                let target = target.display();
                return Err(Error::invalid(format!("{target}: wanted a name in .safetensors")));
            }
            let mut plan = Vec::new();
            for (network, (folder, _)) in NETWORKS.into_iter().enumerate() {
                plan.extend(single_plan(network, &pairs(source, folder)?, &weights[network])?);
            }
            let texts = without_clip(texts)?;
            let mut bundle = Map::new();
            for (name, text) in texts {
                let text = String::from_utf8(text)
                    .map_err(|e| Error::bad_model(format!("{}: {e}", source.label(name))))?;
                let value = serde_json::from_str(&text).ok().filter(Value::is_object);
                bundle.insert(name.into(), value.unwrap_or(Value::String(text)));
            }
            let notes = json!({ METADATA: Value::Object(bundle).to_string(), "format": "pt" });
            write_file(target, notes, plan, &mut weights)
        }
        ModelLayout::Folder => {
            fs::create_dir(target).map_err(|e| Error::io(target.display(), &e))?;
            let written = write_folder(source, target, &texts, &mut weights);
            if written.is_err() {
                // What is half written is of no use; that it cannot be removed is not the news.
                let _ = fs::remove_dir_all(target);
            }
            written
        }
    }
}

fn write_folder(
    source: &Source,
    target: &Path,
    texts: &BTreeMap<&'static str, Vec<u8>>,
    weights: &mut [Weights<'_>],
) -> Result<()> {
    for (name, text) in texts {
        let path = target.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(target))?;
            fs::write(&path, text)
        };
        write().map_err(|e| Error::io(path.display(), &e))?;
    }
    for (network, (folder, stem)) in NETWORKS.into_iter().enumerate() {
        let plan = folder_plan(network, &pairs(source, folder)?, &weights[network])?;
        let path = target.join(folder).join(format!("{stem}.safetensors"));
        write_file(&path, json!({ "format": "pt" }), plan, weights)?;
    }
    Ok(())
}

/// The texts of a folder, with what a single file leaves open filled in.
fn texts(
    source: &Source,
    (prediction_type, spacing): (PredictionType, Spacing),
    sample_size: usize,
) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let mut texts = BTreeMap::new();
    for name in TEXTS.into_iter().filter(|name| source.exists(name)) {
        texts.insert(name, source.read(name)?);
    }
    let mut fill = |name: &'static str, fields: &[(&str, Value)]| -> Result<Map<String, Value>> {
        let mut map: Map<String, Value> = source.json(name)?;
        for (field, value) in fields {
            let decided = ["prediction_type", "timestep_spacing"].contains(field);
            if decided || !map.contains_key(*field) {
                map.insert((*field).into(), value.clone());
            }
        }
        texts.insert(name, pretty(&map)?);
        Ok(map)
    };
    let kind = match prediction_type {
        PredictionType::Epsilon => "epsilon",
        PredictionType::Velocity => "v_prediction",
    };
    let spacing = match spacing {
        Spacing::Leading => "leading",
        Spacing::Trailing => "trailing",
        Spacing::Linspace => "linspace",
    };
    let fields = [
        ("_class_name", json!("DDIMScheduler")),
        ("prediction_type", json!(kind)),
        ("timestep_spacing", json!(spacing)),
    ];
    let scheduler = fill("scheduler/scheduler_config.json", &fields)?;
    let unet = fill("unet/config.json", &[("sample_size", json!(sample_size))])?;
    let index = "model_index.json";
    if !texts.contains_key(index) {
        let class = match unet["in_channels"].as_u64() {
            Some(9) => "StableDiffusionInpaintPipeline",
            _ => "StableDiffusionPipeline",
        };
        let value = json!({
            "_class_name": class,
            "feature_extractor": [null, null],
            "requires_safety_checker": false,
            "safety_checker": [null, null],
            "scheduler": ["diffusers", scheduler["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        });
        texts.insert(index, pretty(&value)?);
    }
    Ok(texts)
}

fn pretty(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::internal(format!("a configuration: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

/// Leaves the tokenizer away where it is CLIP's own, which travels with the library.
fn without_clip(
    mut texts: BTreeMap<&'static str, Vec<u8>>,
) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    if cfg!(not(feature = "clip-vocabulary")) {
        return Ok(texts);
    }
    let own: BTreeMap<&str, Vec<u8>> = vocabulary::files()?.into_iter().collect();
    let parsed = |text: Option<&Vec<u8>>| -> Option<Value> { serde_json::from_slice(text?).ok() };
    let vocabulary =
        |files: &BTreeMap<&str, Vec<u8>>| parsed(files.get(VOCABULARY)).filter(Value::is_object);
    let merges = |files: &BTreeMap<&str, Vec<u8>>| -> Option<Vec<String>> {
        let text = std::str::from_utf8(files.get(MERGES)?).ok()?;
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
        Some(lines.map(str::to_owned).collect())
    };
    let pad = parsed(texts.get(SPECIAL)).map(|map| map["pad_token"].clone());
    let pad = pad.as_ref().and_then(|pad| pad.as_str().or_else(|| pad["content"].as_str()));
    let same = pad == Some("!")
        && vocabulary(&texts).is_some()
        && vocabulary(&texts) == vocabulary(&own)
        && merges(&texts) == merges(&own);
    if same {
        texts.retain(|name, _| !name.starts_with("tokenizer/"));
    }
    Ok(texts)
}

/// The tensors of a network as a folder holds them.
fn folder_plan(network: usize, pairs: &[Pair], weights: &Weights<'_>) -> Result<Vec<Planned>> {
    let mut plan = Vec::with_capacity(pairs.len());
    for pair in pairs {
        if pair.optional && !weights.contains(&pair.folder) {
            continue;
        }
        let (dtype, shape) = weights.describe(&pair.folder)?;
        let mut shape = shape.to_vec();
        if pair.pointwise {
            shape.truncate(2);
        }
        let (name, parts) = (pair.folder.clone(), vec![pair.folder.clone()]);
        plan.push(Planned { name, dtype, shape, network, parts });
    }
    Ok(plan)
}

/// The tensors of a network as a single file holds them.
fn single_plan(network: usize, pairs: &[Pair], weights: &Weights<'_>) -> Result<Vec<Planned>> {
    let mut groups: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        if !pair.optional || weights.contains(&pair.folder) {
            groups.entry(&pair.single).or_default().push(pair);
        }
    }
    let mut plan = Vec::with_capacity(groups.len());
    for (name, mut group) in groups {
        group.sort_by_key(|pair| pair.third);
        let (dtype, shape) = weights.describe(&group[0].folder)?;
        let mut shape = shape.to_vec();
        for pair in &group[1..] {
            let (other, part) = weights.describe(&pair.folder)?;
            if other != dtype || part.get(1..) != shape.get(1..) || part.is_empty() {
                return Err(Error::bad_model(format!(
                    "{}: {} is of another type or width than {}",
                    weights.label(),
                    pair.folder,
                    group[0].folder
                )));
            }
            shape[0] += part[0];
        }
        if group[0].pointwise {
            shape.resize(4, 1);
        }
        let parts = group.iter().map(|pair| pair.folder.clone()).collect();
        plan.push(Planned { name: name.to_owned(), dtype, shape, network, parts });
    }
    Ok(plan)
}

/// Writes a safetensors file, one tensor after the other. It gets its name when it is complete.
fn write_file(
    path: &Path,
    metadata: Value,
    mut plan: Vec<Planned>,
    weights: &mut [Weights<'_>],
) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    // The widest type first, so that every tensor starts at a multiple of its type's size.
    plan.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then(a.name.cmp(&b.name)));
    let mut header = Map::new();
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for planned in &plan {
        let start = end;
        end += planned.shape.iter().product::<usize>() * planned.dtype.bitsize() / 8;
        let entry = json!({
            "dtype": planned.dtype, "shape": planned.shape, "data_offsets": [start, end],
        });
        header.insert(planned.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let io = |e: std::io::Error| Error::io(partial.display(), &e);
    let mut write = || {
        let mut file = BufWriter::new(File::create(partial).map_err(io)?);
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        for planned in &plan {
            for part in &planned.parts {
                let bytes = weights[planned.network].bytes(part)?;
                file.write_all(&bytes).map_err(io)?;
            }
        }
        file.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)?;
        fs::rename(partial, path).map_err(|e| Error::io(path.display(), &e))
    };
    let written = write();
    if written.is_err() {
        // What is half written is of no use; that it cannot be removed is not the news.
        let _ = fs::remove_file(partial);
    }
    written
}
