//! In: a caller's token and callback. Out: a [`Call`].

use super::growing::{Growing, read};
use super::handle::{Kind, Registry};
use super::lb_cancel;
use crate::error::{Error, Result};
use crate::progress::{Call, Cancel, Progress, Stage};
use std::ffi::c_void;
use std::ops::ControlFlow;

/// What a call is at.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_stage = u32;

/// Weights are read.
pub const LB_STAGE_LOAD: lb_stage = 1;
/// Prompts become conditioning.
pub const LB_STAGE_TEXT: lb_stage = 2;
/// Latents are denoised; counted in evaluations of the UNet.
pub const LB_STAGE_DENOISE: lb_stage = 3;
/// Latents become frames.
pub const LB_STAGE_DECODE: lb_stage = 4;

/// One report of a running call. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lb_progress {
    /// What is being done: an LB_STAGE value.
    pub stage: lb_stage,
    /// Units of this stage that are done.
    pub done: u32,
    /// Units of this stage in all.
    pub total: u32,
    /// Always 0.
    pub reserved: u32,
    /// The whole call, 0 to 1; never falls.
    pub fraction: f64,
}

/// Is told how far a call is, on the thread that made the call, at least every 20 ms. Returns 0 to go on,
/// anything else to cancel. Must not throw.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_progress_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, progress: *const lb_progress) -> i32>;

/// Watches and stops one call. Every member but the first may be 0. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_call {
    /// sizeof(lb_call)
    pub struct_size: usize,
    /// Stops the call when it is requested, within one evaluation of the UNet or one decode.
    pub cancel: *mut lb_cancel,
    /// Is told how far the call is.
    pub progress: lb_progress_fn,
    /// Handed to `progress`.
    pub user: *mut c_void,
}

// SAFETY: repr(C), starts with its size; pointers and nullable functions may have any bits.
unsafe impl Growing for lb_call {
    const NAME: &'static str = "lb_call";
    const FIRST: usize = size_of::<usize>() + 3 * size_of::<*const c_void>();

    fn defaults() -> Self {
        lb_call {
            struct_size: size_of::<Self>(),
            cancel: std::ptr::null_mut(),
            progress: None,
            user: std::ptr::null_mut(),
        }
    }
}

static TOKENS: Registry<Cancel> = Registry::new(Kind::Cancel);

/// A callback with its user data. Called on the thread that made the call only.
struct Watcher {
    call: unsafe extern "C" fn(*mut c_void, *const lb_progress) -> i32,
    user: *mut c_void,
}

// SAFETY: `Call` reports on the calling thread only, so the pointer doesn't leave it; the bound on the
// callback is there for Rust callers who share theirs.
unsafe impl Send for Watcher {}
// SAFETY: as above.
unsafe impl Sync for Watcher {}

impl Watcher {
    fn tell(&self, progress: &Progress) -> ControlFlow<()> {
        let report = lb_progress {
            stage: match progress.stage {
                Stage::Load => LB_STAGE_LOAD,
                Stage::Text => LB_STAGE_TEXT,
                Stage::Denoise => LB_STAGE_DENOISE,
                Stage::Decode => LB_STAGE_DECODE,
            },
            done: progress.done,
            total: progress.total,
            reserved: 0,
            fraction: progress.fraction,
        };
        // SAFETY: the report lives during the call; the header asks the rest of the caller.
        match unsafe { (self.call)(self.user, &report) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// A caller's `lb_call`; NULL is a call that nobody watches.
///
/// # Safety
/// As the header says of `lb_call`.
pub(super) unsafe fn watched(call: *const lb_call) -> Result<Call<'static>> {
    if call.is_null() {
        return Ok(Call::new());
    }
    // SAFETY: passed on.
    let call = unsafe { read(call)? };
    let mut watched = Call::new();
    if !call.cancel.is_null() {
        let token = TOKENS.get(call.cancel.cast());
        let token =
            token.ok_or_else(|| Error::invalid("lb_call.cancel is not a live lb_cancel"))?;
        watched = watched.cancel(&token);
    }
    if let Some(function) = call.progress {
        let watcher = Watcher { call: function, user: call.user };
        watched = watched.on_progress(move |progress| watcher.tell(progress));
    }
    Ok(watched)
}

/// A token with one reference, released by lb_cancel_release. Use one for one operation. Any thread, at
/// once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_cancel_new() -> *mut lb_cancel {
    TOKENS.insert(Cancel::new()).cast()
}

/// Another reference to `cancel`, which is returned; NULL for a handle that is none. Any thread, at once.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_cancel_retain(cancel: *mut lb_cancel) -> *mut lb_cancel {
    if TOKENS.retain(cancel.cast()) { cancel } else { std::ptr::null_mut() }
}

/// One reference less. NULL and a handle that is none are ignored; an operation that runs with the token
/// keeps it. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_cancel_release(cancel: *mut lb_cancel) {
    TOKENS.release(cancel.cast());
}

/// Asks the operation that runs, or will run, with `cancel` to stop. For good. NULL and a handle that is
/// none are ignored. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_cancel_request(cancel: *mut lb_cancel) {
    if let Some(token) = TOKENS.get(cancel.cast()) {
        token.request();
    }
}

/// Whether lb_cancel_request was called; false for a handle that is none. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_cancel_requested(cancel: *const lb_cancel) -> bool {
    TOKENS.get(cancel.cast()).is_some_and(|token| token.requested())
}
