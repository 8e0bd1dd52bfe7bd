//! In: t and a caller's image. Out: the frame at t, in the caller's memory.

use super::call::{lb_call, watched};
use super::growing::{Growing, fill, read, unused};
use super::session::session;
use super::source::{Pixels, lb_source, picture};
use super::staged::{Staged, direct, layout, placed, staged};
use super::{entry, lb_error, lb_session, lb_status};
use crate::blend::{Output, Target};
use crate::error::{Error, Result};
use crate::frame::ImageMut;
use std::ffi::c_void;

/// What a pixel is made of: channels << 8 | kind << 4 | bytes per channel; kind 0 is unsigned, 1 float.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_format = u32;

/// RGB, 8 bits.
pub const LB_FORMAT_RGB_U8: lb_format = 0x0301;
/// RGBA, 8 bits; alpha is written as opaque.
pub const LB_FORMAT_RGBA_U8: lb_format = 0x0401;
/// RGB, 16 bits.
pub const LB_FORMAT_RGB_U16: lb_format = 0x0302;
/// RGBA, 16 bits.
pub const LB_FORMAT_RGBA_U16: lb_format = 0x0402;
/// RGB, 16-bit floats.
pub const LB_FORMAT_RGB_F16: lb_format = 0x0312;
/// RGBA, 16-bit floats.
pub const LB_FORMAT_RGBA_F16: lb_format = 0x0412;
/// RGB, 32-bit floats.
pub const LB_FORMAT_RGB_F32: lb_format = 0x0314;
/// RGBA, 32-bit floats.
pub const LB_FORMAT_RGBA_F32: lb_format = 0x0414;

/// What a pixel's numbers stand for.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_transfer = u32;

/// As the decoder gives it, display-encoded.
pub const LB_TRANSFER_SRGB: lb_transfer = 1;
/// Linear light, Rec.709 primaries.
pub const LB_TRANSFER_LINEAR: lb_transfer = 2;
/// Linear light, AP1 primaries.
pub const LB_TRANSFER_ACESCG: lb_transfer = 3;

/// Where an image's memory is.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_memory = u32;

/// In the host's memory.
pub const LB_MEMORY_HOST: lb_memory = 0;
/// On a CUDA device.
pub const LB_MEMORY_CUDA: lb_memory = 1;

/// How a picture of another shape is brought into its bounds.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_fit = u32;

/// Fills the bounds; what juts out is cut off.
pub const LB_FIT_CROP: lb_fit = 0;
/// Fits within the bounds; the rest is black and opaque.
pub const LB_FIT_LETTERBOX: lb_fit = 1;
/// Fills the bounds; shapes change.
pub const LB_FIT_STRETCH: lb_fit = 2;

/// How a picture is resampled.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_filter = u32;

/// Bicubic.
pub const LB_FILTER_BICUBIC: lb_filter = 0;
/// Lanczos.
pub const LB_FILTER_LANCZOS: lb_filter = 1;
/// Bilinear.
pub const LB_FILTER_BILINEAR: lb_filter = 2;
/// The nearest pixel.
pub const LB_FILTER_NEAREST: lb_filter = 3;

/// Where a frame lies in a larger picture plane, whose y axis points down. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_placement {
    /// sizeof(lb_placement)
    pub struct_size: usize,
    /// The whole picture: x1, y1, x2, y2 in pixels, the last two just outside.
    pub bounds: [i32; 4],
    /// The part of it that the image holds, in the same pixels.
    pub window: [i32; 4],
    /// An LB_FIT value.
    pub fit: lb_fit,
    /// An LB_FILTER value.
    pub filter: lb_filter,
    /// Width of a pixel over its height.
    pub pixel_aspect: f64,
}

// SAFETY: repr(C), starts with its size; numbers may have any bits.
unsafe impl Growing for lb_placement {
    const NAME: &'static str = "lb_placement";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_placement {
            struct_size: size_of::<Self>(),
            bounds: [0; 4],
            window: [0; 4],
            fit: LB_FIT_CROP,
            filter: LB_FILTER_BICUBIC,
            pixel_aspect: 1.0,
        }
    }
}

/// In lb_image.flags: the pixels are there when the call returns, also those in a device's memory, for a host that gave
/// no stream to order them on.
pub const LB_IMAGE_COMPLETE: u32 = 1;

/// A caller's pixels, to be filled. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_image {
    /// sizeof(lb_image)
    pub struct_size: usize,
    /// The first byte of the TOP row. Need not be aligned.
    pub data: *mut c_void,
    /// From a row to the one below it; negative where rows are stored bottom-up.
    pub row_bytes: isize,
    /// Pixels: lb_session_info.width, unless there is a placement.
    pub width: u32,
    /// Pixels: lb_session_info.height, unless there is a placement.
    pub height: u32,
    /// Where the frame lies; NULL: the image is the frame.
    pub placement: *const lb_placement,
    /// An LB_FORMAT value.
    pub format: lb_format,
    /// An LB_TRANSFER value.
    pub transfer: lb_transfer,
    /// An LB_MEMORY value.
    pub memory: lb_memory,
    /// 0, or LB_IMAGE_COMPLETE.
    pub flags: u32,
    /// With LB_MEMORY_CUDA: the CUstream on which the pixels are ordered, of the memory's own device. What was queued on
    /// it before is done first, what is queued later finds the frame; nothing is waited for, unless LB_IMAGE_COMPLETE
    /// is set. NULL: the default stream.
    pub cuda_stream: *mut c_void,
    /// In an inpainting session: the picture that the patch is laid over, of the source's size, which is
    /// read during the call. The patch stays that of the source, so it holds still while the plate moves.
    /// NULL: the source.
    pub plate: *const lb_source,
    /// An LB_OUTPUT value.
    pub output: lb_output,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_image {
    const NAME: &'static str = "lb_image";
    const FIRST: usize = std::mem::offset_of!(lb_image, plate);

    fn defaults() -> Self {
        lb_image {
            struct_size: size_of::<Self>(),
            data: std::ptr::null_mut(),
            row_bytes: 0,
            width: 0,
            height: 0,
            placement: std::ptr::null(),
            format: LB_FORMAT_RGBA_U8,
            transfer: LB_TRANSFER_SRGB,
            memory: LB_MEMORY_HOST,
            flags: 0,
            cuda_stream: std::ptr::null_mut(),
            plate: std::ptr::null(),
            output: LB_OUTPUT_PICTURE,
            reserved: 0,
        }
    }
}

/// What of a frame is written.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_output = u32;

/// The picture; in an inpainting session the source with its patch.
pub const LB_OUTPUT_PICTURE: lb_output = 0;
/// The patch of an inpainting session alone, multiplied by its feathered matte, which is its alpha. RGBA
/// formats only.
pub const LB_OUTPUT_PATCH: lb_output = 1;

/// The picture that the patch is laid over, if the image names one.
///
/// # Safety
/// As the header says of `lb_image`; the pixels stay as they are while the result lives.
unsafe fn plate<'a>(image: *const lb_image) -> Result<Option<Pixels<'a>>> {
    // SAFETY: passed on.
    let raw = unsafe { read(image)? };
    if raw.plate.is_null() {
        return Ok(None);
    }
    let named = |e: Error| Error::new(e.kind(), format!("lb_image.plate: {}", e.message()));
    // SAFETY: passed on.
    unsafe { picture(raw.plate) }.map_err(named).map(Some)
}

/// # Safety
/// As the header says of `lb_image`.
unsafe fn target<'a>(
    image: *const lb_image,
    staged: Option<&'a mut Staged>,
    plate: Option<&'a Pixels<'a>>,
) -> Result<Target<'a>> {
    // SAFETY: passed on.
    let raw = unsafe { read(image)? };
    unused("lb_image.reserved", raw.reserved)?;
    // SAFETY: passed on.
    let placement = unsafe { placed(&raw)? };
    let image = match staged {
        Some(staged) => staged.target()?,
        // SAFETY: passed on.
        None => unsafe { ImageMut::from_raw(raw.data.cast(), layout(&raw, false)?)? },
    };
    let plate = plate.map(Pixels::image).transpose()?;
    let output = match raw.output {
        LB_OUTPUT_PICTURE => Output::Picture,
        LB_OUTPUT_PATCH => Output::Patch,
        other => {
            return Err(Error::invalid(format!("output {other}: wanted an LB_OUTPUT value")));
        }
    };
    Ok(Target { image, placement, plate, output })
}

/// Fills `placement` with defaults; `struct_size` is sizeof(lb_placement). Any thread, at once.
/// Since 0.1.
///
/// # Safety
/// `placement` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_placement_init(placement: *mut lb_placement, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(placement, struct_size) };
}

/// Fills `image` with defaults (RGBA, 8 bits, sRGB); `struct_size` is sizeof(lb_image). Any thread, at
/// once. Since 0.1.
///
/// # Safety
/// `image` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_image_init(image: *mut lb_image, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(image, struct_size) };
}

/// Writes the frame at `t` into `image`. A pure function of session and t: the same bytes, whatever was
/// asked before, from any thread. May take seconds to minutes: the tree's last block of steps and a decode
/// when the session is prepared, more when not; reports and can be cancelled, within one evaluation of the
/// UNet or one decode. On failure no pixel is written, unless a CUDA device fails while it writes into its own
/// memory. The image stays the caller's. Any thread; overtakes a
/// running lb_session_prepare at its next evaluation. Since 0.1.
///
/// # Safety
/// `image` is NULL or as its declaration says, its rows writable and used by nobody else during the call;
/// `call` is NULL or as its declaration says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_render(
    session: *mut lb_session,
    t: f64,
    image: *const lb_image,
    call: *const lb_call,
    error: *mut *mut lb_error,
) -> lb_status {
    // SAFETY: passed on.
    unsafe { lb_session_render_many(session, &t, &image, 1, call, error) }
}

/// Writes the frames at `count` places into as many images: the same bytes as one by one, only sooner. On
/// failure no pixel of any is written, unless a CUDA device fails while it writes into its own memory.
/// Otherwise as lb_session_render: may take long, reports and can be cancelled. Any thread. Since 0.1.
///
/// # Safety
/// `t` and `images` are NULL or point to `count` elements; the rest as lb_session_render says. No two
/// images share memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_render_many(
    session: *mut lb_session,
    t: *const f64,
    images: *const *const lb_image,
    count: usize,
    call: *const lb_call,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        const MOST: usize = 1 << 16;
        if count > MOST {
            return Err(Error::invalid(format!("{count} frames: wanted up to {MOST}")));
        }
        if count > 0 && (t.is_null() || images.is_null()) {
            let name = if t.is_null() { "t" } else { "images" };
            return Err(Error::invalid(format!("{name} is NULL, with a count of {count}")));
        }
        let mut times = Vec::with_capacity(count);
        let mut all = Vec::with_capacity(count);
        let mut stages = Vec::with_capacity(count);
        for index in 0..count {
            // SAFETY: neither is NULL, and both have `count` elements by the caller's word.
            let (t, image) =
                unsafe { (t.add(index).read_unaligned(), images.add(index).read_unaligned()) };
            times.push(t);
            all.push(image);
            // SAFETY: passed on.
            stages.push(unsafe { staged(&read(image)?, false)? });
        }
        // SAFETY: passed on.
        if let Some(images) = unsafe { direct(&all, &stages)? } {
            log::debug!("lb_session_render({times:?}), on the device");
            // SAFETY: passed on.
            let call = unsafe { watched(call)? };
            if session.render_onto(&times, &images, &call)? {
                return stages.iter().flatten().try_for_each(Staged::complete);
            }
        }
        let mut plates = Vec::with_capacity(count);
        for &image in &all {
            // SAFETY: passed on.
            plates.push(unsafe { plate(image)? });
        }
        stages.iter_mut().flatten().try_for_each(Staged::make_room)?;
        let mut targets = Vec::with_capacity(count);
        for ((&image, staged), plate) in all.iter().zip(&mut stages).zip(&plates) {
            // SAFETY: passed on.
            targets.push(unsafe { target(image, staged.as_mut(), plate.as_ref())? });
        }
        log::debug!("lb_session_render({times:?})");
        // SAFETY: passed on.
        let call = unsafe { watched(call)? };
        session.render_into(&times, &mut targets, &call)?;
        drop(targets);
        stages.iter_mut().flatten().try_for_each(Staged::fill)?;
        stages.iter().flatten().try_for_each(Staged::complete)
    })
}
