//! In: a square of sums. Out: the sums with bias, activation and residual, rounded, at their place in the result.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::function::gelu;
use super::packed::{COLUMNS, Packed};
use super::source::NOWHERE;
use super::tensor::{Brain, Data, Tensor};
use super::tile::PITCH;
use super::vector::{Narrow, narrow_some, widen_some};
use crate::backend::cpu::finish::{load_some, store_some};
use crate::backend::cpu::function::activate;
use crate::backend::cpu::memory::{Buffer, Pool};
use crate::backend::{Activation, Add};
use half::bf16;
use std::borrow::Cow;
use std::sync::Arc;

/// A result that is being written.
pub(super) enum Result16 {
    Brain(Brain),
    Full(Buffer),
}

/// Results of fewer channels are no layers within a network but what comes out of it, and are kept in f32.
const FEW: usize = 16;

/// Bytes of a value of a result of so many channels.
pub(super) fn value_bytes(channels: usize) -> usize {
    if channels < FEW { size_of::<f32>() } else { size_of::<bf16>() }
}

impl Result16 {
    /// Room for `shape`.
    pub(super) fn new(pool: &Arc<Pool>, shape: [usize; 4]) -> Self {
        let length = shape.iter().product();
        if shape[3] < FEW {
            Result16::Full(pool.take(length))
        } else {
            Result16::Brain(Brain::take(pool, length))
        }
    }

    pub(super) fn shared(&mut self) -> Out {
        match self {
            Result16::Brain(brain) => Out::Brain(brain.values_mut().as_mut_ptr()),
            Result16::Full(full) => Out::Full(full.values_mut().as_mut_ptr()),
        }
    }

    pub(super) fn tensor(self, shape: [usize; 4]) -> Tensor {
        match self {
            Result16::Brain(brain) => Tensor::new(shape, brain),
            Result16::Full(full) => crate::backend::cpu::memory::Tensor::new(shape, full).into(),
        }
    }
}

/// A place that many threads write, each to values of its own.
#[derive(Clone, Copy)]
pub(super) enum Out {
    Brain(*mut bf16),
    Full(*mut f32),
}

// SAFETY: whoever writes promises that no two threads write or read the same value.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

/// What is done with each square of a product.
pub(super) trait Finish: Sync {
    /// Whether outputs of the first half are wanted beside those of the second.
    const GATED: bool;

    /// `sums` holds rows, which stand at `places` in the result, of `count` tiles of outputs.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; no other thread is given these rows and columns.
    unsafe fn finish<S: Narrow>(
        &self,
        places: &[u32],
        columns: [usize; 2],
        count: usize,
        weight: &Packed,
        sums: *const f32,
    );

    /// Asks the first level cache for what finishing these will read and write.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    unsafe fn ask<S: Narrow>(&self, places: &[u32], columns: [usize; 2], weight: &Packed);
}

/// activation(product + bias) + add
pub(super) struct Write<'a> {
    out: Out,
    activation: Activation,
    add: Added<'a>,
    /// One for each output, padded to whole tiles.
    bias: Cow<'a, [f32]>,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        out: Out,
        activation: Activation,
        add: &Add<'a, Tensor>,
        weight: &'a Packed,
    ) -> Self {
        let (mut bias, mut add) = (Cow::Borrowed(&weight.bias[..]), Added::from(add));
        if let (Added::Channels(x), Activation::Identity) = (add, activation) {
            bias.to_mut().iter_mut().zip(x).for_each(|(bias, x)| *bias += x.to_f32());
            add = Added::Nothing;
        }
        Write { out, activation, add, bias }
    }
}

/// The values of an [`Add`].
#[derive(Clone, Copy)]
enum Added<'a> {
    Nothing,
    Residual(&'a [bf16]),
    Wide(&'a [f32]),
    Channels(&'a [bf16]),
}

impl<'a> From<&Add<'a, Tensor>> for Added<'a> {
    fn from(add: &Add<'a, Tensor>) -> Self {
        match *add {
            Add::Nothing => Added::Nothing,
            Add::Residual(x) => match &x.data {
                Data::Brain(values) => Added::Residual(values.values()),
                Data::Full(values) => Added::Wide(values.values()),
            },
            Add::Channels(x) => Added::Channels(x.values()),
        }
    }
}

impl Finish for Write<'_> {
    const GATED: bool = false;

    #[inline(always)]
    unsafe fn finish<S: Narrow>(
        &self,
        places: &[u32],
        [column, _]: [usize; 2],
        count: usize,
        weight: &Packed,
        sums: *const f32,
    ) {
        let first = column * COLUMNS;
        let width = (count * COLUMNS).min(weight.outputs - first);
        // SAFETY: the square has PITCH values for each row, the bias whole tiles; results and what is added have
        // `outputs` values for each place, of which `width` are this caller's from `first` on.
        unsafe {
            let plain = self.activation == Activation::Identity && width == 2 * COLUMNS;
            match (self.out, self.add) {
                (Out::Brain(out), Added::Nothing) if plain => {
                    self.whole::<S, false>(places, first, weight, sums, out, std::ptr::null());
                }
                (Out::Brain(out), Added::Residual(x)) if plain => {
                    self.whole::<S, true>(places, first, weight, sums, out, x.as_ptr());
                }
                _ => self.rows::<S>(places, first, width, weight, sums),
            }
        }
    }

    #[inline(always)]
    unsafe fn ask<S: Narrow>(&self, places: &[u32], [column, _]: [usize; 2], weight: &Packed) {
        let Out::Brain(out) = self.out else { return };
        for &place in places.iter().filter(|&&place| place != NOWHERE) {
            let place = place as usize * weight.outputs + column * COLUMNS;
            // SAFETY: the caller's promise.
            unsafe { S::ask_to_write(out.wrapping_add(place)) };
            if let Added::Residual(x) = self.add {
                // SAFETY: as above.
                unsafe { S::ask(x.as_ptr().wrapping_add(place)) };
            }
        }
    }
}

impl Write<'_> {
    /// Two whole tiles of outputs without an activation, which most are.
    ///
    /// # Safety
    /// As for `finish`.
    #[inline(always)]
    unsafe fn whole<S: Narrow, const RESIDUAL: bool>(
        &self,
        places: &[u32],
        first: usize,
        weight: &Packed,
        sums: *const f32,
        out: *mut bf16,
        residual: *const bf16,
    ) {
        let bias = self.bias[first..].as_ptr();
        for (row, &place) in places.iter().enumerate() {
            if place == NOWHERE {
                continue;
            }
            let place = place as usize * weight.outputs + first;
            let sums = sums.wrapping_add(row * PITCH);
            let mut start = 0;
            while start < 2 * COLUMNS {
                let next = start + S::LANES;
                // SAFETY: as `finish` says.
                unsafe {
                    let mut a = S::load(sums.add(start)).add(S::load(bias.add(start)));
                    let mut b = S::load(sums.add(next)).add(S::load(bias.add(next)));
                    if RESIDUAL {
                        a = a.add(S::widen(residual.add(place + start)));
                        b = b.add(S::widen(residual.add(place + next)));
                    }
                    a.narrow_both(b, out.add(place + start));
                }
                start = next + S::LANES;
            }
        }
    }

    /// # Safety
    /// As for `finish`.
    #[inline(always)]
    unsafe fn rows<S: Narrow>(
        &self,
        places: &[u32],
        first: usize,
        width: usize,
        weight: &Packed,
        sums: *const f32,
    ) {
        let bias = self.bias[first..].as_ptr();
        for (row, &place) in places.iter().enumerate() {
            if place == NOWHERE {
                continue;
            }
            let place = place as usize * weight.outputs + first;
            for start in (0..width).step_by(S::LANES) {
                let count = S::LANES.min(width - start);
                // SAFETY: as `finish` says; what isn't padded is read and written by count.
                unsafe {
                    let sum = S::load(sums.add(row * PITCH + start)).add(S::load(bias.add(start)));
                    let y = activate(self.activation, sum);
                    let y = match self.add {
                        Added::Nothing => y,
                        Added::Residual(x) => {
                            y.add(widen_some(x.as_ptr().add(place + start), count))
                        }
                        Added::Wide(x) => y.add(load_some(x.as_ptr().add(place + start), count)),
                        Added::Channels(x) => {
                            y.add(widen_some(x.as_ptr().add(first + start), count))
                        }
                    };
                    match self.out {
                        Out::Brain(out) => narrow_some(y, out.add(place + start), count),
                        Out::Full(out) => store_some(y, out.add(place + start), count),
                    }
                }
            }
        }
    }
}

/// a gelu(b), (a, b) being the halves of product + bias, which are whole tiles.
pub(super) struct Gate {
    pub(super) out: Out,
}

impl Finish for Gate {
    const GATED: bool = true;

    #[inline(always)]
    unsafe fn finish<S: Narrow>(
        &self,
        places: &[u32],
        [value, gate]: [usize; 2],
        _: usize,
        weight: &Packed,
        sums: *const f32,
    ) {
        let (Out::Brain(out), half) = (self.out, weight.outputs / 2) else { return };
        let [values, gates] =
            [value, gate].map(|column| weight.bias[column * COLUMNS..][..COLUMNS].as_ptr());
        for (row, &place) in places.iter().enumerate() {
            if place == NOWHERE {
                continue;
            }
            for start in (0..COLUMNS).step_by(S::LANES) {
                // SAFETY: tiles are whole vectors, in the square, the bias and the result.
                unsafe {
                    let sums = sums.add(row * PITCH + start);
                    let a = S::load(sums).add(S::load(values.add(start)));
                    let b = S::load(sums.add(COLUMNS)).add(S::load(gates.add(start)));
                    let place = place as usize * half + value * COLUMNS + start;
                    a.mul(gelu(b)).narrow(out.add(place));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn ask<S: Narrow>(&self, places: &[u32], [value, _]: [usize; 2], weight: &Packed) {
        let Out::Brain(out) = self.out else { return };
        for &place in places.iter().filter(|&&place| place != NOWHERE) {
            let place = place as usize * weight.outputs / 2 + value * COLUMNS;
            // SAFETY: the caller's promise.
            unsafe { S::ask_to_write(out.wrapping_add(place)) };
        }
    }
}
