//! In: queries, keys and values of many heads in the channels of tensors. Out: their attention.

use super::attention::attend;
use super::head::{Head, Part};
use super::product::share;
use super::tensor::{Brain, Tensor};
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use crate::error::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Queries, keys and values stand side by side in the channels of `qkv`, which is in bf16.
pub(super) fn of_themselves(
    level: Level,
    pool: &Arc<Pool>,
    qkv: &Tensor,
    heads: usize,
    causal: bool,
) -> Tensor {
    let [n, h, w, c3] = qkv.shape;
    let (c, size) = (c3 / 3, h * w * c3);
    let width = c / heads;
    let part = |sample: usize, kind: usize, head: usize| Part {
        values: &qkv.values()[sample * size..(sample + 1) * size],
        pitch: c3,
        start: kind * c + head * width,
        width,
    };
    let packed: Vec<OnceLock<Head>> = (0..n * heads).map(|_| OnceLock::new()).collect();
    share(n * heads, qkv.values().len() >= 1 << 15, |index| {
        let (sample, head) = (index / heads, index % heads);
        packed[index].get_or_init(|| Head::new(pool, part(sample, 1, head), part(sample, 2, head)));
    });
    let packed: Vec<Head> = packed.into_iter().filter_map(OnceLock::into_inner).collect();
    let mut out = Brain::take(pool, n * h * w * c);
    let queries = |sample, head| part(sample, 0, head);
    let head = |sample: usize, head: usize| &packed[sample * heads + head];
    attend(level, pool, [n, heads], queries, head, causal, out.values_mut());
    Tensor::new([n, h, w, c], out)
}

/// `q` to the keys and values, side by side, of the prompt of each sample's row; an error where there is none. All of
/// them are in bf16.
pub(super) fn of_others(
    level: Level,
    pool: &Arc<Pool>,
    q: &Tensor,
    (keys_values, rows): (&Tensor, &[usize]),
    heads: usize,
) -> Result<Tensor> {
    let [n, h, w, c] = q.shape;
    let [prompts, _, tokens, c2] = keys_values.shape;
    let width = c / heads;
    let part = |prompt: usize, start: usize| Part {
        values: &keys_values.values()[prompt * tokens * c2..(prompt + 1) * tokens * c2],
        pitch: c2,
        start,
        width,
    };
    if rows.iter().any(|&row| row >= prompts) {
        return Err(Error::internal("a sample reads a prompt that is not there"));
    }
    let mut used = rows.to_vec();
    used.sort_unstable();
    used.dedup();
    let packed: Vec<OnceLock<Head>> =
        used.iter().flat_map(|_| (0..heads).map(|_| OnceLock::new())).collect();
    share(packed.len(), packed.len() * tokens * width >= 1 << 15, |index| {
        let (prompt, start) = (used[index / heads], index % heads * width);
        packed[index].get_or_init(|| Head::new(pool, part(prompt, start), part(prompt, c + start)));
    });
    let packed: Vec<Head> = packed.into_iter().filter_map(OnceLock::into_inner).collect();
    let mut out = Brain::take(pool, n * h * w * c);
    let queries = |sample: usize, head: usize| Part {
        values: &q.values()[sample * h * w * c..(sample + 1) * h * w * c],
        pitch: c,
        start: head * width,
        width,
    };
    let head = |sample: usize, head: usize| {
        &packed[used.partition_point(|&prompt| prompt < rows[sample]) * heads + head]
    };
    attend(level, pool, [n, heads], queries, head, false, out.values_mut());
    Ok(Tensor::new([n, h, w, c], out))
}
