//! In: values in f32. Out: [`Tensor`], an activation whose values are kept in bf16, or in f32 where they are few
//! and go through many steps: latents, predictions, pictures.
#![allow(unsafe_code, reason = "buffers of f32 seen as twice as many values of bf16")]

use crate::backend::cpu::memory::{Buffer, Pool, Tensor as Full};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::borrow::Cow;
use std::sync::Arc;

/// A run of bf16 values that returns to its pool.
pub(super) struct Brain {
    buffer: Buffer,
    length: usize,
}

impl Brain {
    /// `length` values, whatever they are.
    pub(super) fn take(pool: &Arc<Pool>, length: usize) -> Self {
        Brain { buffer: pool.take(length.div_ceil(2)), length }
    }

    /// As many, in memory of their own that is no larger: for what stays.
    pub(super) fn fresh(pool: &Arc<Pool>, length: usize) -> Self {
        Brain { buffer: pool.fresh(length.div_ceil(2)), length }
    }

    pub(super) fn values(&self) -> &[bf16] {
        // SAFETY: any two bytes are a bf16; the buffer holds `length` of them.
        unsafe { std::slice::from_raw_parts(self.buffer.values().as_ptr().cast(), self.length) }
    }

    pub(super) fn values_mut(&mut self) -> &mut [bf16] {
        let length = self.length;
        // SAFETY: as above; any two bf16 are an f32; `self` is borrowed alone.
        unsafe {
            std::slice::from_raw_parts_mut(self.buffer.values_mut().as_mut_ptr().cast(), length)
        }
    }
}

/// Where a tensor's values are.
#[derive(Clone)]
pub(super) enum Data {
    Brain(Arc<Brain>),
    Full(Full),
}

/// Where the values of an activation lie: from value to value of the first axes, in values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) sample: usize,
    pub(super) line: usize,
    pub(super) pixel: usize,
    /// Of the first pixel's first channel.
    pub(super) start: usize,
}

impl Layout {
    /// That of a tensor.
    pub(super) fn dense([_, h, w, c]: [usize; 4]) -> Self {
        Layout { sample: h * w * c, line: w * c, pixel: c, start: 0 }
    }
}

/// An activation (samples, height, width, channels).
#[derive(Clone)]
pub struct Tensor {
    pub(super) shape: [usize; 4],
    pub(super) data: Data,
}

impl Tensor {
    /// `values` must be as many as `shape` says.
    pub(super) fn new(shape: [usize; 4], values: Brain) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.length);
        Tensor { shape, data: Data::Brain(Arc::new(values)) }
    }

    pub(super) fn channels(&self) -> usize {
        self.shape[3]
    }

    /// The same in f32.
    pub(super) fn widened(&self, pool: &Arc<Pool>) -> Full {
        match &self.data {
            Data::Full(full) => full.clone(),
            Data::Brain(brain) => {
                let values = brain.values();
                let mut wide = pool.take(values.len());
                values.convert_to_f32_slice(wide.values_mut());
                Full::new(self.shape, wide)
            }
        }
    }

    /// `full` in bf16.
    pub(super) fn narrowed(pool: &Arc<Pool>, full: &Full) -> Self {
        let values = full.values();
        let mut narrow = Brain::take(pool, values.len());
        narrow.values_mut().convert_from_f32_slice(values);
        Tensor::new(full.shape, narrow)
    }

    /// The same in bf16.
    pub(super) fn brain(&self, pool: &Arc<Pool>) -> Cow<'_, Self> {
        match &self.data {
            Data::Full(full) => Cow::Owned(Tensor::narrowed(pool, full)),
            Data::Brain(_) => Cow::Borrowed(self),
        }
    }

    /// The values of a tensor that is in bf16; none of one that is in f32.
    pub(super) fn values(&self) -> &[bf16] {
        match &self.data {
            Data::Brain(brain) => brain.values(),
            Data::Full(_) => &[],
        }
    }
}

impl From<Full> for Tensor {
    fn from(full: Full) -> Self {
        Tensor { shape: full.shape, data: Data::Full(full) }
    }
}
