//! In: keys and values in rows. Out: [`Head`], both in the tiles that products read.

use super::packed::{COLUMNS, DEPTH, TILE};
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
            let rows: [&[bf16]; COLUMNS] = std::array::from_fn(|column| {
                let row = if first + column < tokens { keys.row(first + column) } else { &[] };
                row.get(block..).unwrap_or_default()
            });
            let whole = rows.map(|row| row.first_chunk::<DEPTH>());
            if whole.iter().all(Option::is_some) {
                let rows = whole.map(|row| row.unwrap_or(&[bf16::ZERO; DEPTH]));
                for (pair, line) in tile.chunks_exact_mut(2 * COLUMNS).enumerate() {
                    for (row, places) in rows.iter().zip(line.chunks_exact_mut(2)) {
                        (places[0], places[1]) = (row[2 * pair], row[2 * pair + 1]);
                    }
                }
            } else {
                for (column, row) in rows.iter().enumerate() {
                    for place in 0..DEPTH {
                        let value = row.get(place).copied().unwrap_or(bf16::ZERO);
                        tile[(place / 2 * COLUMNS + column) * 2 + place % 2] = value;
                    }
                }
            }
        }
        let mut packed_values = Brain::take(pool, width.div_ceil(COLUMNS) * long * TILE);
        for (index, tile) in packed_values.values_mut().chunks_exact_mut(TILE).enumerate() {
            let (first, block) = (index / long * COLUMNS, index % long * DEPTH);
            for (pair, both) in tile.chunks_exact_mut(2 * COLUMNS).enumerate() {
                // Two tokens side by side.
                let rows = [0, 1].map(|half| {
                    let token = block + 2 * pair + half;
                    let row: &[bf16] = if token < tokens { values.row(token) } else { &[] };
                    row.get(first..).unwrap_or_default()
                });
                if let [Some(a), Some(b)] = rows.map(|row| row.first_chunk::<COLUMNS>()) {
                    for (places, (&a, &b)) in both.chunks_exact_mut(2).zip(a.iter().zip(b)) {
                        (places[0], places[1]) = (a, b);
                    }
                } else {
                    for (column, places) in both.chunks_exact_mut(2).enumerate() {
                        let value = |row: &[bf16]| row.get(column).copied().unwrap_or(bf16::ZERO);
                        (places[0], places[1]) = (value(rows[0]), value(rows[1]));
                    }
                }
            }
        }
        Head { keys: packed_keys, values: packed_values, tokens, width }
    }
}
