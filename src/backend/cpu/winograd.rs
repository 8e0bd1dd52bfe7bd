//! In: a picture and a convolution of 3x3 with stride 1. Out: the same result with 16 multiplications for
//! four pixels in place of 36 (`patch.rs`). Each 4x4 patch is transformed, 16 products over the channels follow, and
//! each result is transformed back while it is in the cache.
//!
//! Larger tiles would save more and cost too many digits: F(4x4, 3x3) is 3.5e-6 off in f32.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::finish::{Added, load_some, store_some};
use super::level::Level;
use super::memory::{Pool, Shared};
use super::patch;
use super::product::{Run, any_tile};
use super::simd::{Kernel, Simd};
use super::weight::{Packed, Segment, blocks};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Outputs of one round of products.
const COLUMNS: usize = 64;
/// Bytes of the transformed patches and the products of one task, which the second level cache holds: processors
/// with AVX-512 have 1 MB and more of it, others often half a one.
const TASK: [usize; 2] = [400 << 10, 768 << 10];

/// The transformed weights: G g G^T for each input and output, one matrix for each of 16 places.
pub(super) struct Transformed {
    weights: [Packed; 16],
}

impl Transformed {
    /// `at(tap, input, output)` is the weight of the 3x3 kernel.
    pub(super) fn new(
        level: Level,
        pool: &Arc<Pool>,
        shape: [usize; 2],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let places = |input: usize, output: usize| {
            let mut g = [0.0; 9];
            g.iter_mut().enumerate().for_each(|(tap, g)| *g = f64::from(at(tap, input, output)));
            patch::kernel(g).map(|value| value as f32)
        };
        Transformed { weights: Packed::several(level, pool, shape, bias, places) }
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.weights.iter().map(|weight| weight.bytes()).sum()
    }
}

/// A picture of `size` pixels and `channels` channels, some samples of it.
#[derive(Clone, Copy)]
pub(super) struct Picture<'a> {
    pub(super) values: &'a [f32],
    pub(super) size: [usize; 2],
    pub(super) channels: usize,
}

/// Some tiles of 2x2 results.
struct Task<'a> {
    picture: Picture<'a>,
    weights: &'a [Packed],
    blocks: &'a [(usize, Vec<Segment>)],
    tiles: Range<usize>,
    /// 16 x tiles x channels
    patches: &'a mut [f32],
    /// 16 x tiles x COLUMNS
    products: &'a mut [f32],
    add: Added<'a>,
    out: Shared,
}

impl Task<'_> {
    /// First pixel of the sample of `tile`, and the tile's line and column, in pixels.
    #[inline(always)]
    fn corner(&self, tile: usize) -> [usize; 3] {
        let [h, w] = self.picture.size;
        let (down, across) = (h.div_ceil(2), w.div_ceil(2));
        let (line, column) = (tile / across, tile % across);
        [line / down * h * w, line % down * 2, column * 2]
    }

    /// B^T d B for every tile and channel.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&mut self) {
        let Picture { values, size: [h, w], channels } = self.picture;
        let count = self.tiles.len();
        for (index, tile) in self.tiles.clone().enumerate() {
            let [sample, line, column] = self.corner(tile);
            // Pixels under the tile, or none beyond the edge.
            let mut pixels = [std::ptr::null::<f32>(); 16];
            for (place, pixel) in pixels.iter_mut().enumerate() {
                let y = (line + place / 4).wrapping_sub(1);
                let x = (column + place % 4).wrapping_sub(1);
                if y < h && x < w {
                    *pixel = values[(sample + y * w + x) * channels..].as_ptr();
                }
            }
            for start in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - start);
                // SAFETY: `lanes` channels from `start` on lie in every pixel, and in every place of every
                // tile's patch.
                unsafe {
                    let zero = S::splat(0.0);
                    let mut d = [zero; 16];
                    for (d, pixel) in d.iter_mut().zip(pixels) {
                        if !pixel.is_null() {
                            *d = load_some(pixel.add(start), lanes);
                        }
                    }
                    let patches = self.patches.as_mut_ptr().add(index * channels + start);
                    for (place, value) in patch::patch(d).into_iter().enumerate() {
                        store_some(value, patches.add(place * count * channels), lanes);
                    }
                }
            }
        }
    }

    /// The products of all 16 places for `panels`, side by side.
    ///
    /// # Safety
    /// As for `transform`.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&mut self, panels: Range<usize>) {
        let (count, channels) = (self.tiles.len(), self.picture.channels);
        for (place, weight) in self.weights.iter().enumerate() {
            let patches = self.patches[place * count * channels..].as_ptr();
            let products = self.products[place * count * COLUMNS..].as_mut_ptr();
            for (index, (first, segments)) in self.blocks.iter().enumerate() {
                let length = segments.iter().map(|segment| segment.length).sum();
                let mut column = 0;
                for panel in panels.clone() {
                    let width = weight.panel_width(panel);
                    let panel = weight.panel(panel, *first).as_ptr();
                    for row in (0..count).step_by(S::ROWS) {
                        let rows = S::ROWS.min(count - row);
                        let at = |i: usize| {
                            patches.wrapping_add((row + i.min(rows - 1)) * channels + first)
                        };
                        let run = [Run { at: std::array::from_fn(at), length }];
                        // SAFETY: each row of patches holds the block's channels, the panel their
                        // weights; the panels are at most COLUMNS wide together.
                        unsafe {
                            let c = products.add(row * COLUMNS + column);
                            let size = [rows, width / S::LANES];
                            any_tile::<S>(size, &run, panel, c, COLUMNS, index > 0);
                        }
                    }
                    column += width;
                }
            }
        }
    }

    /// A^T m A, bias and what is added, for the outputs from `first` on.
    ///
    /// # Safety
    /// As for `transform`.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, first: usize, width: usize) {
        let [h, w] = self.picture.size;
        let (count, outputs) = (self.tiles.len(), self.weights[0].outputs);
        let bias = self.weights[0].bias[first..].as_ptr();
        for (index, tile) in self.tiles.clone().enumerate() {
            let [sample, line, column] = self.corner(tile);
            for start in (0..width).step_by(S::LANES) {
                let lanes = S::LANES.min(width - start);
                // SAFETY: products and bias are padded to whole vectors; results are written by `lanes`,
                // within pixels that this task has alone.
                unsafe {
                    let products = self.products.as_ptr().add(index * COLUMNS + start);
                    let pitch = count * COLUMNS;
                    let bias = S::load(bias.add(start));
                    let mut m = [S::splat(0.0); 16];
                    for (place, m) in m.iter_mut().enumerate() {
                        *m = S::load(products.add(place * pitch));
                    }
                    for (which, value) in patch::results(m).into_iter().enumerate() {
                        let (y, x) = (line + which / 2, column + which % 2);
                        if y >= h || x >= w {
                            continue;
                        }
                        let place = (sample + y * w + x) * outputs + first + start;
                        let value = value.add(bias);
                        let value = match self.add {
                            Added::Nothing => value,
                            Added::Residual(x) => {
                                value.add(load_some(x[place..][..lanes].as_ptr(), lanes))
                            }
                            Added::Channels(x) => {
                                let x = x[first + start..][..lanes].as_ptr();
                                value.add(load_some(x, lanes))
                            }
                        };
                        store_some(value, self.out.part(place, lanes).as_mut_ptr(), lanes);
                    }
                }
            }
        }
    }
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let weight = &self.weights[0];
        let (panels, width) = (weight.panels(), weight.width);
        let step = (COLUMNS / width).max(1);
        let outputs = weight.outputs;
        // SAFETY: by the caller's promise.
        unsafe {
            self.transform::<S>();
            for first in (0..panels).step_by(step) {
                let range = first..(first + step).min(panels);
                let columns = range.start * width..(range.end * width).min(outputs);
                self.multiply::<S>(range);
                self.finish::<S>(columns.start, columns.len());
            }
        }
    }
}

/// conv(picture) + add, into `out`, which has a value for each pixel and output.
pub(super) fn convolve(
    level: Level,
    pool: &Arc<Pool>,
    picture: Picture<'_>,
    transformed: &Transformed,
    add: Added<'_>,
    out: &mut [f32],
) {
    let Picture { values, size: [h, w], channels } = picture;
    let samples = values.len() / (h * w * channels).max(1);
    let tiles = samples * h.div_ceil(2) * w.div_ceil(2);
    let blocks = blocks(&[channels]);
    let width = COLUMNS.min(transformed.weights[0].bias.len());
    let tile = 16 * (channels + width) * size_of::<f32>();
    let task = TASK[usize::from(level >= Level::Avx512)];
    let mut height = (task / tile).clamp(24, 96) / 12 * 12;
    let threads = rayon::current_num_threads();
    while height > 12 && tiles.div_ceil(height) < 3 * threads {
        height = (height / 2).next_multiple_of(6);
    }
    let out = Shared::new(out);
    let task = |index: usize| {
        let tiles = index * height..((index + 1) * height).min(tiles);
        let mut patches = pool.take(16 * tiles.len() * channels);
        let mut products = pool.take(16 * tiles.len() * COLUMNS);
        let task = Task {
            picture,
            weights: &transformed.weights,
            blocks: &blocks,
            tiles,
            patches: patches.values_mut(),
            products: products.values_mut(),
            add,
            out,
        };
        // SAFETY: each task writes its own tiles.
        unsafe { level.run(task) }
    };
    (0..tiles.div_ceil(height)).into_par_iter().with_max_len(1).for_each(task);
}
