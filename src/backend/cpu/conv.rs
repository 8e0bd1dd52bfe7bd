//! In: a convolution's weights, then pictures. Out: the convolution of them, by the way that suits its shape.
//!
//! Which way that is depends on the weights alone, never on the picture: so the weights are packed once,
//! when they are loaded, for one way, and the others take no memory.
#![allow(unsafe_code, reason = "products over rows whose lifetimes are seen here")]

use super::finish::{Added, Every2, Write};
use super::level::Level;
use super::memory::{Pool, Shared, Tensor};
use super::product::multiply;
use super::rows::{Geometry, Pixels};
use super::weight::{Packed, Stored};
use super::winograd::{self, Picture, Transformed};
use crate::backend::{Activation, Add, ConvSpec, HostTensor, Sources};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The fewest channels, in and out, whose products are worth Winograd's transforms.
const WINOGRAD_CHANNELS: usize = 32;
/// The most weights of one tap for which Winograd's method is used: its weights take 16/9 of the memory, and
/// the largest layers of Stable Diffusion (1280 channels, on pictures of 8x8 and 16x16) hold most of the
/// weights and little of the work.
const WINOGRAD_WEIGHTS: usize = 1920 * 640;

/// A convolution.
pub struct Conv {
    kernel: [usize; 2],
    spec: ConvSpec,
    outputs: usize,
    form: Form,
}

/// Packed weights.
enum Form {
    /// One product over the pixels under the kernel.
    Direct(Packed<Stored>),
    /// A kernel of 3x3 by Winograd's method.
    Winograd(Box<Transformed>),
    /// For a picture that is enlarged to twice its size: a small convolution for each of four pixels. For other
    /// sizes a plain one, which is worked out when it is wanted first, and then adds to the `weights` of all.
    Enlarged {
        doubled: Box<[Packed<Stored>; 4]>,
        direct: OnceLock<Packed<Stored>>,
        weights: Arc<AtomicU64>,
    },
}

/// Which [`Form`] suits a shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Winograd,
    Enlarged,
}

impl Way {
    fn of([outputs, channels, kh, kw]: [usize; 4], spec: ConvSpec) -> Self {
        let same = [kh, kw] == [3, 3] && [spec.stride, spec.before, spec.after] == [1, 1, 1];
        let large = channels >= WINOGRAD_CHANNELS && outputs >= WINOGRAD_CHANNELS;
        if same && spec.upsamples {
            Way::Enlarged
        } else if same && large && channels * outputs <= WINOGRAD_WEIGHTS {
            Way::Winograd
        } else {
            Way::Direct
        }
    }
}

/// What the packed weights of a convolution will take, in bytes, at most.
pub(super) fn packed_bytes(shape: [usize; 4], spec: ConvSpec, half: bool) -> u64 {
    let [outputs, channels, kh, kw] = shape;
    let matrix = channels as u64 * outputs.next_multiple_of(16) as u64;
    match Way::of(shape, spec) {
        Way::Direct => matrix * (kh * kw) as u64 * if half { 2 } else { 4 },
        Way::Winograd | Way::Enlarged => matrix * 16 * 4,
    }
}

impl Conv {
    /// `weight` is (outputs, channels, height, width).
    pub(super) fn new(
        level: Level,
        pool: &Arc<Pool>,
        weight: &HostTensor,
        bias: Option<&HostTensor>,
        spec: ConvSpec,
        weights: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let [outputs, channels, kh, kw]: [usize; 4] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a convolution's weight has not four axes"))?;
        let bias = bias.map(HostTensor::data);
        let (values, taps) = (weight.data(), kh * kw);
        let at = |tap: usize, channel: usize, output: usize| {
            values[(output * channels + channel) * taps + tap]
        };
        let shape = [channels, outputs];
        let form = match Way::of([outputs, channels, kh, kw], spec) {
            Way::Enlarged => Form::Enlarged {
                doubled: Box::new(doubled(level, pool, shape, bias, at)),
                direct: OnceLock::new(),
                weights: Arc::clone(weights),
            },
            Way::Winograd => {
                Form::Winograd(Box::new(Transformed::new(level, pool, shape, bias, at)))
            }
            Way::Direct => Form::Direct(direct(level, pool, taps, shape, bias, at)),
        };
        let conv = Conv { kernel: [kh, kw], spec, outputs, form };
        weights.fetch_add(conv.bytes(), Ordering::Relaxed);
        Ok(conv)
    }

    /// What the packed weights take, in bytes.
    fn bytes(&self) -> u64 {
        match &self.form {
            Form::Direct(direct) => direct.bytes(),
            Form::Winograd(transformed) => transformed.bytes(),
            Form::Enlarged { doubled, .. } => doubled.iter().map(|weight| weight.bytes()).sum(),
        }
    }

    /// The weights as one product has them; none where they are only there for Winograd's method.
    fn plain(&self, level: Level, pool: &Arc<Pool>) -> Option<&Packed<Stored>> {
        match &self.form {
            Form::Direct(direct) => Some(direct),
            Form::Winograd(_) => None,
            Form::Enlarged { doubled, direct, weights } => {
                if direct.get().is_none() {
                    // Not while others wait for it: packing is shared among threads, and one that helps may
                    // take up another call of this very convolution. Two may then pack the same.
                    let made = undoubled(level, pool, doubled);
                    let bytes = made.bytes();
                    if direct.set(made).is_ok() {
                        weights.fetch_add(bytes, Ordering::Relaxed);
                    }
                }
                direct.get()
            }
        }
    }

    /// conv(x) + add
    pub(super) fn run(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        x: Sources<'_, Tensor>,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let [n, h, w, _] = x.first.shape;
        if let Form::Winograd(transformed) = &self.form {
            let both = x.second.map(|second| joined(pool, x.first, second));
            let x = both.as_ref().unwrap_or(x.first);
            let mut out = pool.take(n * h * w * self.outputs);
            let picture = Picture { values: x.values(), size: [h, w], channels: x.channels() };
            let (add, values) = ((&add).into(), out.values_mut());
            winograd::convolve(level, pool, picture, transformed, add, values);
            return Ok(Tensor::new([n, h, w, self.outputs], out));
        }
        self.direct(level, pool, x, [h, w], add)
    }

    /// conv(u), u being `x` enlarged to `size`.
    pub(super) fn run_enlarged(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        x: &Tensor,
        size: [usize; 2],
    ) -> Result<Tensor> {
        let [n, h, w, _] = x.shape;
        let doubled = match &self.form {
            Form::Enlarged { doubled, .. } if size == [2 * h, 2 * w] => doubled,
            _ => return self.direct(level, pool, x.into(), size, Add::Nothing),
        };
        let [height, width] = size;
        let mut out = pool.take(n * height * width * self.outputs);
        for (parity, weight) in doubled.iter().enumerate() {
            let [py, px] = [parity / 2, parity % 2];
            let geometry = Geometry {
                kernel: [2, 2],
                stride: 1,
                before: [1 - py, 1 - px],
                output: [h, w],
                enlarged: [h, w],
            };
            let pixels = Pixels::new(x.into(), geometry);
            let finish = Write {
                out: Shared::new(out.values_mut()),
                activation: Activation::Identity,
                add: Added::Nothing,
                places: Some(Every2 { size: [h, w], first: [py, px] }),
            };
            let lengths = pixels.lengths();
            // SAFETY: whole pixels of a borrowed tensor; each of the four writes pixels of its own.
            unsafe { multiply(level, pool, &pixels, n * h * w, &lengths, weight, &finish) }
        }
        Ok(Tensor::new([n, height, width, self.outputs], out))
    }

    /// conv(u) + add as one product, u being `x` enlarged to `size`.
    fn direct(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        x: Sources<'_, Tensor>,
        size: [usize; 2],
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let weight = self
            .plain(level, pool)
            .ok_or_else(|| Error::internal("not a convolution for a picture that is enlarged"))?;
        let geometry = Geometry::new(self.kernel, self.spec, size).ok_or_else(|| {
            let ([h, w], [kh, kw]) = (size, self.kernel);
            Error::internal(format!("{h}x{w} pixels are fewer than a kernel of {kh}x{kw}"))
        })?;
        let [h, w] = geometry.output;
        let shape = [x.first.shape[0], h, w, self.outputs];
        let mut out = pool.take(shape.iter().product());
        let pixels = Pixels::new(x, geometry);
        let finish = Write {
            out: Shared::new(out.values_mut()),
            activation: Activation::Identity,
            add: (&add).into(),
            places: None,
        };
        let lengths = pixels.lengths();
        let count = shape[..3].iter().product();
        // SAFETY: `pixels` hands out whole pixels of borrowed tensors; `out` has a value for each row and
        // output.
        unsafe { multiply(level, pool, &pixels, count, &lengths, weight, &finish) }
        Ok(Tensor::new(shape, out))
    }
}

/// The channels of two activations side by side.
fn joined(pool: &Arc<Pool>, first: &Tensor, second: &Tensor) -> Tensor {
    let [n, h, w, a] = first.shape;
    let b = second.channels();
    let mut out = pool.take(n * h * w * (a + b));
    let sources = first.values().chunks_exact(a).zip(second.values().chunks_exact(b));
    for (out, (first, second)) in out.values_mut().chunks_exact_mut(a + b).zip(sources) {
        out[..a].copy_from_slice(first);
        out[a..].copy_from_slice(second);
    }
    Tensor::new([n, h, w, a + b], out)
}

/// The weights as one product has them.
fn direct(
    level: Level,
    pool: &Arc<Pool>,
    taps: usize,
    [channels, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    at: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Packed<Stored> {
    let at = |input: usize, output: usize| at(input / channels, input % channels, output);
    Packed::new(level, pool, [taps * channels, outputs], bias, at).stored()
}

/// The weights over a picture of twice the size, as four convolutions of 2x2 over the picture itself: of the
/// three rows of the kernel two always fall on one row of the picture.
fn doubled(
    level: Level,
    pool: &Arc<Pool>,
    [channels, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    at: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> [Packed<Stored>; 4] {
    [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[py, px]: [usize; 2]| {
        // Rows of the kernel that fall on the upper and on the lower row.
        let taps = |parity: usize, half: usize| match (parity, half) {
            (0, 0) => 0..1,
            (0, _) => 1..3,
            (_, 0) => 0..2,
            _ => 2..3,
        };
        let sum = |tap: usize, channel: usize, output: usize| {
            let rows = taps(py, tap / 2);
            let pairs = rows.flat_map(|y| taps(px, tap % 2).map(move |x| y * 3 + x));
            pairs.map(|t| at(t, channel, output)).sum()
        };
        direct(level, pool, 4, [channels, outputs], bias, sum)
    })
}

/// The kernel of 3x3 that `doubled` is of: its corners stand there alone, the others are differences, a few
/// units of the last place off.
fn undoubled(level: Level, pool: &Arc<Pool>, doubled: &[Packed<Stored>; 4]) -> Packed<Stored> {
    let (outputs, channels) = (doubled[0].outputs, doubled[0].inputs / 4);
    let bias = &doubled[0].bias[..outputs];
    direct(level, pool, 9, [channels, outputs], Some(bias), |tap, channel, output| {
        let of = |parity: usize, tap: usize| {
            f64::from(doubled[parity].at(tap * channels + channel, output))
        };
        let (first, last) = (of(0, 0), of(3, 3));
        let (right, below) = (of(1, 0) - first, of(2, 0) - first);
        let weight = match tap {
            0 => first,
            1 => right,
            2 => of(1, 1),
            3 => below,
            4 => of(3, 0) - first - right - below,
            5 => of(1, 3) - last,
            6 => of(2, 2),
            7 => of(2, 3) - last,
            _ => last,
        };
        weight as f32
    })
}
