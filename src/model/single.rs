//! In: a model in one file, in the naming of Stable Diffusion's own releases. Out: what a folder would
//! hold: configurations, a tokenizer, and the tensors of each network under the folder's names.

use super::config::{TextConfig, UnetConfig, VaeConfig};
use super::infer::{Shapes, scheduler};
use super::naming::{self, Pair};
use super::source::{Source, SourceFile};
use super::tensors::{Contents, Entry};
use super::vocabulary;
use crate::error::{Error, ErrorKind, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The texts of a model folder: nothing else is taken from, or written to, a file beside the weights.
pub(crate) const TEXTS: [&str; 10] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "vae/config.json",
];

/// The entry of a safetensors header, and the ending of a file beside the weights, that hold such
/// texts: one JSON object, each text by its name, JSON as it is and other text as a string.
pub(super) const METADATA: &str = "latentblend.files";
const SIDECAR: &str = "latentblend.json";

/// A model in one file.
#[derive(Debug)]
pub(crate) struct Single {
    path: PathBuf,
    texts: BTreeMap<&'static str, Vec<u8>>,
    entries: HashMap<String, Entry>,
    /// What the header calls the licence.
    pub(super) licence: Option<String>,
}

/// What is known beside the weights.
#[derive(Default)]
struct Notes {
    texts: BTreeMap<&'static str, Vec<u8>>,
    prediction_type: Option<&'static str>,
}

impl Single {
    /// Reads the directory of a file, and whatever stands beside it: `config` if given, else
    /// `NAME.latentblend.json`, the file's own header, or `NAME.yaml`.
    pub(super) fn open(path: &Path, config: Option<&Path>) -> Result<Self> {
        let contents = Contents::read(&mut SourceFile::open(path)?)?;
        let label = path.display().to_string();
        let bad = |what: String| Error::bad_model(format!("{label}: {what}"));
        let shapes = Shapes(&contents.entries);
        shapes.check_family().map_err(bad)?;
        let sidecar = path.with_extension(SIDECAR);
        let yaml = path.with_extension("yaml");
        let mut notes = if let Some(config) = config {
            Notes::read(config)?
        } else if sidecar.is_file() {
            Notes::read(&sidecar)?
        } else if let Some(text) = contents.metadata.get(METADATA) {
            let place = format!("{label}: header entry {METADATA}");
            Notes { texts: bundle(&place, text.as_bytes())?, prediction_type: None }
        } else if yaml.is_file() {
            Notes::read(&yaml)?
        } else {
            Notes::default()
        };
        let mut add = |name: &'static str, make: &dyn Fn() -> Result<Value>| -> Result<()> {
            if !notes.texts.contains_key(name) {
                notes.texts.insert(name, make()?.to_string().into_bytes());
            }
            Ok(())
        };
        add("unet/config.json", &|| shapes.unet().map_err(bad))?;
        add("vae/config.json", &|| shapes.vae().map_err(bad))?;
        add("text_encoder/config.json", &|| shapes.text().map_err(bad))?;
        let kind = notes.prediction_type;
        add("scheduler/scheduler_config.json", &|| Ok(scheduler(kind)))?;
        let tokenizer = ["tokenizer/tokenizer.json", vocabulary::VOCABULARY];
        if !tokenizer.iter().any(|name| notes.texts.contains_key(name)) {
            notes.texts.extend(vocabulary::files().map_err(|e| e.at(&label))?);
        }
        let named = ["modelspec.license", "license"].iter();
        let licence = named.filter_map(|name| contents.metadata.get(*name)).next().cloned();
        let (texts, entries) = (notes.texts, contents.entries);
        Ok(Single { path: path.to_path_buf(), texts, entries, licence })
    }

    /// Where the file is, at the path that `absolute` makes of its own, and the sizes of its networks.
    pub(super) fn anchored(&self, absolute: impl Fn(&Path) -> PathBuf) -> Self {
        let sizes = self.texts.iter().filter(|(name, _)| name.ends_with("/config.json"));
        Single {
            path: absolute(&self.path),
            texts: sizes.map(|(name, text)| (*name, text.clone())).collect(),
            entries: HashMap::new(),
            licence: None,
        }
    }

    /// The same, with the tensors that the file has now.
    pub(super) fn again(&self) -> Result<Self> {
        let entries = Contents::read(&mut SourceFile::open(&self.path)?)?.entries;
        let (path, texts) = (self.path.clone(), self.texts.clone());
        Ok(Single { path, texts, entries, licence: None })
    }

    /// What messages call the file.
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// The folder that the file lies in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.path.parent().map(Path::to_path_buf)
    }

    /// What messages call the text `name`.
    pub(super) fn label(&self, name: &str) -> String {
        format!("{}: {name}", self.path.display())
    }

    pub(super) fn text(&self, name: &str) -> Option<&[u8]> {
        self.texts.get(name).map(Vec::as_slice)
    }

    /// The file, opened anew.
    pub(super) fn reopen(&self) -> Result<SourceFile> {
        SourceFile::open(&self.path)
    }

    /// Where `pair` lies in the file, if it does.
    pub(super) fn entry(&self, pair: &Pair) -> Option<Entry> {
        let entry = self.entries.get(&pair.single)?;
        match pair.third {
            None => Some(entry.clone()),
            Some(index) => entry.part(index, 3),
        }
    }
}

/// The names of the tensors of the network in `folder`, of the sizes that `source` tells.
pub(super) fn pairs(source: &Source, folder: &str) -> Result<Vec<Pair>> {
    match folder {
        "unet" => Ok(naming::unet(&UnetConfig::read(source)?)),
        "vae" => Ok(naming::vae(&VaeConfig::read(source)?)),
        "text_encoder" => Ok(naming::text(&TextConfig::read(source)?)),
        _ => Err(Error::internal(format!("no network lies in {folder}"))),
    }
}

impl Notes {
    /// A folder in diffusers layout, whose weights are of no interest; a file of texts; or the
    /// original configuration in YAML, of which only what the UNet predicts is wanted.
    fn read(path: &Path) -> Result<Self> {
        let label = path.display();
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(&label, &e))?;
        if metadata.is_dir() {
            let folder = Source::Folder(path.to_path_buf());
            let mut notes = Notes::default();
            for name in TEXTS.into_iter().filter(|name| folder.exists(name)) {
                notes.texts.insert(name, folder.read(name)?);
            }
            if notes.texts.is_empty() {
                return Err(Error::bad_model(format!("{label}: no configurations of a model")));
            }
            return Ok(notes);
        }
        let text = SourceFile::open(path)?.read_whole()?;
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => {
                let texts = bundle(&label.to_string(), &text)?;
                Ok(Notes { texts, prediction_type: None })
            }
            Some("yaml" | "yml") => Ok(Notes {
                texts: BTreeMap::new(),
                prediction_type: parameterization(&String::from_utf8_lossy(&text))
                    .map_err(|what| Error::bad_model(format!("{label}: {what}")))?,
            }),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{label}: wanted a folder of configurations, a .json or a .yaml file"),
            )),
        }
    }
}

/// The texts in one JSON object.
fn bundle(place: &str, text: &[u8]) -> Result<BTreeMap<&'static str, Vec<u8>>> {
    let bad = |what: String| Error::bad_model(format!("{place}: {what}"));
    let map: BTreeMap<String, Value> =
        serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    let mut texts = BTreeMap::new();
    for (name, value) in map {
        let known = TEXTS.into_iter().find(|known| *known == name);
        let known = known.ok_or_else(|| bad(format!("'{name}' is no text of a model")))?;
        let text = match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        texts.insert(known, text.into_bytes());
    }
    Ok(texts)
}

/// What the UNet predicts, from an original configuration. It is left out where it is the noise.
pub(super) fn parameterization(text: &str) -> std::result::Result<Option<&'static str>, String> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key))?;
        Some(line.split('#').next()?.trim().trim_matches(['"', '\'']).to_owned())
    };
    match value("parameterization:").as_deref() {
        Some("v") => Ok(Some("v_prediction")),
        Some("eps") => Ok(Some("epsilon")),
        Some(other) => Err(format!("parameterization '{other}': wanted 'eps' or 'v'")),
        None if value("linear_start:").is_some() => Ok(Some("epsilon")),
        None => Ok(None),
    }
}
