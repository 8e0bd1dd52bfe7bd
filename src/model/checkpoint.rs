//! In: an archive that torch.save wrote. Out: where each of its tensors lies.
//!
//! The archive's directory is read here: what is wanted of it is the offset of entries that are stored
//! as they are, from a reader that reserves no more than the file can hold and guesses at nothing.

use super::pickle;
use super::source::SourceFile;
use super::tensors::Entry;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// The directory of SD 2's own files has 0.1 MB, their pickle 0.3 MB.
const DIRECTORY_LIMIT: u64 = 32 << 20;
const PICKLE_LIMIT: u64 = 16 << 20;
/// The record at the end of an archive, without and with the longest comment.
const END: usize = 22;
const END_LIMIT: u64 = END as u64 + 65535;

/// An entry of the archive.
struct Record {
    header: u64,
    length: u64,
    /// Neither compressed nor encrypted.
    plain: bool,
}

type Directory = HashMap<String, Record>;

/// The tensors of the archive, by name.
pub(super) fn entries(file: &mut SourceFile) -> Result<HashMap<String, Entry>> {
    let label = file.label.clone();
    let bad = |what: String| Error::bad_model(format!("{label}: {what}"));
    let directory = directory(file)?;
    let root = directory
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|root| root.is_empty() || root.ends_with('/'))
        .min_by_key(|root| root.len())
        .ok_or_else(|| bad("a zip archive without data.pkl: not written by torch.save".into()))?
        .to_owned();
    let order = format!("{root}byteorder");
    if directory.contains_key(&order) {
        let (start, length) = locate(file, &directory, &order)?;
        let order = file.read_at(start, length.min(64) as usize)?;
        if order != b"little" {
            let order = String::from_utf8_lossy(&order);
            return Err(bad(format!("numbers in '{order}' byte order, wanted 'little'")));
        }
    }
    let (start, length) = locate(file, &directory, &format!("{root}data.pkl"))?;
    if length > PICKLE_LIMIT {
        return Err(bad(format!("data.pkl has {length} bytes, at most {PICKLE_LIMIT} are read")));
    }
    let bytes = file.read_at(start, length as usize)?;
    let tensors = pickle::tensors(&bytes).map_err(|what| bad(format!("data.pkl {what}")))?;

    let mut places: HashMap<String, (u64, u64)> = HashMap::new();
    let mut entries = HashMap::with_capacity(tensors.len());
    for (name, stored) in tensors {
        let storage = &stored.storage;
        let size = storage.dtype.bitsize() as u64 / 8;
        let (start, length) = match places.get(&storage.key) {
            Some(place) => *place,
            None => {
                let place = locate(file, &directory, &format!("{root}data/{}", storage.key))
                    .map_err(|e| e.at(format!("tensor {name}")))?;
                places.insert(storage.key.clone(), place);
                place
            }
        };
        if storage.length.checked_mul(size).is_none_or(|bytes| bytes > length) {
            return Err(bad(format!(
                "tensor {name} has a storage of {} numbers in {length} bytes",
                storage.length
            )));
        }
        let dense = dense(&stored.shape) == stored.strides;
        // Checked against the storage, so neither product nor sum is beyond the file.
        let start = start + stored.offset * size;
        let strides = (!dense).then_some(stored.strides);
        let entry = Entry { file: 0, dtype: storage.dtype, shape: stored.shape, start, strides };
        entries.insert(name, entry);
    }
    Ok(entries)
}

/// The strides of rows without gaps.
fn dense(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}

/// The little-endian number of `length` bytes at `at`, which the caller has checked to be there.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// Where the bytes of an entry start, and how many they are.
fn locate(file: &mut SourceFile, directory: &Directory, name: &str) -> Result<(u64, u64)> {
    let label = file.label.clone();
    let bad = |what: String| Error::bad_model(format!("{label}: {name} {what}"));
    let record = directory.get(name).ok_or_else(|| bad("is not in the archive".into()))?;
    if !record.plain {
        return Err(bad("is compressed or encrypted, which torch.save does not do".into()));
    }
    if record.header.checked_add(30).is_none_or(|end| end > file.length) {
        return Err(bad(format!("lies at byte {} of a file of {}", record.header, file.length)));
    }
    let header = file.read_at(record.header, 30)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err(bad("lies where no entry of a zip archive is".into()));
    }
    let start = record.header + 30 + number(&header, 26, 2) + number(&header, 28, 2);
    if start.checked_add(record.length).is_none_or(|end| end > file.length) {
        return Err(bad(format!(
            "has {} bytes from {start} on, the file {}",
            record.length, file.length
        )));
    }
    Ok((start, record.length))
}

/// The entries of the archive, by name.
fn directory(file: &mut SourceFile) -> Result<Directory> {
    let label = file.label.clone();
    let bad = |what: String| Error::bad_model(format!("{label}: {what}"));
    let (start, length) = directory_place(file)?;
    if length > DIRECTORY_LIMIT || start.checked_add(length).is_none_or(|end| end > file.length) {
        return Err(bad(format!(
            "its directory has {length} bytes from {start} on, the file {}",
            file.length
        )));
    }
    let bytes = file.read_at(start, length as usize)?;
    let mut directory = Directory::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let damaged = || bad("its directory is damaged".into());
        if rest.len() < 46 || !rest.starts_with(b"PK\x01\x02") {
            return Err(damaged());
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| number(rest, at, 2) as usize);
        let end = 46 + name + extra + comment;
        if end > rest.len() {
            return Err(damaged());
        }
        let encrypted = number(rest, 8, 2) & 1 != 0;
        let plain = number(rest, 10, 2) == 0 && !encrypted;
        // Uncompressed and compressed length and place, each in the extra field where it is too large.
        let mut fields = [number(rest, 24, 4), number(rest, 20, 4), number(rest, 42, 4)];
        let mut wide = wide_fields(&rest[46 + name..46 + name + extra]);
        for field in fields.iter_mut().filter(|field| **field == u64::from(u32::MAX)) {
            if wide.len() < 8 {
                return Err(damaged());
            }
            *field = number(wide, 0, 8);
            wide = &wide[8..];
        }
        let [length, compressed, header] = fields;
        let plain = plain && length == compressed;
        let key = String::from_utf8_lossy(&rest[46..46 + name]).into_owned();
        directory.insert(key, Record { header, length, plain });
        rest = &rest[end..];
    }
    Ok(directory)
}

/// The numbers of eight bytes in an entry's extra fields, if it has any.
fn wide_fields(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (kind, length) = (number(extra, 0, 2), number(extra, 2, 2) as usize);
        let end = (4 + length).min(extra.len());
        if kind == 1 {
            return &extra[4..end];
        }
        extra = &extra[end..];
    }
    &[]
}

/// Where the directory starts and how long it is, from the records at the end of the file.
fn directory_place(file: &mut SourceFile) -> Result<(u64, u64)> {
    let label = file.label.clone();
    let bad = |what: &str| Error::bad_model(format!("{label}: {what}"));
    let truncated = "a zip archive without its end: truncated, or still being written";
    let length = file.length.min(END_LIMIT);
    let offset = file.length - length;
    let tail = file.read_at(offset, length as usize)?;
    let last = tail.len().checked_sub(END).ok_or_else(|| bad(truncated))?;
    // The record ends with a comment that reaches to the end of the file.
    let at = (0..=last)
        .rev()
        .find(|&at| {
            tail[at..].starts_with(b"PK\x05\x06")
                && number(&tail, at + 20, 2) as usize == tail.len() - at - END
        })
        .ok_or_else(|| bad(truncated))?;
    let locator = (offset + at as u64).checked_sub(20);
    if let Some(place) = locator {
        let locator = file.read_at(place, 20)?;
        if locator.starts_with(b"PK\x06\x07") {
            let wide = number(&locator, 8, 8);
            if wide.checked_add(56).is_none_or(|end| end > file.length) {
                return Err(bad("its end points beyond the file"));
            }
            let record = file.read_at(wide, 56)?;
            if !record.starts_with(b"PK\x06\x06") {
                return Err(bad("its end is damaged"));
            }
            return Ok((number(&record, 48, 8), number(&record, 40, 8)));
        }
    }
    Ok((number(&tail, at + 16, 4), number(&tail, at + 12, 4)))
}
