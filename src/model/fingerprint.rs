//! In: the tensors of a model as they are read. Out: a number that is the same for the same weights,
//! in whatever layout, order or width they are stored.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Tells models apart: 128 bits over the name, shape and values of every tensor in use.
///
/// The same weights have the same fingerprint in a folder, in shards and in a single file, in f16 and
/// widened to f32; weights rounded to another type have another. It is no proof against forgery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// The number.
    pub fn to_u128(self) -> u128 {
        self.0
    }

    /// The fingerprint that a number stands for.
    pub fn from_u128(number: u128) -> Self {
        Fingerprint(number)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Collects the tensors of a model; their order does not matter.
#[derive(Default)]
pub(super) struct Fingerprinter(RefCell<BTreeMap<String, u128>>);

impl Fingerprinter {
    /// Takes in the tensor `name` of `network`.
    pub(super) fn add(&self, network: &str, name: &str, shape: &[usize], values: &[f32]) {
        let mut hash = Xxh3::new();
        for &axis in shape {
            hash.update(&(axis as u64).to_le_bytes());
        }
        let mut bytes = [0; 4096];
        for chunk in values.chunks(bytes.len() / 4) {
            for (bytes, value) in bytes.chunks_exact_mut(4).zip(chunk) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            hash.update(&bytes[..chunk.len() * 4]);
        }
        self.0.borrow_mut().insert(format!("{network}/{name}"), hash.digest128());
    }

    pub(super) fn finish(&self) -> Fingerprint {
        let mut all = Vec::new();
        for (name, digest) in self.0.borrow().iter() {
            all.extend_from_slice(name.as_bytes());
            all.push(0);
            all.extend_from_slice(&digest.to_le_bytes());
        }
        Fingerprint(xxh3_128(&all))
    }
}
