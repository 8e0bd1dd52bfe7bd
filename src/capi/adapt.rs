//! In: how branches shall be placed by what they show. Out: a session whose branches are.

use super::call::{lb_call, watched};
use super::distance::{LB_DISTANCE_FRAMES, even, lb_distance};
use super::growing::{Growing, fill, read};
use super::session::{insert, session};
use super::{entry, lb_error, lb_lpips, lb_session, lb_status, put};
use crate::blend::Adapt;
use std::ptr::null;

/// How branches are placed by what they show. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_adapt {
    /// sizeof(lb_adapt)
    pub struct_size: usize,
    /// An LB_DISTANCE value.
    pub distance: lb_distance,
    /// How many frames of each segment are looked at, 2 to 4097. 0: 33.
    pub samples: u32,
    /// For LB_DISTANCE_LPIPS.
    pub lpips: *const lb_lpips,
    /// How far branches go from where the plan has them (0) to equal shares of the change (1).
    pub strength: f64,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_adapt {
    const NAME: &'static str = "lb_adapt";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_adapt {
            struct_size: size_of::<Self>(),
            distance: LB_DISTANCE_FRAMES,
            samples: 0,
            lpips: null(),
            strength: 1.0,
        }
    }
}

/// Fills `adapt` with defaults; `struct_size` is sizeof(lb_adapt). Any thread, at once. Since 0.1.
///
/// # Safety
/// `adapt` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_adapt_init(adapt: *mut lb_adapt, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(adapt, struct_size) };
}

/// A session through the same keyframes whose branches lie denser where the pictures of `session` change
/// more, as many as before. Looks at frames: may take long, reports and can be cancelled. One reference,
/// released by lb_session_release. Any thread. Since 0.1.
///
/// # Safety
/// `adapt` is NULL (the defaults) or as its declaration says, as is `call`; `adapted` and `error` are NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_adapted(
    session: *mut lb_session,
    adapt: *const lb_adapt,
    call: *const lb_call,
    adapted: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        // SAFETY: passed on.
        unsafe {
            let raw = if adapt.is_null() { lb_adapt::defaults() } else { read(adapt)? };
            let even = even(raw.distance, raw.lpips, raw.samples, 0)?;
            let (adapt, call) = (Adapt { even, strength: raw.strength }, watched(call)?);
            put(adapted, "adapted", || Ok(insert(session.adapted(&adapt, &call)?)))
        }
    })
}
