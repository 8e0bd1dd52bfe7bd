//! Every operation of a backend at shapes that reach every kernel of the CUDA backend, as the same lines on any backend.

use latentblend::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Sources};

/// Repeatable values, roughly normal.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum * 1.7
    }

    pub fn tensor(&mut self, shape: &[usize], size: f32) -> HostTensor {
        let length = shape.iter().product();
        HostTensor::new(shape, (0..length).map(|_| self.next() * size).collect()).unwrap()
    }
}

/// A case: the same lines on any backend.
pub trait Case {
    fn run<B: Backend>(&self, b: &B) -> HostTensor;
}

/// One operation's operands. `shape` is (n, h, w, c).
#[derive(Clone, Copy)]
pub enum What {
    Conv {
        shape: [usize; 4],
        second: usize,
        outputs: usize,
        kernel: usize,
        spec: ConvSpec,
        add: u8,
    },
    NormConv {
        shape: [usize; 4],
        second: usize,
        groups: usize,
        outputs: usize,
    },
    Upsample {
        shape: [usize; 4],
        to: [usize; 2],
        outputs: usize,
    },
    Normalize {
        shape: [usize; 4],
        groups: usize,
    },
    Dense {
        shape: [usize; 4],
        outputs: usize,
        activation: Activation,
        residual: bool,
    },
    Geglu {
        shape: [usize; 4],
        outputs: usize,
    },
    SelfAttention {
        shape: [usize; 4],
        heads: usize,
        causal: bool,
    },
    CrossAttention {
        shape: [usize; 4],
        prompts: usize,
        tokens: usize,
        heads: usize,
    },
    Gather {
        shape: [usize; 4],
    },
    Combine {
        shape: [usize; 4],
        terms: usize,
    },
}

pub fn norm(groups: usize) -> NormSpec {
    match groups {
        0 => NormSpec::Layer { epsilon: 1e-5 },
        groups => NormSpec::Group { groups, epsilon: 1e-6 },
    }
}

impl Case for What {
    fn run<B: Backend>(&self, b: &B) -> HostTensor {
        let mut r = Random(11);
        // Through a product with the unit matrix, so that operands are what a network's inner tensors are.
        let mut inner = |shape: &[usize]| b.upload(&r.tensor(shape, 1.0)).unwrap();
        let mut r = Random(23);
        let mut weights = |shape: &[usize]| {
            let inputs: usize = shape[1..].iter().product();
            r.tensor(shape, 1.0 / (inputs as f32).sqrt())
        };
        let mut s = Random(5);
        let mut small = |n: usize| s.tensor(&[n], 0.5);
        let shifted = |t: HostTensor| {
            let shape = t.shape().to_vec();
            HostTensor::new(shape, t.into_data().into_iter().map(|v| 1.0 + v).collect()).unwrap()
        };
        let out = match *self {
            What::Conv { shape, second, outputs, kernel, spec, add } => {
                let [n, h, w, c] = shape;
                let (x, y) = (inner(&shape), inner(&[n, h, w, second.max(1)]));
                let weight = weights(&[outputs, c + second, kernel, kernel]);
                let conv = b.conv(weight, Some(small(outputs)), spec).unwrap();
                let x = Sources { first: &x, second: (second > 0).then_some(&y) };
                let plain = b.conv2d(x, &conv, Add::Nothing).unwrap();
                let channels = b.upload(&s.tensor(&[1, 1, 1, outputs], 1.0)).unwrap();
                match add {
                    0 => plain,
                    1 => b.conv2d(x, &conv, Add::Residual(&plain)).unwrap(),
                    _ => b.conv2d(x, &conv, Add::Channels(&channels)).unwrap(),
                }
            }
            What::NormConv { shape, second, groups, outputs } => {
                let [n, h, w, c] = shape;
                let (x, y) = (inner(&shape), inner(&[n, h, w, second.max(1)]));
                // Copies in the backend's own numbers.
                let all: Vec<usize> = (0..n).collect();
                let one = b.linear(unit(c), None).unwrap();
                let x = b.dense(&x, &one, Activation::Identity, Add::Nothing).unwrap();
                let y = b.gather(&y, &all).unwrap();
                let channels = c + second;
                let norm = b.norm(shifted(small(channels)), small(channels), norm(groups)).unwrap();
                let conv = b.conv(weights(&[outputs, channels, 3, 3]), None, ConvSpec::same(1));
                let x = Sources { first: &x, second: (second > 0).then_some(&y) };
                b.norm_conv2d(x, &norm, Activation::Silu, &conv.unwrap(), Add::Nothing).unwrap()
            }
            What::Upsample { shape, to: [height, width], outputs } => {
                let x = inner(&shape);
                let spec = ConvSpec::upsampling();
                let conv = b.conv(weights(&[outputs, shape[3], 3, 3]), None, spec).unwrap();
                b.upsample_conv2d(&x, height, width, &conv).unwrap()
            }
            What::Normalize { shape, groups } => {
                let c = shape[3];
                let norm = b.norm(shifted(small(c)), small(c), norm(groups)).unwrap();
                b.normalize(&inner(&shape), &norm).unwrap()
            }
            What::Dense { shape, outputs, activation, residual } => {
                let x = inner(&shape);
                let linear = b.linear(weights(&[outputs, shape[3]]), Some(small(outputs))).unwrap();
                let plain = b.dense(&x, &linear, activation, Add::Nothing).unwrap();
                if !residual {
                    return b.download(&plain).unwrap();
                }
                b.dense(&x, &linear, activation, Add::Residual(&plain)).unwrap()
            }
            What::Geglu { shape, outputs } => {
                let c = shape[3];
                let linear = b.gated(weights(&[2 * outputs, c]), Some(small(2 * outputs))).unwrap();
                let norm = b.norm(shifted(small(c)), small(c), norm(0)).unwrap();
                b.norm_geglu(&inner(&shape), &norm, &linear).unwrap()
            }
            What::SelfAttention { shape: [n, h, w, c], heads, causal } => {
                b.self_attention(&inner(&[n, h, w, 3 * c]), heads, causal).unwrap()
            }
            What::CrossAttention { shape, prompts, tokens, heads } => {
                let (q, both) = (inner(&shape), inner(&[prompts, 1, tokens, 2 * shape[3]]));
                let rows: Vec<usize> = (0..shape[0]).map(|i| (i * 2 + 1) % prompts).collect();
                b.cross_attention(&q, &both, &rows, heads).unwrap()
            }
            What::Gather { shape } => {
                let rows: Vec<usize> = (0..shape[0] + 1).map(|i| i * 3 % shape[0]).collect();
                b.gather(&inner(&shape), &rows).unwrap()
            }
            What::Combine { shape, terms } => {
                let tensors: Vec<_> = (0..terms).map(|_| inner(&shape)).collect();
                let weights: Vec<Vec<f32>> = (0..terms)
                    .map(|term| {
                        (0..shape[0]).map(|i| 0.5 + (term * 7 + i * 3) as f32 * 0.1).collect()
                    })
                    .collect();
                let terms: Vec<_> =
                    tensors.iter().zip(&weights).map(|(t, w)| (t, w.as_slice())).collect();
                b.combine(&terms).unwrap()
            }
        };
        b.download(&out).unwrap()
    }
}

fn unit(c: usize) -> HostTensor {
    let values = (0..c * c).map(|i| if i % c == i / c { 1.0 } else { 0.0 }).collect();
    HostTensor::new([c, c], values).unwrap()
}

/// Shapes that reach every kernel: both tiles, split sums, odd channels, several tiles of keys, wide heads.
pub fn cases() -> Vec<(&'static str, What)> {
    let same = ConvSpec::same(1);
    let conv = |shape, second, outputs, kernel, spec, add| What::Conv {
        shape,
        second,
        outputs,
        kernel,
        spec,
        add,
    };
    vec![
        ("conv 3x3", conv([2, 9, 7, 24], 0, 40, 3, same, 0)),
        ("conv 3x3, large tile, residual", conv([3, 16, 16, 16], 0, 136, 3, same, 1)),
        ("conv 3x3, sum in two parts", conv([1, 9, 9, 256], 0, 72, 3, same, 2)),
        ("conv 3x3, sum in four parts, odd outputs", conv([2, 3, 5, 256], 0, 33, 3, same, 1)),
        ("conv 1x1, two sources", conv([2, 5, 6, 24], 8, 48, 1, ConvSpec::same(0), 0)),
        ("conv 3x3, two odd sources", conv([1, 6, 5, 4], 5, 32, 3, same, 2)),
        ("conv 3x3, last", conv([2, 6, 6, 32], 0, 4, 3, same, 0)),
        ("conv, halving", conv([1, 9, 8, 16], 0, 24, 3, ConvSpec::halving(1, 1), 0)),
        ("conv, halving, after only", conv([1, 8, 8, 16], 0, 24, 3, ConvSpec::halving(0, 1), 0)),
        ("norm conv", What::NormConv { shape: [2, 8, 6, 32], second: 0, groups: 8, outputs: 24 }),
        (
            "norm conv, two",
            What::NormConv { shape: [2, 5, 7, 40], second: 24, groups: 16, outputs: 16 },
        ),
        (
            "norm conv, odd",
            What::NormConv { shape: [2, 3, 3, 12], second: 0, groups: 6, outputs: 16 },
        ),
        ("upsample", What::Upsample { shape: [2, 4, 5, 16], to: [8, 10], outputs: 24 }),
        ("upsample, odd", What::Upsample { shape: [1, 5, 4, 16], to: [9, 7], outputs: 16 }),
        ("group norm", What::Normalize { shape: [2, 50, 60, 64], groups: 32 }),
        ("group norm, wide", What::Normalize { shape: [1, 4, 5, 2560], groups: 32 }),
        ("group norm, many groups", What::Normalize { shape: [1, 4, 5, 96], groups: 48 }),
        ("layer norm", What::Normalize { shape: [2, 3, 5, 320], groups: 0 }),
        ("layer norm, odd", What::Normalize { shape: [2, 1, 7, 30], groups: 0 }),
        (
            "dense",
            What::Dense {
                shape: [3, 5, 6, 64],
                outputs: 72,
                activation: Activation::Gelu,
                residual: true,
            },
        ),
        (
            "dense, one row",
            What::Dense {
                shape: [1, 1, 1, 320],
                outputs: 128,
                activation: Activation::Silu,
                residual: false,
            },
        ),
        ("geglu", What::Geglu { shape: [2, 3, 9, 40], outputs: 80 }),
        ("attention", What::SelfAttention { shape: [2, 9, 9, 128], heads: 2, causal: false }),
        (
            "attention, long",
            What::SelfAttention { shape: [1, 24, 22, 64], heads: 1, causal: false },
        ),
        (
            "attention, narrow",
            What::SelfAttention { shape: [1, 9, 9, 32], heads: 4, causal: false },
        ),
        ("attention, odd", What::SelfAttention { shape: [2, 5, 5, 20], heads: 2, causal: false }),
        (
            "attention, causal",
            What::SelfAttention { shape: [2, 1, 77, 64], heads: 1, causal: true },
        ),
        ("attention, wide", What::SelfAttention { shape: [2, 9, 9, 200], heads: 1, causal: false }),
        (
            "cross attention",
            What::CrossAttention { shape: [3, 6, 12, 80], prompts: 2, tokens: 77, heads: 2 },
        ),
        (
            "cross attention, many",
            What::CrossAttention { shape: [66, 1, 2, 16], prompts: 3, tokens: 5, heads: 2 },
        ),
        ("gather", What::Gather { shape: [3, 2, 3, 8] }),
        ("gather, many", What::Gather { shape: [130, 1, 1, 3] }),
        ("combine", What::Combine { shape: [3, 4, 4, 4], terms: 4 }),
        ("combine, many", What::Combine { shape: [70, 1, 2, 4], terms: 2 }),
    ]
}

/// The root of the mean square of a difference, relative to that of the values.
pub fn difference(got: &HostTensor, want: &HostTensor) -> f64 {
    assert_eq!(got.shape(), want.shape());
    let (mut error, mut size) = (0.0, 0.0);
    for (&got, &want) in got.data().iter().zip(want.data()) {
        error += f64::from(got - want).powi(2);
        size += f64::from(want).powi(2);
    }
    assert!(size > 0.0);
    (error / size).sqrt()
}
