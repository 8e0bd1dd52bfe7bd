//! In: a caller's picture in the memory of a CUDA device, and its stream. Out: the picture, filled or read, in order with
//! what else is on that stream. Whose device and context the memory is of is asked of the driver; the thread's own context
//! is left as it was.
#![allow(unsafe_code, reason = "a caller's pixels are reached through its pointer")]

use super::calls::{Address, Calls, Copy2D, Handle};
use super::driver::CudaDriver;
use super::owner::Owner;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Layout;
use std::sync::Arc;

/// CU_MEMORYTYPE_*
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// Bytes that a driver takes along with a copy's command.
const AT_ONCE: usize = 64 << 10;

/// A caller's pixels in device memory, to be filled.
pub struct CudaImage {
    driver: Arc<CudaDriver>,
    /// The first byte of the top row.
    top: Address,
    layout: Layout,
    stream: Handle,
    owner: Owner,
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
        let owner = driver.owner_by(first, stream)?;
        driver.owner(last)?;
        Ok(CudaImage { driver, top, layout, stream, owner })
    }

    /// Whether it lies in the memory of that device, in that context where it is of one.
    pub(super) fn is_of(&self, ordinal: u32, context: Handle) -> bool {
        self.owner.ordinal == ordinal && (self.owner.context == 0 || self.owner.context == context)
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
            turn_over(bytes, row);
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
        self.within(|calls| {
            // SAFETY: the rows lie in the caller's memory, by the promise made to `from_raw`. The driver may go on reading
            // more than a little of the source when the call has returned, so it is waited for, also where queueing failed.
            let (status, waited) = unsafe {
                let status = (calls.copy_2d)(&copy, self.stream);
                let waits = bytes.len() > AT_ONCE;
                (status, if waits { (calls.stream_wait)(self.stream) } else { 0 })
            };
            calls.check(status, "a copy into the image")?;
            calls.check(waited, "waiting for the image's stream")
        })
    }

    /// What the pixels are after all that was queued on the stream, laid out as [`staging`](Self::staging) says.
    ///
    /// # Errors
    /// `Device`, `OutOfMemory`.
    pub fn fetch(&self) -> Result<Vec<u8>> {
        let (row, height) = (self.layout.row_length(), self.layout.height);
        let (before, _) = self.layout.extent()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(row * height).map_err(|_| {
            let what = format!("no memory for {} bytes of pixels", row * height);
            Error::new(ErrorKind::OutOfMemory, what)
        })?;
        bytes.resize(row * height, 0);
        let copy = Copy2D {
            source_kind: DEVICE,
            source: self.top - before as u64,
            source_pitch: self.layout.row_bytes.unsigned_abs(),
            target_kind: HOST,
            target_host: bytes.as_mut_ptr().cast(),
            target_pitch: row,
            bytes: row,
            height,
            ..Copy2D::default()
        };
        self.within(|calls| {
            // SAFETY: as above; there is room for all rows, and it is waited for them, also where queueing failed.
            let (status, waited) =
                unsafe { ((calls.copy_2d)(&copy, self.stream), (calls.stream_wait)(self.stream)) };
            calls.check(status, "a copy out of the image")?;
            calls.check(waited, "waiting for the image's stream")
        })?;
        if self.layout.row_bytes < 0 {
            turn_over(&mut bytes, row);
        }
        Ok(bytes)
    }

    /// Waits until all that was queued on the stream is done.
    ///
    /// # Errors
    /// `Device`.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: a stream of the image's device, by the promise made to `from_raw`.
        self.within(|calls| {
            let status = unsafe { (calls.stream_wait)(self.stream) };
            calls.check(status, "waiting for the image's stream")
        })
    }

    /// Runs `work` in the memory's own context.
    fn within(&self, work: impl FnOnce(&Calls) -> Result<()>) -> Result<()> {
        let calls = &self.driver.calls;
        let mut context = self.owner.context;
        // SAFETY: the context is the memory's own, or its device's, retained for as long as the process lives (a host
        // has it in use anyway); it is popped again.
        unsafe {
            if context == 0 {
                let status = (calls.context_retain)(&mut context, self.owner.ordinal as i32);
                calls.check(status, "the context of the image's device")?;
            }
            calls.check((calls.context_push)(context), "the context of the image")?;
            let result = work(calls);
            let mut popped = 0;
            (calls.context_pop)(&mut popped);
            result
        }
    }
}

/// Exchanges the first row for the last, and so on.
fn turn_over(bytes: &mut [u8], row: usize) {
    let height = bytes.len() / row.max(1);
    for y in 0..height / 2 {
        let (upper, lower) = bytes.split_at_mut((height - 1 - y) * row);
        upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
    }
}
