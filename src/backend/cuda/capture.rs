//! In: a stream of a device's own. Out: what is queued there meanwhile, as a graph; and a host's own recordings left alone. One that isn't ended as it should
//! be, since what it records fails or panics, is ended all the same, and the stream can be used again.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Calls, Handle};
use super::device::Device;
use crate::error::Result;

/// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile is theirs.
const THREAD_LOCAL: i32 = 1;

/// CU_STREAM_CAPTURE_MODE_RELAXED: what a thread does is no matter of other threads' recordings.
const RELAXED: i32 = 2;

/// While it lives, this thread may take memory and load modules though a host records a stream of its own on another
/// thread, in the mode in which that forbids it to all (and in which the attempt would spoil its recording).
pub(super) struct Relaxed<'a> {
    calls: &'a Calls,
    before: Option<i32>,
}

impl<'a> Relaxed<'a> {
    pub(super) fn new(calls: &'a Calls) -> Self {
        let mut mode = RELAXED;
        // SAFETY: a place for a number, in and out.
        let status = unsafe { (calls.capture_mode)(&mut mode) };
        Relaxed { calls, before: (status == 0).then_some(mode) }
    }
}

impl Drop for Relaxed<'_> {
    fn drop(&mut self) {
        if let Some(mut mode) = self.before {
            // SAFETY: as above.
            unsafe { (self.calls.capture_mode)(&mut mode) };
        }
    }
}

/// A stream that records. The device's context must be current as long as it lives.
pub(super) struct Capture<'a> {
    device: &'a Device,
    stream: Handle,
    ended: bool,
}

impl<'a> Capture<'a> {
    /// Begins; nothing else uses `stream` until it is over.
    pub(super) fn begin(device: &'a Device, stream: Handle) -> Result<Self> {
        // SAFETY: a stream of the device.
        let status = unsafe { (device.driver.calls.capture_begin)(stream, THREAD_LOCAL) };
        device.check(status, "cuStreamBeginCapture")?;
        Ok(Capture { device, stream, ended: false })
    }

    /// Ends it: what was queued, ready to be launched.
    pub(super) fn end(mut self) -> Result<Handle> {
        self.ended = true;
        let calls = &self.device.driver.calls;
        let (mut graph, mut exec) = (0, 0);
        // SAFETY: a stream that records; places for handles. The graph is destroyed whether or not it could be made
        // executable.
        unsafe {
            let status = (calls.capture_end)(self.stream, &mut graph);
            let mut result = self.device.check(status, "cuStreamEndCapture");
            if graph != 0 {
                if result.is_ok() {
                    let status = (calls.graph_instantiate)(&mut exec, graph, 0);
                    result = self.device.check(status, "cuGraphInstantiate");
                }
                (calls.graph_destroy)(graph);
            }
            result.map(|()| exec)
        }
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let calls = &self.device.driver.calls;
        let mut graph = 0;
        // SAFETY: as above; a failure has been told already, or the thread panics.
        unsafe {
            (calls.capture_end)(self.stream, &mut graph);
            if graph != 0 {
                (calls.graph_destroy)(graph);
            }
        }
    }
}
