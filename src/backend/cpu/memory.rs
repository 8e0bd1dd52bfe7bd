//! In: the sizes that a network asks for. Out: buffers, aligned for vectors and used again and again, and
//! [`Tensor`], an activation in one of them.
#![allow(unsafe_code, reason = "a place that threads share")]

use super::lines::{Line, Lines};
use super::region::{Place, Regions};
use parking_lot::Mutex;
use std::sync::Arc;

/// Buffers from this many bytes on lie in regions of their own, so that no small one keeps two large ones apart.
const LARGE_BYTES: usize = 256 << 10;
/// Bytes of a region of small ones, and of large ones.
const RESERVE: [usize; 2] = [16 << 20, 512 << 20];

/// What may be held beyond the peak of what was in use: holes that nothing fits into, and pages that buffers don't fill.
pub(super) const SLACK_BYTES: usize = 32 << 20;

/// Buffers that are used again and again. A network asks for the same sizes at every step, and fresh memory of the system
/// costs a fault per page.
///
/// What they hold in all is little more than the peak of what is used, which a dry run tells (`shapes.rs`): idle memory that
/// would make it more than a quarter more, or more than [`SLACK_BYTES`], goes back to the system (where it takes pages back one
/// by one: `LAZY`).
pub(super) struct Pool(Mutex<Buffers>);

impl Default for Pool {
    fn default() -> Self {
        let [small, large] = RESERVE.map(Regions::new);
        Pool(Mutex::new(Buffers { small, large, shared: Use::default(), all: Use::default() }))
    }
}

/// Bytes in use, and the most that were.
#[derive(Default)]
struct Use {
    bytes: usize,
    peak: usize,
}

impl Use {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.peak = self.peak.max(self.bytes);
    }
}

struct Buffers {
    small: Regions,
    large: Regions,
    /// Of regions.
    shared: Use,
    /// What has memory of its own included.
    all: Use,
}

impl Buffers {
    /// Those in which so many lines are to lie.
    fn regions(&mut self, lines: usize) -> &mut Regions {
        if lines * size_of::<Line>() < LARGE_BYTES { &mut self.small } else { &mut self.large }
    }

    /// Memory of regions.
    fn held_bytes(&self) -> usize {
        self.small.held_bytes() + self.large.held_bytes()
    }

    fn forget(&mut self, bytes: usize) -> usize {
        let large = self.large.forget(bytes);
        large + self.small.forget(bytes - large.min(bytes))
    }
}

/// The most bytes that are held where at most `peak` are in use at once.
fn allowed(peak: usize) -> usize {
    peak + (peak / 4).clamp(1 << 20, SLACK_BYTES)
}

/// Where a buffer's values lie.
enum Memory {
    Shared(Place),
    Own(Lines),
}

impl Pool {
    /// A buffer of `length` values, whatever they are.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        #[cfg(all(test, target_os = "linux"))]
        if super::guard::on() {
            let mut lines = Lines::zeros(length.div_ceil(16));
            lines.values_mut().fill(super::guard::UNWRITTEN);
            self.0.lock().all.add(lines.bytes());
            return Buffer { memory: Memory::Own(lines), length, pool: Arc::clone(self) };
        }
        let lines = length.div_ceil(16);
        let mut buffers = self.0.lock();
        buffers.all.add(lines * size_of::<Line>());
        buffers.shared.add(lines * size_of::<Line>());
        let memory = Memory::Shared(buffers.regions(lines).take(lines));
        let more = buffers.held_bytes().saturating_sub(allowed(buffers.shared.peak));
        if more > 0 {
            buffers.forget(more);
        }
        Buffer { memory, length, pool: Arc::clone(self) }
    }

    /// A new buffer of `length` zeros in memory of its own: for what stays.
    pub(super) fn fresh(self: &Arc<Self>, length: usize) -> Buffer {
        let lines = Lines::zeros(length.div_ceil(16));
        self.0.lock().all.add(lines.bytes());
        Buffer { memory: Memory::Own(lines), length, pool: Arc::clone(self) }
    }

    /// Gives all idle memory back to the system, and says how many bytes that were.
    pub(super) fn empty(&self) -> usize {
        self.0.lock().forget(usize::MAX)
    }

    fn give_back(&self, memory: Memory) {
        let mut buffers = self.0.lock();
        match memory {
            Memory::Shared(place) => {
                let lines = place.len();
                buffers.all.bytes -= lines * size_of::<Line>();
                buffers.shared.bytes -= lines * size_of::<Line>();
                buffers.regions(lines).give_back(place);
            }
            Memory::Own(lines) => {
                buffers.all.bytes -= lines.bytes();
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
            buffers.all.peak = buffers.all.bytes;
            buffers.all.bytes
        };
        work();
        (self.0.lock().all.peak - before) as u64
    }

    /// What regions hold, in use or idle, and the most that was ever in use of them, in bytes.
    #[cfg(test)]
    pub(super) fn held_and_peak_bytes(&self) -> [usize; 2] {
        let buffers = self.0.lock();
        [buffers.held_bytes(), buffers.shared.peak]
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
    use crate::backend::cpu::lines::LAZY;

    #[test]
    fn idle_buffers_are_used_again_until_they_are_let_go() {
        let pool = Arc::new(Pool::default());
        let (first, second) = (pool.take(100), pool.take(1000));
        let place = first.values().as_ptr();
        drop(first);
        assert_eq!(pool.take(100).values().as_ptr(), place);
        drop(second);
        let [held, _] = pool.held_and_peak_bytes();
        assert!(held >= 1100 * 4);
        assert_eq!((pool.empty(), pool.empty()), (held, 0));
        // What was out while others went comes back all the same, large or small, as does what has memory of its own.
        for length in [16, LARGE_BYTES] {
            let (kept, own) = (pool.take(length), pool.fresh(length));
            pool.empty();
            let [held, _] = pool.held_and_peak_bytes();
            assert!((4 * length..4 * length + (128 << 10)).contains(&held), "{held} of {length}");
            drop((kept, own));
            assert_eq!((pool.empty(), pool.held_and_peak_bytes()[0]), (held, 0));
        }
    }

    #[test]
    fn what_is_held_stays_near_the_peak_of_what_was_in_use() {
        if !LAZY {
            return println!("skipped: this system takes no single pages back");
        }
        let pool = Arc::new(Pool::default());
        // Sizes that fit no hole, beside others that stay for a while; some are let go of all at once now and then.
        let mut kept: Vec<Buffer> = Vec::new();
        let mut random = 1u64;
        for turn in 0..4000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let size = 1 << (8 + (random >> 40) % 13);
            kept.push(pool.take(size + (random >> 45) as usize % size));
            let [held, peak] = pool.held_and_peak_bytes();
            assert!(held <= allowed(peak), "turn {turn}: {held} bytes held, {peak} in use");
            if kept.len() > 12 {
                kept.swap_remove((random >> 33) as usize % kept.len());
                kept.swap_remove((random >> 37) as usize % kept.len());
            }
            if turn % 500 == 499 {
                pool.empty();
            }
        }
    }
}
