//! In: rows of values wherever they lie, and packed weights. Out: their product, handed block by block to
//! whatever finishes it. Convolutions, linear layers and attention all are this product; only where a row
//! lies (see `rows.rs`) and what is done with a block (see `finish.rs`) differ.
//!
//! A sum runs over its inputs in one order, block by block, whatever the number of rows, columns and
//! threads: so neither the batch nor the threads show in a result.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels over raw rows")]

use super::finish::Finish;
use super::level::Level;
use super::memory::Pool;
use super::rows::Rows;
use super::simd::{Kernel, Simd};
use super::weight::{COLUMNS, Packed, Segment, Stored, blocks};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The most rows of a tile on any level.
const MOST_ROWS: usize = 6;

/// Rows that one task computes, where there are enough of them: a multiple of all tiles' rows.
const TASK_ROWS: usize = 96;

/// How many inputs before they are wanted a panel's weights are asked for, where a level does so.
const AHEAD: usize = 8;

/// Products smaller than this many multiplications are done where they are asked for.
const SHARE: usize = 1 << 17;

/// Values that lie side by side in each of some rows.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) at: [*const f32; MOST_ROWS],
    pub(super) length: usize,
}

/// `c` (rows of `pitch` values) becomes, or is added, the product of the runs and a panel.
///
/// # Safety
/// Each run's first ROWS pointers are valid for its length; `panel` for NV vectors for each value of the
/// runs; `c` for ROWS rows of NV vectors.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const ROWS: usize, const NV: usize>(
    runs: &[Run],
    mut panel: *const f32,
    c: *mut f32,
    pitch: usize,
    add: bool,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); NV]; ROWS];
        for run in runs {
            for k in 0..run.length {
                let mut b = [S::splat(0.0); NV];
                for (j, b) in b.iter_mut().enumerate() {
                    S::soon(panel.wrapping_add((AHEAD * NV + j) * S::LANES));
                    *b = S::load(panel.add(j * S::LANES));
                }
                panel = panel.add(NV * S::LANES);
                for (sums, at) in sums.iter_mut().zip(&run.at) {
                    let a = S::splat(*at.add(k));
                    for (sum, &b) in sums.iter_mut().zip(&b) {
                        *sum = a.mul_add(b, *sum);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let place = c.add(i * pitch + j * S::LANES);
                let sum = if add { S::load(place).add(sum) } else { sum };
                sum.store(place);
            }
        }
    }
}

/// [`tile`] for numbers of rows and vectors that are only known now.
///
/// # Safety
/// As for `tile`; `rows` is 1 to 6, `vectors` 1 to 4.
#[inline(always)]
pub(super) unsafe fn any_tile<S: Simd>(
    [rows, vectors]: [usize; 2],
    runs: &[Run],
    panel: *const f32,
    c: *mut f32,
    pitch: usize,
    add: bool,
) {
    macro_rules! pick {
        ($($r:literal)*) => { match rows { $($r => pick!(@ $r; 1 2 3 4),)* _ => {} } };
        (@ $r:literal; $($v:literal)*) => {
            // Tiles that a level never asks for are not made for it.
            match vectors { $($v if $r <= S::ROWS && $v <= S::PANEL =>
                // SAFETY: by the caller's promise.
                unsafe { tile::<S, $r, $v>(runs, panel, c, pitch, add) },)* _ => {} }
        };
    }
    pick!(1 2 3 4 5 6)
}

/// A block of rows times some panels.
struct Task<'a, R, F> {
    weight: &'a Packed<Stored>,
    source: &'a R,
    finish: &'a F,
    blocks: &'a [(usize, Vec<Segment>)],
    rows: Range<usize>,
    /// Side by side in `scratch`.
    panels: [Range<usize>; 2],
    /// (rows, COLUMNS), the last tile's missing rows not among them.
    scratch: &'a mut [f32],
    /// Room for a block of a panel.
    wide: &'a mut [f32],
}

impl<R: Rows, F: Finish> Kernel for Task<'_, R, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Task { weight, source, finish, blocks, rows, panels, scratch, wide } = self;
        let base = scratch.as_mut_ptr();
        let mut runs = Vec::with_capacity(rows.len().div_ceil(S::ROWS) * 4);
        for (index, (first, segments)) in blocks.iter().enumerate() {
            runs.clear();
            let depth = segments.iter().map(|segment| segment.length).sum();
            for start in rows.clone().step_by(S::ROWS) {
                let count = S::ROWS.min(rows.end - start);
                // Pointers of rows that a smaller tile doesn't have are never read. In loops, for functions of arrays
                // are not always made part of this one, which is then called for each row.
                let mut places = [source.place(start); MOST_ROWS];
                for (row, place) in places.iter_mut().enumerate() {
                    *place = source.place(start + row.min(count - 1));
                }
                for segment in segments {
                    let mut at = [std::ptr::null(); MOST_ROWS];
                    for (at, &place) in at.iter_mut().zip(&places) {
                        *at = source.run(place, segment.run).wrapping_add(segment.start);
                    }
                    runs.push(Run { at, length: segment.length });
                }
            }
            // A panel stays in the first level cache while all rows pass it.
            let mut column = 0;
            for panel in panels.iter().cloned().flatten() {
                let width = weight.panel_width(panel);
                // SAFETY: the caller's promise.
                let values = unsafe { weight.block::<S>(panel, *first, depth, wide).as_ptr() };
                let tiles = rows.clone().step_by(S::ROWS).zip(runs.chunks_exact(segments.len()));
                for (start, runs) in tiles {
                    // SAFETY: `source` hands out pointers valid for its runs; the panel holds `width`
                    // values for each input of the block; `scratch` has a row of COLUMNS for each of
                    // `rows`, and the panels of a task are at most that wide.
                    unsafe {
                        let c = base.add((start - rows.start) * COLUMNS + column);
                        let size = [S::ROWS.min(rows.end - start), width / S::LANES];
                        any_tile::<S>(size, runs, values, c, COLUMNS, index > 0);
                    }
                }
                column += width;
            }
        }
        // SAFETY: each task finishes rows and columns of its own.
        unsafe { finish.finish::<S>(rows, panels, weight, scratch) }
    }
}

/// How many columns' panels a task has: one run of them, or for gated results one run in each half.
fn tasks_of(weight: &Packed<Stored>, gated: bool) -> Vec<[Range<usize>; 2]> {
    let panels = weight.panels();
    let step = (COLUMNS / weight.width).max(1);
    if gated {
        let (half, step) = (panels / 2, step.div_ceil(2));
        let part = |first: usize| first..(first + step).min(half);
        let both = |first| [part(first), part(first).start + half..part(first).end + half];
        (0..half).step_by(step).map(both).collect()
    } else {
        let part = |first: usize| [first..(first + step).min(panels), 0..0];
        (0..panels).step_by(step).map(part).collect()
    }
}

/// The product of `count` rows of `source`, whose runs have these `lengths`, and `weight`, to `finish`.
///
/// # Safety
/// `source` hands out pointers that are valid for its runs' lengths, whose sum is the weight's inputs;
/// `finish` may be called once for every row and column.
pub(super) unsafe fn multiply<R: Rows, F: Finish>(
    level: Level,
    pool: &Arc<Pool>,
    source: &R,
    count: usize,
    lengths: &[usize],
    weight: &Packed<Stored>,
    finish: &F,
) {
    assert_eq!(lengths.iter().sum::<usize>(), weight.inputs, "values in a row");
    let blocks = blocks(lengths);
    let columns = tasks_of(weight, F::GATED);
    let threads = rayon::current_num_threads();
    let work = count * weight.inputs * weight.outputs;
    let mut height = TASK_ROWS;
    while height > 12 && count.div_ceil(height) * columns.len() < 3 * threads {
        height /= 2;
    }
    let bands = count.div_ceil(height);
    let task = |index: usize| {
        let (band, column) = (index % bands, index / bands);
        let rows = band * height..((band + 1) * height).min(count);
        let mut scratch = pool.take(rows.len() * COLUMNS);
        let mut wide = pool.take(weight.widened());
        let task = Task {
            weight,
            source,
            finish,
            blocks: &blocks,
            rows,
            panels: columns[column].clone(),
            scratch: scratch.values_mut(),
            wide: wide.values_mut(),
        };
        // SAFETY: the caller's promise for source and finish.
        unsafe { level.run(task) }
    };
    let tasks = bands * columns.len();
    if threads == 1 || work < SHARE || tasks == 1 {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}
