//! In: pictures. Out: [`Padded`], copies of them with the zeros around that a convolution reads.
//!
//! Rows of a product go on from line to line, so that the zeros between two lines are computed, too. In a small picture
//! these are many (of 8x8 pixels a fifth): it is copied once for each column of the kernel instead, each copy shifted by
//! one more column and without anything between its lines.

use super::norm::Target;
use super::packed::DEPTH;
use super::tensor::{Brain, Layout, Tensor};
use super::tile::ROWS;
use crate::backend::Sources;
use crate::backend::cpu::memory::Pool;
use half::bf16;
use rayon::prelude::*;
use std::sync::Arc;

/// Fewer values than this are not worth another thread.
const SHARE: usize = 1 << 15;

/// What a convolution reads of a picture and around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Zeros above and to the left, below and to the right.
    pub(super) before: [usize; 2],
    pub(super) after: [usize; 2],
    /// Columns that are read for one result.
    pub(super) columns: usize,
    /// From result to result, in pixels.
    pub(super) step: usize,
    /// Whether the picture may be copied once for each column.
    pub(super) spread: bool,
}

impl Window {
    /// A pixel for each result.
    pub(super) fn pixel() -> Self {
        Window { before: [0; 2], after: [0; 2], columns: 1, step: 1, spread: false }
    }

    /// How many copies of a picture of `h` x `w` pixels are made: one for each column if that saves a tenth of the tiles.
    fn copies(&self, [h, w]: [usize; 2]) -> usize {
        let across = self.before[1] + self.after[1];
        // A line of results is as long as one of the picture.
        let same = self.step == 1 && across > 0 && across + 1 == self.columns;
        if !self.spread || !same || h == 0 || w == 0 {
            return 1;
        }
        let lines = if w < ROWS { usize::MAX } else { w.div_ceil(ROWS).saturating_mul(h) };
        let through = (h - 1).saturating_mul(w + across).saturating_add(w).div_ceil(ROWS);
        let whole = h.saturating_mul(w).div_ceil(ROWS);
        let saves = whole.saturating_mul(10) <= lines.min(through).saturating_mul(9);
        if saves { self.columns } else { 1 }
    }

    /// How pictures of `shape` are to be copied, and the bytes that this takes: as it is, or once only, whichever is no
    /// more than `whole` bytes; none if both are.
    pub(super) fn fitting(self, shape: [usize; 4], whole: usize) -> Option<(Self, usize)> {
        let once = Window { spread: false, ..self };
        let all = [self, once].map(|window| (window, padded_bytes(shape, window)));
        all.into_iter().find(|(_, bytes)| *bytes <= whole)
    }

    /// Height and width of a copy, and how many there are.
    fn size(&self, [h, w]: [usize; 2]) -> ([usize; 2], usize) {
        let copies = self.copies([h, w]);
        let between = if copies > 1 { 0 } else { self.before[1] + self.after[1] };
        ([h + self.before[0] + self.after[0], w + between], copies)
    }
}

/// Pictures with zeros around them, whose channels fill whole blocks.
pub(super) struct Padded {
    values: Brain,
    pub(super) layout: Layout,
    /// Blocks of channels, of which a pixel may have one more that is never read.
    blocks: usize,
    /// Height and width with the zeros.
    size: [usize; 2],
    /// Zeros above and to the left.
    before: [usize; 2],
    /// Copies, one behind the other: in each the picture is one column further to the left.
    copies: usize,
    /// Values of a copy.
    copy: usize,
}

/// Values of a pixel that holds `blocks` blocks of channels: pixels an even number of cache lines apart share few
/// places of a cache.
fn pixel_of(blocks: usize) -> usize {
    (blocks + usize::from(blocks.is_multiple_of(2))) * DEPTH
}

/// Blocks of channels, and values of a pixel.
fn depth(channels: usize, window: Window) -> (usize, usize) {
    let blocks = channels.div_ceil(DEPTH).max(1);
    let pixel = if window.before == [0, 0] { blocks * DEPTH } else { pixel_of(blocks) };
    (blocks, pixel)
}

/// What [`Padded::new`] takes for the same, in bytes.
pub(super) fn padded_bytes([n, h, w, c]: [usize; 4], window: Window) -> usize {
    let (_, pixel) = depth(c, window);
    let ([lines, columns], copies) = window.size([h, w]);
    let pixels = lines.saturating_mul(columns).saturating_mul(copies);
    let all = n.saturating_mul(pixels).saturating_add(ROWS * window.step);
    all.saturating_mul(pixel).saturating_mul(size_of::<bf16>())
}

/// What [`Padded::band`] takes for the same, in bytes.
pub(super) fn band_bytes([h, w, c]: [usize; 3], step: usize) -> usize {
    (h * w + ROWS * step) * pixel_of(c.div_ceil(DEPTH).max(1)) * size_of::<bf16>()
}

impl Padded {
    /// Room for a band of `h` x `w` pixels, zeros around them included, of `c` channels; who fills it writes all of
    /// them, channels as for [`Padded::new`]. Results are `step` pixels apart.
    pub(super) fn band(pool: &Arc<Pool>, [h, w, c]: [usize; 3], step: usize) -> Self {
        let blocks = c.div_ceil(DEPTH).max(1);
        let pixel = pixel_of(blocks);
        let values = Brain::take(pool, (h * w + ROWS * step) * pixel);
        let copy = h * w * pixel;
        let layout = Layout { sample: copy, line: w * pixel, pixel, start: 0 };
        Padded { values, layout, blocks, size: [h, w], before: [0; 2], copies: 1, copy }
    }

    /// Room for `samples` pictures of `h` x `w` pixels, whose borders are zero already; who fills it writes all
    /// channels of each pixel, zeros behind the last, and then calls [`Padded::shift`].
    pub(super) fn new(pool: &Arc<Pool>, [n, h, w, c]: [usize; 4], window: Window) -> Self {
        let (blocks, pixel) = depth(c, window);
        let (size, copies) = window.size([h, w]);
        let (line, sample) = (size[1] * pixel, size[0] * size[1] * pixel);
        let [above, left] = window.before;
        let (copy, indent) = (n * sample, if copies > 1 { 0 } else { left * pixel });
        // The picture itself is the copy that is read for the column above it.
        let base = if copies > 1 { left * copy } else { 0 };
        // The last tile may reach beyond the last result by all its other rows.
        let mut values = Brain::take(pool, copies * copy + ROWS * window.step * pixel);
        for picture in values.values_mut()[base..].chunks_exact_mut(sample.max(1)).take(n) {
            picture[..above * line].fill(bf16::ZERO);
            picture[(above + h) * line..].fill(bf16::ZERO);
            for row in picture[above * line..(above + h) * line].chunks_exact_mut(line.max(1)) {
                row[..indent].fill(bf16::ZERO);
                row[indent + w * pixel..].fill(bf16::ZERO);
            }
        }
        let layout = Layout { sample, line, pixel, start: base + above * line + indent };
        Padded { values, layout, blocks, size, before: window.before, copies, copy }
    }

    /// Makes the other copies of what was filled in, if there are to be any.
    pub(super) fn shift(&mut self) {
        let Padded { layout: Layout { line, pixel, .. }, before: [_, left], copies, copy, .. } =
            *self;
        if copies == 1 || copy == 0 {
            return;
        }
        let (front, rest) = self.values.values_mut()[..copies * copy].split_at_mut(left * copy);
        let (picture, back) = rest.split_at_mut(copy);
        let lines = copy / line;
        let shift = |first: usize, (index, out): (usize, &mut [bf16])| {
            let from = &picture[index % lines * line..][..line];
            let copied = first + index / lines;
            // By how many columns the picture moves, and what then isn't in it.
            let moved = (copied.abs_diff(left) * pixel).min(line);
            let (zeros, values, from) = if copied < left {
                let (zeros, values) = out.split_at_mut(moved);
                (zeros, values, &from[..line - moved])
            } else {
                let (values, zeros) = out.split_at_mut(line - moved);
                (zeros, values, &from[moved..])
            };
            values.copy_from_slice(from);
            zeros.fill(bf16::ZERO);
        };
        for (first, part) in [(0, front), (left + 1, back)] {
            if part.len() < SHARE {
                part.chunks_exact_mut(line).enumerate().for_each(|line| shift(first, line));
            } else {
                let lines = part.par_chunks_exact_mut(line).with_min_len(4).enumerate();
                lines.for_each(|line| shift(first, line));
            }
        }
    }

    /// Height and width with the zeros, of pictures that are copied once.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    pub(super) fn values(&self) -> &[bf16] {
        self.values.values()
    }

    /// All of it.
    pub(super) fn values_mut(&mut self) -> &mut [bf16] {
        self.values.values_mut()
    }

    /// Blocks of channels that are read.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Channels that are read.
    pub(super) fn channels(&self) -> usize {
        self.blocks * DEPTH
    }

    /// From what is read for a result to what lies one column to the right of it, in values.
    pub(super) fn side(&self) -> usize {
        if self.copies > 1 { self.copy } else { self.layout.pixel }
    }

    /// For normalised values.
    pub(super) fn target(&mut self) -> Target {
        let channels = self.channels();
        Target { values: self.values.values_mut().as_mut_ptr(), layout: self.layout, channels }
    }

    /// The sources, enlarged to `enlarged` by nearest neighbour, with what `window` reads around them.
    pub(super) fn copied(
        pool: &Arc<Pool>,
        x: Sources<'_, Tensor>,
        [height, width]: [usize; 2],
        window: Window,
    ) -> Self {
        let [n, h, w, first] = x.first.shape;
        let channels = first + x.second.map_or(0, Tensor::channels);
        let mut padded = Padded::new(pool, [n, height, width, channels], window);
        let Padded { layout: Layout { line, pixel, start, .. }, size: [lines, _], .. } = padded;
        let (above, copy) = (padded.before[0], padded.copy);
        // Of the copy that is filled.
        let base = start - start % line - above * line;
        let indent = start % line;
        let row = |(index, out): (usize, &mut [bf16])| {
            let (sample, y) = (index / lines, index % lines);
            if y < above || y >= above + height {
                return;
            }
            let y = (y - above) * h / height;
            for (column, out) in out[indent..].chunks_exact_mut(pixel).take(width).enumerate() {
                let from = (sample * h + y) * w + column * w / width;
                let mut filled = 0;
                for source in [Some(x.first), x.second].into_iter().flatten() {
                    let c = source.channels();
                    out[filled..filled + c].copy_from_slice(&source.values()[from * c..][..c]);
                    filled += c;
                }
                out[filled..].fill(bf16::ZERO);
            }
        };
        let values = &mut padded.values.values_mut()[base..base + copy];
        if values.len() < SHARE {
            values.chunks_exact_mut(line).enumerate().for_each(row);
        } else {
            values.par_chunks_exact_mut(line).with_min_len(4).enumerate().for_each(row);
        }
        padded.shift();
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_in_copies_is_copied_once() {
        let window = Window { before: [1, 1], after: [1, 1], columns: 3, step: 1, spread: true };
        let shape = [4, 8, 8, 2560];
        let (three, bytes) = window.fitting(shape, usize::MAX).unwrap();
        assert_eq!((three.spread, bytes), (true, padded_bytes(shape, window)));
        let (one, fewer) = window.fitting(shape, bytes - 1).unwrap();
        assert_eq!((one.spread, fewer), (false, padded_bytes(shape, one)));
        assert!(2 * fewer < bytes);
        assert!(window.fitting(shape, fewer - 1).is_none());
    }

    #[test]
    fn a_picture_is_read_the_same_whether_it_is_copied_once_or_for_each_column() {
        let pool: Arc<Pool> = Arc::default();
        let window = Window { before: [1, 1], after: [1, 1], columns: 3, step: 1, spread: true };
        // Height and width, and whether there are copies for each column.
        let cases = [
            (8, 8, true),
            (12, 12, true),
            (5, 3, true),
            (1, 1, false),
            (16, 16, false),
            (2, 17, false),
            (20, 20, true),
        ];
        for (h, w, many) in cases {
            let (n, c) = (2, 40);
            // Memory that was used before.
            pool.take(1 << 19).values_mut().fill(f32::NAN);
            let mut values = Brain::take(&pool, n * h * w * c);
            for (index, value) in values.values_mut().iter_mut().enumerate() {
                *value = bf16::from_f32((index % 251 + 1) as f32);
            }
            let x = Tensor::new([n, h, w, c], values);
            let padded = Padded::copied(&pool, (&x).into(), [h, w], window);
            let Layout { sample, line, pixel, .. } = padded.layout;
            assert_eq!(padded.side() != pixel, many, "{h}x{w}");
            assert_eq!(2 * padded.values().len(), padded_bytes([n, h, w, c], window), "{h}x{w}");
            if many {
                assert_eq!(line, w * pixel, "something lies between lines");
            }
            for (s, y, dy, dx) in (0..n * h * 9).map(|i| (i / 9 / h, i / 9 % h, i / 3 % 3, i % 3)) {
                for column in 0..w {
                    let place = s * sample + (y + dy) * line + column * pixel + dx * padded.side();
                    let there = (1..=h).contains(&(y + dy)) && (1..=w).contains(&(column + dx));
                    for channel in 0..padded.channels() {
                        let wanted = if there && channel < c {
                            let pixel = (s * h + y + dy - 1) * w + column + dx - 1;
                            x.values()[pixel * c + channel]
                        } else {
                            bf16::ZERO
                        };
                        let got = padded.values()[place + channel];
                        assert_eq!(got, wanted, "{h}x{w}, {s} {y} {column}, {dy} {dx}, {channel}");
                    }
                }
            }
        }
    }
}
