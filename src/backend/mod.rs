//! In: packed weights and channels-last activations. Out: activations. The narrow waist between the
//! networks, which are written once, and the hardware.
//!
//! An activation has the shape (samples, height, width, channels), channels fastest, so that it *is*
//! the token sequence of a transformer (height x width tokens) and the operand of an implicit matrix
//! product for a convolution: nothing is ever transposed. Text has height 1 and its tokens as width.
//!
//! Operations are fused as far as a fast backend could want it; [`Reference`] spells each one out in
//! plain lines and is the definition every other backend is tested against.
//!
//! Every backend keeps two promises: a sample's result does not depend on the other samples of the
//! batch, nor on the number of threads; and what an attention or a convolution needs besides tensors of
//! its operands' and result's sizes is bounded (scores are never held whole).
//!
//! Public for benches and for whoever wants to write another backend; the library itself offers none of
//! its functions for calls with unchecked shapes.

mod choice;
mod cpu;
mod cuda;
mod footprint;
mod host;
mod matrix;
mod numerics;
mod precision;
mod reference;
mod shapes;
mod spare;
mod workers;

pub(crate) use choice::Chosen;
pub use choice::DeviceChoice;
pub use cpu::{Cpu, CpuBf16, Level};
pub use cuda::{
    CUDA_DRIVER, Cuda, CudaConversion, CudaDriver, CudaImage, CudaInfo, CudaPicture, CudaReplays,
    CudaTensor, CudaTile, cuda_folders,
};
pub use footprint::{Footprint, Operand};
pub use host::HostTensor;
pub use numerics::Numerics;
pub use precision::Precision;
pub use reference::Reference;
pub(crate) use shapes::Shapes;
pub(crate) use spare::Spare;
pub(crate) use workers::Workers;

use crate::error::Result;

/// A function applied value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x
    Identity,
    /// x / (1 + exp(-x))
    Silu,
    /// x Phi(x), with the exact Gaussian integral (erf), as `torch.nn.functional.gelu`
    Gelu,
}

/// What is normalised together, and the number that keeps a division from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormSpec {
    /// Over all pixels of `groups` equal runs of channels, sample by sample.
    Group {
        /// The number of runs.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Over the channels of one token.
    Layer {
        /// Added to the variance.
        epsilon: f64,
    },
}

/// The geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    /// Step between outputs, the same down and across.
    pub stride: usize,
    /// Zeros before the first row and column.
    pub before: usize,
    /// Zeros after the last row and column.
    pub after: usize,
    /// For [`Backend::upsample_conv2d`], and only for it: a backend may pack the weights otherwise.
    pub upsamples: bool,
}

impl ConvSpec {
    /// Stride 1 and `padding` zeros on every side.
    pub fn same(padding: usize) -> Self {
        ConvSpec { stride: 1, before: padding, after: padding, upsamples: false }
    }

    /// A step of 2, which halves a picture.
    pub fn halving(before: usize, after: usize) -> Self {
        ConvSpec { stride: 2, before, after, upsamples: false }
    }

    /// A kernel of 3x3 over a picture that is enlarged first.
    pub fn upsampling() -> Self {
        ConvSpec { upsamples: true, ..ConvSpec::same(1) }
    }
}

/// One activation, or two that are read as if their channels stood side by side (a skip
/// connection), without ever being copied together.
#[derive(Debug)]
pub struct Sources<'a, T> {
    /// The first channels.
    pub first: &'a T,
    /// The channels behind them, if there are any; same samples, height and width.
    pub second: Option<&'a T>,
}

// Derived, these would ask the tensor itself to be Copy.
impl<T> Clone for Sources<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Sources<'_, T> {}

impl<'a, T> From<&'a T> for Sources<'a, T> {
    fn from(first: &'a T) -> Self {
        Sources { first, second: None }
    }
}

impl<'a, T> From<(&'a T, &'a T)> for Sources<'a, T> {
    fn from((first, second): (&'a T, &'a T)) -> Self {
        Sources { first, second: Some(second) }
    }
}

/// What is added to a product before it is written: nothing, or values of the result's shape, or one
/// value per channel.
#[derive(Debug)]
pub enum Add<'a, T> {
    /// Nothing.
    Nothing,
    /// A tensor of the result's shape: the residual.
    Residual(&'a T),
    /// A tensor (1, 1, 1, channels), added to every pixel of every sample: the time embedding.
    Channels(&'a T),
}

/// A step that a backend may record: what it makes of its inputs.
pub type Replayable<'a, T> = dyn Fn(&[T]) -> Result<T> + 'a;

/// The operations that a network is made of.
///
/// Shapes are written (n, h, w, c). Packing functions take PyTorch's layouts. Implementations may
/// assume that shapes fit: the networks check them when they load.
pub trait Backend: Send + Sync + 'static {
    /// An activation in the backend's own memory. Cloning is cheap.
    type Tensor: Clone + Send + Sync + 'static;
    /// The packed weights of a convolution.
    type Conv: Send + Sync + 'static;
    /// The packed weights of a linear layer.
    type Linear: Send + Sync + 'static;
    /// Scale and shift of a normalisation.
    type Norm: Send + Sync + 'static;

    /// The memory that all packed weights take, in bytes, `numbers` of them having been loaded.
    fn weight_bytes(&self, numbers: u64) -> u64 {
        numbers * size_of::<f32>() as u64
    }

    /// What it takes in memory for shapes that are known.
    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    /// Lets go of idle memory that it keeps for the next operation, and says how many bytes that were.
    fn trim(&self) -> u64 {
        0
    }

    /// What decides the last bits of its results.
    fn numerics(&self) -> Numerics {
        Numerics::unknown()
    }

    // ---- packing, at load ----

    /// Packs `weight` (out, in, kernel height, kernel width) and `bias` (out).
    fn conv(
        &self,
        weight: HostTensor,
        bias: Option<HostTensor>,
        spec: ConvSpec,
    ) -> Result<Self::Conv>;

    /// Packs `weight` (out, in) and `bias` (out).
    fn linear(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Self::Linear>;

    /// The same for [`norm_geglu`](Backend::norm_geglu), and only for it: a backend may pack the weights otherwise.
    fn gated(&self, weight: HostTensor, bias: Option<HostTensor>) -> Result<Self::Linear> {
        self.linear(weight, bias)
    }

    /// Packs `scale` (channels) and `shift` (channels).
    fn norm(&self, scale: HostTensor, shift: HostTensor, spec: NormSpec) -> Result<Self::Norm>;

    // ---- in and out ----

    /// Copies (n, h, w, c) values in.
    fn upload(&self, host: &HostTensor) -> Result<Self::Tensor>;

    /// Copies (n, h, w, c) values out.
    fn download(&self, x: &Self::Tensor) -> Result<HostTensor>;

    /// (n, h, w, c)
    fn shape(&self, x: &Self::Tensor) -> [usize; 4];

    /// The samples `rows` of `x`, in that order; a row may stand more than once. A guidance pair that
    /// shares its first layers is split in two by this.
    fn gather(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;

    // ---- convolutional part ----

    /// conv(x) + add
    fn conv2d(
        &self,
        x: Sources<'_, Self::Tensor>,
        conv: &Self::Conv,
        add: Add<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// conv(activation(norm(x))) + add; padding is zeros *after* the activation.
    fn norm_conv2d(
        &self,
        x: Sources<'_, Self::Tensor>,
        norm: &Self::Norm,
        activation: Activation,
        conv: &Self::Conv,
        add: Add<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// conv(u), u being x enlarged to `height` x `width` by nearest neighbour: row i of u is row
    /// floor(i h / height) of x.
    fn upsample_conv2d(
        &self,
        x: &Self::Tensor,
        height: usize,
        width: usize,
        conv: &Self::Conv,
    ) -> Result<Self::Tensor>;

    // ---- transformer part ----

    /// norm(x)
    fn normalize(&self, x: &Self::Tensor, norm: &Self::Norm) -> Result<Self::Tensor>;

    /// activation(linear(x)) + add
    fn dense(
        &self,
        x: &Self::Tensor,
        linear: &Self::Linear,
        activation: Activation,
        add: Add<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;

    /// activation(linear(norm(x))); a fused query-key-value projection is one such product.
    fn norm_dense(
        &self,
        x: &Self::Tensor,
        norm: &Self::Norm,
        linear: &Self::Linear,
        activation: Activation,
    ) -> Result<Self::Tensor>;

    /// a gelu(b), (a, b) being the halves of linear(norm(x)): GEGLU with the erf form of GELU.
    fn norm_geglu(
        &self,
        x: &Self::Tensor,
        norm: &Self::Norm,
        linear: &Self::Linear,
    ) -> Result<Self::Tensor>;

    /// Attention of a sequence to itself. `qkv` is (n, h, w, 3c): queries, keys and values side by
    /// side, each of `heads` equal parts. Per head softmax(q k^T / sqrt(c / heads)) v; `causal` hides
    /// later tokens.
    fn self_attention(
        &self,
        qkv: &Self::Tensor,
        heads: usize,
        causal: bool,
    ) -> Result<Self::Tensor>;

    /// Attention of `q` (n, h, w, c) to the keys and values (m, 1, tokens, 2c) of prompts: sample i
    /// reads prompt `rows[i]`.
    fn cross_attention(
        &self,
        q: &Self::Tensor,
        keys_values: &Self::Tensor,
        rows: &[usize],
        heads: usize,
    ) -> Result<Self::Tensor>;

    // ---- sampling ----

    /// The sum over all terms of weight * x, with a weight for each sample. This is a guided sampler
    /// step: every deterministic sampler is such a sum of the latent, its predictions and its history.
    fn combine(&self, terms: &[(&Self::Tensor, &[f32])]) -> Result<Self::Tensor>;

    // ---- into a caller's memory ----

    /// Whether its device can write `image` by itself.
    fn reaches(&self, image: &CudaImage) -> bool {
        let _ = image;
        false
    }

    /// Whether its device converts pictures to callers' formats: [`picture`](Backend::picture) gives them.
    fn converts(&self) -> bool {
        false
    }

    /// The decoded picture `x` (1, h, w, 3), left where it is, for a backend whose device writes callers' images.
    fn picture(&self, x: &Self::Tensor) -> Option<CudaPicture> {
        let _ = x;
        None
    }

    // ---- how work is best put to it ----

    /// The most branches of a run that one evaluation takes.
    fn branches(&self) -> usize {
        4
    }

    /// The number to which `branches` branches are filled up: a backend may want few different ones.
    fn bucket(&self, branches: usize) -> usize {
        branches
    }

    /// A backend that reads what this one has packed so far, and computes the same beside it, while another thread
    /// uses this one; for a device that does two things at once. It goes before what it reads.
    ///
    /// # Errors
    /// `Device`.
    fn beside(&self) -> Result<Option<Self>>
    where
        Self: Sized,
    {
        Ok(None)
    }

    /// The bytes that it holds for itself of memory that it shares with the one that it is beside.
    fn held(&self) -> u64 {
        0
    }

    /// The bytes that activations may still take, for a backend that has memory of its own.
    fn available(&self) -> Option<u64> {
        None
    }

    /// `step` of `inputs`. What it does depends on `key` and the inputs' shapes alone, so a backend may record it and
    /// do the same again.
    fn recorded(
        &self,
        key: &[usize],
        inputs: &[&Self::Tensor],
        step: &Replayable<'_, Self::Tensor>,
    ) -> Result<Self::Tensor> {
        let _ = key;
        step(&inputs.iter().map(|&x| x.clone()).collect::<Vec<_>>())
    }
}
