//! Copies of a tiny model folder, to be written in other layouts or damaged.

use super::golden;
use latentblend::{Error, Model};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Stored {
    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F16);
        let pairs = self.bytes.chunks_exact(2);
        pairs.map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    }

    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Stored { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }
}

pub type Tensors = BTreeMap<String, Stored>;

pub const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
pub const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
pub const TEXT: &str = "text_encoder/model.safetensors";

/// A copy of a tiny model in a folder of its own, removed when dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&golden::path("tiny/base"), folder.path());
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn load(&self) -> Result<Model, Error> {
        super::load(self.0.path())
    }

    /// The error that loading gives, which names `file`.
    pub fn error(&self, file: &str) -> Error {
        let error = self.load().map(|_| ()).expect_err("the damaged model was loaded");
        let (message, path) = (error.message(), self.path(file).display().to_string());
        assert!(message.starts_with(&path), "{message:?} does not name {path}");
        error
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn edit_json(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.write(name, serde_json::to_vec(&value).unwrap());
    }

    pub fn tensors(&self, name: &str) -> Tensors {
        let bytes = std::fs::read(self.path(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stored = |view: TensorView<'_>| Stored {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect()
    }

    pub fn write_tensors(&self, name: &str, tensors: &Tensors) {
        let views = tensors
            .iter()
            .map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
        self.write(name, serialize(views, None).unwrap());
    }

    pub fn edit_tensors(&self, name: &str, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = self.tensors(name);
        change(&mut tensors);
        self.write_tensors(name, &tensors);
    }
}

/// Copies a folder, following links.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}
