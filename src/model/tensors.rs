//! In: an open file of weights, safetensors or a PyTorch archive, told apart by content. Out: where
//! each of its tensors lies, and the numbers of one at a time.

use super::checkpoint;
use super::source::SourceFile;
use crate::error::{Error, ErrorKind, Result};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::HashMap;

/// The limit that the safetensors format itself sets for a header.
const HEADER_LIMIT: u64 = 100_000_000;

/// Where one tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Which of a network's files.
    pub(super) file: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// The byte in the file at which it starts.
    pub(super) start: u64,
    /// In numbers, where they aren't those of dense rows.
    pub(super) strides: Option<Vec<usize>>,
}

/// The tensors of a file and the notes in its header.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: HashMap<String, Entry>,
    pub(super) metadata: HashMap<String, String>,
}

impl Contents {
    /// Reads the directory of a file, whatever its name ends in.
    pub(super) fn read(file: &mut SourceFile) -> Result<Self> {
        if file.length < 8 {
            return Err(Error::bad_model(format!(
                "{}: {} bytes: too short for a safetensors file or a PyTorch archive",
                file.label, file.length
            )));
        }
        let head = file.read_at(0, file.length.min(16) as usize)?;
        if head.starts_with(b"PK\x03\x04") {
            return Ok(Contents { entries: checkpoint::entries(file)?, ..Contents::default() });
        }
        // A safetensors header is JSON from byte 8 on; a pickle starts with its protocol.
        if head[0] == 0x80 && (2..=5).contains(&head[1]) && head.get(8) != Some(&b'{') {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: a PyTorch file from before version 1.6, or a bare pickle; only zip archives \
                     and safetensors are read",
                    file.label
                ),
            ));
        }
        safetensors_header(file, &head)
    }
}

/// Reads and checks the header of a safetensors file.
fn safetensors_header(file: &mut SourceFile, head: &[u8]) -> Result<Contents> {
    let length = head[..8].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    if length > HEADER_LIMIT || length > file.length - 8 {
        return Err(Error::bad_model(format!(
            "{}: neither a safetensors file nor a PyTorch archive, or truncated: its header has \
             {length} bytes, the file {}",
            file.label, file.length
        )));
    }
    let header = file.read_at(8, length as usize)?;
    let bad = |what: String| Error::bad_model(format!("{}: {what}", file.label));
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|e| bad(format!("neither safetensors nor a PyTorch archive: bad header: {e}")))?;
    let data = 8 + length;
    let mut contents = Contents::default();
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
        if end < start || bits.map(|bits| bits / 8) != Some(end - start) {
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
            file: 0,
            dtype: info.dtype,
            shape: info.shape.clone(),
            start: data + start as u64,
            strides: None,
        };
        contents.entries.insert(name, entry);
    }
    contents.metadata = metadata.metadata().clone().unwrap_or_default();
    Ok(contents)
}

impl Entry {
    /// How many numbers it has. Directories are checked against their files, so this is bounded.
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its size in bytes.
    pub(super) fn length(&self) -> usize {
        self.count() * self.dtype.bitsize() / 8
    }

    /// The `index`-th of `count` equal groups of rows, if it can be parted so.
    pub(super) fn part(&self, index: usize, count: usize) -> Option<Entry> {
        let rows = *self.shape.first()?;
        if !rows.is_multiple_of(count) {
            return None;
        }
        let mut part = self.clone();
        part.shape[0] = rows / count;
        let row = match &self.strides {
            Some(strides) => strides[0],
            None => self.shape[1..].iter().product(),
        };
        let bytes = self.dtype.bitsize() / 8;
        part.start += (index * part.shape[0] * row * bytes) as u64;
        Some(part)
    }

    /// Its bytes, row by row without gaps, in place of what is in `dense`.
    pub(super) fn read(&self, file: &mut SourceFile, dense: &mut Vec<u8>) -> Result<()> {
        let Some(strides) = &self.strides else {
            return file.read_into(self.start, self.length(), dense);
        };
        let (count, size) = (self.count(), self.dtype.bitsize() / 8);
        dense.clear();
        if count == 0 {
            return Ok(());
        }
        let last: usize = self.shape.iter().zip(strides).map(|(&d, &s)| (d - 1) * s).sum();
        let span = file.read_at(self.start, (last + 1) * size)?;
        dense.reserve(count * size);
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..count {
            let at = index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>() * size;
            dense.extend_from_slice(&span[at..at + size]);
            for (i, &d) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < d {
                    break;
                }
                *i = 0;
            }
        }
        Ok(())
    }
}

/// Makes values of as many little-endian numbers.
type Convert = fn(&[u8], &mut [f32]);

/// Numbers that one thread converts at a time.
const PART: usize = 1 << 16;

/// The values of little-endian `bytes` as f32; all three types convert without loss. Large tensors are shared among the
/// threads of the pool that this runs in: most of the time goes into memory, above all where it is touched for the first time. That of `values` is
/// used.
pub(super) fn decode(bytes: &[u8], dtype: Dtype, mut values: Vec<f32>) -> Option<Vec<f32>> {
    let (size, convert): (usize, Convert) = match dtype {
        Dtype::F32 => (4, |bytes, values| {
            let numbers = bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number));
            values.iter_mut().zip(numbers).for_each(|(value, number)| *value = number);
        }),
        Dtype::F16 => (2, |bytes, values| {
            // As slices, for one by one each would ask what the processor can.
            let mut half = [half::f16::ZERO; 512];
            for (values, bytes) in values.chunks_mut(half.len()).zip(bytes.chunks(2 * half.len())) {
                let half = &mut half[..values.len()];
                for (half, &pair) in half.iter_mut().zip(bytes.as_chunks().0) {
                    *half = half::f16::from_le_bytes(pair);
                }
                half.convert_to_f32_slice(values);
            }
        }),
        Dtype::BF16 => (2, |bytes, values| {
            for (value, &pair) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = half::bf16::from_le_bytes(pair).to_f32();
            }
        }),
        _ => return None,
    };
    let count = bytes.len() / size;
    values.reserve_exact(count.saturating_sub(values.len()));
    values.resize(count, 0.0);
    let parts = values.par_chunks_mut(PART).zip(bytes.par_chunks(PART * size));
    parts.for_each(|(values, bytes)| convert(bytes, values));
    Some(values)
}
