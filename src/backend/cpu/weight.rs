//! In: a matrix (inputs, outputs). Out: [`Packed`], the matrix in the order in which tiles read it.
//!
//! Weights that came from f16 files are kept in f16: every one of them is such a number, so nothing is lost, and
//! products are those of the same weights in f32 to the last bit. A block of a panel is widened when it is
//! needed, and serves many rows then.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved.
#![allow(unsafe_code, reason = "vector instructions")]

use super::level::Level;
use super::memory::{Buffer, Pool};
use super::simd::{Kernel, Simd};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The most inputs that are summed in one go. A block of them times [`COLUMNS`] stays in the second level
/// cache, and sums of blocks lose fewer digits than one long sum.
const DEPTH: usize = 384;

/// Matrices smaller than this are not worth another thread.
const SHARE: usize = 1 << 16;

/// Outputs that one task computes at a time.
pub(super) const COLUMNS: usize = 128;

/// A packed matrix. Outputs are cut into panels of [`width`](Packed::width); a panel is, for each input,
/// its outputs side by side. The last panel is padded with zeros to whole vectors.
pub(super) struct Packed<V = Buffer> {
    values: V,
    /// One for each output, padded like the last panel.
    pub(super) bias: Vec<f32>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) width: usize,
}

/// The values of weights.
pub(super) enum Stored {
    Full(Buffer),
    /// All of them are numbers of f16.
    Half(Vec<f16>),
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
        at: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let each = |input: usize, output: usize| [at(input, output)];
        let [packed] = Packed::several(level, pool, [inputs, outputs], bias, each);
        packed
    }

    /// Several matrices of one size at once: `at(input, output)` is a value of each.
    pub(super) fn several<const N: usize>(
        level: Level,
        pool: &Arc<Pool>,
        [inputs, outputs]: [usize; 2],
        bias: Option<&[f32]>,
        at: impl Fn(usize, usize) -> [f32; N] + Sync,
    ) -> [Self; N] {
        Packed::filled(level, pool, [inputs, outputs], bias, |range, width, panels| {
            for input in 0..inputs {
                for (column, output) in range.clone().enumerate() {
                    for (panel, value) in panels.iter_mut().zip(at(input, output)) {
                        panel[input * width + column] = value;
                    }
                }
            }
        })
    }

    /// `row(input)` has all outputs side by side.
    pub(super) fn of_rows<'a>(
        level: Level,
        pool: &Arc<Pool>,
        [inputs, outputs]: [usize; 2],
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let [packed] =
            Packed::filled(level, pool, [inputs, outputs], None, |range, width, [panel]| {
                for (input, line) in panel.chunks_exact_mut(width).enumerate() {
                    line[..range.len()].copy_from_slice(&row(input)[range.clone()]);
                }
            });
        packed
    }

    /// `column(output)` has all inputs side by side.
    pub(super) fn of_columns<'a>(
        level: Level,
        pool: &Arc<Pool>,
        [inputs, outputs]: [usize; 2],
        column: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let [packed] =
            Packed::filled(level, pool, [inputs, outputs], None, |range, width, [panel]| {
                for (place, output) in range.enumerate() {
                    let lines = panel.chunks_exact_mut(width);
                    lines.zip(column(output)).for_each(|(line, &value)| line[place] = value);
                }
            });
        packed
    }

    /// Several matrices of one size at once. `fill(outputs, width, panels)` is handed the same panel of each, whose
    /// lines of `width` values, one for each input, begin with those of `outputs`; it must write all of these.
    fn filled<const N: usize>(
        level: Level,
        pool: &Arc<Pool>,
        [inputs, outputs]: [usize; 2],
        bias: Option<&[f32]>,
        fill: impl Fn(Range<usize>, usize, &mut [&mut [f32]; N]) + Sync,
    ) -> [Self; N] {
        // SAFETY: the kernel has no operands and uses no instructions.
        let (lanes, panel) = unsafe { level.run(Widths) };
        let width = lanes * panel;
        let padded = outputs.next_multiple_of(lanes);
        let mut values: [Buffer; N] = std::array::from_fn(|_| pool.take(inputs * padded));
        // The panels, one after the other, of each matrix.
        let mut panels: Vec<[&mut [f32]; N]> = Vec::with_capacity(outputs.div_ceil(width));
        let mut rest = values.each_mut().map(Buffer::values_mut);
        for first in (0..outputs).step_by(width) {
            let size = inputs * width.min(padded - first);
            panels.push(rest.each_mut().map(|rest| {
                let (panel, later) = std::mem::take(rest).split_at_mut(size);
                *rest = later;
                panel
            }));
        }
        let fill = |(index, mut panels): (usize, [&mut [f32]; N])| {
            let first = index * width;
            let (columns, end) = (width.min(padded - first), outputs.min(first + width));
            fill(first..end, columns, &mut panels);
            if end < first + columns {
                let lines = panels.iter_mut().flat_map(|panel| panel.chunks_exact_mut(columns));
                lines.for_each(|line| line[end - first..].fill(0.0));
            }
        };
        if inputs * outputs < SHARE {
            panels.into_iter().enumerate().for_each(fill);
        } else {
            panels.into_par_iter().enumerate().for_each(fill);
        }
        let mut padded_bias = vec![0.0; padded];
        if let Some(bias) = bias {
            padded_bias.iter_mut().zip(bias).for_each(|(place, &b)| *place = b);
        }
        values.map(|values| Packed { values, bias: padded_bias.clone(), inputs, outputs, width })
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(self.values.values()) as u64
    }

    /// The values of `panel` from input `input` on.
    pub(super) fn panel(&self, panel: usize, input: usize) -> &[f32] {
        &self.values.values()[self.place(panel, input)..]
    }

    /// The same in half the memory, where that loses nothing.
    pub(super) fn stored(self) -> Packed<Stored> {
        let Packed { values, bias, inputs, outputs, width } = self;
        let parts = values.values().par_chunks(SHARE);
        let values = if parts.clone().all(are_half) {
            let mut half = vec![f16::ZERO; values.values().len()];
            half.par_chunks_mut(SHARE).zip(parts).for_each(|(half, part)| {
                half.convert_from_f32_slice(part);
            });
            Stored::Half(half)
        } else {
            Stored::Full(values)
        };
        Packed { values, bias, inputs, outputs, width }
    }
}

/// Whether f16 holds all of `values`.
fn are_half(values: &[f32]) -> bool {
    // As slices, for one by one each would ask what the processor can.
    let (mut half, mut wide) = ([f16::ZERO; 256], [0.0; 256]);
    values.chunks(half.len()).all(|values| {
        let (half, wide) = (&mut half[..values.len()], &mut wide[..values.len()]);
        half.convert_from_f32_slice(values);
        half.convert_to_f32_slice(wide);
        // The bits tell -0 from 0.
        wide.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits())
    })
}

impl Packed<Stored> {
    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        match &self.values {
            Stored::Full(values) => size_of_val(values.values()) as u64,
            Stored::Half(values) => size_of_val(&**values) as u64,
        }
    }

    /// The weight of `input` in `output`.
    pub(super) fn at(&self, input: usize, output: usize) -> f32 {
        let place = self.place(output / self.width, input) + output % self.width;
        match &self.values {
            Stored::Full(values) => values.values()[place],
            Stored::Half(values) => values[place].to_f32(),
        }
    }

    /// The most values that [`block`](Packed::block) may have to widen.
    pub(super) fn widened(&self) -> usize {
        match &self.values {
            Stored::Full(_) => 0,
            Stored::Half(_) => DEPTH.min(self.inputs) * self.width,
        }
    }

    /// The values of `panel` for `count` inputs from `input` on, which `wide` has room for.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, for whose level this was packed.
    #[inline(always)]
    pub(super) unsafe fn block<'a, S: Simd>(
        &'a self,
        panel: usize,
        input: usize,
        count: usize,
        wide: &'a mut [f32],
    ) -> &'a [f32] {
        let start = self.place(panel, input);
        let size = count * self.panel_width(panel);
        match &self.values {
            Stored::Full(values) => &values.values()[start..start + size],
            Stored::Half(values) => {
                let (values, wide) = (&values[start..start + size], &mut wide[..size]);
                for start in (0..size).step_by(S::LANES) {
                    // SAFETY: a panel is as wide as some vectors.
                    unsafe {
                        S::of_half(values[start..].as_ptr()).store(wide[start..].as_mut_ptr())
                    };
                }
                wide
            }
        }
    }
}

impl<V> Packed<V> {
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// Outputs in `panel`, the padding among them: whole vectors.
    pub(super) fn panel_width(&self, panel: usize) -> usize {
        self.width.min(self.bias.len() - panel * self.width)
    }

    /// Where the values of `panel` from input `input` on begin.
    fn place(&self, panel: usize, input: usize) -> usize {
        panel * self.width * self.inputs + input * self.panel_width(panel)
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
    fn weights_of_f16_take_half_the_memory_and_lose_nothing() {
        let pool: Arc<Pool> = Arc::default();
        let levels = [Level::Portable, Level::Avx2, Level::Avx512];
        for level in levels.into_iter().filter(|level| level.is_available()) {
            for (step, bytes) in [(0.125, 2), (0.1, 4)] {
                let at = |i: usize, o: usize| (i as f32 - 3.0) * step * (1 << (o % 4)) as f32;
                let packed = || Packed::new(level, &pool, [500, 20], None, at);
                let (full, stored) = (packed(), packed().stored());
                assert_eq!(stored.bytes(), 500 * full.bias.len() as u64 * bytes);
                // SAFETY: the level is there, and it is what both were packed for.
                unsafe { level.run(Same { full: &full, stored: &stored }) };
            }
        }
    }

    struct Same<'a> {
        full: &'a Packed,
        stored: &'a Packed<Stored>,
    }

    impl Kernel for Same<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Same { full, stored } = self;
            let mut wide = vec![0.0; stored.widened()];
            for panel in 0..stored.panels() {
                for (first, count) in [(0, 384), (116, 384), (499, 1)] {
                    // SAFETY: the caller's promise.
                    let block = unsafe { stored.block::<S>(panel, first, count, &mut wide) };
                    assert_eq!(block, &full.panel(panel, first)[..block.len()]);
                    assert_eq!(block.len(), count * stored.panel_width(panel));
                }
            }
        }
    }

    #[test]
    fn panels_hold_the_matrix() {
        let pool: Arc<Pool> = Arc::default();
        let levels = [Level::Portable, Level::Avx2, Level::Avx512];
        let available = levels.into_iter().filter(|level| level.is_available());
        for (level, outputs) in available.flat_map(|l| [1, 3, 8, 20, 64, 70].map(|o| (l, o))) {
            let size = [5, outputs];
            // Files have it in either order.
            let values = |turned: bool| -> Vec<f32> {
                let place =
                    |i: usize| if turned { (i % 5, i / 5) } else { (i / outputs, i % outputs) };
                (0..5 * outputs).map(place).map(|(i, o)| (i * 100 + o) as f32).collect()
            };
            let (rows, columns) = (values(false), values(true));
            let bias = vec![2.0; outputs];
            // In memory that was used before.
            let dirty = || pool.take(1 << 16).values_mut().fill(f32::NAN);
            dirty();
            let at = |i: usize, o: usize| (i * 100 + o) as f32;
            let packed = Packed::new(level, &pool, size, Some(&bias), at);
            dirty();
            let row = |input: usize| &rows[input * outputs..][..outputs];
            let of_rows = Packed::of_rows(level, &pool, size, row);
            dirty();
            let column = |output: usize| &columns[output * 5..][..5];
            let of_columns = Packed::of_columns(level, &pool, size, column);
            for output in 0..packed.bias.len() {
                let (panel, column) = (output / packed.width, output % packed.width);
                for input in 0..5 {
                    let wanted = if output < outputs { at(input, output) } else { 0.0 };
                    for packed in [&packed, &of_rows, &of_columns] {
                        assert_eq!(packed.panel(panel, input)[column], wanted);
                    }
                }
                assert_eq!(packed.bias[output], if output < outputs { 2.0 } else { 0.0 });
            }
        }
    }
}
