//! In: packed weights and activations. Out: activations. The operations of the waist in bf16: weights and
//! activations are kept in it, sums, epilogues and statistics are f32 or f64. What comes in from the host and what
//! goes out (latents, predictions, pictures) stays in f32.
#![allow(unsafe_code, reason = "products whose results are seen here")]

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod band;
mod conv;
mod finish;
mod function;
mod head;
mod heads;
#[cfg(test)]
mod instructions;
mod norm;
mod packed;
mod padded;
#[cfg(target_arch = "x86_64")]
mod pair;
mod product;
mod source;
mod statistics;
mod task;
mod tensor;
#[cfg(test)]
mod tests;
mod tile;
mod units;
mod vector;
mod winograd;

use crate::backend::cpu::memory::{Pool, SLACK_BYTES, Tensor as Full};
use crate::backend::cpu::{Cpu, Level, Norm};
use crate::backend::{
    Activation, Add, Backend, ConvSpec, Footprint, HostTensor, NormSpec, Numerics, Sources,
};
use crate::error::{Error, Result};
use band::Filling;
pub(in crate::backend) use conv::Conv;
use finish::{Gate, Result16, Write};
use norm::{Target, normalize};
use packed::{COLUMNS, Packed};
use padded::{Padded, Window};
use product::product;
use source::{Places, Source};
use statistics::Factors;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
pub(in crate::backend) use tensor::Tensor;
use tensor::{Brain, Data, Layout};

/// The backend of the machine's own processor, bf16.
pub struct CpuBf16 {
    level: Level,
    pool: Arc<Pool>,
    /// The bytes of all packed weights.
    weights: Arc<AtomicU64>,
    /// What is done in f32.
    full: Cpu,
    /// Pictures of which a convolution would have to copy more bytes are convolved in bands.
    whole: usize,
    /// Whether no convolution is done by Winograd's method.
    direct: bool,
}

/// A linear layer.
pub struct Linear {
    weight: Packed,
}

impl CpuBf16 {
    /// A backend that uses the instructions of `level`, or, where this processor lacks them, the best it has.
    pub fn new(level: Level) -> Self {
        let level = if level.is_available() { level } else { Level::best() };
        let full = Cpu::new(level);
        let (pool, weights) = (Arc::default(), Arc::default());
        CpuBf16 { level, pool, weights, full, whole: band::WHOLE, direct: false }
    }

    /// The same without Winograd's method, to measure what share of all products a convolution reaches.
    pub fn direct(level: Level) -> Self {
        CpuBf16 { direct: true, ..CpuBf16::new(level) }
    }

    /// The same, all of whose convolutions of pictures of more than one pixel go in bands.
    #[cfg(test)]
    fn in_bands(level: Level) -> Self {
        CpuBf16 { whole: 0, ..CpuBf16::new(level) }
    }

    /// The most bytes of activations that `work` holds at one time.
    #[cfg(test)]
    pub(crate) fn held_during(&self, work: impl FnOnce()) -> u64 {
        let mut full = 0;
        let held = self.pool.during(|| full = self.full.held_during(work));
        held + full
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// activation(rows of `x` times linear) + add
    fn linear_of(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let [n, h, w, _] = x.shape;
        let shape = [n, h, w, linear.weight.outputs];
        let mut out = Result16::new(&self.pool, shape);
        let finish = Write::new(out.shared(), activation, &add, &linear.weight);
        // SAFETY: `out` has a value for each row and output.
        unsafe { self.rows_of(x, &linear.weight, &finish) }
        out.tensor(shape)
    }

    /// The product of the pixels of `x` and `weight`.
    ///
    /// # Safety
    /// As for `product`.
    unsafe fn rows_of(&self, x: &Tensor, weight: &Packed, finish: &impl finish::Finish) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(source) = Source::plain(x.into()) {
                return product(self.level, &source, weight, finish);
            }
            let rows = x.shape[..3].iter().product();
            let flat = Tensor { shape: [1, 1, rows, x.channels()], data: x.data.clone() };
            let padded = Padded::copied(&self.pool, (&flat).into(), [1, rows], Window::pixel());
            let source = Source::padded(&padded, 1, &source::pixels(rows), [0, 0], Places::Same);
            product(self.level, &source, weight, finish)
        }
    }

    /// activation(norm(x)) in rows.
    fn normalized(&self, x: Sources<'_, Tensor>, norm: &Norm, activation: Activation) -> Tensor {
        let [n, h, w, _] = x.first.shape;
        let channels = norm.scale.len();
        let shape = [n, h, w, channels];
        let mut out = Brain::take(&self.pool, shape.iter().product());
        let layout = Layout::dense(shape);
        let target = Target { values: out.values_mut().as_mut_ptr(), layout, channels };
        // SAFETY: `out` has a value for each of `x`.
        unsafe { normalize(self.level, x, norm, activation, target) }
        Tensor::new(shape, out)
    }

    /// What convolutions are done with.
    fn means(&self) -> (Level, &Arc<Pool>, usize) {
        (self.level, &self.pool, self.whole)
    }

    /// Calls `operation` with the sources in bf16.
    fn with_sources<R>(
        &self,
        x: Sources<'_, Tensor>,
        operation: impl FnOnce(Sources<'_, Tensor>) -> R,
    ) -> R {
        let first = x.first.brain(&self.pool);
        let second = x.second.map(|x| x.brain(&self.pool));
        operation(Sources { first: &first, second: second.as_deref() })
    }

    /// Calls `operation` with what is added to every pixel in bf16.
    fn with_add<R>(&self, add: Add<'_, Tensor>, operation: impl FnOnce(Add<'_, Tensor>) -> R) -> R {
        match add {
            Add::Channels(x) => operation(Add::Channels(&x.brain(&self.pool))),
            other => operation(other),
        }
    }
}

impl Backend for CpuBf16 {
    type Tensor = Tensor;
    type Conv = Conv;
    type Linear = Linear;
    type Norm = Norm;

    fn numerics(&self) -> Numerics {
        Numerics {
            device: "cpu".into(),
            kernels: self.level.name().into(),
            precision: "bf16".into(),
        }
    }

    fn trim(&self) -> u64 {
        self.pool.empty() as u64 + self.full.trim()
    }

    fn weight_bytes(&self, _: u64) -> u64 {
        self.weights.load(Ordering::Relaxed)
    }

    fn footprint(&self) -> Footprint {
        Footprint {
            value: finish::value_bytes,
            idle: SLACK_BYTES as u64,
            // A task's block of rows and sums.
            thread: 3 << 20,
            conv: match self.level {
                Level::Amx => |shape, spec, _| conv::packed_bytes(Level::Amx, shape, spec),
                _ => |shape, spec, _| conv::packed_bytes(Level::Avx512Bf16, shape, spec),
            },
            linear: |[outputs, inputs], _| packed::packed_bytes([1, inputs, outputs]),
            copied: match self.level {
                Level::Amx => |x| conv::copied_bytes(Level::Amx, x),
                _ => |x| conv::copied_bytes(Level::Avx512Bf16, x),
            },
        }
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        let means = (self.level, self.direct, &self.pool);
        Conv::new(means, &weight, bias.as_ref(), spec, &self.weights)
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        let [outputs, inputs]: [usize; 2] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a linear layer's weight has not two axes"))?;
        let bias = bias.as_ref().map(HostTensor::data);
        let weight = Packed::of(&self.pool, [1, inputs, outputs], bias, weight.data());
        self.weights.fetch_add(weight.bytes(), Ordering::Relaxed);
        Ok(Linear { weight })
    }

    fn norm(&self, scale: HostTensor, shift: HostTensor, spec: NormSpec) -> Result<Norm> {
        self.full.norm(scale, shift, spec)
    }

    fn upload(&self, host: &HostTensor) -> Result<Tensor> {
        Ok(self.full.upload(host)?.into())
    }

    fn download(&self, x: &Tensor) -> Result<HostTensor> {
        self.full.download(&x.widened(&self.pool))
    }

    fn shape(&self, x: &Tensor) -> [usize; 4] {
        x.shape
    }

    fn gather(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let Data::Brain(values) = &x.data else {
            return Ok(self.full.gather(&x.widened(&self.pool), rows)?.into());
        };
        let [_, h, w, c] = x.shape;
        let size = h * w * c;
        let mut out = Brain::take(&self.pool, rows.len() * size);
        for (out, &row) in out.values_mut().chunks_mut(size.max(1)).zip(rows) {
            out.copy_from_slice(&values.values()[row * size..(row + 1) * size]);
        }
        Ok(Tensor::new([rows.len(), h, w, c], out))
    }

    fn conv2d(&self, x: Sources<'_, Tensor>, conv: &Conv, add: Add<'_, Tensor>) -> Result<Tensor> {
        self.with_add(add, |add| self.with_sources(x, |x| conv.run(self.means(), x, add)))
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
        conv: &Conv,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let [n, h, w, _] = x.first.shape;
        let (geometry, window) = conv.geometry([h, w])?;
        let (level, pool) = (self.level, &self.pool);
        let shape = [n, h, w, norm.scale.len()];
        let fitting = window.fitting(shape, self.whole);
        if let (NormSpec::Group { groups, epsilon }, None) = (norm.spec, fitting) {
            return Ok(self.with_sources(x, |x| {
                let factors = Factors::new(level, x, groups, epsilon, norm);
                let filling = Filling::Normed(&factors, activation);
                self.with_add(add, |add| conv.run_bands(level, pool, x, filling, &geometry, add))
            }));
        }
        let window = fitting.map_or(window, |(window, _)| window);
        let mut padded = Padded::new(pool, shape, window);
        let target = padded.target();
        // SAFETY: `padded` has room for all channels of each pixel.
        self.with_sources(x, |x| unsafe { normalize(level, x, norm, activation, target) });
        padded.shift();
        self.with_add(add, |add| Ok(conv.run_padded(level, pool, &padded, n, &geometry, add)))
    }

    fn upsample_conv2d(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
        conv: &Conv,
    ) -> Result<Tensor> {
        conv.run_enlarged(self.means(), &x.brain(&self.pool), [height, width])
    }

    fn normalize(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        Ok(self.with_sources(x.into(), |x| self.normalized(x, norm, Activation::Identity)))
    }

    fn dense(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let x = x.brain(&self.pool);
        Ok(self.with_add(add, |add| self.linear_of(&x, linear, activation, add)))
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
        let [n, h, w, _] = x.shape;
        let half = linear.weight.outputs / 2;
        let shape = [n, h, w, half];
        if half.is_multiple_of(COLUMNS) {
            let mut out = Result16::new(&self.pool, shape);
            let finish = Gate { out: out.shared() };
            // SAFETY: `out` has a value for each row and gate.
            unsafe { self.rows_of(&x, &linear.weight, &finish) }
            return Ok(out.tensor(shape));
        }
        let both = self.linear_of(&x, linear, Activation::Identity, Add::Nothing);
        let both = both.widened(&self.pool);
        let mut out = self.pool.take(shape.iter().product());
        crate::backend::cpu::finish::gate(
            self.level,
            both.values(),
            half,
            crate::backend::cpu::memory::Shared::new(out.values_mut()),
        );
        Ok(Tensor::narrowed(&self.pool, &Full::new(shape, out)))
    }

    fn self_attention(&self, qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        Ok(heads::of_themselves(self.level, &self.pool, &qkv.brain(&self.pool), heads, causal))
    }

    fn cross_attention(
        &self,
        q: &Tensor,
        keys_values: &Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let (q, keys_values) = (q.brain(&self.pool), keys_values.brain(&self.pool));
        heads::of_others(self.level, &self.pool, &q, (&keys_values, rows), heads)
    }

    fn combine(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        let wide: Vec<Full> = terms.iter().map(|(x, _)| x.widened(&self.pool)).collect();
        let terms: Vec<(&Full, &[f32])> =
            wide.iter().zip(terms).map(|(x, (_, weights))| (x, *weights)).collect();
        Ok(self.full.combine(&terms)?.into())
    }
}
