//! In: rows and packed weights. Out: their product, handed square by square to whatever finishes it. Convolutions
//! and linear layers are this product; only where a row lies (see `source.rs`) and what is done with a square
//! (see `finish.rs`) differ.
//!
//! Sums are one square's own, so neither how the rows and outputs are shared out nor the batch shows in a result.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions that a `Level` has proved, and operands as their own
//! text says.
#![allow(unsafe_code, reason = "products whose results are seen elsewhere")]

use super::finish::Finish;
use super::packed::{COLUMNS, Packed, TILE};
use super::source::Source;
use super::task::Task;
use super::tile::ROWS;
use super::vector::run;
use crate::backend::cpu::level::Level;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Products smaller than this many multiplications are done where they are asked for.
const SHARE: usize = 1 << 21;

/// Bytes of rows that a task goes through for each group of strips: what stays in the second level cache beside
/// those and the next.
const ROW_BYTES: usize = 640 << 10;

/// Calls `task` for each number below `count`, on the threads of the current pool if it is `worth` it.
pub(super) fn share(count: usize, worth: bool, task: impl Fn(usize) + Sync) {
    let threads = rayon::current_num_threads().min(count);
    if !worth || threads <= 1 {
        return (0..count).for_each(task);
    }
    // Whoever is free takes the next, in order: neighbours share weights that are in the cache.
    let next = AtomicUsize::new(0);
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            task(index);
        }
    });
}

/// `length` in `parts` nearly equal parts, each but the last a multiple of `unit`.
fn cut(length: usize, parts: usize, unit: usize, part: usize) -> Range<usize> {
    let units = length.div_ceil(unit);
    let at = |part: usize| (units * part / parts * unit).min(length);
    at(part)..at(part + 1)
}

/// Pairs of tiles of outputs.
fn pairs<F: Finish>(weight: &Packed) -> usize {
    if F::GATED { weight.columns() / 2 } else { weight.columns().div_ceil(2) }
}

/// As [`product`], on this thread alone.
///
/// # Safety
/// As for [`product`].
pub(super) unsafe fn product_here<F: Finish>(
    level: Level,
    source: &Source<'_>,
    weight: &Packed,
    finish: &F,
) {
    assert_eq!(source.blocks(), weight.blocks(), "blocks of inputs");
    let (rows, columns) = (0..source.tiles(), 0..pairs::<F>(weight));
    // SAFETY: the caller's promise for `finish`.
    unsafe { run(level, Task { level, source, weight, finish, rows, columns }) }
}

/// The product of the rows of `source` and `weight`, to `finish`.
///
/// # Safety
/// `finish` may be called once for every row and column.
pub(super) unsafe fn product<F: Finish>(
    level: Level,
    source: &Source<'_>,
    weight: &Packed,
    finish: &F,
) {
    assert_eq!(source.blocks(), weight.blocks(), "blocks of inputs");
    let tiles = source.tiles();
    let columns = pairs::<F>(weight);
    if tiles == 0 || columns == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let work = tiles * ROWS * columns * 2 * COLUMNS * weight.blocks() * TILE / COLUMNS;
    let worth = work >= SHARE;
    let (mut high, mut wide) = (tiles.div_ceil((ROW_BYTES / source.tile_bytes().max(1)).max(2)), 1);
    if worth && threads > 1 {
        // As many bands as threads, or a multiple, so that they end together; but where a single one will do, each
        // weight is read by one thread only.
        if high > 1 || columns < 4 * threads {
            high = high.next_multiple_of(threads).min(tiles.div_ceil(2));
        }
        wide = (4 * threads).div_ceil(high).min(columns);
    }
    share(high * wide, worth, |index| {
        let (row, column) = (index % high, index / high);
        let rows = cut(tiles, high, 2, row);
        let columns = cut(columns, wide, 1, column);
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let task = Task { level, source, weight, finish, rows, columns };
        // SAFETY: the caller's promise for `finish`.
        unsafe { run(level, task) }
    });
}
