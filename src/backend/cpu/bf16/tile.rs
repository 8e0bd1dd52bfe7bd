//! In: rows of activations wherever they lie, and strips of packed weights. Out: the products of 16 or 32 rows and
//! 16 or 32 outputs, f32, in a small square of memory that stays in the first level cache.
//!
//! A sum runs over blocks of channels, over taps, over pairs, whatever else is computed beside it.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels over raw rows")]

use super::packed::{COLUMNS, DEPTH, TILE};
use super::vector::Narrow;
use crate::backend::cpu::level::Level;
use half::bf16;

/// Rows of a tile.
pub(super) const ROWS: usize = 16;
/// From row to row of a square, in f32.
pub(super) const PITCH: usize = 2 * COLUMNS;

/// Two tiles by two.
#[repr(C, align(64))]
pub(super) struct Square(pub(super) [f32; 2 * ROWS * PITCH]);

impl Square {
    pub(super) fn new() -> Self {
        Square([0.0; 2 * ROWS * PITCH])
    }

    /// All of it, for new sums.
    pub(super) fn sums(&mut self) -> Sums {
        Sums { from: std::ptr::null(), at: self.0.as_mut_ptr(), pitch: PITCH }
    }
}

/// Where some inputs of one or two tiles of rows lie.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    /// The first row of each tile.
    pub(super) at: [*const bf16; 2],
    /// From row to row, in values.
    pub(super) pitch: usize,
    /// From the first tap to each, in values.
    pub(super) taps: &'a [usize],
    /// Blocks of channels.
    pub(super) blocks: usize,
}

/// Where sums go.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// The first row's first of what they are added to; null for nothing.
    pub(super) from: *const f32,
    /// The first row's first.
    pub(super) at: *mut f32,
    /// From row to row, in both.
    pub(super) pitch: usize,
}

impl Sums {
    /// Those from row `row` and output `column` on.
    #[inline(always)]
    fn part(self, row: usize, column: usize) -> Self {
        let start = row * self.pitch + column;
        let from = if self.from.is_null() { self.from } else { self.from.wrapping_add(start) };
        Sums { from, at: self.at.wrapping_add(start), ..self }
    }
}

/// What a thread does a bit at a time while the processor's own products are under way, which leave its vectors idle.
pub(super) trait Meanwhile {
    /// A part of it, all being done after `parts` calls.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; whoever made this promises the rest.
    unsafe fn part<S: Narrow>(&mut self, parts: usize);
}

/// Nothing.
impl Meanwhile for () {
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self, _: usize) {}
}

/// The products of `rows` tiles of rows (1 or 2), their inputs in `operands` one behind the other, and of
/// `columns` strips (1 or 2), and all of `meanwhile`.
///
/// # Safety
/// Each row of an operand is valid for all its blocks at each tap; each strip for as many tiles; `sums` for all
/// rows and columns; `level` is that of `S`, and a thread that computes at [`Level::Amx`] has configured its
/// tiles. `meanwhile` uses none of the sums.
#[inline(always)]
pub(super) unsafe fn multiply<S: Narrow>(
    level: Level,
    [rows, columns]: [usize; 2],
    operands: &[Operand<'_>],
    strips: [*const bf16; 2],
    sums: Sums,
    meanwhile: &mut impl Meanwhile,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if level == Level::Amx {
            let size = [rows, columns];
            return super::amx::multiply::<S>(size, operands, strips, sums, meanwhile);
        }
        meanwhile.part::<S>(1);
        let _ = level;
        let at = |row: usize, column: usize| sums.part(row, column * COLUMNS);
        if S::LANES == COLUMNS && columns == 2 {
            for tile in 0..rows {
                for row in (0..ROWS).step_by(8) {
                    part::<S, 8, 2>([tile, row], operands, strips, at(tile * ROWS + row, 0));
                }
            }
            return;
        }
        for tile in 0..rows {
            for (column, strip) in strips.into_iter().enumerate().take(columns) {
                for row in (0..ROWS).step_by(4) {
                    let sums = at(tile * ROWS + row, column);
                    if S::LANES == COLUMNS {
                        part::<S, 4, 1>([tile, row], operands, [strip], sums);
                    } else {
                        let halves = [strip, strip.add(COLUMNS)];
                        part::<S, 4, 2>([tile, row], operands, halves, sums);
                    }
                }
            }
        }
    }
}

/// COUNT rows from `row` of tile `tile` on, and NV vectors of outputs.
///
/// # Safety
/// As for [`multiply`]; each of `b` is where the pairs of a vector's outputs begin.
#[inline(always)]
unsafe fn part<S: Narrow, const COUNT: usize, const NV: usize>(
    [tile, row]: [usize; 2],
    operands: &[Operand<'_>],
    mut b: [*const bf16; NV],
    c: Sums,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let place = |row: usize, vector: usize| row * c.pitch + vector * S::LANES;
        let mut sums = [[S::splat(0.0); NV]; COUNT];
        if !c.from.is_null() {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(c.from.add(place(row, vector)));
                }
            }
        }
        for operand in operands {
            let first = operand.at[tile].wrapping_add(row * operand.pitch);
            for block in 0..operand.blocks {
                for &tap in operand.taps {
                    let a = first.wrapping_add(block * DEPTH + tap);
                    for pair in 0..DEPTH / 2 {
                        let mut pairs = [S::pairs(b[0].add(pair * 2 * COLUMNS)); NV];
                        // By number: adapters of iterators are not always made part of the loop, at every pair.
                        for vector in 1..NV {
                            pairs[vector] = S::pairs(b[vector].add(pair * 2 * COLUMNS));
                        }
                        for (row, sums) in sums.iter_mut().enumerate() {
                            let value = S::same_pair(a.add(row * operand.pitch + 2 * pair));
                            for (sum, pairs) in sums.iter_mut().zip(pairs) {
                                *sum = sum.dot(value, pairs);
                            }
                        }
                    }
                    b = b.map(|b| b.wrapping_add(TILE));
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (vector, sum) in sums.into_iter().enumerate() {
                sum.store(c.at.add(place(row, vector)));
            }
        }
    }
}
