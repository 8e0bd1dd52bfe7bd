//! In: packed weights and activations as candle tensors, f32. Out: activations. The definition of
//! every operation, in plain lines; sums that decide a normalisation are taken in f64.
//!
//! Each sample is computed by products of its own: an f32 product changes its last bits with the
//! number of rows, so a product over the whole batch would let samples see each other.

use super::matrix::{Matrix, multiply};
use super::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Numerics, Sources};
use crate::error::{Error, Result};
use candle_core::{CpuStorage, Device, Storage, Tensor};
use parking_lot::RwLockReadGuard;
use rayon::prelude::*;
use std::ops::{Deref, Range};

/// The most values a scratch buffer holds: unrolled pixels of a convolution, scores of an attention.
const SCRATCH: usize = 1 << 23;

/// The fewest values worth a thread's while; below, splitting costs more than it saves.
const SHARE: usize = 1 << 14;

/// `values` in runs of `length`, for as many threads as it is worth.
fn runs(values: &mut [f32], length: usize) -> impl IndexedParallelIterator<Item = &mut [f32]> {
    values.par_chunks_mut(length.max(1)).with_min_len(SHARE / length.max(1) + 1)
}

/// The backend that defines what is right: candle on the CPU, f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A convolution: `weight` is (kernel height x kernel width x in, out).
pub struct Conv {
    weight: Packed,
    kernel: [usize; 2],
    spec: ConvSpec,
}

/// A linear layer: `weight` is (in, out).
pub struct Linear {
    weight: Packed,
}

/// (inputs, outputs) and a bias for each output.
struct Packed {
    values: Vec<f32>,
    inputs: usize,
    outputs: usize,
    bias: Option<Vec<f32>>,
}

/// Scale and shift of a normalisation.
pub struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    spec: NormSpec,
}

/// The values of a tensor, for reading.
struct Values<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `values` hands out no other.
            _ => &[],
        }
    }
}

/// The values of `x`, which all tensors of this backend hold contiguously.
fn values(x: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => {
            Ok(Values { storage, range: start..end })
        }
        _ => Err(Error::internal("a reference tensor is not contiguous f32 in host memory")),
    }
}

fn tensor(shape: impl Into<candle_core::Shape>, values: Vec<f32>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// (n, h, w, c)
fn dims(x: &Tensor) -> Result<[usize; 4]> {
    let (n, h, w, c) = x.dims4()?;
    Ok([n, h, w, c])
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => {
            0.5 * x * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
        }
    }
}

/// activation(`rows` x weight + bias), appended to `out`.
fn product(
    rows: &[f32],
    weight: &Packed,
    activation: Activation,
    out: &mut Vec<f32>,
) -> Result<()> {
    let Packed { values, inputs, outputs, bias } = weight;
    let start = out.len();
    out.resize(start + rows.len() / inputs * outputs, 0.0);
    let out = &mut out[start..];
    multiply(Matrix::rows(rows, *inputs), Matrix::rows(values, *outputs), out)?;
    runs(out, *outputs).for_each(|row| {
        if let Some(bias) = bias {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        if activation != Activation::Identity {
            row.iter_mut().for_each(|y| *y = activate(activation, *y));
        }
    });
    Ok(())
}

/// Adds the second operand of an epilogue to `out`, whose channels are the last axis.
fn epilogue(add: Add<'_, Tensor>, channels: usize, out: &mut [f32]) -> Result<()> {
    match add {
        Add::Nothing => {}
        Add::Residual(x) => {
            out.iter_mut().zip(&*values(x)?).for_each(|(y, v)| *y += v);
        }
        Add::Channels(x) => {
            let values = &*values(x)?;
            runs(out, channels)
                .for_each(|row| row.iter_mut().zip(values).for_each(|(y, v)| *y += v));
        }
    }
    Ok(())
}

/// The channels of two sources side by side.
fn join(x: Sources<'_, Tensor>) -> Result<Tensor> {
    match x.second {
        None => Ok(x.first.clone()),
        Some(second) => Ok(Tensor::cat(&[x.first, second], 3)?.contiguous()?),
    }
}

/// activation(norm(x))
fn normalized(x: &Tensor, norm: &Norm, activation: Activation) -> Result<Tensor> {
    let [n, h, w, c] = dims(x)?;
    let mut out = values(x)?.to_vec();
    let finish = |y: f32, mean: f64, scale: f64, channel: usize| {
        let y = ((f64::from(y) - mean) * scale) as f32;
        activate(activation, y * norm.scale[channel] + norm.shift[channel])
    };
    match norm.spec {
        NormSpec::Layer { epsilon } => runs(&mut out, c).for_each(|row| {
            let (mean, scale) = moments(row.iter(), c, epsilon);
            for (channel, y) in row.iter_mut().enumerate() {
                *y = finish(*y, mean, scale, channel);
            }
        }),
        NormSpec::Group { groups, epsilon } => {
            let width = c / groups;
            for sample in out.chunks_mut((h * w * c).max(1)) {
                let statistics: Vec<(f64, f64)> = (0..groups)
                    .into_par_iter()
                    .with_min_len(SHARE / (h * w * width).max(1) + 1)
                    .map(|group| {
                        let channels = group * width..(group + 1) * width;
                        let values = sample.chunks(c).flat_map(|row| &row[channels.clone()]);
                        moments(values, h * w * width, epsilon)
                    })
                    .collect();
                runs(sample, c).for_each(|row| {
                    for (channel, y) in row.iter_mut().enumerate() {
                        let (mean, scale) = statistics[channel / width];
                        *y = finish(*y, mean, scale, channel);
                    }
                });
            }
        }
    }
    tensor((n, h, w, c), out)
}

/// Mean and 1 / sqrt(variance + epsilon) of `count` values, in f64, the variance about the mean.
fn moments<'a>(
    values: impl Iterator<Item = &'a f32> + Clone,
    count: usize,
    epsilon: f64,
) -> (f64, f64) {
    let mean = values.clone().map(|&v| f64::from(v)).sum::<f64>() / count as f64;
    let variance = values.map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count as f64;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// The pixels under the kernel for output rows `rows`, unrolled: (outputs, kernel x channels).
fn unroll(
    sample: &[f32],
    [h, w, c]: [usize; 3],
    conv: &Conv,
    rows: Range<usize>,
    out_width: usize,
) -> Vec<f32> {
    let [kh, kw] = conv.kernel;
    let length = kh * kw * c;
    let mut unrolled = vec![0.0; rows.len() * out_width * length];
    runs(&mut unrolled, length).enumerate().for_each(|(index, patch)| {
        let (row, column) = (rows.start + index / out_width, index % out_width);
        for (tap, pixel) in patch.chunks_mut(c).enumerate() {
            let y = (row * conv.spec.stride + tap / kw).checked_sub(conv.spec.before);
            let x = (column * conv.spec.stride + tap % kw).checked_sub(conv.spec.before);
            if let (Some(y), Some(x)) = (y, x)
                && y < h
                && x < w
            {
                let start = (y * w + x) * c;
                pixel.copy_from_slice(&sample[start..start + c]);
            }
        }
    });
    unrolled
}

/// conv(x) + add, by unrolled blocks of output rows.
fn convolve(x: &Tensor, conv: &Conv, add: Add<'_, Tensor>) -> Result<Tensor> {
    let [n, h, w, c] = dims(x)?;
    let [kh, kw] = conv.kernel;
    let ConvSpec { stride, before, after, .. } = conv.spec;
    let length = |length: usize, kernel: usize| {
        (length + before + after).checked_sub(kernel).map(|rest| rest / stride + 1)
    };
    let (Some(out_height), Some(out_width)) = (length(h, kh), length(w, kw)) else {
        return Err(Error::internal(format!(
            "{h}x{w} pixels are fewer than a kernel of {kh}x{kw}"
        )));
    };
    let channels = conv.weight.outputs;
    let block = (SCRATCH / (out_width * conv.weight.inputs).max(1)).max(1);
    let mut out = Vec::with_capacity(n * out_height * out_width * channels);
    for sample in values(x)?.chunks(h * w * c) {
        for start in (0..out_height).step_by(block) {
            let rows = start..(start + block).min(out_height);
            let unrolled = unroll(sample, [h, w, c], conv, rows, out_width);
            product(&unrolled, &conv.weight, Activation::Identity, &mut out)?;
        }
    }
    epilogue(add, channels, &mut out)?;
    tensor((n, out_height, out_width, channels), out)
}

/// softmax(q k^T / sqrt(width)) v for one head of one sample, a block of queries at a time. Writes the
/// head's columns of `out`, whose rows are `channels` long.
fn attend(
    [q, k, v]: [Matrix<'_>; 3],
    causal: bool,
    out: &mut [f32],
    channels: usize,
) -> Result<()> {
    let (tokens, others, width) = (q.rows, k.rows, q.columns);
    let scale = 1.0 / (width as f32).sqrt();
    let block = (SCRATCH / others.max(1)).clamp(1, tokens);
    let mut mixed = vec![0.0; block * width];
    for start in (0..tokens).step_by(block) {
        let rows = block.min(tokens - start);
        let mut scores = vec![0.0; rows * others];
        multiply(q.block(start, rows), k.transposed(), &mut scores)?;
        runs(&mut scores, others).enumerate().for_each(|(row, scores)| {
            scores.iter_mut().for_each(|s| *s *= scale);
            softmax(scores, if causal { start + row + 1 } else { others });
        });
        let mixed = &mut mixed[..rows * width];
        multiply(Matrix::rows(&scores, others), v, mixed)?;
        let places = out.chunks_mut(channels).skip(start);
        for (place, values) in places.zip(mixed.chunks(width)) {
            place[..width].copy_from_slice(values);
        }
    }
    Ok(())
}

/// Turns the first `seen` scores into weights that sum to 1, and the others into 0.
fn softmax(scores: &mut [f32], seen: usize) {
    let (seen, hidden) = scores.split_at_mut(seen);
    let highest = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    seen.iter_mut().for_each(|s| *s = (*s - highest).exp());
    let sum = seen.iter().map(|&s| f64::from(s)).sum::<f64>() as f32;
    seen.iter_mut().for_each(|s| *s /= sum);
    hidden.fill(0.0);
}

impl Backend for Reference {
    type Tensor = Tensor;
    type Conv = Conv;
    type Linear = Linear;
    type Norm = Norm;

    fn numerics(&self) -> Numerics {
        Numerics::reference()
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        let [outputs, input, kh, kw]: [usize; 4] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a convolution's weight has not four axes"))?;
        let values = tensor((outputs, input, kh, kw), weight.into_data())?;
        let values = values.permute((2, 3, 1, 0))?.contiguous()?;
        let weight = Packed {
            values: self::values(&values)?.to_vec(),
            inputs: kh * kw * input,
            outputs,
            bias: bias.map(HostTensor::into_data),
        };
        Ok(Conv { weight, kernel: [kh, kw], spec })
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let [outputs, inputs]: [usize; 2] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a linear layer's weight has not two axes"))?;
        let values = tensor((outputs, inputs), weight.into_data())?.t()?.contiguous()?;
        let values = self::values(&values)?.to_vec();
        let bias = bias.map(HostTensor::into_data);
        Ok(Linear { weight: Packed { values, inputs, outputs, bias } })
    }

    fn norm(&self, scale: HostTensor, shift: HostTensor, spec: NormSpec) -> Result<Norm> {
        Ok(Norm { scale: scale.into_data(), shift: shift.into_data(), spec })
    }

    fn upload(&self, host: &HostTensor) -> Result<Tensor> {
        tensor(host.shape().to_vec(), host.data().to_vec())
    }

    fn download(&self, x: &Tensor) -> Result<HostTensor> {
        HostTensor::new(x.dims(), values(x)?.to_vec())
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        let mut shape = [1; 4];
        shape.iter_mut().zip(x.dims()).for_each(|(s, &d)| *s = d);
        shape
    }

    fn gather(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let samples = rows.iter().map(|&row| x.narrow(0, row, 1));
        let samples = samples.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&samples, 0)?.contiguous()?)
    }

    fn conv2d(&self, x: Sources<'_, Tensor>, conv: &Conv, add: Add<'_, Tensor>) -> Result<Tensor> {
        convolve(&join(x)?, conv, add)
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
        conv: &Conv,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        convolve(&normalized(&join(x)?, norm, activation)?, conv, add)
    }

    fn upsample_conv2d(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
        conv: &Conv,
    ) -> Result<Tensor> {
        let [n, h, w, c] = dims(x)?;
        let mut out = vec![0.0; n * height * width * c];
        let values = &*values(x)?;
        runs(&mut out, c).enumerate().for_each(|(index, pixel)| {
            let (column, row) = (index % width, index / width % height);
            let sample = index / (width * height);
            let source = (sample * h + row * h / height) * w + column * w / width;
            pixel.copy_from_slice(&values[source * c..(source + 1) * c]);
        });
        convolve(&tensor((n, height, width, c), out)?, conv, Add::Nothing)
    }

    fn normalize(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        normalized(x, norm, Activation::Identity)
    }

    fn dense(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let [n, h, w, c] = dims(x)?;
        let channels = linear.weight.outputs;
        let mut out = Vec::with_capacity(n * h * w * channels);
        for sample in values(x)?.chunks(h * w * c) {
            product(sample, &linear.weight, activation, &mut out)?;
        }
        epilogue(add, channels, &mut out)?;
        tensor((n, h, w, channels), out)
    }

    fn norm_dense(
        &self,
        x: &Tensor,
        norm: &Norm,
        linear: &Linear,
        activation: Activation,
    ) -> Result<Tensor> {
        let x = normalized(x, norm, Activation::Identity)?;
        self.dense(&x, linear, activation, Add::Nothing)
    }

    fn norm_geglu(&self, x: &Tensor, norm: &Norm, linear: &Linear) -> Result<Tensor> {
        let both = self.norm_dense(x, norm, linear, Activation::Identity)?;
        let [n, h, w, c] = dims(&both)?;
        let half = c / 2;
        let mut out = vec![0.0; n * h * w * half];
        runs(&mut out, half).zip(values(&both)?.par_chunks(c)).for_each(|(out, row)| {
            let (value, gate) = row.split_at(half);
            for ((y, &a), &b) in out.iter_mut().zip(value).zip(gate) {
                *y = a * activate(Activation::Gelu, b);
            }
        });
        tensor((n, h, w, half), out)
    }

    fn self_attention(&self, qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        let [n, h, w, c3] = dims(qkv)?;
        let (c, width) = (c3 / 3, c3 / 3 / heads);
        let mut out = vec![0.0; n * h * w * c];
        for (qkv, out) in values(qkv)?.chunks(h * w * c3).zip(out.chunks_mut(h * w * c)) {
            for start in (0..c).step_by(width) {
                let part = |index: usize| Matrix::columns(qkv, c3, index * c + start, width);
                attend([part(0), part(1), part(2)], causal, &mut out[start..], c)?;
            }
        }
        tensor((n, h, w, c), out)
    }

    fn cross_attention(
        &self,
        q: &Tensor,
        keys_values: &Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let [n, h, w, c] = dims(q)?;
        let [_, _, tokens, c2] = dims(keys_values)?;
        let width = c / heads;
        let mut out = vec![0.0; n * h * w * c];
        let (q, all) = (values(q)?, values(keys_values)?);
        let samples = q.chunks(h * w * c).zip(out.chunks_mut(h * w * c));
        for ((q, out), &row) in samples.zip(rows) {
            let both = &all[row * tokens * c2..(row + 1) * tokens * c2];
            for start in (0..c).step_by(width) {
                let q = Matrix::columns(q, c, start, width);
                let k = Matrix::columns(both, c2, start, width);
                let v = Matrix::columns(both, c2, c + start, width);
                attend([q, k, v], false, &mut out[start..], c)?;
            }
        }
        tensor((n, h, w, c), out)
    }

    fn combine(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::internal("no terms to combine"));
        };
        let [n, h, w, c] = dims(first)?;
        let mut out = vec![0.0; n * h * w * c];
        for (x, weights) in terms {
            let values = values(x)?;
            let samples = out.chunks_mut(h * w * c).zip(values.chunks(h * w * c));
            for ((out, values), weight) in samples.zip(*weights) {
                out.iter_mut().zip(values).for_each(|(y, v)| *y += weight * v);
            }
        }
        tensor((n, h, w, c), out)
    }
}
