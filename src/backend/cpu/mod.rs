//! In: packed weights and activations. Out: activations. The operations of the waist by kernels for the
//! processor at hand: no convolution is unrolled in memory, no scores are kept, and bias, residual and
//! activation are applied while a block of a product is still in the cache.
#![allow(unsafe_code, reason = "products over rows whose lifetimes are seen here")]

mod attention;
mod finish;
mod function;
mod level;
mod memory;
mod norm;
mod product;
mod rows;
mod simd;
#[cfg(test)]
mod tests;
mod weight;
mod winograd;

pub use level::Level;
pub(super) use memory::Tensor;
pub(super) use norm::Norm;

use crate::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Numerics, Sources};
use crate::error::{Error, Result};
use attention::{Head, Part, attend};
use finish::{Every2, Gate, Write};
use memory::{Pool, Shared};
use norm::normalized;
use product::multiply;
use rayon::prelude::*;
use rows::{Geometry, Pixels, Plain};
use std::sync::{Arc, OnceLock};
use weight::Packed;
use winograd::{Picture, Transformed};

/// The fewest pixels and channels for which Winograd's method is used.
const WINOGRAD_PIXELS: usize = 64;
const WINOGRAD_CHANNELS: usize = 48;

/// The backend of the machine's own processor, f32.
pub struct Cpu {
    level: Level,
    pool: Arc<Pool>,
}

/// A convolution.
pub struct Conv {
    weight: Packed,
    kernel: [usize; 2],
    spec: ConvSpec,
    /// For a picture of twice the size, one small convolution for each of four pixels.
    doubled: OnceLock<[Packed; 4]>,
    /// The weights as Winograd's method has them.
    transformed: OnceLock<Transformed>,
}

/// A linear layer.
pub struct Linear {
    weight: Packed,
}

impl Cpu {
    /// A backend that uses the instructions of `level`.
    pub fn new(level: Level) -> Self {
        Cpu { level, pool: Arc::default() }
    }

    /// The backend that `LATENTBLEND_CPU_LEVEL` asks for: a level's name, or "best". `None` where it is not
    /// set, or names the reference.
    ///
    /// # Errors
    /// As [`Level::named`].
    pub fn from_environment() -> Result<Option<Self>> {
        match std::env::var("LATENTBLEND_CPU_LEVEL").unwrap_or_default().as_str() {
            "" | "reference" => Ok(None),
            "best" => Ok(Some(Cpu::new(Level::best()))),
            name => Ok(Some(Cpu::new(Level::named(name)?))),
        }
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The geometry of `conv` on a picture of `size`.
    fn geometry(conv: &Conv, size: [usize; 2]) -> Result<Geometry> {
        Geometry::new(conv.kernel, conv.spec, size).ok_or_else(|| {
            let ([h, w], [kh, kw]) = (size, conv.kernel);
            Error::internal(format!("{h}x{w} pixels are fewer than a kernel of {kh}x{kw}"))
        })
    }

    /// conv(x) + add with the given geometry.
    fn convolve(
        &self,
        x: Sources<'_, Tensor>,
        conv: &Conv,
        geometry: Geometry,
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let [h, w] = geometry.output;
        let shape = [x.first.shape[0], h, w, conv.weight.outputs];
        let mut out = self.pool.take(shape.iter().product());
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
        unsafe { multiply(self.level, &self.pool, &pixels, count, &lengths, &conv.weight, &finish) }
        Tensor::new(shape, out)
    }

    /// The weights of `conv` over a picture of twice the size, as four convolutions of 2x2 over the
    /// picture itself: of the three rows of the kernel two always fall on one row of the picture.
    fn doubled<'a>(&self, conv: &'a Conv) -> &'a [Packed; 4] {
        conv.doubled.get_or_init(|| {
            let channels = conv.weight.inputs / 9;
            [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[py, px]: [usize; 2]| {
                // Rows of the kernel that fall on the upper and on the lower row.
                let taps = |parity: usize, half: usize| match (parity, half) {
                    (0, 0) => 0..1,
                    (0, _) => 1..3,
                    (_, 0) => 0..2,
                    _ => 2..3,
                };
                let weight = &conv.weight;
                let shape = [4 * channels, weight.outputs];
                let bias = &weight.bias[..weight.outputs];
                Packed::new(self.level, &self.pool, shape, Some(bias), |input, output| {
                    let (tap, channel) = (input / channels, input % channels);
                    let rows = taps(py, tap / 2);
                    let pairs = rows.flat_map(|y| taps(px, tap % 2).map(move |x| y * 3 + x));
                    pairs.map(|t| weight.at(t * channels + channel, output)).sum()
                })
            })
        })
    }

    /// conv(x) + add by Winograd's method, where that is faster: a kernel of 3x3 over enough pixels and
    /// channels to be worth the transforms.
    fn winograd(&self, x: &Tensor, conv: &Conv, add: &Add<'_, Tensor>) -> Option<Tensor> {
        let [n, h, w, c] = x.shape;
        let outputs = conv.weight.outputs;
        let fits = conv.kernel == [3, 3] && conv.spec == ConvSpec::same(1);
        if !fits || h * w < WINOGRAD_PIXELS || c < WINOGRAD_CHANNELS || outputs < WINOGRAD_CHANNELS
        {
            return None;
        }
        let transformed = conv.transformed.get_or_init(|| {
            let weight = &conv.weight;
            let bias = &weight.bias[..outputs];
            Transformed::new(self.level, &self.pool, [c, outputs], bias, |tap, input, output| {
                weight.at(tap * c + input, output)
            })
        });
        let mut out = self.pool.take(n * h * w * outputs);
        let picture = Picture { values: x.values(), size: [h, w], channels: c };
        let values = out.values_mut();
        winograd::convolve(self.level, &self.pool, picture, transformed, add.into(), values);
        Some(Tensor::new([n, h, w, outputs], out))
    }

    /// activation(rows of `x` times linear) + add
    fn linear_of(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let [n, h, w, c] = x.shape;
        let shape = [n, h, w, linear.weight.outputs];
        let mut out = self.pool.take(shape.iter().product());
        let finish = Write {
            out: Shared::new(out.values_mut()),
            activation,
            add: (&add).into(),
            places: None,
        };
        let rows = Plain::new(x.values(), c);
        // SAFETY: rows of a borrowed tensor; `out` has a value for each row and output.
        unsafe { multiply(self.level, &self.pool, &rows, n * h * w, &[c], &linear.weight, &finish) }
        Tensor::new(shape, out)
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Conv = Conv;
    type Linear = Linear;
    type Norm = Norm;

    fn numerics(&self) -> Numerics {
        Numerics {
            device: "cpu".into(),
            kernels: self.level.name().into(),
            precision: "f32".into(),
        }
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        let [outputs, channels, kh, kw]: [usize; 4] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a convolution's weight has not four axes"))?;
        let bias = bias.as_ref().map(HostTensor::data);
        let (values, taps) = (weight.data(), kh * kw);
        let shape = [taps * channels, outputs];
        let weight = Packed::new(self.level, &self.pool, shape, bias, |input, output| {
            let (tap, channel) = (input / channels, input % channels);
            values[(output * channels + channel) * taps + tap]
        });
        Ok(Conv {
            weight,
            kernel: [kh, kw],
            spec,
            doubled: OnceLock::new(),
            transformed: OnceLock::new(),
        })
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let [outputs, inputs]: [usize; 2] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a linear layer's weight has not two axes"))?;
        let bias = bias.as_ref().map(HostTensor::data);
        let values = weight.data();
        let at = |input: usize, output: usize| values[output * inputs + input];
        let weight = Packed::new(self.level, &self.pool, [inputs, outputs], bias, at);
        Ok(Linear { weight })
    }

    fn norm(&self, scale: HostTensor, shift: HostTensor, spec: NormSpec) -> Result<Norm> {
        Ok(Norm { scale: scale.into_data(), shift: shift.into_data(), spec })
    }

    fn upload(&self, host: &HostTensor) -> Result<Tensor> {
        let shape: [usize; 4] = host
            .shape()
            .try_into()
            .map_err(|_| Error::internal("an activation has not four axes"))?;
        let mut buffer = self.pool.take(host.data().len());
        buffer.values_mut().copy_from_slice(host.data());
        Ok(Tensor::new(shape, buffer))
    }

    fn download(&self, x: &Tensor) -> Result<HostTensor> {
        HostTensor::new(x.shape, x.values().to_vec())
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn gather(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let [_, h, w, c] = x.shape;
        let size = h * w * c;
        let mut out = self.pool.take(rows.len() * size);
        for (out, &row) in out.values_mut().chunks_mut(size.max(1)).zip(rows) {
            out.copy_from_slice(&x.values()[row * size..(row + 1) * size]);
        }
        Ok(Tensor::new([rows.len(), h, w, c], out))
    }

    fn conv2d(&self, x: Sources<'_, Tensor>, conv: &Conv, add: Add<'_, Tensor>) -> Result<Tensor> {
        let [_, h, w, _] = x.first.shape;
        if x.second.is_none()
            && let Some(result) = self.winograd(x.first, conv, &add)
        {
            return Ok(result);
        }
        Ok(self.convolve(x, conv, Cpu::geometry(conv, [h, w])?, add))
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
        conv: &Conv,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let x = normalized(self.level, &self.pool, x, norm, activation);
        self.conv2d((&x).into(), conv, add)
    }

    fn upsample_conv2d(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
        conv: &Conv,
    ) -> Result<Tensor> {
        let [n, h, w, _] = x.shape;
        if [height, width] != [2 * h, 2 * w]
            || conv.kernel != [3, 3]
            || conv.spec != ConvSpec::same(1)
        {
            let geometry = Cpu::geometry(conv, [height, width])?;
            return Ok(self.convolve(x.into(), conv, geometry, Add::Nothing));
        }
        let shape = [n, height, width, conv.weight.outputs];
        let mut out = self.pool.take(shape.iter().product());
        for (parity, weight) in self.doubled(conv).iter().enumerate() {
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
                add: finish::Added::Nothing,
                places: Some(Every2 { size: [h, w], first: [py, px] }),
            };
            let lengths = pixels.lengths();
            // SAFETY: whole pixels of a borrowed tensor; each of the four writes pixels of its own.
            unsafe {
                multiply(self.level, &self.pool, &pixels, n * h * w, &lengths, weight, &finish)
            }
        }
        Ok(Tensor::new(shape, out))
    }

    fn normalize(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        Ok(normalized(self.level, &self.pool, x.into(), norm, Activation::Identity))
    }

    fn dense(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        Ok(self.linear_of(x, linear, activation, add))
    }

    fn norm_dense(
        &self,
        x: &Tensor,
        norm: &Norm,
        linear: &Linear,
        activation: Activation,
    ) -> Result<Tensor> {
        let x = self.normalize(x, norm)?;
        Ok(self.linear_of(&x, linear, activation, Add::Nothing))
    }

    fn norm_geglu(&self, x: &Tensor, norm: &Norm, linear: &Linear) -> Result<Tensor> {
        let x = self.normalize(x, norm)?;
        let [n, h, w, c] = x.shape;
        let weight = &linear.weight;
        let half = weight.outputs / 2;
        let mut out = self.pool.take(n * h * w * half);
        let shared = Shared::new(out.values_mut());
        if half.is_multiple_of(weight.width) {
            let rows = Plain::new(x.values(), c);
            let finish = Gate { out: shared };
            // SAFETY: rows of a tensor that outlives the call; `out` has a value for each row and gate.
            unsafe { multiply(self.level, &self.pool, &rows, n * h * w, &[c], weight, &finish) }
        } else {
            let both = self.linear_of(&x, linear, Activation::Identity, Add::Nothing);
            finish::gate(self.level, both.values(), half, shared);
        }
        Ok(Tensor::new([n, h, w, half], out))
    }

    fn self_attention(&self, qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        let [n, h, w, c3] = qkv.shape;
        let (c, size) = (c3 / 3, h * w * c3);
        let width = c / heads;
        let part = |sample: usize, kind: usize, head: usize| Part {
            values: &qkv.values()[sample * size..(sample + 1) * size],
            pitch: c3,
            start: kind * c + head * width,
            width,
        };
        let packed: Vec<Head> = (0..n * heads)
            .into_par_iter()
            .map(|i| {
                let (sample, head) = (i / heads, i % heads);
                Head::new(self.level, &self.pool, part(sample, 1, head), part(sample, 2, head))
            })
            .collect();
        let mut out = self.pool.take(n * h * w * c);
        let queries = |sample, head| part(sample, 0, head);
        let head = |sample: usize, head: usize| &packed[sample * heads + head];
        let out_values = out.values_mut();
        attend(self.level, &self.pool, [n, heads], queries, head, causal, out_values);
        Ok(Tensor::new([n, h, w, c], out))
    }

    fn cross_attention(
        &self,
        q: &Tensor,
        keys_values: &Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let [n, h, w, c] = q.shape;
        let [prompts, _, tokens, c2] = keys_values.shape;
        let width = c / heads;
        let part = |prompt: usize, start: usize| Part {
            values: &keys_values.values()[prompt * tokens * c2..(prompt + 1) * tokens * c2],
            pitch: c2,
            start,
            width,
        };
        let packed: Vec<Option<Head>> = (0..prompts * heads)
            .into_par_iter()
            .map(|i| {
                let (prompt, start) = (i / heads, i % heads * width);
                rows.contains(&prompt).then(|| {
                    let (keys, values) = (part(prompt, start), part(prompt, c + start));
                    Head::new(self.level, &self.pool, keys, values)
                })
            })
            .collect();
        let mut out = self.pool.take(n * h * w * c);
        let queries = |sample: usize, head: usize| Part {
            values: &q.values()[sample * h * w * c..(sample + 1) * h * w * c],
            pitch: c,
            start: head * width,
            width,
        };
        let lost = || Error::internal("a sample reads a prompt that is not there");
        let chosen: Vec<&Head> = rows
            .iter()
            .flat_map(|row| (0..heads).map(move |head| row * heads + head))
            .map(|index| packed.get(index).and_then(Option::as_ref).ok_or_else(lost))
            .collect::<Result<_>>()?;
        let head = |sample: usize, head: usize| chosen[sample * heads + head];
        attend(self.level, &self.pool, [n, heads], queries, head, false, out.values_mut());
        Ok(Tensor::new([n, h, w, c], out))
    }

    fn combine(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::internal("no terms to combine"));
        };
        let [n, h, w, c] = first.shape;
        let size = (h * w * c).max(1);
        let mut out = self.pool.take(n * h * w * c);
        out.values_mut().fill(0.0);
        for (x, weights) in terms {
            let samples = out.values_mut().chunks_mut(size).zip(x.values().chunks(size));
            for ((out, values), weight) in samples.zip(*weights) {
                out.iter_mut().zip(values).for_each(|(y, v)| *y += weight * v);
            }
        }
        Ok(Tensor::new([n, h, w, c], out))
    }
}
