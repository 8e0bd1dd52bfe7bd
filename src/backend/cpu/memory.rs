//! In: the sizes that a network asks for. Out: buffers, aligned for vectors and used again and again, and
//! [`Tensor`], an activation in one of them.
#![allow(unsafe_code, reason = "a place that threads share")]

use super::lines::{Line, Lines};
use super::region::{Place, Regions};
use parking_lot::Mutex;
use std::sync::Arc;

/// Buffers from this many bytes on lie in regions of their own, so that no small one keeps two large ones apart.
const LARGE_BYTES: usize = 256 << 10;

/// Buffers that are used again and again. A network asks for the same sizes at every step, and fresh memory of the system
/// costs a fault per page.
///
/// What is held in all exceeds the peak of what is used, which a dry run tells (`shapes.rs`), by a quarter at most: idle
/// memory that would make it more goes back to the system.
#[derive(Default)]
pub(super) struct Pool(Mutex<Buffers>);

#[derive(Default)]
struct Buffers {
    small: Regions,
    large: Regions,
    used_bytes: usize,
    /// The most that was in use.
    peak_bytes: usize,
}

impl Buffers {
    /// Those in which so many lines are to lie.
    fn regions(&mut self, lines: usize) -> &mut Regions {
        if lines * size_of::<Line>() < LARGE_BYTES { &mut self.small } else { &mut self.large }
    }

    fn use_more(&mut self, bytes: usize) {
        self.used_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.used_bytes);
    }

    fn held_bytes(&self) -> usize {
        self.used_bytes + self.small.free_bytes() + self.large.free_bytes()
    }

    fn empty(&mut self) -> usize {
        self.small.empty() + self.large.empty()
    }
}

/// Where a buffer's values lie.
enum Memory {
    Shared(Place),
    Own(Lines),
}

impl Pool {
    /// A buffer of `length` values, whatever they are.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = length.div_ceil(16);
        let mut buffers = self.0.lock();
        buffers.use_more(lines * size_of::<Line>());
        let memory = Memory::Shared(buffers.regions(lines).take(lines));
        if buffers.held_bytes() > buffers.peak_bytes / 4 * 5 {
            buffers.empty();
        }
        Buffer { memory, length, pool: Arc::clone(self) }
    }

    /// A new buffer of `length` zeros in memory of its own: for what stays.
    pub(super) fn fresh(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = Lines::zeros(length.div_ceil(16));
        self.0.lock().use_more(lines.bytes());
        Buffer { memory: Memory::Own(lines), length, pool: Arc::clone(self) }
    }

    /// Gives all idle memory back to the system, and says how many bytes that were.
    pub(super) fn empty(&self) -> usize {
        self.0.lock().empty()
    }

    fn give_back(&self, memory: Memory) {
        let mut buffers = self.0.lock();
        match memory {
            Memory::Shared(place) => {
                let lines = place.len();
                buffers.used_bytes -= lines * size_of::<Line>();
                buffers.regions(lines).give_back(place);
            }
            Memory::Own(lines) => {
                buffers.used_bytes -= lines.bytes();
                drop(buffers);
                drop(lines);
            }
        }
    }

    /// The most bytes that are in use during `work`, besides those before it.
    #[cfg(test)]
    pub(super) fn during(&self, work: impl FnOnce()) -> u64 {
        let before = {
            let mut buffers = self.0.lock();
            buffers.peak_bytes = buffers.used_bytes;
            buffers.used_bytes
        };
        work();
        (self.0.lock().peak_bytes - before) as u64
    }

    /// What is in use or idle, in bytes.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.0.lock().held_bytes()
    }

    /// The most bytes that were ever in use.
    #[cfg(test)]
    pub(super) fn peak_bytes(&self) -> usize {
        self.0.lock().peak_bytes
    }
}

/// A run of values that returns to its pool.
pub(super) struct Buffer {
    memory: Memory,
    length: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn values(&self) -> &[f32] {
        let values = match &self.memory {
            Memory::Shared(place) => place.values(),
            Memory::Own(lines) => lines.values(),
        };
        &values[..self.length]
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        let values = match &mut self.memory {
            Memory::Shared(place) => place.values_mut(),
            Memory::Own(lines) => lines.values_mut(),
        };
        &mut values[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Own(Lines::default()));
        self.pool.give_back(memory);
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
        drop(first);
        assert_eq!(pool.take(90).values().as_ptr(), place);
        drop(second);
        // Whole lines of 64 bytes: 7 and 63 of them.
        assert_eq!(pool.held_bytes(), 64 * (7 + 63));
        assert_eq!(pool.empty(), 64 * (7 + 63));
        assert_eq!(pool.empty(), 0);
        // What was out while others went comes back all the same, large or small, as does what has memory of its own.
        for length in [16, LARGE_BYTES] {
            let (kept, own) = (pool.take(length), pool.fresh(length));
            pool.empty();
            assert_eq!(pool.held_bytes(), 8 * length);
            drop((kept, own));
            assert_eq!((pool.empty(), pool.held_bytes()), (4 * length, 0));
        }
    }
}
