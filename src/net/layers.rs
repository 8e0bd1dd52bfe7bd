//! In: a network's weights. Out: packed layers, each made from the tensors under one name.

use crate::backend::{Backend, ConvSpec, HostTensor, NormSpec, Workers};
use crate::error::Result;
use crate::model::Weights;

/// Takes layers out of a network's weights, one by one.
pub(crate) struct Layers<'a, 'b, B> {
    pub(crate) backend: &'a B,
    /// None for a network without weights, of which only the shapes are looked at.
    pub(crate) weights: Option<&'a mut Weights<'b>>,
    /// Who packs them.
    pub(crate) workers: &'a Workers,
}

impl<'a, 'b, B> Layers<'a, 'b, B> {
    pub(crate) fn of(backend: &'a B, workers: &'a Workers, weights: &'a mut Weights<'b>) -> Self {
        Layers { backend, weights: Some(weights), workers }
    }
}

impl<B: Backend> Layers<'_, '_, B> {
    /// The tensor `name`, which must have `shape`.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<HostTensor> {
        match &mut self.weights {
            Some(weights) => weights.tensor(name, shape, self.workers),
            None => Ok(HostTensor::hollow(shape)),
        }
    }

    /// A square convolution with a bias.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        kernel: usize,
        spec: ConvSpec,
    ) -> Result<B::Conv> {
        let shape = [output, input, kernel, kernel];
        let weight = self.tensor(&format!("{name}.weight"), &shape)?;
        let bias = self.tensor(&format!("{name}.bias"), &[output])?;
        self.workers.run(|| self.backend.conv(weight, Some(bias), spec))
    }

    /// A linear layer with a bias.
    pub(crate) fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<B::Linear> {
        self.fused(&[name], shape, true)
    }

    /// The linear layer of a GEGLU, with a bias.
    pub(crate) fn gated(&mut self, name: &str, [input, output]: [usize; 2]) -> Result<B::Linear> {
        let weight = self.tensor(&format!("{name}.weight"), &[output, input])?;
        let bias = self.tensor(&format!("{name}.bias"), &[output])?;
        self.workers.run(|| self.backend.gated(weight, Some(bias)))
    }

    /// Linear layers side by side, each (`input`, `output`), as one product.
    pub(crate) fn fused(
        &mut self,
        names: &[&str],
        [input, output]: [usize; 2],
        bias: bool,
    ) -> Result<B::Linear> {
        let mut weights = Vec::with_capacity(names.len());
        let mut biases = Vec::with_capacity(names.len());
        for name in names {
            weights.push(self.tensor(&format!("{name}.weight"), &[output, input])?);
            if bias {
                biases.push(self.tensor(&format!("{name}.bias"), &[output])?);
            }
        }
        let bias = if bias { Some(HostTensor::stack_rows(biases)?) } else { None };
        let weight = HostTensor::stack_rows(weights)?;
        self.workers.run(|| self.backend.linear(weight, bias))
    }

    /// A normalisation with scale and shift.
    pub(crate) fn norm(&mut self, name: &str, channels: usize, spec: NormSpec) -> Result<B::Norm> {
        let scale = self.tensor(&format!("{name}.weight"), &[channels])?;
        let shift = self.tensor(&format!("{name}.bias"), &[channels])?;
        self.backend.norm(scale, shift, spec)
    }
}
