//! In: a kind of distance, and weights for it. Out: how much the frames of a session change.

use super::call::{lb_call, watched};
use super::growing::choice;
use super::handle::{Kind, Registry};
use super::session::session;
use super::{entry, lb_error, lb_lpips, lb_session, lb_status, put, text};
use crate::blend::{Distance, Even};
use crate::error::{Error, Result};
use crate::net::Lpips;
use std::ffi::c_char;
use std::sync::Arc;

/// How the difference of two moments is measured.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_distance = u32;

/// Between reduced frames, in bands; no weights are needed.
pub const LB_DISTANCE_FRAMES: lb_distance = 0;
/// The same between latents: nothing is decoded.
pub const LB_DISTANCE_LATENTS: lb_distance = 1;
/// The root of LPIPS, by weights that the caller has loaded.
pub const LB_DISTANCE_LPIPS: lb_distance = 2;

/// Most frames of which the changes are told at once.
const MOST_FRAMES: usize = 1 << 16;

static LPIPS: Registry<Arc<Lpips>> = Registry::new(Kind::Lpips);

/// The distance that a caller names.
fn distance(kind: lb_distance, lpips: *const lb_lpips) -> Result<Distance> {
    match kind {
        LB_DISTANCE_FRAMES => Ok(Distance::Frames),
        LB_DISTANCE_LATENTS => Ok(Distance::Latents),
        LB_DISTANCE_LPIPS => {
            let weights = LPIPS.get(lpips.cast());
            let weights = weights.ok_or_else(|| Error::invalid("lpips is not a live lb_lpips"))?;
            Ok(Distance::Lpips(Arc::clone(&weights)))
        }
        other => Err(Error::invalid(format!("distance {other}: wanted an LB_DISTANCE value"))),
    }
}

/// How even time is measured.
pub(super) fn even(
    kind: lb_distance,
    lpips: *const lb_lpips,
    samples: u32,
    across: u32,
) -> Result<Even> {
    let default = Even::default();
    Ok(Even {
        distance: distance(kind, lpips)?,
        samples: if samples == 0 { default.samples } else { samples as usize },
        across: choice("across", across)?,
    })
}

/// Loads the weights of LPIPS 0.1 on AlexNet from a safetensors file (docs/transitions.md says what it
/// holds). One reference, released by lb_lpips_release. Any thread; takes less than a second. Since 0.1.
///
/// # Safety
/// `path` is NUL-ended UTF-8; `lpips` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_lpips_load(
    path: *const c_char,
    lpips: *mut *mut lb_lpips,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        unsafe {
            let path = text(path, "path")?.ok_or_else(|| Error::invalid("path is NULL"))?;
            put(lpips, "lpips", || Ok(LPIPS.insert(Arc::new(Lpips::load(path)?)).cast()))
        }
    })
}

/// Another reference to `lpips`, which is returned; NULL for a handle that is none. Any thread, at once.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_lpips_retain(lpips: *mut lb_lpips) -> *mut lb_lpips {
    if LPIPS.retain(lpips.cast()) { lpips } else { std::ptr::null_mut() }
}

/// One reference less. NULL and a handle that is none are ignored. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_lpips_release(lpips: *mut lb_lpips) {
    LPIPS.release(lpips.cast());
}

/// Writes how much changes from frame to frame of `frames` frames, up to 65536: `frames` - 1 values, or, in
/// a loop, `frames`. `count` is how many `changes` has room for. Renders them all: may take long, reports and
/// can be cancelled. Any thread. Since 0.1.
///
/// # Safety
/// `changes` is NULL or points to `count` writable values; `call` is NULL or as its declaration says; `error`
/// is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_changes(
    session: *mut lb_session,
    frames: usize,
    distance: lb_distance,
    lpips: *const lb_lpips,
    changes: *mut f64,
    count: usize,
    call: *const lb_call,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        let distance = self::distance(distance, lpips)?;
        // SAFETY: passed on.
        let call = unsafe { watched(call)? };
        if frames > MOST_FRAMES {
            return Err(Error::invalid(format!("{frames} frames: wanted up to {MOST_FRAMES}")));
        }
        if changes.is_null() {
            return Err(Error::invalid("changes is NULL"));
        }
        let wanted = if session.looped() { frames } else { frames.saturating_sub(1) };
        if count < wanted {
            return Err(Error::invalid(format!("room for {count} changes: wanted {wanted}")));
        }
        let values = session.changes(frames, &distance, &call)?;
        for (index, value) in values.into_iter().enumerate().take(count) {
            // SAFETY: within the `count` values that are writable by the caller's word.
            unsafe { changes.add(index).write_unaligned(value) };
        }
        Ok(())
    })
}
