//! In: keys and values in rows. Out: [`Head`], both in the tiles that products read.

use super::packed::{COLUMNS, DEPTH, TILE, turn};
use super::tensor::Brain;
use crate::backend::cpu::memory::Pool;
use half::bf16;
use std::sync::Arc;

/// Rows of values: `width` values from `start` on, every `pitch`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) values: &'a [bf16],
    pub(super) pitch: usize,
    pub(super) start: usize,
    pub(super) width: usize,
}

impl Part<'_> {
    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.pitch
    }

    pub(super) fn row(&self, row: usize) -> &[bf16] {
        &self.values[row * self.pitch + self.start..][..self.width]
    }
}

/// Keys and values of one head in tiles (see `packed.rs`): of the keys the inputs are the width and the outputs
/// tokens, of the values it is the other way round.
pub(super) struct Head {
    pub(super) keys: Brain,
    pub(super) values: Brain,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

impl Head {
    pub(super) fn new(pool: &Arc<Pool>, keys: Part<'_>, values: Part<'_>) -> Self {
        let (tokens, width) = (keys.rows(), keys.width);
        let (deep, long) = (width.div_ceil(DEPTH), tokens.div_ceil(DEPTH));
        // Whole blocks of tokens on both sides.
        let mut packed_keys = Brain::take(pool, 2 * long * deep * TILE);
        for (index, tile) in packed_keys.values_mut().chunks_exact_mut(TILE).enumerate() {
            let (first, block) = (index / deep * COLUMNS, index % deep * DEPTH);
            // Where the padding begins, rows are parts of what products read.
            let mut padded = [[bf16::ZERO; DEPTH]; COLUMNS];
            let mut rows = [&[bf16::ZERO; DEPTH]; COLUMNS];
            for ((token, row), padded) in (first..tokens).zip(&mut rows).zip(&mut padded) {
                *row = piece(&keys.row(token)[block..], padded);
            }
            turn(rows, tile);
        }
        let mut packed_values = Brain::take(pool, width.div_ceil(COLUMNS) * long * TILE);
        for (index, tile) in packed_values.values_mut().chunks_exact_mut(TILE).enumerate() {
            let (first, block) = (index / long * COLUMNS, index % long * DEPTH);
            for (pair, both) in tile.chunks_exact_mut(2 * COLUMNS).enumerate() {
                // Two tokens side by side.
                let mut padded = [[bf16::ZERO; COLUMNS]; 2];
                let [a, b] = &mut padded;
                let row = |token| if token < tokens { &values.row(token)[first..] } else { &[] };
                let token = block + 2 * pair;
                interleave([piece(row(token), a), piece(row(token + 1), b)], both);
            }
        }
        Head { keys: packed_keys, values: packed_values, tokens, width }
    }
}

/// The first values of a row; zeros, which `padded` holds, behind one that is shorter.
fn piece<'a, const N: usize>(row: &'a [bf16], padded: &'a mut [bf16; N]) -> &'a [bf16; N] {
    if let Some(piece) = row.first_chunk() {
        return piece;
    }
    padded[..row.len()].copy_from_slice(row);
    padded
}

/// A line of a tile of two rows' values in turns.
fn interleave([a, b]: [&[bf16; COLUMNS]; 2], line: &mut [bf16]) {
    for (places, (&a, &b)) in line.chunks_exact_mut(2).zip(a.iter().zip(b)) {
        (places[0], places[1]) = (a, b);
    }
}
