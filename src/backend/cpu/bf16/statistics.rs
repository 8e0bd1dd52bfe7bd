//! In: activations. Out: [`Factors`], what each channel of a sample is multiplied with and what is added then, so that
//! groups of channels have a mean of 0 and a deviation of 1 over all pixels, times scale, plus shift.
//!
//! Sums are of pairs of channels, or of single ones where groups have an odd number of them, in f32 over a few pixels and
//! from there on in f64, always the same values together, so that threads and batch don't show.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, sums shared among threads")]

use super::product::share;
use super::tensor::Tensor;
use super::vector::{Kernel, Narrow, run};
use crate::backend::Sources;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::norm::Norm;
use half::bf16;
use std::ops::Range;

/// Pixels whose sums one task takes.
const CHUNK: usize = 256;
/// Pixels whose sums are taken in f32.
const SHORT: usize = 64;
/// Fewer values than this are not worth another thread.
pub(super) const SHARE: usize = 1 << 15;

/// For each sample and channel.
pub(super) struct Factors {
    scale: Vec<f32>,
    shift: Vec<f32>,
    channels: usize,
}

impl Factors {
    /// Those of a norm of `groups` groups.
    pub(super) fn new(
        level: Level,
        x: Sources<'_, Tensor>,
        groups: usize,
        epsilon: f64,
        norm: &Norm,
    ) -> Self {
        let [n, h, w, _] = x.first.shape;
        let sources = [Some(x.first), x.second];
        let sources: Vec<&Tensor> = sources.into_iter().flatten().collect();
        let channels = norm.scale.len();
        let (width, worth) = (channels / groups, n * h * w * channels >= SHARE);
        let chunks = (h * w).div_ceil(CHUNK);
        // Of each chunk of each sample, the sums of all pairs of channels of all sources, or of all channels.
        let even =
            width.is_multiple_of(2) && sources.iter().all(|s| s.channels().is_multiple_of(2));
        let each = if even { 2 } else { 1 };
        let length = 2 * channels / each;
        let mut sums = vec![0f64; n * chunks * length];
        let shared = Shared64(sums.as_mut_ptr());
        share(n * chunks, worth, |index| {
            let (sample, chunk) = (index / chunks, index % chunks);
            let mut first = 0;
            for source in &sources {
                let own = source.channels();
                let values = &source.values()[sample * h * w * own..(sample + 1) * h * w * own];
                let pixels = values.chunks(CHUNK * own).nth(chunk).unwrap_or_default();
                let count = 2 * own / each;
                // SAFETY: each task has sums of its own.
                let sums = unsafe { shared.part(index * length + first, count) };
                // SAFETY: the slices are what the kernel's text asks for.
                unsafe { run(level, Sums { pixels, channels: own, pairs: even, sums }) };
                first += count;
            }
        });
        let (mut scale, mut shift) = (vec![0f32; n * channels], vec![0f32; n * channels]);
        for sample in 0..n {
            let mut totals = vec![[0f64; 2]; groups];
            let mut first = 0;
            for source in &sources {
                let own = source.channels();
                for chunk in 0..chunks {
                    let start = (sample * chunks + chunk) * length + 2 * first / each;
                    let (values, squares) = sums[start..][..2 * own / each].split_at(own / each);
                    for (place, (sum, square)) in values.iter().zip(squares).enumerate() {
                        let total = &mut totals[(first + each * place) / width];
                        total[0] += sum;
                        total[1] += square;
                    }
                }
                first += own;
            }
            let count = (h * w * width) as f64;
            for channel in 0..channels {
                let [sum, square] = totals[channel / width];
                let mean = sum / count;
                let variance = (square / count - mean * mean).max(0.0);
                let factor = f64::from(norm.scale[channel]) / (variance + epsilon).sqrt();
                scale[sample * channels + channel] = factor as f32;
                let offset = f64::from(norm.shift[channel]) - mean * factor;
                shift[sample * channels + channel] = offset as f32;
            }
        }
        Factors { scale, shift, channels }
    }

    /// Factor and summand of some channels of a sample.
    pub(super) fn of(&self, sample: usize, channels: Range<usize>) -> [&[f32]; 2] {
        let first = sample * self.channels;
        let range = first + channels.start..first + channels.end;
        [&self.scale[range.clone()], &self.shift[range]]
    }
}

/// Adds, for each pair of channels or for each channel, the values and the squares of some pixels.
struct Sums<'a> {
    pixels: &'a [bf16],
    channels: usize,
    /// Whether channels go by pairs, of which there are whole ones then.
    pairs: bool,
    /// The values' sums of all, then the squares'.
    sums: &'a mut [f64],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        // SAFETY: the caller's promise.
        unsafe { if self.pairs { self.all::<S, true>() } else { self.all::<S, false>() } }
    }
}

impl Sums<'_> {
    /// # Safety
    /// As for `run`.
    #[inline(always)]
    unsafe fn all<S: Narrow, const PAIRS: bool>(self) {
        let Sums { pixels, channels, sums, .. } = self;
        let each = if PAIRS { 2 } else { 1 };
        let count = channels / each;
        let (sums, squares) = sums.split_at_mut(count);
        let mut start = 0;
        while start < count {
            let left = count - start;
            let (sums, squares) = (&mut sums[start..], &mut squares[start..]);
            // SAFETY: whole vectors lie within each pixel.
            unsafe {
                if left >= 4 * S::LANES {
                    columns::<S, 4, PAIRS>(pixels, channels, each * start, sums, squares);
                    start += 4 * S::LANES;
                } else if left >= S::LANES {
                    columns::<S, 1, PAIRS>(pixels, channels, each * start, sums, squares);
                    start += S::LANES;
                } else {
                    for (place, (sum, square)) in sums.iter_mut().zip(squares).enumerate() {
                        for pixel in pixels.chunks_exact(channels) {
                            for value in &pixel[each * (start + place)..][..each] {
                                let value = value.to_f64();
                                *sum += value;
                                *square += value * value;
                            }
                        }
                    }
                    start = count;
                }
            }
        }
    }
}

/// NV vectors, of pairs of channels or of single ones, from channel `first` on.
///
/// # Safety
/// Each pixel has as many channels; the processor has the instructions of `S`.
#[inline(always)]
unsafe fn columns<S: Narrow, const NV: usize, const PAIRS: bool>(
    pixels: &[bf16],
    channels: usize,
    first: usize,
    sums: &mut [f64],
    squares: &mut [f64],
) {
    let ones = [bf16::ONE; 2];
    // SAFETY: the caller's promise; arrays hold the longest vector.
    unsafe {
        let ones = S::same_pair(ones.as_ptr());
        for pixels in pixels.chunks(SHORT * channels) {
            let mut short = [[S::splat(0.0); 2]; NV];
            for pixel in pixels.chunks_exact(channels) {
                let at = pixel.as_ptr().add(first);
                for (vector, [sum, square]) in short.iter_mut().enumerate() {
                    if PAIRS {
                        let pairs = S::pairs(at.add(vector * 2 * S::LANES));
                        *sum = sum.dot(pairs, ones);
                        *square = square.dot(pairs, pairs);
                    } else {
                        let value = S::widen(at.add(vector * S::LANES));
                        *sum = sum.add(value);
                        *square = value.mul_add(value, *square);
                    }
                }
            }
            for (vector, [sum, square]) in short.into_iter().enumerate() {
                for (short, totals) in [(sum, &mut *sums), (square, &mut *squares)] {
                    let mut lanes = [0f32; 16];
                    short.store(lanes.as_mut_ptr());
                    let totals = &mut totals[vector * S::LANES..][..S::LANES];
                    totals.iter_mut().zip(lanes).for_each(|(t, lane)| *t += f64::from(lane));
                }
            }
        }
    }
}

/// Sums that many threads write, each its own.
#[derive(Clone, Copy)]
struct Shared64(*mut f64);

// SAFETY: whoever writes promises that no two threads write or read the same value.
unsafe impl Send for Shared64 {}
// SAFETY: as above.
unsafe impl Sync for Shared64 {}

impl Shared64 {
    /// # Safety
    /// The sums are still borrowed, hold these, and no other thread uses them.
    unsafe fn part<'a>(self, start: usize, count: usize) -> &'a mut [f64] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }
}
