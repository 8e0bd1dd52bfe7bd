//! In: activations, scale and shift. Out: activation(norm(x)) in bf16, wherever it is wanted: in rows, or within
//! the zeros that a convolution reads around a picture. One read for the statistics, one for the values.
//!
//! Sums are of pairs of channels, in f32 over a few pixels and from there on in f64, always the same values
//! together, so that threads and batch don't show.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::function::{gelu, silu};
use super::product::share;
use super::source::Layout;
use super::tensor::Tensor;
use super::vector::{Kernel, Narrow, narrow_some, run, widen_some};
use crate::backend::cpu::finish::load_some;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::norm::Norm;
use crate::backend::{Activation, NormSpec, Sources};
use half::bf16;

/// Pixels whose sums one task takes.
const CHUNK: usize = 256;
/// Pixels whose sums are taken in f32.
const SHORT: usize = 64;
/// Fewer values than this are not worth another thread.
const SHARE: usize = 1 << 15;

/// Where normalised values go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) values: *mut bf16,
    pub(super) layout: Layout,
    /// Channels to be written, those beyond the last of the sources with zeros.
    pub(super) channels: usize,
}

// SAFETY: whoever writes promises that no two threads write the same value.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Adds, for each pair of channels, the values and the squares of some pixels.
struct Sums<'a> {
    pixels: &'a [bf16],
    channels: usize,
    /// The values' sums of all pairs, then the squares'.
    sums: &'a mut [f64],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let Sums { pixels, channels, sums } = self;
        let pairs = channels / 2;
        let (sums, squares) = sums.split_at_mut(pairs);
        if !channels.is_multiple_of(2) {
            return;
        }
        let mut start = 0;
        while start < pairs {
            let left = pairs - start;
            // SAFETY: whole vectors of pairs lie within each pixel.
            unsafe {
                let (sums, squares) = (&mut sums[start..], &mut squares[start..]);
                if left >= 4 * S::LANES {
                    columns::<S, 4>(pixels, channels, 2 * start, sums, squares);
                    start += 4 * S::LANES;
                } else if left >= S::LANES {
                    columns::<S, 1>(pixels, channels, 2 * start, sums, squares);
                    start += S::LANES;
                } else {
                    let sums = sums.iter_mut().zip(squares).enumerate();
                    for (pair, (sum, square)) in sums {
                        for pixel in pixels.chunks_exact(channels) {
                            for value in &pixel[2 * (start + pair)..][..2] {
                                let value = value.to_f64();
                                *sum += value;
                                *square += value * value;
                            }
                        }
                    }
                    start = pairs;
                }
            }
        }
    }
}

/// NV vectors of pairs from channel `first` on.
///
/// # Safety
/// Each pixel has as many channels; the processor has the instructions of `S`.
#[inline(always)]
unsafe fn columns<S: Narrow, const NV: usize>(
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
                for (vector, [sum, square]) in short.iter_mut().enumerate() {
                    let at = pixel.as_ptr().add(first + vector * 2 * S::LANES);
                    let pairs = S::pairs(at);
                    *sum = sum.dot(pairs, ones);
                    *square = square.dot(pairs, pairs);
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

/// activation(x scale + shift) for some pixels and all channels of a source.
struct Apply<'a> {
    pixels: &'a [bf16],
    channels: usize,
    /// For each channel.
    scale: &'a [f32],
    shift: &'a [f32],
    activation: Activation,
    /// The first pixel's first value; pixels are `pitch` apart.
    out: *mut bf16,
    pitch: usize,
    /// Zeros behind the channels.
    zeros: usize,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        // SAFETY: the caller's promise, and the processor has the instructions.
        unsafe {
            match self.activation {
                Activation::Identity => self.each::<S, 0>(),
                Activation::Silu => self.each::<S, 1>(),
                Activation::Gelu => self.each::<S, 2>(),
            }
        }
    }
}

/// Which function this is, known when code is made: closures would be made without a level's instructions.
#[inline(always)]
unsafe fn activated<S: Narrow, const FUNCTION: u8>(x: S) -> S {
    // SAFETY: the caller has the instructions of S.
    unsafe {
        match FUNCTION {
            1 => silu(x),
            2 => gelu(x),
            _ => x,
        }
    }
}

impl Apply<'_> {
    /// # Safety
    /// `out` has room for the channels and zeros of each pixel, which are this caller's alone.
    #[inline(always)]
    unsafe fn each<S: Narrow, const FUNCTION: u8>(&self) {
        let (channels, scale, shift) = (self.channels, self.scale.as_ptr(), self.shift.as_ptr());
        let whole = channels / (2 * S::LANES) * 2 * S::LANES;
        for (index, pixel) in self.pixels.chunks_exact(channels).enumerate() {
            let (x, out) = (pixel.as_ptr(), self.out.wrapping_add(index * self.pitch));
            // SAFETY: pixel, scale and shift hold `channels` values, `out` those and the zeros.
            unsafe {
                let mut start = 0;
                while start < whole {
                    let next = start + S::LANES;
                    let a = S::widen(x.add(start))
                        .mul_add(S::load(scale.add(start)), S::load(shift.add(start)));
                    let b = S::widen(x.add(next))
                        .mul_add(S::load(scale.add(next)), S::load(shift.add(next)));
                    let (a, b) = (activated::<S, FUNCTION>(a), activated::<S, FUNCTION>(b));
                    a.narrow_both(b, out.add(start));
                    start = next + S::LANES;
                }
                while start < channels {
                    let count = S::LANES.min(channels - start);
                    let y = widen_some::<S>(x.add(start), count).mul_add(
                        load_some(scale.add(start), count),
                        load_some(shift.add(start), count),
                    );
                    narrow_some(activated::<S, FUNCTION>(y), out.add(start), count);
                    start += S::LANES;
                }
                if self.zeros > 0 {
                    let zeros = std::slice::from_raw_parts_mut(out.add(channels), self.zeros);
                    zeros.fill(bf16::ZERO);
                }
            }
        }
    }
}

/// Normalises tokens one by one.
struct Tokens<'a> {
    tokens: &'a [bf16],
    norm: &'a Norm,
    epsilon: f64,
    activation: Activation,
    out: *mut bf16,
    pitch: usize,
    zeros: usize,
    scratch: &'a mut [f32],
}

impl Kernel for Tokens<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let channels = self.norm.scale.len();
        let (scales, shifts) = self.scratch.split_at_mut(channels);
        let whole = channels / (2 * S::LANES) * 2 * S::LANES;
        let ones = [bf16::ONE; 2];
        for (index, token) in self.tokens.chunks_exact(channels).enumerate() {
            // SAFETY: vectors within the token; `out` as for `Apply`.
            unsafe {
                let ones = S::same_pair(ones.as_ptr());
                let mut totals = [[S::splat(0.0); 2]; 2];
                for (turn, start) in (0..whole).step_by(2 * S::LANES).enumerate() {
                    let pairs = S::pairs(token.as_ptr().add(start));
                    let [sum, square] = &mut totals[turn % 2];
                    *sum = sum.dot(pairs, ones);
                    *square = square.dot(pairs, pairs);
                }
                let [[a, b], [c, d]] = totals;
                let (mut sum, mut square) = (f64::from(a.add(c).sum()), f64::from(b.add(d).sum()));
                for value in &token[whole..] {
                    sum += value.to_f64();
                    square += value.to_f64() * value.to_f64();
                }
                let mean = sum / channels as f64;
                let variance = (square / channels as f64 - mean * mean).max(0.0);
                let factor = 1.0 / (variance + self.epsilon).sqrt();
                let (factor, rest) = (factor as f32, (-mean * factor) as f32);
                let norm = self.norm;
                for start in (0..channels).step_by(S::LANES) {
                    let count = S::LANES.min(channels - start);
                    let scale: S = load_some(norm.scale.as_ptr().add(start), count);
                    let shift = load_some(norm.shift.as_ptr().add(start), count);
                    let shift = scale.mul_add(S::splat(rest), shift);
                    store(scale.mul(S::splat(factor)), &mut scales[start..], count);
                    store(shift, &mut shifts[start..], count);
                }
                let apply = Apply {
                    pixels: token,
                    channels,
                    scale: scales,
                    shift: shifts,
                    activation: self.activation,
                    out: self.out.wrapping_add(index * self.pitch),
                    pitch: self.pitch,
                    zeros: self.zeros,
                };
                apply.run::<S>();
            }
        }
    }
}

/// # Safety
/// `at` has room for `count` values.
#[inline(always)]
unsafe fn store<S: Narrow>(x: S, at: &mut [f32], count: usize) {
    // SAFETY: the caller's promise.
    unsafe { crate::backend::cpu::finish::store_some(x, at.as_mut_ptr(), count) }
}

/// Writes activation(norm(x)) to `target`.
///
/// # Safety
/// `target` has room for `channels` values of each pixel of `x`, which nobody else uses.
pub(super) unsafe fn normalize(
    level: Level,
    x: Sources<'_, Tensor>,
    norm: &Norm,
    activation: Activation,
    target: Target,
) {
    let [n, h, w, _] = x.first.shape;
    match norm.spec {
        NormSpec::Layer { epsilon } => {
            // One source: layer norms stand in transformers, which have no skip connections.
            let (values, channels) = (x.first.values(), x.first.channels());
            let pixel = target.layout.pixel;
            let chunk = 64;
            let task = |index: usize| {
                let target = &target;
                let tokens = values.chunks(chunk * channels).nth(index).unwrap_or_default();
                let kernel = Tokens {
                    tokens,
                    norm,
                    epsilon,
                    activation,
                    // Rows: no lines and samples lie apart.
                    out: target.values.wrapping_add(target.layout.start + index * chunk * pixel),
                    pitch: pixel,
                    zeros: target.channels - channels,
                    scratch: &mut vec![0.0; 2 * channels],
                };
                // SAFETY: each task writes tokens of its own.
                unsafe { run(level, kernel) }
            };
            share((n * h * w).div_ceil(chunk), values.len() >= SHARE, task);
        }
        NormSpec::Group { groups, epsilon } => {
            // SAFETY: the caller's promise.
            unsafe { group(level, x, [groups, n, h, w], epsilon, norm, activation, target) }
        }
    }
}

/// # Safety
/// As for [`normalize`].
unsafe fn group(
    level: Level,
    x: Sources<'_, Tensor>,
    [groups, n, h, w]: [usize; 4],
    epsilon: f64,
    norm: &Norm,
    activation: Activation,
    target: Target,
) {
    let sources: Vec<&Tensor> = [Some(x.first), x.second].into_iter().flatten().collect();
    let channels = norm.scale.len();
    let (width, worth) = (channels / groups, n * h * w * channels >= SHARE);
    let chunks = (h * w).div_ceil(CHUNK);
    // Of each chunk of each sample, the sums of all pairs of channels of all sources.
    let even = width.is_multiple_of(2) && sources.iter().all(|s| s.channels().is_multiple_of(2));
    let mut sums = vec![0f64; n * chunks * channels];
    let shared = Shared64(sums.as_mut_ptr());
    share(n * chunks, worth && even, |index| {
        let (sample, chunk) = (index / chunks, index % chunks);
        let mut first = 0;
        for source in &sources {
            let own = source.channels();
            let values = &source.values()[sample * h * w * own..(sample + 1) * h * w * own];
            let pixels = values.chunks(CHUNK * own).nth(chunk).unwrap_or_default();
            // SAFETY: each task has sums of its own.
            let sums = unsafe { shared.part(index * channels + first, own) };
            // SAFETY: the slices are what the kernel's text asks for.
            unsafe { run(level, Sums { pixels, channels: own, sums }) };
            first += own;
        }
    });
    let (mut scale, mut shift) = (vec![0f32; n * channels], vec![0f32; n * channels]);
    for sample in 0..n {
        let mut totals = vec![[0f64; 2]; groups];
        let mut first = 0;
        for source in &sources {
            let own = source.channels();
            if even {
                for chunk in 0..chunks {
                    let sums = &sums[(sample * chunks + chunk) * channels + first..][..own];
                    let (values, squares) = sums.split_at(own / 2);
                    for (pair, (sum, square)) in values.iter().zip(squares).enumerate() {
                        let total = &mut totals[(first + 2 * pair) / width];
                        total[0] += sum;
                        total[1] += square;
                    }
                }
            } else {
                let values = &source.values()[sample * h * w * own..(sample + 1) * h * w * own];
                for (place, value) in values.iter().enumerate() {
                    let total = &mut totals[(first + place % own) / width];
                    total[0] += value.to_f64();
                    total[1] += value.to_f64() * value.to_f64();
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
    let lines = (CHUNK / w.max(1)).clamp(1, h.max(1));
    let bands = h.div_ceil(lines);
    share(n * bands, worth, |index| {
        let target = &target;
        let (sample, band) = (index / bands, index % bands);
        for line in band * lines..((band + 1) * lines).min(h) {
            let mut first = 0;
            for (number, source) in sources.iter().enumerate() {
                let own = source.channels();
                let Layout { sample: pitch, line: apart, pixel, start } = target.layout;
                let place = start + sample * pitch + line * apart + first;
                let range = sample * channels + first..sample * channels + first + own;
                let last = number + 1 == sources.len();
                let apply = Apply {
                    pixels: &source.values()[(sample * h + line) * w * own..][..w * own],
                    channels: own,
                    scale: &scale[range.clone()],
                    shift: &shift[range],
                    activation,
                    out: target.values.wrapping_add(place),
                    pitch: pixel,
                    zeros: if last { target.channels - channels } else { 0 },
                };
                // SAFETY: each task writes lines of its own, each source channels of its own.
                unsafe { run(level, apply) };
                first += own;
            }
        }
    });
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
