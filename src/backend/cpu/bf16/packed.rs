//! In: a matrix (inputs, outputs) in f32. Out: [`Packed`], the matrix in bf16 in the order in which tiles read it.
//!
//! Inputs are (channel, tap) and go by blocks of [`DEPTH`] channels: all taps of the first block, then all of the
//! second, so that the pixels under a kernel are read again while they are in the first level cache. Outputs go
//! by [`COLUMNS`]. A tile is what both meet in: pairs of inputs, for each output side by side, which is the
//! order of the processor's own products of bf16. What the matrix hasn't is zero.
#![allow(unsafe_code, reason = "tiles are filled by many threads")]

use super::tensor::Brain;
use crate::backend::cpu::memory::Pool;
use half::bf16;
use rayon::prelude::*;
use std::sync::Arc;

/// Inputs of a tile.
pub(super) const DEPTH: usize = 32;
/// Outputs of a tile.
pub(super) const COLUMNS: usize = 16;
/// Values of a tile.
pub(super) const TILE: usize = DEPTH * COLUMNS;

/// Matrices smaller than this are not worth another thread.
const SHARE: usize = 1 << 16;

/// A packed matrix.
pub(super) struct Packed {
    values: Brain,
    /// One for each output, padded to whole tiles.
    pub(super) bias: Vec<f32>,
    pub(super) channels: usize,
    pub(super) taps: usize,
    pub(super) outputs: usize,
}

/// What a packed matrix (taps, channels, outputs) will take, in bytes.
pub(super) fn packed_bytes([taps, channels, outputs]: [usize; 3]) -> u64 {
    let tiles = taps * channels.div_ceil(DEPTH) * outputs.div_ceil(COLUMNS);
    (tiles * TILE * size_of::<bf16>()) as u64
}

/// The bf16 nearest to `value`, of two the even one: `bf16::from_f32` without a branch, which half of all numbers
/// would have a processor guess wrong.
fn nearest(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // What is no number stays none.
    let kept = bits >> 16 | 0x40;
    bf16::from_bits(if value.is_nan() { kept } else { rounded } as u16)
}

impl Packed {
    /// `at(tap, channel, output)` is the matrix.
    pub(super) fn new(
        pool: &Arc<Pool>,
        [taps, channels, outputs]: [usize; 3],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let columns = outputs.div_ceil(COLUMNS);
        let blocks = channels.div_ceil(DEPTH) * taps;
        // Zeros, which what lies outside of the matrix stays.
        let mut values = Brain::fresh(pool, columns * blocks * TILE);
        let fill = |(column, strip): (usize, &mut [bf16])| {
            let left = column * COLUMNS;
            for (block, tile) in strip.chunks_exact_mut(TILE).enumerate() {
                let (first, tap) = (block / taps * DEPTH, block % taps);
                let deep = DEPTH.min(channels - first);
                for column in 0..COLUMNS.min(outputs - left) {
                    // Along a row of the matrix as files have it.
                    let row: [f32; DEPTH] = std::array::from_fn(|row| {
                        if row < deep { at(tap, first + row, left + column) } else { 0.0 }
                    });
                    for (pair, value) in row.as_chunks::<2>().0.iter().enumerate() {
                        let place = (pair * COLUMNS + column) * 2;
                        tile[place..place + 2].copy_from_slice(&value.map(nearest));
                    }
                }
            }
        };
        let strips = blocks * TILE;
        if taps * channels * outputs < SHARE {
            values.values_mut().chunks_exact_mut(strips.max(1)).enumerate().for_each(fill);
        } else {
            values.values_mut().par_chunks_exact_mut(strips).enumerate().for_each(fill);
        }
        let mut padded_bias = vec![0.0; columns * COLUMNS];
        if let Some(bias) = bias {
            padded_bias.iter_mut().zip(bias).for_each(|(place, &b)| *place = b);
        }
        Packed { values, bias: padded_bias, channels, taps, outputs }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(self.values.values()) as u64
    }

    /// Tiles side by side.
    pub(super) fn columns(&self) -> usize {
        self.bias.len() / COLUMNS
    }

    /// Tiles one below the other.
    pub(super) fn blocks(&self) -> usize {
        self.channels.div_ceil(DEPTH) * self.taps
    }

    /// The tiles of `column`, one below the other, from channel block `block` on.
    pub(super) fn strip(&self, column: usize, block: usize) -> &[bf16] {
        let length = self.blocks() * TILE;
        &self.values.values()[column * length..(column + 1) * length][block * self.taps * TILE..]
    }

    /// One value.
    pub(super) fn at(&self, tap: usize, channel: usize, output: usize) -> f32 {
        let block = channel / DEPTH * self.taps + tap;
        let row = channel % DEPTH;
        let place = block * TILE + (row / 2 * COLUMNS + output % COLUMNS) * 2 + row % 2;
        self.strip(output / COLUMNS, 0)[place].to_f32()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_they_are_elsewhere() {
        let edges =
            [0, 1, 0x7f80_0000, 0x7f80_0001, 0x7fff_ffff, 0x7f7f_ffff, 0x0000_8000, 0x3f80_8000];
        let all = (0..=u32::MAX).step_by(9973).chain(edges).flat_map(|bits| [bits, bits ^ 1 << 31]);
        for bits in all.chain((0..0x2_0000).map(|low| 0x3f80_0000 | low)) {
            let value = f32::from_bits(bits);
            assert_eq!(nearest(value).to_bits(), bf16::from_f32(value).to_bits(), "{bits:#x}");
        }
    }

    #[test]
    fn tiles_hold_the_matrix() {
        let pool = Arc::default();
        for [taps, channels, outputs] in [[1, 1, 1], [9, 5, 3], [4, 33, 17], [1, 64, 48]] {
            let value = |tap: usize, channel: usize, output: usize| {
                ((tap * 31 + channel * 7 + output * 3) % 200) as f32
            };
            let bias = vec![2.0; outputs];
            let packed = Packed::new(&pool, [taps, channels, outputs], Some(&bias), value);
            let mut sum = 0.0;
            for output in 0..outputs {
                for (tap, channel) in (0..taps).flat_map(|t| (0..channels).map(move |c| (t, c))) {
                    assert_eq!(packed.at(tap, channel, output), value(tap, channel, output));
                    sum += value(tap, channel, output);
                }
            }
            // Whatever isn't the matrix is zero.
            let all: f32 = (0..packed.columns())
                .flat_map(|column| packed.strip(column, 0))
                .map(|value| value.to_f32())
                .sum();
            assert_eq!(all, sum);
        }
    }
}
