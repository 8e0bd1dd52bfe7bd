//! In: numbers from a file or a caller. Out: [`HostTensor`], a dense f32 array in host memory: what
//! networks are loaded from and what goes into and comes out of a backend.

use crate::error::{Error, Result};

/// A dense, row-major f32 array in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl HostTensor {
    /// An array of `shape` over `data`, last axis fastest.
    ///
    /// # Errors
    /// `InvalidArgument` where `data` has another length than `shape` asks for.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let wanted = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if wanted != Some(data.len()) {
            return Err(Error::invalid(format!(
                "{} values given for a tensor of shape {shape:?}",
                data.len()
            )));
        }
        Ok(HostTensor { shape, data })
    }

    /// An array of `shape` without its values, for those who look at its shape only.
    pub(crate) fn hollow(shape: impl Into<Vec<usize>>) -> Self {
        HostTensor { shape: shape.into(), data: Vec::new() }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, last axis fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, without a copy.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Arrays one below the other along the first axis; all other axes must agree.
    pub fn stack_rows(parts: Vec<HostTensor>) -> Result<Self> {
        let mut parts = parts.into_iter();
        let Some(mut all) = parts.next() else {
            return Err(Error::internal("no tensors to stack"));
        };
        for part in parts {
            if part.shape.get(1..) != all.shape.get(1..) {
                return Err(Error::internal(format!(
                    "cannot stack shapes {:?} and {:?}",
                    all.shape, part.shape
                )));
            }
            all.shape[0] += part.shape[0];
            all.data.extend_from_slice(&part.data);
        }
        Ok(all)
    }
}
