//! In: the share of a segment's time that has gone. Out: the share of its way, by an [`Easing`].

use super::curve::Curve;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a segment sets off and arrives. Applied to time, before [`Pace`](super::Pace).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Easing {
    /// u: at one speed.
    #[default]
    Linear,
    /// u^2: sets off slowly.
    In,
    /// 1 - (1 - u)^2: arrives slowly.
    Out,
    /// 3 u^2 - 2 u^3: both, so that a keyframe rests for a moment.
    InOut,
    /// The caller's, from (0, 0) to (1, 1), never falling.
    Curve(Curve),
}

impl Easing {
    /// The share of the way at the share `u` of the time; 0 and 1 are kept exactly.
    pub fn at(&self, u: f64) -> f64 {
        let u = if u > 0.0 { u.min(1.0) } else { 0.0 };
        match self {
            Easing::Linear => u,
            Easing::In => u * u,
            Easing::Out => 1.0 - (1.0 - u) * (1.0 - u),
            Easing::InOut => u * u * (3.0 - 2.0 * u),
            Easing::Curve(curve) => curve.at(u),
        }
    }

    /// # Errors
    /// `InvalidArgument` for a curve that isn't as [`Easing::Curve`] says.
    pub(super) fn check(&self) -> Result<()> {
        let Easing::Curve(curve) = self else { return Ok(()) };
        let points = curve.points();
        if points[0] != [0.0, 0.0] || points[points.len() - 1] != [1.0, 1.0] || !curve.rises() {
            return Err(Error::invalid(format!(
                "an easing from {:?} to {:?}: wanted a curve that rises from [0, 0] to [1, 1]",
                points[0],
                points[points.len() - 1]
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blend::Interpolation;

    #[test]
    fn every_easing_rises_from_start_to_end() {
        let points = [[0.0, 0.0], [0.3, 0.8], [1.0, 1.0]];
        let curve = Easing::Curve(Curve::new(&points, Interpolation::MonotoneCubic).unwrap());
        for easing in [Easing::Linear, Easing::In, Easing::Out, Easing::InOut, curve] {
            easing.check().unwrap();
            assert_eq!((easing.at(0.0), easing.at(1.0)), (0.0, 1.0), "{easing:?}");
            let values: Vec<f64> = (0..=100).map(|n| easing.at(f64::from(n) / 100.0)).collect();
            assert!(values.is_sorted(), "{easing:?}");
        }
    }

    #[test]
    fn a_curve_that_goes_back_is_refused() {
        let points = [[0.0, 0.0], [0.3, 0.8], [0.5, 0.7], [1.0, 1.0]];
        let easing = Easing::Curve(Curve::new(&points, Interpolation::Linear).unwrap());
        assert!(easing.check().unwrap_err().message().contains("wanted a curve that rises"));
    }
}
