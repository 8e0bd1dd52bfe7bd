//! In: pixels of a caller's. Out: the same pixels in another memory of the caller's, a device's or the host's.

use super::frame::{LB_OUTPUT_PICTURE, lb_image};
use super::growing::{read, unused};
use super::source::{any, lb_source};
use super::staged::{layout, staged};
use super::{entry, lb_error, lb_status};
use crate::error::Error;
use crate::frame::ImageMut;

/// Copies the pixels of `from` to `to`, which are of one size and one format (those of masks among them); of each the
/// memory is the host's or a device's. Nothing is converted, and transfers are not looked at. What lies in a device's
/// memory is read after all that was queued on its stream, and waited for; it is written in order on its stream. Any
/// thread; as long as a copy takes. Since 0.1.
///
/// # Safety
/// `from` and `to` are NULL or as their declarations say, the rows of `to` writable and no part of those of `from`;
/// `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_copy(
    from: *const lb_source,
    to: *const lb_image,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let (raw, pixels) = unsafe { (read(to)?, any(from)?) };
        let plain =
            raw.plate.is_null() && raw.placement.is_null() && raw.output == LB_OUTPUT_PICTURE;
        if !plain {
            let what = "a copy with a placement, a plate or an output: wanted NULL, NULL and LB_OUTPUT_PICTURE";
            return Err(Error::invalid(what));
        }
        unused("lb_image.reserved", raw.reserved)?;
        let (image, target) = (pixels.image()?, layout(&raw, true)?);
        let source = image.layout();
        let shape = |l: &crate::frame::Layout| (l.width, l.height, l.format);
        if shape(source) != shape(&target) {
            let (a, b) = (shape(source), shape(&target));
            return Err(Error::invalid(format!(
                "a copy of {a:?} to {b:?}: wanted the same of both"
            )));
        }
        // SAFETY: passed on.
        match unsafe { staged(&raw, true)? } {
            Some(staged) => {
                let mut bytes = image.packed()?;
                staged.fill_with(&mut bytes)?;
                staged.complete()
            }
            None => {
                // SAFETY: passed on.
                let mut to = unsafe { ImageMut::from_raw(raw.data.cast(), target)? };
                to.copy(&image)
            }
        }
    })
}
