//! In: a path. Out: a session's file, and from it the session.

use super::call::{lb_call, watched};
use super::growing::{Growing, choice, fill, read, unused};
use super::model::model;
use super::session::{insert, session};
use super::{entry, lb_error, lb_model, lb_session, lb_status, put, text};
use crate::blend::{RestoreOptions, Session};
use crate::error::{Error, Result};
use std::ffi::c_char;

/// How a saved session is taken up again; every member but the first may be 0. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_restore_options {
    /// sizeof(lb_restore_options)
    pub struct_size: usize,
    /// 1: goes on although this machine rounds otherwise than the one that made the file. Frames then differ
    /// in their last bits from those made there. 0: such a file is refused with LB_ERROR_UNSUPPORTED.
    pub accept_other_numerics: u32,
    /// Must be 0.
    pub flags: u32,
    /// Memory for latents that can be made again. 0: as the saved session had it.
    pub cache_bytes: u64,
}

// SAFETY: repr(C), starts with its size; numbers may have any bits.
unsafe impl Growing for lb_restore_options {
    const NAME: &'static str = "lb_restore_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_restore_options {
            struct_size: size_of::<Self>(),
            accept_other_numerics: 0,
            flags: 0,
            cache_bytes: 0,
        }
    }
}

/// # Safety
/// `path` is NULL or NUL-ended UTF-8.
unsafe fn path_of<'a>(path: *const c_char) -> Result<&'a str> {
    // SAFETY: passed on.
    unsafe { text(path, "path")? }.ok_or_else(|| Error::invalid("path is NULL"))
}

/// Fills `options` with defaults; `struct_size` is sizeof(lb_restore_options). Any thread, at once. Since
/// 0.1.
///
/// # Safety
/// `options` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_restore_options_init(
    options: *mut lb_restore_options,
    struct_size: usize,
) {
    // SAFETY: passed on.
    unsafe { fill(options, struct_size) };
}

/// Writes `session` to the file `path`: keyframes, all that was decided, and the branches that are kept at
/// present (lb_session_prepare first, and whoever loads it finds the work done). The file appears whole or
/// not at all. Any thread; as long as writing takes. Since 0.1.
///
/// # Safety
/// `path` is NUL-ended UTF-8; `call` is NULL or as its declaration says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_save(
    session: *mut lb_session,
    path: *const c_char,
    call: *const lb_call,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        // SAFETY: passed on.
        let (path, call) = unsafe { (path_of(path)?, watched(call)?) };
        session.save(path, &call)
    })
}

/// Takes up a session that lb_session_save has written, with the model that it was made with: its frames are
/// those of the saved one, bit for bit, whichever process renders them. LB_ERROR_BAD_MODEL for a file that is
/// damaged or none, LB_ERROR_UNSUPPORTED for another version's and for other numerics. One reference, released
/// by lb_session_release. Any thread; as long as reading takes. Since 0.1.
///
/// # Safety
/// `path` is NUL-ended UTF-8; `options` and `call` are NULL or as their declarations say; `session` and
/// `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_load(
    model: *mut lb_model,
    path: *const c_char,
    options: *const lb_restore_options,
    call: *const lb_call,
    session: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        // SAFETY: passed on.
        unsafe {
            let path = path_of(path)?;
            let raw = match options.is_null() {
                true => lb_restore_options::defaults(),
                false => read(options)?,
            };
            unused("lb_restore_options.flags", raw.flags)?;
            let options = RestoreOptions {
                accept_other_numerics: choice("accept_other_numerics", raw.accept_other_numerics)?,
                cache_bytes: match raw.cache_bytes {
                    0 => None,
                    bytes => Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
                },
            };
            let call = watched(call)?;
            put(session, "session", || Ok(insert(Session::load(&model, path, &options, &call)?)))
        }
    })
}
