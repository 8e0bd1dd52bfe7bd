//! In: 32 queries, a head of 64 values or a little less, whose tokens are whole blocks of 64. Out: their attention by
//! the processor's own products of matrices: all self-attention of Stable Diffusion 2.0 at 512x512.
//!
//! Queries, and weights later, stay in four registers while keys and values pass by. A register's sums are stored
//! between the next one's products, for a product waits for stores that stand together, but not for one; and the rows
//! of the block before become weights meanwhile, for what neither loads nor stores tiles costs nothing there.
//! (`cargo bench --bench kernels -- amx attention`.)
//!
//! # Safety
//! All unsafe functions here want a processor of [`Level::Amx`](crate::backend::cpu::Level), a thread that has
//! configured its tiles, and operands as their own text says.
#![allow(unsafe_code, reason = "instructions as text, raw rows")]

use super::amx::Configured;
use super::head::{Head, Part};
use super::packed::{COLUMNS, DEPTH, TILE};
use super::tensor::Brain;
use super::vector::{Kernel, Narrow, narrow_some};
use crate::backend::cpu::finish::load_some;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::{Buffer, Pool};
use half::bf16;
use std::arch::asm;
use std::sync::Arc;

/// Queries of a task.
pub(super) const QUERIES: usize = 32;
/// Keys of a block.
const KEYS: usize = 64;
/// Values of a padded row.
const WIDTH: usize = 2 * DEPTH;
/// Rows of scores that become weights at a time.
const ROWS: usize = 2;
/// From row to row of sums, in bytes.
const PITCH: usize = 4 * KEYS;
/// Rows of queries and of weights are alike, and so are those of scores and of what is mixed.
const _: () = assert!(WIDTH == KEYS && KEYS == 2 * DEPTH && QUERIES == 32 && COLUMNS == 16);
/// What a sum of weights may grow to, as a power of 2, before the reference score moves.
const MOST: f32 = 40.0;

/// Whether attention to `head` can be done here.
pub(super) fn fits(level: Level, head: &Head, causal: bool) -> bool {
    let wide = head.width > DEPTH && head.width <= WIDTH;
    level == Level::Amx && !causal && wide && head.tokens > 0 && head.tokens.is_multiple_of(KEYS)
}

/// Some queries of one head.
pub(super) struct Pair<'a> {
    pub(super) queries: Part<'a>,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) head: &'a Head,
    pub(super) scratch: &'a mut Scratch,
    /// The first query's result, and from row to row.
    pub(super) out: *mut bf16,
    pub(super) pitch: usize,
}

/// What stays in the first level cache.
pub(super) struct Scratch {
    /// QUERIES rows of WIDTH, then twice QUERIES rows of KEYS.
    narrow: Brain,
    /// Twice QUERIES rows of KEYS scores, then QUERIES rows of WIDTH.
    wide: Buffer,
}

impl Scratch {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        let narrow = Brain::take(pool, QUERIES * (WIDTH + 2 * KEYS));
        Scratch { narrow, wide: pool.take(QUERIES * (WIDTH + 2 * KEYS)) }
    }
}

/// Each query's sums of weights, all of which are 2^(scale score + offset).
struct State {
    scale: f32,
    offsets: [f32; QUERIES],
    sums: [[f32; 16]; QUERIES],
    /// A bit for each query whose sum grew too large.
    grown: u32,
}

/// The scores of a block as they become weights.
struct Weigh<'a> {
    state: &'a mut State,
    /// Rows of KEYS.
    scores: *const f32,
    weights: *mut bf16,
    /// Whether it is the first block, whose highest score is each query's reference.
    first: bool,
    done: usize,
}

impl Weigh<'_> {
    /// The next rows, if any are left.
    ///
    /// # Safety
    /// As this module says; nobody else uses these scores and weights.
    #[inline(always)]
    unsafe fn part<S: Narrow>(&mut self) {
        for row in self.done..QUERIES.min(self.done + ROWS) {
            // SAFETY: rows of KEYS, which are whole vectors.
            unsafe {
                if self.first {
                    self.state.offsets[row] = -self.highest::<S>(row) * self.state.scale;
                }
                let sum = self.row::<S>(row);
                if sum.any_above(S::splat(MOST.exp2())) {
                    self.state.grown |= 1 << row;
                } else {
                    sum.store(self.state.sums[row].as_mut_ptr());
                }
            }
        }
        self.done += ROWS;
    }

    /// The highest score of a query.
    ///
    /// # Safety
    /// As for [`Weigh::part`].
    #[inline(always)]
    unsafe fn highest<S: Narrow>(&self, row: usize) -> f32 {
        // SAFETY: whole vectors of a row.
        unsafe {
            let scores = self.scores.add(row * KEYS);
            let mut most = S::load(scores);
            for start in (S::LANES..KEYS).step_by(S::LANES) {
                most = most.max(S::load(scores.add(start)));
            }
            most.highest()
        }
    }

    /// The weights of a query, and its sums with them.
    ///
    /// # Safety
    /// As for [`Weigh::part`].
    #[inline(always)]
    unsafe fn row<S: Narrow>(&mut self, row: usize) -> S {
        // SAFETY: pairs of whole vectors of a row.
        unsafe {
            let (scores, weights) = (self.scores.add(row * KEYS), self.weights.add(row * KEYS));
            let scale = S::splat(self.state.scale);
            let offset = S::splat(self.state.offsets[row]);
            let mut sums = [S::load(self.state.sums[row].as_ptr()), S::splat(0.0)];
            for start in (0..KEYS).step_by(2 * S::LANES) {
                let a = S::load(scores.add(start)).mul_add(scale, offset).exp2();
                let b = S::load(scores.add(start + S::LANES)).mul_add(scale, offset).exp2();
                sums = [sums[0].add(a), sums[1].add(b)];
                a.narrow_both(b, weights.add(start));
            }
            sums[0].add(sums[1])
        }
    }

    /// All rows that are left; and those again whose sums grew too large, smaller, as what they have mixed.
    ///
    /// # Safety
    /// As for [`Weigh::part`]; `mixed` holds QUERIES rows of WIDTH, all blocks before this one in them.
    #[inline(always)]
    unsafe fn finish<S: Narrow>(&mut self, mixed: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            while self.done < QUERIES {
                self.part::<S>();
            }
            while self.state.grown != 0 {
                let row = self.state.grown.trailing_zeros() as usize;
                self.state.grown &= self.state.grown - 1;
                let above =
                    self.highest::<S>(row).mul_add(self.state.scale, self.state.offsets[row]);
                let shift = above.max(MOST);
                self.state.offsets[row] -= shift;
                let shrink = (-shift).exp2();
                self.state.sums[row].iter_mut().for_each(|sum| *sum *= shrink);
                let mixed = std::slice::from_raw_parts_mut(mixed.add(row * WIDTH), WIDTH);
                mixed.iter_mut().for_each(|value| *value *= shrink);
                self.row::<S>(row).store(self.state.sums[row].as_mut_ptr());
            }
        }
    }
}

/// The products of 32 rows `a` of 64 values, and of `groups` times two tiles, `apart` values from group to group of them,
/// into sums of 16 columns each, added to what is there or in its place; some of `weigh` meanwhile.
///
/// # Safety
/// As this module says; `a` is valid for its rows, which lie one behind the other, `b` for its tiles, `sums` for 32 rows of
/// KEYS.
#[inline(always)]
unsafe fn products<S: Narrow, const ADD: bool>(
    a: *const bf16,
    mut b: *const bf16,
    (groups, apart): (usize, usize),
    mut sums: *mut f32,
    weigh: &mut Weigh<'_>,
) {
    /// From a tile's sums to those below.
    const BELOW: usize = 16 * PITCH;
    // SAFETY: by the caller's promise: loads stay within rows, tiles and sums, stores within the sums.
    unsafe {
        asm!(
            "tileloadd tmm4, [{a} + {pitch}]",
            "tileloadd tmm5, [{a} + {pitch} + 64]",
            "tileloadd tmm6, [{a} + {pitch} + 2048]",
            "tileloadd tmm7, [{a} + {pitch} + 2112]",
            a = in(reg) a,
            pitch = in(reg) 2 * WIDTH,
            options(nostack, readonly),
        );
        for group in 0..groups {
            asm!(
                "tileloadd tmm2, [{b} + {line}]",
                "tileloadd tmm3, [{b} + {line} + 1024]",
                b = in(reg) b,
                line = in(reg) 64usize,
                options(nostack, readonly),
            );
            if group > 0 {
                store_upper(sums.sub(COLUMNS));
            }
            if ADD {
                asm!("tileloadd tmm0, [{c} + {pitch}]", c = in(reg) sums, pitch = in(reg) PITCH, options(nostack, readonly));
            } else {
                asm!("tilezero tmm0", options(nostack, nomem));
            }
            asm!("tdpbf16ps tmm0, tmm4, tmm2", options(nostack, nomem));
            weigh.part::<S>();
            if group > 0 {
                store_lower(sums.sub(COLUMNS).byte_add(BELOW));
            }
            if ADD {
                let below = sums.byte_add(BELOW);
                asm!("tileloadd tmm1, [{c} + {pitch}]", c = in(reg) below, pitch = in(reg) PITCH, options(nostack, readonly));
            } else {
                asm!("tilezero tmm1", options(nostack, nomem));
            }
            asm!(
                "tdpbf16ps tmm1, tmm6, tmm2",
                "tdpbf16ps tmm0, tmm5, tmm3",
                options(nostack, nomem)
            );
            weigh.part::<S>();
            asm!("tdpbf16ps tmm1, tmm7, tmm3", options(nostack, nomem));
            b = b.wrapping_add(apart);
            sums = sums.wrapping_add(COLUMNS);
        }
        weigh.part::<S>();
        store_upper(sums.sub(COLUMNS));
        weigh.part::<S>();
        store_lower(sums.sub(COLUMNS).byte_add(BELOW));
    }
}

/// Stores the sums of 16 rows.
///
/// # Safety
/// As this module says; `at` is valid for 16 rows of 16, PITCH bytes apart.
#[inline(always)]
unsafe fn store_upper(at: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{c} + {pitch}], tmm0", c = in(reg) at, pitch = in(reg) PITCH, options(nostack));
    }
}

/// Stores the sums of the next 16 rows.
///
/// # Safety
/// As for [`store_upper`].
#[inline(always)]
unsafe fn store_lower(at: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("tilestored [{c} + {pitch}], tmm1", c = in(reg) at, pitch = in(reg) PITCH, options(nostack));
    }
}

impl Kernel for Pair<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let Pair { queries, first, count, head, scratch, out, pitch } = self;
        // SAFETY: the level has proved the instructions.
        let _configured = unsafe { Configured::new() };
        let (query, weights) = scratch.narrow.values_mut().split_at_mut(QUERIES * WIDTH);
        for (row, query) in query.chunks_exact_mut(WIDTH).enumerate() {
            let (copied, rest) = query.split_at_mut(head.width);
            if row < count {
                copied.copy_from_slice(queries.row(first + row));
            } else {
                copied.fill(bf16::ZERO);
            }
            rest.fill(bf16::ZERO);
        }
        let (scores, mixed) = scratch.wide.values_mut().split_at_mut(2 * QUERIES * KEYS);
        mixed.fill(0.0);
        let mut state = State {
            scale: std::f32::consts::LOG2_E / (head.width as f32).sqrt(),
            offsets: [0.0; QUERIES],
            sums: [[0.0; 16]; QUERIES],
            grown: 0,
        };
        let (query, scores) = (query.as_ptr(), scores.as_mut_ptr());
        let (weights, sums) = (weights.as_mut_ptr(), mixed.as_mut_ptr());
        // Two blocks are under way at once.
        let scores_of = |block: usize| scores.wrapping_add(block % 2 * QUERIES * KEYS);
        let weights_of = |block: usize| weights.wrapping_add(block % 2 * QUERIES * KEYS);
        let (keys, values) = (head.keys.values().as_ptr(), head.values.values().as_ptr());
        let (blocks, strips) = (head.tokens / KEYS, head.width.div_ceil(COLUMNS));
        for turn in 0..blocks + 2 {
            // The scores of one block are made, those of the one before become weights, those before are mixed.
            let block = turn.wrapping_sub(1);
            let mut weigh = Weigh {
                state: &mut state,
                scores: scores_of(block).cast_const(),
                weights: weights_of(block),
                first: turn == 1,
                done: if block < blocks { 0 } else { QUERIES },
            };
            // SAFETY: keys and values have tiles for all tokens; no two of the three use the same scores or weights.
            unsafe {
                if turn < blocks {
                    let tiles = keys.add(turn * (KEYS / COLUMNS) * 2 * TILE);
                    let size = (KEYS / COLUMNS, 2 * TILE);
                    products::<S, false>(query, tiles, size, scores_of(turn), &mut weigh);
                }
                if turn >= 2 {
                    let tiles = values.add((turn - 2) * (KEYS / DEPTH) * TILE);
                    let size = (strips, head.tokens / DEPTH * TILE);
                    products::<S, true>(weights_of(turn - 2), tiles, size, sums, &mut weigh);
                }
                weigh.finish::<S>(sums);
            }
        }
        for row in 0..count {
            let mixed = &scratch.wide.values()[2 * QUERIES * KEYS + row * WIDTH..][..head.width];
            let out = out.wrapping_add(row * pitch);
            // SAFETY: vectors within the row; each task writes its own queries' rows and its own head's columns.
            unsafe {
                let factor = S::splat(1.0 / S::load(state.sums[row].as_ptr()).sum());
                for start in (0..head.width).step_by(S::LANES) {
                    let count = S::LANES.min(head.width - start);
                    let value: S = load_some(mixed[start..].as_ptr(), count);
                    narrow_some(value.mul(factor), out.add(start), count);
                }
            }
        }
    }
}
