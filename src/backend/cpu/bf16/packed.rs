//! In: a matrix (inputs, outputs) in f32. Out: [`Packed`], the matrix in bf16 in the order in which tiles read it.
//!
//! Inputs are (channel, tap) and go by blocks of [`DEPTH`] channels: all taps of the first block, then all of the
//! second, so that the pixels under a kernel are read again while they are in the first level cache; or each tap is a
//! matrix by itself ([`Order`]). Outputs go by [`COLUMNS`]. A tile is what both meet in: pairs of inputs, for each output side by side, which is the
//! order of the processor's own products of bf16. What the matrix hasn't is zero.
//!
//! # Safety
//! Raw reads and writes stay within rows and a tile, whose lengths are types' or asserted.
#![allow(unsafe_code, reason = "pairs of values as one")]

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

/// What follows a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// The same channels' next tap.
    Blocks,
    /// The same tap's next channels: each tap is a matrix of its own.
    Taps,
}

/// A packed matrix.
pub(super) struct Packed {
    values: Brain,
    order: Order,
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

/// Rows of a tile before it is one: the inputs of each of its outputs.
type Rows = [[bf16; DEPTH]; COLUMNS];

impl Packed {
    /// `at(tap, channel, output)` is the matrix.
    pub(super) fn new(
        pool: &Arc<Pool>,
        [taps, channels, outputs]: [usize; 3],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let size = [taps, channels, outputs];
        let order = Order::Blocks;
        Packed::filled(pool, size, order, bias, |[first, output], column, rows: &mut [Rows]| {
            for (tap, rows) in rows.iter_mut().enumerate() {
                for (channel, value) in (first..channels).zip(&mut rows[column]) {
                    *value = nearest(at(tap, channel, output));
                }
            }
        })
    }

    /// `values` is the matrix as files have it, (outputs, channels, taps).
    pub(super) fn of(
        pool: &Arc<Pool>,
        [taps, channels, outputs]: [usize; 3],
        bias: Option<&[f32]>,
        values: &[f32],
    ) -> Self {
        let size = [taps, channels, outputs];
        let order = Order::Blocks;
        Packed::filled(pool, size, order, bias, |[first, output], column, rows: &mut [Rows]| {
            let deep = DEPTH.min(channels - first);
            let values = &values[(output * channels + first) * taps..][..deep * taps];
            if let [rows] = rows {
                rows[column].iter_mut().zip(values).for_each(|(row, &value)| *row = nearest(value));
                return;
            }
            for (channel, values) in values.chunks_exact(taps).enumerate() {
                for (rows, &value) in rows.iter_mut().zip(values) {
                    rows[column][channel] = nearest(value);
                }
            }
        })
    }

    /// Matrices (channels, outputs) apart from each other, as many as there are taps: `at(channel, output)` is a value of
    /// each.
    pub(super) fn apart<const TAPS: usize>(
        pool: &Arc<Pool>,
        [channels, outputs]: [usize; 2],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize) -> [f32; TAPS] + Sync,
    ) -> Self {
        let (size, order) = ([TAPS, channels, outputs], Order::Taps);
        Packed::filled(pool, size, order, bias, |[first, output], column, rows: &mut [Rows]| {
            for (place, channel) in (first..channels.min(first + DEPTH)).enumerate() {
                for (rows, value) in rows.iter_mut().zip(at(channel, output)) {
                    rows[column][place] = nearest(value);
                }
            }
        })
    }

    /// `fill([first, output], column, rows)` is handed, for each tap, the rows of a tile, and writes those of `column`:
    /// the inputs of `output` from channel `first` on, as far as there are any.
    fn filled(
        pool: &Arc<Pool>,
        [taps, channels, outputs]: [usize; 3],
        order: Order,
        bias: Option<&[f32]>,
        fill: impl Fn([usize; 2], usize, &mut [Rows]) + Sync,
    ) -> Self {
        let columns = outputs.div_ceil(COLUMNS);
        let blocks = channels.div_ceil(DEPTH);
        let tiles = blocks * taps;
        let mut values = Brain::fresh(pool, columns * tiles * TILE);
        let fill = |(column, strip): (usize, &mut [bf16])| {
            let left = column * COLUMNS;
            // What lies outside of the matrix stays zero.
            let mut rows = vec![[[bf16::ZERO; DEPTH]; COLUMNS]; taps];
            for block in 0..blocks {
                let first = block * DEPTH;
                if channels - first < DEPTH {
                    rows.fill([[bf16::ZERO; DEPTH]; COLUMNS]);
                }
                for column in 0..COLUMNS.min(outputs - left) {
                    fill([first, left + column], column, &mut rows);
                }
                for (tap, rows) in rows.iter().enumerate() {
                    let tile = match order {
                        Order::Blocks => block * taps + tap,
                        Order::Taps => tap * blocks + block,
                    };
                    turn(rows.each_ref(), &mut strip[tile * TILE..][..TILE]);
                }
            }
        };
        let strip = tiles * TILE;
        if taps * channels * outputs < SHARE {
            values.values_mut().chunks_exact_mut(strip.max(1)).enumerate().for_each(fill);
        } else {
            values.values_mut().par_chunks_exact_mut(strip).enumerate().for_each(fill);
        }
        let mut padded_bias = vec![0.0; columns * COLUMNS];
        if let Some(bias) = bias {
            padded_bias.iter_mut().zip(bias).for_each(|(place, &b)| *place = b);
        }
        Packed { values, order, bias: padded_bias, channels, taps, outputs }
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

    /// The tiles of `column`, one below the other, from channel block `block` on, where matrices aren't apart.
    pub(super) fn strip(&self, column: usize, block: usize) -> &[bf16] {
        assert!(self.order == Order::Blocks);
        let length = self.blocks() * TILE;
        &self.values.values()[column * length..(column + 1) * length][block * self.taps * TILE..]
    }

    /// The tiles of `column`, one below the other, of the matrix of `tap`, where matrices are apart.
    pub(super) fn strip_apart(&self, column: usize, tap: usize) -> &[bf16] {
        assert!(self.order == Order::Taps);
        let length = self.channels.div_ceil(DEPTH) * TILE;
        &self.values.values()[(column * self.taps + tap) * length..][..length]
    }

    /// One value.
    pub(super) fn at(&self, tap: usize, channel: usize, output: usize) -> f32 {
        let block = match self.order {
            Order::Blocks => channel / DEPTH * self.taps + tap,
            Order::Taps => tap * self.channels.div_ceil(DEPTH) + channel / DEPTH,
        };
        let row = channel % DEPTH;
        let place = block * TILE + (row / 2 * COLUMNS + output % COLUMNS) * 2 + row % 2;
        self.values.values()[output / COLUMNS * self.blocks() * TILE + place].to_f32()
    }
}

/// A tile of rows: a line of it has the same pair of values of each. Four rows by four pairs at a time: pair by pair,
/// this was a tenth of the attention of 256 tokens and a third of the time that a model's weights take.
pub(super) fn turn(rows: [&[bf16; DEPTH]; COLUMNS], tile: &mut [bf16]) {
    assert!(tile.len() >= TILE);
    for (four, rows) in rows.chunks_exact(4).enumerate() {
        for pair in (0..DEPTH / 2).step_by(4) {
            // SAFETY: four pairs from `pair` on lie in each row, and in each line of a tile from `4 four` on, of which
            // the last begins 2 COLUMNS before its end; neither needs alignment.
            unsafe {
                let row = |row: usize| {
                    rows[row].as_ptr().add(2 * pair).cast::<[u32; 4]>().read_unaligned()
                };
                for (line, pairs) in turned([row(0), row(1), row(2), row(3)]).iter().enumerate() {
                    let place = (pair + line) * 2 * COLUMNS + 8 * four;
                    tile.as_mut_ptr().add(place).cast::<[u32; 4]>().write_unaligned(*pairs);
                }
            }
        }
    }
}

/// The columns of a square.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    use std::arch::x86_64::*;
    // SAFETY: all processors of this architecture have the instructions; the types are 128 bits each.
    unsafe {
        let [a, b, c, d] = std::mem::transmute::<[[u32; 4]; 4], [__m128i; 4]>(rows);
        let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
        std::mem::transmute([
            _mm_unpacklo_epi64(ab, cd),
            _mm_unpackhi_epi64(ab, cd),
            _mm_unpacklo_epi64(ab2, cd2),
            _mm_unpackhi_epi64(ab2, cd2),
        ])
    }
}

/// The columns of a square.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turned([a, b, c, d]: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    [0, 1, 2, 3].map(|column: usize| [a[column], b[column], c[column], d[column]])
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
        let value = |tap: usize, channel: usize, output: usize| {
            ((tap * 31 + channel * 7 + output * 3) % 200) as f32
        };
        for [taps, channels, outputs] in [[1, 1, 1], [9, 5, 3], [4, 33, 17], [1, 64, 48]] {
            let bias = vec![2.0; outputs];
            let packed = Packed::new(&pool, [taps, channels, outputs], Some(&bias), value);
            assert_holds(&packed, value);
        }
        for [channels, outputs] in [[1, 1], [33, 17], [64, 48]] {
            let at = |channel, output| [0, 1, 2].map(|tap| value(tap, channel, output));
            let packed = Packed::apart(&pool, [channels, outputs], None, at);
            assert_holds(&packed, value);
            for tap in 0..3 {
                let strip = packed.strip_apart(0, tap);
                assert_eq!(strip.len(), channels.div_ceil(DEPTH) * TILE);
                assert_eq!(strip[0].to_f32(), value(tap, 0, 0));
            }
        }
    }

    /// `value(tap, channel, output)`, and zero wherever the matrix isn't.
    fn assert_holds(packed: &Packed, value: impl Fn(usize, usize, usize) -> f32) {
        let mut sum = 0.0;
        for output in 0..packed.outputs {
            for tap in 0..packed.taps {
                for channel in 0..packed.channels {
                    let value = value(tap, channel, output);
                    assert_eq!(packed.at(tap, channel, output), value);
                    sum += value;
                }
            }
        }
        let all: f32 = packed.values.values().iter().map(|value| value.to_f32()).sum();
        assert_eq!(all, sum);
    }
}
