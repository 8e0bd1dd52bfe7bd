//! In: a network's weights. Out: packed layers, each made from the tensors under one name.

use crate::backend::{Backend, ConvSpec, HostTensor, NormSpec};
use crate::error::Result;
use crate::model::Weights;

/// Takes layers out of a network's weights, one by one.
pub(crate) struct Layers<'a, 'b, B> {
    pub(crate) backend: &'a B,
    pub(crate) weights: &'a mut Weights<'b>,
}

impl<B: Backend> Layers<'_, '_, B> {
    /// A square convolution with a bias.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        kernel: usize,
        spec: ConvSpec,
    ) -> Result<B::Conv> {
        let shape = [output, input, kernel, kernel];
        let weight = self.weights.tensor(&format!("{name}.weight"), &shape)?;
        let bias = self.weights.tensor(&format!("{name}.bias"), &[output])?;
        self.backend.conv(weight, Some(bias), spec)
    }

    /// A linear layer with a bias.
    pub(crate) fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<B::Linear> {
        self.fused(&[name], shape, true)
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
            weights.push(self.weights.tensor(&format!("{name}.weight"), &[output, input])?);
            if bias {
                biases.push(self.weights.tensor(&format!("{name}.bias"), &[output])?);
            }
        }
        let bias = if bias { Some(HostTensor::stack_rows(biases)?) } else { None };
        self.backend.linear(HostTensor::stack_rows(weights)?, bias)
    }

    /// A normalisation with scale and shift.
    pub(crate) fn norm(&mut self, name: &str, channels: usize, spec: NormSpec) -> Result<B::Norm> {
        let scale = self.weights.tensor(&format!("{name}.weight"), &[channels])?;
        let shift = self.weights.tensor(&format!("{name}.bias"), &[channels])?;
        self.backend.norm(scale, shift, spec)
    }
}
