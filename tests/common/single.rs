//! Models in single files, beside what is known of them.

use super::folder::Tensors;
use super::golden;
use latentblend::{Call, Error, LoadOptions, Model};
use safetensors::tensor::{SafeTensors, TensorView, serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The recorded archive `name`.
pub fn archive(name: &str) -> PathBuf {
    golden::path("archives").join(name)
}

/// Options under which the configurations are those of the tiny model `name`.
pub fn like(name: &str) -> LoadOptions {
    LoadOptions { config: Some(golden::path("tiny").join(name)), ..super::in_f32() }
}

pub fn load(path: &Path, options: &LoadOptions) -> Result<Model, Error> {
    Model::load_with(path, options, &Call::new())
}

/// The error of a file that must not load.
pub fn refused(path: &Path, options: &LoadOptions) -> Error {
    let error = load(path, options).map(|_| ()).expect_err("the file was loaded");
    assert!(error.message().starts_with(&path.display().to_string()), "{error}");
    error
}

/// A file in a folder of its own, removed when dropped.
pub struct File {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl File {
    pub fn new(name: &'static str, bytes: impl AsRef<[u8]>) -> Self {
        let file = File { folder: tempfile::tempdir().unwrap(), name };
        file.write(bytes);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    pub fn write(&self, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(), bytes).unwrap();
    }

    /// Writes a text of the same name with another ending.
    pub fn beside(&self, ending: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path().with_extension(ending), text).unwrap();
    }
}

/// The texts of a model folder as one JSON object, as they may stand beside a single file.
pub fn bundle(folder: &Path) -> Map<String, Value> {
    let names = [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "vae/config.json",
    ];
    let value = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    names.into_iter().map(|name| (name.to_owned(), value(name))).collect()
}

/// The tensors of a safetensors file.
pub fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let stored = |view: TensorView<'_>| super::folder::Stored {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect()
}

/// A safetensors file of tensors, without notes in its header.
pub fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    serialize(views, None).unwrap()
}
