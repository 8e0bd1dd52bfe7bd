//! In: some rows and some outputs. Out: their product, which one thread computes without stopping, in an order that keeps
//! in the caches what is read again, and that asks for what is read next before it is wanted.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels over raw rows")]

use super::ahead::{Ahead, Meantime};
use super::finish::Finish;
use super::packed::{DEPTH, Packed, TILE};
use super::source::{NOWHERE, Source};
use super::tile::{Meanwhile, Operand, ROWS, Square, multiply};
use super::vector::{Kernel, Narrow};
use crate::backend::cpu::level::Level;
use half::bf16;
use std::ops::Range;

/// Bytes of strips that rows meet one after the other: those stay in the second level cache, and the results that a row
/// writes lie side by side.
const STRIP_BYTES: usize = 256 << 10;

/// Bytes of two strips that rows meet at a time, where the strips are longer than that many: rows are read from the second
/// level cache for each such chunk, and the next one comes from memory meanwhile.
const CHUNK_BYTES: usize = 72 << 10;

/// What one thread does without stopping.
pub(super) struct Task<'a, F> {
    pub(super) level: Level,
    pub(super) source: &'a Source<'a>,
    pub(super) weight: &'a Packed,
    pub(super) finish: &'a F,
    /// Tiles of rows.
    pub(super) rows: Range<usize>,
    /// Pairs of tiles of outputs.
    pub(super) columns: Range<usize>,
}

/// Two tiles of rows, or a single one.
struct Two<'a> {
    operands: [Operand<'a>; 2],
    segments: usize,
    tiles: usize,
    places: [u32; 2 * ROWS],
}

impl Two<'_> {
    fn places(&self) -> &[u32] {
        &self.places[..self.tiles * ROWS]
    }

    /// Their inputs under the last tap, in so many parts; those under the others were read by the rows before, or nearly
    /// all. (Not where a small picture is copied for each column; but it is small.)
    fn ahead(&self, parts: usize) -> Ahead {
        let Operand { at, pitch, taps, .. } = self.operands[0];
        let tap = taps.last().copied().unwrap_or_default();
        Ahead::new(at.map(|at| at.wrapping_add(tap)), ROWS * pitch * size_of::<bf16>(), parts)
    }
}

/// Some inputs of all rows.
#[derive(Clone, Copy)]
struct Chunk {
    /// Which operand, and which of its blocks of channels.
    operand: usize,
    first: usize,
    blocks: usize,
    /// Where their weights begin in a strip, and how many they are.
    start: usize,
    weights: usize,
}

/// The squares of a task: one is finished while the next is computed.
struct Squares<'a, F> {
    both: [Square; 2],
    turn: usize,
    meantime: Meantime<'a, F>,
}

/// A pair of tiles of outputs.
#[derive(Clone, Copy)]
struct Pair {
    columns: [usize; 2],
    /// How many of them there are.
    count: usize,
    strips: [*const bf16; 2],
}

impl<F: Finish> Task<'_, F> {
    /// The rows, two tiles at a time.
    fn twos(&self) -> Vec<Two<'_>> {
        let two = |first: usize| {
            let tiles = [first, (first + 1).min(self.rows.end - 1)];
            let (operands, segments) = self.source.operands(tiles);
            let mut places = [NOWHERE; 2 * ROWS];
            for (tile, places) in tiles.into_iter().zip(places.as_chunks_mut().0) {
                *places = self.source.places(tile);
            }
            Two { operands, segments, tiles: 1 + tiles[1] - tiles[0], places }
        };
        self.rows.clone().step_by(2).map(two).collect()
    }

    /// The inputs in chunks, in the order of the weights; a single one where strips are short.
    fn chunks(&self, two: &Two<'_>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut start = 0;
        for (operand, o) in two.operands[..two.segments].iter().enumerate() {
            let block = o.taps.len() * TILE;
            let blocks = (CHUNK_BYTES / (2 * block * size_of::<bf16>()).max(1)).max(1);
            for first in (0..o.blocks).step_by(blocks) {
                let blocks = blocks.min(o.blocks - first);
                let weights = blocks * block;
                chunks.push(Chunk { operand, first, blocks, start, weights });
                start += weights;
            }
        }
        chunks
    }

    fn strip_bytes(&self) -> usize {
        size_of_val(self.weight.strip(0, 0))
    }

    fn pair(&self, column: usize) -> Pair {
        let all = self.weight.columns();
        let columns =
            if F::GATED { [column, column + all / 2] } else { [2 * column, 2 * column + 1] };
        let count = if columns[1] < all { 2 } else { 1 };
        let strips = [0, count - 1].map(|i| self.weight.strip(columns[i], 0).as_ptr());
        Pair { columns, count, strips }
    }

    /// What comes behind `columns`: the next, or, behind the last, most likely the first again, for other rows.
    fn behind(&self, columns: &Range<usize>) -> usize {
        if columns.end < self.columns.end { columns.end } else { self.columns.start }
    }

    /// For each few strips all rows: strips stay in the second level cache while rows go by.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn in_groups<'a, S: Narrow>(&self, twos: &'a [Two<'_>], squares: &mut Squares<'a, F>) {
        let group = (STRIP_BYTES / (2 * self.strip_bytes()).max(1)).max(1);
        let blocks = self.weight.blocks() / self.weight.taps.max(1);
        for first in self.columns.clone().step_by(group) {
            let columns = first..(first + group).min(self.columns.end);
            squares.meantime.weights = self.next_group(&columns, group, twos.len() * blocks);
            for (index, two) in twos.iter().enumerate() {
                squares.meantime.rows = match twos.get(index + 1) {
                    Some(next) if first == self.columns.start => next.ahead(columns.len() * blocks),
                    _ => Ahead::default(),
                };
                for column in columns.clone() {
                    let pair = self.pair(column);
                    squares.meantime.coming(two.places(), pair.columns);
                    let (size, sums) = ([two.tiles, pair.count], squares.both[squares.turn].sums());
                    let (operands, meantime) =
                        (&two.operands[..two.segments], &mut squares.meantime);
                    // SAFETY: the source hands out rows that hold its blocks, of which the weight has as many, as
                    // `product` checks; squares are as large as they can ask for, and this one is finished.
                    unsafe {
                        multiply::<S>(self.level, size, operands, pair.strips, sums, meantime);
                    }
                    squares.next(two.places(), pair);
                }
            }
        }
    }

    /// The strips of the group behind `columns`, to be asked for in a part for each of theirs and `parts`.
    fn next_group(&self, columns: &Range<usize>, group: usize, parts: usize) -> Ahead {
        if group >= self.columns.len() {
            return Ahead::default();
        }
        let first = self.behind(columns);
        let count = group.min(self.columns.end - first);
        // In two halves, or values and gates.
        let at = if F::GATED { self.pair(first).columns } else { [2 * first, 2 * first + count] };
        let last = self.weight.columns() - 1;
        let at = at.map(|column| self.weight.strip(column.min(last), 0).as_ptr());
        Ahead::new(at, self.strip_bytes() * count, parts * columns.len())
    }

    /// For each chunk of two strips all rows, whose sums wait for the next chunk.
    ///
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn in_chunks<'a, S: Narrow>(
        &self,
        twos: &'a [Two<'_>],
        chunks: &[Chunk],
        squares: &mut Squares<'a, F>,
    ) {
        let mut waiting = Vec::new();
        waiting.resize_with(twos.len(), Square::new);
        for column in self.columns.clone() {
            let pair = self.pair(column);
            let behind = self.pair(self.behind(&(column..column + 1)));
            for (index, chunk) in chunks.iter().enumerate() {
                let (next, strips) = match chunks.get(index + 1) {
                    Some(next) => (next, pair.strips),
                    None => (&chunks[0], behind.strips),
                };
                squares.meantime.weights = Ahead::new(
                    strips.map(|strip| strip.wrapping_add(next.start)),
                    next.weights * size_of::<bf16>(),
                    twos.len() * chunk.blocks,
                );
                let strips = pair.strips.map(|strip| strip.wrapping_add(chunk.start));
                let last = index + 1 == chunks.len();
                for (two, waiting) in twos.iter().zip(&mut waiting) {
                    let whole = two.operands[chunk.operand];
                    let at = whole.at.map(|at| at.wrapping_add(chunk.first * DEPTH));
                    let operand = Operand { at, blocks: chunk.blocks, ..whole };
                    let mut sums = waiting.sums();
                    if index > 0 {
                        sums.from = sums.at;
                    }
                    if last {
                        sums.at = squares.both[squares.turn].sums().at;
                        squares.meantime.coming(two.places(), pair.columns);
                    }
                    let (size, meantime) = ([two.tiles, pair.count], &mut squares.meantime);
                    // SAFETY: as in `in_groups`; each two tiles of rows have a square that waits.
                    unsafe {
                        multiply::<S>(self.level, size, &[operand], strips, sums, meantime);
                    }
                    if last {
                        squares.next(two.places(), pair);
                    }
                }
            }
        }
    }
}

impl<'a, F> Squares<'a, F> {
    /// The square of this turn is computed, and waits to be finished.
    fn next(&mut self, places: &'a [u32], pair: Pair) {
        let sums = self.both[self.turn].sums().at.cast_const();
        self.meantime.finish_next(places, pair.columns, pair.count, sums);
        self.turn = 1 - self.turn;
    }
}

impl<F: Finish> Kernel for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let twos = self.twos();
        let Some(two) = twos.first() else { return };
        let chunks = self.chunks(two);
        let meantime = Meantime::new(self.finish, self.weight);
        let mut squares = Squares { both: [Square::new(), Square::new()], turn: 0, meantime };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level has proved the instructions.
        let _configured =
            (self.level == Level::Amx).then(|| unsafe { super::amx::Configured::new() });
        // SAFETY: the caller's promise; the processor has the instructions.
        unsafe {
            if twos.len() > 1 && chunks.len() > 1 && 2 * self.strip_bytes() > STRIP_BYTES {
                self.in_chunks::<S>(&twos, &chunks, &mut squares);
            } else {
                self.in_groups::<S>(&twos, &mut squares);
            }
            squares.meantime.part::<S>(1);
        }
    }
}
