//! In: two pictures, and the weights of LPIPS that a user has. Out: their distance as LPIPS measures it
//! (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"), version
//! 0.1 on AlexNet.
//!
//! Runs on the host, on the caller's thread, in plain loops and one order of sums: pictures are small, and a
//! distance that places branches must be the same whatever the device.

use crate::error::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// Channels in and out, side of the kernel, stride and padding of each convolution (Krizhevsky 2014, as
/// torchvision has it), and whether a maximum over 3x3 pixels, every other one, comes before it.
const LAYERS: [([usize; 5], bool); 5] = [
    ([3, 64, 11, 4, 2], false),
    ([64, 192, 5, 1, 2], true),
    ([192, 384, 3, 1, 1], true),
    ([384, 256, 3, 1, 1], false),
    ([256, 256, 3, 1, 1], false),
];

/// The number that torchvision gives each convolution among AlexNet's `features`.
const NUMBERS: [usize; 5] = [0, 3, 6, 8, 10];

/// What is taken from red, green and blue (-1 to 1), and what the rest is divided by.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Below this side, nothing is left for the third convolution.
const SMALLEST: usize = 31;

struct Layer {
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// What each channel's squared difference counts.
    head: Vec<f32>,
}

/// The LPIPS distance, version 0.1, on AlexNet.
pub struct Lpips(Vec<Layer>);

/// What LPIPS compares: for each layer the channels (channels, pixels), of length 1 at each pixel.
pub(crate) struct LpipsFeatures(Vec<Vec<f32>>);

impl Lpips {
    /// Reads the weights from a safetensors file (f32, f16 or bf16). It holds, for K = 0, 3, 6, 8, 10, the
    /// convolutions `net.sliceN.K.weight` and `.bias` (N = 1 to 5), or `features.K...` as in torchvision's
    /// AlexNet, and the heads `linN.model.1.weight` (N = 0 to 4), of shape (1, channels, 1, 1): the
    /// `state_dict` of the `lpips` package's `LPIPS(net="alex")`. Other tensors are ignored.
    ///
    /// # Errors
    /// `NotFound`, `Io`, and `BadModel` for a file that lacks a tensor or has one of another shape.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        const LARGEST: u64 = 1 << 30;
        let path = path.as_ref();
        let io = |e: std::io::Error| Error::io(path.display(), &e);
        let bad = |what: String| Error::bad_model(format!("{}: {what}", path.display()));
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > LARGEST {
            return Err(bad(format!("{length} bytes: wanted up to {LARGEST}")));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| bad(format!("not a safetensors file: {e}")))?;
        let tensor = |names: &[String], shape: &[usize]| -> Result<Vec<f32>> {
            let view = names.iter().find_map(|name| file.tensor(name).ok());
            let view = view.ok_or_else(|| bad(format!("{} is missing", names[0])))?;
            if view.shape() != shape {
                let got = view.shape();
                return Err(bad(format!("{} has shape {got:?}, wanted {shape:?}", names[0])));
            }
            let values = decoded(view.data(), view.dtype());
            let values =
                values.ok_or_else(|| bad(format!("{} is {:?}", names[0], view.dtype())))?;
            match values.iter().all(|v| v.is_finite()) {
                true => Ok(values),
                false => Err(bad(format!("{} holds values that are not finite", names[0]))),
            }
        };
        let layers = LAYERS.iter().zip(NUMBERS).enumerate();
        let layers = layers.map(|(index, (&([inputs, outputs, side, ..], _), number))| {
            let name = |part: &str| {
                [
                    format!("net.slice{}.{number}.{part}", index + 1),
                    format!("features.{number}.{part}"),
                ]
            };
            let head = ["lin", "lins."].map(|lin| format!("{lin}{index}.model.1.weight"));
            Ok(Layer {
                weight: tensor(&name("weight"), &[outputs, inputs, side, side])?,
                bias: tensor(&name("bias"), &[outputs])?,
                head: tensor(&head, &[1, outputs, 1, 1])?,
            })
        });
        Ok(Lpips(layers.collect::<Result<_>>()?))
    }

    /// What pictures are compared by. `rgb` holds red, green and blue planes, 0 to 1.
    pub(crate) fn features(
        &self,
        rgb: &[f32],
        height: usize,
        width: usize,
    ) -> Result<LpipsFeatures> {
        if height.min(width) < SMALLEST || rgb.len() != 3 * height * width {
            return Err(Error::invalid(format!(
                "a picture of {width}x{height} pixels: LPIPS wants at least {SMALLEST} along each side"
            )));
        }
        let scaled = rgb.iter().enumerate().map(|(index, v)| {
            let channel = index / (height * width);
            (v * 2.0 - 1.0 - SHIFT[channel]) / SCALE[channel]
        });
        let mut planes = Planes { height, width, data: scaled.collect() };
        let mut features = Vec::with_capacity(LAYERS.len());
        for (layer, (shape, pooled)) in self.0.iter().zip(LAYERS) {
            if pooled {
                planes = planes.pooled();
            }
            planes = planes.convolved(layer, shape);
            features.push(planes.normalised());
        }
        Ok(LpipsFeatures(features))
    }

    /// LPIPS itself, as the package gives it: the sum over layers of the mean over pixels of the weighted
    /// squared differences.
    pub(crate) fn between(&self, p: &LpipsFeatures, q: &LpipsFeatures) -> Result<f64> {
        if p.0.iter().map(Vec::len).ne(q.0.iter().map(Vec::len)) {
            return Err(Error::invalid("pictures of different sizes have no distance"));
        }
        let layers = self.0.iter().zip(p.0.iter().zip(&q.0));
        Ok(layers
            .map(|(layer, (p, q))| {
                let pixels = (p.len() / layer.head.len()).max(1);
                let channels = p.chunks(pixels).zip(q.chunks(pixels)).zip(&layer.head);
                let sum: f64 = channels
                    .map(|((p, q), &weight)| {
                        let squares = p.iter().zip(q).map(|(p, q)| f64::from(p - q).powi(2));
                        f64::from(weight) * squares.sum::<f64>()
                    })
                    .sum();
                sum / pixels as f64
            })
            .sum())
    }
}

fn decoded(bytes: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match dtype {
        Dtype::F32 => Some(
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        ),
        Dtype::F16 => Some(pairs().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        _ => None,
    }
}

/// Channels of one picture, one after the other.
struct Planes {
    height: usize,
    width: usize,
    data: Vec<f32>,
}

impl Planes {
    /// max(0, conv(x))
    fn convolved(&self, layer: &Layer, [inputs, outputs, side, stride, pad]: [usize; 5]) -> Planes {
        let out = |length: usize| (length + 2 * pad - side) / stride + 1;
        let (height, width) = (out(self.height), out(self.width));
        let mut data = Vec::with_capacity(outputs * height * width);
        let mut plane = vec![0.0f32; height * width];
        for (kernels, &bias) in layer.weight.chunks(inputs * side * side).zip(&layer.bias) {
            plane.fill(bias);
            for (input, kernel) in
                self.data.chunks(self.height * self.width).zip(kernels.chunks(side * side))
            {
                for (tap, &weight) in kernel.iter().enumerate() {
                    let (ky, kx) = (tap / side, tap % side);
                    // The outputs whose tap lies inside: pad <= i stride + k < length + pad.
                    let inside = |k: usize, length: usize, count: usize| {
                        let first = pad.saturating_sub(k).div_ceil(stride);
                        let last = (length + pad).checked_sub(k + 1).map_or(0, |l| l / stride + 1);
                        let last = last.min(count);
                        first.min(last)..last
                    };
                    let columns = inside(kx, self.width, width);
                    if columns.is_empty() {
                        continue;
                    }
                    for y in inside(ky, self.height, height) {
                        let row = (y * stride + ky - pad) * self.width;
                        let from = row + columns.start * stride + kx - pad;
                        let source = input[from..].iter().step_by(stride);
                        let target = &mut plane[y * width..][columns.clone()];
                        target.iter_mut().zip(source).for_each(|(t, s)| *t += weight * s);
                    }
                }
            }
            data.extend(plane.iter().map(|v| v.max(0.0)));
        }
        Planes { height, width, data }
    }

    /// The largest of 3x3 pixels, at every other place.
    fn pooled(&self) -> Planes {
        let out = |length: usize| (length - 3) / 2 + 1;
        let (height, width) = (out(self.height), out(self.width));
        let planes = self.data.chunks(self.height * self.width);
        let pixels = planes.flat_map(|plane| {
            (0..height * width).map(move |pixel| {
                let (y, x) = (pixel / width * 2, pixel % width * 2);
                let rows = (y..y + 3).flat_map(|row| &plane[row * self.width + x..][..3]);
                rows.copied().fold(f32::NEG_INFINITY, f32::max)
            })
        });
        let data = pixels.collect();
        Planes { height, width, data }
    }

    /// The channels at each pixel divided by their length.
    fn normalised(&self) -> Vec<f32> {
        const FLOOR: f32 = 1e-10;
        let pixels = self.height * self.width;
        let mut lengths = vec![0.0f32; pixels];
        for plane in self.data.chunks(pixels) {
            lengths.iter_mut().zip(plane).for_each(|(l, v)| *l += v * v);
        }
        lengths.iter_mut().for_each(|l| *l = l.sqrt() + FLOOR);
        let planes = self.data.chunks(pixels);
        planes.flat_map(|plane| plane.iter().zip(&lengths).map(|(v, l)| v / l)).collect()
    }
}
