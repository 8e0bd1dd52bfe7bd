//! In: a caller's array. Out: its elements, copied.

use crate::error::{Error, Result};

/// Most elements that a call is believed to mean.
const MOST: u64 = 1 << 16;

/// The elements of a caller's array.
///
/// # Safety
/// `pointer` is NULL, or points to `count` readable elements.
pub(super) unsafe fn elements<T: Copy>(
    pointer: *const T,
    count: u64,
    name: &str,
) -> Result<Vec<T>> {
    if count > MOST {
        return Err(Error::invalid(format!("{count} {name}: wanted up to {MOST}")));
    }
    if pointer.is_null() && count > 0 {
        return Err(Error::invalid(format!("{name} is NULL, with a count of {count}")));
    }
    // SAFETY: not NULL where there are any, and readable by the caller's word. They need not be aligned.
    Ok((0..count as usize).map(|index| unsafe { pointer.add(index).read_unaligned() }).collect())
}

/// The elements of a caller's array, or as many defaults where there is none.
///
/// # Safety
/// `pointer` is NULL, or points to `count` readable elements.
pub(super) unsafe fn given<T: Copy>(
    pointer: *const T,
    count: u64,
    value: T,
    name: &str,
) -> Result<Vec<T>> {
    if !pointer.is_null() {
        // SAFETY: passed on.
        return unsafe { elements(pointer, count, name) };
    }
    match count <= MOST {
        true => Ok(vec![value; count as usize]),
        false => Err(Error::invalid(format!("{count} segments: wanted up to {MOST}"))),
    }
}
