//! In: how time shall go, and a keyframe to go on to. Out: sessions over the same frames under another time,
//! the t of moments, and sessions that were extended or adapted.

use super::call::{lb_call, watched};
use super::growing::{Growing, fill, read};
use super::handle::{Kind, Registry};
use super::keyframe::{keyframe, lb_keyframe};
use super::session::{elements, insert, session};
use super::{entry, lb_error, lb_lpips, lb_session, lb_status, put, text};
use crate::blend::{Adapt, Curve, Distance, Easing, Even, Interpolation, Pace, Segment, Timing};
use crate::error::{Error, Result};
use crate::net::Lpips;
use std::ffi::c_char;
use std::ptr::null;
use std::sync::Arc;

/// What lies between the points of a curve.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_interpolation = u32;

/// A cubic in each interval that never goes beyond its points (Fritsch and Butland 1984).
pub const LB_INTERPOLATION_MONOTONE_CUBIC: lb_interpolation = 0;
/// Straight lines.
pub const LB_INTERPOLATION_LINEAR: lb_interpolation = 1;

/// A function through points, constant before the first and behind the last of them. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_curve {
    /// sizeof(lb_curve)
    pub struct_size: usize,
    /// `count` places, rising; copied.
    pub x: *const f64,
    /// The value at each; copied.
    pub y: *const f64,
    /// How many points there are, 1 to 65536.
    pub count: u64,
    /// An LB_INTERPOLATION value.
    pub interpolation: lb_interpolation,
    /// Must be 0.
    pub flags: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_curve {
    const NAME: &'static str = "lb_curve";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_curve {
            struct_size: size_of::<Self>(),
            x: null(),
            y: null(),
            count: 0,
            interpolation: LB_INTERPOLATION_MONOTONE_CUBIC,
            flags: 0,
        }
    }
}

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

/// How the difference of two moments is measured.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_distance = u32;

/// Between reduced frames, in bands; no weights are needed.
pub const LB_DISTANCE_FRAMES: lb_distance = 0;
/// The same between latents: nothing is decoded.
pub const LB_DISTANCE_LATENTS: lb_distance = 1;
/// The root of LPIPS, by weights that the caller has loaded.
pub const LB_DISTANCE_LPIPS: lb_distance = 2;

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

static LPIPS: Registry<Arc<Lpips>> = Registry::new(Kind::Lpips);

/// A caller's curve; `None` for NULL.
///
/// # Safety
/// As the header says of `lb_curve`.
pub(super) unsafe fn curve(pointer: *const lb_curve) -> Result<Option<Curve>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on.
    let (x, y, raw) = unsafe {
        let raw = read(pointer)?;
        let x = elements(raw.x, raw.count, "lb_curve.x")?;
        (x, elements(raw.y, raw.count, "lb_curve.y")?, raw)
    };
    if raw.flags != 0 {
        return Err(Error::invalid(format!("lb_curve.flags {:#x}: wanted 0", raw.flags)));
    }
    let interpolation = match raw.interpolation {
        LB_INTERPOLATION_MONOTONE_CUBIC => Interpolation::MonotoneCubic,
        LB_INTERPOLATION_LINEAR => Interpolation::Linear,
        other => {
            return Err(Error::invalid(format!(
                "interpolation {other}: wanted an LB_INTERPOLATION value"
            )));
        }
    };
    let points: Vec<[f64; 2]> = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
    Curve::new(&points, interpolation).map(Some)
}

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

fn even(kind: lb_distance, lpips: *const lb_lpips, samples: u32, across: u32) -> Result<Even> {
    let default = Even::default();
    Ok(Even {
        distance: distance(kind, lpips)?,
        samples: if samples == 0 { default.samples } else { samples as usize },
        across: across != 0,
    })
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

/// The elements of a caller's array, or as many defaults where there is none.
///
/// # Safety
/// `pointer` is NULL, or points to `count` readable elements.
unsafe fn given<T: Copy>(pointer: *const T, count: u64, value: T, name: &str) -> Result<Vec<T>> {
    if !pointer.is_null() {
        // SAFETY: passed on.
        return unsafe { elements(pointer, count, name) };
    }
    match count <= super::session::MOST {
        true => Ok(vec![value; count as usize]),
        false => Err(Error::invalid(format!("{count} segments: wanted fewer"))),
    }
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

/// Fills `adapt` with defaults; `struct_size` is sizeof(lb_adapt). Any thread, at once. Since 0.1.
///
/// # Safety
/// `adapt` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_adapt_init(adapt: *mut lb_adapt, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(adapt, struct_size) };
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

/// Writes the t of each of `count` frames of the whole, evenly in time: no keyframe twice, and in a loop the
/// last is one frame before the first. Any thread, at once. Since 0.1.
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
        for frame in 0..count {
            // SAFETY: not NULL, with room for `count` values by the caller's word; need not be aligned.
            unsafe { t.add(frame).write_unaligned(session.timeline().frame(frame, count)) };
        }
        Ok(())
    })
}

/// Writes how much changes from frame to frame of `frames` frames: `frames` - 1 values, or, in a loop,
/// `frames`. `count` is how many `changes` has room for. Renders them all: may take long, reports and
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
        let wanted = if session.looped() { frames } else { frames.saturating_sub(1) };
        if changes.is_null() || count < wanted {
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

/// A session from the frame of `session` at `from_t`, which is its frame at 0 bit for bit, to `to`: a change
/// of mind. It keeps nothing of `session` but the model. Runs the branches beside that frame as far as they
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
