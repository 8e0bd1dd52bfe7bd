//! In: queries, keys and values in rows. Out: softmax(q k^T / sqrt(width)) v, a block of queries against a
//! block of keys at a time: scores never leave the cache. The running maximum and sum follow Milakov and
//! Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3, but that the maximum only moves
//! when it is left far behind: what is not the highest score serves as well as long as nothing overflows.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::head::{Head, Part};
use super::packed::{COLUMNS, DEPTH};
#[cfg(target_arch = "x86_64")]
use super::pair;
use super::product::share;
use super::tensor::Brain;
use super::tile::Meanwhile;
use super::units::{KEYS, PAIR, QUERIES, Unit, Work};
use super::vector::{Kernel, Narrow, narrow_some, run};
use crate::backend::cpu::finish::load_some;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use half::bf16;
use std::sync::Arc;

/// The score of a key that is hidden.
const HIDDEN: f32 = -1e30;
/// How far scores may rise above the maximum, as a power of 2.
const RISE: f32 = 8.0;

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
        let deep = width.div_ceil(DEPTH);
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
        let (scores, mixed) = scratch.sums.values_mut().split_at_mut(QUERIES * KEYS);
        mixed.fill(0.0);
        let work = Work {
            level,
            head,
            first,
            causal,
            queries: query.as_ptr(),
            scores: scores.as_mut_ptr(),
            weights: scratch.weights.values_mut().as_mut_ptr(),
            mixed: mixed.as_mut_ptr(),
            scale: std::f32::consts::LOG2_E / (width as f32).sqrt(),
        };
        let mut state = State { highest: [f32::NEG_INFINITY; QUERIES], sums: [[0.0; 16]; QUERIES] };
        // A unit of work is a pair of tiles of queries and a block of keys: all pairs, then the next block.
        let end = if causal { tokens.min(first + count) } else { tokens };
        let pairs = count.div_ceil(PAIR).max(1);
        let units = end.div_ceil(KEYS) * pairs;
        let unit = |unit: usize| {
            let (start, first) = (unit / pairs * KEYS, unit % pairs * PAIR);
            let blocks = KEYS.min(end - start).div_ceil(DEPTH);
            Unit { start, blocks, first, rows: PAIR.min(count - first) }
        };
        // While one unit's scores become weights, the processor's products make the scores of the next and mix what
        // the one before has weighed; but a single pair has one place for scores and weights.
        let lag = usize::from(pairs > 1);
        // SAFETY: the level has proved the instructions; the scratch has room for all pairs, and no two units that
        // are under way at once are of the same pair.
        unsafe {
            if units > 0 {
                work.score::<S>(unit(0), &mut ());
            }
            for turn in 0..units {
                let mut weigh = Weigh::new(&work, &mut state, unit(turn));
                if lag == 0 {
                    weigh.rest::<S>();
                }
                if turn + 1 < units {
                    work.score::<S>(unit(turn + 1), &mut weigh);
                }
                if turn >= lag {
                    work.mix::<S>(unit(turn - lag), &mut weigh);
                }
                weigh.rest::<S>();
            }
            if lag == 1 && units > 0 {
                work.mix::<S>(unit(units - 1), &mut ());
            }
        }
        for row in 0..count {
            let mixed = &scratch.sums.values()[QUERIES * KEYS + row * padded..][..width];
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

/// Turns the scores of a unit into weights, some rows at a time.
struct Weigh<'a> {
    work: &'a Work<'a>,
    state: &'a mut State,
    unit: Unit,
    /// Rows that are done, and that are done at a time.
    done: usize,
    step: usize,
}

impl<'a> Weigh<'a> {
    fn new(work: &'a Work<'a>, state: &'a mut State, unit: Unit) -> Self {
        // As many parts as the products of a unit have.
        let strips = work.head.width.div_ceil(COLUMNS).div_ceil(2);
        let parts = unit.blocks * (work.deep() + strips);
        Weigh { work, state, unit, done: 0, step: unit.rows.div_ceil(parts.max(1)) }
    }

    /// All rows that are left.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and nobody else uses these queries' scores and weights and what they
    /// mixed.
    #[inline(always)]
    unsafe fn rest<S: Narrow>(&mut self) {
        // SAFETY: the caller's promise.
        unsafe { self.rows::<S>(self.unit.rows - self.done) }
    }

    /// # Safety
    /// As for [`Weigh::rest`].
    #[inline(always)]
    unsafe fn rows<S: Narrow>(&mut self, count: usize) {
        let (work, Unit { start, blocks, first, .. }) = (self.work, self.unit);
        let (tokens, padded) = (work.head.tokens, work.deep() * DEPTH);
        for row in first + self.done..first + self.done + count {
            let token = work.first + row;
            let seen = if work.causal { (token + 1).min(tokens) } else { tokens };
            let seen = seen.saturating_sub(start).min(blocks * DEPTH);
            // SAFETY: scores, weights and sums have so many values in a row; whole vectors.
            unsafe {
                let scores = work.scores.add(row * KEYS);
                let scores = std::slice::from_raw_parts_mut(scores, blocks * DEPTH);
                scores[seen..].fill(HIDDEN);
                let mixed = std::slice::from_raw_parts_mut(work.mixed.add(row * padded), padded);
                let out = work.weights.add(row * KEYS);
                match (blocks * DEPTH == KEYS, S::LANES) {
                    (true, 16) => {
                        self.state.weigh::<S, { KEYS / 16 }>(row, scores, work.scale, mixed, out)
                    }
                    (true, 8) => {
                        self.state.weigh::<S, { KEYS / 8 }>(row, scores, work.scale, mixed, out)
                    }
                    _ => self.state.weigh::<S, 0>(row, scores, work.scale, mixed, out),
                }
            }
        }
        self.done += count;
    }
}

impl Meanwhile for Weigh<'_> {
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self, _: usize) {
        let count = self.step.min(self.unit.rows - self.done);
        // SAFETY: whoever made this promises what `rest` asks for.
        unsafe { self.rows::<S>(count) }
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
    #[cfg(target_arch = "x86_64")]
    let paired = pair::fits(level, head(0, 0), causal);
    #[cfg(target_arch = "x86_64")]
    let size = if paired { pair::QUERIES } else { QUERIES };
    #[cfg(not(target_arch = "x86_64"))]
    let size = QUERIES;
    let (blocks, pitch) = (tokens.div_ceil(size), heads * width);
    let out = Rows { at: out.as_mut_ptr(), pitch };
    let worth = samples * heads * tokens * head(0, 0).tokens * width >= 1 << 18;
    share(samples * heads * blocks, worth, |index| {
        let out = &out;
        let (block, index) = (index % blocks, index / blocks);
        let (part, sample) = (index % heads, index / heads);
        let (first, queries, head) = (block * size, queries(sample, part), head(sample, part));
        let count = size.min(tokens - first);
        let place = (sample * tokens + first) * pitch + part * width;
        let out = Rows { at: out.at.wrapping_add(place), pitch };
        #[cfg(target_arch = "x86_64")]
        if paired {
            let scratch = &mut pair::Scratch::new(pool);
            let Rows { at: out, pitch } = out;
            let pair = pair::Pair { queries, first, count, head, scratch, out, pitch };
            // SAFETY: `fits` has seen the level, and the tokens and the width that all heads have; no two tasks share both
            // queries and head.
            return unsafe { run(level, pair) };
        }
        let scratch = &mut Scratch::new(pool, width);
        let block = Block { level, queries, first, count, head, causal, scratch, out };
        // SAFETY: no two tasks share both queries and head.
        unsafe { run(level, block) }
    });
}
