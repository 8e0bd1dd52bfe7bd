//! In: rows and packed weights. Out: their product, handed square by square to whatever finishes it. Convolutions
//! and linear layers are this product; only where a row lies (see `source.rs`) and what is done with a square
//! (see `finish.rs`) differ.
//!
//! Sums are one square's own, so neither how the rows and outputs are shared out nor the batch shows in a result.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels over raw rows")]

use super::finish::Finish;
use super::packed::{COLUMNS, Packed, TILE};
use super::source::Source;
use super::tile::{Meanwhile, PITCH, ROWS, Square, multiply};
use super::vector::{Kernel, Narrow, run};
use crate::backend::cpu::level::Level;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Products smaller than this many multiplications are done where they are asked for.
const SHARE: usize = 1 << 21;

/// Bytes of rows that a task goes through for each group of strips: what stays in the second level cache beside
/// those and the next.
const ROW_BYTES: usize = 1024 << 10;

/// Bytes of strips that rows meet one after the other: those stay in the second level cache, and the results that a row
/// writes lie side by side.
const STRIP_BYTES: usize = 256 << 10;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// What one thread does without stopping.
struct Task<'a, F> {
    level: Level,
    source: &'a Source<'a>,
    weight: &'a Packed,
    finish: &'a F,
    /// Tiles of rows.
    rows: Range<usize>,
    /// Pairs of tiles of outputs.
    columns: Range<usize>,
}

impl<F: Finish> Kernel for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let Task { level, source, weight, finish, rows, columns } = self;
        let places: Vec<[u32; ROWS]> = rows.clone().map(|tile| source.places(tile)).collect();
        // One is finished while the next is computed.
        let mut squares = [Square::new(), Square::new()];
        let mut turn = 0;
        let (sums, ahead) = (std::ptr::null(), Ahead::default());
        let mut pending =
            Pending { finish, weight, places: &[], pair: [0; 2], count: 0, sums, ahead };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level has proved the instructions.
        let _configured = (level == Level::Amx).then(|| unsafe { super::amx::Configured::new() });
        let strip = size_of_val(weight.strip(0, 0));
        let group = (STRIP_BYTES / (2 * strip).max(1)).max(1);
        let blocks = weight.blocks() / weight.taps.max(1);
        for first in columns.clone().step_by(group) {
            let last = (first + group).min(columns.end);
            let parts = places.len().div_ceil(2) * (last - first) * blocks;
            let mut ahead = Ahead::default();
            if group < columns.len() && 2 * strip <= STRIP_BYTES {
                // The next strips; behind the last most likely the first again, for other rows.
                let next = if last < columns.end { last } else { columns.start };
                let next = next..(next + group).min(columns.end);
                ahead = Ahead::new::<F>(weight, next, parts);
            }
            for (two, places) in rows.clone().step_by(2).zip(places.chunks(2)) {
                let tiles = [two, two + places.len() - 1];
                let (operands, segments) = source.operands(tiles);
                for column in first..last {
                    let pair = if F::GATED {
                        [column, column + weight.columns() / 2]
                    } else {
                        [2 * column, 2 * column + 1]
                    };
                    let count = if pair[1] < weight.columns() { 2 } else { 1 };
                    let strips = [pair[0], pair[count - 1]].map(|c| weight.strip(c, 0).as_ptr());
                    let size = [places.len(), count];
                    let (operands, sums) = (&operands[..segments], squares[turn].sums());
                    pending.ahead = ahead;
                    // SAFETY: the source hands out rows that hold its blocks, of which the weight has as many, as
                    // `product` checks; the square is as large as they can ask for, and not the pending one.
                    unsafe { multiply::<S>(level, size, operands, strips, sums, &mut pending) };
                    let (places, sums) = (places.as_flattened(), sums.at.cast_const());
                    ahead = pending.ahead;
                    pending = Pending { finish, weight, places, pair, count, sums, ahead };
                    turn = 1 - turn;
                }
            }
        }
        // SAFETY: the processor has the instructions.
        unsafe { pending.part::<S>(1) };
    }
}

/// A square of sums that is not yet finished.
struct Pending<'a, F> {
    finish: &'a F,
    weight: &'a Packed,
    /// Of the rows that are left.
    places: &'a [u32],
    pair: [usize; 2],
    count: usize,
    /// Of the first of them.
    sums: *const f32,
    ahead: Ahead,
}

/// Strips that the second level cache is asked for before they are wanted: it holds those that are in use and these,
/// and memory is idle while products are computed.
#[derive(Clone, Copy)]
struct Ahead {
    /// Of the values, of the gates; or two halves.
    at: [*const bf16; 2],
    /// In each of both: all that are left, and those that are asked for at a time.
    lines: usize,
    step: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { at: [std::ptr::null(); 2], lines: 0, step: 0 }
    }
}

impl Ahead {
    /// The strips of pairs `columns`, in so many parts.
    fn new<F: Finish>(weight: &Packed, columns: Range<usize>, parts: usize) -> Self {
        let strip = |column: usize| weight.strip(column.min(weight.columns() - 1), 0).as_ptr();
        let at = if F::GATED {
            [strip(columns.start), strip(columns.start + weight.columns() / 2)]
        } else {
            [strip(2 * columns.start), strip(columns.start + columns.end)]
        };
        let lines = size_of_val(weight.strip(0, 0)) * columns.len() / LINE;
        Ahead { at, lines, step: lines.div_ceil(parts.max(1)) }
    }

    /// # Safety
    /// The processor has the instructions of `S`.
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self) {
        for _ in 0..self.step.min(self.lines) {
            for at in &mut self.at {
                // SAFETY: the caller's promise; asking for a line that isn't there does nothing.
                unsafe { S::ask(*at) };
                *at = at.wrapping_byte_add(LINE);
            }
        }
        self.lines = self.lines.saturating_sub(self.step);
    }
}

impl<F: Finish> Meanwhile for Pending<'_, F> {
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self, parts: usize) {
        // SAFETY: the processor has the instructions.
        unsafe { self.ahead.part::<S>() };
        if self.places.is_empty() {
            return;
        }
        let rows = (2 * ROWS).div_ceil(parts).min(self.places.len());
        let (now, rest) = self.places.split_at(rows);
        // SAFETY: the square has these rows; each task finishes rows and columns of its own.
        unsafe { self.finish.finish::<S>(now, self.pair, self.count, self.weight, self.sums) };
        (self.places, self.sums) = (rest, self.sums.wrapping_add(rows * PITCH));
    }
}

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
