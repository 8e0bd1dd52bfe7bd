//! In: how time shall go. Out: sessions over the same frames under another time, and the t of moments.

use super::array::given;
use super::call::{lb_call, watched};
use super::curve::{curve, lb_curve};
use super::distance::{LB_DISTANCE_FRAMES, even, lb_distance};
use super::growing::{Growing, fill, read};
use super::session::{insert, session};
use super::{entry, lb_error, lb_lpips, lb_session, lb_status, put};
use crate::blend::{Easing, Pace, Segment, Timing};
use crate::error::{Error, Result};
use std::ptr::null;

/// How time goes within segments.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_pace = u32;

/// LB_PACE_EVEN; with LB_LOOK_COMPAT_2022 and LB_LOOK_COMPAT_2023, LB_PACE_LINEAR.
pub const LB_PACE_AUTO: lb_pace = 0;
/// t goes as time goes.
pub const LB_PACE_LINEAR: lb_pace = 1;
/// From leaf to leaf of the plan in equal times, as in 2022.
pub const LB_PACE_LEAVES: lb_pace = 2;
/// In equal times, equal change, as measured on frames.
pub const LB_PACE_EVEN: lb_pace = 3;
/// The caller's curve from time (0 to 1) to t.
pub const LB_PACE_CURVE: lb_pace = 4;

/// How a segment sets off and arrives.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_easing = u32;

/// At one speed.
pub const LB_EASING_LINEAR: lb_easing = 0;
/// Sets off slowly.
pub const LB_EASING_IN: lb_easing = 1;
/// Arrives slowly.
pub const LB_EASING_OUT: lb_easing = 2;
/// Both.
pub const LB_EASING_IN_OUT: lb_easing = 3;

/// How time goes through a transition; every member but the first may be 0. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_timing {
    /// sizeof(lb_timing)
    pub struct_size: usize,
    /// An LB_PACE value.
    pub pace: lb_pace,
    /// For LB_PACE_EVEN, an LB_DISTANCE value.
    pub distance: lb_distance,
    /// For LB_PACE_EVEN: how many frames of each segment are looked at, 2 to 4097. 0: 33.
    pub samples: u32,
    /// For LB_PACE_EVEN: whether segments are long in proportion to what changes in them, 0 or 1.
    pub across: u32,
    /// For LB_DISTANCE_LPIPS.
    pub lpips: *const lb_lpips,
    /// For LB_PACE_CURVE: from the share of the whole time, 0 to 1, to t.
    pub curve: *const lb_curve,
    /// Of each segment, in proportion to the others'; copied. NULL: all are of one length.
    pub lengths: *const f64,
    /// LB_EASING values, one for each segment; copied. NULL: none is eased.
    pub easings: *const lb_easing,
    /// Curves from (0, 0) to (1, 1), one for each segment, which stand in for its easing unless they are
    /// NULL; copied. NULL: there are none.
    pub easing_curves: *const *const lb_curve,
    /// How many segments `lengths`, `easings` and `easing_curves` are for. 0 where all of them are NULL.
    pub segments: u64,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_timing {
    const NAME: &'static str = "lb_timing";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_timing {
            struct_size: size_of::<Self>(),
            pace: LB_PACE_AUTO,
            distance: LB_DISTANCE_FRAMES,
            samples: 0,
            across: 0,
            lpips: null(),
            curve: null(),
            lengths: null(),
            easings: null(),
            easing_curves: null(),
            segments: 0,
        }
    }
}

/// # Safety
/// As the header says of `lb_timing`.
unsafe fn timing(raw: &lb_timing) -> Result<Timing> {
    let pace = match raw.pace {
        LB_PACE_AUTO => Pace::Auto(even(raw.distance, raw.lpips, raw.samples, raw.across)?),
        LB_PACE_LINEAR => Pace::Linear,
        LB_PACE_LEAVES => Pace::Leaves,
        LB_PACE_EVEN => Pace::Even(even(raw.distance, raw.lpips, raw.samples, raw.across)?),
        // SAFETY: passed on.
        LB_PACE_CURVE => match unsafe { curve(raw.curve)? } {
            Some(curve) => Pace::Curve(curve),
            None => return Err(Error::invalid("lb_timing.curve is NULL, with LB_PACE_CURVE")),
        },
        other => return Err(Error::invalid(format!("pace {other}: wanted an LB_PACE value"))),
    };
    let count = raw.segments;
    // SAFETY: passed on.
    let (lengths, easings, curves) = unsafe {
        (
            given(raw.lengths, count, 1.0, "lb_timing.lengths")?,
            given(raw.easings, count, LB_EASING_LINEAR, "lb_timing.easings")?,
            given(raw.easing_curves, count, null(), "lb_timing.easing_curves")?,
        )
    };
    let mut segments = Vec::with_capacity(lengths.len());
    for ((length, easing), own) in lengths.into_iter().zip(easings).zip(curves) {
        // SAFETY: passed on.
        let easing = match (unsafe { curve(own)? }, easing) {
            (Some(curve), _) => Easing::Curve(curve),
            (None, LB_EASING_LINEAR) => Easing::Linear,
            (None, LB_EASING_IN) => Easing::In,
            (None, LB_EASING_OUT) => Easing::Out,
            (None, LB_EASING_IN_OUT) => Easing::InOut,
            (None, other) => {
                return Err(Error::invalid(format!("easing {other}: wanted an LB_EASING value")));
            }
        };
        segments.push(Segment { length, easing });
    }
    Ok(Timing { pace, segments })
}

/// Fills `timing` with defaults; `struct_size` is sizeof(lb_timing). Any thread, at once. Since 0.1.
///
/// # Safety
/// `timing` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_timing_init(timing: *mut lb_timing, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(timing, struct_size) };
}

/// `session` under another time: the same frames at the same t, which both share, branches included, but
/// lb_session_t_at and lb_session_frame_times go as `timing` says. LB_PACE_EVEN looks at frames, which
/// may take long, reports and can be cancelled. One reference, released by lb_session_release. Any thread.
/// Since 0.1.
///
/// # Safety
/// `timing` is NULL (the defaults) or as its declaration says, as is `call`; `timed` and `error` are NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_timed(
    session: *mut lb_session,
    timing: *const lb_timing,
    call: *const lb_call,
    timed: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        // SAFETY: passed on.
        unsafe {
            let raw = if timing.is_null() { lb_timing::defaults() } else { read(timing)? };
            let (timing, call) = (self::timing(&raw)?, watched(call)?);
            put(timed, "timed", || Ok(insert(session.timed(&timing, &call)?)))
        }
    })
}

/// Writes the t at `time`, a share of the whole time from 0 to 1; what lies outside is held. Any thread, at
/// once. Since 0.1.
///
/// # Safety
/// `t` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_t_at(
    session: *const lb_session,
    time: f64,
    t: *mut f64,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        if time.is_nan() {
            return Err(Error::invalid("time NaN: wanted 0 to 1"));
        }
        // SAFETY: passed on.
        unsafe { put(t, "t", || Ok(session.timeline().t(time))) }
    })
}

/// Writes the t of each of `count` frames of the whole, up to 16777216 and evenly in time: no keyframe twice,
/// and in a loop the last is one frame before the first. Any thread, at once. Since 0.1.
///
/// # Safety
/// `t` is NULL or points to `count` writable values; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_frame_times(
    session: *const lb_session,
    count: usize,
    t: *mut f64,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        if t.is_null() {
            return Err(Error::invalid("t is NULL"));
        }
        // More than fit into any memory, and days of frames.
        const MOST: usize = 1 << 24;
        if count > MOST {
            return Err(Error::invalid(format!("{count} frames: wanted up to {MOST}")));
        }
        for frame in 0..count {
            // SAFETY: not NULL, with room for `count` values by the caller's word; need not be aligned.
            unsafe { t.add(frame).write_unaligned(session.timeline().frame(frame, count)) };
        }
        Ok(())
    })
}
