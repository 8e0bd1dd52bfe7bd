//! In: keyframes and options. Out: an `lb_session`.

use super::array::elements;
use super::blend_options::{lb_blend_options, options};
use super::call::{lb_call, watched};
use super::growing::{Growing, read, write};
use super::handle::{Kind, Registry};
use super::keyframe::{keyframe, lb_keyframe};
use super::model::model;
use super::{entry, lb_error, lb_model, lb_session, lb_status, put};
use crate::blend::{BlendOptions, Keyframe, Session};
use crate::diffusion::Model;
use crate::error::{Error, Result};
use std::sync::Arc;

/// What a session is, and what it holds at present. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_session_info {
    /// sizeof(lb_session_info), set by the caller
    pub struct_size: usize,
    /// Width of a frame in pixels: as the model makes it, or, in a session with pictures, that of the source
    /// or of the first image.
    pub width: u32,
    /// See width.
    pub height: u32,
    /// t runs from 0 to this.
    pub last_t: f64,
    /// Diffusion steps of a run.
    pub steps: u32,
    /// Steps that a frame takes when the tree is filled.
    pub frame_steps: u32,
    /// Leaves of the plan, over all segments.
    pub leaves: u64,
    /// Memory that is held for what can be made again.
    pub cached_bytes: u64,
    /// Evaluations of the UNet that a frame in the middle of the first segment would take now.
    pub evaluations: u64,
    /// Evaluations that were made for this session so far, cancelled calls' included.
    pub evaluations_done: u64,
    /// Evaluations that lb_session_prepare would take now; 0 when the tree is filled.
    pub evaluations_to_prepare: u64,
    /// What the session holds in all: cached_bytes, the conditioning of its prompts, what its keyframes
    /// brought along, and pictures with what is made of them. The model's own memory is in lb_model_info.
    pub memory_bytes: u64,
    /// Segments: one less than keyframes, or as many in a loop.
    pub segments: u32,
    /// 1 where the last keyframe leads back to the first, else 0.
    pub looped: u32,
}

// SAFETY: repr(C), starts with its size; numbers may have any bits.
unsafe impl Growing for lb_session_info {
    const NAME: &'static str = "lb_session_info";
    const FIRST: usize = size_of::<usize>() + 48;

    fn defaults() -> Self {
        lb_session_info {
            struct_size: size_of::<Self>(),
            width: 0,
            height: 0,
            last_t: 0.0,
            steps: 0,
            frame_steps: 0,
            leaves: 0,
            cached_bytes: 0,
            evaluations: 0,
            evaluations_done: 0,
            evaluations_to_prepare: 0,
            memory_bytes: 0,
            segments: 0,
            looped: 0,
        }
    }
}

static SESSIONS: Registry<Session> = Registry::new(Kind::Session);

/// The session of a handle.
pub(super) fn session(handle: *const lb_session) -> Result<Arc<Session>> {
    let wrong =
        if handle.is_null() { "session is NULL" } else { "session is not a live lb_session" };
    SESSIONS.get(handle.cast()).ok_or_else(|| Error::invalid(wrong))
}

/// A new handle of a session, with one reference.
pub(super) fn insert(session: Session) -> *mut lb_session {
    SESSIONS.insert(session).cast()
}

/// The keyframes and options of a session to be.
///
/// # Safety
/// As the header says of lb_session_new.
pub(super) unsafe fn wishes(
    model: &Model,
    keyframes: *const *const lb_keyframe,
    count: usize,
    options: *const lb_blend_options,
) -> Result<(Vec<Keyframe>, BlendOptions)> {
    // SAFETY: passed on.
    let pointers = unsafe { elements(keyframes, count as u64, "keyframes")? };
    let mut frames = Vec::with_capacity(pointers.len());
    for pointer in pointers {
        // SAFETY: passed on.
        frames.push(unsafe { keyframe(pointer)? });
    }
    let raw = match options.is_null() {
        true => lb_blend_options::defaults(),
        // SAFETY: passed on.
        false => unsafe { read(options)? },
    };
    // SAFETY: passed on.
    let options = unsafe { self::options(&raw)? };
    for keyframe in &frames {
        for prompt in [&keyframe.prompt, &keyframe.negative_prompt] {
            if let (_, Some(dropped)) = model.tokenize(prompt)? {
                log::warn!("no room for the end of a prompt: '{dropped}' is dropped");
            }
        }
    }
    Ok((frames, options))
}

/// A transition through `count` keyframes, given as pointers, since the struct may grow. t runs from 0 to
/// count - 1; whole numbers are the keyframes. Nothing is computed yet. The session keeps the model, and
/// has one reference, released by lb_session_release. Any thread, at once. Since 0.1.
///
/// # Safety
/// `keyframes` is NULL or points to `count` pointers, each NULL or to an lb_keyframe; `options` is NULL
/// (the defaults) or as its declaration says; `session` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_new(
    model: *mut lb_model,
    keyframes: *const *const lb_keyframe,
    count: usize,
    options: *const lb_blend_options,
    session: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        // SAFETY: passed on.
        let (frames, options) = unsafe { wishes(&model, keyframes, count, options)? };
        log::debug!("lb_session_new({frames:?}, {options:?})");
        // SAFETY: passed on.
        unsafe { put(session, "session", || Ok(insert(Session::new(&model, &frames, &options)?))) }
    })
}

/// Another reference to `session`, which is returned; NULL for a handle that is none. Any thread, at
/// once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_session_retain(session: *mut lb_session) -> *mut lb_session {
    if SESSIONS.retain(session.cast()) { session } else { std::ptr::null_mut() }
}

/// One reference less. NULL and a handle that is none are ignored. Running calls keep the session. Any
/// thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_session_release(session: *mut lb_session) {
    SESSIONS.release(session.cast());
}

/// Computes, and keeps as far as the cache allows, what frames start from. Optional: lb_session_render
/// does its own part. May take long; reports and can be cancelled, and goes on where it was when called
/// again. Any thread; a render overtakes it. Since 0.1.
///
/// # Safety
/// `call` is NULL or as its declaration says; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_prepare(
    session: *mut lb_session,
    call: *const lb_call,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let call = unsafe { watched(call)? };
        self::session(session)?.prepare(&call)
    })
}

/// Lets go of everything that can be made again. A handle that is none is ignored. Any thread, at once.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_session_purge(session: *mut lb_session) {
    if let Some(session) = SESSIONS.get(session.cast()) {
        session.purge();
    }
}

/// Writes what `session` is and holds. Any thread, at once. Since 0.1.
///
/// # Safety
/// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_get_info(
    session: *const lb_session,
    info: *mut lb_session_info,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let session = self::session(session)?;
        // SAFETY: passed on.
        let known = unsafe { read(info.cast_const())? };
        let [width, height] = session.size();
        let last_t = session.last_t();
        let result = lb_session_info {
            width: width as u32,
            height: height as u32,
            last_t,
            steps: session.schedule().steps.len() as u32,
            frame_steps: session.plan().last().steps.len() as u32,
            leaves: session.leaves().len() as u64,
            cached_bytes: session.cached_bytes() as u64,
            evaluations: session.evaluations(&[last_t.min(0.5)])? as u64,
            evaluations_done: session.evaluated(),
            evaluations_to_prepare: session.evaluations_to_prepare() as u64,
            memory_bytes: session.memory_bytes(),
            segments: session.segments() as u32,
            looped: u32::from(session.looped()),
            ..known
        };
        // SAFETY: `read` has found the struct not to be NULL, and its size to be one.
        unsafe { write(info, &result) };
        Ok(())
    })
}
