//! In: the bytes of a pickle. Out: the named tensors in it, as notes on where their numbers lie.
//!
//! A pickle is a program. The machine here knows the instructions that build containers and the few names
//! that tensors are made of, and has no means to call anything: a callback of a training framework
//! becomes a value without content, and any name that neither needs is an error that says it.

mod machine;
mod names;

pub(super) use machine::tensors;

use safetensors::Dtype;
use std::rc::Rc;

/// What went wrong, to be put behind the name of the pickle.
type Outcome<T> = Result<T, String>;

/// A run of numbers in the archive.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) dtype: Dtype,
    pub(super) length: u64,
}

/// A tensor over a storage; offset and strides are counted in numbers.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Stored {
    /// Checks that the tensor lies within its storage, and uses no number twice.
    fn check(&self) -> Outcome<()> {
        let Stored { storage, offset, shape, strides } = self;
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let last = shape.iter().zip(strides).try_fold(*offset, |n, (&d, &stride)| {
            n.checked_add((d.saturating_sub(1) as u64).checked_mul(stride as u64)?)
        });
        let fits = match (count, last) {
            (Some(0), _) => true,
            (Some(count), Some(last)) => count <= storage.length && last < storage.length,
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "of shape {shape:?}, strides {strides:?} from {offset} on does not fit its storage of {} \
             numbers",
            storage.length
        ))
    }
}
