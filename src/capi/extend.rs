//! In: a session, a place in it, and a keyframe. Out: a session from that place to the keyframe.

use super::call::{lb_call, watched};
use super::keyframe::{keyframe, lb_keyframe};
use super::session::{insert, session};
use super::{entry, lb_error, lb_session, lb_status, put};

/// A session from the frame of `session` at `from_t`, which is its frame at 0 bit for bit, to `to`: a change
/// of mind. It keeps nothing of `session` but the model, and what is repainted. Runs the branches beside that frame as far as they
/// aren't kept: may take long, reports and can be cancelled. One reference, released by
/// lb_session_release. Any thread. Since 0.1.
///
/// # Safety
/// `to` is as its declaration says; `call` is NULL or as its declaration says; `extended` and `error` are
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_extend(
    session: *mut lb_session,
    from_t: f64,
    to: *const lb_keyframe,
    call: *const lb_call,
    extended: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        // SAFETY: passed on.
        unsafe {
            let (to, call) = (keyframe(to)?, watched(call)?);
            put(extended, "extended", || Ok(insert(session.extend(from_t, &to, &call)?)))
        }
    })
}
