//! In: a square of sums, and what is read and written next. Out: the square finished and the caches asked, a part at a
//! time, while the processor computes the next square.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved.
#![allow(unsafe_code, reason = "sums of a square, places that caches are asked for")]

use super::finish::Finish;
use super::packed::Packed;
use super::tile::{Meanwhile, PITCH, ROWS};
use super::vector::Narrow;
use half::bf16;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Memory that the second level cache is asked for before it is wanted: the cache has room for it beside what is in use,
/// and memory is idle while products are computed.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Two runs, side by side or not.
    at: [*const bf16; 2],
    /// In each of both: all that are left, and those that are asked for at a time.
    lines: usize,
    step: usize,
}

impl Default for Ahead {
    /// Nothing.
    fn default() -> Self {
        Ahead { at: [std::ptr::null(); 2], lines: 0, step: 0 }
    }
}

impl Ahead {
    /// So many bytes at each of both places, in so many parts.
    pub(super) fn new(at: [*const bf16; 2], bytes: usize, parts: usize) -> Self {
        let lines = bytes / LINE;
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

/// What is done while a square is computed.
pub(super) struct Meantime<'a, F> {
    finish: &'a F,
    weight: &'a Packed,
    /// Of the square before it: the rows that are left, its outputs, and the first row's sums.
    places: &'a [u32],
    columns: [usize; 2],
    count: usize,
    sums: *const f32,
    /// Of the square itself: rows whose results aren't asked for yet, and its outputs.
    coming: &'a [u32],
    coming_columns: [usize; 2],
    /// Weights and rows that come next.
    pub(super) weights: Ahead,
    pub(super) rows: Ahead,
}

impl<'a, F> Meantime<'a, F> {
    /// Nothing.
    pub(super) fn new(finish: &'a F, weight: &'a Packed) -> Self {
        Meantime {
            finish,
            weight,
            places: &[],
            columns: [0; 2],
            count: 0,
            sums: std::ptr::null(),
            coming: &[],
            coming_columns: [0; 2],
            weights: Ahead::default(),
            rows: Ahead::default(),
        }
    }

    /// Results at `places` will be those of the square that is computed now.
    pub(super) fn coming(&mut self, places: &'a [u32], columns: [usize; 2]) {
        (self.coming, self.coming_columns) = (places, columns);
    }

    /// The square that is finished next: rows at `places`, `count` tiles of outputs.
    pub(super) fn finish_next(
        &mut self,
        places: &'a [u32],
        columns: [usize; 2],
        count: usize,
        sums: *const f32,
    ) {
        (self.places, self.columns, self.count, self.sums) = (places, columns, count, sums);
    }
}

impl<F: Finish> Meanwhile for Meantime<'_, F> {
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self, parts: usize) {
        let rows = (2 * ROWS).div_ceil(parts);
        let (asked, coming) = self.coming.split_at(rows.min(self.coming.len()));
        let (now, rest) = self.places.split_at(rows.min(self.places.len()));
        // SAFETY: the processor has the instructions; the square has these rows; each task finishes rows and columns of
        // its own.
        unsafe {
            self.weights.part::<S>();
            self.rows.part::<S>();
            self.finish.ask::<S>(asked, self.coming_columns, self.weight);
            self.finish.finish::<S>(now, self.columns, self.count, self.weight, self.sums);
        }
        (self.coming, self.places) = (coming, rest);
        self.sums = self.sums.wrapping_add(now.len() * PITCH);
    }
}
