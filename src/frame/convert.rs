//! In: a [`Frame`], a caller's image, perhaps a placement. Out: the image's pixels.
//!
//! Frame, resampled as it is (display-encoded), then the image's transfer, then its format. A resampled
//! picture is thus the same whatever the caller's colour space, as enlarging in linear light is not: a
//! kernel with negative lobes draws dark rims around lights there, and enlarging is what is mostly done to
//! a frame. Runs on the caller's thread, and needs a few rows of memory.

use half::f16;

use super::colour::finite;
use super::image::{Format, ImageMut, reserve};
use super::placement::{Laid, Placement};
use super::{Frame, quantize};
use crate::error::{Error, Result};

impl Frame {
    /// Writes the frame's pixels into a caller's image: resampled as `placement` says, in the image's
    /// transfer and format. Without a placement the sizes must be equal, and no pixel is resampled.
    ///
    /// Integer formats hold 0..=1: values are clamped to it in the image's own transfer and rounded to the
    /// nearest code, half to even. Floating-point formats keep what is below 0 and above 1, up to the
    /// largest number of the format. NaN is written as 0, alpha as 1. Letterbox bars are opaque
    /// black; pixels outside of the placement's bounds are 0 in all channels. Bytes between rows, and pixels
    /// outside of the image, aren't touched.
    ///
    /// ```
    /// use latentblend::{Format, Frame, ImageMut, Layout, Placement, Transfer};
    ///
    /// let frame = Frame::new(2, 2, vec![0.5; 12])?;
    /// let mut memory = vec![0; 192 * 108 * 16];
    /// let layout = Layout::packed(192, 108, Format::RgbaF32, Transfer::AcesCg);
    /// let mut image = ImageMut::new(&mut memory, 0, layout)?;
    /// frame.write(&mut image, Some(&Placement::whole(192, 108)))?;
    /// # Ok::<(), latentblend::Error>(())
    /// ```
    ///
    /// # Errors
    /// `InvalidArgument` where sizes do not agree or the placement cannot be; `OutOfMemory`. Nothing was
    /// written then.
    pub fn write(&self, image: &mut ImageMut<'_>, placement: Option<&Placement>) -> Result<()> {
        let (frame, layout) = ([self.width, self.height], *image.layout());
        layout.format.shows_colour()?;
        let size = [layout.width, layout.height];
        let laid = match placement {
            Some(placement) => Some(placement.lay(frame, size)?),
            None if frame == size => None,
            None => {
                return Err(Error::invalid(format!(
                    "the frame has {}x{} pixels, the image {}x{}: give a placement to resample",
                    frame[0], frame[1], size[0], size[1]
                )));
            }
        };
        let mut bytes = reserve(layout.row_length())?;
        let mut colours = reserve(layout.width)?;
        let mut resampler = laid.as_ref().map(|laid| Resampler::new(self, laid)).transpose()?;
        let left = laid.as_ref().map_or(0, |laid| laid.columns.inside.start);
        // Nothing fails from here on.
        for y in 0..layout.height {
            bytes.clear();
            colours.clear();
            let row = match &mut resampler {
                None => self.row(y),
                Some(resampler) => resampler.row(y),
            };
            let row = row.as_chunks::<3>().0;
            colours.extend(row.iter().map(|&colour| layout.transfer.encode(colour.map(finite))));
            // All bits 0 are black and transparent in every format.
            bytes.resize(left * layout.format.bytes_per_pixel(), 0);
            pack(layout.format, &colours, &mut bytes);
            bytes.resize(layout.row_length(), 0);
            image.put_row(y, &bytes);
        }
        Ok(())
    }

    /// Row `y`, counted from the top.
    pub(super) fn row(&self, y: usize) -> &[f32] {
        &self.rgb[y * self.width * 3..][..self.width * 3]
    }
}

impl Format {
    /// Fails for the formats of masks.
    pub(super) fn shows_colour(self) -> Result<()> {
        match self.channels() {
            1 => Err(Error::invalid(format!("a picture in {self:?}: wanted RGB or RGBA"))),
            _ => Ok(()),
        }
    }
}

/// Appends the bytes of pixels of `format`, with alpha 1.
fn pack(format: Format, colours: &[[f32; 3]], bytes: &mut Vec<u8>) {
    let alpha = format.channels() == 4;
    match format {
        Format::RgbU8 | Format::RgbaU8 | Format::AU8 => {
            store(colours, alpha, bytes, |v| [quantize(v, 255.0) as u8]);
        }
        Format::RgbU16 | Format::RgbaU16 | Format::AU16 => {
            store(colours, alpha, bytes, |v| (quantize(v, 65535.0) as u16).to_ne_bytes());
        }
        Format::RgbF16 | Format::RgbaF16 | Format::AF16 => {
            let most = f16::MAX.to_f32();
            let code = |v| f16::from_f32(finite(v).clamp(-most, most)).to_ne_bytes();
            store(colours, alpha, bytes, code);
        }
        Format::RgbF32 | Format::RgbaF32 | Format::AF32 => {
            store(colours, alpha, bytes, |v| finite(v).to_ne_bytes());
        }
    }
}

/// Appends the bytes of each value, `B` of them, and of an alpha of 1 after each colour.
fn store<const B: usize>(
    colours: &[[f32; 3]],
    alpha: bool,
    bytes: &mut Vec<u8>,
    code: impl Fn(f32) -> [u8; B],
) {
    for colour in colours {
        bytes.extend_from_slice(colour.map(&code).as_flattened());
        if alpha {
            bytes.extend_from_slice(&code(1.0));
        }
    }
}

/// A frame on its way into an image: rows of the frame are resampled along x when they are first needed
/// and kept as long as a row of the image is made of them. Sums are in f32, in the order of the taps.
pub(super) struct Resampler<'a> {
    frame: &'a Frame,
    laid: &'a Laid,
    /// One row of the frame.
    source: Vec<f32>,
    /// `slots` rows along x; row r of the frame is in slot r % slots.
    ring: Vec<f32>,
    slots: usize,
    /// The first row of the frame that wasn't needed so far.
    next: usize,
    /// One row of the image, as far as it lies within the bounds.
    row: Vec<f32>,
}

impl<'a> Resampler<'a> {
    pub(super) fn new(frame: &'a Frame, laid: &'a Laid) -> Result<Self> {
        let slots = laid.rows.taps.longest();
        let width = laid.columns.taps.count() * 3;
        Ok(Resampler {
            frame,
            laid,
            source: zeros(frame.width * 3)?,
            ring: zeros(width.saturating_mul(slots))?,
            slots,
            next: 0,
            row: zeros(width)?,
        })
    }

    /// Row `y` of the image, from the first pixel that lies within the bounds to the last; rows are asked
    /// for from top to bottom. Empty where none does.
    pub(super) fn row(&mut self, y: usize) -> &[f32] {
        let rows = &self.laid.rows;
        if !rows.inside.contains(&y) {
            return &[];
        }
        let (first, weights) = rows.taps.at(y - rows.inside.start);
        self.next = self.next.max(first);
        while self.next < first + weights.len() {
            self.resample_along_x(self.next);
            self.next += 1;
        }
        self.row.fill(0.0);
        let width = self.row.len();
        for (source, &weight) in (first..).zip(weights) {
            let source = &self.ring[source % self.slots * width..][..width];
            for (sum, &value) in self.row.iter_mut().zip(source) {
                *sum += weight * value;
            }
        }
        &self.row
    }

    /// Fills the slot of row `y` of the frame.
    fn resample_along_x(&mut self, y: usize) {
        // A single NaN or infinity must not spread.
        for (to, &from) in self.source.iter_mut().zip(self.frame.row(y)) {
            *to = finite(from);
        }
        let source = self.source.as_chunks::<3>().0;
        let width = self.row.len();
        let slot = &mut self.ring[y % self.slots * width..][..width];
        for (index, to) in slot.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (first, weights) = self.laid.columns.taps.at(index);
            let mut sum = [0f32; 3];
            for (pixel, &weight) in source[first..].iter().zip(weights) {
                for (sum, &value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            *to = sum;
        }
    }
}

/// `count` zeros, or `OutOfMemory`.
fn zeros(count: usize) -> Result<Vec<f32>> {
    let mut room = reserve(count)?;
    room.resize(count, 0.0);
    Ok(room)
}
