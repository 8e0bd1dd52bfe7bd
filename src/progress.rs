//! In: a caller's wish to watch or to stop one call. Out: [`Call`], handed down to the place where
//! the work is done and polled there once per UNet step or decode.
//!
//! Progress and cancel belong to one call: nothing here is global, and a cancelled call leaves the
//! model and the session as usable as before.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The kinds of work a call reports on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Stage {
    /// Weights are read.
    Load = 1,
    /// Prompts become conditioning.
    Text = 2,
    /// Latents are denoised; counted in UNet steps.
    Denoise = 3,
    /// Latents become frames.
    Decode = 4,
}

/// One report of a running call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Units of this stage that are done.
    pub done: u32,
    /// Units of this stage in all.
    pub total: u32,
    /// The whole call, 0..=1; never falls within a call.
    pub fraction: f64,
}

/// A token that stops the call it was given to. Any thread may request; a request is for good, so
/// use one token for one operation.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A token that nobody has requested yet.
    pub fn new() -> Self {
        Cancel::default()
    }

    /// Asks the call that holds this token to stop within one UNet step or one decode.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`Cancel::request`] was called.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

type Report<'a> = dyn Fn(&Progress) -> ControlFlow<()> + Sync + 'a;

/// Watches and stops one call: an optional token and an optional progress callback.
///
/// For one call of one function; what comes next wants a `Call` of its own. The callback runs on the
/// thread that made the call, at least every 20 ms. `ControlFlow::Break(())` cancels. It must not render
/// or prepare the session that it watches, nor at [`Stage::Load`] any of the same model: it would wait for itself.
#[derive(Default)]
pub struct Call<'a> {
    cancel: Option<Cancel>,
    progress: Option<Box<Report<'a>>>,
    /// The bits of the highest fraction reported so far: a report never falls below it.
    highest: AtomicU64,
    last: Mutex<Option<Progress>>,
}

impl<'a> Call<'a> {
    /// A call that nobody watches.
    pub fn new() -> Self {
        Call::default()
    }

    /// Stops when `token` is requested.
    pub fn cancel(mut self, token: &Cancel) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Reports to `progress`, on the calling thread.
    pub fn on_progress(
        mut self,
        progress: impl Fn(&Progress) -> ControlFlow<()> + Sync + 'a,
    ) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// The token, for whoever works on another thread.
    pub(crate) fn token(&self) -> Option<Cancel> {
        self.cancel.clone()
    }

    /// Fails with `Cancelled` once the token is requested.
    pub fn poll(&self) -> Result<()> {
        match &self.cancel {
            Some(token) if token.requested() => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }

    /// Polls, then reports `done` of `total` units of `stage`; `fraction` is that of the whole call.
    pub fn report(&self, stage: Stage, done: usize, total: usize, fraction: f64) -> Result<()> {
        self.poll()?;
        let Some(progress) = &self.progress else {
            return Ok(());
        };
        let fraction = if fraction.is_finite() { fraction.clamp(0.0, 1.0) } else { 0.0 };
        // Non-negative floats order as their bits do, so the highest one can be kept without a lock.
        let before = self.highest.fetch_max(fraction.to_bits(), Ordering::AcqRel);
        let fraction = fraction.max(f64::from_bits(before));
        let units = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let report = Progress { stage, done: units(done), total: units(total), fraction };
        *self.last.lock() = Some(report);
        match progress(&report) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::cancelled()),
        }
    }

    /// A call that reports to this one as its part from `start` to `end` (0 to 1), and stops with it.
    pub(crate) fn part(&self, start: f64, end: f64) -> Call<'_> {
        let mut part = Call { cancel: self.cancel.clone(), ..Call::default() };
        if self.progress.is_some() {
            part.progress = Some(Box::new(move |progress| {
                let fraction = start + (end - start) * progress.fraction;
                let (done, total) = (progress.done as usize, progress.total as usize);
                match self.report(progress.stage, done, total, fraction) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            }));
        }
        part
    }

    /// Polls, and reports what was reported last, so that a callback can cancel while the call waits.
    pub(crate) fn again(&self) -> Result<()> {
        let last = *self.last.lock();
        match last {
            Some(last) => {
                self.report(last.stage, last.done as usize, last.total as usize, last.fraction)
            }
            None => self.poll(),
        }
    }
}
