//! In: something that a host has on a CUDA device: memory, a stream, a context. Out: whose it is, as its driver says. The
//! thread's current context is left as it was.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Address, Handle};
use super::driver::CudaDriver;
use crate::error::{Error, Result};
use std::ffi::c_void;

/// CU_POINTER_ATTRIBUTE_*
mod attribute {
    pub(super) const CONTEXT: i32 = 1;
    pub(super) const MEMORY_TYPE: i32 = 2;
    pub(super) const ORDINAL: i32 = 9;
}
/// CU_MEMORYTYPE_DEVICE
const DEVICE: u32 = 2;

/// Whose a device's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) ordinal: u32,
    /// 0 where the memory is of no one context.
    pub(super) context: Handle,
}

impl CudaDriver {
    /// The device in whose memory `address` lies.
    ///
    /// # Errors
    /// `InvalidArgument` where that is no device's memory.
    pub fn of_pointer(&self, address: u64) -> Result<u32> {
        self.owner(address).map(|owner| owner.ordinal)
    }

    /// The device of a CUstream; of 0, the default stream, that of the thread's current context.
    ///
    /// # Errors
    /// `InvalidArgument` where the driver doesn't know.
    ///
    /// # Safety
    /// `stream` is 0 or a stream that lives.
    // SAFETY: unsafe for the caller, who knows the stream.
    pub unsafe fn of_stream(&self, stream: usize) -> Result<u32> {
        let mut context = 0;
        // SAFETY: passed on; a place for a handle.
        let status = unsafe { (self.calls.stream_context)(stream, &mut context) };
        let what = format!("stream {stream:#x}");
        let wanted = "wanted a live CUstream, or NULL with a current context";
        self.known(status, &what, wanted)?;
        // SAFETY: what a living stream is of lives.
        unsafe { self.of_context(context) }
    }

    /// The device of a CUcontext; of 0 that of the thread's current one.
    ///
    /// # Errors
    /// `InvalidArgument` where there is none, or the driver doesn't know it.
    ///
    /// # Safety
    /// `context` is 0 or a context that lives.
    // SAFETY: unsafe for the caller, who knows the context.
    pub unsafe fn of_context(&self, context: usize) -> Result<u32> {
        let wanted = "wanted a live CUcontext, or NULL with a current one";
        let mut own = context;
        // SAFETY: places for handles and a number; what is pushed is the caller's living context, and is popped again.
        unsafe {
            if own == 0 {
                let status = (self.calls.context_current)(&mut own);
                self.known(status, "the current context", wanted)?;
            }
            let what = format!("context {own:#x}");
            if own == 0 {
                return Err(Error::invalid(format!("CUDA: {what}: {wanted}")));
            }
            self.known((self.calls.context_push)(own), &what, wanted)?;
            let (mut ordinal, mut popped) = (0, 0);
            let status = (self.calls.context_device)(&mut ordinal);
            (self.calls.context_pop)(&mut popped);
            self.known(status, &what, wanted)?;
            Ok(ordinal.max(0) as u32)
        }
    }

    /// Whose memory `address` is in, as far as `stream` tells where the memory is of no one context: of a pool, or
    /// mapped. It is then used in the stream's context, for no other knows the stream.
    pub(super) fn owner_by(&self, address: Address, stream: Handle) -> Result<Owner> {
        let mut owner = self.owner(address)?;
        let mut context = 0;
        // SAFETY: a stream that lives, or 0, by the promise made to `CudaImage::from_raw`; a place for a handle.
        if owner.context == 0
            && unsafe { (self.calls.stream_context)(stream, &mut context) } == 0
            // SAFETY: what a living stream is of lives.
            && unsafe { self.of_context(context) }.is_ok_and(|ordinal| ordinal == owner.ordinal)
        {
            owner.context = context;
        }
        Ok(owner)
    }

    /// Whose memory `address` is in.
    pub(super) fn owner(&self, address: Address) -> Result<Owner> {
        let (mut kind, mut context, mut ordinal) = (0u32, 0usize, 0i32);
        if !self.ask(attribute::MEMORY_TYPE, &mut kind, address) || kind != DEVICE {
            return Err(Error::invalid(format!(
                "CUDA: data at {address:#x} is no device's memory: wanted a pointer that a CUDA device reads"
            )));
        }
        if !self.ask(attribute::CONTEXT, &mut context, address) {
            context = 0;
        }
        if !self.ask(attribute::ORDINAL, &mut ordinal, address) {
            ordinal = 0;
        }
        Ok(Owner { ordinal: ordinal.max(0) as u32, context })
    }

    /// Asks about an address; false where the driver knows nothing.
    fn ask<T>(&self, what: i32, value: &mut T, address: Address) -> bool {
        let place = std::ptr::from_mut(value).cast::<c_void>();
        // SAFETY: a place for a value of the type that this attribute has.
        unsafe { (self.calls.pointer_attribute)(place, what, address) == 0 }
    }

    fn known(&self, status: i32, what: &str, wanted: &str) -> Result<()> {
        let unknown = |e: Error| Error::invalid(format!("{}: {wanted}", e.message()));
        self.calls.check(status, what).map_err(unknown)
    }
}
