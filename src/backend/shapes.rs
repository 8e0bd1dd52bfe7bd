//! In: shapes. Out: shapes, and how much memory their values would take: a backend that computes nothing. A network
//! that is run on it is run dry, and its peak is known before anything is allocated.
//!
//! It holds what [`Cpu`](super::Cpu) holds, an operation's own copies among it; backends that fuse more take less.

use super::footprint::numbers;
use super::{
    Activation, Add, Backend, ConvSpec, Footprint, HostTensor, NormSpec, Numerics, Operand, Sources,
};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// What is held now, and was at the most.
#[derive(Default)]
struct Ledger {
    now: u64,
    most: u64,
}

/// The backend.
pub(crate) struct Shapes {
    footprint: Footprint,
    /// Whether the weights are numbers of f16.
    half: bool,
    ledger: Arc<Mutex<Ledger>>,
    weights: Mutex<u64>,
}

/// Values that aren't there, until it is dropped.
struct Held {
    shape: [usize; 4],
    bytes: u64,
    ledger: Arc<Mutex<Ledger>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.now = ledger.now.saturating_sub(self.bytes);
    }
}

/// An activation without values.
#[derive(Clone)]
pub(crate) struct Outline(Arc<Held>);

/// The geometry of a convolution.
pub(crate) struct Conv {
    outputs: usize,
    kernel: [usize; 2],
    spec: ConvSpec,
}

/// The outputs of a linear layer.
pub(crate) struct Linear(usize);

impl Shapes {
    /// One whose activations and weights take as much as `footprint` says.
    pub(crate) fn new(footprint: Footprint, half: bool) -> Self {
        Shapes { footprint, half, ledger: Arc::default(), weights: Mutex::default() }
    }

    /// The bytes that all weights take which were packed so far.
    pub(crate) fn weights(&self) -> u64 {
        *self.weights.lock()
    }

    /// The most bytes that `work` holds at one time, besides what was held before.
    pub(crate) fn peak<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<u64> {
        let before = {
            let mut ledger = self.ledger.lock();
            ledger.most = ledger.now;
            ledger.now
        };
        work()?;
        Ok(self.ledger.lock().most.saturating_sub(before))
    }

    /// Values of `shape`, or a copy that an operation makes for itself.
    fn outline(&self, shape: [usize; 4]) -> Outline {
        self.of_bytes(shape, (self.footprint.value)(shape[3]))
    }

    /// Values of `shape` of so many bytes each.
    fn of_bytes(&self, shape: [usize; 4], each: usize) -> Outline {
        Outline(Arc::new(self.held(shape, numbers(&shape).saturating_mul(each as u64))))
    }

    fn held(&self, shape: [usize; 4], bytes: u64) -> Held {
        let mut ledger = self.ledger.lock();
        ledger.now = ledger.now.saturating_add(bytes);
        ledger.most = ledger.most.max(ledger.now);
        Held { shape, bytes, ledger: Arc::clone(&self.ledger) }
    }

    /// What a convolution copies of its operand.
    fn copied(&self, x: Sources<'_, Outline>, normed: bool, conv: &Conv) -> Held {
        let (shape, second) = (x.first.0.shape, x.second.map_or(0, |second| second.0.shape[3]));
        let Conv { outputs, kernel, spec } = *conv;
        let x = Operand { shape, second, normed, resized: false, outputs, kernel, spec };
        self.held(shape, (self.footprint.copied)(x))
    }

    fn with_channels(&self, x: &Outline, channels: usize) -> Outline {
        let [n, h, w, _] = x.0.shape;
        self.outline([n, h, w, channels])
    }

    fn convolved(&self, x: &Outline, conv: &Conv, [h, w]: [usize; 2]) -> Result<Outline> {
        let ConvSpec { stride, before, after, .. } = conv.spec;
        let length = |length: usize, kernel: usize| {
            let rest = (length + before + after).checked_sub(kernel);
            rest.map(|rest| rest / stride + 1)
        };
        let size = length(h, conv.kernel[0]).zip(length(w, conv.kernel[1]));
        let (height, width) = size.ok_or_else(|| {
            let [kh, kw] = conv.kernel;
            Error::internal(format!("{h}x{w} pixels are fewer than a kernel of {kh}x{kw}"))
        })?;
        Ok(self.outline([x.0.shape[0], height, width, conv.outputs]))
    }
}

impl Backend for Shapes {
    type Tensor = Outline;
    type Conv = Conv;
    type Linear = Linear;
    type Norm = ();

    fn numerics(&self) -> Numerics {
        Numerics::unknown()
    }

    fn conv(&self, weight: HostTensor, _: Option<HostTensor>, spec: ConvSpec) -> Result<Conv> {
        let wrong = |_| Error::internal("a convolution's weight has not four axes");
        let shape: [usize; 4] = weight.shape().try_into().map_err(wrong)?;
        *self.weights.lock() += (self.footprint.conv)(shape, spec, self.half);
        Ok(Conv { outputs: shape[0], kernel: [shape[2], shape[3]], spec })
    }

    fn linear(&self, weight: HostTensor, _: Option<HostTensor>) -> Result<Linear> {
        let wrong = |_| Error::internal("a linear layer's weight has not two axes");
        let shape: [usize; 2] = weight.shape().try_into().map_err(wrong)?;
        *self.weights.lock() += (self.footprint.linear)(shape, self.half);
        Ok(Linear(shape[0]))
    }

    fn norm(&self, _: HostTensor, _: HostTensor, _: NormSpec) -> Result<()> {
        Ok(())
    }

    fn upload(&self, host: &HostTensor) -> Result<Outline> {
        let wrong = |_| Error::internal("an activation has not four axes");
        Ok(self.of_bytes(host.shape().try_into().map_err(wrong)?, size_of::<f32>()))
    }

    fn download(&self, x: &Outline) -> Result<HostTensor> {
        Ok(HostTensor::hollow(x.0.shape))
    }

    fn shape(&self, x: &Outline) -> [usize; 4] {
        x.0.shape
    }

    fn gather(&self, x: &Outline, rows: &[usize]) -> Result<Outline> {
        let [_, h, w, c] = x.0.shape;
        Ok(self.outline([rows.len(), h, w, c]))
    }

    fn conv2d(&self, x: Sources<'_, Outline>, conv: &Conv, _: Add<'_, Outline>) -> Result<Outline> {
        let _copied = self.copied(x, false, conv);
        let [_, h, w, _] = x.first.0.shape;
        self.convolved(x.first, conv, [h, w])
    }

    fn norm_conv2d(
        &self,
        x: Sources<'_, Outline>,
        _: &(),
        _: Activation,
        conv: &Conv,
        _: Add<'_, Outline>,
    ) -> Result<Outline> {
        let _copied = self.copied(x, true, conv);
        let [_, h, w, _] = x.first.0.shape;
        self.convolved(x.first, conv, [h, w])
    }

    fn upsample_conv2d(
        &self,
        x: &Outline,
        height: usize,
        width: usize,
        conv: &Conv,
    ) -> Result<Outline> {
        let ([n, h, w, c], &Conv { outputs, kernel, spec }) = (x.0.shape, conv);
        let resized = [height, width] != [2 * h, 2 * w];
        let shape = if resized { [n, height, width, c] } else { [n, h, w, c] };
        let x_read = Operand { shape, second: 0, normed: false, resized, outputs, kernel, spec };
        let _copied = self.held(shape, (self.footprint.copied)(x_read));
        self.convolved(x, conv, [height, width])
    }

    fn normalize(&self, x: &Outline, _: &()) -> Result<Outline> {
        Ok(self.outline(x.0.shape))
    }

    fn dense(
        &self,
        x: &Outline,
        linear: &Linear,
        _: Activation,
        _: Add<'_, Outline>,
    ) -> Result<Outline> {
        Ok(self.with_channels(x, linear.0))
    }

    fn norm_dense(
        &self,
        x: &Outline,
        norm: &(),
        linear: &Linear,
        _: Activation,
    ) -> Result<Outline> {
        let x = self.normalize(x, norm)?;
        Ok(self.with_channels(&x, linear.0))
    }

    fn norm_geglu(&self, x: &Outline, norm: &(), linear: &Linear) -> Result<Outline> {
        let x = self.normalize(x, norm)?;
        let out = self.with_channels(&x, linear.0 / 2);
        // Halves that are no whole panels are made whole first.
        let _both = (!(linear.0 / 2).is_multiple_of(64)).then(|| self.with_channels(&x, linear.0));
        Ok(out)
    }

    fn self_attention(&self, qkv: &Outline, _: usize, _: bool) -> Result<Outline> {
        let c = qkv.0.shape[3] / 3;
        // Keys and values in the order of the product.
        let _packed = self.with_channels(qkv, 2 * c);
        Ok(self.with_channels(qkv, c))
    }

    fn cross_attention(
        &self,
        q: &Outline,
        keys_values: &Outline,
        _: &[usize],
        _: usize,
    ) -> Result<Outline> {
        let _packed = self.outline(keys_values.0.shape);
        Ok(self.outline(q.0.shape))
    }

    fn combine(&self, terms: &[(&Outline, &[f32])]) -> Result<Outline> {
        match terms.first() {
            Some((first, _)) => Ok(self.outline(first.0.shape)),
            None => Err(Error::internal("no terms to combine")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_one_time_is_counted_once_and_let_go() {
        let shapes = Shapes::new(Footprint::default(), false);
        let conv = |outputs| {
            let weight = HostTensor::hollow([outputs, 8, 3, 3]);
            shapes.conv(weight, None, ConvSpec::same(1)).unwrap()
        };
        let (wide, narrow) = (conv(16), conv(2));
        assert_eq!(shapes.weights(), 18 * 8 * 9 * 4);
        let x = shapes.upload(&HostTensor::hollow([1, 10, 10, 8])).unwrap();
        let add = || Add::Nothing;
        let peak = shapes.peak(|| {
            let kept = shapes.conv2d((&x).into(), &narrow, add())?;
            shapes.conv2d((&x).into(), &wide, add())?;
            shapes.norm_conv2d((&x).into(), &(), Activation::Silu, &narrow, add())?;
            Ok(kept)
        });
        // Two channels that stay, and sixteen, or eight that are normalised and two more.
        assert_eq!(peak.unwrap(), (2 + 16) * 100 * 4);
        assert_eq!(shapes.ledger.lock().now, 8 * 100 * 4);
    }

    #[test]
    fn a_size_beyond_all_memory_is_told_and_not_wrapped_round() {
        let shapes = Shapes::new(Footprint::default(), false);
        let side = 1 << 31;
        let peak = shapes.peak(|| shapes.upload(&HostTensor::hollow([1, side, side, 4])));
        assert_eq!(peak.unwrap(), u64::MAX);
    }
}
