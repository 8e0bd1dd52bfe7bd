//! In: activations. Out: [`Source`], the rows of a product in tiles of 16 whose rows lie at one distance from
//! each other: pixels side by side in a line, or on through all lines and what lies between them. So nothing is unrolled
//! in memory, and whoever reads a tile needs a place and a distance.

use super::packed::DEPTH;
use super::padded::Padded;
use super::tensor::{Layout, Tensor};
use super::tile::{Operand, ROWS};
use crate::backend::Sources;
use crate::backend::cpu::rows::Geometry;
use half::bf16;

/// Some inputs of the rows.
struct Segment<'a> {
    values: &'a [bf16],
    layout: Layout,
    blocks: usize,
}

/// Where a result stands whose rows come in this order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Places {
    /// Where its row says.
    Same,
    /// Every second pixel of every second line, from this one on, of a result of twice the size.
    Every2([usize; 2]),
}

/// What part of a result rows stand in: from this sample, line and column on, all of them as the rows' grid counts,
/// of samples of this height and width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) first: [usize; 3],
    pub(super) size: [usize; 2],
}

/// Rows without neighbours above or below.
pub(super) fn pixels(rows: usize) -> Geometry {
    let size = [1, rows];
    Geometry { kernel: [1, 1], stride: 1, before: [0, 0], output: size, enlarged: size }
}

/// No row of the result.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The rows of a product.
pub(super) struct Source<'a> {
    segments: Vec<Segment<'a>>,
    taps: Vec<usize>,
    /// Samples, height and width of the result.
    grid: [usize; 3],
    /// Tiles of a sample.
    tiles: usize,
    /// Tiles of a line; none where tiles run on from line to line, this many rows apart.
    line: Result<usize, usize>,
    places: Places,
    frame: Frame,
}

impl<'a> Source<'a> {
    /// The pixels of tensors, which have whole blocks of channels and at least a tile of pixels; none for
    /// others.
    pub(super) fn plain(x: Sources<'a, Tensor>) -> Option<Self> {
        let segment = |x: &'a Tensor| {
            let c = x.channels();
            let layout = Layout { sample: 0, line: 0, pixel: c, start: 0 };
            let whole = c.is_multiple_of(DEPTH) && x.values().len() >= ROWS * c && c > 0;
            whole.then(|| Segment { values: x.values(), layout, blocks: c / DEPTH })
        };
        let mut segments = vec![segment(x.first)?];
        if let Some(second) = x.second {
            segments.push(segment(second)?);
        }
        let [n, h, w, _] = x.first.shape;
        let tiles = (n * h * w).div_ceil(ROWS);
        let grid = [1, 1, n * h * w];
        let (places, frame) = (Places::Same, Frame { first: [0; 3], size: [1, n * h * w] });
        Some(Source { segments, taps: vec![0], grid, tiles, line: Ok(tiles), places, frame })
    }

    /// The pixels under a kernel, of `samples` pictures that are padded as `geometry` says or more, `corner`
    /// being the first tap's place above and to the left of the first result.
    pub(super) fn padded(
        x: &'a Padded,
        samples: usize,
        geometry: &Geometry,
        corner: [usize; 2],
        places: Places,
    ) -> Self {
        let Layout { sample, line, pixel, .. } = x.layout;
        let [h, w] = geometry.output;
        let [kh, kw] = geometry.kernel;
        let side = x.side();
        let taps = (0..kh * kw).map(|tap| tap / kw * line + tap % kw * side).collect();
        let step = geometry.stride;
        let start = corner[0] * line + corner[1] * side;
        // In lines, or on through what lies between them, whichever wastes less.
        let (across, apart) = (w.div_ceil(ROWS), step * line / (step * pixel));
        let through = ((h.max(1) - 1) * apart + w).div_ceil(ROWS);
        let (tiles, line_tiles) = if w >= ROWS && across * h <= through {
            (across * h, Ok(across))
        } else {
            (through, Err(apart))
        };
        let layout = Layout { sample, line: step * line, pixel: step * pixel, start };
        let segments = vec![Segment { values: x.values(), layout, blocks: x.blocks() }];
        let frame = Frame { first: [0; 3], size: [h, w] };
        Source { segments, taps, grid: [samples, h, w], tiles, line: line_tiles, places, frame }
    }

    /// The same, as a part of a larger result.
    pub(super) fn within(self, frame: Frame) -> Self {
        Source { frame, ..self }
    }

    /// Tiles of rows.
    pub(super) fn tiles(&self) -> usize {
        self.grid[0] * self.tiles
    }

    /// Bytes that a tile's rows lie in, neighbouring tiles sharing some.
    pub(super) fn tile_bytes(&self) -> usize {
        let inputs: usize = self.segments.iter().map(|s| s.blocks * DEPTH).sum();
        2 * ROWS * inputs
    }

    /// Blocks of channels, times taps.
    pub(super) fn blocks(&self) -> usize {
        self.segments.iter().map(|s| s.blocks).sum::<usize>() * self.taps.len()
    }

    /// Line and column of the first row of a sample's tile, the column reaching beyond the line where tiles run
    /// on.
    fn first(&self, tile: usize) -> [usize; 2] {
        match self.line {
            Ok(across) => {
                // The last tile of a line ends with it, and computes some rows again.
                let column = (tile % across * ROWS).min(self.grid[2] - ROWS);
                [tile / across, column]
            }
            Err(apart) => [tile * ROWS / apart, tile * ROWS % apart],
        }
    }

    /// Where each row of `tile` stands in the result.
    pub(super) fn places(&self, tile: usize) -> [u32; ROWS] {
        let (sample, tile) = (tile / self.tiles, tile % self.tiles);
        let [_, h, w] = self.grid;
        let Frame { first: [sample0, y0, x0], size: [height, width] } = self.frame;
        let [mut y, mut x] = self.first(tile);
        let done = match self.line {
            Ok(across) => (tile % across * ROWS).saturating_sub(x),
            Err(_) => 0,
        };
        let mut places = [NOWHERE; ROWS];
        for (row, found) in places.iter_mut().enumerate() {
            let inside = x < w && y < h && row >= done;
            let (line, column) = ((sample0 + sample) * height + y0 + y, x0 + x);
            let place = match self.places {
                Places::Same => line * width + column,
                Places::Every2([dy, dx]) => (line * 2 + dy) * 2 * width + 2 * column + dx,
            };
            x += 1;
            if let Err(apart) = self.line
                && x == apart
            {
                (y, x) = (y + 1, 0);
            }
            if inside {
                *found = place as u32;
            }
        }
        places
    }

    /// What two tiles are computed of, the second being the first again where there is but one.
    pub(super) fn operands(&self, tiles: [usize; 2]) -> ([Operand<'_>; 2], usize) {
        let of = |segment: &Segment<'_>| {
            let Layout { sample, line, pixel, start } = segment.layout;
            let at = tiles.map(|tile| {
                let [y, x] = self.first(tile % self.tiles);
                let place = start + tile / self.tiles * sample + y * line + x * pixel;
                segment.values[place.min(segment.values.len())..].as_ptr()
            });
            Operand { at, pitch: pixel, taps: &self.taps, blocks: segment.blocks }
        };
        let first = of(&self.segments[0]);
        let second = self.segments.get(1).map_or(first, of);
        ([first, second], self.segments.len())
    }
}
