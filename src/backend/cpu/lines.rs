//! In: a size. Out: [`Lines`], zeros in memory of their own, in cache lines.
//!
//! Large ones come from the system itself and go back to it at once: no allocator keeps them, none of its holes
//! stays behind between weights that live long, and the system is asked for large pages before any of them is
//! touched (where it allows them: one fault and one entry of the processor's table for 2 MiB instead of 512).
#![allow(unsafe_code, reason = "memory of the system, lines of 16 values seen as values")]

#[cfg(all(test, target_os = "linux"))]
use super::guard;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// One cache line, so that a vector never straddles two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([f32; 16]);

/// From this many bytes on the system is asked.
const OWN_BYTES: usize = 256 << 10;

/// Whether large runs of lines are addresses only until they are written.
pub(super) const LAZY: bool = system::LAZY;

/// Some cache lines.
pub(super) struct Lines {
    at: NonNull<Line>,
    count: usize,
}

// SAFETY: it owns its memory alone, as a vector does.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}

impl Lines {
    /// `count` lines of zeros.
    pub(super) fn zeros(count: usize) -> Self {
        Lines::try_zeros(count).unwrap_or_else(|| handle_alloc_error(layout(count)))
    }

    /// The same, unless there is no room for them.
    pub(super) fn try_zeros(count: usize) -> Option<Self> {
        if count == 0 {
            return Some(Lines::default());
        }
        let layout = layout(count);
        #[cfg(all(test, target_os = "linux"))]
        if guard::on() {
            return NonNull::new(guard::zeros(layout).cast()).map(|at| Lines { at, count });
        }
        let at = if layout.size() >= OWN_BYTES {
            system::zeros(layout)
        } else {
            // SAFETY: the layout is not empty.
            unsafe { alloc_zeroed(layout) }
        };
        NonNull::new(at.cast()).map(|at| Lines { at, count })
    }

    /// Line `index`, for who owns it alone.
    pub(super) fn at(&self, index: usize) -> NonNull<Line> {
        assert!(index < self.count, "line {index} of {}", self.count);
        // SAFETY: within the lines.
        unsafe { self.at.add(index) }
    }

    /// Which line this is, if it is one of them.
    pub(super) fn index(&self, line: NonNull<Line>) -> Option<usize> {
        let bytes = line.addr().get().checked_sub(self.at.addr().get())?;
        Some(bytes / size_of::<Line>()).filter(|&index| index < self.count)
    }

    /// Gives the memory of `count` lines from `first` on, whole pages of the system, back to it, whatever is in them;
    /// false where it can't.
    ///
    /// # Safety
    /// Nobody uses these lines.
    pub(super) unsafe fn forget(&self, first: usize, count: usize) -> bool {
        debug_assert!(first + count <= self.count);
        let at = self.at.as_ptr().wrapping_add(first).cast();
        // SAFETY: lines of a mapping if there are so many, by the caller's promise nobody's.
        layout(self.count).size() >= OWN_BYTES
            && unsafe { system::forget(at, count * size_of::<Line>()) }
    }

    /// The same as values.
    pub(super) fn values(&self) -> &[f32] {
        // SAFETY: a `Line` is 16 values without gaps.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr().cast(), self.count * 16) }
    }

    /// The same as values.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr().cast(), self.count * 16) }
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        self.count * size_of::<Line>()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

impl Default for Lines {
    /// None.
    fn default() -> Self {
        Lines { at: NonNull::dangling(), count: 0 }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let layout = layout(self.count);
        let at = self.at.as_ptr().cast();
        #[cfg(all(test, target_os = "linux"))]
        if guard::on() {
            // SAFETY: `zeros` had it from there, with this layout, and nobody else has it.
            return unsafe { guard::give_back(at, layout) };
        }
        // SAFETY: as above.
        unsafe {
            if layout.size() >= OWN_BYTES {
                system::give_back(at, layout)
            } else {
                dealloc(at, layout)
            }
        }
    }
}

/// Gives free memory back to the system that the allocator keeps between what is in use: that of small weights, of
/// which there are many, and of those in 16 bits.
pub(super) fn tidy() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(kept: usize) -> std::ffi::c_int;
        }
        // SAFETY: a function of the C library that any thread may call, and that touches nothing in use.
        unsafe { malloc_trim(0) };
    }
}

/// That of `count` lines; the largest there is for more than there are addresses, which nobody will get.
fn layout(count: usize) -> Layout {
    let largest = || Layout::from_size_align(isize::MAX as usize & !63, 64);
    Layout::array::<Line>(count).or_else(|_| largest()).unwrap_or(Layout::new::<Line>())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod system {
    use std::alloc::Layout;
    use std::ffi::{c_int, c_long, c_void};

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            length: usize,
            access: c_int,
            kind: c_int,
            file: c_int,
            from: c_long,
        ) -> *mut c_void;
        fn munmap(at: *mut c_void, length: usize) -> c_int;
        fn madvise(at: *mut c_void, length: usize, advice: c_int) -> c_int;
    }

    /// Memory is given for a page when it is first written.
    pub(super) const LAZY: bool = true;

    const READ_AND_WRITE: c_int = 3;
    const PRIVATE_AND_OF_NO_FILE: c_int = 0x22;
    const IN_LARGE_PAGES: c_int = 14;
    const NOT_NEEDED: c_int = 4;
    /// Fewer bytes are not worth a large page.
    const LARGE: usize = 4 << 20;

    pub(super) fn zeros(layout: Layout) -> *mut u8 {
        let null = std::ptr::null_mut();
        // SAFETY: new memory, at no address that is in use.
        let at =
            unsafe { mmap(null, layout.size(), READ_AND_WRITE, PRIVATE_AND_OF_NO_FILE, -1, 0) };
        if at.addr() == usize::MAX {
            return null.cast();
        }
        if layout.size() >= LARGE {
            // SAFETY: all of a mapping, whose content stays. An error costs speed only.
            unsafe { madvise(at, layout.size(), IN_LARGE_PAGES) };
        }
        at.cast()
    }

    /// `bytes` bytes from `at` on, whole pages, become zeros that take no memory.
    ///
    /// # Safety
    /// They are of [`zeros`], and nobody uses them.
    pub(super) unsafe fn forget(at: *mut u8, bytes: usize) -> bool {
        // SAFETY: the caller's promise. An error leaves them as they are.
        unsafe { madvise(at.cast(), bytes, NOT_NEEDED) == 0 }
    }

    /// # Safety
    /// `at` is of [`zeros`] with this layout, and is not used again.
    pub(super) unsafe fn give_back(at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise. It fails for no mapping that is whole.
        unsafe { munmap(at.cast(), layout.size()) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    /// An allocator may write all the zeros at once.
    pub(super) const LAZY: bool = false;

    pub(super) fn zeros(layout: Layout) -> *mut u8 {
        // SAFETY: the layout is not empty.
        unsafe { alloc_zeroed(layout) }
    }

    /// # Safety
    /// None is asked for.
    pub(super) unsafe fn forget(_: *mut u8, _: usize) -> bool {
        false
    }

    /// # Safety
    /// `at` is of [`zeros`] with this layout, and is not used again.
    pub(super) unsafe fn give_back(at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { dealloc(at, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zeros_that_are_written_and_read() {
        // None, few, the last from the allocator, the first of the system's, and some large pages.
        let edge = OWN_BYTES / 64;
        for count in [0, 1, 100, edge - 1, edge, edge + 1, (9 << 20) / 64 + 5] {
            let mut lines = Lines::zeros(count);
            assert_eq!(
                (lines.len(), lines.bytes(), lines.values().len()),
                (count, 64 * count, 16 * count)
            );
            assert!(lines.values().iter().all(|v| v.to_bits() == 0));
            assert_eq!(lines.values().as_ptr().addr() % 64, 0);
            lines.values_mut().iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
            assert!(lines.values().iter().enumerate().all(|(i, &v)| v == i as f32));
        }
    }
}
