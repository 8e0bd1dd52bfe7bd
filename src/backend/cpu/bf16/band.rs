//! In: pictures that are too large to be copied whole. Out: their convolution, band by band: a few lines are copied
//! or normalised into memory that stays in the second level cache, with zeros around the picture, and convolved
//! before the next are. So a picture is read once and no copy of it is held.
//!
//! A result is the same to the bit as that of a whole copy: sums are one square's own.
#![allow(unsafe_code, reason = "lines written and products whose results are seen here")]

use super::finish::Write;
use super::norm::normalize_line;
use super::packed::Packed;
use super::padded::{Padded, band_bytes};
use super::product::{product_here, share};
use super::source::{Frame, Places, Source};
use super::statistics::Factors;
use super::tensor::Tensor;
use super::tile::ROWS;
use super::winograd::{self, Transformed};
use crate::backend::cpu::level::Level;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::rows::Geometry;
use crate::backend::{Activation, Sources};
use half::bf16;
use std::ops::Range;
use std::sync::Arc;

/// Copies of no more bytes are made whole: all threads read them, whichever outputs are theirs.
pub(super) const WHOLE: usize = 4 << 20;

/// Bytes of a band: what stays in the second level cache beside some weights.
const BAND: usize = 768 << 10;

/// What a band is filled with.
#[derive(Clone, Copy)]
pub(super) enum Filling<'a> {
    /// The picture.
    Same,
    /// activation(norm(picture))
    Normed(&'a Factors, Activation),
}

/// Pictures, and what is read of them for one pixel of a grid of results.
#[derive(Clone, Copy)]
pub(super) struct Pictures<'a> {
    pub(super) x: Sources<'a, Tensor>,
    pub(super) filling: Filling<'a>,
    /// Zeros above and to the left.
    pub(super) before: [usize; 2],
    /// Lines and columns that are read for one pixel.
    pub(super) window: [usize; 2],
    /// From pixel to pixel.
    pub(super) stride: usize,
    /// Height and width of the grid.
    pub(super) grid: [usize; 2],
}

/// One product over all pixels of the grid.
pub(super) struct Part<'a> {
    pub(super) kernel: [usize; 2],
    /// The first tap's place in the window.
    pub(super) corner: [usize; 2],
    pub(super) places: Places,
    pub(super) weight: &'a Packed,
    /// The weights of Winograd's method, where it is done by these.
    pub(super) transformed: Option<&'a Transformed>,
    pub(super) finish: Write<'a>,
}

/// How the grid is cut: strips of so many columns, in tasks of so many lines, so many of them in a band.
struct Cut {
    across: usize,
    down: usize,
    band: usize,
}

impl Cut {
    /// `step`: lines and columns that are computed together.
    fn new(pictures: &Pictures<'_>, channels: usize, step: usize) -> Self {
        let Pictures { window: [lines, columns], stride, grid: [h, w], .. } = *pictures;
        let samples = pictures.x.first.shape[0];
        let bytes = |lines: usize, across: usize| {
            band_bytes([lines, (across.max(1) - 1) * stride + columns, channels], stride)
        };
        let of = |band: usize| (band - 1) * stride + lines;
        // As wide as two lines of results allow, in whole tiles.
        let mut across = w;
        while across > ROWS && bytes(of(2), across) > BAND {
            across = (across / 2).next_multiple_of(ROWS);
        }
        let strips = w.div_ceil(across.max(1));
        let tasks = 4 * rayon::current_num_threads();
        let down = h.div_ceil(tasks.div_ceil((samples * strips).max(1))).max(2);
        let down = down.next_multiple_of(step);
        let mut band = down;
        while band > step && bytes(of(band), across) > BAND {
            band -= step;
        }
        Cut { across, down, band }
    }
}

/// A band as it moves down a strip.
struct Band<'a> {
    pictures: &'a Pictures<'a>,
    padded: Padded,
    sample: usize,
    /// The grid's columns.
    columns: Range<usize>,
    /// Columns of the picture with its zeros.
    width: usize,
}

impl Band<'_> {
    /// Fills lines `lines` of the picture with its zeros, the first of which stands at line `at` of the band.
    fn fill(&mut self, level: Level, lines: Range<usize>, at: usize) {
        let Pictures { x, filling, before, stride, .. } = *self.pictures;
        let [_, h, w, _] = x.first.shape;
        let (pixel, line, channels) =
            (self.padded.layout.pixel, self.padded.layout.line, self.padded.channels());
        // Columns of the picture, the others are zeros.
        let first = self.columns.start * stride;
        let left = before[1].saturating_sub(first).min(self.width);
        let from = (first + left).saturating_sub(before[1]).min(w);
        let to = (first + self.width).saturating_sub(before[1]).clamp(from, w);
        let right = left + to - from;
        for (index, y) in lines.enumerate() {
            let out = &mut self.padded.values_mut()[(at + index) * line..][..line];
            if y < before[0] || y - before[0] >= h {
                out.fill(bf16::ZERO);
                continue;
            }
            let y = y - before[0];
            out[..left * pixel].fill(bf16::ZERO);
            out[right * pixel..].fill(bf16::ZERO);
            let out = &mut out[left * pixel..right * pixel];
            match filling {
                Filling::Same => copy(x, [self.sample, y], from..to, out, [pixel, channels]),
                Filling::Normed(factors, activation) => {
                    let (from, to) =
                        (([self.sample, y], from..to), (out.as_mut_ptr(), pixel, channels));
                    // SAFETY: `out` has `pixel` values for each of these columns.
                    unsafe { normalize_line(level, x, factors, activation, from, to) };
                }
            }
        }
    }
}

/// Copies a line's columns, zeros behind their channels.
fn copy(
    x: Sources<'_, Tensor>,
    [sample, line]: [usize; 2],
    columns: Range<usize>,
    out: &mut [bf16],
    [pixel, channels]: [usize; 2],
) {
    let [_, h, w, _] = x.first.shape;
    for (column, out) in columns.zip(out.chunks_exact_mut(pixel)) {
        let from = (sample * h + line) * w + column;
        let mut filled = 0;
        for source in [Some(x.first), x.second].into_iter().flatten() {
            let c = source.channels();
            out[filled..filled + c].copy_from_slice(&source.values()[from * c..][..c]);
            filled += c;
        }
        out[filled..channels].fill(bf16::ZERO);
    }
}

/// Convolves `pictures` by each of `parts`.
///
/// # Safety
/// What the parts finish with may be called once for every pixel of the grid and output.
pub(super) unsafe fn convolve(
    level: Level,
    pool: &Arc<Pool>,
    pictures: &Pictures<'_>,
    parts: &[Part<'_>],
) {
    let Pictures { x, window, stride, grid: [h, w], .. } = *pictures;
    let channels = x.first.channels() + x.second.map_or(0, Tensor::channels);
    let samples = x.first.shape[0];
    let step = if parts.iter().any(|part| part.transformed.is_some()) { 2 } else { 1 };
    let cut = Cut::new(pictures, channels, step);
    let (strips, pieces) = (w.div_ceil(cut.across.max(1)), h.div_ceil(cut.down));
    let widest = |columns: usize| (columns.max(1) - 1) * stride + window[1];
    let lines_of = |results: usize| (results - 1) * stride + window[0];
    share(samples * strips * pieces, true, |index| {
        let (piece, rest) = (index % pieces, index / pieces);
        let (strip, sample) = (rest % strips, rest / strips);
        let columns = strip * cut.across..((strip + 1) * cut.across).min(w);
        let width = widest(columns.len());
        let padded = Padded::band(pool, [lines_of(cut.band), width, channels], stride);
        let mut band = Band { pictures, padded, sample, columns, width };
        let (first, end) = (piece * cut.down, ((piece + 1) * cut.down).min(h));
        // Lines of the picture with its zeros that the band holds.
        let mut held = first * stride..first * stride;
        for line in (first..end).step_by(cut.band) {
            let count = cut.band.min(end - line);
            let wanted = line * stride..line * stride + lines_of(count);
            let kept = held.end.saturating_sub(wanted.start).min(wanted.len());
            if kept > 0 {
                let pitch = band.padded.layout.line;
                let from = (wanted.start - held.start) * pitch;
                band.padded.values_mut().copy_within(from..from + kept * pitch, 0);
            }
            band.fill(level, wanted.start + kept..wanted.end, kept);
            held = wanted;
            for part in parts {
                let output = [count, band.columns.len()];
                let geometry = Geometry {
                    kernel: part.kernel,
                    stride,
                    before: [0; 2],
                    output,
                    enlarged: output,
                };
                let frame = Frame { first: [sample, line, band.columns.start], size: [h, w] };
                if let Some(weights) = part.transformed {
                    let grid = [1, output[0], output[1]];
                    let pictures = winograd::Pictures { padded: &band.padded, grid, frame };
                    // SAFETY: tasks and their bands have pixels of the grid of their own.
                    unsafe {
                        winograd::convolve(level, pool, pictures, weights, &part.finish, false);
                    }
                    continue;
                }
                let source = Source::padded(&band.padded, 1, &geometry, part.corner, part.places);
                // SAFETY: tasks and their bands have pixels of the grid of their own.
                unsafe { product_here(level, &source.within(frame), part.weight, &part.finish) };
            }
        }
    });
}
