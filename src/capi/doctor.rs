//! In: perhaps the path of a model, and room for a text. Out: a report on this library and machine.

use super::{entry, lb_error, lb_status, text};
use crate::doctor::{ABI_VERSION, doctor};
use crate::error::Error;
use std::ffi::c_char;
use std::path::Path;

// The report is made where this module isn't known.
const _: () = assert!(ABI_VERSION == super::LB_ABI_VERSION);

/// Writes a report for whoever has to say why something does not work here: one JSON object in UTF-8, with
/// the version, its features and ABI, the processor, memory, devices and why one cannot be used, every place
/// where a model was sought (`path` first; NULL: none is given), and a small frame of the embedded model with
/// its hash and the expected one. A part that cannot be had says why, as its `error`.
///
/// At most `capacity` bytes are written to `text`, a NUL at their end; `length`, which may be NULL, is set to
/// the length of the whole report without that NUL. So the report was cut off where `length` is `capacity`
/// or more. It is another one each time, of some 4 kB and a little more for each model: give it 64 kB. With a
/// `capacity` of 0 `text` may be NULL. Any thread; a second or two, and it waits for a turn of the device.
/// Since 0.1.
///
/// # Safety
/// `path` is NULL or NUL-ended UTF-8; `text` points to `capacity` writable bytes; `length` and `error` are
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_doctor(
    path: *const c_char,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let path = unsafe { self::text(path, "path")? };
        if text.is_null() && capacity > 0 {
            return Err(Error::invalid(format!("text is NULL, with a capacity of {capacity}")));
        }
        let report = doctor(path.map(Path::new));
        if capacity > 0 {
            let mut end = report.len().min(capacity - 1);
            // Never within a character.
            while !report.is_char_boundary(end) {
                end -= 1;
            }
            // SAFETY: not NULL, with room for `capacity` bytes by the caller's word, of which `end` and one
            // more are written.
            unsafe {
                std::ptr::copy_nonoverlapping(report.as_ptr(), text.cast::<u8>(), end);
                text.add(end).write(0);
            }
        }
        if !length.is_null() {
            // SAFETY: not NULL, and writable by the caller's word. It need not be aligned.
            unsafe { length.write_unaligned(report.len()) };
        }
        Ok(())
    })
}
