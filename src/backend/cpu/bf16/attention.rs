//! In: queries, keys and values in rows. Out: softmax(q k^T / sqrt(width)) v, a block of queries against a
//! block of keys at a time: scores never leave the cache. The running maximum and sum follow Milakov and
//! Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3, but that the maximum only moves
//! when it is left far behind: what is not the highest score serves as well as long as nothing overflows.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::packed::{COLUMNS, DEPTH, TILE};
use super::product::share;
use super::tensor::Brain;
use super::tile::{Operand, ROWS, Sums, multiply};
use super::vector::{Kernel, Narrow, narrow_some, run};
use crate::backend::cpu::finish::load_some;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use half::bf16;
use std::sync::Arc;

/// Queries that are scored at a time.
const PAIR: usize = 2 * ROWS;
/// Queries of a task.
const QUERIES: usize = 2 * PAIR;
/// The most keys of a block: what stands in the cache beside their values.
const KEYS: usize = 128;
/// The score of a key that is hidden.
const HIDDEN: f32 = -1e30;
/// How far scores may rise above the maximum, as a power of 2.
const RISE: f32 = 8.0;

/// Rows of values: `width` values from `start` on, every `pitch`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) values: &'a [bf16],
    pub(super) pitch: usize,
    pub(super) start: usize,
    pub(super) width: usize,
}

impl Part<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.pitch
    }

    fn row(&self, row: usize) -> &[bf16] {
        &self.values[row * self.pitch + self.start..][..self.width]
    }
}

/// Keys and values of one head in tiles (see `packed.rs`): of the keys the inputs are the width and the outputs
/// tokens, of the values it is the other way round.
pub(super) struct Head {
    keys: Brain,
    values: Brain,
    tokens: usize,
    width: usize,
}

impl Head {
    pub(super) fn new(pool: &Arc<Pool>, keys: Part<'_>, values: Part<'_>) -> Self {
        let (tokens, width) = (keys.rows(), keys.width);
        let (deep, long) = (width.div_ceil(DEPTH), tokens.div_ceil(DEPTH));
        // Whole blocks of tokens on both sides.
        let mut packed_keys = Brain::take(pool, 2 * long * deep * TILE);
        for (index, tile) in packed_keys.values_mut().chunks_exact_mut(TILE).enumerate() {
            let (first, block) = (index / deep * COLUMNS, index % deep * DEPTH);
            for column in 0..COLUMNS {
                let row: &[bf16] =
                    if first + column < tokens { keys.row(first + column) } else { &[] };
                let row = row.get(block..).unwrap_or_default();
                if row.len() >= DEPTH {
                    for (pair, values) in row[..DEPTH].chunks_exact(2).enumerate() {
                        tile[(pair * COLUMNS + column) * 2..][..2].copy_from_slice(values);
                    }
                } else {
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
                for half in 0..2 {
                    let token = block + 2 * pair + half;
                    let row: &[bf16] = if token < tokens { values.row(token) } else { &[] };
                    let row = row.get(first..).unwrap_or_default();
                    if row.len() >= COLUMNS {
                        for (places, &value) in both.chunks_exact_mut(2).zip(&row[..COLUMNS]) {
                            places[half] = value;
                        }
                    } else {
                        for (column, places) in both.chunks_exact_mut(2).enumerate() {
                            places[half] = row.get(column).copied().unwrap_or(bf16::ZERO);
                        }
                    }
                }
            }
        }
        Head { keys: packed_keys, values: packed_values, tokens, width }
    }
}

/// Where results stand: rows of `pitch` values.
#[derive(Clone, Copy)]
struct Rows {
    at: *mut bf16,
    pitch: usize,
}

// SAFETY: whoever writes promises that no two threads write the same value.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

/// Some queries of one head.
struct Block<'a> {
    level: Level,
    queries: Part<'a>,
    first: usize,
    count: usize,
    head: &'a Head,
    causal: bool,
    scratch: &'a mut Scratch,
    /// The first query's result.
    out: Rows,
}

/// What stays in the cache.
struct Scratch {
    /// QUERIES rows of the padded width.
    queries: Brain,
    /// QUERIES rows of KEYS.
    weights: Brain,
    /// QUERIES rows of KEYS scores, then QUERIES rows of the padded width.
    sums: crate::backend::cpu::memory::Buffer,
}

impl Scratch {
    fn new(pool: &Arc<Pool>, width: usize) -> Self {
        let padded = width.next_multiple_of(2 * COLUMNS);
        Scratch {
            queries: Brain::take(pool, QUERIES * padded),
            weights: Brain::take(pool, QUERIES * KEYS),
            sums: pool.take(QUERIES * (KEYS + padded)),
        }
    }
}

/// The maximum and the sums of each query.
struct State {
    highest: [f32; QUERIES],
    sums: [[f32; 16]; QUERIES],
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let Block { level, queries, first, count, head, causal, scratch, out } = self;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level has proved the instructions.
        let _configured = (level == Level::Amx).then(|| unsafe { super::amx::Configured::new() });
        let (tokens, width) = (head.tokens, head.width);
        let (deep, long) = (width.div_ceil(DEPTH), tokens.div_ceil(DEPTH));
        let padded = deep * DEPTH;
        let query = scratch.queries.values_mut();
        for (row, query) in query.chunks_exact_mut(padded).enumerate() {
            let (copied, rest) = query.split_at_mut(width);
            if row < count {
                copied.copy_from_slice(queries.row(first + row));
            } else {
                copied.fill(bf16::ZERO);
            }
            rest.fill(bf16::ZERO);
        }
        let query = query.as_ptr();
        let weights = scratch.weights.values_mut().as_mut_ptr();
        let (scores, mixed) = scratch.sums.values_mut().split_at_mut(QUERIES * KEYS);
        mixed.fill(0.0);
        let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
        let mut state = State { highest: [f32::NEG_INFINITY; QUERIES], sums: [[0.0; 16]; QUERIES] };
        let end = if causal { tokens.min(first + count) } else { tokens };
        let strip = deep * TILE;
        for start in (0..end).step_by(KEYS) {
            let blocks = KEYS.min(end - start).div_ceil(DEPTH);
            let keys = &head.keys.values()[start / COLUMNS * strip..];
            for pair in (0..count).step_by(PAIR) {
                let at = |tile: usize| query.wrapping_add((pair + tile * ROWS) * padded);
                let operand =
                    Operand { at: [at(0), at(1)], pitch: padded, taps: &[0], blocks: deep };
                let rows = if count - pair > ROWS { 2 } else { 1 };
                for block in 0..blocks {
                    let strips = [
                        keys[2 * block * strip..].as_ptr(),
                        keys[(2 * block + 1) * strip..].as_ptr(),
                    ];
                    let at = scores[pair * KEYS + block * DEPTH..].as_mut_ptr();
                    let sums = Sums { at, pitch: KEYS, add: false };
                    // SAFETY: the rows are padded as the keys are, to whole tiles; scores have KEYS in a row.
                    unsafe { multiply::<S>(level, [rows, 2], &[operand], strips, sums, &mut ()) };
                }
            }
            for row in 0..count {
                let token = first + row;
                let seen = if causal { (token + 1).min(tokens) } else { tokens };
                let seen = seen.saturating_sub(start).min(blocks * DEPTH);
                let scores = &mut scores[row * KEYS..][..blocks * DEPTH];
                scores[seen..].fill(HIDDEN);
                let mixed = &mut mixed[row * padded..][..padded];
                // SAFETY: whole vectors; weights have KEYS in a row.
                unsafe {
                    let out = weights.add(row * KEYS);
                    match (blocks * DEPTH == KEYS, S::LANES) {
                        (true, 16) => state.weigh::<S, 8>(row, scores, scale, mixed, out),
                        (true, 8) => state.weigh::<S, 16>(row, scores, scale, mixed, out),
                        _ => state.weigh::<S, 0>(row, scores, scale, mixed, out),
                    }
                }
            }
            for pair in (0..count).step_by(PAIR) {
                let rows = if count - pair > ROWS { 2 } else { 1 };
                let at =
                    |tile: usize| weights.wrapping_add((pair + tile * ROWS) * KEYS).cast_const();
                let operand = Operand { at: [at(0), at(1)], pitch: KEYS, taps: &[0], blocks };
                let strips = width.div_ceil(COLUMNS);
                for column in (0..strips).step_by(2) {
                    let wide = 2.min(strips - column);
                    let strip = |column: usize| {
                        head.values.values()[(column * long + start / DEPTH) * TILE..].as_ptr()
                    };
                    let at = mixed[pair * padded + column * COLUMNS..].as_mut_ptr();
                    let sums = Sums { at, pitch: padded, add: true };
                    let strips = [strip(column), strip(column + wide - 1)];
                    // SAFETY: weights of `blocks` blocks of tokens, of which the values have as many from `start`
                    // on; rows of `mixed` are padded to whole tiles.
                    unsafe {
                        multiply::<S>(level, [rows, wide], &[operand], strips, sums, &mut ())
                    };
                }
            }
        }
        for row in 0..count {
            let mixed = &mixed[row * padded..][..width];
            let out = out.at.wrapping_add(row * out.pitch);
            // SAFETY: vectors within the row; each task writes its own queries' rows and its own head's columns.
            unsafe {
                let sum = S::load(state.sums[row].as_ptr()).sum();
                let factor = S::splat(1.0 / sum);
                for start in (0..width).step_by(S::LANES) {
                    let count = S::LANES.min(width - start);
                    let value: S = load_some(mixed[start..].as_ptr(), count);
                    narrow_some(value.mul(factor), out.add(start), count);
                }
            }
        }
    }
}

impl State {
    /// Turns the scores of query `query` into weights 2^(scale (score - highest)) and adds them to its sums; where the
    /// maximum moves, it first shrinks what was summed and `mixed`.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; scores are whole vectors, an even number of them and, if that isn't
    /// 0, VECTORS; `out` has room for as many.
    #[inline(always)]
    unsafe fn weigh<S: Narrow, const VECTORS: usize>(
        &mut self,
        query: usize,
        scores: &[f32],
        scale: f32,
        mixed: &mut [f32],
        out: *mut bf16,
    ) {
        let (highest, sums) = (&mut self.highest[query], &mut self.sums[query]);
        // SAFETY: by the caller's promise; arrays hold the longest vector.
        unsafe {
            let count = if VECTORS > 0 { VECTORS } else { scores.len() / S::LANES };
            let score = |vector: usize| scores.as_ptr().add(vector * S::LANES);
            if *highest == f32::NEG_INFINITY {
                let mut most = S::load(score(0));
                for vector in 1..count {
                    most = most.max(S::load(score(vector)));
                }
                *highest = most.highest();
            }
            // The maximum as it was serves nearly always, so that one pass does.
            loop {
                let (factor, offset) = (S::splat(scale), S::splat(-*highest * scale));
                let limit = S::splat(*highest + RISE / scale);
                let mut most = [S::load(score(0)); 2];
                let mut sum = [S::load(sums.as_ptr()), S::splat(0.0)];
                for vector in (0..count).step_by(2) {
                    let (a, b) = (S::load(score(vector)), S::load(score(vector + 1)));
                    most = [most[0].max(a), most[1].max(b)];
                    let (a, b) = (a.mul_add(factor, offset), b.mul_add(factor, offset));
                    let (a, b) = (a.exp2(), b.exp2());
                    sum = [sum[0].add(a), sum[1].add(b)];
                    a.narrow_both(b, out.add(vector * S::LANES));
                }
                let most = most[0].max(most[1]);
                if !most.any_above(limit) {
                    return sum[0].add(sum[1]).store(sums.as_mut_ptr());
                }
                let most = most.highest();
                let shrink = ((*highest - most) * scale).exp2();
                *highest = most;
                S::load(sums.as_ptr()).mul(S::splat(shrink)).store(sums.as_mut_ptr());
                mixed.iter_mut().for_each(|value| *value *= shrink);
            }
        }
    }
}

/// Attention of samples by heads of equal width: `queries(sample, head)` to `head(sample, head)`. Results stand in
/// `out`, samples and tokens one after the other, heads side by side.
pub(super) fn attend<'a>(
    level: Level,
    pool: &Arc<Pool>,
    [samples, heads]: [usize; 2],
    queries: impl Fn(usize, usize) -> Part<'a> + Sync,
    head: impl Fn(usize, usize) -> &'a Head + Sync,
    causal: bool,
    out: &mut [bf16],
) {
    if samples * heads == 0 {
        return;
    }
    let (tokens, width) = (queries(0, 0).rows(), queries(0, 0).width);
    let (blocks, pitch) = (tokens.div_ceil(QUERIES), heads * width);
    let out = Rows { at: out.as_mut_ptr(), pitch };
    let worth = samples * heads * tokens * head(0, 0).tokens * width >= 1 << 18;
    share(samples * heads * blocks, worth, |index| {
        let out = &out;
        let (block, index) = (index % blocks, index / blocks);
        let (part, sample) = (index % heads, index / heads);
        let first = block * QUERIES;
        let place = (sample * tokens + first) * pitch + part * width;
        let block = Block {
            level,
            queries: queries(sample, part),
            first,
            count: QUERIES.min(tokens - first),
            head: head(sample, part),
            causal,
            scratch: &mut Scratch::new(pool, width),
            out: Rows { at: out.at.wrapping_add(place), pitch },
        };
        // SAFETY: no two tasks share both queries and head.
        unsafe { run(level, block) }
    });
}
