//! In: queries, keys and values. Out: whether attention is what sums in f64 say.

use super::{TWICE, assert_near, levels, rounded};
use crate::backend::cpu::tests::{Source, attended, wide};
use crate::backend::{Backend, HostTensor};

#[test]
fn attention_is_its_sum() {
    for cpu in levels() {
        let mut source = Source(5);
        // The columns of one head, out of rows of `pitch`.
        let head = |x: &[f64], pitch: usize, start: usize, width: usize| -> Vec<f64> {
            x.chunks(pitch).flat_map(|row| row[start..start + width].to_vec()).collect()
        };
        for [n, tokens, heads, width, loud] in [
            [1, 1, 1, 4, 1],
            [2, 77, 2, 64, 1],
            [1, 300, 3, 32, 4],
            [3, 49, 1, 96, 1],
            [1, 600, 1, 20, 8],
            // Whole blocks of 64 tokens, whose highest scores are far above the first's, or not.
            [2, 64, 1, 64, 1],
            [2, 49, 2, 64, 20],
            [2, 256, 2, 64, 1],
            [1, 192, 3, 40, 60],
            [1, 320, 1, 64, 12],
            [1, 150, 1, 512, 1],
        ] {
            let c = heads * width;
            // Louder queries: the maximum moves while blocks of keys go by.
            let mut louder = |shape: &[usize]| {
                let x = source.tensor(shape);
                let values = x.data().iter().map(|v| v * loud as f32).collect();
                rounded(&HostTensor::new(shape, values).unwrap())
            };
            let qkv = louder(&[n, 1, tokens, 3 * c]);
            // As many as prompts have, and a whole block of 64.
            let seen = if tokens % 2 == 0 { 77 } else { 128 };
            let contexts = louder(&[2, 1, seen, 2 * c]);
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
                assert_near(&cpu, &what, &cpu.download(&got).unwrap(), &want, TWICE);
            }
            let q = louder(&[n, 1, tokens, c]);
            let mut want = vec![0.0; n * tokens * c];
            for sample in 0..n {
                let q = &wide(&q)[sample * tokens * c..(sample + 1) * tokens * c];
                let both = wide(&contexts);
                let both = &both[rows[sample] * seen * 2 * c..(rows[sample] + 1) * seen * 2 * c];
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
            assert_near(&cpu, "cross-attention", &cpu.download(&got).unwrap(), &want, TWICE);
        }
    }
}

#[test]
fn what_is_no_number_stays_none_in_attention() {
    for cpu in levels() {
        let mut source = Source(8);
        // The largest of a block of keys, the first of the next, and a width that fills no tile.
        for (tokens, width) in [(70, 20), (300, 64), (128, 64)] {
            let (heads, c) = (2, 2 * width);
            let pitch = 3 * c;
            // A number of a query, of a key, of a value, of the second head.
            for (part, token) in [(0, 0), (0, 69), (1, 0), (1, 37), (1, 69), (2, 3), (2, 69)] {
                let mut values = source.tensor(&[1, 1, tokens, pitch]).into_data();
                values[token * pitch + part * c + width + 5] = f32::NAN;
                let qkv = HostTensor::new([1, 1, tokens, pitch], values).unwrap();
                let qkv = cpu.upload(&qkv).unwrap();
                for causal in [false, true] {
                    let got = cpu.self_attention(&qkv, heads, causal).unwrap();
                    let got = cpu.download(&got).unwrap();
                    for (row, values) in got.data().chunks(c).enumerate() {
                        let what =
                            format!("{} part {part} of {token}, {causal}, {row}", cpu.level());
                        let (whole, hit) = values.split_at(width);
                        assert!(whole.iter().all(|v| v.is_finite()), "{what}");
                        let sees = if part == 0 { row == token } else { !causal || row >= token };
                        for (column, v) in hit.iter().enumerate() {
                            // A value mixes with no other column's; with a weight of 0 it is none, too.
                            let wanted = sees && (part < 2 || column == 5);
                            let either = part == 2 && causal && !sees && column == 5;
                            assert!(either || v.is_nan() == wanted, "{what}, {column}: {v}");
                        }
                    }
                }
            }
        }
    }
}
