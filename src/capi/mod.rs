//! In: a call from C. Out: the same call in Rust. Checks, converts, calls one function, converts back;
//! no algorithm and no policy stands here.
//!
//! Every fallible function returns a status and takes a last `lb_error **error` that may be NULL; it is
//! written on failure only, the other out parameters on success only. Every body runs under one guard.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

mod adapt;
mod array;
mod blend_options;
mod call;
mod copy;
mod curve;
mod device;
mod distance;
mod doctor;
mod extend;
mod frame;
mod growing;
mod handle;
mod inpainting;
mod keyframe;
mod log;
mod model;
mod opaque;
mod session;
mod source;
mod staged;
mod status;
mod store;
mod timing;
mod version;

pub use adapt::*;
pub use blend_options::*;
pub use call::*;
pub use copy::*;
pub use curve::*;
pub use device::*;
pub use distance::*;
pub use doctor::*;
pub use extend::*;
pub use frame::*;
pub use inpainting::*;
pub use keyframe::*;
pub use log::*;
pub use model::*;
pub use opaque::*;
pub use session::*;
pub use source::*;
pub use status::*;
pub use store::*;
pub use timing::*;
pub use version::*;

use crate::error::{Error, Result, guarded};
use std::ffi::{CStr, c_char};

/// Runs the body of an exported function: turns its error, or a panic, into a status.
fn entry(error: *mut *mut lb_error, body: impl FnOnce() -> Result<()>) -> lb_status {
    log::start();
    let failure = match guarded(body).and_then(|result| result) {
        Ok(()) => return LB_OK,
        Err(failure) => failure,
    };
    ::log::info!("{failure}");
    let (status, report) = status::report(&failure);
    if error.is_null() {
        lb_error_free(report);
    } else {
        // SAFETY: not NULL, so by the header's word it points to a writable lb_error pointer.
        unsafe { error.write(report) };
    }
    status
}

/// Writes a result to where a caller wants it.
///
/// # Safety
/// `target` is NULL or writable.
unsafe fn put<T>(target: *mut T, name: &str, make: impl FnOnce() -> Result<T>) -> Result<()> {
    if target.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    let value = make()?;
    // SAFETY: not NULL, and writable by the caller's word. It need not be aligned.
    unsafe { target.write_unaligned(value) };
    Ok(())
}

/// A caller's text.
///
/// # Safety
/// `text` is NULL, or ends with a NUL and doesn't change during the call.
unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and NUL-ended by the caller's word.
    let text = unsafe { CStr::from_ptr(text) };
    let wrong = |e| Error::invalid(format!("{name} is not UTF-8: {e}"));
    text.to_str().map(Some).map_err(wrong)
}
