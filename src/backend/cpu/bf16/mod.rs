//! In: packed weights and activations. Out: activations. The operations of the waist in bf16: weights and
//! activations are kept in it, sums, epilogues and statistics are f32 or f64.

mod tensor;

use crate::backend::cpu::memory::{Pool, Tensor as Full};
use crate::backend::cpu::{Conv, Cpu, Level, Linear, Norm};
use crate::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Numerics, Sources};
use crate::error::Result;
use half::bf16;
use rayon::prelude::*;
use std::sync::Arc;
use tensor::Tensor;

/// The backend of the machine's own processor, bf16.
pub struct CpuBf16 {
    level: Level,
    pool: Arc<Pool>,
    full: Cpu,
}

/// An [`Add`] in f32.
enum Wide {
    Nothing,
    Residual(Full),
    Channels(Full),
}

impl Wide {
    fn add(&self) -> Add<'_, Full> {
        match self {
            Wide::Nothing => Add::Nothing,
            Wide::Residual(x) => Add::Residual(x),
            Wide::Channels(x) => Add::Channels(x),
        }
    }
}

/// The same numbers, rounded.
fn rounded(host: HostTensor) -> Result<HostTensor> {
    let shape = host.shape().to_vec();
    let mut values = host.into_data();
    values.par_iter_mut().with_min_len(1 << 14).for_each(|v| *v = bf16::from_f32(*v).to_f32());
    HostTensor::new(shape, values)
}

impl CpuBf16 {
    /// A backend that uses the instructions of `level`, or, where this processor lacks them, the best it has.
    pub fn new(level: Level) -> Self {
        let level = if level.is_available() { level } else { Level::best() };
        CpuBf16 { level, pool: Arc::default(), full: Cpu::new(level) }
    }

    /// The instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    fn wide(&self, add: Add<'_, Tensor>) -> Wide {
        match add {
            Add::Nothing => Wide::Nothing,
            Add::Residual(x) => Wide::Residual(x.widened(&self.pool)),
            Add::Channels(x) => Wide::Channels(x.widened(&self.pool)),
        }
    }

    /// What `operation` makes of the sources in f32, in bf16.
    fn with_sources(
        &self,
        x: Sources<'_, Tensor>,
        operation: impl FnOnce(Sources<'_, Full>) -> Result<Full>,
    ) -> Result<Tensor> {
        let first = x.first.widened(&self.pool);
        let second = x.second.map(|x| x.widened(&self.pool));
        let result = operation(Sources { first: &first, second: second.as_ref() })?;
        Ok(self.kept(result))
    }

    /// Results of few channels stay as they are: they are predictions and pictures.
    fn kept(&self, full: Full) -> Tensor {
        if full.channels() < FEW { full.into() } else { Tensor::narrowed(&self.pool, &full) }
    }
}

/// Fewer channels than this are no layer within a network, but what comes out of it: f32.
const FEW: usize = 16;

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

    fn weight_bytes(&self, numbers: u64) -> u64 {
        self.full.weight_bytes(numbers)
    }

    fn conv(&self, weight: HostTensor, bias: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        self.full.conv(rounded(weight)?, bias, spec)
    }

    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Linear> {
        self.full.linear(rounded(weight)?, bias)
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
        match &x.data {
            tensor::Data::Full(x) => Ok(self.full.gather(x, rows)?.into()),
            tensor::Data::Brain(_) => {
                let x = self.full.gather(&x.widened(&self.pool), rows)?;
                Ok(Tensor::narrowed(&self.pool, &x))
            }
        }
    }

    fn conv2d(&self, x: Sources<'_, Tensor>, conv: &Conv, add: Add<'_, Tensor>) -> Result<Tensor> {
        let add = self.wide(add);
        self.with_sources(x, |x| self.full.conv2d(x, conv, add.add()))
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
        conv: &Conv,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let add = self.wide(add);
        self.with_sources(x, |x| self.full.norm_conv2d(x, norm, activation, conv, add.add()))
    }

    fn upsample_conv2d(
        &self,
        x: &Tensor,
        height: usize,
        width: usize,
        conv: &Conv,
    ) -> Result<Tensor> {
        self.with_sources(x.into(), |x| self.full.upsample_conv2d(x.first, height, width, conv))
    }

    fn normalize(&self, x: &Tensor, norm: &Norm) -> Result<Tensor> {
        self.with_sources(x.into(), |x| self.full.normalize(x.first, norm))
    }

    fn dense(
        &self,
        x: &Tensor,
        linear: &Linear,
        activation: Activation,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let add = self.wide(add);
        self.with_sources(x.into(), |x| self.full.dense(x.first, linear, activation, add.add()))
    }

    fn norm_dense(
        &self,
        x: &Tensor,
        norm: &Norm,
        linear: &Linear,
        activation: Activation,
    ) -> Result<Tensor> {
        self.with_sources(x.into(), |x| self.full.norm_dense(x.first, norm, linear, activation))
    }

    fn norm_geglu(&self, x: &Tensor, norm: &Norm, linear: &Linear) -> Result<Tensor> {
        self.with_sources(x.into(), |x| self.full.norm_geglu(x.first, norm, linear))
    }

    fn self_attention(&self, qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
        self.with_sources(qkv.into(), |qkv| self.full.self_attention(qkv.first, heads, causal))
    }

    fn cross_attention(
        &self,
        q: &Tensor,
        keys_values: &Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Tensor> {
        let keys_values = keys_values.widened(&self.pool);
        let x = q.into();
        self.with_sources(x, |q| self.full.cross_attention(q.first, &keys_values, rows, heads))
    }

    fn combine(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        let wide: Vec<Full> = terms.iter().map(|(x, _)| x.widened(&self.pool)).collect();
        let terms: Vec<(&Full, &[f32])> =
            wide.iter().zip(terms).map(|(x, (_, weights))| (x, *weights)).collect();
        Ok(self.full.combine(&terms)?.into())
    }
}
