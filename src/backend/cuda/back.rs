//! In: a picture on a device. Out: the bytes that a caller wants of it, in the host's memory: converted there, and copied
//! once, by way of memory that the device reaches by itself.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Address, Calls, Handle};
use super::kernels::CONVERT;
use super::lane::Lane;
use super::lent::{CudaPicture, THREADS, blocks, parameters};
use super::memory::{Block, Mode, current};
use super::tensor::held;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Layout, Placement};
use std::ffi::c_void;

/// The most bytes that are copied at once.
const PIECE: usize = 16 << 20;
/// CU_EVENT_BLOCKING_SYNC and CU_EVENT_DISABLE_TIMING
const SLEEPS_UNTIMED: u32 = 3;

/// Memory of the host's that a device writes to by itself, and the event that says when it has.
#[derive(Default)]
pub(super) struct Pinned {
    /// 0 as long as there is none.
    at: usize,
    done: Handle,
}

impl Pinned {
    /// Lets it go, at the end of the device. The context must be current.
    pub(super) fn release(&mut self, calls: &Calls) {
        // SAFETY: ours, and not used again.
        unsafe {
            if self.done != 0 {
                (calls.event_destroy)(self.done);
            }
            if self.at != 0 {
                (calls.pinned_give)(std::ptr::with_exposed_provenance_mut::<c_void>(self.at));
            }
        }
        *self = Pinned::default();
    }
}

impl CudaPicture {
    /// The bytes that [`Frame::write`](crate::Frame::write) writes into an image of such a layout: without what lies
    /// between rows, top row first. They are there when this returns.
    ///
    /// # Errors
    /// `InvalidArgument` where sizes do not agree or the placement cannot be; `Device`, `OutOfMemory`.
    pub fn read(&self, layout: &Layout, placement: Option<&Placement>) -> Result<Vec<u8>> {
        let lane = &self.lane;
        let Layout { width, height, format, transfer, .. } = *layout;
        let layout = Layout::packed(width, height, format, transfer);
        let (_, length) = layout.extent()?;
        let tables = self.tables(&layout, placement)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| {
            Error::new(ErrorKind::OutOfMemory, format!("no memory for {length} bytes of pixels"))
        })?;
        bytes.resize(length, 0);
        let table = match &tables {
            Some(tables) => Some(held(lane, &tables.words)?),
            None => None,
        };
        let block = Block::new(lane, length as u64)?;
        let values = &self.values;
        let told = parameters(values, block.address(), &layout, tables.as_ref(), table.as_ref())?;
        lane.launch(CONVERT, [u64::from(blocks(&layout)), 1, 1], THREADS, 0, &told)?;
        lane.copy_back(&mut bytes, block.address())?;
        Ok(bytes)
    }
}

impl Lane {
    /// Fills `values` from `address`, after what was queued.
    pub(super) fn copy_out(&self, values: &mut [f32], address: u64) -> Result<()> {
        if !matches!(current(), Mode::Run) {
            return Err(Error::internal("a copy to the host in a recorded step"));
        }
        let _entered = self.enter()?;
        let to = values.as_mut_ptr().cast::<c_void>();
        // SAFETY: room for that many bytes, which are there at `address` by its owner; waited for below, also
        // where queueing failed.
        unsafe {
            let calls = &self.driver.calls;
            let status = (calls.copy_out)(to, address, size_of_val(values), self.stream());
            let waited = (calls.stream_wait)(self.stream());
            self.check(status, "a copy from the device")?;
            self.check(waited, "waiting for the device")
        }
    }

    /// Fills `bytes` from `address`, after what was queued, and waits for no more than that.
    fn copy_back(&self, bytes: &mut [u8], address: Address) -> Result<()> {
        let mut pinned = self.track().pinned.lock();
        let _entered = self.enter()?;
        let calls = &self.driver.calls;
        if pinned.done == 0 {
            // SAFETY: a place for a handle.
            let status = unsafe { (calls.event_create)(&mut pinned.done, SLEEPS_UNTIMED) };
            self.check(status, "cuEventCreate")?;
        }
        if pinned.at == 0 {
            let mut at = std::ptr::null_mut();
            // SAFETY: a place for a pointer. Without such memory the driver copies in its own way.
            if unsafe { (calls.pinned_take)(&mut at, PIECE, 0) } == 0 {
                pinned.at = at.expose_provenance();
            }
        }
        let mut from = address;
        for part in bytes.chunks_mut(PIECE) {
            let own = std::ptr::with_exposed_provenance_mut::<u8>(pinned.at);
            let to = if pinned.at == 0 { part.as_mut_ptr() } else { own };
            // SAFETY: a piece's room, or the caller's; as many bytes are at `from`, by the owner of the block. Nothing
            // is left queued that writes there, also where queueing failed.
            let (copied, marked, waited) = unsafe {
                (
                    (calls.copy_out)(to.cast(), from, part.len(), self.stream()),
                    (calls.event_record)(pinned.done, self.stream()),
                    (calls.event_wait)(pinned.done),
                )
            };
            self.check(copied, "a copy from the device")?;
            self.check(marked, "cuEventRecord")?;
            self.check(waited, "waiting for a copy")?;
            if pinned.at != 0 {
                // SAFETY: as many bytes were written there, and nobody else has the memory while the lock is held.
                part.copy_from_slice(unsafe { std::slice::from_raw_parts(own, part.len()) });
            }
            from += part.len() as u64;
        }
        Ok(())
    }
}
