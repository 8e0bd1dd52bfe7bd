//! In: activations, scale and shift. Out: activation(norm(x)), the channels of two sources side by side.
//!
//! Statistics are summed in f32 over a few values at a time and from there on in f64, always the same
//! values together, so that threads and batch don't show. The mean is taken off in two parts: a mean far
//! larger than the deviation would else cost the result its digits.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector kernels, results shared among threads")]

use super::finish::{load_some, store_some};
use super::function::activate;
use super::level::Level;
use super::memory::{Pool, Shared, Tensor};
use super::simd::{Kernel, Simd};
use crate::backend::{Activation, NormSpec, Sources};
use rayon::prelude::*;
use std::sync::Arc;

/// Pixels whose sums one task takes.
const CHUNK: usize = 512;
/// Values summed in f32.
const SHORT: usize = 16;
/// Fewer values than this are not worth another thread.
const SHARE: usize = 1 << 14;

/// Scale and shift of a normalisation.
pub struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) spec: NormSpec,
}

/// A mean in two parts, and a factor.
#[derive(Clone, Copy)]
struct Moments {
    high: f32,
    low: f32,
    factor: f64,
}

impl Moments {
    fn new(mean: f64) -> Self {
        let high = mean as f32;
        Moments { high, low: (mean - f64::from(high)) as f32, factor: 1.0 }
    }

    fn spread(self, variance: f64) -> Self {
        Moments { factor: 1.0 / variance.sqrt(), ..self }
    }
}

/// Adds, for each channel, the values (or the squares of their distance from `means`) of some pixels.
struct Sums<'a> {
    pixels: &'a [f32],
    means: Option<&'a [Moments]>,
    /// Channels of a group, and the first channel's place among all.
    width: usize,
    first: usize,
    sums: &'a mut [f64],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sums.len();
        let mut short = [0f32; 16];
        for start in (0..channels).step_by(S::LANES) {
            let count = S::LANES.min(channels - start);
            let (mut high, mut low) = ([0f32; 16], [0f32; 16]);
            if let Some(means) = self.means {
                for lane in 0..count {
                    let mean = means[(self.first + start + lane) / self.width];
                    (high[lane], low[lane]) = (mean.high, mean.low);
                }
            }
            let mut sums = [0f64; 16];
            for pixels in self.pixels.chunks(SHORT * channels) {
                // SAFETY: `count` channels from `start` on lie in every pixel; the arrays hold the longest
                // vector.
                unsafe {
                    let mut sum = S::splat(0.0);
                    let (high, low) = (S::load(high.as_ptr()), S::load(low.as_ptr()));
                    for pixel in pixels.chunks_exact(channels) {
                        let x = load_some::<S>(pixel.as_ptr().add(start), count);
                        sum = if self.means.is_some() {
                            let distance = x.sub(high).sub(low);
                            distance.mul_add(distance, sum)
                        } else {
                            sum.add(x)
                        };
                    }
                    sum.store(short.as_mut_ptr());
                }
                sums.iter_mut().zip(&short).for_each(|(sum, &s)| *sum += f64::from(s));
            }
            self.sums[start..start + count].copy_from_slice(&sums[..count]);
        }
    }
}

/// For each group, the sum over one sample of its values, or of their squared distances from `means`.
fn group_sums(
    level: Level,
    sources: &[(&[f32], usize)],
    groups: usize,
    width: usize,
    means: Option<&[Moments]>,
) -> Vec<f64> {
    let mut sums = vec![0.0; groups];
    let mut first = 0;
    for &(values, channels) in sources {
        let chunk = |pixels: &[f32]| {
            let mut sums = vec![0.0; channels];
            let kernel = Sums { pixels, means, width, first, sums: &mut sums };
            // SAFETY: the slices are what the kernel's text asks for.
            unsafe { level.run(kernel) };
            sums
        };
        let shares: Vec<Vec<f64>> = if values.len() < SHARE {
            values.chunks(CHUNK * channels).map(chunk).collect()
        } else {
            values.par_chunks(CHUNK * channels).map(chunk).collect()
        };
        for share in shares {
            for (channel, sum) in share.into_iter().enumerate() {
                sums[(first + channel) / width] += sum;
            }
        }
        first += channels;
    }
    sums
}

/// ((x - mean) factor) scale + shift, then the activation, for some pixels and all channels of a source.
struct Apply<'a> {
    pixels: &'a [f32],
    channels: usize,
    /// For each channel: mean, the mean's rest, factor x scale, shift.
    constants: [&'a [f32]; 4],
    activation: Activation,
    /// The first pixel's first value; pixels are `pitch` apart. Others write between them, so it is no slice.
    out: *mut f32,
    pitch: usize,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Apply { pixels, channels, constants: [high, low, scale, shift], .. } = self;
        for (index, pixel) in pixels.chunks_exact(channels).enumerate() {
            let out = self.out.wrapping_add(index * self.pitch);
            for start in (0..channels).step_by(S::LANES) {
                let count = S::LANES.min(channels - start);
                // SAFETY: all hold `count` more values from `start` on; the result's are this task's alone.
                unsafe {
                    let x = load_some::<S>(pixel.as_ptr().add(start), count);
                    let x = x.sub(load_some(high.as_ptr().add(start), count));
                    let x = x.sub(load_some(low.as_ptr().add(start), count));
                    let y = x.mul_add(
                        load_some(scale.as_ptr().add(start), count),
                        load_some(shift.as_ptr().add(start), count),
                    );
                    store_some(activate(self.activation, y), out.add(start), count);
                }
            }
        }
    }
}

/// Normalises tokens one by one.
struct Tokens<'a> {
    tokens: &'a [f32],
    norm: &'a Norm,
    epsilon: f64,
    activation: Activation,
    out: &'a mut [f32],
}

impl Kernel for Tokens<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.norm.scale.len();
        let (scale, shift) = (self.norm.scale.as_ptr(), self.norm.shift.as_ptr());
        let tokens = self.tokens.chunks_exact(channels);
        for (token, out) in tokens.zip(self.out.chunks_exact_mut(channels)) {
            // SAFETY: token, out, scale and shift all hold `channels` values.
            unsafe {
                let mean = token_sum::<S>(token, None) / channels as f64;
                let about = Moments::new(mean);
                let variance = token_sum::<S>(token, Some(about)) / channels as f64;
                let moments = about.spread(variance + self.epsilon);
                let (high, low) = (S::splat(moments.high), S::splat(moments.low));
                let factor = S::splat(moments.factor as f32);
                for start in (0..channels).step_by(S::LANES) {
                    let count = S::LANES.min(channels - start);
                    let x = load_some::<S>(token.as_ptr().add(start), count);
                    let x = x.sub(high).sub(low).mul(factor);
                    let y = x.mul_add(
                        load_some(scale.add(start), count),
                        load_some(shift.add(start), count),
                    );
                    store_some(activate(self.activation, y), out.as_mut_ptr().add(start), count);
                }
            }
        }
    }
}

/// The sum of a token's values, or of their squared distances from a mean.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn token_sum<S: Simd>(token: &[f32], about: Option<Moments>) -> f64 {
    let mut total = 0.0;
    for part in token.chunks(SHORT * S::LANES) {
        let mut lanes = [0f32; 16];
        // SAFETY: `count` values from `start` on lie in the part; `lanes` holds the longest vector.
        unsafe {
            let mut sum = S::splat(0.0);
            for start in (0..part.len()).step_by(S::LANES) {
                let count = S::LANES.min(part.len() - start);
                let x = load_some::<S>(part.as_ptr().add(start), count);
                sum = match about {
                    None => sum.add(x),
                    Some(mean) => {
                        let mut distance = x.sub(S::splat(mean.high)).sub(S::splat(mean.low));
                        if count < S::LANES {
                            // What lies beyond the token is no distance.
                            let mut values = [0f32; 16];
                            store_some(distance, values.as_mut_ptr(), count);
                            distance = S::load(values.as_ptr());
                        }
                        distance.mul_add(distance, sum)
                    }
                };
            }
            sum.store(lanes.as_mut_ptr());
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// activation(norm(x))
pub(super) fn normalized(
    level: Level,
    pool: &Arc<Pool>,
    x: Sources<'_, Tensor>,
    norm: &Norm,
    activation: Activation,
) -> Tensor {
    let [n, h, w, first] = x.first.shape;
    let mut sources = vec![(x.first.values(), first)];
    if let Some(second) = x.second {
        sources.push((second.values(), second.channels()));
    }
    let channels: usize = sources.iter().map(|(_, channels)| channels).sum();
    let mut out = pool.take(n * h * w * channels);
    let shared = Shared::new(out.values_mut());
    match norm.spec {
        NormSpec::Layer { epsilon } => {
            let run = |(chunk, tokens): (usize, &[f32])| {
                let kernel = Tokens {
                    tokens,
                    norm,
                    epsilon,
                    activation,
                    // SAFETY: each chunk writes where it read.
                    out: unsafe { shared.part(chunk * CHUNK * channels, tokens.len()) },
                };
                // SAFETY: the slices are what the kernel's text asks for.
                unsafe { level.run(kernel) }
            };
            // One source: layer norms stand in transformers, which have no skip connections.
            let values = x.first.values();
            if values.len() < SHARE {
                values.chunks(CHUNK * channels).enumerate().for_each(run);
            } else {
                values.par_chunks(CHUNK * channels).enumerate().for_each(run);
            }
        }
        NormSpec::Group { groups, epsilon } => {
            let (width, count) = (channels / groups, (h * w * (channels / groups)) as f64);
            for sample in 0..n {
                let parts: Vec<(&[f32], usize)> = sources
                    .iter()
                    .map(|&(values, own)| (&values[sample * h * w * own..][..h * w * own], own))
                    .collect();
                let sums = group_sums(level, &parts, groups, width, None);
                let means: Vec<Moments> =
                    sums.iter().map(|sum| Moments::new(sum / count)).collect();
                let squares = group_sums(level, &parts, groups, width, Some(&means));
                let moments: Vec<Moments> = means
                    .iter()
                    .zip(&squares)
                    .map(|(mean, sum)| mean.spread(sum / count + epsilon))
                    .collect();
                let each = |f: &dyn Fn(Moments, usize) -> f32| -> Vec<f32> {
                    (0..channels).map(|c| f(moments[c / width], c)).collect()
                };
                let high = each(&|m, _| m.high);
                let low = each(&|m, _| m.low);
                let scale = each(&|m, c| (m.factor * f64::from(norm.scale[c])) as f32);
                let mut first = 0;
                for (values, own) in parts {
                    let run = |(chunk, pixels): (usize, &[f32])| {
                        let start = (sample * h * w + chunk * CHUNK) * channels + first;
                        let range = first..first + own;
                        let kernel = Apply {
                            pixels,
                            channels: own,
                            constants: [
                                &high[range.clone()],
                                &low[range.clone()],
                                &scale[range.clone()],
                                &norm.shift[range],
                            ],
                            activation,
                            out: shared.at(start),
                            pitch: channels,
                        };
                        // SAFETY: each chunk of each source writes pixels and channels of its own,
                        // which lie within the result.
                        unsafe { level.run(kernel) }
                    };
                    if values.len() < SHARE {
                        values.chunks(CHUNK * own).enumerate().for_each(run);
                    } else {
                        values.par_chunks(CHUNK * own).enumerate().for_each(run);
                    }
                    first += own;
                }
            }
        }
    }
    Tensor::new([n, h, w, channels], out)
}
