//! In: pictures with a line and a column of zeros around them. Out: their convolution by a kernel of 3x3 with 16
//! multiplications for four pixels in place of 36 (`cpu/patch.rs`): each 4x4 patch is transformed, 16
//! products over the channels follow, and what they come to is transformed back while it is in the cache.
//!
//! Patches and weights are rounded after they were transformed, which is worth it where products are what takes the time:
//! not where the processor multiplies matrices.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels over raw rows, results shared among threads")]

use super::finish::Finish;
use super::packed::{COLUMNS, DEPTH, Packed};
use super::padded::Padded;
use super::product::share;
use super::source::{Frame, NOWHERE};
use super::tensor::{Brain, Layout};
use super::tile::{Operand, PITCH, ROWS, Square, multiply};
use super::vector::{Kernel, Narrow, run};
use crate::backend::ConvSpec;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::patch;
use std::ops::Range;
use std::sync::Arc;

/// Patches that are multiplied at a time.
const PATCHES: usize = 2 * ROWS;
/// Bytes of the patches of a task, which the second level cache holds beside the weights of two strips.
const TASK: usize = 1 << 20;
/// Larger matrices take more memory than they save time.
const MOST: usize = 1920 * 640;

/// Whether a convolution is done this way.
pub(super) fn suits(
    level: Level,
    kernel: [usize; 2],
    spec: ConvSpec,
    [channels, outputs]: [usize; 2],
) -> bool {
    let same = kernel == [3, 3] && spec == ConvSpec::same(1);
    // A task's patches are no more than what a thread is said to take.
    let many = (DEPTH..=2048).contains(&channels) && outputs >= 2 * COLUMNS;
    same && many && channels * outputs <= MOST && level != Level::Amx
}

/// The transformed weights: G g G^T for each channel and output, one matrix for each of 16 places.
pub(super) struct Transformed(Packed);

impl Transformed {
    /// `values` are the weights as files have them, (outputs, channels, 3, 3).
    pub(super) fn new(
        pool: &Arc<Pool>,
        [channels, outputs]: [usize; 2],
        bias: Option<&[f32]>,
        values: &[f32],
    ) -> Self {
        let places = |channel: usize, output: usize| {
            let mut g = [0.0; 9];
            let values = &values[(output * channels + channel) * 9..][..9];
            g.iter_mut().zip(values).for_each(|(g, &value)| *g = f64::from(value));
            patch::kernel(g).map(|value| value as f32)
        };
        Transformed(Packed::apart(pool, [channels, outputs], bias, places))
    }

    /// The matrices, each of which is a tap's, with the outputs and the bias of all.
    pub(super) fn packed(&self) -> &Packed {
        &self.0
    }
}

/// Pictures whose first line and column are zeros, and where their results stand.
#[derive(Clone, Copy)]
pub(super) struct Pictures<'a> {
    pub(super) padded: &'a Padded,
    /// Samples, height and width of the results.
    pub(super) grid: [usize; 3],
    pub(super) frame: Frame,
}

impl Pictures<'_> {
    fn patches(&self) -> usize {
        let [samples, h, w] = self.grid;
        samples * h.div_ceil(2) * w.div_ceil(2)
    }

    /// Sample, line and column of the first of a patch's results.
    #[inline(always)]
    fn corner(&self, patch: usize) -> [usize; 3] {
        let [_, h, w] = self.grid;
        let (down, across) = (h.div_ceil(2), w.div_ceil(2));
        let (line, column) = (patch / across, patch % across);
        [line / down, line % down * 2, column * 2]
    }

    /// How many patches a task has.
    fn step(&self) -> usize {
        let patch = 16 * self.padded.layout.pixel * size_of::<half::bf16>();
        (TASK / patch / PATCHES).clamp(1, 3) * PATCHES
    }
}

/// Some patches.
struct Task<'a, F> {
    level: Level,
    pictures: Pictures<'a>,
    weights: &'a Packed,
    finish: &'a F,
    range: Range<usize>,
    /// 16 times the patches, rounded up to PATCHES, times the values of a pixel.
    patches: &'a mut Brain,
}

impl<F: Finish> Task<'_, F> {
    /// B^T d B for every patch and channel.
    ///
    /// # Safety
    /// As this module says.
    #[inline(always)]
    unsafe fn transform<S: Narrow>(&mut self) {
        let Pictures { padded, .. } = self.pictures;
        let Layout { sample, line, pixel, .. } = padded.layout;
        let [lines, columns] = padded.size();
        let (values, channels) = (padded.values(), padded.channels());
        let count = self.range.len().next_multiple_of(PATCHES);
        let patches = self.patches.values_mut().as_mut_ptr();
        for (index, patch) in self.range.clone().enumerate() {
            let [picture, y, x] = self.pictures.corner(patch);
            for start in (0..channels).step_by(S::LANES) {
                // SAFETY: pixels within the pictures have `channels` values; patches have room for as many.
                unsafe {
                    let zero = S::splat(0.0);
                    let mut d = [zero; 16];
                    for (place, d) in d.iter_mut().enumerate() {
                        let (y, x) = (y + place / 4, x + place % 4);
                        // Beyond the zeros there is nothing; it only counts for results that nobody wants.
                        if y < lines && x < columns {
                            let at = picture * sample + y * line + x * pixel + start;
                            *d = S::widen(values.as_ptr().add(at));
                        }
                    }
                    for (place, value) in patch::patch(d).into_iter().enumerate() {
                        value.narrow(patches.add((place * count + index) * pixel + start));
                    }
                }
            }
        }
    }

    /// A^T m A of so many rows and vectors of the 16 products, into a square for each of four pixels.
    ///
    /// # Safety
    /// As this module says.
    #[inline(always)]
    unsafe fn back<S: Narrow>(
        products: &[Square],
        pixels: &mut [Square],
        rows: usize,
        width: usize,
    ) {
        for row in 0..rows {
            for start in (0..width).step_by(S::LANES) {
                let at = row * PITCH + start;
                // SAFETY: squares have PITCH values in each row.
                unsafe {
                    let mut m = [S::splat(0.0); 16];
                    for (product, m) in products.iter().zip(&mut m) {
                        *m = S::load(product.0.as_ptr().add(at));
                    }
                    for (pixel, value) in pixels.iter_mut().zip(patch::results(m)) {
                        value.store(pixel.0.as_mut_ptr().add(at));
                    }
                }
            }
        }
    }
}

impl<F: Finish> Kernel for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(mut self) {
        // SAFETY: the caller's promise.
        unsafe { self.transform::<S>() };
        let Task { level, pictures, weights, finish, range, patches } = self;
        let (pixel, blocks) = (pictures.padded.layout.pixel, pictures.padded.blocks());
        let count = range.len().next_multiple_of(PATCHES);
        let Frame { first: [sample0, y0, x0], size: [height, width] } = pictures.frame;
        let [_, h, w] = pictures.grid;
        let (mut products, mut pixels) = (Vec::new(), Vec::new());
        products.resize_with(16, Square::new);
        pixels.resize_with(4, Square::new);
        let columns = weights.columns();
        for column in (0..columns).step_by(2) {
            let wide = 2.min(columns - column);
            for group in (0..range.len()).step_by(PATCHES) {
                let rows = PATCHES.min(range.len() - group);
                for (place, product) in products.iter_mut().enumerate() {
                    let patches = patches.values()[(place * count + group) * pixel..].as_ptr();
                    let at = [patches, patches.wrapping_add(ROWS * pixel)];
                    let operand = Operand { at, pitch: pixel, taps: &[0], blocks };
                    let strips =
                        [column, column + wide - 1].map(|c| weights.strip_apart(c, place).as_ptr());
                    let size = [rows.div_ceil(ROWS), wide];
                    // SAFETY: patches are whole tiles of rows, strips have as many blocks; the square is as large.
                    unsafe {
                        multiply::<S>(level, size, &[operand], strips, product.sums(), &mut ());
                    }
                }
                // SAFETY: the caller's promise.
                unsafe { Self::back::<S>(&products, &mut pixels, rows, wide * COLUMNS) };
                for (which, sums) in pixels.iter().enumerate() {
                    let mut places = [NOWHERE; PATCHES];
                    for (row, place) in places.iter_mut().enumerate().take(rows) {
                        let [sample, y, x] = pictures.corner(range.start + group + row);
                        let (y, x) = (y + which / 2, x + which % 2);
                        if y < h && x < w {
                            let line = (sample0 + sample) * height + y0 + y;
                            *place = (line * width + x0 + x) as u32;
                        }
                    }
                    let sums = sums.0.as_ptr();
                    // SAFETY: the caller's promise: these patches' results are this task's.
                    unsafe {
                        finish.finish::<S>(&places, [column, column + 1], wide, weights, sums);
                    }
                }
            }
        }
    }
}

/// Convolves `pictures`, whose results `finish` writes, on all threads, or, not `shared`, on this one.
///
/// # Safety
/// `finish` may be called once for every result and output.
pub(super) unsafe fn convolve(
    level: Level,
    pool: &Arc<Pool>,
    pictures: Pictures<'_>,
    weights: &Transformed,
    finish: &impl Finish,
    shared: bool,
) {
    let (all, mut step) = (pictures.patches(), pictures.step());
    while step > PATCHES && all.div_ceil(step) < 3 * rayon::current_num_threads() {
        step -= PATCHES;
    }
    share(all.div_ceil(step), shared, |index| {
        let range = index * step..((index + 1) * step).min(all);
        let count = range.len().next_multiple_of(PATCHES);
        let patches = &mut Brain::take(pool, 16 * count * pictures.padded.layout.pixel);
        let task = Task { level, pictures, weights: &weights.0, finish, range, patches };
        // SAFETY: each task has results of its own; the caller's promise for `finish`.
        unsafe { run(level, task) }
    });
}
