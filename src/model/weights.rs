//! In: the safetensors files of one network. Out: one tensor after the other, as f32 in host memory,
//! its name and shape checked.
//!
//! A network's weights may lie in one file or in shards, in full or as an `.fp16` variant.

use super::source::{Source, SourceFile};
use crate::backend::HostTensor;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Call, Stage};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

/// The limit that the format itself sets for a header.
const HEADER_LIMIT: u64 = 100_000_000;

/// Reports on a load, counted in bytes over all of a model's networks.
pub(crate) struct LoadMeter<'a> {
    call: &'a Call<'a>,
    done: Cell<u64>,
    total: Cell<u64>,
}

impl<'a> LoadMeter<'a> {
    pub(crate) fn new(call: &'a Call<'a>) -> Self {
        LoadMeter { call, done: Cell::new(0), total: Cell::new(0) }
    }

    /// Reports the end, for some bytes of a file may be nobody's.
    pub(crate) fn finish(&self) -> Result<()> {
        self.done.set(self.total.get());
        self.advance(0)
    }

    fn advance(&self, bytes: u64) -> Result<()> {
        self.done.set(self.done.get() + bytes);
        let (done, total) = (self.done.get(), self.total.get().max(1));
        let mib = |bytes: u64| (bytes >> 20) as usize;
        self.call.report(Stage::Load, mib(done), mib(total), done as f64 / total as f64)
    }
}

/// Where one tensor lies.
struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    length: usize,
}

/// The weights of one network.
pub(crate) struct Weights<'a> {
    files: Vec<SourceFile>,
    entries: HashMap<String, Entry>,
    meter: &'a LoadMeter<'a>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

impl<'a> Weights<'a> {
    /// Opens `{folder}/{stem}.safetensors`, its `.fp16` variant, or the shards that an index names.
    pub(crate) fn open(
        source: &Source,
        folder: &str,
        stem: &str,
        meter: &'a LoadMeter<'a>,
    ) -> Result<Self> {
        let single = [format!("{stem}.safetensors"), format!("{stem}.fp16.safetensors")];
        let index = [
            format!("{stem}.safetensors.index.json"),
            format!("{stem}.safetensors.index.fp16.json"),
            format!("{stem}.fp16.safetensors.index.json"),
        ];
        let find = |names: &[String]| {
            names.iter().map(|name| format!("{folder}/{name}")).find(|name| source.exists(name))
        };
        // Full precision before the variant, whichever of them is in shards.
        let full = |names: &[String]| find(&names[..1]);
        let name = full(&single).or_else(|| full(&index)).or_else(|| find(&single));
        let name = name.or_else(|| find(&index));
        let names = if let Some(name) = name.clone().filter(|name| !name.ends_with(".json")) {
            vec![name]
        } else if let Some(name) = name {
            let index: ShardIndex = source.json(&name)?;
            let shards: BTreeSet<String> = index.weight_map.into_values().collect();
            if let Some(odd) = shards.iter().find(|s| s.contains(['/', '\\'])) {
                return Err(Error::bad_model(format!(
                    "{}: names the shard '{odd}' outside its folder",
                    source.label(&name)
                )));
            }
            shards.into_iter().map(|shard| format!("{folder}/{shard}")).collect()
        } else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{}: no weights; looked for {}, {} and {}",
                    source.label(folder),
                    single[0],
                    single[1],
                    index.join(", ")
                ),
            ));
        };
        let mut weights = Weights { files: Vec::new(), entries: HashMap::new(), meter };
        for name in names {
            weights.add(source.open(&name)?)?;
        }
        Ok(weights)
    }

    /// Reads and checks the header of one file.
    fn add(&mut self, mut file: SourceFile) -> Result<()> {
        let bad = |what: String| Error::bad_model(format!("{}: {what}", file.label));
        if file.length < 8 {
            return Err(bad(format!("{} bytes: too short for a safetensors file", file.length)));
        }
        let length = file.read_at(0, 8)?;
        let length = length.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        if length > HEADER_LIMIT || length > file.length - 8 {
            return Err(Error::bad_model(format!(
                "{}: not a safetensors file, or truncated: its header has {length} bytes, the file {}",
                file.label, file.length
            )));
        }
        let header = file.read_at(8, length as usize)?;
        let bad = |what: String| Error::bad_model(format!("{}: {what}", file.label));
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| bad(format!("bad header: {e}")))?;
        let data = 8 + length;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let bytes = info
                .shape
                .iter()
                .try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d))
                .map(|bits| bits / 8);
            if end < start || bytes != Some(end - start) {
                return Err(bad(format!("{name}: its bytes {start}..{end} do not fit its shape")));
            }
            if data.checked_add(end as u64).is_none_or(|end| end > file.length) {
                return Err(bad(format!(
                    "truncated: {name} ends at byte {} of a file of {}",
                    data.saturating_add(end as u64),
                    file.length
                )));
            }
            let entry = Entry {
                file: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data + start as u64,
                length: end - start,
            };
            self.entries.insert(name, entry);
        }
        self.meter.total.set(self.meter.total.get() + file.length - data);
        self.files.push(file);
        Ok(())
    }

    /// Fails if tensors are left that nobody asked for: the file is then of another architecture, and
    /// leaving a part of it out would give another picture.
    pub(crate) fn finish(self) -> Result<()> {
        // Some files carry the positions as integers, which say nothing.
        let known = |name: &&String| name.ends_with("position_ids");
        let left: Vec<&String> = self.entries.keys().filter(|name| !known(name)).collect();
        match left.iter().min() {
            None => Ok(()),
            Some(first) => Err(Error::bad_model(format!(
                "{}: {} tensors that Stable Diffusion 2 has no place for, such as {first}",
                self.label(),
                left.len()
            ))),
        }
    }

    /// What messages call these weights.
    pub(crate) fn label(&self) -> &str {
        self.files.first().map_or("weights", |file| &file.label)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor `name`, which must have `shape`. Axes of length 1 at the end may be missing or too
    /// many: a linear layer is stored as a 1x1 convolution in some files.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        let Some(entry) = self.entries.remove(name) else {
            return Err(Error::bad_model(format!(
                "{}: tensor {name} is missing (wanted shape {shape:?})",
                self.label()
            )));
        };
        let file = &mut self.files[entry.file];
        if trimmed(&entry.shape) != trimmed(shape) {
            return Err(Error::bad_model(format!(
                "{}: tensor {name} has shape {:?}, wanted {shape:?}",
                file.label, entry.shape
            )));
        }
        let bytes = file.read_at(entry.start, entry.length)?;
        let data = decode(&bytes, entry.dtype).ok_or_else(|| {
            Error::bad_model(format!(
                "{}: tensor {name} has type {:?}, wanted F32, F16 or BF16",
                file.label, entry.dtype
            ))
        })?;
        self.meter.advance(entry.length as u64)?;
        HostTensor::new(shape, data)
    }
}

fn trimmed(shape: &[usize]) -> &[usize] {
    let end = shape.iter().rposition(|&d| d != 1).map_or(0, |last| last + 1);
    &shape[..end]
}

/// The values of little-endian `bytes` as f32; all three types convert without loss.
fn decode(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F32 => Some(
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Dtype::F16 => Some(pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}
