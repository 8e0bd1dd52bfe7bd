//! In: a caller's pixels. Out: [`Source`], a copy of them, byte for byte: a picture that a session starts
//! from, or repaints a part of.
//!
//! The bytes are kept as they came, so that they can be given back as they came; what they show is worked
//! out when it is needed.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Frame;
use super::colour::Transfer;
use super::image::{Format, ImageMut, ImageRef, Layout, reserve};
use super::placement::{Fit, Placement};
use crate::error::{Error, Result};

/// A copy of a caller's image. Cloning is cheap, and clones share their pixels.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    /// Packed, top row first.
    layout: Layout,
    bytes: Vec<u8>,
    /// What the pixels show, once somebody wanted to know.
    shown: Mutex<Option<Arc<Shown>>>,
}

/// A picture, display-encoded, and what is missing to its being opaque.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Colours as they stand, not divided by alpha; the model's range is 0..=1, HDR goes beyond.
    pub(crate) frame: Frame,
    /// 1 - alpha of each pixel; `None` where all of it is opaque.
    pub(crate) clear: Option<Vec<f32>>,
    /// The highest value of any channel.
    pub(crate) highest: f32,
}

impl Source {
    /// Copies the pixels of `image`, which may change or vanish afterwards.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(image: &ImageRef<'_>) -> Result<Self> {
        let Layout { width, height, format, transfer, .. } = *image.layout();
        let layout = Layout::packed(width, height, format, transfer);
        let bytes = image.packed()?;
        Ok(Source(Arc::new(Inner { layout, bytes, shown: Mutex::default() })))
    }

    /// Pixels from left to right, and from top to bottom.
    pub fn size(&self) -> [usize; 2] {
        [self.0.layout.width, self.0.layout.height]
    }

    /// How the copy's pixels lie, and what they mean.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// The copy's pixels.
    ///
    /// # Errors
    /// None in practice: the copy is as long as its layout says.
    pub fn image(&self) -> Result<ImageRef<'_>> {
        ImageRef::new(&self.0.bytes, 0, self.0.layout)
    }

    /// Which copy it is, and the memory that it takes: a clone's is the same.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let shown = self.0.shown.lock();
        let floats = shown
            .as_ref()
            .map_or(0, |shown| shown.frame.rgb().len() + shown.clear.as_ref().map_or(0, Vec::len));
        (Arc::as_ptr(&self.0) as usize, self.0.bytes.len() + floats * size_of::<f32>())
    }

    /// The copy's pixels with their numbers in little-endian order, on every machine.
    pub(crate) fn to_le_bytes(&self) -> Vec<u8> {
        swapped(self.0.layout.format, self.0.bytes.clone())
    }

    /// The way back, of a picture that was packed.
    ///
    /// # Errors
    /// `InvalidArgument` where the bytes are not as many as the layout says, `OutOfMemory`.
    pub(crate) fn from_le_bytes(layout: Layout, bytes: Vec<u8>) -> Result<Self> {
        let bytes = swapped(layout.format, bytes);
        let source = Source::new(&ImageRef::new(&bytes, 0, layout)?)?;
        match source.0.bytes.len() == bytes.len() {
            true => Ok(source),
            false => Err(Error::invalid(format!("a picture of {} bytes", bytes.len()))),
        }
    }

    /// What the picture shows; worked out once, and kept until [`forget`](Self::forget).
    pub(crate) fn shown(&self) -> Result<Arc<Shown>> {
        let mut known = self.0.shown.lock();
        if let Some(shown) = &*known {
            return Ok(Arc::clone(shown));
        }
        let shown = Arc::new(Shown::of(&self.image()?)?);
        *known = Some(Arc::clone(&shown));
        Ok(shown)
    }

    /// Lets go of what can be worked out again.
    pub(crate) fn forget(&self) {
        *self.0.shown.lock() = None;
    }

    /// The same picture brought to `size` by `fit`: itself where it has that size, else a new one of
    /// 32-bit floats, display-encoded.
    pub(crate) fn brought_to(&self, size: [usize; 2], fit: Fit) -> Result<Source> {
        if self.size() == size {
            return Ok(self.clone());
        }
        let shown = self.shown()?;
        let [width, height] = size;
        let frame = shown.frame.resized(size, fit)?;
        let clear = match &shown.clear {
            None => None,
            Some(clear) => {
                let [w, h] = self.size();
                let clear = clear.iter().flat_map(|&c| [c, 0.0, 0.0]).collect();
                Some(Frame::new(w, h, clear)?.resized(size, fit)?)
            }
        };
        self.forget();
        let layout = Layout::packed(width, height, Format::RgbaF32, Transfer::Srgb);
        let mut bytes = reserve(width.saturating_mul(height).saturating_mul(16))?;
        for (index, colour) in frame.rgb().as_chunks::<3>().0.iter().enumerate() {
            let clear = clear.as_ref().map_or(0.0, |clear| clear.rgb()[index * 3].clamp(0.0, 1.0));
            for value in [colour[0], colour[1], colour[2], 1.0 - clear] {
                bytes.extend_from_slice(&value.to_ne_bytes());
            }
        }
        Ok(Source(Arc::new(Inner { layout, bytes, shown: Mutex::default() })))
    }
}

impl ImageRef<'_> {
    /// Its pixels' bytes, top row first, and nothing between rows.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn packed(&self) -> Result<Vec<u8>> {
        let layout = self.layout();
        let mut bytes = reserve(layout.row_length().saturating_mul(layout.height))?;
        for y in 0..layout.height {
            self.copy_row(y, &mut bytes);
        }
        Ok(bytes)
    }
}

impl ImageMut<'_> {
    /// Writes the bytes of another image's pixels, of the same size and format.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn copy(&mut self, other: &ImageRef<'_>) -> Result<()> {
        let mut row = reserve(other.layout().row_length())?;
        for y in 0..self.layout().height {
            row.clear();
            other.copy_row(y, &mut row);
            self.put_row(y, &row);
        }
        Ok(())
    }
}

/// Numbers between the machine's order and little-endian.
fn swapped(format: Format, mut bytes: Vec<u8>) -> Vec<u8> {
    let number = format.bytes_per_pixel() / format.channels();
    if cfg!(target_endian = "big") && number > 1 {
        bytes.chunks_exact_mut(number).for_each(<[u8]>::reverse);
    }
    bytes
}

impl Shown {
    /// What a caller's pixels show.
    pub(crate) fn of(image: &ImageRef<'_>) -> Result<Self> {
        let Layout { width, height, format, .. } = *image.layout();
        let (frame, clear) = if format.channels() == 4 {
            let pixels = image.read_rgba()?;
            let pixels = pixels.as_chunks::<4>().0;
            let mut rgb = reserve(pixels.len() * 3)?;
            rgb.extend(pixels.iter().flat_map(|p| [p[0], p[1], p[2]]));
            let mut clear = reserve(pixels.len())?;
            clear.extend(pixels.iter().map(|p| 1.0 - p[3]));
            let opaque = clear.iter().all(|&c| c == 0.0);
            (Frame::new(width, height, rgb)?, (!opaque).then_some(clear))
        } else {
            (image.read_rgb()?, None)
        };
        let highest = frame.rgb().iter().copied().fold(f32::MIN, f32::max);
        Ok(Shown { frame, clear, highest })
    }
}

impl Frame {
    /// The frame at another size; all of it where `fit` is `Stretch`.
    pub(crate) fn resized(&self, size: [usize; 2], fit: Fit) -> Result<Frame> {
        let [width, height] = size;
        if [self.width(), self.height()] == size {
            return Ok(self.clone());
        }
        let whole = |side: usize| i32::try_from(side).unwrap_or(i32::MAX);
        let placement = Placement { fit, ..Placement::whole(whole(width), whole(height)) };
        let layout = Layout::packed(width, height, Format::RgbF32, Transfer::Srgb);
        let mut bytes = reserve(layout.row_length().saturating_mul(height))?;
        bytes.resize(layout.row_length() * height, 0);
        self.write(&mut ImageMut::new(&mut bytes, 0, layout)?, Some(&placement))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_ne_bytes(b));
        Frame::new(width, height, values.collect())
    }

    /// The part of the frame within `region` (x1, y1, x2, y2), which lies inside of it.
    pub(crate) fn cropped(&self, region: [usize; 4]) -> Result<Frame> {
        let [x1, y1, x2, y2] = region;
        if region == [0, 0, self.width(), self.height()] {
            return Ok(self.clone());
        }
        let rows = self.rgb().chunks_exact(self.width() * 3).skip(y1).take(y2 - y1);
        let rgb = rows.flat_map(|row| &row[x1 * 3..x2 * 3]).copied().collect();
        Frame::new(x2 - x1, y2 - y1, rgb)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.layout == other.0.layout && self.0.bytes == other.0.bytes
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layout { width, height, format, transfer, .. } = self.0.layout;
        write!(f, "Source({width}x{height} {format:?} {transfer:?})")
    }
}
