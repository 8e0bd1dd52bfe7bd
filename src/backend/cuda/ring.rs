//! In: values in the host's memory. Out: the same in a device's, by way of memory that the device reads by itself: the
//! caller's is free when a copy has been queued, however the driver goes about memory that may be paged out.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Address, Calls, Handle};
use super::device::Device;
use super::lane::Lane;
use super::memory::{Mode, current};
use crate::error::{Error, Result};
use std::ffi::c_void;

/// Bytes of a part of the ring, and how many there are.
const PART: usize = 4 << 20;
const PARTS: usize = 4;
/// CU_EVENT_BLOCKING_SYNC and CU_EVENT_DISABLE_TIMING
const SLEEPS_UNTIMED: u32 = 3;

/// Memory of the host's that a device reads by itself, in parts that are filled one after the other.
#[derive(Default)]
pub(super) struct Ring {
    /// 0 as long as there is none.
    at: usize,
    /// After the last copy out of each part.
    read: [Handle; PARTS],
    part: usize,
    /// Bytes of the part that are in use.
    used: usize,
}

impl Ring {
    /// Lets it go, at the end of the device. The context must be current.
    pub(super) fn release(&mut self, calls: &Calls) {
        // SAFETY: ours, and not used again.
        unsafe {
            for event in self.read {
                if event != 0 {
                    (calls.event_destroy)(event);
                }
            }
            if self.at != 0 {
                (calls.pinned_give)(std::ptr::with_exposed_provenance_mut::<c_void>(self.at));
            }
        }
        *self = Ring::default();
    }

    /// Takes what it needs; false where there is no such memory. The context must be current.
    fn is_there(&mut self, device: &Device) -> Result<bool> {
        let calls = &device.driver.calls;
        for event in &mut self.read {
            if *event == 0 {
                // SAFETY: a place for a handle.
                let status = unsafe { (calls.event_create)(event, SLEEPS_UNTIMED) };
                device.check(status, "cuEventCreate")?;
            }
        }
        if self.at == 0 {
            let mut at = std::ptr::null_mut();
            // SAFETY: a place for a pointer.
            if unsafe { (calls.pinned_take)(&mut at, PART * PARTS, 0) } == 0 {
                self.at = at.expose_provenance();
            }
        }
        Ok(self.at != 0)
    }
}

impl Lane {
    /// Copies `values` to `address`, in order with what was queued. They are free when it returns.
    pub(super) fn copy_in<T: Copy>(&self, address: Address, values: &[T]) -> Result<()> {
        match current() {
            Mode::Run => {}
            Mode::Plan(_) => return Ok(()),
            Mode::Record(_) => {
                return Err(Error::internal("a copy from the host in a recorded step"));
            }
        }
        let mut ring = self.track().ring.lock();
        let _entered = self.enter()?;
        let calls = &self.driver.calls;
        let (from, bytes) = (values.as_ptr().cast::<u8>(), size_of_val(values));
        if !ring.is_there(self)? {
            // SAFETY: that many bytes are there, and at `address` by its owner; waited for, also where queueing failed.
            let (copied, waited) = unsafe {
                let copied = (calls.copy_in)(address, from.cast(), bytes, self.stream());
                (copied, (calls.stream_wait)(self.stream()))
            };
            self.check(copied, "a copy to the device")?;
            return self.check(waited, "waiting for a copy");
        }
        let mut done = 0;
        while done < bytes {
            if ring.used == PART {
                (ring.part, ring.used) = ((ring.part + 1) % PARTS, 0);
                // SAFETY: an event of ours; one that was never recorded is over.
                let status = unsafe { (calls.event_wait)(ring.read[ring.part]) };
                self.check(status, "waiting for a copy")?;
            }
            let length = (bytes - done).min(PART - ring.used);
            let place = ring.at + ring.part * PART + ring.used;
            let place = std::ptr::with_exposed_provenance_mut::<u8>(place);
            // SAFETY: that many bytes are there, in the part, which nothing reads from here on, and at `address` by its
            // owner. What was not marked is waited for.
            let (copied, marked) = unsafe {
                std::ptr::copy_nonoverlapping(from.add(done), place, length);
                let to = address + done as u64;
                let copied = (calls.copy_in)(to, place.cast_const().cast(), length, self.stream());
                let marked = (calls.event_record)(ring.read[ring.part], self.stream());
                if marked != 0 {
                    (calls.stream_wait)(self.stream());
                }
                (copied, marked)
            };
            self.check(copied, "a copy to the device")?;
            self.check(marked, "cuEventRecord")?;
            done += length;
            // The next begins as aligned as this one.
            ring.used = (ring.used + length).next_multiple_of(256);
        }
        Ok(())
    }
}
