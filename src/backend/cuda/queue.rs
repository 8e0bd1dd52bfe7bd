//! In: activations and layers. Out: launches of the kernels that make an operation: sizes of grids, and which tile and
//! how many splits a product takes.

use super::kernels::{self, Assemble, Attention, Combine, Gather, Product};
use super::lane::Lane;
use super::memory::Block;
use super::tensor::{Norm, Tensor, Weight};
use super::tile::{CudaTile, tiles};
use crate::backend::{Activation, Add, NormSpec, Precision, Sources};
use crate::error::{Error, Result};
use parking_lot::Mutex;

/// Threads of a block where it doesn't matter.
const THREADS: u64 = 256;
/// The most blocks of a kernel whose threads take as many values as there are.
const BLOCKS: u64 = 4096;
/// Outputs below this are a network's last: they are written in f32.
const FEW: usize = 16;
/// Parts of a sample's pixels that a group norm's sums are taken over.
const PARTS: usize = 128;

/// Where operations go: a lane of a device, and the numbers it holds.
pub(super) struct Queue {
    pub(super) lane: Lane,
    /// f16 or bf16.
    pub(super) precision: Precision,
    /// How products are computed.
    pub(super) tile: Mutex<CudaTile>,
}

/// What is in the way of a product beside its operands.
pub(super) struct Around<'a> {
    pub(super) activation: Activation,
    pub(super) add: Add<'a, Tensor>,
    /// The size to which the source is enlarged.
    pub(super) enlarged: Option<[usize; 2]>,
    pub(super) gated: bool,
}

impl<'a> Around<'a> {
    pub(super) fn adding(add: Add<'a, Tensor>) -> Self {
        Around { activation: Activation::Identity, add, enlarged: None, gated: false }
    }
}

fn code(activation: Activation) -> i32 {
    match activation {
        Activation::Identity => 0,
        Activation::Silu => 1,
        Activation::Gelu => 2,
    }
}

fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::invalid(format!("a size of {value} on CUDA")))
}

fn ints<const N: usize>(values: [usize; N]) -> Result<[i32; N]> {
    let mut result = [0; N];
    for (to, value) in result.iter_mut().zip(values) {
        *to = int(value)?;
    }
    Ok(result)
}

fn shares(values: u64) -> u64 {
    values.div_ceil(THREADS).min(BLOCKS)
}

/// Into how many parts the sum of a product is split: by the layer and the size of the picture alone, for it decides
/// the last bits. A small picture has too few outputs to occupy a device.
fn splits(pixels: usize, k: usize) -> usize {
    match (pixels, k / 32) {
        (_, ..64) => 1,
        (..=64, _) => 4,
        (..=256, _) => 2,
        _ => 1,
    }
}

impl Queue {
    fn kernel(&self, names: [&'static str; 2]) -> &'static str {
        names[usize::from(self.precision == Precision::Bf16)]
    }

    /// The channels of both sources side by side, as 16-bit numbers or f32, padded to `channels`.
    pub(super) fn assembled(
        &self,
        x: Sources<'_, Tensor>,
        channels: usize,
        f32: bool,
    ) -> Result<Tensor> {
        let [n, h, w, c] = x.first.shape;
        let behind = x.second.map_or(0, Tensor::channels);
        let out = Tensor::new(&self.lane, [n, h, w, channels], f32)?;
        let pixels = (n * h * w) as u64;
        let parameters = Assemble {
            first: x.first.address(),
            second: x.second.map_or(0, Tensor::address),
            out: out.address(),
            pixels,
            channels: ints([c, behind])?,
            channels_out: int(channels)?,
            sources_f32: [x.first.f32.into(), x.second.is_some_and(|x| x.f32).into()],
            out_f32: f32.into(),
        };
        let grid = [shares(pixels * channels as u64), 1, 1];
        let name = self.kernel(kernels::ASSEMBLE);
        self.lane.launch(name, grid, THREADS as u32, 0, &parameters)?;
        Ok(out)
    }

    /// `x` as 16-bit numbers.
    pub(super) fn halved(&self, x: &Tensor) -> Result<Tensor> {
        if x.f32 { self.assembled(x.into(), x.channels(), false) } else { Ok(x.clone()) }
    }

    /// The product of `x` and a layer, with what is around it.
    pub(super) fn product(
        &self,
        x: Sources<'_, Tensor>,
        weight: &Weight,
        around: Around<'_>,
    ) -> Result<Tensor> {
        let odd = |x: &Tensor| x.f32 || !x.channels().is_multiple_of(8);
        if odd(x.first) || x.second.is_some_and(odd) {
            let x = self.assembled(x, weight.channels, false)?;
            return self.product_of((&x).into(), weight, around);
        }
        self.product_of(x, weight, around)
    }

    fn product_of(
        &self,
        x: Sources<'_, Tensor>,
        weight: &Weight,
        around: Around<'_>,
    ) -> Result<Tensor> {
        let [n, height, width, c1] = x.first.shape;
        let c2 = x.second.map_or(0, Tensor::channels);
        if c1 + c2 != weight.channels {
            let what = format!("{c1} + {c2} channels for a layer of {}", weight.inputs);
            return Err(Error::internal(what));
        }
        let [tall, wide] = around.enlarged.unwrap_or([height, width]);
        let spec = weight.spec;
        let length = |length: usize, kernel: usize| {
            (length + spec.before + spec.after).checked_sub(kernel).map(|r| r / spec.stride + 1)
        };
        let [kh, kw] = weight.kernel;
        let (Some(out_height), Some(out_width)) = (length(tall, kh), length(wide, kw)) else {
            let what = format!("{tall}x{wide} pixels are fewer than a kernel of {kh}x{kw}");
            return Err(Error::internal(what));
        };
        // The kernel multiplies places by sides in 32 bits.
        let places = [(tall, height), (wide, width)].map(|(to, from)| to as u64 * from as u64);
        if places.into_iter().max() > Some(u32::MAX.into()) {
            let what = format!("{height}x{width} pixels to be {tall}x{wide} on CUDA");
            return Err(Error::invalid(what));
        }
        let outputs = weight.outputs;
        let shown = if around.gated { outputs / 2 } else { outputs };
        let f32 = shown < FEW && !around.gated;
        let out = Tensor::new(&self.lane, [n, out_height, out_width, shown], f32)?;
        let rows = n * out_height * out_width;
        let splits = splits(out_height * out_width, weight.k);
        let partial = match splits {
            1 => None,
            _ => Some(Block::new(&self.lane, (splits * rows * outputs * 4) as u64)?),
        };
        let (add, add_kind, add_f32) = match around.add {
            Add::Nothing => (0, 0, false),
            Add::Residual(x) => (x.address(), 1, x.f32),
            Add::Channels(x) => (x.address(), 2, x.f32),
        };
        let parameters = Product {
            first: x.first.address(),
            second: x.second.map_or(0, Tensor::address),
            weight: weight.values.address(),
            bias: weight.bias.as_ref().map_or(0, Block::address),
            add,
            out: out.address(),
            partial: partial.as_ref().map_or(0, Block::address),
            height: int(height)?,
            width: int(width)?,
            channels: ints([c1, c2])?,
            tall: int(tall)?,
            wide: int(wide)?,
            out_height: int(out_height)?,
            out_width: int(out_width)?,
            outputs: int(outputs)?,
            kernel: ints(weight.kernel)?,
            stride: int(spec.stride)?,
            before: int(spec.before)?,
            k: int(weight.k)?,
            rows: int(rows)?,
            splits: int(splits)?,
            activation: code(around.activation),
            add_kind,
            add_f32: add_f32.into(),
            out_f32: f32.into(),
            gated: around.gated.into(),
        };
        let sizes = [rows, outputs, splits];
        let info = &self.lane.info;
        let (names, side, stages) =
            self.tile.lock().of(sizes, info.multiprocessors, info.shared_memory);
        // Of 32 values of both operands, 2 bytes each.
        let shared = stages * 2 * side as u32 * 32 * 2;
        let grid = [tiles(rows, outputs, side), splits as u64, 1];
        self.lane.launch(self.kernel(names), grid, 128, shared, &parameters)?;
        if splits > 1 {
            let grid = [shares((rows * outputs.div_ceil(4)) as u64), 1, 1];
            let name = self.kernel(kernels::PRODUCT_JOIN);
            self.lane.launch(name, grid, THREADS as u32, 0, &parameters)?;
        }
        Ok(out)
    }

    /// activation(norm(x))
    pub(super) fn normalized(
        &self,
        x: Sources<'_, Tensor>,
        norm: &Norm,
        activation: Activation,
    ) -> Result<Tensor> {
        if x.first.f32 || x.second.is_some_and(|x| x.f32) {
            let channels = x.first.channels() + x.second.map_or(0, Tensor::channels);
            let x = self.assembled(x, channels, false)?;
            return self.normalized((&x).into(), norm, activation);
        }
        let [n, h, w, c1] = x.first.shape;
        let c2 = x.second.map_or(0, Tensor::channels);
        let channels = c1 + c2;
        let out = Tensor::new(&self.lane, [n, h, w, channels], false)?;
        let odd = !c1.is_multiple_of(8) || !c2.is_multiple_of(8);
        let unit = if odd { 1 } else { 8 };
        let mut parameters = kernels::Norm {
            first: x.first.address(),
            second: x.second.map_or(0, Tensor::address),
            out: out.address(),
            scale: norm.scale.address(),
            shift: norm.shift.address(),
            channels: ints([c1, c2])?,
            pixels: int(h * w)?,
            samples: int(n)?,
            activation: code(activation),
            ..kernels::Norm::default()
        };
        match norm.spec {
            NormSpec::Layer { epsilon } => {
                if c2 != 0 {
                    return Err(Error::internal("a layer norm of two sources"));
                }
                parameters.epsilon = epsilon as f32;
                parameters.pixels = int(n * h * w)?;
                let name = self.kernel(if odd { kernels::LAYER_ODD } else { kernels::LAYER });
                let grid = [((n * h * w) as u64).div_ceil(8).min(1 << 16), 1, 1];
                self.lane.launch(name, grid, 256, 0, &parameters)?;
            }
            NormSpec::Group { groups, epsilon } => {
                let each = (h * w).div_ceil(PARTS).max(16);
                let parts = (h * w).div_ceil(each);
                let sums = Block::new(&self.lane, (n * parts * groups * 8) as u64)?;
                parameters.sums = sums.address();
                parameters.groups = int(groups)?;
                parameters.parts = int(parts)?;
                parameters.pixels_per_part = int(each)?;
                parameters.epsilon = epsilon as f32;
                let columns = channels / unit;
                let lines = if columns < 256 { 256 / columns.max(1) } else { 1 };
                let (first, second) = match odd {
                    true => (kernels::GROUP_SUMS_ODD, kernels::GROUP_APPLY_ODD),
                    false => (kernels::GROUP_SUMS, kernels::GROUP_APPLY),
                };
                let shared = int(lines * channels * 8)? as u32;
                let grid = [parts as u64, n as u64, 1];
                self.lane.launch(self.kernel(first), grid, 256, shared, &parameters)?;
                let shared = int(4096 + groups * 8 + channels * 8)? as u32;
                let grid = [shares((h * w * columns) as u64 / 4 + 1).min(512), n as u64, 1];
                self.lane.launch(self.kernel(second), grid, 256, shared, &parameters)?;
            }
        }
        Ok(out)
    }

    /// Attention of `query` to keys and values that stand side by side in `others`, from channel `start` on. `rows`
    /// says whose each sample reads.
    pub(super) fn attention(
        &self,
        query: &Tensor,
        others: (&Tensor, usize),
        channels: usize,
        rows: Option<&[usize]>,
        heads: usize,
        causal: bool,
    ) -> Result<Tensor> {
        let [n, h, w, query_row] = query.shape;
        let (others, start) = others;
        let key_row = others.channels();
        let width = channels / heads;
        let out = Tensor::new(&self.lane, [n, h, w, channels], false)?;
        let aligned = [width, query_row, key_row, start].iter().all(|v| v % 8 == 0);
        let base = others.address() + 2 * start as u64;
        let mut parameters = Attention {
            query: query.address(),
            key: base,
            value: base + 2 * channels as u64,
            out: out.address(),
            query_sample: (h * w * query_row) as u64,
            key_sample: (others.pixels() * key_row) as u64,
            query_row: int(query_row)?,
            key_row: int(key_row)?,
            out_row: int(channels)?,
            tokens: int(h * w)?,
            others: int(others.pixels())?,
            heads: int(heads)?,
            width: int(width)?,
            causal: causal.into(),
            aligned: (aligned && channels.is_multiple_of(8)).into(),
            scale: std::f32::consts::LOG2_E / (width as f32).sqrt(),
            listed: rows.is_some().into(),
            first: 0,
            rows: [0; 64],
        };
        // Any number of queries a block gives the same bits.
        let (names, queries, block, slices) = match (width, h * w) {
            (65.., _) => (kernels::ATTENTION_WIDE, 64, 128, width.div_ceil(128)),
            (_, 512..) => (kernels::ATTENTION_LONG, 128, 256, 1),
            _ => (kernels::ATTENTION_SHORT, 64, 128, 1),
        };
        for first in (0..n).step_by(64) {
            let count = (n - first).min(64);
            parameters.first = int(first)?;
            if let Some(rows) = rows {
                for (to, &row) in parameters.rows.iter_mut().zip(&rows[first..first + count]) {
                    *to = row as u16;
                }
            }
            let grid = [(h * w).div_ceil(queries) as u64, (heads * slices) as u64, count as u64];
            self.lane.launch(self.kernel(names), grid, block, 32768, &parameters)?;
        }
        Ok(out)
    }

    /// The samples `rows`.
    pub(super) fn gathered(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let [_, h, w, c] = x.shape;
        let out = Tensor::new(&self.lane, [rows.len(), h, w, c], x.f32)?;
        let length = (h * w * c * if x.f32 { 2 } else { 1 }) as u64;
        for (part, some) in rows.chunks(128).enumerate() {
            let mut parameters = Gather {
                from: x.address(),
                to: out.address() + part as u64 * 128 * length * 2,
                length,
                rows: [0; 128],
            };
            for (to, &row) in parameters.rows.iter_mut().zip(some) {
                *to = row as u16;
            }
            let grid = [shares(length / 8 + 1), some.len() as u64, 1];
            self.lane.launch(kernels::GATHER, grid, THREADS as u32, 0, &parameters)?;
        }
        Ok(out)
    }

    /// The weighted sum of terms, in f32.
    pub(super) fn combined(&self, terms: &[(&Tensor, &[f32])]) -> Result<Tensor> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::internal("no terms to combine"));
        };
        if terms.len() > 4 {
            return Err(Error::internal(format!(
                "{} terms to combine: wanted up to 4",
                terms.len()
            )));
        }
        let [n, h, w, c] = first.shape;
        let length = (h * w * c) as u64;
        let out = Tensor::new(&self.lane, first.shape, true)?;
        for sample in (0..n).step_by(64) {
            let count = (n - sample).min(64);
            let mut parameters = Combine {
                terms: [0; 4],
                out: out.address() + sample as u64 * length * 4,
                length,
                count: terms.len() as i32,
                f32: [0; 4],
                weights: [[0.0; 64]; 4],
            };
            for (index, (x, weights)) in terms.iter().enumerate() {
                let each = if x.f32 { 4 } else { 2 };
                parameters.terms[index] = x.address() + sample as u64 * length * each;
                parameters.f32[index] = x.f32.into();
                let weights = &weights[sample..sample + count];
                parameters.weights[index][..count].copy_from_slice(weights);
            }
            let grid = [shares(length), count as u64, 1];
            let name = self.kernel(kernels::COMBINE);
            self.lane.launch(name, grid, THREADS as u32, 0, &parameters)?;
        }
        Ok(out)
    }
}
