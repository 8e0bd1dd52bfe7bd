//! Recorded outputs of the reference implementations (`tests/golden`).

use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::PathBuf;

/// One recorded tensor, its values as f64 whatever they were stored as.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Recorded {
    pub fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// The `index`-th part along the first axis.
    pub fn row(&self, index: usize) -> Recorded {
        let length = self.values.len() / self.shape[0];
        Recorded {
            shape: self.shape[1..].to_vec(),
            values: self.values[index * length..(index + 1) * length].to_vec(),
        }
    }
}

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A recorded file's tensors by name.
pub fn read(name: &str) -> HashMap<String, Recorded> {
    let bytes = std::fs::read(path(&format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors();
    let convert = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            Dtype::F64 => {
                data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            Dtype::I64 => data
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                .collect(),
            Dtype::U8 => data.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{name}: {other:?}"),
        };
        (name, Recorded { shape: view.shape().to_vec(), values })
    };
    tensors.into_iter().map(convert).collect()
}

/// A recorded JSON file.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path(&format!("{name}.json"))).unwrap()).unwrap()
}

/// The largest difference over the largest magnitude.
pub fn relative_error(got: &[f32], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len(), "lengths differ");
    let largest = wanted.iter().fold(0f64, |most, v| most.max(v.abs()));
    let difference =
        got.iter().zip(wanted).fold(0f64, |most, (&g, &w)| most.max((f64::from(g) - w).abs()));
    assert!(got.iter().all(|v| v.is_finite()), "not finite");
    difference / largest
}
