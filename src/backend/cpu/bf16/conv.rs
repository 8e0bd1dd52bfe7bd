//! In: a convolution's weights, then pictures. Out: the convolution of them.
#![allow(unsafe_code, reason = "products whose results are seen here")]

use super::band::{self, Filling, Part, Pictures};
use super::finish::{Result16, Write};
use super::packed::{DEPTH, Packed};
use super::padded::{Padded, Window};
use super::product::product;
use super::source::{Frame, Places, Source};
use super::tensor::Tensor;
use super::winograd::{self, Transformed};
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::rows::Geometry;
use crate::backend::{Activation, Add, ConvSpec, HostTensor, Operand, Sources};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A convolution.
pub struct Conv {
    kernel: [usize; 2],
    pub(super) spec: ConvSpec,
    outputs: usize,
    form: Form,
}

/// Packed weights.
enum Form {
    /// One product over the pixels under the kernel.
    Direct(Packed),
    /// 16 products over patches.
    Winograd(Transformed),
    /// For a picture that is enlarged to twice its size: a small convolution for each of four pixels. For other
    /// sizes a plain one, which is worked out when it is wanted first.
    /// It then adds to the `weights` of all.
    Enlarged { doubled: Box<[Packed; 4]>, direct: OnceLock<Packed>, weights: Arc<AtomicU64> },
}

/// Whether a kernel goes over a picture that is enlarged.
fn enlarges(kernel: [usize; 2], spec: ConvSpec) -> bool {
    let same = kernel == [3, 3] && [spec.stride, spec.before, spec.after] == [1, 1, 1];
    same && spec.upsamples
}

/// What a convolution copies of its operand before it begins, in bytes.
pub(super) fn copied_bytes(level: Level, x: Operand) -> u64 {
    let whole = x.shape[3].is_multiple_of(DEPTH) && x.second.is_multiple_of(DEPTH);
    if whole && !x.normed && is_point(x.kernel, x.spec) {
        return 0;
    }
    let most = if x.resized { usize::MAX } else { band::WHOLE };
    let transformed = winograd::suits(level, x.kernel, x.spec, [x.joined()[3], x.outputs]);
    let window = Window { spread: !transformed, ..window(x.kernel, x.spec) };
    let fitting = window.fitting(x.joined(), most);
    fitting.map_or(0, |(_, bytes)| bytes as u64)
}

/// What a convolution reads of a picture and around it.
fn window(kernel: [usize; 2], spec: ConvSpec) -> Window {
    let ConvSpec { before, after, stride, .. } = spec;
    let (before, after) = ([before; 2], [after; 2]);
    Window { before, after, columns: kernel[1], step: stride, spread: true }
}

/// Whether a kernel reads one pixel for each of the same size.
fn is_point(kernel: [usize; 2], spec: ConvSpec) -> bool {
    kernel == [1, 1] && spec == ConvSpec::same(0)
}

/// What the packed weights of a convolution (outputs, channels, height, width) will take, in bytes.
pub(super) fn packed_bytes(
    level: Level,
    [outputs, channels, kh, kw]: [usize; 4],
    spec: ConvSpec,
) -> u64 {
    let transformed = winograd::suits(level, [kh, kw], spec, [channels, outputs]);
    // 16 places of a patch, or four taps for each of four pixels.
    let taps = if transformed || enlarges([kh, kw], spec) { 16 } else { kh * kw };
    super::packed::packed_bytes([taps, channels, outputs])
}

impl Conv {
    /// `weight` is (outputs, channels, height, width). `direct`: not by Winograd's method.
    pub(super) fn new(
        (level, direct, pool): (Level, bool, &Arc<Pool>),
        weight: &HostTensor,
        bias: Option<&HostTensor>,
        spec: ConvSpec,
        weights: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let [outputs, channels, kh, kw]: [usize; 4] = weight
            .shape()
            .try_into()
            .map_err(|_| Error::internal("a convolution's weight has not four axes"))?;
        let bias = bias.map(HostTensor::data);
        let (values, taps) = (weight.data(), kh * kw);
        let form = if enlarges([kh, kw], spec) {
            let at = |tap: usize, channel: usize, output: usize| {
                values[(output * channels + channel) * taps + tap]
            };
            let doubled = Box::new(doubled(pool, [channels, outputs], bias, at));
            Form::Enlarged { doubled, direct: OnceLock::new(), weights: Arc::clone(weights) }
        } else if !direct && winograd::suits(level, [kh, kw], spec, [channels, outputs]) {
            let transformed = Transformed::new(pool, [channels, outputs], bias, values);
            Form::Winograd(transformed)
        } else {
            Form::Direct(Packed::of(pool, [taps, channels, outputs], bias, values))
        };
        let conv = Conv { kernel: [kh, kw], spec, outputs, form };
        weights.fetch_add(conv.bytes(), Ordering::Relaxed);
        Ok(conv)
    }

    /// What the packed weights take, in bytes.
    fn bytes(&self) -> u64 {
        match &self.form {
            Form::Direct(direct) => direct.bytes(),
            Form::Winograd(transformed) => transformed.packed().bytes(),
            Form::Enlarged { doubled, .. } => doubled.iter().map(Packed::bytes).sum(),
        }
    }

    /// The transformed weights, where it is done by these.
    fn transformed(&self) -> Option<&Transformed> {
        match &self.form {
            Form::Winograd(transformed) => Some(transformed),
            _ => None,
        }
    }

    /// The weights as one product has them; for Winograd's method those of its 16.
    fn plain(&self, pool: &Arc<Pool>) -> &Packed {
        match &self.form {
            Form::Direct(direct) => direct,
            Form::Winograd(transformed) => transformed.packed(),
            Form::Enlarged { doubled, direct, weights } => {
                if let Some(made) = direct.get() {
                    return made;
                }
                // Not while others wait for it: packing is shared among threads, and one that helps may take
                // up another call of this very convolution. Two may then pack the same.
                let mut made = Some(undoubled(pool, doubled));
                direct.get_or_init(|| match made.take() {
                    Some(made) => {
                        weights.fetch_add(made.bytes(), Ordering::Relaxed);
                        made
                    }
                    None => undoubled(pool, doubled),
                })
            }
        }
    }

    /// The geometry over a picture of `size`, and what is read of it and around it; an error where the picture is smaller
    /// than a kernel.
    pub(super) fn geometry(&self, size: [usize; 2]) -> Result<(Geometry, Window)> {
        let geometry = Geometry::new(self.kernel, self.spec, size).ok_or_else(|| {
            let ([h, w], [kh, kw]) = (size, self.kernel);
            Error::internal(format!("{h}x{w} pixels are fewer than a kernel of {kh}x{kw}"))
        })?;
        // Patches are read from a single copy.
        let spread = self.transformed().is_none();
        Ok((geometry, Window { spread, ..window(self.kernel, self.spec) }))
    }

    /// conv(x) + add, copies of up to `whole` bytes being made whole.
    pub(super) fn run(
        &self,
        (level, pool, whole): (Level, &Arc<Pool>, usize),
        x: Sources<'_, Tensor>,
        add: Add<'_, Tensor>,
    ) -> Result<Tensor> {
        let [n, h, w, first] = x.first.shape;
        let (geometry, window) = self.geometry([h, w])?;
        let point = is_point(self.kernel, self.spec);
        if let Some(source) = Source::plain(x).filter(|_| point) {
            return Ok(self.product(level, pool, &source, [n, h, w], add));
        }
        let shape = [n, h, w, first + x.second.map_or(0, Tensor::channels)];
        let Some((window, _)) = window.fitting(shape, whole) else {
            return Ok(self.run_bands(level, pool, x, Filling::Same, &geometry, add));
        };
        let padded = Padded::copied(pool, x, [h, w], window);
        Ok(self.run_padded(level, pool, &padded, n, &geometry, add))
    }

    /// conv(x) + add, `x` having the zeros around it that the convolution wants.
    pub(super) fn run_padded(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        x: &Padded,
        samples: usize,
        geometry: &Geometry,
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let [h, w] = geometry.output;
        if let Some(transformed) = self.transformed() {
            let mut out = Result16::new(pool, [samples, h, w, self.outputs]);
            let finish = Write::new(out.shared(), Activation::Identity, &add, transformed.packed());
            let frame = Frame { first: [0; 3], size: [h, w] };
            let pictures = winograd::Pictures { padded: x, grid: [samples, h, w], frame };
            // SAFETY: `out` has a value for each pixel and output.
            unsafe { winograd::convolve(level, pool, pictures, transformed, &finish, true) }
            return out.tensor([samples, h, w, self.outputs]);
        }
        let source = Source::padded(x, samples, geometry, [0, 0], Places::Same);
        self.product(level, pool, &source, [samples, h, w], add)
    }

    /// conv(filling of x) + add, of which no copy is held.
    pub(super) fn run_bands(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        x: Sources<'_, Tensor>,
        filling: Filling<'_>,
        geometry: &Geometry,
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let Geometry { kernel, stride, before, output: [h, w], .. } = *geometry;
        let shape = [x.first.shape[0], h, w, self.outputs];
        let mut out = Result16::new(pool, shape);
        let weight = self.plain(pool);
        let finish = Write::new(out.shared(), Activation::Identity, &add, weight);
        let (corner, transformed) = ([0, 0], self.transformed());
        let part = Part { kernel, corner, places: Places::Same, weight, transformed, finish };
        let pictures = Pictures { x, filling, before, window: kernel, stride, grid: [h, w] };
        // SAFETY: `out` has a value for each pixel and output.
        unsafe { band::convolve(level, pool, &pictures, &[part]) }
        out.tensor(shape)
    }

    fn product(
        &self,
        level: Level,
        pool: &Arc<Pool>,
        source: &Source<'_>,
        [n, h, w]: [usize; 3],
        add: Add<'_, Tensor>,
    ) -> Tensor {
        let shape = [n, h, w, self.outputs];
        let mut out = Result16::new(pool, shape);
        let weight = self.plain(pool);
        let finish = Write::new(out.shared(), Activation::Identity, &add, weight);
        // SAFETY: `out` has a value for each row and output.
        unsafe { product(level, source, weight, &finish) }
        out.tensor(shape)
    }

    /// conv(u), u being `x` enlarged to `size`, copies of up to `whole` bytes being made whole.
    pub(super) fn run_enlarged(
        &self,
        (level, pool, whole): (Level, &Arc<Pool>, usize),
        x: &Tensor,
        size: [usize; 2],
    ) -> Result<Tensor> {
        let [n, h, w, _] = x.shape;
        let doubled = match &self.form {
            Form::Enlarged { doubled, .. } if size == [2 * h, 2 * w] => doubled,
            _ => {
                let (geometry, window) = self.geometry(size)?;
                let padded = Padded::copied(pool, x.into(), size, window);
                return Ok(self.run_padded(level, pool, &padded, n, &geometry, Add::Nothing));
            }
        };
        let shape = [n, size[0], size[1], self.outputs];
        let mut out = Result16::new(pool, shape);
        let kernel = [2, 2];
        // Of 2x2 pixels, wherever they lie under the 3x3 around a pixel.
        let window = Window { before: [1, 1], after: [1, 1], columns: 3, step: 1, spread: true };
        let parts = [0, 1, 2, 3].map(|parity| {
            let (corner, weight) = ([parity / 2, parity % 2], &doubled[parity]);
            let finish = Write::new(out.shared(), Activation::Identity, &Add::Nothing, weight);
            Part {
                kernel,
                corner,
                places: Places::Every2(corner),
                weight,
                transformed: None,
                finish,
            }
        });
        let Some((window, _)) = window.fitting(x.shape, whole) else {
            let pictures = Pictures {
                x: x.into(),
                filling: Filling::Same,
                before: [1, 1],
                window: [3, 3],
                stride: 1,
                grid: [h, w],
            };
            // SAFETY: each of the four writes pixels of its own.
            unsafe { band::convolve(level, pool, &pictures, &parts) }
            return Ok(out.tensor(shape));
        };
        let padded = Padded::copied(pool, x.into(), [h, w], window);
        for Part { corner, places, weight, finish, .. } in &parts {
            let geometry =
                Geometry { kernel, stride: 1, before: [1, 1], output: [h, w], enlarged: [h, w] };
            let source = Source::padded(&padded, n, &geometry, *corner, *places);
            // SAFETY: each of the four writes pixels of its own.
            unsafe { product(level, &source, weight, finish) }
        }
        Ok(out.tensor(shape))
    }
}

/// The weights over a picture of twice the size, as four convolutions of 2x2 over the picture itself: of the
/// three rows of the kernel two always fall on one row of the picture.
fn doubled(
    pool: &Arc<Pool>,
    [channels, outputs]: [usize; 2],
    bias: Option<&[f32]>,
    at: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> [Packed; 4] {
    [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[py, px]: [usize; 2]| {
        // Rows of the kernel that fall on the upper and on the lower row.
        let taps = |parity: usize, half: usize| match (parity, half) {
            (0, 0) => 0..1,
            (0, _) => 1..3,
            (_, 0) => 0..2,
            _ => 2..3,
        };
        Packed::new(pool, [4, channels, outputs], bias, |tap, channel, output| {
            let rows = taps(py, tap / 2);
            let pairs = rows.flat_map(|y| taps(px, tap % 2).map(move |x| y * 3 + x));
            pairs.map(|t| at(t, channel, output)).sum()
        })
    })
}

/// The kernel of 3x3 that `doubled` is of: its corners stand there alone, the others are differences, off by what
/// the sums were rounded.
fn undoubled(pool: &Arc<Pool>, doubled: &[Packed; 4]) -> Packed {
    let (outputs, channels) = (doubled[0].outputs, doubled[0].channels);
    let bias = &doubled[0].bias[..outputs];
    Packed::new(pool, [9, channels, outputs], Some(bias), |tap, channel, output| {
        let of = |parity: usize, tap: usize| doubled[parity].at(tap, channel, output);
        let (first, last) = (of(0, 0), of(3, 3));
        let (right, below) = (of(1, 0) - first, of(2, 0) - first);
        match tap {
            0 => first,
            1 => right,
            2 => of(1, 1),
            3 => below,
            4 => of(3, 0) - first - right - below,
            5 => of(1, 3) - last,
            6 => of(2, 2),
            7 => of(2, 3) - last,
            _ => last,
        }
    })
}
