//! In: packed weights and activations. Out: activations. The operations of the waist by kernels for the
//! processor at hand: no convolution is unrolled in memory, no scores are kept, and bias, residual and
//! activation are applied while a block of a product is still in the cache.
#![allow(unsafe_code, reason = "products over rows whose lifetimes are seen here")]

mod attention;
mod bf16;
mod conv;
mod finish;
mod function;
#[cfg(all(test, target_os = "linux"))]
mod guard;
mod level;
mod lines;
mod memory;
mod norm;
mod patch;
mod product;
mod region;
mod rows;
mod simd;
#[cfg(test)]
mod tests;
mod weight;
mod winograd;

pub use bf16::CpuBf16;
pub use level::Level;
pub(super) use memory::Tensor;
pub(super) use norm::Norm;

use crate::backend::{
    Activation, Add, Backend, ConvSpec, Footprint, HostTensor, NormSpec, Numerics, Sources,
};
use crate::error::{Error, Result};
pub(super) use conv::Conv;

use attention::{Head, Part, attend};
use finish::{Gate, Write};
use memory::{Pool, Shared};
use norm::normalized;
use product::multiply;
use rayon::prelude::*;
use rows::Plain;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weight::{Packed, Stored};

/// The backend of the machine's own processor, f32.
pub struct Cpu {
    level: Level,
    pool: Arc<Pool>,
    /// The bytes of all packed weights.
    weights: Arc<AtomicU64>,
}

/// A linear layer.
pub struct Linear {
    weight: Packed<Stored>,
}

impl Cpu {
    /// A backend that uses the instructions of `level`, or, where this processor lacks them, the best it has. Of
    /// the levels that differ only in bf16 it is the first.
    pub fn new(level: Level) -> Self {
        let level = if level.is_available() { level } else { Level::best() }.full();
        Cpu { level, pool: Arc::default(), weights: Arc::default() }
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The most bytes of activations that `work` holds at one time.
    #[cfg(test)]
    pub(crate) fn held_during(&self, work: impl FnOnce()) -> u64 {
        self.pool.during(work)
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

    fn weight_bytes(&self, _: u64) -> u64 {
        self.weights.load(Ordering::Relaxed)
    }

    fn footprint(&self) -> Footprint {
        Footprint {
            idle: memory::SLACK_BYTES as u64,
            // A task's block of rows, patches and products.
            thread: 3 << 20,
            conv: conv::packed_bytes,
            linear: |[outputs, inputs], half| {
                let numbers = inputs as u64 * outputs.next_multiple_of(16) as u64;
                numbers * if half { 2 } else { 4 }
            },
            ..Footprint::default()
        }
    }

    fn trim(&self) -> u64 {
        let bytes = self.pool.empty() as u64;
        lines::tidy();
        bytes
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        Conv::new(self.level, &self.pool, &weight, bias.as_ref(), spec, &self.weights)
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let [outputs, inputs]: [usize; 2] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a linear layer's weight has not two axes"))?;
        let bias = bias.as_ref().map(HostTensor::data);
        let values = weight.data();
        let at = |input: usize, output: usize| values[output * inputs + input];
        let weight = Packed::new(self.level, &self.pool, [inputs, outputs], bias, at).stored();
        self.weights.fetch_add(weight.bytes(), Ordering::Relaxed);
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
        conv.run(self.level, &self.pool, x, add)
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
        conv.run_enlarged(self.level, &self.pool, x, [height, width])
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
