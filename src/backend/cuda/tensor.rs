//! In: host tensors. Out: activations in device memory, and the weights of layers, packed as kernels read them.

use super::calls::Address;
use super::lane::Lane;
use super::memory::Block;
use crate::backend::{ConvSpec, HostTensor, NormSpec, Precision};
use crate::error::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::sync::Arc;

/// An activation (n, h, w, c) in device memory: 16-bit numbers, or f32 at a network's ends.
#[derive(Clone)]
pub struct Tensor {
    block: Arc<Block>,
    pub(super) shape: [usize; 4],
    pub(super) f32: bool,
}

impl Tensor {
    /// Room for an activation, whatever was in it.
    pub(super) fn new(lane: &Lane, shape: [usize; 4], f32: bool) -> Result<Self> {
        let each = if f32 { 4 } else { 2 };
        let length =
            shape.iter().try_fold(each, |length: u64, &side| length.checked_mul(side as u64));
        let length =
            length.ok_or_else(|| Error::invalid(format!("a tensor of shape {shape:?}")))?;
        Ok(Tensor { block: Arc::new(Block::new(lane, length)?), shape, f32 })
    }

    pub(super) fn address(&self) -> Address {
        self.block.address()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.block.length()
    }

    /// What is held; equal for clones only.
    pub(super) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Height times width.
    pub(super) fn pixels(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    pub(super) fn channels(&self) -> usize {
        self.shape[3]
    }
}

/// The operand of a product: (outputs, taps x channels), each tap's channels padded to a multiple of 8 and the whole
/// to one of 32, with zeros.
pub struct Weight {
    pub(super) values: Block,
    pub(super) bias: Option<Block>,
    pub(super) outputs: usize,
    /// As the layer has them, without padding.
    pub(super) inputs: usize,
    /// Padded.
    pub(super) channels: usize,
    pub(super) kernel: [usize; 2],
    pub(super) k: usize,
    pub(super) spec: ConvSpec,
}

/// Scale and shift of a normalisation.
pub struct Norm {
    pub(super) scale: Block,
    pub(super) shift: Block,
    pub(super) spec: NormSpec,
}

/// `values` in device memory.
pub(super) fn held<T: Copy>(lane: &Lane, values: &[T]) -> Result<Block> {
    let block = Block::new(lane, size_of_val(values) as u64)?;
    lane.copy_in(block.address(), values)?;
    Ok(block)
}

fn narrowed(precision: Precision, value: f32) -> u16 {
    match precision {
        Precision::Bf16 => bf16::from_f32(value).to_bits(),
        _ => f16::from_f32(value).to_bits(),
    }
}

impl Weight {
    /// Packs `weight` (outputs, inputs, kernel height, kernel width). `gated`: outputs i and i + outputs / 2 become
    /// neighbours, so that one thread holds a value and its gate.
    pub(super) fn new(
        lane: &Lane,
        precision: Precision,
        weight: &HostTensor,
        bias: Option<&HostTensor>,
        spec: ConvSpec,
        gated: bool,
    ) -> Result<Self> {
        let [outputs, inputs, kh, kw] = match *weight.shape() {
            [outputs, inputs] => [outputs, inputs, 1, 1],
            [outputs, inputs, kh, kw] => [outputs, inputs, kh, kw],
            _ => return Err(Error::internal("a weight has neither two nor four axes")),
        };
        let channels = inputs.next_multiple_of(8);
        let taps = kh * kw;
        let k = (taps * channels).next_multiple_of(32);
        let source = |row: usize| match gated {
            true => row / 2 + row % 2 * (outputs / 2),
            false => row,
        };
        let mut packed = vec![0u16; outputs * k];
        packed.par_chunks_mut(k.max(1)).enumerate().for_each(|(row, to)| {
            let from = &weight.data()[source(row) * inputs * taps..][..inputs * taps];
            for (index, &value) in from.iter().enumerate() {
                to[index % taps * channels + index / taps] = narrowed(precision, value);
            }
        });
        let bias = match bias {
            Some(bias) => {
                let values: Vec<f32> = (0..outputs).map(|row| bias.data()[source(row)]).collect();
                Some(held(lane, &values)?)
            }
            None => None,
        };
        let values = held(lane, &packed)?;
        Ok(Weight { values, bias, outputs, inputs, channels, kernel: [kh, kw], k, spec })
    }
}

impl Norm {
    pub(super) fn new(
        lane: &Lane,
        scale: &HostTensor,
        shift: &HostTensor,
        spec: NormSpec,
    ) -> Result<Self> {
        Ok(Norm { scale: held(lane, scale.data())?, shift: held(lane, shift.data())?, spec })
    }
}
