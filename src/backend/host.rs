//! In: numbers from a file or a caller. Out: [`HostTensor`], a dense f32 array in host memory: what
//! networks are loaded from and what goes into and comes out of a backend.

use super::spare::Spare;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A dense, row-major f32 array in host memory.
pub struct HostTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
    /// Where its memory goes.
    spare: Option<Arc<Spare>>,
}

impl Clone for HostTensor {
    fn clone(&self) -> Self {
        HostTensor { shape: self.shape.clone(), data: self.data.clone(), spare: None }
    }
}

impl PartialEq for HostTensor {
    fn eq(&self, other: &Self) -> bool {
        (&self.shape, &self.data) == (&other.shape, &other.data)
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostTensor { shape, data, .. } = self;
        f.debug_struct("HostTensor").field("shape", shape).field("data", data).finish()
    }
}

impl Drop for HostTensor {
    fn drop(&mut self) {
        if let Some(spare) = &self.spare {
            spare.give(std::mem::take(&mut self.data));
        }
    }
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
        Ok(HostTensor { shape, data, spare: None })
    }

    /// The same, whose memory goes to `spare` in the end, if that wants it.
    pub(crate) fn lent(mut self, spare: &Arc<Spare>) -> Self {
        self.spare = Spare::wants(&self.data).then(|| Arc::clone(spare));
        self
    }

    /// An array of `shape` without its values, for those who look at its shape only.
    pub(crate) fn hollow(shape: impl Into<Vec<usize>>) -> Self {
        HostTensor { shape: shape.into(), data: Vec::new(), spare: None }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, last axis fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, without a copy if the memory is the array's own.
    pub fn into_data(mut self) -> Vec<f32> {
        match self.spare {
            // It may have room for many more.
            Some(_) => self.data.clone(),
            None => std::mem::take(&mut self.data),
        }
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
