//! In: a matrix (inputs, outputs). Out: [`Packed`], the matrix in the order in which tiles read it.
//!
//! # Safety
//! The one unsafe function is so by the form of its trait: it does nothing.

use super::level::Level;
use super::memory::{Buffer, Pool};
use super::simd::{Kernel, Simd};
use std::ops::Range;
use std::sync::Arc;

/// The most inputs that are summed in one go. A block of them times [`COLUMNS`] stays in the second level
/// cache, and sums of blocks lose fewer digits than one long sum.
const DEPTH: usize = 384;

/// Outputs that one task computes at a time.
pub(super) const COLUMNS: usize = 128;

/// A packed matrix. Outputs are cut into panels of [`width`](Packed::width); a panel is, for each input,
/// its outputs side by side. The last panel is padded with zeros to whole vectors.
pub(super) struct Packed {
    values: Buffer,
    /// One for each output, padded like the last panel.
    pub(super) bias: Vec<f32>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) width: usize,
}

/// Some inputs that lie side by side in memory: `length` values of run `run` from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) run: usize,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// Values in a vector, vectors in a panel.
struct Widths;

impl Kernel for Widths {
    type Output = (usize, usize);
    #[inline(always)]
    #[allow(unsafe_code, reason = "the trait's form; nothing unsafe is done")]
    unsafe fn run<S: Simd>(self) -> (usize, usize) {
        (S::LANES, S::PANEL)
    }
}

impl Packed {
    /// `at(input, output)` is the matrix.
    pub(super) fn new(
        level: Level,
        pool: &Arc<Pool>,
        [inputs, outputs]: [usize; 2],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize) -> f32,
    ) -> Self {
        #[allow(unsafe_code, reason = "two numbers, no instructions")]
        // SAFETY: the kernel has no operands.
        let (lanes, panel) = unsafe { level.run(Widths) };
        let width = lanes * panel;
        let padded = outputs.next_multiple_of(lanes);
        let mut values = pool.take(inputs * padded);
        let mut places = values.values_mut().iter_mut();
        for first in (0..outputs).step_by(width) {
            let columns = first..(first + width).min(padded);
            for input in 0..inputs {
                for (output, place) in columns.clone().zip(&mut places) {
                    *place = if output < outputs { at(input, output) } else { 0.0 };
                }
            }
        }
        let mut padded_bias = vec![0.0; padded];
        if let Some(bias) = bias {
            padded_bias.iter_mut().zip(bias).for_each(|(place, &b)| *place = b);
        }
        Packed { values, bias: padded_bias, inputs, outputs, width }
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(self.values.values()) as u64
    }

    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// Outputs in `panel`, the padding among them: whole vectors.
    pub(super) fn panel_width(&self, panel: usize) -> usize {
        self.width.min(self.bias.len() - panel * self.width)
    }

    /// The values of `panel` from input `input` on.
    pub(super) fn panel(&self, panel: usize, input: usize) -> &[f32] {
        let start = panel * self.width * self.inputs + input * self.panel_width(panel);
        &self.values.values()[start..]
    }
}

/// Runs of the given lengths, side by side, cut into blocks of nearly equal depth: for each block its
/// first input and its segments.
pub(super) fn blocks(lengths: &[usize]) -> Vec<(usize, Vec<Segment>)> {
    let inputs: usize = lengths.iter().sum();
    let count = inputs.div_ceil(DEPTH).max(1);
    let cut = |block: usize| block * inputs / count;
    let mut starts = Vec::with_capacity(lengths.len());
    let mut all = 0;
    for &length in lengths {
        starts.push(all);
        all += length;
    }
    (0..count)
        .map(|block| {
            let range = cut(block)..cut(block + 1);
            let segment = |(run, (&start, &length)): (usize, (&usize, &usize))| {
                let Range { start: first, end } =
                    start.max(range.start)..(start + length).min(range.end);
                (first < end).then(|| Segment { run, start: first - start, length: end - first })
            };
            (range.start, starts.iter().zip(lengths).enumerate().filter_map(segment).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_every_input_once() {
        for lengths in [vec![1], vec![320; 9], vec![640, 320], vec![4; 9], vec![383, 2, 1000]] {
            let blocks = blocks(&lengths);
            let mut next = vec![0; lengths.len()];
            let mut inputs = 0;
            for (first, segments) in blocks {
                assert_eq!(first, inputs);
                for Segment { run, start, length } in segments {
                    assert_eq!(start, next[run]);
                    next[run] += length;
                    inputs += length;
                }
                assert!(inputs - first <= DEPTH);
            }
            assert_eq!(next, lengths);
        }
    }

    #[test]
    fn panels_hold_the_matrix() {
        for outputs in [1, 3, 8, 20, 64, 70] {
            let packed = Packed::new(
                Level::Portable,
                &Arc::default(),
                [5, outputs],
                Some(&vec![2.0; outputs]),
                |i, o| (i * 100 + o) as f32,
            );
            for output in 0..outputs {
                let (panel, column) = (output / packed.width, output % packed.width);
                for input in 0..5 {
                    assert_eq!(packed.panel(panel, input)[column], (input * 100 + output) as f32);
                }
                assert_eq!(packed.bias[output], 2.0);
            }
        }
    }
}
