//! In: a caller's mask. Out: [`Mask`], how much of each pixel is repainted; what the network is told of it,
//! and the matte with which a patch is laid over its picture.
//!
//! Distances are exact (Felzenszwalb & Huttenlocher 2012) and everything is computed in one order.

use super::Frame;
use super::image::{Format, ImageRef, reserve};
use super::placement::Fit;
use crate::error::{Error, Result};

/// Which values of an image are its mask.
///
/// The numbers are those of the C API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum MaskChannel {
    /// The first: that of a single-channel image, red otherwise.
    #[default]
    First = 0,
    /// Alpha.
    Alpha = 1,
}

impl TryFrom<u32> for MaskChannel {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        match number {
            0 => Ok(MaskChannel::First),
            1 => Ok(MaskChannel::Alpha),
            _ => Err(Error::invalid(format!(
                "mask channel {number} is not known; wanted 0 (first) or 1 (alpha)"
            ))),
        }
    }
}

/// How much of each pixel is repainted: 0 keeps it, 1 (255 in 8 bits) repaints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Mask {
    /// A mask from `width * height` values, top row first; clamped to 0..=1, NaN is 0.
    ///
    /// # Errors
    /// `InvalidArgument` where the number of values is another one.
    pub fn new(width: usize, height: usize, mut values: Vec<f32>) -> Result<Self> {
        if width.checked_mul(height) != Some(values.len()) || values.is_empty() {
            return Err(Error::invalid(format!(
                "{} values given for a mask of {width}x{height} pixels",
                values.len()
            )));
        }
        for value in &mut values {
            *value = if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) };
        }
        Ok(Mask { width, height, values })
    }

    /// A mask from `width * height` bytes, top row first: 255 repaints.
    ///
    /// # Errors
    /// Those of [`Mask::new`].
    pub fn from_u8(width: usize, height: usize, values: &[u8]) -> Result<Self> {
        Mask::new(width, height, values.iter().map(|&v| f32::from(v) / 255.0).collect())
    }

    /// A mask of 0 with a rectangle of 1 from x1, y1 to x2, y2 (the last two just outside).
    ///
    /// # Errors
    /// `InvalidArgument` where the rectangle doesn't lie within the mask.
    pub fn rectangle(width: usize, height: usize, rectangle: [usize; 4]) -> Result<Self> {
        let [x1, y1, x2, y2] = rectangle;
        if !(x1 < x2 && x2 <= width && y1 < y2 && y2 <= height) {
            return Err(Error::invalid(format!(
                "rectangle {rectangle:?} does not lie within {width}x{height} pixels"
            )));
        }
        let pixel = |i: usize| {
            let (x, y) = (i % width, i / width);
            f32::from(u8::from((x1..x2).contains(&x) && (y1..y2).contains(&y)))
        };
        Mask::new(width, height, (0..width * height).map(pixel).collect())
    }

    /// The mask in a caller's image. Its numbers are taken as they stand, whatever its transfer.
    ///
    /// # Errors
    /// `InvalidArgument` where alpha is asked of a format without, `OutOfMemory`.
    pub fn read(image: &ImageRef<'_>, channel: MaskChannel) -> Result<Self> {
        let layout = *image.layout();
        let index = match (channel, layout.format.channels()) {
            (MaskChannel::First, _) => 0,
            (MaskChannel::Alpha, 4) => 3,
            (MaskChannel::Alpha, _) => {
                return Err(Error::invalid(format!(
                    "a mask in the alpha channel of {:?}, which has none",
                    layout.format
                )));
            }
        };
        let mut values = reserve(layout.width.saturating_mul(layout.height))?;
        image.each_row(&mut |row| {
            values.extend(row.chunks_exact(layout.format.channels()).map(|pixel| pixel[index]));
        })?;
        Mask::new(layout.width, layout.height, values)
    }

    /// Pixels from left to right, and from top to bottom.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// All values, top row first.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The mask at another size, softened by the change.
    pub(crate) fn resized(&self, size: [usize; 2]) -> Result<Mask> {
        if self.size() == size {
            return Ok(self.clone());
        }
        let values = self.values.iter().flat_map(|&v| [v; 3]).collect();
        let frame = Frame::new(self.width, self.height, values)?.resized(size, Fit::Stretch)?;
        Mask::new(size[0], size[1], frame.rgb().iter().step_by(3).copied().collect())
    }

    /// The part within `region` (x1, y1, x2, y2), which lies inside of it.
    pub(crate) fn cropped(&self, [x1, y1, x2, y2]: [usize; 4]) -> Result<Mask> {
        let rows = self.values.chunks_exact(self.width).skip(y1).take(y2 - y1);
        Mask::new(x2 - x1, y2 - y1, rows.flat_map(|row| &row[x1..x2]).copied().collect())
    }

    /// The mask with 0 outside of `region`.
    pub(crate) fn within(mut self, [x1, y1, x2, y2]: [usize; 4]) -> Mask {
        for (y, row) in self.values.chunks_exact_mut(self.width).enumerate() {
            if (y1..y2).contains(&y) {
                row[..x1].fill(0.0);
                row[x2..].fill(0.0);
            } else {
                row.fill(0.0);
            }
        }
        self
    }

    /// What the network is told: 1 from a half on, 0 below.
    pub(crate) fn hard(&self) -> Vec<f32> {
        self.values.iter().map(|&v| f32::from(u8::from(v >= 0.5))).collect()
    }

    /// The matte with which a patch is laid over its picture: the mask, which within `feather` pixels of
    /// what is kept rises smoothly from there. 0 wherever the mask is, so nothing else is touched.
    pub(crate) fn matte(&self, feather: f64) -> Result<Vec<f32>> {
        let mut matte = reserve(self.values.len())?;
        matte.extend_from_slice(&self.values);
        if feather <= 0.0 || self.values.iter().all(|&v| v > 0.0) {
            return Ok(matte);
        }
        let squares = self.distances()?;
        for (value, square) in matte.iter_mut().zip(squares) {
            // Pixels are as far from the edge as their centres: half a pixel nearer than from the next.
            let near = ((f64::from(square).sqrt() - 0.5) / feather).clamp(0.0, 1.0);
            *value *= (near * near * (3.0 - 2.0 * near)) as f32;
        }
        Ok(matte)
    }

    /// The squared distance of each pixel from the nearest one that is 0.
    fn distances(&self) -> Result<Vec<f32>> {
        // Farther than any pixel, and small enough to be exact where squares are added.
        const FAR: f32 = 1e12;
        let mut squares: Vec<f32> = reserve(self.values.len())?;
        squares.extend(self.values.iter().map(|&v| if v == 0.0 { 0.0 } else { FAR }));
        let longest = self.width.max(self.height);
        let mut line = vec![0f32; longest];
        let mut envelope = Envelope::default();
        for x in 0..self.width {
            for (y, value) in line[..self.height].iter_mut().enumerate() {
                *value = squares[y * self.width + x];
            }
            envelope.lower(&mut line[..self.height]);
            for (y, value) in line[..self.height].iter().enumerate() {
                squares[y * self.width + x] = *value;
            }
        }
        for row in squares.chunks_exact_mut(self.width) {
            envelope.lower(row);
        }
        Ok(squares)
    }
}

/// The parabolas that make up the lower envelope of one line, and where each begins.
#[derive(Default)]
struct Envelope {
    places: Vec<usize>,
    begins: Vec<f64>,
    heights: Vec<f32>,
}

impl Envelope {
    /// Replaces each value by the least of (distance squared + value) over the line.
    fn lower(&mut self, line: &mut [f32]) {
        self.places.clear();
        self.begins.clear();
        self.heights.clear();
        self.heights.extend_from_slice(line);
        let height = |q: usize| f64::from(self.heights[q]) + (q * q) as f64;
        for q in 0..line.len() {
            loop {
                let Some(&p) = self.places.last() else {
                    self.places.push(q);
                    self.begins.push(f64::NEG_INFINITY);
                    break;
                };
                let meets = (height(q) - height(p)) / (2 * (q - p)) as f64;
                if self.begins.last().is_some_and(|&begin| meets <= begin) {
                    self.places.pop();
                    self.begins.pop();
                    continue;
                }
                self.places.push(q);
                self.begins.push(meets);
                break;
            }
        }
        let mut k = 0;
        for (q, value) in line.iter_mut().enumerate() {
            while self.begins.get(k + 1).is_some_and(|&begin| begin < q as f64) {
                k += 1;
            }
            let p = self.places[k];
            let away = q.abs_diff(p) as f64;
            *value = (away * away + f64::from(self.heights[p])) as f32;
        }
    }
}

impl Format {
    /// The single-channel formats, which only masks have: 8 and 16 bits, 16- and 32-bit floats.
    pub const MASKS: [Format; 4] = [Format::AU8, Format::AU16, Format::AF16, Format::AF32];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_exact() {
        let (width, height) = (23, 17);
        let kept = [[3usize, 4usize], [20, 2], [11, 16]];
        let values = (0..width * height)
            .map(|i| f32::from(u8::from(!kept.contains(&[i % width, i / width]))))
            .collect();
        let mask = Mask::new(width, height, values).unwrap();
        for (i, got) in mask.distances().unwrap().into_iter().enumerate() {
            let (x, y) = (i % width, i / width);
            let square = |[a, b]: [usize; 2]| x.abs_diff(a).pow(2) + y.abs_diff(b).pow(2);
            let wanted = kept.into_iter().map(square).min().unwrap();
            assert_eq!(got, wanted as f32, "at {x}, {y}");
        }
    }

    #[test]
    fn a_matte_is_0_outside_1_inside_and_rises_between() {
        let mask = Mask::rectangle(40, 30, [10, 8, 34, 26]).unwrap();
        let matte = mask.matte(4.0).unwrap();
        let at = |x: usize, y: usize| matte[y * 40 + x];
        for (i, (&m, &v)) in matte.iter().zip(mask.values()).enumerate() {
            assert_eq!(m == 0.0, v == 0.0, "at {}, {}", i % 40, i / 40);
        }
        assert!((10..15).all(|x| at(x, 17) < at(x + 1, 17) || at(x, 17) == 1.0));
        assert!(at(10, 17) < 0.1 && at(15, 17) == 1.0 && at(22, 17) == 1.0);
        // A soft mask is a matte already, and only gets softer.
        let soft = Mask::new(3, 1, vec![0.0, 0.4, 0.7]).unwrap();
        assert_eq!(soft.matte(0.0).unwrap(), [0.0, 0.4, 0.7]);
        assert!(soft.matte(2.0).unwrap().iter().zip(soft.values()).all(|(m, v)| m <= v));
        // Where everything is repainted there is no edge, the picture's own included.
        assert_eq!(Mask::new(2, 1, vec![1.0; 2]).unwrap().matte(8.0).unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn the_network_is_told_0_or_1() {
        let mask = Mask::from_u8(4, 1, &[0, 127, 128, 255]).unwrap();
        assert_eq!(mask.hard(), [0.0, 0.0, 1.0, 1.0]);
        let odd = Mask::new(3, 1, vec![f32::NAN, -1.0, 7.0]).unwrap();
        assert_eq!(odd.values(), [0.0, 0.0, 1.0]);
        let error = Mask::from_u8(4, 2, &[0; 7]).unwrap_err();
        assert_eq!(error.message(), "7 values given for a mask of 4x2 pixels");
    }
}
