//! In: the files of one network. Out: one tensor after the other, as f32 in host memory, its name and
//! shape checked.
//!
//! A network's weights may lie in one file or in shards, in full or as an `.fp16` variant, as safetensors
//! or in an archive of PyTorch, or in a single file with the other networks. Here they go by one name.

use super::fingerprint::{Fingerprint, Fingerprinter};
use super::naming::canonical;
use super::single::{Single, pairs};
use super::source::{Source, SourceFile};
use super::tensors::{Contents, Entry, decode};
use crate::backend::{HostTensor, Spare, Workers};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Call, Stage};
use safetensors::Dtype;
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Follows a load over all of a model's networks: reports on it, counted in bytes, takes the fingerprint of what is
/// read, and has the memory that one tensor after the other is read into.
pub(crate) struct LoadMeter<'a> {
    call: &'a Call<'a>,
    fingerprint: Fingerprinter,
    bytes: RefCell<Vec<u8>>,
    spare: Arc<Spare>,
    done: Cell<u64>,
    total: Cell<u64>,
    numbers: Cell<u64>,
}

impl<'a> LoadMeter<'a> {
    pub(crate) fn new(call: &'a Call<'a>) -> Self {
        LoadMeter {
            call,
            fingerprint: Fingerprinter::default(),
            bytes: RefCell::default(),
            spare: Arc::default(),
            done: Cell::new(0),
            total: Cell::new(0),
            numbers: Cell::new(0),
        }
    }

    /// How many numbers the networks have been given.
    pub(crate) fn numbers(&self) -> u64 {
        self.numbers.get()
    }

    /// The fingerprint of all that was read.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.finish()
    }

    /// Reports the end, for some bytes of a file may be nobody's, and lets go of the memory.
    pub(crate) fn finish(&self) -> Result<()> {
        self.bytes.take();
        self.spare.clear();
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

/// Bytes of a tensor whose memory the next one uses: few are larger, and memory is short while those are packed.
const KEPT: usize = 32 << 20;

/// The weights of one network.
pub(crate) struct Weights<'a> {
    network: String,
    files: Vec<SourceFile>,
    entries: HashMap<String, Entry>,
    /// What the files call a tensor, where that is another name, for messages.
    names: HashMap<String, String>,
    meter: &'a LoadMeter<'a>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: HashMap<String, String>,
}

impl<'a> Weights<'a> {
    /// Opens the weights of the network in `folder`: `{stem}.safetensors`, its `.fp16` variant, the
    /// shards that an index names, an archive of PyTorch, or the network's part of a single file.
    pub(crate) fn open(
        source: &Source,
        folder: &str,
        stem: &str,
        meter: &'a LoadMeter<'a>,
    ) -> Result<Self> {
        let mut weights = Weights {
            network: folder.to_owned(),
            files: Vec::new(),
            entries: HashMap::new(),
            names: HashMap::new(),
            meter,
        };
        if let Source::Single(single) = source {
            weights.add_single(source, single)?;
        } else {
            for name in files(source, folder, stem)? {
                weights.add(source.open(&name)?)?;
            }
        }
        Ok(weights)
    }

    /// Takes in the tensors of one file of a folder.
    fn add(&mut self, mut file: SourceFile) -> Result<()> {
        for (own, mut entry) in Contents::read(&mut file)?.entries {
            entry.file = self.files.len();
            let name = canonical(&self.network, &own);
            if own != name {
                self.names.insert(name.clone(), own);
            }
            self.insert(name, entry);
        }
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

    /// Takes in the network's tensors of a single file.
    fn add_single(&mut self, source: &Source, single: &Single) -> Result<()> {
        for pair in pairs(source, &self.network)? {
            if let Some(entry) = single.entry(&pair) {
                self.insert(pair.folder.clone(), entry);
            }
            self.names.insert(pair.folder, pair.single);
        }
        self.files.push(single.reopen()?);
        Ok(())
    }

    fn insert(&mut self, name: String, entry: Entry) {
        self.meter.total.set(self.meter.total.get() + entry.length() as u64);
        self.entries.insert(name, entry);
    }

    /// What messages call these weights.
    pub(crate) fn label(&self) -> &str {
        self.files.first().map_or("weights", |file| &file.label)
    }

    /// Whether all numbers are stored as f16.
    pub(crate) fn are_f16(&self) -> bool {
        self.entries.values().all(|entry| entry.dtype == Dtype::F16)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn missing(&self, name: &str, wanted: &str) -> Error {
        let own = self.names.get(name).map_or(name, String::as_str);
        Error::bad_model(format!("{}: tensor {own} is missing{wanted}", self.label()))
    }

    /// The type and shape of the tensor `name`.
    pub(super) fn describe(&self, name: &str) -> Result<(Dtype, &[usize])> {
        let entry = self.entries.get(name).ok_or_else(|| self.missing(name, ""))?;
        Ok((entry.dtype, &entry.shape))
    }

    /// The bytes of the tensor `name` as they are stored.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let entry = self.entries.get(name).ok_or_else(|| self.missing(name, ""))?;
        let mut bytes = Vec::new();
        entry.read(&mut self.files[entry.file], &mut bytes)?;
        self.meter.advance(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// The tensor `name`, which must have `shape`. Axes of length 1 at the end may be missing or too
    /// many: a linear layer is stored as a 1x1 convolution in some files. `workers` convert it.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        workers: &Workers,
    ) -> Result<HostTensor> {
        let Some(entry) = self.entries.remove(name) else {
            return Err(self.missing(name, &format!(" (wanted shape {shape:?})")));
        };
        let own = self.names.get(name).map_or(name, String::as_str);
        let file = &mut self.files[entry.file];
        if trimmed(&entry.shape) != trimmed(shape) {
            return Err(Error::bad_model(format!(
                "{}: tensor {own} has shape {:?}, wanted {shape:?}",
                file.label, entry.shape
            )));
        }
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(Error::bad_model(format!(
                "{}: tensor {own} has type {:?}, wanted F32, F16 or BF16",
                file.label, entry.dtype
            )));
        }
        let meter = self.meter;
        let mut bytes = meter.bytes.take();
        entry.read(file, &mut bytes)?;
        let values = meter.spare.take(bytes.len() / (entry.dtype.bitsize() / 8));
        let data = workers
            .run(|| decode(&bytes, entry.dtype, values))
            .ok_or_else(|| Error::internal(format!("tensor {own} cannot be decoded")))?;
        meter.advance(bytes.len() as u64)?;
        if bytes.capacity() <= KEPT {
            meter.bytes.replace(bytes);
        }
        meter.numbers.set(meter.numbers.get() + data.len() as u64);
        meter.fingerprint.add(&self.network, name, shape, &data);
        Ok(HostTensor::new(shape, data)?.lent(&meter.spare))
    }
}

/// The files of the network in `folder`.
fn files(source: &Source, folder: &str, stem: &str) -> Result<Vec<String>> {
    // What transformers calls a model in safetensors it calls a pytorch_model in an archive.
    let archive = if stem == "model" { "pytorch_model" } else { stem };
    let safetensors = ["safetensors", "fp16.safetensors"].map(|end| format!("{stem}.{end}"));
    let archives = ["bin", "fp16.bin"].map(|end| format!("{archive}.{end}"));
    let index = [
        format!("{stem}.safetensors.index.json"),
        format!("{stem}.safetensors.index.fp16.json"),
        format!("{stem}.fp16.safetensors.index.json"),
        format!("{archive}.bin.index.json"),
    ];
    let find = |names: &[String]| {
        names.iter().map(|name| format!("{folder}/{name}")).find(|name| source.exists(name))
    };
    // Full precision before the variant, whichever of them is in shards.
    if let Some(name) = find(&safetensors[..1]) {
        return Ok(vec![name]);
    }
    if let Some(name) = find(&index[..1]) {
        return shards(source, folder, &name);
    }
    if let Some(name) = find(&safetensors) {
        return Ok(vec![name]);
    }
    if let Some(name) = find(&index[..3]) {
        return shards(source, folder, &name);
    }
    if let Some(name) = find(&archives) {
        return Ok(vec![name]);
    }
    if let Some(name) = find(&index[3..]) {
        return shards(source, folder, &name);
    }
    let wanted = [&safetensors[..], &archives, &index].concat();
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{}: no weights; looked for {}", source.label(folder), wanted.join(", ")),
    ))
}

/// The shards that the index `name` lists.
fn shards(source: &Source, folder: &str, name: &str) -> Result<Vec<String>> {
    let index: ShardIndex = source.json(name)?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(odd) = shards.iter().find(|s| s.contains(['/', '\\'])) {
        return Err(Error::bad_model(format!(
            "{}: names the shard '{odd}' outside its folder",
            source.label(name)
        )));
    }
    Ok(shards.into_iter().map(|shard| format!("{folder}/{shard}")).collect())
}

fn trimmed(shape: &[usize]) -> &[usize] {
    let end = shape.iter().rposition(|&d| d != 1).map_or(0, |last| last + 1);
    &shape[..end]
}
