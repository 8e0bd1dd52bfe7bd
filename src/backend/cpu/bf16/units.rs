//! In: queries, keys and values of one head. Out: the products of attention, a unit of work at a time: scores, and
//! values by their weights.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "products over raw rows")]

use super::head::Head;
use super::packed::{COLUMNS, DEPTH, TILE};
use super::tile::{Meanwhile, Operand, ROWS, Sums, multiply};
use super::vector::Narrow;
use crate::backend::cpu::level::Level;
use half::bf16;

/// Queries that are scored at a time.
pub(super) const PAIR: usize = 2 * ROWS;
/// Queries of a task.
pub(super) const QUERIES: usize = 2 * PAIR;
/// The most keys of a block: what stands in the cache beside their values.
pub(super) const KEYS: usize = 128;
/// Some queries and a block of keys.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    /// The first key, and how many blocks of tokens there are.
    pub(super) start: usize,
    pub(super) blocks: usize,
    /// The first of the task's queries, and how many.
    pub(super) first: usize,
    pub(super) rows: usize,
}

/// What the units of a task share.
pub(super) struct Work<'a> {
    pub(super) level: Level,
    pub(super) head: &'a Head,
    /// The task's first query.
    pub(super) first: usize,
    pub(super) causal: bool,
    /// Rows of the padded width, of KEYS, of KEYS, of the padded width.
    pub(super) queries: *const bf16,
    pub(super) scores: *mut f32,
    pub(super) weights: *mut bf16,
    pub(super) mixed: *mut f32,
    pub(super) scale: f32,
}

impl Work<'_> {
    /// Blocks of the width.
    pub(super) fn deep(&self) -> usize {
        self.head.width.div_ceil(DEPTH)
    }

    /// The scores of a unit.
    ///
    /// # Safety
    /// The level is that of `S`, whose tiles are configured; queries are padded as the keys are, to whole tiles;
    /// `meanwhile` uses no scores of these queries.
    #[inline(always)]
    pub(super) unsafe fn score<S: Narrow>(&self, unit: Unit, meanwhile: &mut impl Meanwhile) {
        let (deep, Unit { first, rows, .. }) = (self.deep(), unit);
        let (padded, strip) = (deep * DEPTH, deep * TILE);
        let keys = &self.head.keys.values()[unit.start / COLUMNS * strip..];
        let at = |tile: usize| self.queries.wrapping_add((first + tile * ROWS) * padded);
        let operand = Operand { at: [at(0), at(1)], pitch: padded, taps: &[0], blocks: deep };
        let size = [rows.div_ceil(ROWS), 2];
        for block in 0..unit.blocks {
            let strips = [0, 1].map(|half| keys[(2 * block + half) * strip..].as_ptr());
            let at = self.scores.wrapping_add(first * KEYS + block * DEPTH);
            let sums = Sums { from: std::ptr::null(), at, pitch: KEYS };
            // SAFETY: the caller's promise.
            unsafe { multiply::<S>(self.level, size, &[operand], strips, sums, meanwhile) };
        }
    }

    /// Adds the values of a unit by its weights.
    ///
    /// # Safety
    /// As for [`Work::score`], of weights and what they mixed.
    #[inline(always)]
    pub(super) unsafe fn mix<S: Narrow>(&self, unit: Unit, meanwhile: &mut impl Meanwhile) {
        let Unit { start, blocks, first, rows } = unit;
        let (padded, long) = (self.deep() * DEPTH, self.head.tokens.div_ceil(DEPTH));
        let at = |tile: usize| self.weights.wrapping_add((first + tile * ROWS) * KEYS).cast_const();
        let operand = Operand { at: [at(0), at(1)], pitch: KEYS, taps: &[0], blocks };
        let strips = self.head.width.div_ceil(COLUMNS);
        let values = self.head.values.values();
        for column in (0..strips).step_by(2) {
            let wide = 2.min(strips - column);
            let strip = |column: usize| values[(column * long + start / DEPTH) * TILE..].as_ptr();
            let at = self.mixed.wrapping_add(first * padded + column * COLUMNS);
            let sums = Sums { from: at, at, pitch: padded };
            let (strips, size) =
                ([strip(column), strip(column + wide - 1)], [rows.div_ceil(ROWS), wide]);
            // SAFETY: the caller's promise; the values have as many blocks of tokens from `start` on.
            unsafe { multiply::<S>(self.level, size, &[operand], strips, sums, meanwhile) };
        }
    }
}
