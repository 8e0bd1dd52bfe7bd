//! In: a caller's picture in the memory of a CUDA device, and its stream. Out: the picture, filled, in order with what
//! else is on that stream. Whose device and context the memory is of is asked of the driver; the thread's own context
//! is left as it was.
#![allow(unsafe_code, reason = "a caller's pixels are reached through its pointer")]

use super::calls::{Address, Copy2D, Handle};
use super::driver::CudaDriver;
use crate::error::{Error, Result};
use crate::frame::Layout;
use std::ffi::c_void;
use std::sync::Arc;

/// CU_POINTER_ATTRIBUTE_*
mod attribute {
    pub(super) const CONTEXT: i32 = 1;
    pub(super) const MEMORY_TYPE: i32 = 2;
    pub(super) const ORDINAL: i32 = 9;
}
/// CU_MEMORYTYPE_*
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// A caller's pixels in device memory, to be filled.
pub struct CudaImage {
    driver: Arc<CudaDriver>,
    /// The first byte of the top row.
    top: Address,
    layout: Layout,
    stream: Handle,
    /// 0 where the memory is of no one context: it has a device then.
    context: Handle,
    ordinal: i32,
}

impl CudaImage {
    /// The picture whose top row starts at `top`, filled in order on the CUstream `stream` (0: the default one).
    ///
    /// # Errors
    /// `Unsupported` where this machine has no driver, `InvalidArgument` where `layout` cannot be or the memory is not
    /// a device's.
    ///
    /// # Safety
    /// The pixels that `layout` describes lie in one allocation, and nothing else writes them until what `fill` has
    /// queued is done. `stream` is a stream of the same device, and lives as long.
    // SAFETY: unsafe for the caller; only the driver is asked here.
    pub unsafe fn from_raw(top: u64, layout: Layout, stream: usize) -> Result<Self> {
        let driver = CudaDriver::find()?;
        let (before, after) = layout.extent()?;
        let (first, last) = (top.checked_sub(before as u64), top.checked_add(after as u64 - 1));
        let (Some(first), Some(last)) = (first.filter(|_| top != 0), last) else {
            return Err(Error::invalid(format!(
                "CUDA: image data at {top:#x}: no device's memory"
            )));
        };
        let mut image = CudaImage { driver, top, layout, stream, context: 0, ordinal: 0 };
        for address in [first, last] {
            let mut kind = 0u32;
            if !image.ask(attribute::MEMORY_TYPE, &mut kind, address) || kind != DEVICE {
                return Err(Error::invalid(format!(
                    "CUDA: image data at {address:#x} is no device's memory; wanted LB_MEMORY_HOST for it, or a \
                     pointer that a CUDA device reads"
                )));
            }
        }
        let (mut context, mut ordinal) = (0usize, 0i32);
        if image.ask(attribute::CONTEXT, &mut context, top) {
            image.context = context;
        }
        if image.ask(attribute::ORDINAL, &mut ordinal, top) {
            image.ordinal = ordinal;
        }
        Ok(image)
    }

    /// Whether it lies in the memory of that device, in that context where it is of one.
    pub(super) fn is_of(&self, ordinal: u32, context: Handle) -> bool {
        self.ordinal == ordinal as i32 && (self.context == 0 || self.context == context)
    }

    pub(super) fn top(&self) -> Address {
        self.top
    }

    pub(super) fn stream(&self) -> Handle {
        self.stream
    }

    /// How its pixels lie, and what they mean.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Asks the driver about an address; false where it knows nothing.
    fn ask<T>(&self, what: i32, value: &mut T, address: Address) -> bool {
        let place = std::ptr::from_mut(value).cast::<c_void>();
        // SAFETY: a place for a value of the type that this attribute has.
        unsafe { (self.driver.calls.pointer_attribute)(place, what, address) == 0 }
    }

    /// The layout of the bytes that [`fill`](Self::fill) takes.
    pub fn staging(&self) -> Layout {
        let Layout { width, height, format, transfer, .. } = self.layout;
        Layout::packed(width, height, format, transfer)
    }

    /// Queues a copy of `bytes`, which are laid out as [`staging`](Self::staging) says and free when this returns.
    ///
    /// # Errors
    /// `Device`.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let (row, height) = (self.layout.row_length(), self.layout.height);
        if bytes.len() != row * height {
            return Err(Error::internal(format!("{} bytes of a picture", bytes.len())));
        }
        let (before, _) = self.layout.extent()?;
        if self.layout.row_bytes < 0 {
            // The lowest address is the bottom row's.
            for y in 0..height / 2 {
                let (upper, lower) = bytes.split_at_mut((height - 1 - y) * row);
                upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
            }
        }
        let copy = Copy2D {
            source_kind: HOST,
            source_host: bytes.as_ptr().cast(),
            source_pitch: row,
            target_kind: DEVICE,
            target: self.top - before as u64,
            target_pitch: self.layout.row_bytes.unsigned_abs(),
            bytes: row,
            height,
            ..Copy2D::default()
        };
        let calls = &self.driver.calls;
        let mut context = self.context;
        // SAFETY: the context is the memory's own, or its device's, retained for as long as the process lives (a host
        // has it in use anyway); it is popped again. The rows lie in the caller's memory, by the promise made to
        // `from_raw`; a copy from pageable memory returns when its source has been read.
        unsafe {
            if context == 0 {
                let status = (calls.context_retain)(&mut context, self.ordinal);
                calls.check(status, "the context of the image's device")?;
            }
            calls.check((calls.context_push)(context), "the context of the image")?;
            let status = (calls.copy_2d)(&copy, self.stream);
            let mut popped = 0;
            (calls.context_pop)(&mut popped);
            calls.check(status, "a copy into the image")
        }
    }
}
