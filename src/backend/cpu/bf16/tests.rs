//! Every operation against sums in f64 of the same rounded numbers, on every level that this processor has.

mod attention;

use super::{CpuBf16, winograd};
use crate::backend::cpu::Level;
use crate::backend::cpu::tests::{SHAPES, Source, activated, convolved, joined, normed, wide};
use crate::backend::{Activation, Add, Backend, ConvSpec, HostTensor, NormSpec, Sources};
use half::bf16;

/// The root of the mean square of a difference, relative to that of the values: a result's own rounding.
const BOUND: f64 = 1.9e-3;
/// That of a result whose operands were rounded on the way.
const TWICE: f64 = 2.8e-3;

/// What is added to it where patches and weights are rounded after they were transformed: 3.9e-3, and more where most of
/// a patch lies outside of the picture.
const TRANSFORMED: f64 = 5e-3;

/// The bound of a convolution, `bound` being that of a product.
fn of_conv(cpu: &CpuBf16, weight: &[usize], spec: ConvSpec, bound: f64) -> f64 {
    let &[outputs, channels, h, w] = weight else { return bound };
    let transformed = winograd::suits(cpu.level(), [h, w], spec, [channels, outputs]);
    if transformed { TRANSFORMED.hypot(bound) } else { bound }
}

fn levels() -> Vec<CpuBf16> {
    let (have, lack): (Vec<_>, Vec<_>) = Level::ALL.into_iter().partition(|l| l.is_available());
    for level in lack {
        println!("skipped: this processor has no {level}");
    }
    // Small pictures are copied whole, large ones go in bands: the best level does either with all of them.
    let banded = CpuBf16::in_bands(Level::best());
    have.into_iter().map(CpuBf16::new).chain([banded]).collect()
}

fn rounded(x: &HostTensor) -> HostTensor {
    let values = x.data().iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
    HostTensor::new(x.shape(), values).unwrap()
}

/// Repeatable values that bf16 has.
fn draw(source: &mut Source, shape: &[usize]) -> HostTensor {
    rounded(&source.tensor(shape))
}

fn assert_near(cpu: &CpuBf16, what: &str, got: &HostTensor, want: &[f64], bound: f64) {
    assert_eq!(got.data().len(), want.len(), "{what}");
    let (mut error, mut size) = (0.0, 0.0);
    for (&got, &want) in got.data().iter().zip(want) {
        error += (f64::from(got) - want).powi(2);
        size += want.powi(2);
    }
    let error = (error / size.max(1e-30)).sqrt();
    println!("{} {what}: {error:.1e}", cpu.level());
    assert!(error <= bound, "{} {what}: {error:e}", cpu.level());
}

#[test]
fn a_convolution_is_its_sum() {
    for cpu in levels() {
        let mut source = Source(1);
        let more = [
            // Lines that tiles fill, lines that they run through; several blocks of channels.
            [2, 16, 16, 64, 64, 3, 1, 1, 1],
            [1, 5, 40, 96, 48, 3, 1, 1, 1],
            [3, 8, 8, 64, 33, 3, 1, 1, 1],
            [2, 7, 9, 72, 64, 3, 1, 1, 1],
            [1, 23, 50, 40, 80, 3, 1, 1, 1],
            [2, 2, 2, 64, 64, 3, 1, 1, 1],
            [2, 16, 36, 32, 40, 3, 2, 1, 1],
            [1, 33, 31, 32, 40, 3, 2, 0, 1],
            [16, 3, 7, 20, 18, 1, 1, 0, 0],
        ];
        for [n, h, w, c, outputs, kernel, stride, before, after] in SHAPES.into_iter().chain(more) {
            let spec = ConvSpec { stride, before, after, upsamples: false };
            let x = draw(&mut source, &[n, h, w, c]);
            let weight = draw(&mut source, &[outputs, c, kernel, kernel]);
            let bias = source.tensor(&[outputs]);
            let (want, shape) = convolved(&wide(&x), [n, h, w, c], &weight, &bias, spec);
            let residual = draw(&mut source, &shape);
            let bound = of_conv(&cpu, weight.shape(), spec, BOUND);
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let tensor = cpu.upload(&x).unwrap();
            let what = format!("{n}x{h}x{w}x{c} to {outputs}, kernel {kernel}, stride {stride}");
            let got = cpu.conv2d((&tensor).into(), &conv, Add::Nothing).unwrap();
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, bound);
            let add = cpu.upload(&residual).unwrap();
            let got = cpu.conv2d((&tensor).into(), &conv, Add::Residual(&add)).unwrap();
            let want: Vec<f64> = want.iter().zip(wide(&residual)).map(|(a, b)| a + b).collect();
            let what = format!("{what}, residual");
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, bound);
        }
    }
}

#[test]
fn two_sources_are_read_as_one() {
    for cpu in levels() {
        let mut source = Source(2);
        for [n, h, w, a, b, outputs, groups, kernel] in [
            [1, 5, 4, 8, 24, 40, 8, 3],
            [2, 6, 6, 64, 32, 64, 32, 3],
            [1, 30, 31, 64, 128, 32, 32, 3],
            [2, 20, 21, 32, 64, 48, 32, 3],
            [2, 7, 9, 64, 96, 48, 32, 1],
            [1, 4, 4, 9, 6, 20, 5, 3],
        ] {
            let first = draw(&mut source, &[n, h, w, a]);
            let second = draw(&mut source, &[n, h, w, b]);
            let weight = draw(&mut source, &[outputs, a + b, kernel, kernel]);
            let bias = source.tensor(&[outputs]);
            let (scale, shift) = (source.tensor(&[a + b]), source.tensor(&[a + b]));
            let time = draw(&mut source, &[1, 1, 1, outputs]);
            let spec = ConvSpec::same(kernel / 2);
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
            let [plain, normal] =
                [BOUND, TWICE].map(|bound| of_conv(&cpu, weight.shape(), spec, bound));
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let norm = NormSpec::Group { groups, epsilon: 1e-5 };
            let norm = cpu.norm(scale, shift, norm).unwrap();
            let (first, second) = (cpu.upload(&first).unwrap(), cpu.upload(&second).unwrap());
            let x = (&first, &second).into();
            let what = format!("{a} + {b} channels");
            let got = cpu.conv2d(x, &conv, Add::Nothing).unwrap();
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, plain);
            let time = cpu.upload(&time).unwrap();
            let add = Add::Channels(&time);
            let got = cpu.norm_conv2d(x, &norm, Activation::Silu, &conv, add).unwrap();
            let what = format!("{what}, normed");
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &fused, normal);
        }
    }
}

#[test]
fn an_enlarged_picture_is_convolved() {
    for cpu in levels() {
        let mut source = Source(3);
        for ([h, w], [height, width]) in
            [([1, 1], [2, 2]), ([5, 4], [10, 8]), ([3, 3], [5, 6]), ([16, 19], [32, 38])]
        {
            let x = draw(&mut source, &[2, h, w, 36]);
            let (weight, bias) = (source.tensor(&[20, 36, 3, 3]), source.tensor(&[20]));
            let large: Vec<f64> = (0..2 * height * width)
                .flat_map(|pixel| {
                    let (sample, line) = (pixel / width / height, pixel / width % height);
                    let source = (sample * h + line * h / height) * w + pixel % width * w / width;
                    wide(&x)[source * 36..(source + 1) * 36].to_vec()
                })
                .collect();
            let spec = ConvSpec::upsampling();
            let (want, _) = convolved(&large, [2, height, width, 36], &weight, &bias, spec);
            let conv = cpu.conv(weight, Some(bias), spec).unwrap();
            let x = cpu.upload(&x).unwrap();
            let got = cpu.upsample_conv2d(&x, height, width, &conv).unwrap();
            let what = format!("{h}x{w} to {height}x{width}");
            // Weights of other sizes are differences of rounded sums.
            let bound = if [height, width] == [2 * h, 2 * w] { TWICE } else { 3.0 * TWICE };
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, bound);
        }
    }
}

#[test]
fn transformer_layers_are_their_sums() {
    for cpu in levels() {
        let mut source = Source(4);
        for [tokens, inputs, outputs] in
            [[1, 7, 10], [33, 64, 256], [100, 96, 768], [5, 900, 128], [17, 33, 40], [16, 320, 96]]
        {
            let x = source.tensor(&[1, 1, tokens, inputs]);
            // A mean far above the deviation, as deep layers have.
            let x = HostTensor::new(x.shape(), x.data().iter().map(|v| v + 9.0).collect());
            let x = rounded(&x.unwrap());
            let (scale, shift) = (source.tensor(&[inputs]), source.tensor(&[inputs]));
            let weight = draw(&mut source, &[outputs, inputs]);
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
            let norm_what = format!("{what}, norm");
            assert_near(&cpu, &norm_what, &cpu.download(&got).unwrap(), &norm, BOUND);
            for activation in [Activation::Identity, Activation::Silu, Activation::Gelu] {
                let got = cpu.norm_dense(&tensor, &norm_layer, &linear, activation).unwrap();
                let want: Vec<f64> = sums.iter().map(|&v| activated(activation, v)).collect();
                let what = format!("{what}, {activation:?}");
                assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, TWICE);
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
            let what = format!("{what}, gated");
            assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, 3.0 * TWICE);
        }
    }
}

#[test]
fn neither_batch_nor_threads_show() {
    for cpu in levels() {
        let mut source = Source(6);
        let x = source.tensor(&[5, 16, 10, 64]);
        let (weight, bias) = (source.tensor(&[96, 64, 3, 3]), source.tensor(&[96]));
        let conv = cpu.conv(weight, Some(bias), ConvSpec::same(1)).unwrap();
        let weight = source.tensor(&[96, 96, 3, 3]);
        let enlarging = cpu.conv(weight, None, ConvSpec::upsampling()).unwrap();
        let (scale, shift) = (source.tensor(&[64]), source.tensor(&[64]));
        let norm = NormSpec::Group { groups: 32, epsilon: 1e-5 };
        let norm = cpu.norm(scale, shift, norm).unwrap();
        let qkv = cpu.linear(source.tensor(&[3 * 96, 96]), None).unwrap();
        let pass = |x: &HostTensor| {
            let x = cpu.upload(x).unwrap();
            let silu = Activation::Silu;
            let x = cpu.norm_conv2d((&x).into(), &norm, silu, &conv, Add::Nothing).unwrap();
            let x = cpu.upsample_conv2d(&x, 32, 20, &enlarging).unwrap();
            let x = cpu.dense(&x, &qkv, Activation::Identity, Add::Nothing).unwrap();
            // Heads of 32 and of 48, which are attended to in different ways.
            let attended = [3, 2].map(|heads| cpu.self_attention(&x, heads, false).unwrap());
            attended.map(|x| cpu.download(&x).unwrap().into_data())
        };
        let together = pass(&x);
        let (size, attended) = (16 * 10 * 64, 32 * 20 * 96);
        for sample in 0..5 {
            let alone = x.data()[sample * size..(sample + 1) * size].to_vec();
            let alone = pass(&HostTensor::new([1, 16, 10, 64], alone).unwrap());
            for (alone, together) in alone.iter().zip(&together) {
                assert_eq!(alone, &together[sample * attended..(sample + 1) * attended]);
            }
        }
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| pass(&x)), together, "{threads} threads");
        }
    }
}

/// Of so many inputs that rows meet weights chunk by chunk, which a single row doesn't.
#[test]
fn products_in_chunks_are_those_of_single_rows() {
    for cpu in levels() {
        let mut source = Source(17);
        // Two sources, neither of whole chunks; then many rows of one.
        for (rows, [a, b], outputs) in [(70, [2144, 2016], 40), (81, [4224, 0], 80)] {
            let (first, second) =
                (draw(&mut source, &[1, 1, rows, a]), draw(&mut source, &[1, 1, rows, b]));
            let weight = draw(&mut source, &[outputs, a + b, 1, 1]);
            let bias = source.tensor(&[outputs]);
            let conv = cpu.conv(weight.clone(), Some(bias.clone()), ConvSpec::same(0)).unwrap();
            let run = |columns: std::ops::Range<usize>| {
                let part = |x: &HostTensor, c: usize| {
                    let values = x.data()[columns.start * c..columns.end * c].to_vec();
                    cpu.upload(&HostTensor::new([1, 1, columns.len(), c], values).unwrap()).unwrap()
                };
                let (first, second) = (part(&first, a), part(&second, b));
                let sources = if b > 0 { (&first, &second).into() } else { Sources::from(&first) };
                cpu.download(&cpu.conv2d(sources, &conv, Add::Nothing).unwrap()).unwrap()
            };
            // One thread has them all, whatever the machine.
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let all = one.install(|| run(0..rows));
            let both = if b > 0 { wide(&joined(&first, &second)) } else { wide(&first) };
            let spec = ConvSpec::same(0);
            let (want, _) = convolved(&both, [1, 1, rows, a + b], &weight, &bias, spec);
            assert_near(&cpu, &format!("{rows} rows of {a} and {b}"), &all, &want, BOUND);
            for row in [0, 1, 31, 32, 63, rows - 1] {
                let alone = run(row..row + 1);
                let same = &all.data()[row * outputs..(row + 1) * outputs];
                assert_eq!(alone.data(), same, "{} row {row} of {rows}", cpu.level());
            }
        }
    }
}

#[test]
fn a_kernel_of_many_channels_in_chunks_is_its_sum_on_any_number_of_threads() {
    let mut source = Source(18);
    let spec = ConvSpec::same(1);
    let shape = [1, 6, 40, 480];
    let x = draw(&mut source, &shape);
    let weight = draw(&mut source, &[40, 480, 3, 3]);
    let bias = source.tensor(&[40]);
    let (want, _) = convolved(&wide(&x), shape, &weight, &bias, spec);
    let size = weight.shape().to_vec();
    for cpu in levels() {
        let conv = cpu.conv(weight.clone(), Some(bias.clone()), spec).unwrap();
        let tensor = cpu.upload(&x).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let y = pool.install(|| cpu.conv2d((&tensor).into(), &conv, Add::Nothing).unwrap());
            cpu.download(&y).unwrap()
        };
        let one = run(1);
        let bound = of_conv(&cpu, &size, spec, BOUND);
        assert_near(&cpu, "3x3 of 480 channels", &one, &want, bound);
        for threads in [2, 7] {
            assert_eq!(run(threads), one, "{} {threads} threads", cpu.level());
        }
    }
}

#[test]
fn latents_and_predictions_stay_in_f32() {
    let cpu = CpuBf16::new(Level::best());
    let mut source = Source(7);
    let x = source.tensor(&[2, 4, 4, 4]);
    let latent = cpu.upload(&x).unwrap();
    assert_eq!(cpu.download(&latent).unwrap(), x);
    let gathered = cpu.gather(&latent, &[1, 0]).unwrap();
    assert_eq!(cpu.download(&gathered).unwrap().data()[..64], x.data()[64..]);
    let sum = cpu.combine(&[(&latent, &[1.0, 1.0]), (&gathered, &[1e-3, 1e-3])]).unwrap();
    let sum = cpu.download(&sum).unwrap();
    assert_eq!(sum.data()[0], x.data()[0] + 1e-3 * x.data()[64]);
    let conv = cpu.conv(source.tensor(&[4, 4, 3, 3]), None, ConvSpec::same(1)).unwrap();
    let prediction = cpu.conv2d((&latent).into(), &conv, Add::Nothing).unwrap();
    let prediction = cpu.download(&prediction).unwrap();
    assert!(prediction.data().iter().any(|&v| bf16::from_f32(v).to_f32() != v));
}

#[test]
fn a_picture_in_bands_is_that_of_a_whole_copy_to_the_bit() {
    let available = Level::ALL.into_iter().filter(|level| level.is_available());
    for level in available {
        in_bands_or_whole(level);
    }
}

fn in_bands_or_whole(level: Level) {
    let (whole, banded) = (CpuBf16::new(level), CpuBf16::in_bands(level));
    let mut source = Source(9);
    // The widest is cut into strips; the tall ones go down in several bands; sizes that no tile and no band divides.
    for [n, h, w, a, b] in
        [[1, 9, 600, 160, 96], [2, 70, 33, 64, 0], [1, 41, 17, 20, 44], [3, 5, 2, 32, 32]]
    {
        let c = a + b;
        let first = source.tensor(&[n, h, w, a]);
        let second = (b > 0).then(|| source.tensor(&[n, h, w, b]));
        let (scale, shift) = (source.tensor(&[c]), source.tensor(&[c]));
        let weights = [3, 3, 1].map(|kernel| source.tensor(&[40, c, kernel, kernel]));
        let enlarging = source.tensor(&[24, a, 3, 3]);
        let run = |cpu: &CpuBf16| {
            let x = cpu.upload(&first).unwrap();
            let y = second.as_ref().map(|second| cpu.upload(second).unwrap());
            let both = Sources { first: &x, second: y.as_ref() };
            let spec = NormSpec::Group { groups: 4, epsilon: 1e-5 };
            let norm = cpu.norm(scale.clone(), shift.clone(), spec).unwrap();
            let specs = [ConvSpec::same(1), ConvSpec::halving(0, 1), ConvSpec::same(0)];
            let mut results = Vec::new();
            for (weight, spec) in weights.iter().zip(specs) {
                let conv = cpu.conv(weight.clone(), None, spec).unwrap();
                results.push(cpu.conv2d(both, &conv, Add::Nothing).unwrap());
                let silu = Activation::Silu;
                results.push(cpu.norm_conv2d(both, &norm, silu, &conv, Add::Nothing).unwrap());
            }
            let conv = cpu.conv(enlarging.clone(), None, ConvSpec::upsampling()).unwrap();
            results.push(cpu.upsample_conv2d(&x, 2 * h, 2 * w, &conv).unwrap());
            results.iter().map(|x| cpu.download(x).unwrap().into_data()).collect::<Vec<_>>()
        };
        let wanted = run(&whole);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let got = pool.install(|| run(&banded));
            for (index, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                let same = got.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                let what = format!("{level}, {n}x{h}x{w}x{c}, result {index}");
                assert!(same && got.len() == wanted.len(), "{what}");
            }
        }
    }
}
