//! In: latents, conditioning, pictures. Out: [`Stored`], the same as the tensors of a session's file, and back.

use crate::diffusion::{Context, Latent, State};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

/// A tensor on its way to the file or from it.
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Stored {
    pub(super) fn new(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Stored { shape: shape.to_vec(), bytes }
    }

    pub(super) fn values(&self) -> Vec<f32> {
        let chunks = self.bytes.chunks_exact(4);
        chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    pub(super) fn latent(&self) -> Result<Latent> {
        let shape = self.shape.as_slice().try_into();
        let shape = shape.map_err(|_| Error::invalid("a latent without three axes"))?;
        let latent = Latent::new(shape, self.values())?;
        match latent.data().iter().all(|v| v.is_finite()) {
            true => Ok(latent),
            false => Err(Error::invalid("a latent with values that are not finite")),
        }
    }

    /// Latents of one shape in a row, the history of each state behind its latent.
    pub(super) fn states<'a>(states: impl Iterator<Item = &'a State>) -> Self {
        let (mut count, mut parts, mut shape, mut values) = (0, 1, [0; 3], Vec::new());
        for state in states {
            (count, parts, shape) = (count + 1, 1, state.latent.shape());
            values.extend_from_slice(state.latent.data());
            if let Some(history) = &state.history {
                parts = 2;
                values.extend_from_slice(history.data());
            }
        }
        let [channels, height, width] = shape;
        Stored::new(&[count, parts, channels, height, width], &values)
    }

    /// The way back: states with a history where there are two parts.
    pub(super) fn to_states(&self) -> Result<Vec<State>> {
        let [count, parts @ (1 | 2), channels, height, width] = *self.shape.as_slice() else {
            return Err(Error::invalid(format!("states of shape {:?}", self.shape)));
        };
        let (shape, values) = ([channels, height, width], self.values());
        let length = channels.saturating_mul(height).saturating_mul(width);
        if length == 0 || values.len() / length != count.saturating_mul(parts) {
            return Err(Error::invalid(format!("states of shape {:?}", self.shape)));
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(Error::invalid("a latent with values that are not finite"));
        }
        let state = |values: &[f32]| {
            let (latent, history) = values.split_at(length);
            let history = (!history.is_empty()).then(|| Latent::new(shape, history.to_vec()));
            Ok(State {
                latent: Latent::new(shape, latent.to_vec())?,
                history: history.transpose()?,
            })
        };
        values.chunks_exact(length * parts).map(state).collect()
    }

    pub(super) fn context(&self) -> Result<Context> {
        Context::new(self.shape.first().copied().unwrap_or(0), self.values())
    }
}

/// Tensors by their names.
pub(super) type Tensors = BTreeMap<String, Stored>;

/// Takes out the tensor of a name.
///
/// # Errors
/// `InvalidArgument` where there is none.
pub(super) fn take(tensors: &mut Tensors, name: &str) -> Result<Stored> {
    tensors.remove(name).ok_or_else(|| Error::invalid(format!("{name} is missing")))
}

/// Over all that a file says.
pub(super) fn checksum(record: &str, tensors: &Tensors) -> [u8; 16] {
    let mut hash = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(record.as_bytes());
    for (name, stored) in tensors {
        add(name.as_bytes());
        stored.shape.iter().for_each(|&axis| add(&(axis as u64).to_le_bytes()));
        add(&stored.bytes);
    }
    hash.digest128().to_le_bytes()
}
