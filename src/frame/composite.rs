//! In: a frame of the model, the true pictures near it, perhaps a plate with a matte. Out: the pixels of a
//! caller's image.
//!
//! What is shown of a caller's own picture comes from its own bytes: where the target's pixels are the
//! picture's, in size, format and colour, they are copied and never computed. Runs on the caller's thread,
//! row by row.

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::colour::finite;
use super::convert::Resampler;
use super::highlight::Highlights;
use super::image::{Format, ImageMut, ImageRef, Layout, reserve, unpack};
use super::placement::{Laid, Placement};
use super::source::Shown;
use super::{Frame, quantize};
use crate::error::{Error, Result};

/// A picture that a frame is near, or is.
pub(crate) struct End<'a> {
    /// Its own pixels, as many as the composite's.
    pub(crate) image: ImageRef<'a>,
    /// What they show.
    pub(crate) shown: Arc<Shown>,
    /// How near: 1 is the picture itself. Below, the frame already lacks as much of the picture's
    /// reconstruction, so that what is added is the detail that the model cannot hold.
    pub(crate) weight: f32,
    /// What brought it into the model's range.
    pub(crate) curve: Highlights,
}

/// What a patch is laid over.
pub(crate) struct Plate<'a> {
    /// Its own pixels, as many as the composite's.
    pub(crate) image: ImageRef<'a>,
    /// What they show, where that is known already.
    pub(crate) shown: Option<Arc<Shown>>,
    /// How much of the patch is shown at each pixel of the composite.
    pub(crate) matte: &'a [f32],
    /// The patch alone, multiplied by the matte, which becomes alpha.
    pub(crate) alone: bool,
}

/// One picture, ready to be written.
pub(crate) struct Composite<'a> {
    /// Its size: that of the caller's own pictures.
    pub(crate) size: [usize; 2],
    /// The model's frame, in the model's range. `None` where an end covers it.
    pub(crate) frame: Option<&'a Frame>,
    /// What the frame shows: x1, y1, x2, y2 in pixels of the composite.
    pub(crate) part: [usize; 4],
    /// What takes the model's range back to the picture's.
    pub(crate) curve: Highlights,
    /// Pictures that the frame is near.
    pub(crate) ends: Vec<End<'a>>,
    /// What it is laid over.
    pub(crate) plate: Option<Plate<'a>>,
}

/// Fails where a composite of `size` could not be written to an image.
pub(crate) fn writable(
    size: [usize; 2],
    image: &ImageMut<'_>,
    placement: Option<&Placement>,
    alone: bool,
) -> Result<()> {
    let layout = image.layout();
    if alone && layout.format.channels() != 4 {
        return Err(Error::invalid(format!(
            "a patch alone in {:?}: wanted RGBA, for its matte",
            layout.format
        )));
    }
    fitting(size, layout, placement)
}

/// Fails where a frame of `size` could not be laid out so.
pub(crate) fn fitting(
    size: [usize; 2],
    layout: &Layout,
    placement: Option<&Placement>,
) -> Result<()> {
    layout.format.shows_colour()?;
    let target = [layout.width, layout.height];
    match placement {
        Some(placement) => placement.fits(target),
        None if target == size => Ok(()),
        None => Err(Error::invalid(format!(
            "the frame has {}x{} pixels, the image {}x{}: give a placement to resample",
            size[0], size[1], target[0], target[1]
        ))),
    }
}

impl Composite<'_> {
    /// Writes the picture into a caller's image, as [`Frame::write`] writes a frame; without a placement
    /// the image has the composite's size.
    pub(crate) fn write(
        &self,
        image: &mut ImageMut<'_>,
        placement: Option<&Placement>,
    ) -> Result<()> {
        let alone = self.plate.as_ref().is_some_and(|plate| plate.alone);
        writable(self.size, image, placement, alone)?;
        let layout = *image.layout();
        let target = [layout.width, layout.height];
        let whole = self.size.map(|side| i32::try_from(side).unwrap_or(i32::MAX));
        let whole = Placement::whole(whole[0], whole[1]);
        let placement = placement.unwrap_or(&whole);
        let shown = match &self.plate {
            Some(Plate { image, shown: None, .. }) if placement.aligned(self.size).is_none() => {
                Some(Arc::new(Shown::of(image)?))
            }
            Some(plate) => plate.shown.clone(),
            None => None,
        };
        let laid = placement.lay(self.size, target)?;
        let aligned = placement.aligned(self.size);
        let matte = match &self.plate {
            Some(plate) if aligned.is_none() => Some(spread(self.size, plate.matte)?),
            _ => None,
        };
        // Nothing is resampled where pixels are the picture's own.
        let mut ends = Vec::with_capacity(self.ends.len());
        for end in &self.ends {
            ends.push(Layer::new(&end.image, Some(&end.shown), &laid, aligned)?);
        }
        let mut plate = match &self.plate {
            Some(plate) => Some(Layer::new(&plate.image, shown.as_deref(), &laid, aligned)?),
            None => None,
        };
        let mut matte = match &matte {
            Some(matte) => Some(Resampler::new(matte, &laid)?),
            None => None,
        };
        let frame = self.frame.filter(|_| self.cover().is_none());
        let frame_laid = match frame {
            Some(frame) => {
                let size = [frame.width(), frame.height()];
                Some(placement.lay_part(self.size, self.part, size, target)?)
            }
            None => None,
        };
        let mut frame = match (frame, &frame_laid) {
            (Some(frame), Some(laid)) => Some(Resampler::new(frame, laid)?),
            _ => None,
        };
        let columns = laid.columns.inside.clone();
        let mut row = Row::new(columns.len(), layout.width * layout.format.channels())?;
        let mut bytes = reserve(layout.row_length())?;
        for y in 0..layout.height {
            bytes.clear();
            if laid.rows.inside.contains(&y) && !columns.is_empty() {
                for (layer, end) in ends.iter_mut().zip(&self.ends) {
                    layer.read(y, &columns, end.image.layout().format)?;
                }
                if let Some(layer) = &mut plate {
                    layer.read(y, &columns, layer.format)?;
                }
                row.matte.clear();
                match (&mut matte, &self.plate, aligned) {
                    (Some(matte), ..) => {
                        row.matte.extend(matte.row(y).iter().step_by(3).map(|m| m.clamp(0.0, 1.0)));
                    }
                    (None, Some(plate), Some([x0, y0])) => {
                        let start = (y as i64 + y0) as usize * self.size[0];
                        let start = start + (columns.start as i64 + x0) as usize;
                        row.matte.extend_from_slice(&plate.matte[start..start + columns.len()]);
                    }
                    _ => {}
                }
                let made = frame.as_mut().map(|frame| frame.row(y));
                self.mix(made, &ends, plate.as_ref(), &mut row, layout.transfer);
                row.code(columns.start, layout.format, &mut bytes);
                self.copy_exact(&ends, plate.as_ref(), &row, columns.start, &layout, &mut bytes);
            }
            bytes.resize(layout.row_length(), 0);
            image.put_row(y, &bytes);
        }
        Ok(())
    }

    /// The end that covers everything, if there is one.
    fn cover(&self) -> Option<usize> {
        self.ends.iter().position(|end| end.weight == 1.0)
    }

    /// Mixes one row: colours in the target's encoding, alpha, and whose own pixels are shown.
    fn mix(
        &self,
        made: Option<&[f32]>,
        ends: &[Layer<'_>],
        plate: Option<&Layer<'_>>,
        row: &mut Row,
        transfer: super::Transfer,
    ) {
        let cover = self.cover();
        let alone = self.plate.as_ref().is_some_and(|plate| plate.alone);
        row.colours.clear();
        row.alphas.clear();
        row.exact.clear();
        for x in 0..row.length {
            let (mut colour, mut clear) = match cover {
                Some(index) => (ends[index].colours[x], ends[index].clear[x]),
                None => {
                    let mut colour = made.map_or([0.0; 3], |row| row.as_chunks::<3>().0[x]);
                    let mut clear = 0.0;
                    for (layer, end) in ends.iter().zip(&self.ends) {
                        for (sum, value) in colour.iter_mut().zip(layer.colours[x]) {
                            *sum += end.weight * end.curve.compress(value);
                        }
                        clear += end.weight * layer.clear[x];
                    }
                    (colour.map(|value| finite(self.curve.expand(finite(value)))), clear)
                }
            };
            let mut exact = cover.map(Exact::End);
            if let (Some(plate), false) = (plate, alone) {
                let share = row.matte[x];
                let (under, under_clear) = (plate.colours[x], plate.clear[x]);
                if share == 0.0 || colour == under && clear == under_clear {
                    (colour, clear, exact) = (under, under_clear, Some(Exact::Plate));
                } else if share < 1.0 {
                    for (value, under) in colour.iter_mut().zip(under) {
                        *value = under + share * (*value - under);
                    }
                    clear = under_clear + share * (clear - under_clear);
                    exact = None;
                }
            }
            let mut encoded = transfer.encode(colour);
            let mut alpha = 1.0 - clear;
            if alone {
                let share = row.matte[x];
                encoded = encoded.map(|value| value * share);
                alpha *= share;
                exact = None;
            }
            row.colours.push(encoded);
            row.alphas.push(alpha);
            row.exact.push(exact);
        }
    }

    /// Puts a caller's own bytes where its own pixels are shown.
    fn copy_exact(
        &self,
        ends: &[Layer<'_>],
        plate: Option<&Layer<'_>>,
        row: &Row,
        start: usize,
        layout: &super::Layout,
        bytes: &mut [u8],
    ) {
        let size = layout.format.bytes_per_pixel();
        for (x, exact) in row.exact.iter().enumerate() {
            let layer = match exact {
                Some(Exact::End(index)) => &ends[*index],
                Some(Exact::Plate) => match plate {
                    Some(plate) => plate,
                    None => continue,
                },
                None => continue,
            };
            let same = layer.format == layout.format && layer.transfer == layout.transfer;
            if same && !layer.bytes.is_empty() {
                bytes[(start + x) * size..][..size]
                    .copy_from_slice(&layer.bytes[x * size..][..size]);
            }
        }
    }
}

/// Whose pixel a pixel is.
#[derive(Clone, Copy)]
enum Exact {
    End(usize),
    Plate,
}

/// One row of the target, from the first pixel within the bounds to the last.
struct Row {
    length: usize,
    matte: Vec<f32>,
    colours: Vec<[f32; 3]>,
    alphas: Vec<f32>,
    exact: Vec<Option<Exact>>,
    values: Vec<f32>,
}

impl Row {
    fn new(length: usize, values: usize) -> Result<Self> {
        Ok(Row {
            length,
            matte: reserve(length)?,
            colours: reserve(length)?,
            alphas: reserve(length)?,
            exact: reserve(length)?,
            values: reserve(values)?,
        })
    }

    /// Appends the bytes of the row's pixels, behind `start` that are 0.
    fn code(&mut self, start: usize, format: Format, bytes: &mut Vec<u8>) {
        bytes.resize(start * format.bytes_per_pixel(), 0);
        self.values.clear();
        let with_alpha = format.channels() == 4;
        for (colour, &alpha) in self.colours.iter().zip(&self.alphas) {
            self.values.extend_from_slice(colour);
            if with_alpha {
                self.values.push(alpha);
            }
        }
        let values = self.values.iter();
        match format.bytes_per_pixel() / format.channels() {
            1 => bytes.extend(values.map(|&v| quantize(v, 255.0) as u8)),
            2 if format.is_float() => {
                let most = f16::MAX.to_f32();
                let code = |&v: &f32| f16::from_f32(finite(v).clamp(-most, most)).to_ne_bytes();
                bytes.extend(values.flat_map(code));
            }
            2 => bytes.extend(values.flat_map(|&v| (quantize(v, 65535.0) as u16).to_ne_bytes())),
            _ => bytes.extend(values.flat_map(|&v| finite(v).to_ne_bytes())),
        }
    }
}

/// One row at a time of a caller's picture, as the target's pixels show it.
struct Layer<'a> {
    rows: Rows<'a>,
    format: Format,
    transfer: super::Transfer,
    /// The row's own bytes, where its pixels are the target's.
    bytes: Vec<u8>,
    values: Vec<f32>,
    colours: Vec<[f32; 3]>,
    clear: Vec<f32>,
}

enum Rows<'a> {
    /// Pixels are the picture's own, from this place on.
    Own(ImageRef<'a>, [i64; 2]),
    Resampled(Resampler<'a>, Option<Transparency<'a>>),
}

/// 1 - alpha, resampled: bars around a picture are then opaque.
struct Transparency<'a> {
    clear: &'a [f32],
    width: usize,
    laid: &'a Laid,
}

impl Transparency<'_> {
    /// Appends the row `y` of the target.
    fn row(&self, y: usize, to: &mut Vec<f32>) {
        let (top, down) = self.laid.rows.taps.at(y - self.laid.rows.inside.start);
        for x in 0..self.laid.columns.inside.len() {
            let (left, across) = self.laid.columns.taps.at(x);
            let mut sum = 0.0;
            for (row, &weight) in self.clear.chunks_exact(self.width).skip(top).zip(down) {
                let line: f32 = row[left..].iter().zip(across).map(|(c, w)| c * w).sum();
                sum += weight * line;
            }
            to.push(sum.clamp(0.0, 1.0));
        }
    }
}

impl<'a> Layer<'a> {
    fn new(
        image: &ImageRef<'a>,
        shown: Option<&'a Shown>,
        laid: &'a Laid,
        aligned: Option<[i64; 2]>,
    ) -> Result<Self> {
        let rows = match (aligned, shown) {
            (Some(place), _) => Rows::Own(*image, place),
            (None, Some(shown)) => {
                let width = shown.frame.width();
                let clear = shown.clear.as_deref();
                let clear = clear.map(|clear| Transparency { clear, width, laid });
                Rows::Resampled(Resampler::new(&shown.frame, laid)?, clear)
            }
            (None, None) => return Err(Error::internal("a plate that nobody has looked at")),
        };
        let layout = image.layout();
        Ok(Layer {
            rows,
            format: layout.format,
            transfer: layout.transfer,
            bytes: Vec::new(),
            values: Vec::new(),
            colours: reserve(laid.columns.inside.len())?,
            clear: reserve(laid.columns.inside.len())?,
        })
    }

    /// Reads what row `y` of the target shows in `columns`.
    fn read(&mut self, y: usize, columns: &Range<usize>, format: Format) -> Result<()> {
        self.colours.clear();
        self.clear.clear();
        match &mut self.rows {
            Rows::Own(image, [x0, y0]) => {
                let size = format.bytes_per_pixel();
                self.bytes.clear();
                image.copy_row((y as i64 + *y0) as usize, &mut self.bytes);
                self.bytes.drain(..(columns.start as i64 + *x0) as usize * size);
                self.bytes.truncate(columns.len() * size);
                self.values.clear();
                unpack(format, &self.bytes, &mut self.values);
                for pixel in self.values.chunks_exact(format.channels()) {
                    let colour = self.transfer.decode([pixel[0], pixel[1], pixel[2]]);
                    self.colours.push(colour.map(finite));
                    self.clear.push(pixel.get(3).map_or(0.0, |alpha| 1.0 - alpha));
                }
            }
            Rows::Resampled(resampler, clear) => {
                self.colours.extend_from_slice(resampler.row(y).as_chunks::<3>().0);
                match clear {
                    Some(clear) => clear.row(y, &mut self.clear),
                    None => self.clear.resize(self.colours.len(), 0.0),
                }
            }
        }
        Ok(())
    }
}

/// One value per pixel as a frame that can be resampled.
fn spread(size: [usize; 2], values: &[f32]) -> Result<Frame> {
    let mut rgb = reserve(values.len() * 3)?;
    rgb.extend(values.iter().flat_map(|&v| [v, 0.0, 0.0]));
    Frame::new(size[0], size[1], rgb)
}
