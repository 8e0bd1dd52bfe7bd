//! In: activations, scale and shift. Out: activation(norm(x)) in bf16, wherever it is wanted: in rows, or within
//! the zeros that a convolution reads around a picture.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::function::{gelu, silu};
use super::product::share;
use super::statistics::{Factors, SHARE};
use super::tensor::{Layout, Tensor};
use super::vector::{Kernel, Narrow, narrow_some, run, widen_some};
use crate::backend::cpu::finish::load_some;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::norm::Norm;
use crate::backend::{Activation, NormSpec, Sources};
use half::bf16;
use std::ops::Range;

/// Pixels that one task normalises, about.
const CHUNK: usize = 256;

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

/// Pixels `columns` of line `line` of sample `sample` go to `out` and on, `pitch` apart, normalised by `factors`, with
/// zeros behind the last channel up to `channels`.
///
/// # Safety
/// `out` has room for as many values of each pixel, which nobody else uses.
pub(super) unsafe fn normalize_line(
    level: Level,
    x: Sources<'_, Tensor>,
    factors: &Factors,
    activation: Activation,
    ([sample, line], columns): ([usize; 2], Range<usize>),
    (out, pitch, channels): (*mut bf16, usize, usize),
) {
    let [_, h, w, _] = x.first.shape;
    let mut first = 0;
    for source in [Some(x.first), x.second].into_iter().flatten() {
        let own = source.channels();
        let [scale, shift] = factors.of(sample, first..first + own);
        let last = x.second.is_none_or(|second| std::ptr::eq(second, source));
        let from = (sample * h + line) * w;
        let apply = Apply {
            pixels: &source.values()[(from + columns.start) * own..(from + columns.end) * own],
            channels: own,
            scale,
            shift,
            activation,
            out: out.wrapping_add(first),
            pitch,
            zeros: if last { channels - first - own } else { 0 },
        };
        // SAFETY: the caller's promise; each source writes channels of its own.
        unsafe { run(level, apply) };
        first += own;
    }
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
            let factors = Factors::new(level, x, groups, epsilon, norm);
            let lines = (CHUNK / w.max(1)).clamp(1, h.max(1));
            let bands = h.div_ceil(lines);
            let worth = n * h * w * norm.scale.len() >= SHARE;
            share(n * bands, worth, |index| {
                let target = &target;
                let (sample, band) = (index / bands, index % bands);
                for line in band * lines..((band + 1) * lines).min(h) {
                    let Layout { sample: pitch, line: apart, pixel, start } = target.layout;
                    let out = target.values.wrapping_add(start + sample * pitch + line * apart);
                    let (from, to) = (([sample, line], 0..w), (out, pixel, target.channels));
                    // SAFETY: each task writes lines of its own.
                    unsafe { normalize_line(level, x, &factors, activation, from, to) };
                }
            });
        }
    }
}
