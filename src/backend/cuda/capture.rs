//! In: a stream of a device's own. Out: what is queued there meanwhile, as a graph; a recording that isn't ended as it should
//! be, since what it records fails or panics, is ended all the same, and the stream can be used again.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::Handle;
use super::device::Device;
use crate::error::Result;

/// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile is theirs.
const THREAD_LOCAL: i32 = 1;

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
