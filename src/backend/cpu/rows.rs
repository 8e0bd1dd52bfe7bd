//! In: activations. Out: where the values lie that a row of a product is made of: the pixels under a
//! convolution's kernel, or simply a row. Nothing is unrolled in memory.
#![allow(unsafe_code, reason = "raw rows are shared among threads")]

use super::memory::Tensor;
use crate::backend::{ConvSpec, Sources};

/// Where the rows of a product lie. A row is some runs of values, the same lengths in every row.
pub(super) trait Rows: Sync {
    /// What is worked out once for a row.
    type Place: Copy;
    /// Of row `row`.
    fn place(&self, row: usize) -> Self::Place;
    /// The first value of run `run`.
    fn run(&self, place: Self::Place, run: usize) -> *const f32;
}

/// Rows one after the other, each one run.
pub(super) struct Plain {
    first: *const f32,
    pitch: usize,
}

// SAFETY: the values are only read, and outlive the product that borrows them.
unsafe impl Sync for Plain {}

impl Plain {
    /// Rows of `values`, `pitch` apart.
    pub(super) fn new(values: &[f32], pitch: usize) -> Self {
        Plain { first: values.as_ptr(), pitch }
    }
}

impl Rows for Plain {
    type Place = *const f32;

    #[inline(always)]
    fn place(&self, row: usize) -> *const f32 {
        self.first.wrapping_add(row * self.pitch)
    }

    #[inline(always)]
    fn run(&self, place: *const f32, _: usize) -> *const f32 {
        place
    }
}

/// The geometry of a convolution's input and output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    /// Zeros above and to the left.
    pub(super) before: [usize; 2],
    /// Height and width of the result.
    pub(super) output: [usize; 2],
    /// Height and width that the input is enlarged to by nearest neighbour before anything else.
    pub(super) enlarged: [usize; 2],
}

impl Geometry {
    /// That of `spec` on an input of `height` x `width`; none where the kernel is larger than the input.
    pub(super) fn new(kernel: [usize; 2], spec: ConvSpec, enlarged: [usize; 2]) -> Option<Self> {
        let ConvSpec { stride, before, after, .. } = spec;
        let length = |axis: usize| {
            let rest = (enlarged[axis] + before + after).checked_sub(kernel[axis])?;
            Some(rest / stride + 1)
        };
        let output = [length(0)?, length(1)?];
        Some(Geometry { kernel, stride, before: [before; 2], output, enlarged })
    }
}

/// The pixels under a convolution's kernel: for each tap a run of the first source's channels, then one of
/// the second's.
pub(super) struct Pixels<'a> {
    sources: [&'a [f32]; 2],
    channels: [usize; 2],
    count: usize,
    size: [usize; 2],
    geometry: Geometry,
    /// Row, column and source of each run.
    runs: Vec<(usize, usize, usize)>,
    /// What padding reads.
    zeros: Vec<f32>,
}

impl<'a> Pixels<'a> {
    pub(super) fn new(x: Sources<'a, Tensor>, geometry: Geometry) -> Self {
        let [_, h, w, first] = x.first.shape;
        let second = x.second.map_or(0, Tensor::channels);
        let count = if x.second.is_some() { 2 } else { 1 };
        let [kh, kw] = geometry.kernel;
        let runs = (0..kh * kw * count).map(|run| {
            let tap = run / count;
            (tap / kw, tap % kw, run % count)
        });
        Pixels {
            sources: [x.first.values(), x.second.map_or(&[], Tensor::values)],
            channels: [first, second],
            count,
            size: [h, w],
            geometry,
            runs: runs.collect(),
            zeros: vec![0.0; first.max(second)],
        }
    }

    /// The length of each run.
    pub(super) fn lengths(&self) -> Vec<usize> {
        let [kh, kw] = self.geometry.kernel;
        self.channels[..self.count].repeat(kh * kw)
    }
}

impl Rows for Pixels<'_> {
    /// First pixel of the sample, row and column of the kernel's corner before padding.
    type Place = [usize; 3];

    #[inline(always)]
    fn place(&self, row: usize) -> [usize; 3] {
        let [height, width] = self.geometry.output;
        let (line, column) = (row / width, row % width);
        let (sample, line) = (line / height, line % height);
        let [h, w] = self.size;
        [sample * h * w, line * self.geometry.stride, column * self.geometry.stride]
    }

    #[inline(always)]
    fn run(&self, [sample, line, column]: [usize; 3], run: usize) -> *const f32 {
        let (dy, dx, source) = self.runs[run];
        let Geometry { before, enlarged, .. } = self.geometry;
        // What lies above or to the left wraps round to beyond any picture.
        let y = (line + dy).wrapping_sub(before[0]);
        let x = (column + dx).wrapping_sub(before[1]);
        if y >= enlarged[0] || x >= enlarged[1] {
            return self.zeros.as_ptr();
        }
        let [h, w] = self.size;
        let (y, x) =
            if enlarged == self.size { (y, x) } else { (y * h / enlarged[0], x * w / enlarged[1]) };
        let pixel = sample + y * w + x;
        self.sources[source][pixel * self.channels[source]..].as_ptr()
    }
}
