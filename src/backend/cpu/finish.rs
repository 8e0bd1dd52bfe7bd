//! In: a block of a product. Out: the block with bias, activation and residual, at its place in the result.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::function::{activate, gelu};
use super::level::Level;
use super::memory::{Shared, Tensor};
use super::simd::{Kernel, Simd};
use super::weight::{COLUMNS, Packed, Stored};
use crate::backend::{Activation, Add};
use std::ops::Range;

/// What is done with each block of a product.
pub(super) trait Finish: Sync {
    /// Whether outputs of the first half are wanted beside those of the second.
    const GATED: bool;

    /// `block` holds `rows` in rows of COLUMNS values; the outputs of `panels` stand there side by side.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; no other thread is given these rows and columns.
    unsafe fn finish<S: Simd>(
        &self,
        rows: Range<usize>,
        panels: [Range<usize>; 2],
        weight: &Packed<Stored>,
        block: &[f32],
    );
}

/// Every second pixel of every second line, from the given ones on, of a result of twice the size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Every2 {
    pub(super) size: [usize; 2],
    pub(super) first: [usize; 2],
}

/// activation(product + bias) + add
pub(super) struct Write<'a> {
    pub(super) out: Shared,
    pub(super) activation: Activation,
    pub(super) add: Added<'a>,
    pub(super) places: Option<Every2>,
}

/// The values of an [`Add`].
#[derive(Clone, Copy)]
pub(super) enum Added<'a> {
    Nothing,
    Residual(&'a [f32]),
    Channels(&'a [f32]),
}

impl<'a> From<&Add<'a, Tensor>> for Added<'a> {
    fn from(add: &Add<'a, Tensor>) -> Self {
        match *add {
            Add::Nothing => Added::Nothing,
            Add::Residual(x) => Added::Residual(x.values()),
            Add::Channels(x) => Added::Channels(x.values()),
        }
    }
}

/// The first `count` values at `at`, the others zero.
///
/// # Safety
/// `at` is valid for `count` values, which are at most 16 and S::LANES.
#[inline(always)]
pub(super) unsafe fn load_some<S: Simd>(at: *const f32, count: usize) -> S {
    // SAFETY: by the caller's promise; the array is as long as the longest vector.
    unsafe {
        if count == S::LANES {
            return S::load(at);
        }
        let mut values = [0.0; 16];
        std::ptr::copy_nonoverlapping(at, values.as_mut_ptr(), count);
        S::load(values.as_ptr())
    }
}

/// Stores the first `count` values of `x`.
///
/// # Safety
/// As for [`load_some`].
#[inline(always)]
pub(super) unsafe fn store_some<S: Simd>(x: S, at: *mut f32, count: usize) {
    // SAFETY: by the caller's promise.
    unsafe {
        if count == S::LANES {
            return x.store(at);
        }
        let mut values = [0.0; 16];
        x.store(values.as_mut_ptr());
        std::ptr::copy_nonoverlapping(values.as_ptr(), at, count);
    }
}

impl Finish for Write<'_> {
    const GATED: bool = false;

    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        rows: Range<usize>,
        [panels, _]: [Range<usize>; 2],
        weight: &Packed<Stored>,
        block: &[f32],
    ) {
        let first = panels.start * weight.width;
        let width = (panels.end * weight.width).min(weight.outputs) - first;
        let bias = weight.bias[first..].as_ptr();
        for (row, sums) in rows.zip(block.chunks(COLUMNS)) {
            let row = match self.places {
                None => row,
                Some(Every2 { size: [h, w], first: [dy, dx] }) => {
                    let (line, column) = (row / w, row % w);
                    let (sample, line) = (line / h, line % h);
                    (sample * 2 * h + 2 * line + dy) * 2 * w + 2 * column + dx
                }
            };
            let place = row * weight.outputs + first;
            // SAFETY: the caller has this row and these columns alone.
            let out = unsafe { self.out.part(place, width) };
            for start in (0..width).step_by(S::LANES) {
                let count = S::LANES.min(width - start);
                // SAFETY: block and bias are padded to whole vectors; the rest is read and written by
                // count, within the row.
                unsafe {
                    let sum = S::load(sums.as_ptr().add(start)).add(S::load(bias.add(start)));
                    let y = activate(self.activation, sum);
                    let y = match self.add {
                        Added::Nothing => y,
                        Added::Residual(x) => {
                            y.add(load_some(x[place + start..][..count].as_ptr(), count))
                        }
                        Added::Channels(x) => {
                            y.add(load_some(x[first + start..][..count].as_ptr(), count))
                        }
                    };
                    store_some(y, out[start..].as_mut_ptr(), count);
                }
            }
        }
    }
}

/// a gelu(b), (a, b) being the halves of product + bias.
pub(super) struct Gate {
    pub(super) out: Shared,
}

impl Finish for Gate {
    const GATED: bool = true;

    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        rows: Range<usize>,
        [values, gates]: [Range<usize>; 2],
        weight: &Packed<Stored>,
        block: &[f32],
    ) {
        let (first, second) = (values.start * weight.width, gates.start * weight.width);
        // Halves are whole panels here: see `Cpu::norm_geglu`.
        let width = values.len() * weight.width;
        let half = weight.outputs / 2;
        for (row, sums) in rows.zip(block.chunks(COLUMNS)) {
            // SAFETY: the caller has this row and these columns alone.
            let out = unsafe { self.out.part(row * half + first, width) };
            for start in (0..width).step_by(S::LANES) {
                // SAFETY: panels are whole vectors, in the block, the bias and the result.
                unsafe {
                    let bias = S::load(weight.bias[first + start..].as_ptr());
                    let value = S::load(sums[start..].as_ptr()).add(bias);
                    let bias = S::load(weight.bias[second + start..].as_ptr());
                    let gate = S::load(sums[width + start..].as_ptr()).add(bias);
                    value.mul(gelu(gate)).store(out[start..].as_mut_ptr());
                }
            }
        }
    }
}

/// a gelu(b) for rows of (a, b), each half of them `half` long.
struct GateRows<'a> {
    both: &'a [f32],
    half: usize,
    out: &'a mut [f32],
}

impl Kernel for GateRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let half = self.half;
        for (both, out) in self.both.chunks_exact(2 * half).zip(self.out.chunks_exact_mut(half)) {
            for start in (0..half).step_by(S::LANES) {
                let count = S::LANES.min(half - start);
                // SAFETY: both halves and the result hold `count` more values from `start` on.
                unsafe {
                    let value = load_some::<S>(both.as_ptr().add(start), count);
                    let gate = load_some::<S>(both.as_ptr().add(half + start), count);
                    store_some(value.mul(gelu(gate)), out.as_mut_ptr().add(start), count);
                }
            }
        }
    }
}

/// a gelu(b) for rows of (a, b), where the halves are no whole panels.
pub(super) fn gate(level: Level, both: &[f32], half: usize, out: Shared) {
    // SAFETY: `out` has `half` values for each row, and nobody else uses it now.
    unsafe { level.run(GateRows { both, half, out: out.part(0, both.len() / 2) }) }
}
