//! In: a caller's picture or mask. Out: a [`Source`] or a [`Mask`], copied.

use super::frame::{LB_FORMAT_RGBA_U8, LB_MEMORY_CUDA, LB_MEMORY_HOST, LB_TRANSFER_SRGB};
use super::frame::{lb_format, lb_memory, lb_transfer};
use super::growing::{Growing, fill, read, unused};
use crate::backend::CudaImage;
use crate::error::{Error, Result};
use crate::frame::{Format, ImageRef, Layout, Mask, MaskChannel, Source, Transfer};
use std::ffi::c_void;

/// One channel of 8 bits. Masks only.
pub const LB_FORMAT_A_U8: lb_format = 0x0101;
/// One channel of 16 bits. Masks only.
pub const LB_FORMAT_A_U16: lb_format = 0x0102;
/// One channel of 16-bit floats. Masks only.
pub const LB_FORMAT_A_F16: lb_format = 0x0112;
/// One channel of 32-bit floats. Masks only.
pub const LB_FORMAT_A_F32: lb_format = 0x0114;

/// Which channel of an image is a mask.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_mask_channel = u32;

/// The first: the only one, or red.
pub const LB_MASK_CHANNEL_FIRST: lb_mask_channel = 0;
/// Alpha.
pub const LB_MASK_CHANNEL_ALPHA: lb_mask_channel = 1;

/// Pixels going in: a picture or a mask, with what its numbers mean. Read during the call that it is given
/// to, and copied where they are needed longer. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_source {
    /// sizeof(lb_source)
    pub struct_size: usize,
    /// The first byte of the TOP row. Need not be aligned.
    pub data: *const c_void,
    /// From a row to the one below it; negative where rows are stored bottom-up.
    pub row_bytes: isize,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// An LB_FORMAT value. Colours are taken as they stand, not divided by alpha.
    pub format: lb_format,
    /// An LB_TRANSFER value; not looked at in masks.
    pub transfer: lb_transfer,
    /// An LB_MEMORY value.
    pub memory: lb_memory,
    /// Must be 0.
    pub flags: u32,
    /// With LB_MEMORY_CUDA: the CUstream on which the pixels are ordered, of the memory's own device. What was queued on
    /// it before is waited for. NULL: the default stream.
    pub cuda_stream: *mut c_void,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_source {
    const NAME: &'static str = "lb_source";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_source {
            struct_size: size_of::<Self>(),
            data: std::ptr::null(),
            row_bytes: 0,
            width: 0,
            height: 0,
            format: LB_FORMAT_RGBA_U8,
            transfer: LB_TRANSFER_SRGB,
            memory: LB_MEMORY_HOST,
            flags: 0,
            cuda_stream: std::ptr::null_mut(),
        }
    }
}

/// A caller's pixels: in its own memory, or a copy of what lies in a device's.
pub(super) enum Pixels<'a> {
    There(ImageRef<'a>),
    Copied(Vec<u8>, Layout),
}

impl Pixels<'_> {
    pub(super) fn image(&self) -> Result<ImageRef<'_>> {
        match self {
            Pixels::There(image) => Ok(*image),
            Pixels::Copied(bytes, layout) => ImageRef::new(bytes, 0, *layout),
        }
    }
}

/// A caller's pixels, checked. What lies in a device's memory is waited for.
///
/// # Safety
/// As the header says of `lb_source`; the pixels stay as they are while the result lives.
unsafe fn pixels<'a>(source: *const lb_source, mask: bool) -> Result<Pixels<'a>> {
    // SAFETY: passed on.
    let raw = unsafe { read(source)? };
    unused("lb_source.flags", raw.flags)?;
    let layout = Layout {
        width: raw.width as usize,
        height: raw.height as usize,
        row_bytes: raw.row_bytes,
        format: if mask { Format::of_mask(raw.format)? } else { Format::try_from(raw.format)? },
        transfer: if mask { Transfer::Srgb } else { Transfer::try_from(raw.transfer)? },
    };
    match raw.memory {
        // SAFETY: passed on.
        LB_MEMORY_HOST => unsafe { ImageRef::from_raw(raw.data.cast(), layout) }.map(Pixels::There),
        LB_MEMORY_CUDA => {
            let (at, stream) = (raw.data.addr() as u64, raw.cuda_stream.addr());
            // SAFETY: passed on.
            let image = unsafe { CudaImage::from_raw(at, layout, stream)? };
            Ok(Pixels::Copied(image.fetch()?, image.staging()))
        }
        other => Err(Error::invalid(format!("memory {other}: wanted an LB_MEMORY value"))),
    }
}

/// A caller's picture, to be looked at during the call.
///
/// # Safety
/// As the header says of `lb_source`; the pixels stay as they are while the result lives.
pub(super) unsafe fn picture<'a>(source: *const lb_source) -> Result<Pixels<'a>> {
    // SAFETY: passed on.
    unsafe { pixels(source, false) }
}

/// The same of a picture or a mask, whatever its numbers stand for.
///
/// # Safety
/// As above.
pub(super) unsafe fn any<'a>(source: *const lb_source) -> Result<Pixels<'a>> {
    // SAFETY: passed on.
    unsafe { pixels(source, true) }
}

/// A copy of a caller's picture.
///
/// # Safety
/// As the header says of `lb_source`.
pub(super) unsafe fn copied(source: *const lb_source) -> Result<Source> {
    // SAFETY: passed on; the pixels are copied before the call returns.
    let pixels = unsafe { pixels(source, false)? };
    Source::new(&pixels.image()?)
}

/// A copy of a caller's mask.
///
/// # Safety
/// As the header says of `lb_source`.
pub(super) unsafe fn mask(source: *const lb_source, channel: lb_mask_channel) -> Result<Mask> {
    let channel = MaskChannel::try_from(channel)?;
    // SAFETY: passed on; the pixels are copied before the call returns.
    let pixels = unsafe { pixels(source, true)? };
    Mask::read(&pixels.image()?, channel)
}

/// Fills `source` with defaults (RGBA, 8 bits, sRGB); `struct_size` is sizeof(lb_source). Any thread, at
/// once. Since 0.1.
///
/// # Safety
/// `source` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_source_init(source: *mut lb_source, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(source, struct_size) };
}
