//! In: points. Out: [`Curve`], a function through them.
//!
//! Only sums, products and quotients are used, so a curve is the same on every machine.

use super::exact::Exact;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What lies between the points of a [`Curve`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Interpolation {
    /// A cubic in each interval, with slopes such that it rises where the points rise, falls where they
    /// fall, and never goes beyond them (Fritsch & Butland 1984; scipy's `PchipInterpolator`).
    #[default]
    MonotoneCubic,
    /// Straight lines.
    Linear,
}

/// A function through points, constant before the first and behind the last of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Points", into = "Points")]
pub struct Curve {
    points: Vec<[f64; 2]>,
    interpolation: Interpolation,
    /// The slope at each point.
    slopes: Vec<f64>,
}

/// A curve as files hold it.
#[derive(Clone, Serialize, Deserialize)]
struct Points {
    points: Vec<[Exact; 2]>,
    interpolation: Interpolation,
}

impl Curve {
    /// The most points of a curve.
    pub const MOST: usize = 1 << 16;

    /// The curve through `points` (x, y), whose x rise.
    ///
    /// # Errors
    /// `InvalidArgument` for no points or more than [`Curve::MOST`], values that are not finite or beyond
    /// +-1e9, and x that do not rise.
    pub fn new(points: &[[f64; 2]], interpolation: Interpolation) -> Result<Self> {
        const LARGEST: f64 = 1e9;
        if !(1..=Curve::MOST).contains(&points.len()) {
            return Err(Error::invalid(format!(
                "a curve of {} points: wanted 1 to {}",
                points.len(),
                Curve::MOST
            )));
        }
        if let Some(odd) = points.iter().flatten().find(|v| v.is_nan() || v.abs() > LARGEST) {
            return Err(Error::invalid(format!("{odd} in a curve: wanted up to {LARGEST:e}")));
        }
        if let Some(pair) = points.windows(2).find(|pair| pair[0][0] >= pair[1][0]) {
            return Err(Error::invalid(format!(
                "a curve with x {} after {}: wanted rising x",
                pair[1][0], pair[0][0]
            )));
        }
        Ok(Curve { points: points.to_vec(), interpolation, slopes: slopes(points) })
    }

    /// The points.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    /// What lies between them.
    pub fn interpolation(&self) -> Interpolation {
        self.interpolation
    }

    /// The value at `x`; at a point it is the point's, bit for bit. NaN gives the first point's.
    pub fn at(&self, x: f64) -> f64 {
        let behind = self.points.partition_point(|point| point[0] <= x);
        let Some(left) = behind.checked_sub(1) else { return self.points[0][1] };
        let [x0, y0] = self.points[left];
        let Some(&[x1, y1]) = self.points.get(behind) else { return y0 };
        let (width, share) = (x1 - x0, (x - x0) / (x1 - x0));
        let value = match self.interpolation {
            Interpolation::Linear => y0 + (y1 - y0) * share,
            Interpolation::MonotoneCubic => {
                let rest = 1.0 - share;
                let from = (1.0 + 2.0 * share) * y0 + share * width * self.slopes[left];
                let to = (1.0 + 2.0 * rest) * y1 - rest * width * self.slopes[behind];
                rest * rest * from + share * share * to
            }
        };
        // Rounding must not lead past the points.
        value.clamp(y0.min(y1), y0.max(y1))
    }

    /// The least and the largest value.
    pub(super) fn range(&self) -> [f64; 2] {
        let values = self.points.iter().map(|point| point[1]);
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], y| [low.min(y), high.max(y)])
    }

    /// Whether values never fall.
    pub(super) fn rises(&self) -> bool {
        self.points.windows(2).all(|pair| pair[0][1] <= pair[1][1])
    }
}

/// The slope at each point: the weighted harmonic mean of those of the intervals beside it, 0 where these
/// have different signs; at the ends from three points, held to the sign and three times the size of the
/// last interval's.
fn slopes(points: &[[f64; 2]]) -> Vec<f64> {
    let widths: Vec<f64> = points.windows(2).map(|p| p[1][0] - p[0][0]).collect();
    let rises: Vec<f64> =
        points.windows(2).zip(&widths).map(|(p, w)| (p[1][1] - p[0][1]) / w).collect();
    match rises.len() {
        0 => return vec![0.0],
        1 => return vec![rises[0]; 2],
        _ => {}
    }
    let end = |first: usize, second: usize| {
        let (w0, w1, r0, r1) = (widths[first], widths[second], rises[first], rises[second]);
        let slope = ((2.0 * w0 + w1) * r0 - w0 * r1) / (w0 + w1);
        if slope * r0 <= 0.0 {
            0.0
        } else if r0 * r1 <= 0.0 && slope.abs() > 3.0 * r0.abs() {
            3.0 * r0
        } else {
            slope
        }
    };
    let last = rises.len() - 1;
    let inner = (1..rises.len()).map(|k| {
        let (r0, r1) = (rises[k - 1], rises[k]);
        if r0 * r1 <= 0.0 {
            return 0.0;
        }
        let (a, b) = (2.0 * widths[k] + widths[k - 1], widths[k] + 2.0 * widths[k - 1]);
        (a + b) / (a / r0 + b / r1)
    });
    [end(0, 1)].into_iter().chain(inner).chain([end(last, last - 1)]).collect()
}

impl TryFrom<Points> for Curve {
    type Error = Error;

    fn try_from(points: Points) -> Result<Self> {
        let values: Vec<[f64; 2]> = points.points.iter().map(|p| p.map(|v| v.0)).collect();
        Curve::new(&values, points.interpolation)
    }
}

impl From<Curve> for Points {
    fn from(curve: Curve) -> Self {
        let points = curve.points.iter().map(|point| point.map(Exact)).collect();
        Points { points, interpolation: curve.interpolation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [[f64; 2]; 5] = [[0.0, 0.0], [1.0, 0.1], [1.5, 2.0], [4.0, 2.0], [5.0, 7.0]];

    #[test]
    fn a_curve_goes_through_its_points_and_never_beyond_them() {
        for interpolation in [Interpolation::MonotoneCubic, Interpolation::Linear] {
            let curve = Curve::new(&POINTS, interpolation).unwrap();
            for [x, y] in POINTS {
                assert_eq!(curve.at(x), y);
            }
            let mut before = -1.0;
            for step in 0..=1200 {
                let value = curve.at(-0.5 + f64::from(step) * 0.005);
                assert!(value >= before, "it falls from {before} to {value}");
                before = value;
            }
            assert_eq!((curve.at(-9.0), curve.at(9.0), curve.at(f64::NAN)), (0.0, 7.0, 0.0));
        }
    }

    #[test]
    fn the_cubic_is_the_one_of_pchip() {
        // By hand: slopes at 0, 1, 2 of the points (0, 0), (1, 1), (2, 4) are 0, 1.5, 4.
        let curve = Curve::new(&[[0.0, 0.0], [1.0, 1.0], [2.0, 4.0]], Interpolation::default());
        let curve = curve.unwrap();
        assert_eq!(curve.slopes, [0.0, 1.5, 4.0]);
        assert!((curve.at(0.5) - (0.5 - 1.5 / 8.0)).abs() < 1e-15);
        assert!((curve.at(1.5) - (2.5 + (1.5 - 4.0) / 8.0)).abs() < 1e-15);
    }

    #[test]
    fn what_is_no_function_is_refused() {
        let message = |points: &[[f64; 2]]| {
            Curve::new(points, Interpolation::Linear).unwrap_err().message().to_owned()
        };
        assert_eq!(message(&[]), "a curve of 0 points: wanted 1 to 65536");
        assert_eq!(message(&[[0.0, 1.0], [0.0, 2.0]]), "a curve with x 0 after 0: wanted rising x");
        assert_eq!(message(&[[0.0, f64::NAN]]), "NaN in a curve: wanted up to 1e9");
        assert!(message(&[[f64::INFINITY, 0.0]]).starts_with("inf in a curve"));
    }
}
