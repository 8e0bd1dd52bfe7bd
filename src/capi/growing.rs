//! In: a pointer to a struct of a caller that was built against an older or a newer header. Out: the
//! struct as this version knows it.

use crate::error::{Error, ErrorKind, Result};

/// A struct whose first member is its size as the caller knew it, and which grows at its end only.
///
/// # Safety
/// `repr(C)`, starts with a `usize` that is the size, and any bytes are a value of it (no references, no
/// `bool`, no Rust enums).
pub(super) unsafe trait Growing: Copy {
    /// What messages call it.
    const NAME: &'static str;
    /// Its size in the first version.
    const FIRST: usize;
    /// Its values where the caller's struct is shorter; the first member is its full size.
    fn defaults() -> Self;
}

/// No struct of any version will be longer.
const LONGEST: usize = 1 << 16;

/// Reads a caller's struct: what it lacks gets its default; what it has beyond must be zero.
///
/// # Safety
/// `pointer` is NULL, or points to as many readable bytes as its first member says.
pub(super) unsafe fn read<T: Growing>(pointer: *const T) -> Result<T> {
    let name = T::NAME;
    if pointer.is_null() {
        return Err(Error::invalid(format!("{name} is NULL")));
    }
    // SAFETY: not NULL, so at least the size is readable. It need not be aligned.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    if size < T::FIRST || size > LONGEST {
        return Err(Error::invalid(format!(
            "{name}.struct_size is {size}, wanted {} (set it to sizeof({name}))",
            size_of::<T>()
        )));
    }
    let mut value = T::defaults();
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are readable there by the caller's word and fit into `value`; any bytes are a
    // value of T.
    unsafe {
        let target = std::ptr::from_mut(&mut value).cast::<u8>();
        std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), target, known);
    }
    for offset in known..size {
        // SAFETY: the caller's struct has `size` readable bytes.
        if unsafe { pointer.cast::<u8>().add(offset).read() } != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name} sets a field at byte {offset}, which this version does not know"),
            ));
        }
    }
    Ok(value)
}

/// Writes a result over a caller's struct, as far as that goes: an older caller's is shorter.
///
/// # Safety
/// `pointer` is not NULL and points to as many writable bytes as its first member says.
pub(super) unsafe fn write<T: Growing>(pointer: *mut T, value: &T) {
    // SAFETY: not NULL, so at least the size is readable. It need not be aligned.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    let (own, known) = (size_of::<usize>(), size.min(size_of::<T>()));
    // SAFETY: the caller's struct has `size` writable bytes, and no more than both sizes are copied. Its
    // size stays its own.
    unsafe {
        let source = std::ptr::from_ref(value).cast::<u8>();
        let length = known.saturating_sub(own);
        std::ptr::copy_nonoverlapping(source.add(own), pointer.cast::<u8>().add(own), length);
    }
}

/// Fills a caller's struct with defaults, as far as it goes.
///
/// # Safety
/// `pointer` is NULL, or points to `size` writable bytes.
pub(super) unsafe fn fill<T: Growing>(pointer: *mut T, size: usize) {
    if pointer.is_null() || !(T::FIRST..=LONGEST).contains(&size) {
        return;
    }
    let defaults = T::defaults();
    // SAFETY: `size` bytes are writable there by the caller's word, and no more than both sizes are
    // copied. The size is its own, not ours.
    unsafe {
        std::ptr::write_bytes(pointer.cast::<u8>(), 0, size);
        let source = std::ptr::from_ref(&defaults).cast::<u8>();
        let known = size.min(size_of::<T>());
        std::ptr::copy_nonoverlapping(source, pointer.cast::<u8>(), known);
        pointer.cast::<usize>().write_unaligned(size);
    }
}

/// A member that says yes (1) or no (0).
pub(super) fn choice(name: &str, value: u32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::invalid(format!("{name} {other}: wanted 0 or 1"))),
    }
}

/// A member that has no meaning yet.
pub(super) fn unused(name: &str, value: u32) -> Result<()> {
    match value {
        0 => Ok(()),
        other => Err(Error::new(ErrorKind::Unsupported, format!("{name} {other:#x}: wanted 0"))),
    }
}
