//! Every operation against sums in f64, on every level that this processor has.

use super::{Cpu, Level};
use crate::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec};

/// The root of the mean square of a difference, relative to that of the values.
const BOUND: f64 = 1e-6;

/// Repeatable values, roughly normal.
pub(super) struct Source(pub(super) u64);

impl Source {
    pub(super) fn next(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum * 1.7
    }

    pub(super) fn tensor(&mut self, shape: &[usize]) -> HostTensor {
        let length = shape.iter().product();
        HostTensor::new(shape, (0..length).map(|_| self.next()).collect()).unwrap()
    }
}

fn levels() -> Vec<Cpu> {
    let all = Level::ALL.into_iter().filter(|level| *level == level.full());
    let (have, lack): (Vec<_>, Vec<_>) = all.partition(|l| l.is_available());
    for level in lack {
        println!("skipped: this processor has no {level}");
    }
    have.into_iter().map(Cpu::new).collect()
}

fn assert_near(cpu: &Cpu, what: &str, got: &HostTensor, want: &[f64]) {
    assert_eq!(got.data().len(), want.len(), "{what}");
    let (mut error, mut size) = (0.0, 0.0);
    for (&got, &want) in got.data().iter().zip(want) {
        error += (f64::from(got) - want).powi(2);
        size += want.powi(2);
    }
    let error = (error / size.max(1e-30)).sqrt();
    println!("{} {what}: {error:.1e}", cpu.level());
    assert!(error <= BOUND, "{} {what}: {error:e}", cpu.level());
}

fn erf(x: f64) -> f64 {
    // The integral by its series; good to 1e-15 where it is used (|x| < 5).
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    if x.abs() > 5.0 { x.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() }
}

pub(super) fn activated(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
    }
}

/// conv(x) + bias over (n, h, w, c) values.
pub(super) fn convolved(
    x: &[f64],
    [n, h, w, c]: [usize; 4],
    weight: &HostTensor,
    bias: &HostTensor,
    spec: ConvSpec,
) -> (Vec<f64>, [usize; 4]) {
    let [outputs, _, kh, kw]: [usize; 4] = weight.shape().try_into().unwrap();
    let out_h = (h + spec.before + spec.after - kh) / spec.stride + 1;
    let out_w = (w + spec.before + spec.after - kw) / spec.stride + 1;
    let mut out = Vec::new();
    for sample in 0..n {
        for row in 0..out_h {
            for column in 0..out_w {
                for output in 0..outputs {
                    let mut sum = f64::from(bias.data()[output]);
                    for tap in 0..kh * kw {
                        let y = (row * spec.stride + tap / kw).wrapping_sub(spec.before);
                        let x0 = (column * spec.stride + tap % kw).wrapping_sub(spec.before);
                        if y >= h || x0 >= w {
                            continue;
                        }
                        for channel in 0..c {
                            let value = x[((sample * h + y) * w + x0) * c + channel];
                            let weight = weight.data()[(output * c + channel) * kh * kw + tap];
                            sum += value * f64::from(weight);
                        }
                    }
                    out.push(sum);
                }
            }
        }
    }
    (out, [n, out_h, out_w, outputs])
}

pub(super) fn wide(x: &HostTensor) -> Vec<f64> {
    x.data().iter().map(|&v| f64::from(v)).collect()
}

/// The channels of two tensors side by side.
pub(super) fn joined(a: &HostTensor, b: &HostTensor) -> HostTensor {
    let [n, h, w, ca]: [usize; 4] = a.shape().try_into().unwrap();
    let cb = b.shape()[3];
    let pixels = a.data().chunks(ca).zip(b.data().chunks(cb));
    HostTensor::new([n, h, w, ca + cb], pixels.flat_map(|(a, b)| [a, b].concat()).collect())
        .unwrap()
}

pub(super) fn normed(x: &[f64], [n, h, w, c]: [usize; 4], groups: usize, epsilon: f64) -> Vec<f64> {
    let (width, mut out) = (c / groups, x.to_vec());
    for sample in 0..n {
        for group in 0..groups {
            let places: Vec<usize> = (0..h * w)
                .flat_map(|p| (0..width).map(move |i| (sample * h * w + p) * c + group * width + i))
                .collect();
            let mean = places.iter().map(|&i| x[i]).sum::<f64>() / places.len() as f64;
            let variance =
                places.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / places.len() as f64;
            for i in places {
                out[i] = (x[i] - mean) / (variance + epsilon).sqrt();
            }
        }
    }
    out
}

/// (samples, height, width, channels, outputs, kernel, stride, before, after)
pub(super) const SHAPES: [[usize; 9]; 12] = [
    // Winograd's method: odd sizes, several blocks of channels, several samples.
    [1, 9, 11, 64, 64, 3, 1, 1, 1],
    [3, 8, 8, 50, 75, 3, 1, 1, 1],
    [1, 17, 8, 400, 130, 3, 1, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 0, 0],
    [1, 1, 1, 5, 3, 3, 1, 1, 1],
    [2, 7, 5, 4, 20, 3, 1, 1, 1],
    [3, 9, 6, 33, 70, 3, 2, 1, 1],
    [1, 8, 8, 48, 3, 3, 2, 0, 1],
    [16, 4, 4, 64, 64, 3, 1, 1, 1],
    [1, 16, 16, 96, 130, 1, 1, 0, 0],
    [2, 3, 11, 130, 9, 3, 1, 1, 1],
    [1, 20, 20, 8, 256, 3, 1, 1, 1],
];

#[test]
fn a_convolution_is_its_sum() {
    for cpu in levels() {
        let mut source = Source(1);
        for [n, h, w, c, outputs, kernel, stride, before, after] in SHAPES {
            let spec = ConvSpec { stride, before, after, upsamples: false };
            let x = source.tensor(&[n, h, w, c]);
            let weight = source.tensor(&[outputs, c, kernel, kernel]);
            let bias = source.tensor(&[outputs]);
            let (want, shape) = convolved(&wide(&x), [n, h, w, c], &weight, &bias, spec);
            let residual = source.tensor(&shape);
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let tensor = cpu.upload(&x).unwrap();
            let what = format!("{n}x{h}x{w}x{c} to {outputs}, kernel {kernel}, stride {stride}");
            let got = cpu.conv2d((&tensor).into(), &conv, Add::Nothing).unwrap();
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want);
            let add = cpu.upload(&residual).unwrap();
            let got = cpu.conv2d((&tensor).into(), &conv, Add::Residual(&add)).unwrap();
            let want: Vec<f64> = want.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
            assert_near(&cpu, &format!("{what}, residual"), &cpu.download(&got).unwrap(), &want);
        }
    }
}

#[test]
fn two_sources_are_read_as_one() {
    for cpu in levels() {
        let mut source = Source(2);
        for [n, h, w, a, b, outputs, groups] in
            [[1, 5, 4, 8, 24, 40, 8], [2, 6, 6, 64, 32, 64, 32], [1, 30, 31, 64, 128, 32, 32]]
        {
            let (first, second) = (source.tensor(&[n, h, w, a]), source.tensor(&[n, h, w, b]));
            let weight = source.tensor(&[outputs, a + b, 3, 3]);
            let bias = source.tensor(&[outputs]);
            let (scale, shift) = (source.tensor(&[a + b]), source.tensor(&[a + b]));
            let time = source.tensor(&[1, 1, 1, outputs]);
            let spec = ConvSpec::same(1);
            let shape = [n, h, w, a + b];
            let both = wide(&joined(&first, &second));
            let (want, _) = convolved(&both, shape, &weight, &bias, spec);
            let silu: Vec<f64> = normed(&both, shape, groups, 1e-5)
                .iter()
                .enumerate()
                .map(|(i, &x)| {
                    let c = i % (a + b);
                    let y = x * f64::from(scale.data()[c]) + f64::from(shift.data()[c]);
                    activated(Activation::Silu, y)
                })
                .collect();
            let (fused, _) = convolved(&silu, shape, &weight, &bias, spec);
            let fused: Vec<f64> = fused
                .iter()
                .enumerate()
                .map(|(i, v)| v + f64::from(time.data()[i % outputs]))
                .collect();
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let norm = NormSpec::Group { groups, epsilon: 1e-5 };
            let norm = cpu.norm(scale, shift, norm).unwrap();
            let (first, second) = (cpu.upload(&first).unwrap(), cpu.upload(&second).unwrap());
            let x = (&first, &second).into();
            let what = format!("{a} + {b} channels");
            let got = cpu.conv2d(x, &conv, Add::Nothing).unwrap();
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want);
            let time = cpu.upload(&time).unwrap();
            let add = Add::Channels(&time);
            let got = cpu.norm_conv2d(x, &norm, Activation::Silu, &conv, add).unwrap();
            assert_near(&cpu, &format!("{what}, normed"), &cpu.download(&got).unwrap(), &fused);
        }
    }
}

#[test]
fn an_enlarged_picture_is_convolved() {
    for cpu in levels() {
        let mut source = Source(3);
        for ([h, w], [height, width]) in
            [([1, 1], [2, 2]), ([5, 4], [10, 8]), ([3, 3], [5, 6]), ([16, 9], [32, 18])]
        {
            let x = source.tensor(&[2, h, w, 12]);
            let (weight, bias) = (source.tensor(&[20, 12, 3, 3]), source.tensor(&[20]));
            let large: Vec<f64> = (0..2 * height * width)
                .flat_map(|pixel| {
                    let (sample, line) = (pixel / width / height, pixel / width % height);
                    let source = (sample * h + line * h / height) * w + pixel % width * w / width;
                    wide(&x)[source * 12..(source + 1) * 12].to_vec()
                })
                .collect();
            let spec = ConvSpec::upsampling();
            let (want, _) = convolved(&large, [2, height, width, 12], &weight, &bias, spec);
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let x = cpu.upload(&x).unwrap();
            let got = cpu.upsample_conv2d(&x, height, width, &conv).unwrap();
            let what = format!("{h}x{w} to {height}x{width}");
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want);
        }
    }
}

#[test]
fn transformer_layers_are_their_sums() {
    for cpu in levels() {
        let mut source = Source(4);
        for [tokens, inputs, outputs] in [[1, 7, 10], [33, 64, 256], [100, 96, 768], [5, 900, 128]]
        {
            let x = source.tensor(&[1, 1, tokens, inputs]);
            // A mean far above the deviation, as deep layers have.
            let x =
                HostTensor::new(x.shape(), x.data().iter().map(|v| v + 30.0).collect()).unwrap();
            let (scale, shift) = (source.tensor(&[inputs]), source.tensor(&[inputs]));
            let weight = source.tensor(&[outputs, inputs]);
            let bias = source.tensor(&[outputs]);
            let norm: Vec<f64> = wide(&x)
                .chunks(inputs)
                .flat_map(|token| normed(token, [1, 1, 1, inputs], 1, 1e-5))
                .enumerate()
                .map(|(i, v)| {
                    let c = i % inputs;
                    v * f64::from(scale.data()[c]) + f64::from(shift.data()[c])
                })
                .collect();
            let kernel = HostTensor::new([outputs, inputs, 1, 1], weight.data().to_vec()).unwrap();
            let spec = ConvSpec::same(0);
            let (sums, _) = convolved(&norm, [1, 1, tokens, inputs], &kernel, &bias, spec);
            let linear = cpu.linear(weight, Some(bias)).unwrap();
            let norm_layer = cpu.norm(scale, shift, NormSpec::Layer { epsilon: 1e-5 }).unwrap();
            let tensor = cpu.upload(&x).unwrap();
            let what = format!("{tokens} tokens, {inputs} to {outputs}");
            let got = cpu.normalize(&tensor, &norm_layer).unwrap();
            assert_near(&cpu, &format!("{what}, norm"), &cpu.download(&got).unwrap(), &norm);
            for activation in [Activation::Identity, Activation::Silu, Activation::Gelu] {
                let got = cpu.norm_dense(&tensor, &norm_layer, &linear, activation).unwrap();
                let want: Vec<f64> = sums.iter().map(|&v| activated(activation, v)).collect();
                let what = format!("{what}, {activation:?}");
                assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want);
            }
            let want: Vec<f64> = sums
                .chunks(outputs)
                .flat_map(|row| {
                    let (values, gates) = row.split_at(outputs / 2);
                    let gated = values.iter().zip(gates);
                    gated.map(|(a, &b)| a * activated(Activation::Gelu, b)).collect::<Vec<_>>()
                })
                .collect();
            let got = cpu.norm_geglu(&tensor, &norm_layer, &linear).unwrap();
            assert_near(&cpu, &format!("{what}, gated"), &cpu.download(&got).unwrap(), &want);
        }
    }
}

/// Attention of one head: rows of `width` values.
pub(super) fn attended(q: &[f64], k: &[f64], v: &[f64], width: usize, causal: bool) -> Vec<f64> {
    let mut out = Vec::new();
    for (row, q) in q.chunks(width).enumerate() {
        let seen = if causal { row + 1 } else { k.len() / width };
        let score =
            |k: &[f64]| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (width as f64).sqrt();
        let scores: Vec<f64> = k.chunks(width).take(seen).map(score).collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for column in 0..width {
            let values = v.chunks(width).map(|v| v[column]);
            out.push(weights.iter().zip(values).map(|(w, v)| w * v).sum::<f64>() / sum);
        }
    }
    out
}

#[test]
fn attention_is_its_sum() {
    for cpu in levels() {
        let mut source = Source(5);
        // The columns of one head, out of rows of `pitch`.
        let head = |x: &[f64], pitch: usize, start: usize, width: usize| -> Vec<f64> {
            x.chunks(pitch).flat_map(|row| row[start..start + width].to_vec()).collect()
        };
        for [n, tokens, heads, width] in
            [[1, 1, 1, 4], [2, 77, 2, 64], [1, 300, 3, 32], [3, 49, 1, 96], [1, 600, 1, 20]]
        {
            let c = heads * width;
            let qkv = source.tensor(&[n, 1, tokens, 3 * c]);
            let contexts = source.tensor(&[2, 1, 77, 2 * c]);
            let rows: Vec<usize> = (0..n).map(|sample| (sample + 1) % 2).collect();
            let x = wide(&qkv);
            for causal in [false, true] {
                let mut want = vec![0.0; n * tokens * c];
                for sample in 0..n {
                    let x = &x[sample * tokens * 3 * c..(sample + 1) * tokens * 3 * c];
                    for part in 0..heads {
                        let [q, k, v] =
                            [0, 1, 2].map(|i| head(x, 3 * c, i * c + part * width, width));
                        let mixed = attended(&q, &k, &v, width, causal);
                        for (i, value) in mixed.into_iter().enumerate() {
                            let token = sample * tokens + i / width;
                            want[token * c + part * width + i % width] = value;
                        }
                    }
                }
                let tensor = cpu.upload(&qkv).unwrap();
                let got = cpu.self_attention(&tensor, heads, causal).unwrap();
                let what = format!("{n} x {tokens} tokens, {heads} heads of {width}, {causal}");
                assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want);
            }
            let q = source.tensor(&[n, 1, tokens, c]);
            let mut want = vec![0.0; n * tokens * c];
            for sample in 0..n {
                let q = &wide(&q)[sample * tokens * c..(sample + 1) * tokens * c];
                let both = wide(&contexts);
                let both = &both[rows[sample] * 77 * 2 * c..(rows[sample] + 1) * 77 * 2 * c];
                for part in 0..heads {
                    let q = head(q, c, part * width, width);
                    let k = head(both, 2 * c, part * width, width);
                    let v = head(both, 2 * c, c + part * width, width);
                    for (i, value) in attended(&q, &k, &v, width, false).into_iter().enumerate() {
                        let token = sample * tokens + i / width;
                        want[token * c + part * width + i % width] = value;
                    }
                }
            }
            let (q, contexts) = (cpu.upload(&q).unwrap(), cpu.upload(&contexts).unwrap());
            let got = cpu.cross_attention(&q, &contexts, &rows, heads).unwrap();
            assert_near(&cpu, "cross-attention", &cpu.download(&got).unwrap(), &want);
        }
    }
}

#[test]
fn neither_batch_nor_threads_show() {
    for cpu in levels() {
        let mut source = Source(6);
        let x = source.tensor(&[5, 12, 10, 64]);
        let (weight, bias) = (source.tensor(&[96, 64, 3, 3]), source.tensor(&[96]));
        let conv = cpu.conv(weight, Some(bias), ConvSpec::same(1)).unwrap();
        let (scale, shift) = (source.tensor(&[64]), source.tensor(&[64]));
        let norm = NormSpec::Group { groups: 32, epsilon: 1e-5 };
        let norm = cpu.norm(scale, shift, norm).unwrap();
        let qkv = cpu.linear(source.tensor(&[3 * 96, 96]), None).unwrap();
        let pass = |x: &HostTensor| {
            let x = cpu.upload(x).unwrap();
            let silu = Activation::Silu;
            let x = cpu.norm_conv2d((&x).into(), &norm, silu, &conv, Add::Nothing).unwrap();
            let x = cpu.dense(&x, &qkv, Activation::Identity, Add::Nothing).unwrap();
            cpu.download(&cpu.self_attention(&x, 3, false).unwrap()).unwrap().into_data()
        };
        let together = pass(&x);
        let size = 12 * 10 * 64;
        for sample in 0..5 {
            let alone = x.data()[sample * size..(sample + 1) * size].to_vec();
            let alone = pass(&HostTensor::new([1, 12, 10, 64], alone).unwrap());
            assert_eq!(alone, together[sample * 12 * 10 * 96..(sample + 1) * 12 * 10 * 96]);
        }
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| pass(&x)), together, "{threads} threads");
        }
    }
}

#[test]
fn what_is_no_number_stays_none_in_attention() {
    for cpu in levels() {
        let mut source = Source(7);
        let (tokens, heads, width) = (70, 2, 20);
        let pitch = 3 * heads * width;
        for key in [0, 3, 37, 69] {
            let mut values = source.tensor(&[1, 1, tokens, pitch]).into_data();
            // One number of one key of the second head.
            values[key * pitch + heads * width + width + 5] = f32::NAN;
            let qkv = HostTensor::new([1, 1, tokens, pitch], values).unwrap();
            let qkv = cpu.upload(&qkv).unwrap();
            for causal in [false, true] {
                let got = cpu.self_attention(&qkv, heads, causal).unwrap();
                let got = cpu.download(&got).unwrap();
                for (token, row) in got.data().chunks(heads * width).enumerate() {
                    let (whole, hit) = row.split_at(width);
                    assert!(whole.iter().all(|v| v.is_finite()), "{} {token}", cpu.level());
                    let sees = !causal || token >= key;
                    let as_wanted = |v: &f32| if sees { v.is_nan() } else { v.is_finite() };
                    assert!(hit.iter().all(as_wanted), "{} key {key}, {token}", cpu.level());
                }
            }
        }
    }
}

#[test]
fn weights_that_are_made_late_are_counted() {
    let cpu = Cpu::new(Level::best());
    let mut source = Source(8);
    let weight = source.tensor(&[40, 12, 3, 3]);
    let conv = cpu.conv(weight, None, ConvSpec::upsampling()).unwrap();
    let at_load = cpu.weight_bytes(0);
    let x = cpu.upload(&source.tensor(&[1, 3, 3, 12])).unwrap();
    cpu.upsample_conv2d(&x, 6, 6, &conv).unwrap();
    assert_eq!(cpu.weight_bytes(0), at_load);
    for _ in 0..3 {
        cpu.upsample_conv2d(&x, 5, 6, &conv).unwrap();
        // Nine numbers in place of sixteen.
        assert_eq!(cpu.weight_bytes(0), at_load + at_load / 16 * 9);
    }
}

#[test]
fn one_convolution_may_run_in_many_tasks_at_once() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for round in 0..20 {
        let cpu = Cpu::new(Level::best());
        let mut source = Source(round);
        let weight = source.tensor(&[96, 96, 3, 3]);
        let conv = cpu.conv(weight, None, ConvSpec::upsampling()).unwrap();
        let x = cpu.upload(&source.tensor(&[1, 3, 3, 96])).unwrap();
        let run = |_| {
            let y = cpu.upsample_conv2d(&x, 5, 6, &conv).unwrap();
            cpu.download(&y).unwrap()
        };
        use rayon::prelude::*;
        let all: Vec<HostTensor> =
            pool.install(|| (0..16).into_par_iter().with_max_len(1).map(run).collect());
        assert!(all.iter().all(|y| *y == all[0]));
    }
}
