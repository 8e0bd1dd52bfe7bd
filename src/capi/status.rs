//! In: an [`Error`]. Out: its status for the program, and an `lb_error` for the person.

use super::handle::{Kind, Registry};
use super::lb_error;
use crate::error::{Error, ErrorKind};
use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;

/// What a call came to. Zero is success; numbers are never reused.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_status = i32;

/// The call did what it says.
pub const LB_OK: lb_status = 0;
/// An argument is NULL, NaN, out of range, not UTF-8, a stale handle, or a struct of an unknown size.
pub const LB_ERROR_INVALID_ARGUMENT: lb_status = 1;
/// A file or folder that the call named is not there.
pub const LB_ERROR_NOT_FOUND: lb_status = 2;
/// A model was found, but it is damaged or not of the Stable Diffusion 2 family.
pub const LB_ERROR_BAD_MODEL: lb_status = 3;
/// The host or the device has too little memory.
pub const LB_ERROR_OUT_OF_MEMORY: lb_status = 4;
/// A driver or a kernel failed. The session stays valid.
pub const LB_ERROR_DEVICE: lb_status = 5;
/// This build or this device cannot do it, or a struct carries fields that this version does not know.
pub const LB_ERROR_UNSUPPORTED: lb_status = 6;
/// The call was cancelled, by its token or by its progress callback.
pub const LB_ERROR_CANCELLED: lb_status = 7;
/// Reading or writing failed.
pub const LB_ERROR_IO: lb_status = 8;
/// A fault of this library.
pub const LB_ERROR_INTERNAL: lb_status = 99;

/// What an `lb_error` holds.
pub(super) struct Report {
    status: lb_status,
    message: CString,
}

static ERRORS: Registry<Report> = Registry::new(Kind::Error);

fn status_of(error: &Error) -> lb_status {
    match error.kind() {
        ErrorKind::InvalidArgument => LB_ERROR_INVALID_ARGUMENT,
        ErrorKind::NotFound => LB_ERROR_NOT_FOUND,
        ErrorKind::BadModel => LB_ERROR_BAD_MODEL,
        ErrorKind::OutOfMemory => LB_ERROR_OUT_OF_MEMORY,
        ErrorKind::Device => LB_ERROR_DEVICE,
        ErrorKind::Unsupported => LB_ERROR_UNSUPPORTED,
        ErrorKind::Cancelled => LB_ERROR_CANCELLED,
        ErrorKind::Io => LB_ERROR_IO,
        ErrorKind::Internal => LB_ERROR_INTERNAL,
    }
}

/// The status of `error`, and a new `lb_error` that carries its message.
pub(super) fn report(error: &Error) -> (lb_status, *mut lb_error) {
    let status = status_of(error);
    // A message may quote a caller's text, which may hold a NUL.
    let message = error.message().replace('\0', "\\0");
    let message = CString::new(message).unwrap_or_default();
    (status, ERRORS.insert(Report { status, message }).cast())
}

/// The name of a status, such as "LB_ERROR_BAD_MODEL"; "LB_ERROR_UNKNOWN" for a number that is none.
/// The string is static. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_status_name(status: lb_status) -> *const c_char {
    let name: &CStr = match status {
        LB_OK => c"LB_OK",
        LB_ERROR_INVALID_ARGUMENT => c"LB_ERROR_INVALID_ARGUMENT",
        LB_ERROR_NOT_FOUND => c"LB_ERROR_NOT_FOUND",
        LB_ERROR_BAD_MODEL => c"LB_ERROR_BAD_MODEL",
        LB_ERROR_OUT_OF_MEMORY => c"LB_ERROR_OUT_OF_MEMORY",
        LB_ERROR_DEVICE => c"LB_ERROR_DEVICE",
        LB_ERROR_UNSUPPORTED => c"LB_ERROR_UNSUPPORTED",
        LB_ERROR_CANCELLED => c"LB_ERROR_CANCELLED",
        LB_ERROR_IO => c"LB_ERROR_IO",
        LB_ERROR_INTERNAL => c"LB_ERROR_INTERNAL",
        _ => c"LB_ERROR_UNKNOWN",
    };
    name.as_ptr()
}

/// The status that `error` stands for; LB_ERROR_INVALID_ARGUMENT for NULL and for a handle that is none.
/// Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_error_status(error: *const lb_error) -> lb_status {
    ERRORS.get(error.cast()).map_or(LB_ERROR_INVALID_ARGUMENT, |report| report.status)
}

/// What went wrong, for a person: UTF-8, valid until lb_error_free. An empty string for NULL and for a
/// handle that is none. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_error_message(error: *const lb_error) -> *const c_char {
    match ERRORS.get(error.cast()) {
        // The registry keeps the report, and with it the string, until the error is freed.
        Some(report) => Arc::as_ref(&report).message.as_ptr(),
        None => c"".as_ptr(),
    }
}

/// Frees an error. NULL and a handle that is none are ignored. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_error_free(error: *mut lb_error) {
    ERRORS.release(error.cast());
}
