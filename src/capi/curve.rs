//! In: points of a caller. Out: a [`Curve`].

use super::array::elements;
use super::growing::{Growing, read, unused};
use crate::blend::{Curve, Interpolation};
use crate::error::{Error, Result};
use std::ptr::null;

/// What lies between the points of a curve.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_interpolation = u32;

/// A cubic in each interval that never goes beyond its points (Fritsch and Butland 1984).
pub const LB_INTERPOLATION_MONOTONE_CUBIC: lb_interpolation = 0;
/// Straight lines.
pub const LB_INTERPOLATION_LINEAR: lb_interpolation = 1;

/// A function through points, constant before the first and behind the last of them. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_curve {
    /// sizeof(lb_curve)
    pub struct_size: usize,
    /// `count` places, rising; copied.
    pub x: *const f64,
    /// The value at each; copied.
    pub y: *const f64,
    /// How many points there are, 1 to 65536.
    pub count: u64,
    /// An LB_INTERPOLATION value.
    pub interpolation: lb_interpolation,
    /// Must be 0.
    pub flags: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_curve {
    const NAME: &'static str = "lb_curve";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_curve {
            struct_size: size_of::<Self>(),
            x: null(),
            y: null(),
            count: 0,
            interpolation: LB_INTERPOLATION_MONOTONE_CUBIC,
            flags: 0,
        }
    }
}

/// A caller's curve; `None` for NULL.
///
/// # Safety
/// As the header says of `lb_curve`.
pub(super) unsafe fn curve(pointer: *const lb_curve) -> Result<Option<Curve>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on.
    let (x, y, raw) = unsafe {
        let raw = read(pointer)?;
        let x = elements(raw.x, raw.count, "lb_curve.x")?;
        (x, elements(raw.y, raw.count, "lb_curve.y")?, raw)
    };
    unused("lb_curve.flags", raw.flags)?;
    let interpolation = match raw.interpolation {
        LB_INTERPOLATION_MONOTONE_CUBIC => Interpolation::MonotoneCubic,
        LB_INTERPOLATION_LINEAR => Interpolation::Linear,
        other => {
            return Err(Error::invalid(format!(
                "interpolation {other}: wanted an LB_INTERPOLATION value"
            )));
        }
    };
    let points: Vec<[f64; 2]> = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
    Curve::new(&points, interpolation).map(Some)
}
