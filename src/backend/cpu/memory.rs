//! In: the sizes that a network asks for. Out: buffers, aligned for vectors and used again and again, and
//! [`Tensor`], an activation in one of them.
#![allow(unsafe_code, reason = "a place that threads share")]

use super::lines::{Line, Lines};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Buffers from this many bytes on are used again for their own size only; smaller ones also for one that is a
/// quarter less.
const LARGE_BYTES: usize = 1 << 20;

/// Buffers that wait to be used again. A network asks for the same sizes at every step, and fresh memory
/// of the system costs a fault per page.
///
/// Idle buffers never take more than was in use before: what is held in all has the peak of what is used, which
/// a dry run tells (`shapes.rs`).
#[derive(Default)]
pub(super) struct Pool(Mutex<Buffers>);

#[derive(Default)]
struct Buffers {
    /// By their number of lines.
    idle: BTreeMap<usize, Vec<Lines>>,
    idle_bytes: usize,
    used_bytes: usize,
    /// The most that was in use.
    peak_bytes: usize,
}

impl Buffers {
    /// An idle buffer for `lines`.
    fn found(&mut self, lines: usize) -> Option<Lines> {
        let more = if lines * size_of::<Line>() < LARGE_BYTES { lines / 4 } else { 0 };
        let size = *self.idle.range(lines..=lines + more).next()?.0;
        let buffers = self.idle.get_mut(&size)?;
        let buffer = buffers.pop();
        if buffers.is_empty() {
            self.idle.remove(&size);
        }
        self.idle_bytes -= size * size_of::<Line>();
        buffer
    }

    /// Takes idle buffers out until the others fit beside what is in use, the largest first.
    fn surplus(&mut self) -> Vec<Lines> {
        let mut out = Vec::new();
        while self.used_bytes + self.idle_bytes > self.peak_bytes
            && let Some(mut largest) = self.idle.last_entry()
        {
            let bytes = largest.key() * size_of::<Line>();
            out.extend(largest.get_mut().pop());
            if largest.get().is_empty() {
                largest.remove();
            }
            self.idle_bytes -= bytes;
        }
        out
    }
}

impl Pool {
    /// A buffer of `length` values, whatever they are.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = length.div_ceil(16);
        let (found, surplus) = {
            let mut buffers = self.0.lock();
            let found = buffers.found(lines);
            buffers.used_bytes += found.as_ref().map_or(lines, Lines::len) * size_of::<Line>();
            buffers.peak_bytes = buffers.peak_bytes.max(buffers.used_bytes);
            let surplus = if found.is_none() { buffers.surplus() } else { Vec::new() };
            (found, surplus)
        };
        drop(surplus);
        let lines = found.unwrap_or_else(|| Lines::zeros(lines));
        Buffer { lines, length, pool: Arc::clone(self) }
    }

    /// A new buffer of `length` zeros, no larger than it must be: for what stays.
    pub(super) fn fresh(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = Lines::zeros(length.div_ceil(16));
        let mut buffers = self.0.lock();
        buffers.used_bytes += lines.bytes();
        buffers.peak_bytes = buffers.peak_bytes.max(buffers.used_bytes);
        Buffer { lines, length, pool: Arc::clone(self) }
    }

    /// Gives all idle buffers back to the system, and says how many bytes they had.
    pub(super) fn empty(&self) -> usize {
        let (idle, bytes) = {
            let mut buffers = self.0.lock();
            (std::mem::take(&mut buffers.idle), std::mem::take(&mut buffers.idle_bytes))
        };
        drop(idle);
        bytes
    }

    fn give_back(&self, lines: Lines) {
        let bytes = lines.bytes();
        let mut buffers = self.0.lock();
        buffers.used_bytes -= bytes;
        if bytes > 0 {
            buffers.idle_bytes += bytes;
            buffers.idle.entry(lines.len()).or_default().push(lines);
        }
    }

    /// The most bytes that are in use during `work`, besides those before it.
    #[cfg(test)]
    pub(super) fn during(&self, work: impl FnOnce()) -> u64 {
        let before = {
            let mut buffers = self.0.lock();
            buffers.peak_bytes = buffers.used_bytes;
            buffers.surplus();
            buffers.used_bytes
        };
        work();
        (self.0.lock().peak_bytes - before) as u64
    }

    /// What is in use or idle, in bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let buffers = self.0.lock();
        buffers.used_bytes + buffers.idle_bytes
    }

    /// The most bytes that were ever in use.
    #[cfg(test)]
    pub(super) fn peak_bytes(&self) -> usize {
        self.0.lock().peak_bytes
    }
}

/// A run of values that returns to its pool.
pub(super) struct Buffer {
    lines: Lines,
    length: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn values(&self) -> &[f32] {
        &self.lines.values()[..self.length]
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.lines.values_mut()[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.lines));
    }
}

/// An activation (samples, height, width, channels).
#[derive(Clone)]
pub struct Tensor {
    pub(super) shape: [usize; 4],
    data: Arc<Buffer>,
}

impl Tensor {
    /// `buffer` must hold as many values as `shape` says.
    pub(super) fn new(shape: [usize; 4], buffer: Buffer) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), buffer.length);
        Tensor { shape, data: Arc::new(buffer) }
    }

    pub(super) fn values(&self) -> &[f32] {
        self.data.values()
    }

    pub(super) fn channels(&self) -> usize {
        self.shape[3]
    }
}

/// A place that many threads write, each to values of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32, usize);

// SAFETY: whoever writes promises that no two threads write or read the same value.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(values: &mut [f32]) -> Self {
        Shared(values.as_mut_ptr(), values.len())
    }

    /// The value `start`, for who writes some from there on by pointer.
    pub(super) fn at(self, start: usize) -> *mut f32 {
        debug_assert!(start < self.1);
        self.0.wrapping_add(start)
    }

    /// `count` values from `start` on.
    ///
    /// # Safety
    /// The values that `Shared` was made of are still borrowed, and no other thread uses these.
    pub(super) unsafe fn part<'a>(self, start: usize, count: usize) -> &'a mut [f32] {
        debug_assert!(start + count <= self.1);
        // SAFETY: within the values, by the caller's count; alone, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_buffers_are_used_again_until_they_are_let_go() {
        let pool = Arc::new(Pool::default());
        let (first, second) = (pool.take(100), pool.take(1000));
        let place = first.values().as_ptr();
        assert_eq!(pool.empty(), 0, "both are in use");
        drop(first);
        assert_eq!(pool.take(110).values().as_ptr(), place);
        drop(second);
        // Whole lines of 64 bytes: 7 and 63 of them.
        assert_eq!(pool.empty(), 64 * (7 + 63));
        assert_eq!(pool.empty(), 0);
        // What was out while others went comes back all the same.
        let kept = pool.take(16);
        pool.empty();
        drop(kept);
        assert_eq!((pool.empty(), pool.held_bytes()), (64, 0));
    }
}
