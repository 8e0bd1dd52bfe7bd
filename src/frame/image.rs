//! In: a caller's memory and how its pixels lie there. Out: [`ImageMut`] and [`ImageRef`], rows of bytes
//! in it, and what a source image shows: [`ImageRef::read_rgb`], [`ImageRef::read_rgba`].
//!
//! The one place that reaches into a caller's memory: everything is checked when an image is made, and
//! rows are copied in and out, so that neither alignment nor what was there before matters. Knows nothing
//! of sessions or of where a picture is placed.
#![allow(unsafe_code, reason = "a caller's pixels are reached through its pointer")]

use std::marker::PhantomData;

use half::f16;

use super::Frame;
use super::colour::{Transfer, finite};
use crate::error::{Error, ErrorKind, Result};

/// The longest side of an image, in pixels. Rows of any format then fit a 32-bit size, and a size that
/// was never meant (a negative one, read as unsigned) is refused.
pub(super) const LONGEST_SIDE: usize = 1 << 17;

/// How a pixel is stored, in the machine's byte order: channels interleaved, red first.
///
/// The numbers are those of the C API: `channels << 8 | kind << 4 | bytes`, kind 1 being floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Format {
    /// Red, green, blue, 8 bits each: 0..=255 stands for 0..=1.
    RgbU8 = 0x0301,
    /// Red, green, blue, alpha, 8 bits each.
    RgbaU8 = 0x0401,
    /// Red, green, blue, 16 bits each: 0..=65535 stands for 0..=1.
    RgbU16 = 0x0302,
    /// Red, green, blue, alpha, 16 bits each.
    RgbaU16 = 0x0402,
    /// Red, green, blue, IEEE 754 binary16 each.
    RgbF16 = 0x0312,
    /// Red, green, blue, alpha, IEEE 754 binary16 each.
    RgbaF16 = 0x0412,
    /// Red, green, blue, IEEE 754 binary32 each.
    RgbF32 = 0x0314,
    /// Red, green, blue, alpha, IEEE 754 binary32 each.
    RgbaF32 = 0x0414,
    /// One channel of 8 bits: masks only.
    AU8 = 0x0101,
    /// One channel of 16 bits: masks only.
    AU16 = 0x0102,
    /// One channel of IEEE 754 binary16: masks only.
    AF16 = 0x0112,
    /// One channel of IEEE 754 binary32: masks only.
    AF32 = 0x0114,
}

impl Format {
    /// Every format of pictures.
    pub const ALL: [Format; 8] = [
        Format::RgbU8,
        Format::RgbaU8,
        Format::RgbU16,
        Format::RgbaU16,
        Format::RgbF16,
        Format::RgbaF16,
        Format::RgbF32,
        Format::RgbaF32,
    ];

    /// The format of a number of the C API, those of masks among them.
    ///
    /// # Errors
    /// `InvalidArgument` for a number that is none.
    pub fn of_mask(number: u32) -> Result<Self> {
        let mask = Format::MASKS.into_iter().find(|&f| f as u32 == number);
        mask.map_or_else(|| Format::try_from(number), Ok)
    }

    /// 3, or 4 with alpha; 1 of masks.
    pub fn channels(self) -> usize {
        (self as usize) >> 8
    }

    /// Bytes of one pixel: 1 to 16.
    pub fn bytes_per_pixel(self) -> usize {
        self.channels() * (self as usize & 0xf)
    }

    /// Whether values are floating point, which is kept as it is, and not codes of 0..=1.
    pub fn is_float(self) -> bool {
        self as u32 & 0x10 != 0
    }
}

impl TryFrom<u32> for Format {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Format::ALL.into_iter().find(|&f| f as u32 == number).ok_or_else(|| {
            Error::invalid(format!(
                "pixel format {number:#06x} is not known; wanted 0x03 (RGB) or 0x04 (RGBA), then 01 (u8), \
                 02 (u16), 12 (f16) or 14 (f32)"
            ))
        })
    }
}

/// How pixels lie in memory, and what their numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Pixels from left to right, 1..=131072.
    pub width: usize,
    /// Pixels from top to bottom, 1..=131072.
    pub height: usize,
    /// Bytes from a pixel to the one below it: at least `width` pixels of them, negative where the image
    /// is stored bottom-up.
    pub row_bytes: isize,
    /// How a pixel is stored.
    pub format: Format,
    /// What the numbers mean.
    pub transfer: Transfer,
}

impl Layout {
    /// Rows one after the other, top row first, without padding.
    pub fn packed(width: usize, height: usize, format: Format, transfer: Transfer) -> Self {
        // A width that overflows is refused with its name where an image is made.
        let row_bytes = width.saturating_mul(format.bytes_per_pixel());
        let row_bytes = isize::try_from(row_bytes).unwrap_or(isize::MAX);
        Layout { width, height, row_bytes, format, transfer }
    }

    /// The same image stored bottom row first.
    pub fn bottom_up(self) -> Self {
        Layout { row_bytes: self.row_bytes.saturating_neg(), ..self }
    }

    /// Bytes of the pixels of one row.
    pub(crate) fn row_length(&self) -> usize {
        self.width * self.format.bytes_per_pixel()
    }

    /// The bytes that the image takes before the first byte of its top row, and from it on.
    pub(crate) fn extent(&self) -> Result<(usize, usize)> {
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if side == 0 || side > LONGEST_SIDE {
                return Err(Error::invalid(format!(
                    "image {name} {side} is not within 1..={LONGEST_SIDE}"
                )));
            }
        }
        let row = self.row_length();
        if self.row_bytes.unsigned_abs() < row {
            return Err(Error::invalid(format!(
                "row_bytes {} is less than the {row} bytes of {} pixels of {:?}",
                self.row_bytes, self.width, self.format
            )));
        }
        let others = (self.height - 1).checked_mul(self.row_bytes.unsigned_abs());
        let others =
            others.filter(|o| o.checked_add(row).is_some_and(|a| a <= isize::MAX as usize));
        let Some(others) = others else {
            return Err(Error::invalid(format!(
                "{} rows of {} bytes are beyond any memory",
                self.height, self.row_bytes
            )));
        };
        Ok(if self.row_bytes < 0 { (others, row) } else { (0, others + row) })
    }

    /// Checks that the image lies within `bytes` bytes when its top row starts at `top`.
    fn fits(&self, bytes: usize, top: usize) -> Result<()> {
        let (before, after) = self.extent()?;
        if top < before || bytes.checked_sub(top).is_none_or(|rest| rest < after) {
            return Err(Error::invalid(format!(
                "an image of {}x{} {:?} with row_bytes {} takes {before} bytes before its top row and \
                 {after} from it on, but its top row is at {top} of {bytes} bytes",
                self.width, self.height, self.format, self.row_bytes
            )));
        }
        Ok(())
    }

    /// Checks that the image is at an address, without wrapping around.
    fn at(&self, address: usize) -> Result<()> {
        let (before, after) = self.extent()?;
        if address == 0 {
            return Err(Error::invalid("image data is NULL; wanted the first byte of the top row"));
        }
        if address <= before || address.checked_add(after).is_none() {
            return Err(Error::invalid(format!(
                "an image of {}x{} {:?} with row_bytes {} at {address:#x} lies outside of memory",
                self.width, self.height, self.format, self.row_bytes
            )));
        }
        Ok(())
    }

    /// Bytes from the top row to row `y`; no overflow, since `extent` was checked.
    fn offset(&self, y: usize) -> isize {
        y as isize * self.row_bytes
    }
}

/// A caller's pixels, to be written: see [`Frame::write`].
#[derive(Debug)]
pub struct ImageMut<'a> {
    /// The first byte of the top row.
    top: *mut u8,
    layout: Layout,
    memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: it is a `&mut [u8]`, some bytes of which it reaches.
unsafe impl Send for ImageMut<'_> {}

impl<'a> ImageMut<'a> {
    /// The image in `bytes` whose top row starts at byte `top`: 0, or that of the last row in memory where
    /// it is stored bottom-up.
    ///
    /// # Errors
    /// `InvalidArgument` where the image isn't wholly in `bytes`.
    pub fn new(bytes: &'a mut [u8], top: usize, layout: Layout) -> Result<Self> {
        layout.fits(bytes.len(), top)?;
        Ok(ImageMut { top: bytes.as_mut_ptr().wrapping_add(top), layout, memory: PhantomData })
    }

    /// The image whose top row starts at `top`. `top` needs no alignment, and the memory may be
    /// uninitialized.
    ///
    /// # Errors
    /// `InvalidArgument` where `top` is null or `layout` cannot be.
    ///
    /// # Safety
    /// The pixels that `layout` describes (of each of its rows, those of its width; not the padding
    /// between rows) lie in one allocation, may be written, and are reached through nothing else for
    /// as long as the image lives.
    // SAFETY: unsafe for the caller only; nothing is dereferenced here.
    pub unsafe fn from_raw(top: *mut u8, layout: Layout) -> Result<Self> {
        layout.at(top.addr())?;
        Ok(ImageMut { top, layout, memory: PhantomData })
    }

    /// How the pixels lie, and what they mean.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the pixels of row `y`, counted from the top; bytes between rows stay as they are.
    pub(super) fn put_row(&mut self, y: usize, row: &[u8]) {
        assert!(y < self.layout.height && row.len() == self.layout.row_length());
        // SAFETY: the row is one of the image's, whose bytes lie in the caller's memory (checked in `new`,
        // promised to `from_raw`) and are exclusive, so `row` isn't among them.
        unsafe {
            let to = self.top.offset(self.layout.offset(y));
            to.copy_from_nonoverlapping(row.as_ptr(), row.len());
        }
    }
}

/// A caller's pixels, to be read: a source image or a mask.
#[derive(Clone, Copy, Debug)]
pub struct ImageRef<'a> {
    /// The first byte of the top row.
    top: *const u8,
    layout: Layout,
    memory: PhantomData<&'a [u8]>,
}

// SAFETY: it is a `&[u8]`, some bytes of which it reaches.
unsafe impl Send for ImageRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for ImageRef<'_> {}

impl<'a> ImageRef<'a> {
    /// The image in `bytes` whose top row starts at byte `top`: 0, or that of the last row in memory where
    /// it is stored bottom-up.
    ///
    /// # Errors
    /// `InvalidArgument` where the image isn't wholly in `bytes`.
    pub fn new(bytes: &'a [u8], top: usize, layout: Layout) -> Result<Self> {
        layout.fits(bytes.len(), top)?;
        Ok(ImageRef { top: bytes.as_ptr().wrapping_add(top), layout, memory: PhantomData })
    }

    /// The image whose top row starts at `top`, which needs no alignment.
    ///
    /// # Errors
    /// `InvalidArgument` where `top` is null or `layout` cannot be.
    ///
    /// # Safety
    /// The pixels that `layout` describes lie in one allocation, are initialized, and aren't written for
    /// as long as the image lives.
    // SAFETY: unsafe for the caller only; nothing is dereferenced here.
    pub unsafe fn from_raw(top: *const u8, layout: Layout) -> Result<Self> {
        layout.at(top.addr())?;
        Ok(ImageRef { top, layout, memory: PhantomData })
    }

    /// How the pixels lie, and what they mean.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the image shows, display-encoded, whatever its format and transfer; alpha is left out and
    /// colours are taken as they stand, not divided by it. NaN is 0.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn read_rgb(&self) -> Result<Frame> {
        Frame::new(self.layout.width, self.layout.height, self.read(3)?)
    }

    /// As [`read_rgb`](Self::read_rgb), as red, green, blue, alpha, red, ..., top row first; alpha is as
    /// stored (never display-encoded), 1 where the format has none.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn read_rgba(&self) -> Result<Vec<f32>> {
        self.read(4)
    }

    /// All pixels, in `channels` (3 or 4) values each.
    fn read(&self, channels: usize) -> Result<Vec<f32>> {
        let Layout { width, height, format, transfer, .. } = self.layout;
        let mut pixels = reserve(width.saturating_mul(height).saturating_mul(channels))?;
        self.each_row(&mut |row| {
            for pixel in row.chunks_exact(format.channels()) {
                let last = format.channels().min(3) - 1;
                let colour = transfer.decode([pixel[0], pixel[last.min(1)], pixel[last]]);
                pixels.extend(colour.map(finite));
                if channels == 4 {
                    pixels.push(pixel.get(3).copied().unwrap_or(1.0));
                }
            }
        })?;
        Ok(pixels)
    }

    /// Hands the numbers of each row to `take`, from top to bottom: codes of 0..=1 as fractions, floats as
    /// they stand, NaN as 0.
    pub(super) fn each_row(&self, take: &mut dyn FnMut(&[f32])) -> Result<()> {
        let mut bytes = reserve(self.layout.row_length())?;
        let mut row = reserve(self.layout.width * self.layout.format.channels())?;
        for y in 0..self.layout.height {
            bytes.clear();
            self.copy_row(y, &mut bytes);
            row.clear();
            unpack(self.layout.format, &bytes, &mut row);
            take(&row);
        }
        Ok(())
    }

    /// Appends the bytes of row `y`, counted from the top.
    pub(super) fn copy_row(&self, y: usize, to: &mut Vec<u8>) {
        assert!(y < self.layout.height);
        // SAFETY: the row is one of the image's, whose bytes lie in the caller's memory (checked in `new`,
        // promised to `from_raw`) and aren't written meanwhile.
        let row = unsafe {
            std::slice::from_raw_parts(
                self.top.offset(self.layout.offset(y)),
                self.layout.row_length(),
            )
        };
        to.extend_from_slice(row);
    }
}

/// Appends the numbers that `bytes` hold: codes of 0..=1 as fractions, floats as they stand, NaN as 0.
pub(super) fn unpack(format: Format, bytes: &[u8], row: &mut Vec<f32>) {
    match format {
        Format::RgbU8 | Format::RgbaU8 | Format::AU8 => {
            row.extend(bytes.iter().map(|&v| f32::from(v) / 255.0));
        }
        Format::RgbU16 | Format::RgbaU16 | Format::AU16 => {
            row.extend(values(bytes).map(|v| f32::from(u16::from_ne_bytes(v)) / 65535.0));
        }
        Format::RgbF16 | Format::RgbaF16 | Format::AF16 => {
            row.extend(values(bytes).map(|v| finite(f16::from_ne_bytes(v).to_f32())));
        }
        Format::RgbF32 | Format::RgbaF32 | Format::AF32 => {
            row.extend(values(bytes).map(|v| finite(f32::from_ne_bytes(v))));
        }
    }
}

/// The values of `B` bytes each in `bytes`.
fn values<const B: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; B]> {
    bytes.as_chunks::<B>().0.iter().copied()
}

/// Room for `count` values, or `OutOfMemory`.
pub(super) fn reserve<T>(count: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count).map_err(|_| {
        let bytes = count.saturating_mul(size_of::<T>());
        Error::new(ErrorKind::OutOfMemory, format!("no memory for {bytes} bytes of pixels"))
    })?;
    Ok(room)
}
