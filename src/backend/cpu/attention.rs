//! In: queries, keys and values in rows. Out: softmax(q k^T / sqrt(width)) v, a block of queries against a
//! block of keys at a time: scores never leave the cache. The running maximum and sum follow Milakov and
//! Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::finish::{load_some, store_some};
use super::function::exp;
use super::level::Level;
use super::memory::{Pool, Shared};
use super::product::{Run, any_tile};
use super::simd::{Kernel, Simd};
use super::weight::Packed;
use rayon::prelude::*;
use std::sync::Arc;

/// Queries of a task: a multiple of all tiles' rows.
const QUERIES: usize = 48;
/// The most keys of a block: what stands in the cache beside their values.
const KEYS: usize = 256;

/// Rows of values: `width` values from `start` on, every `pitch`.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) values: &'a [f32],
    pub(super) pitch: usize,
    pub(super) start: usize,
    pub(super) width: usize,
}

impl Part<'_> {
    fn rows(&self) -> usize {
        self.values.len() / self.pitch
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.pitch + self.start..][..self.width]
    }
}

/// Keys and values of one head, in the order in which tiles read them.
pub(super) struct Head {
    keys: Packed,
    values: Packed,
}

impl Head {
    pub(super) fn new(level: Level, pool: &Arc<Pool>, keys: Part<'_>, values: Part<'_>) -> Self {
        let (tokens, width) = (keys.rows(), keys.width);
        Head {
            keys: Packed::of_columns(level, pool, [width, tokens], |token| keys.row(token)),
            values: Packed::of_rows(level, pool, [tokens, width], |token| values.row(token)),
        }
    }
}

/// One block of queries of one head.
struct Block<'a> {
    queries: Part<'a>,
    first: usize,
    count: usize,
    head: &'a Head,
    causal: bool,
    /// QUERIES x KEYS, then QUERIES x the padded width.
    scratch: &'a mut [f32],
    out: Shared,
    /// Of the first query's first value in `out`, whose rows are `pitch` long.
    place: usize,
    pitch: usize,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Block { queries, first, count, head, causal, .. } = self;
        let (tokens, width) = (head.keys.outputs, queries.width);
        let padded = head.values.bias.len();
        let (scores, mixed) = self.scratch.split_at_mut(QUERIES * KEYS);
        mixed.fill(0.0);
        let scale = 1.0 / (width as f32).sqrt();
        let (mut highest, mut sums) = ([f32::NEG_INFINITY; QUERIES], [0f32; QUERIES]);
        let end = if causal { tokens.min(first + count) } else { tokens };
        let query = queries.values.as_ptr().wrapping_add(first * queries.pitch + queries.start);
        for start in (0..end).step_by(KEYS) {
            let keys = KEYS.min(end - start);
            let panel_width = head.keys.width;
            for panel in start / panel_width..(start + keys).div_ceil(panel_width) {
                let vectors = head.keys.panel_width(panel) / S::LANES;
                let column = panel * panel_width - start;
                let panel = head.keys.panel(panel, 0).as_ptr();
                for row in (0..count).step_by(S::ROWS) {
                    let rows = S::ROWS.min(count - row);
                    let at = |i: usize| query.wrapping_add((row + i.min(rows - 1)) * queries.pitch);
                    let run = [Run { at: std::array::from_fn(at), length: width }];
                    // SAFETY: the rows hold `width` values, as the panel does; scores of a block have
                    // room for whole panels, whose width divides KEYS.
                    unsafe {
                        let c = scores.as_mut_ptr().add(row * KEYS + column);
                        any_tile::<S>([rows, vectors], &run, panel, c, KEYS, false);
                    }
                }
            }
            for row in 0..count {
                let scores = &mut scores[row * KEYS..][..keys];
                let seen = if causal { (first + row + 1).saturating_sub(start) } else { keys };
                let (seen, hidden) = scores.split_at_mut(seen.min(keys));
                hidden.fill(0.0);
                if seen.is_empty() {
                    continue;
                }
                // SAFETY: vectors within `seen`.
                let (shrink, sum) = unsafe { weights::<S>(seen, scale, &mut highest[row]) };
                sums[row] = sums[row] * shrink + sum;
                if shrink != 1.0 {
                    for value in &mut mixed[row * padded..][..padded] {
                        *value *= shrink;
                    }
                }
            }
            let weights = scores.as_ptr();
            for panel in 0..head.values.panels() {
                let vectors = head.values.panel_width(panel) / S::LANES;
                let column = panel * head.values.width;
                let panel = head.values.panel(panel, start).as_ptr();
                for row in (0..count).step_by(S::ROWS) {
                    let rows = S::ROWS.min(count - row);
                    let at = |i: usize| weights.wrapping_add((row + i.min(rows - 1)) * KEYS);
                    let run = [Run { at: std::array::from_fn(at), length: keys }];
                    // SAFETY: rows of `keys` weights; the panel from `start` on holds as many tokens;
                    // rows of `mixed` are as wide as all panels.
                    unsafe {
                        let c = mixed.as_mut_ptr().add(row * padded + column);
                        any_tile::<S>([rows, vectors], &run, panel, c, padded, true);
                    }
                }
            }
        }
        for row in 0..count {
            // SAFETY: each task writes its own queries' rows and its own head's columns.
            let out = unsafe { self.out.part(self.place + row * self.pitch, width) };
            let mixed = &mixed[row * padded..][..width];
            out.iter_mut().zip(mixed).for_each(|(out, value)| *out = value / sums[row]);
        }
    }
}

/// Turns scores into exp(scale (score - highest)), `highest` being raised to theirs. Gives the factor by
/// which what was summed before shrinks, and the sum.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn weights<S: Simd>(scores: &mut [f32], scale: f32, highest: &mut f32) -> (f32, f32) {
    // SAFETY: vectors of `count` values within the scores; arrays hold the longest vector.
    unsafe {
        let whole = scores.len() / S::LANES * S::LANES;
        let mut most = S::splat(*highest);
        for start in (0..whole).step_by(S::LANES) {
            most = most.max(S::load(scores.as_ptr().add(start)));
        }
        let mut lanes = [f32::NEG_INFINITY; 16];
        most.store(lanes.as_mut_ptr());
        let rest = scores[whole..].iter();
        let new = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        let shrink = if *highest == new { 1.0 } else { ((*highest - new) * scale).exp() };
        *highest = new;
        let (scale, offset) = (S::splat(scale), S::splat(new));
        let mut sum = S::splat(0.0);
        for start in (0..scores.len()).step_by(S::LANES) {
            let count = S::LANES.min(scores.len() - start);
            let place = scores.as_mut_ptr().add(start);
            let mut weight = exp(load_some::<S>(place, count).sub(offset).mul(scale));
            store_some(weight, place, count);
            if count < S::LANES {
                weight = load_some(place, count);
            }
            sum = sum.add(weight);
        }
        let mut lanes = [0f32; 16];
        sum.store(lanes.as_mut_ptr());
        (shrink, lanes.iter().sum())
    }
}

/// Attention of samples by heads of equal width: `queries(sample, head)` to `head(sample, head)`. Results stand in `out`, whose rows are `pitch` long.
pub(super) fn attend<'a>(
    level: Level,
    pool: &Arc<Pool>,
    [samples, heads]: [usize; 2],
    queries: impl Fn(usize, usize) -> Part<'a> + Sync,
    head: impl Fn(usize, usize) -> &'a Head + Sync,
    causal: bool,
    out: &mut [f32],
) {
    if samples * heads == 0 {
        return;
    }
    let (tokens, width) = (queries(0, 0).rows(), queries(0, 0).width);
    let (blocks, pitch) = (tokens.div_ceil(QUERIES), heads * width);
    let out = Shared::new(out);
    let task = |index: usize| {
        let (block, index) = (index % blocks, index / blocks);
        let (part, sample) = (index % heads, index / heads);
        let (queries, head) = (queries(sample, part), head(sample, part));
        let first = block * QUERIES;
        let padded = head.values.bias.len();
        let mut scratch = pool.take(QUERIES * (KEYS + padded));
        let kernel = Block {
            queries,
            first,
            count: QUERIES.min(tokens - first),
            head,
            causal,
            scratch: scratch.values_mut(),
            out,
            place: (sample * tokens + first) * pitch + part * width,
            pitch,
        };
        // SAFETY: no two tasks share both queries and head.
        unsafe { level.run(kernel) }
    };
    (0..samples * heads * blocks).into_par_iter().with_max_len(1).for_each(task);
}
