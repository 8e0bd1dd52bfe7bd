//! In: display-encoded values, HDR among them. Out: the same values within the model's range, and back.
//!
//! Basic operations of IEEE 754 only, in f64: the same numbers on every machine. `docs/colour.md` has the
//! formula for users.

use crate::error::{Error, Result};

/// Values up to here stay as they are: display-encoded, about 60 % of the light of white.
const KNEE: f64 = 0.8;

/// An invertible curve that bends highlights down into the model's range: the identity up to a knee of
/// 0.8, and from there on, with u = (v - 0.8) / 0.2 and P = (peak - 0.8) / 0.2,
///
/// y = 0.8 + 0.2 (sqrt(1 + 4 (P - 1) u) - 1) / (2 (P - 1)),
///
/// whose inverse is u + (P - 1) u^2 in the same units. `peak` becomes 1; the slope at the knee is 1, so
/// that no edge shows there; nothing is clipped, beyond the peak either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Highlights {
    /// P - 1, the square's share; 0 is the identity.
    bend: f64,
}

impl Highlights {
    /// No curve: a picture whose values don't go beyond 1.
    pub const NONE: Highlights = Highlights { bend: 0.0 };

    /// The curve that brings `peak`, a display-encoded value, to 1. The identity for 1 and below.
    ///
    /// # Errors
    /// `InvalidArgument` where `peak` is not a number of at most 1000.
    pub fn new(peak: f64) -> Result<Self> {
        const MOST: f64 = 1000.0;
        if !(0.0..=MOST).contains(&peak) {
            return Err(Error::invalid(format!("highlight peak {peak}: wanted 0 to {MOST}")));
        }
        Ok(Highlights { bend: ((peak - KNEE) / (1.0 - KNEE) - 1.0).max(0.0) })
    }

    /// The display-encoded value that becomes 1.
    pub fn peak(self) -> f64 {
        KNEE + (1.0 - KNEE) * (self.bend + 1.0)
    }

    /// What of the curve a file holds, to the last bit.
    pub(crate) fn bend(self) -> f64 {
        self.bend
    }

    /// The curve of a file.
    ///
    /// # Errors
    /// `InvalidArgument` where it is none of [`Highlights::new`]'s.
    pub(crate) fn of_bend(bend: f64) -> Result<Self> {
        const MOST: f64 = 1000.0 / (1.0 - KNEE);
        match (0.0..=MOST).contains(&bend) {
            true => Ok(Highlights { bend }),
            false => Err(Error::invalid(format!("a highlight curve of bend {bend}"))),
        }
    }

    /// The curve between two, at `fraction` of the way: their peaks are mixed.
    pub(crate) fn between(self, other: Highlights, fraction: f64) -> Highlights {
        match fraction {
            0.0 => self,
            1.0 => other,
            _ => Highlights { bend: (1.0 - fraction) * self.bend + fraction * other.bend },
        }
    }

    /// Whether values stay as they are.
    pub fn is_none(self) -> bool {
        self.bend == 0.0
    }

    /// A display-encoded value in the model's range.
    pub fn compress(self, value: f32) -> f32 {
        let v = f64::from(value);
        if self.is_none() || v.is_nan() || v <= KNEE {
            return value;
        }
        // (sqrt(1 + 4 b u) - 1) / (2 b), written so that a small b loses no digits.
        let u = (v - KNEE) / (1.0 - KNEE);
        let bent = 2.0 * u / (1.0 + (1.0 + 4.0 * self.bend * u).sqrt());
        (KNEE + (1.0 - KNEE) * bent) as f32
    }

    /// The display-encoded value of one in the model's range: the inverse of
    /// [`compress`](Self::compress).
    pub fn expand(self, value: f32) -> f32 {
        let y = f64::from(value);
        if self.is_none() || y.is_nan() || y <= KNEE {
            return value;
        }
        let u = (y - KNEE) / (1.0 - KNEE);
        (KNEE + (1.0 - KNEE) * (u + self.bend * u * u)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::colour::{linear_to_srgb, srgb_to_linear};

    /// Lights from -0.1 to 64, evenly and in thirds of a stop.
    fn lights() -> impl Iterator<Item = f32> {
        let even = (0..=6410).map(|i| -0.1 + i as f32 * 0.01);
        even.chain((-60..=18).map(|third| (third as f32 / 3.0).exp2()))
    }

    #[test]
    fn hdr_comes_back() {
        for peak in [1.0, 1.02, 1.5, 3.0, f64::from(linear_to_srgb(64.0)), 200.0] {
            let curve = Highlights::new(peak).unwrap();
            assert!((curve.peak() - peak).abs() < 1e-12);
            let mut worst = 0f32;
            for light in lights() {
                let there = curve.compress(linear_to_srgb(light));
                let back = srgb_to_linear(curve.expand(there));
                worst = worst.max((back - light).abs() / light.abs().max(1e-3));
            }
            println!("peak {peak}: relative error {worst:.1e}");
            assert!(worst <= 1e-4);
        }
    }

    #[test]
    fn it_rises_without_an_edge_and_leaves_the_rest_alone() {
        for peak in [1.0, 1.1, 5.9, 100.0] {
            let curve = Highlights::new(peak).unwrap();
            let slope = |v: f64| {
                let d = 1e-3;
                let rise = curve.compress((v + d) as f32) - curve.compress((v - d) as f32);
                f64::from(rise) / (2.0 * d)
            };
            let mut before = f32::MIN;
            for step in -500..20_000 {
                let v = step as f32 / 1000.0;
                let y = curve.compress(v);
                assert!(y > before, "peak {peak} at {v}");
                before = y;
                if v <= 0.8 {
                    assert_eq!(y.to_bits(), v.to_bits(), "below the knee");
                }
            }
            assert!((f64::from(curve.compress(peak as f32)) - 1.0).abs() < 1e-6);
            // C1: the slope just above the knee is that below, 1.
            assert!((slope(0.7) - 1.0).abs() < 1e-3);
            let bend = (peak - 1.0) / 0.2;
            let near = 1.0 / (1.0 + 4.0 * bend * 0.01f64).sqrt();
            assert!((slope(0.802) - near).abs() < 0.02 * (1.0 + bend), "peak {peak}");
        }
    }

    #[test]
    fn peaks_that_cannot_be_are_refused() {
        for peak in [f64::NAN, f64::INFINITY, -1.0, 1001.0] {
            assert!(Highlights::new(peak).is_err(), "{peak}");
        }
        assert!(Highlights::new(0.3).unwrap().is_none());
    }
}
