//! In: a device. Out: [`Lane`], one of its two streams with what belongs to it: launches, copies and steps in order.
//!
//! Networks run on the first, and pictures are decoded on the second, beside them. The lanes share the device's memory, but
//! each has pieces of its own (`memory.rs`): what comes back from one never goes to the other, so no order between
//! the two is ever wanted but that what one reads of the other's is there (weights: `Cuda::beside`) and stays
//! until it was read (`Drop for Cuda`).
#![allow(unsafe_code, reason = "functions of the driver")]

use super::back::Pinned;
use super::calls::{Calls, Handle};
use super::capture::Capture;
use super::device::Device;
use super::kernels::Parameters;
use super::memory::{Mode, current};
use super::ring::Ring;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::ops::Deref;
use std::sync::Arc;

/// Of a device.
pub(super) const LANES: usize = 2;
/// CU_STREAM_NON_BLOCKING: other streams of the process are not waited for.
const NON_BLOCKING: u32 = 1;
/// CU_EVENT_BLOCKING_SYNC and CU_EVENT_DISABLE_TIMING
const SLEEPS_UNTIMED: u32 = 3;

/// A stream of low priority, and what belongs to it.
#[derive(Default)]
pub(super) struct Track {
    pub(super) stream: Handle,
    /// The ends of the last two steps, and how many there were.
    steps: Mutex<([Handle; 2], usize)>,
    /// By way of which bytes go back to the host.
    pub(super) pinned: Mutex<Pinned>,
    /// By way of which they come from there.
    pub(super) ring: Mutex<Ring>,
}

/// A new stream, of the least urgent priority: a host's display keeps its rhythm. The context must be current.
pub(super) fn stream(calls: &Calls) -> Result<Handle> {
    let (mut least, mut greatest, mut stream) = (0, 0, 0);
    // SAFETY: places for numbers and a handle.
    unsafe {
        calls.check((calls.priorities)(&mut least, &mut greatest), "priorities")?;
        calls.check((calls.stream_create)(&mut stream, NON_BLOCKING, least), "cuStreamCreate")?;
    }
    Ok(stream)
}

impl Track {
    /// Makes what it needs; also where that fails, what is there is let go of with it. The context must be current.
    pub(super) fn prepare(&mut self, calls: &Calls) -> Result<()> {
        self.stream = stream(calls)?;
        for end in &mut self.steps.get_mut().0 {
            // SAFETY: a place for a handle.
            let status = unsafe { (calls.event_create)(end, SLEEPS_UNTIMED) };
            calls.check(status, "cuEventCreate")?;
        }
        Ok(())
    }

    /// Lets it go, at the end of the device. The context must be current.
    pub(super) fn release(&mut self, calls: &Calls) {
        self.pinned.get_mut().release(calls);
        self.ring.get_mut().release(calls);
        // SAFETY: ours, and not used again.
        unsafe {
            for end in self.steps.get_mut().0 {
                if end != 0 {
                    (calls.event_destroy)(end);
                }
            }
            if self.stream != 0 {
                (calls.stream_destroy)(self.stream);
            }
        }
        *self = Track::default();
    }
}

/// A lane of a device that is held.
#[derive(Clone)]
pub(super) struct Lane {
    device: Arc<Device>,
    index: usize,
}

impl Deref for Lane {
    type Target = Device;
    fn deref(&self) -> &Device {
        &self.device
    }
}

impl Lane {
    /// The one that networks run on.
    pub(super) fn first(device: Arc<Device>) -> Self {
        Lane { device, index: 0 }
    }

    /// The one beside it; `None`: this is it.
    pub(super) fn beside(&self) -> Option<Self> {
        let index = Some(self.index + 1).filter(|&index| index < LANES)?;
        Some(Lane { device: Arc::clone(&self.device), index })
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn track(&self) -> &Track {
        &self.device.tracks[self.index]
    }

    pub(super) fn stream(&self) -> Handle {
        self.track().stream
    }

    /// Queues kernel `name`, whose one argument is `parameters`.
    pub(super) fn launch<P: Parameters>(
        &self,
        name: &'static str,
        grid: [u64; 3],
        block: u32,
        shared: u32,
        parameters: &P,
    ) -> Result<()> {
        let mode = current();
        if matches!(mode, Mode::Plan(_)) || grid.contains(&0) {
            return Ok(());
        }
        let [Ok(x), Ok(y), Ok(z)] = grid.map(u32::try_from) else {
            return Err(Error::internal(format!("kernel {name}: a grid of {grid:?}")));
        };
        let stream = if matches!(mode, Mode::Record(_)) { self.recorder } else { self.stream() };
        self.launch_on(stream, name, [x, y, z], block, shared, parameters)
    }

    /// Waits until all that was queued is done.
    pub(super) fn wait(&self) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: a stream of the device.
        let status = unsafe { (self.driver.calls.stream_wait)(self.stream()) };
        self.check(status, "waiting for the device")
    }

    /// Queues a step of a network, when the one before the last is done: one runs and one waits, so that what was
    /// queued is soon over when a call is cancelled.
    pub(super) fn step<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let calls = &self.driver.calls;
        let end = {
            let mut steps = self.track().steps.lock();
            steps.1 += 1;
            steps.0[steps.1 % 2]
        };
        {
            let _entered = self.enter()?;
            // SAFETY: an event of ours; one that was never recorded is over.
            self.check(unsafe { (calls.event_wait)(end) }, "a step")?;
        }
        self.take_back();
        let result = work()?;
        let _entered = self.enter()?;
        // SAFETY: an event and a stream of ours.
        self.check(unsafe { (calls.event_record)(end, self.stream()) }, "the end of a step")?;
        Ok(result)
    }

    /// Queues a copy within the device.
    pub(super) fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<()> {
        let _entered = self.enter()?;
        let calls = &self.driver.calls;
        // SAFETY: both places have that many bytes, by their owners.
        let status = unsafe { (calls.copy)(to, from, bytes as usize, self.stream()) };
        self.check(status, "a copy within the device")
    }

    /// Records what `work` queues, in a mode in which it queues on the recorder, as a graph. One at a time.
    pub(super) fn record<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(Handle, T)> {
        let _recording = self.recording.lock();
        let _entered = self.enter()?;
        let capture = Capture::begin(self, self.recorder)?;
        let result = work()?;
        Ok((capture.end()?, result))
    }

    /// Queues a recorded graph.
    pub(super) fn replay(&self, exec: Handle) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: a graph of `record`'s that was not forgotten.
        let status = unsafe { (self.driver.calls.graph_launch)(exec, self.stream()) };
        self.check(status, "cuGraphLaunch")
    }

    /// The bytes that this lane may still have: of the limit, if there is one, or of the device, and what lies idle: of its
    /// own, and whole pieces of the other's.
    pub(super) fn available(&self) -> Result<u64> {
        let [free, _] = self.free()?;
        let memory = self.memory.lock();
        let left = memory.limit.map(|limit| limit.saturating_sub(memory.held()));
        Ok(left.unwrap_or(u64::MAX).min(free) + memory.idle(self.index))
    }
}
