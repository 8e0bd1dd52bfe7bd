//! In: the sizes that a network asks for. Out: buffers, aligned for vectors and used again and again, and
//! [`Tensor`], an activation in one of them.
#![allow(unsafe_code, reason = "lines of 16 values seen as values")]

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One cache line, so that a vector never straddles two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Idle buffers above this many bytes in all go back to the system.
const IDLE_BYTES: usize = 256 << 20;

/// Before a new buffer of as many bytes is made, idle ones of other sizes go.
const LARGE_BYTES: usize = 32 << 20;

/// Buffers that wait to be used again. A network asks for the same sizes at every step, and fresh memory
/// of the system costs a fault per page.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<BTreeMap<usize, Vec<Vec<Line>>>>,
    idle_bytes: AtomicUsize,
}

impl Pool {
    /// A buffer of `length` values, whatever they are.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = length.div_ceil(16);
        let found = {
            let mut idle = self.idle.lock();
            // One up to a quarter too large is better than another.
            let size = idle.range(lines..=lines + lines / 4).next().map(|(&size, _)| size);
            size.and_then(|size| {
                let buffers = idle.get_mut(&size)?;
                let buffer = buffers.pop();
                if buffers.is_empty() {
                    idle.remove(&size);
                }
                buffer
            })
        };
        let lines = match found {
            Some(found) => {
                self.idle_bytes.fetch_sub(size_of_val(&*found), Ordering::Relaxed);
                found
            }
            None => {
                if lines * size_of::<Line>() >= LARGE_BYTES {
                    self.empty();
                }
                vec![Line([0.0; 16]); lines]
            }
        };
        Buffer { lines, length, pool: Arc::clone(self) }
    }

    /// Gives all idle buffers back to the system, and says how many bytes they had.
    pub(super) fn empty(&self) -> usize {
        let idle = std::mem::take(&mut *self.idle.lock());
        let bytes = |lines: &Vec<Line>| size_of_val(&**lines);
        let sum = idle.values().flatten().map(bytes).sum();
        self.idle_bytes.fetch_sub(sum, Ordering::Relaxed);
        sum
    }

    fn give_back(&self, lines: Vec<Line>) {
        let bytes = size_of_val(&*lines);
        if bytes == 0 || self.idle_bytes.load(Ordering::Relaxed) + bytes > IDLE_BYTES {
            return;
        }
        self.idle_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.idle.lock().entry(lines.len()).or_default().push(lines);
    }
}

/// A run of values that returns to its pool.
pub(super) struct Buffer {
    lines: Vec<Line>,
    length: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn values(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 values without gaps, and `length` of them lie within the lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
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
        assert_eq!((pool.empty(), pool.idle_bytes.load(Ordering::Relaxed)), (64, 0));
    }
}
