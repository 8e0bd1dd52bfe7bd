//! In: a caller's image, in its own memory or a device's. Out: how a frame gets there: written by the device itself, or by
//! way of bytes of the host's.

use super::frame::{
    LB_IMAGE_COMPLETE, LB_MEMORY_CUDA, LB_MEMORY_HOST, LB_OUTPUT_PICTURE, lb_image,
};
use super::growing::read;
use crate::backend::CudaImage;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Format, ImageMut, Layout, Placement, Transfer};

/// What is written for a caller whose pixels lie in a device's memory, before it is copied there.
pub(super) struct Staged {
    image: CudaImage,
    bytes: Vec<u8>,
    complete: bool,
}

impl Staged {
    /// For a frame that comes through the host.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let Layout { row_bytes, height, .. } = self.image.staging();
        let length = row_bytes.unsigned_abs() * height;
        self.bytes.try_reserve_exact(length).map_err(|_| {
            Error::new(ErrorKind::OutOfMemory, format!("{length} bytes for a picture"))
        })?;
        self.bytes.resize(length, 0);
        Ok(())
    }

    /// Where the frame is written to.
    pub(super) fn target(&mut self) -> Result<ImageMut<'_>> {
        ImageMut::new(&mut self.bytes, 0, self.image.staging())
    }

    /// Queues the copy of what was written.
    pub(super) fn fill(&mut self) -> Result<()> {
        self.image.fill(&mut self.bytes)
    }

    /// The same of pixels that lie packed.
    pub(super) fn fill_with(&self, bytes: &mut [u8]) -> Result<()> {
        self.image.fill(bytes)
    }

    /// Waits for the pixels, where the caller wants to find them there.
    pub(super) fn complete(&self) -> Result<()> {
        if self.complete { self.image.wait() } else { Ok(()) }
    }
}

/// How an image's pixels lie; masks' formats are known where `any`.
pub(super) fn layout(raw: &lb_image, any: bool) -> Result<Layout> {
    Ok(Layout {
        width: raw.width as usize,
        height: raw.height as usize,
        row_bytes: raw.row_bytes,
        format: if any { Format::of_mask(raw.format)? } else { Format::try_from(raw.format)? },
        transfer: if any { Transfer::Srgb } else { Transfer::try_from(raw.transfer)? },
    })
}

/// An image with LB_MEMORY_CUDA; `None` for one of the host's own.
///
/// # Safety
/// As the header says of `lb_image`.
pub(super) unsafe fn staged(raw: &lb_image, any: bool) -> Result<Option<Staged>> {
    if raw.flags & !LB_IMAGE_COMPLETE != 0 {
        let what = format!("lb_image.flags {:#x}: wanted 0 or LB_IMAGE_COMPLETE", raw.flags);
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    match raw.memory {
        LB_MEMORY_HOST => Ok(None),
        LB_MEMORY_CUDA => {
            let (at, stream) = (raw.data.addr() as u64, raw.cuda_stream.addr());
            // SAFETY: passed on.
            let image = unsafe { CudaImage::from_raw(at, layout(raw, any)?, stream)? };
            let complete = raw.flags & LB_IMAGE_COMPLETE != 0;
            Ok(Some(Staged { image, bytes: Vec::new(), complete }))
        }
        other => Err(Error::invalid(format!("memory {other}: wanted an LB_MEMORY value"))),
    }
}

/// An image of a device's, and where the frame lies in it.
type Lain<'a> = (&'a CudaImage, Option<Placement>);

/// Images that a device may be able to write by itself, and where the frame lies in each; `None` where one is none.
///
/// # Safety
/// As the header says of `lb_image`.
pub(super) unsafe fn direct<'a>(
    images: &[*const lb_image],
    stages: &'a [Option<Staged>],
) -> Result<Option<Vec<Lain<'a>>>> {
    if images.is_empty() {
        return Ok(None);
    }
    let mut found = Vec::with_capacity(images.len());
    for (&image, staged) in images.iter().zip(stages) {
        // SAFETY: passed on.
        let raw = unsafe { read(image)? };
        let Some(staged) = staged.as_ref() else { return Ok(None) };
        let plain = raw.plate.is_null() && raw.output == LB_OUTPUT_PICTURE;
        if !plain || raw.reserved != 0 {
            return Ok(None);
        }
        // SAFETY: passed on.
        found.push((&staged.image, unsafe { placed(&raw)? }));
    }
    Ok(Some(found))
}

/// Where the frame lies in an image.
///
/// # Safety
/// As the header says of `lb_image`.
pub(super) unsafe fn placed(raw: &lb_image) -> Result<Option<Placement>> {
    if raw.placement.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on.
    let placement = unsafe { read(raw.placement)? };
    Ok(Some(Placement {
        bounds: placement.bounds,
        window: placement.window,
        fit: placement.fit.try_into()?,
        filter: placement.filter.try_into()?,
        pixel_aspect: placement.pixel_aspect,
    }))
}
