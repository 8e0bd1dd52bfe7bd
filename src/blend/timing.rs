//! In: a caller's t. Out: the segment and the fraction in it, always the same for what is meant to be
//! the same t.

use crate::error::{Error, Result};

/// t is a multiple of this: hosts compute it in many ways, and a last bit must not make another frame.
const GRID: f64 = 16_777_216.0;

/// A place in a transition: between keyframes `segment` and `segment + 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// The keyframe at or before it.
    pub(super) segment: usize,
    /// 0..1; 1 only at the last keyframe of all.
    pub(super) fraction: f64,
}

/// t rounded to the nearest multiple of 2^-24.
pub(super) fn rounded(t: f64) -> f64 {
    (t * GRID).round_ties_even() / GRID
}

/// The place of `t` among `keyframes` keyframes: whole numbers are the keyframes.
///
/// # Errors
/// `InvalidArgument` where t is not a number from 0 to keyframes - 1.
pub(super) fn place(t: f64, keyframes: usize) -> Result<Place> {
    let last = keyframes.saturating_sub(1);
    let rounded = rounded(t);
    if !(0.0..=last as f64).contains(&rounded) {
        return Err(Error::invalid(format!("t {t}: wanted 0 to {last}")));
    }
    let segment = (rounded as usize).min(last.saturating_sub(1));
    Ok(Place { segment, fraction: rounded - segment as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_whole_numbers() {
        assert_eq!(place(0.0, 3).unwrap(), Place { segment: 0, fraction: 0.0 });
        assert_eq!(place(1.0, 3).unwrap(), Place { segment: 1, fraction: 0.0 });
        assert_eq!(place(2.0, 3).unwrap(), Place { segment: 1, fraction: 1.0 });
        assert_eq!(place(0.0, 1).unwrap(), Place { segment: 0, fraction: 0.0 });
    }

    #[test]
    fn nearly_the_same_t_is_the_same() {
        assert_eq!(place(0.1 + 0.2, 2).unwrap(), place(0.3, 2).unwrap());
        assert_eq!(place(1.0 + 1e-12, 2).unwrap(), place(1.0, 2).unwrap());
    }

    #[test]
    fn what_lies_outside_is_refused() {
        for t in [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(place(t, 2).is_err(), "{t}");
        }
        assert_eq!(place(1.5, 2).unwrap_err().message(), "t 1.5: wanted 0 to 1");
    }
}
