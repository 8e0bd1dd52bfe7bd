//! In: lengths. Out: blocks of device memory, which come back when they are dropped.
//!
//! Memory is taken from the driver in large pieces and kept, so that no step asks for any once it has run before.
//! Each piece is of one lane, whose work goes through one stream, so a block that is given back may be handed out at once:
//! whoever uses it next comes later in that order. A piece changes lanes by way of the driver only, when both are idle.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Address, Calls, Handle, OUT_OF_MEMORY};
use super::device::Device;
use super::lane::Lane;
use super::space::Space;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The least that is asked of the driver at once.
const PIECE: u64 = 32 << 20;

/// A range that a recorded step has to itself.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    pub(super) base: Address,
    pub(super) space: Arc<Mutex<Space>>,
}

/// What a thread's operations do.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// They are queued, in memory of the pool.
    Run,
    /// Nothing but taking and giving back places in the arena: how much is needed?
    Plan(Arena),
    /// They are recorded, in memory of the arena.
    Record(Arena),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Run) };
}

/// The mode of this thread.
pub(super) fn current() -> Mode {
    MODE.with_borrow(Mode::clone)
}

/// Runs `work` in another mode.
pub(super) fn in_mode<T>(mode: Mode, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Mode>);
    impl Drop for Back {
        fn drop(&mut self) {
            MODE.set(self.0.take().unwrap_or(Mode::Run));
        }
    }
    let _back = Back(Some(MODE.replace(mode)));
    work()
}

/// A range that was taken from the driver.
struct Piece {
    lane: usize,
    base: Address,
    space: Space,
}

/// The pieces that a device's pool has.
#[derive(Default)]
pub(super) struct Memory {
    pieces: Vec<Piece>,
    /// Where each block is a piece of the driver's by itself: the bytes of all.
    exact: Option<u64>,
    /// The most that may be had from the driver, in bytes; `None`: what there is.
    pub(super) limit: Option<u64>,
}

impl Memory {
    /// With LATENTBLEND_CUDA_EXACT=1 what a block takes is asked of the driver by itself, to the byte, and given back with
    /// it: slow, but whoever watches the driver's memory (compute-sanitizer) sees what reaches beyond a block.
    pub(super) fn new() -> Self {
        let exact = std::env::var_os("LATENTBLEND_CUDA_EXACT").is_some_and(|value| value == "1");
        Memory { exact: exact.then_some(0), ..Memory::default() }
    }

    /// What was taken from the driver, in bytes.
    pub(super) fn held(&self) -> u64 {
        let pieces = self.pieces.iter().map(|piece| piece.space.length());
        pieces.sum::<u64>() + self.exact.unwrap_or(0)
    }

    /// What a lane holds of it for itself, in bytes: pieces of which it uses something. Others are anybody's
    /// ([`idle`](Self::idle)).
    pub(super) fn held_by(&self, lane: usize) -> u64 {
        let own = |piece: &&Piece| piece.lane == lane && !piece.space.is_free();
        self.pieces.iter().filter(own).map(|piece| piece.space.length()).sum()
    }

    /// What lies idle for a lane, in bytes: of its own pieces, and those of others that are idle as a whole.
    pub(super) fn idle(&self, lane: usize) -> u64 {
        let idle = |piece: &&Piece| piece.lane == lane || piece.space.is_free();
        self.pieces.iter().filter(idle).map(|piece| piece.space.idle()).sum()
    }

    fn take(&mut self, lane: &Lane, length: u64) -> Result<Address> {
        let calls = &lane.driver.calls;
        if let Some(exact) = &mut self.exact {
            let mut address = 0;
            // SAFETY: a place for an address; the driver gives nothing of no length.
            let status = unsafe { (calls.memory_take)(&mut address, length.max(1) as usize) };
            calls.check(status, "device memory")?;
            *exact += length;
            return Ok(address);
        }
        for piece in self.pieces.iter_mut().filter(|piece| piece.lane == lane.index()) {
            if let Some(start) = piece.space.take(length) {
                return Ok(piece.base + start);
            }
        }
        self.grow(lane, length)
    }

    /// Asks the driver. The context must be current.
    fn grow(&mut self, lane: &Lane, length: u64) -> Result<Address> {
        let calls = &lane.driver.calls;
        let least = Space::rounded(length);
        // A whole piece if it can be had, else just what is wanted, at last after giving back what lies idle.
        for (piece, trim) in [(least.max(PIECE), false), (least, false), (least, true)] {
            if trim {
                self.trim(lane);
            }
            if self.limit.is_some_and(|limit| self.held().saturating_add(piece) > limit) {
                continue;
            }
            let mut base = 0;
            // SAFETY: a place for an address.
            let status = unsafe { (calls.memory_take)(&mut base, piece as usize) };
            if status == OUT_OF_MEMORY {
                continue;
            }
            calls.check(status, "cuMemAlloc")?;
            let mut space = Space::new(piece);
            let start = space.take(length).unwrap_or(0);
            self.pieces.push(Piece { lane: lane.index(), base, space });
            return Ok(base + start);
        }
        let limit = match self.limit {
            Some(limit) => format!("of a limit of {limit}"),
            None => String::from("and the device has no more"),
        };
        let what = format!(
            "CUDA: {length} more bytes of device memory wanted; {} are held {limit}",
            self.held()
        );
        Err(Error::new(ErrorKind::OutOfMemory, what))
    }

    fn give(&mut self, device: &Device, address: Address, length: u64) {
        if let Some(exact) = &mut self.exact {
            *exact -= length;
            if let Ok(_entered) = device.enter() {
                // SAFETY: a block of ours, not used again; the driver waits for work that still uses it.
                unsafe { (device.driver.calls.memory_give)(address) };
            }
            return;
        }
        let holds =
            |piece: &&mut Piece| (piece.base..piece.base + piece.space.length()).contains(&address);
        if let Some(piece) = self.pieces.iter_mut().find(holds) {
            piece.space.give(address - piece.base, length);
        }
    }

    /// Gives pieces of any lane back of which nothing is used. The context must be current.
    pub(super) fn trim(&mut self, device: &Device) {
        let calls = &device.driver.calls;
        let mut waited = false;
        self.pieces.retain(|piece| {
            if !piece.space.is_free() {
                return true;
            }
            // What is queued may still use it, on its own lane; the next owner may be another's. A driver that
            // fails here says so to whoever asks next.
            if !std::mem::replace(&mut waited, true) {
                for track in &device.tracks {
                    // SAFETY: a stream of the device.
                    unsafe { (calls.stream_wait)(track.stream) };
                }
            }
            // SAFETY: a piece of ours in which no block lies, and that no work uses.
            unsafe { (calls.memory_give)(piece.base) };
            false
        });
    }

    /// Gives everything back, at the end of the device.
    pub(super) fn release_all(&mut self, calls: &Calls, context: Handle) {
        let mut before = 0;
        // SAFETY: pieces of ours, of which nobody is left to use any.
        unsafe {
            if (calls.context_push)(context) == 0 {
                for piece in self.pieces.drain(..) {
                    (calls.memory_give)(piece.base);
                }
                (calls.context_pop)(&mut before);
            }
        }
    }
}

impl Device {
    /// The bytes that are free on the device, whoever has the others, and all that it has.
    pub(super) fn free(&self) -> Result<[u64; 2]> {
        let _entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: places for two numbers.
        let status = unsafe { (self.driver.calls.memory_info)(&mut free, &mut total) };
        self.check(status, "cuMemGetInfo")?;
        Ok([free as u64, total as u64])
    }
}

/// Where a block goes when it is dropped.
enum Home {
    Pool,
    Arena(Arena),
}

/// A piece of device memory with one owner.
pub(super) struct Block {
    lane: Lane,
    home: Home,
    address: Address,
    length: u64,
    /// No other block ever has it; not 0.
    id: u64,
}

impl Block {
    /// `length` bytes, whatever was in them.
    pub(super) fn new(lane: &Lane, length: u64) -> Result<Self> {
        let (address, home) = match current() {
            Mode::Run => {
                let _entered = lane.enter()?;
                let taken = lane.memory.lock().take(lane, length);
                (taken.map_err(|e| e.at(&lane.info.name))?, Home::Pool)
            }
            Mode::Plan(arena) | Mode::Record(arena) => {
                let start = arena.space.lock().take(length);
                let start = start
                    .ok_or_else(|| Error::internal(format!("{length} bytes in a recorded step")))?;
                (arena.base + start, Home::Arena(arena))
            }
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Block { lane: lane.clone(), home, address, length, id })
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match &self.home {
            Home::Pool => {
                self.lane.memory.lock().give(&self.lane, self.address, self.length);
            }
            Home::Arena(arena) => {
                arena.space.lock().give(self.address - arena.base, self.length);
            }
        }
    }
}
