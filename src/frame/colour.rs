//! In: colours, red, green and blue. Out: the same colours in another encoding.
//!
//! Basic operations of IEEE 754 only (no `powf` of a system's library), in one order: the same numbers on
//! every machine. `docs/colour.md` tells users what to choose.

use crate::error::{Error, Result};

/// What the numbers of a caller's pixels mean.
///
/// Negative values mirror the curve of positive ones and values above 1 continue it, so nothing is lost
/// in floating-point formats. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Transfer {
    /// Display-encoded with the piecewise curve of sRGB (IEC 61966-2-1): as the decoder gives it.
    #[default]
    Srgb = 1,
    /// Linear light, primaries of Rec.709 and sRGB, white D65.
    Linear = 2,
    /// Linear light, ACEScg: primaries AP1, the white of ACES (about D60).
    AcesCg = 3,
}

impl Transfer {
    /// Every transfer.
    pub const ALL: [Transfer; 3] = [Transfer::Srgb, Transfer::Linear, Transfer::AcesCg];

    /// A display-encoded colour in this encoding.
    pub(super) fn encode(self, colour: [f32; 3]) -> [f32; 3] {
        match self {
            Transfer::Srgb => colour,
            Transfer::Linear => colour.map(srgb_to_linear),
            Transfer::AcesCg => apply(&REC709_TO_AP1, colour.map(srgb_to_linear)),
        }
    }

    /// A colour of this encoding, display-encoded.
    pub(super) fn decode(self, colour: [f32; 3]) -> [f32; 3] {
        match self {
            Transfer::Srgb => colour,
            Transfer::Linear => colour.map(linear_to_srgb),
            Transfer::AcesCg => apply(&AP1_TO_REC709, colour).map(linear_to_srgb),
        }
    }
}

impl TryFrom<u32> for Transfer {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Transfer::ALL.into_iter().find(|&t| t as u32 == number).ok_or_else(|| {
            Error::invalid(format!(
                "transfer {number} is not known; wanted 1 (sRGB), 2 (linear) or 3 (ACEScg)"
            ))
        })
    }
}

/// Linear Rec.709 to linear AP1: the normalised primary matrices (SMPTE RP 177) of Rec.709 (ITU-R
/// BT.709-6) and AP1 (S-2014-004), joined by Bradford's adaptation (Lam 1985) from D65 (0.3127, 0.3290) to
/// the white of ACES (0.32168, 0.33767): AP1^-1 · Bradford · Rec709. Computed in rational numbers.
const REC709_TO_AP1: [[f64; 3]; 3] = [
    [0.6130974024011876, 0.3395231461841057, 0.04737945141470668],
    [0.07019372246958173, 0.9163538790573441, 0.0134523984730741],
    [0.020615592882226974, 0.10956977293813548, 0.8698146341796376],
];

/// The inverse of [`REC709_TO_AP1`].
const AP1_TO_REC709: [[f64; 3]; 3] = [
    [1.7050509926579833, -0.6217921206570047, -0.08325887200097867],
    [-0.13025641750704348, 1.1408047365754015, -0.010548319068358007],
    [-0.024003356804618126, -0.12896897606497063, 1.1529723328695887],
];

/// The product, summed in f64 from left to right.
fn apply(matrix: &[[f64; 3]; 3], colour: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = colour.map(f64::from);
    matrix.map(|m| (m[0] * r + m[1] * g + m[2] * b) as f32)
}

/// Where the straight part of the curve of sRGB ends, encoded; [`EDGE`] / [`SLOPE`] is its linear value.
/// (The standard's rounded 0.0031308 would leave a gap in which the two directions disagree.)
const EDGE: f64 = 0.04045;
const SLOPE: f64 = 12.92;
const OFFSET: f64 = 0.055;

/// The light of a display-encoded value: v / 12.92 up to 0.04045, ((v + 0.055) / 1.055)^2.4 above it.
pub(super) fn srgb_to_linear(encoded: f32) -> f32 {
    let value = f64::from(encoded.abs());
    if value <= EDGE {
        return (f64::from(encoded) / SLOPE) as f32;
    }
    // y^2.4 = y^2 (y^2)^(1/5), and z^(1/5) = z (z^(-1/5))^4.
    let y = (value + OFFSET) / (1.0 + OFFSET);
    let square = y * y;
    let root = inverse_root(
        square,
        guess(y, -2.0 / 5.0),
        |r| (r * r) * (r * r) * r,
        [1.0 / 5.0, 3.0 / 25.0, 11.0 / 125.0],
    );
    let fifth = square * (root * root) * (root * root);
    ((square * fifth) as f32).copysign(encoded)
}

/// The display-encoded value of a light: the inverse of [`srgb_to_linear`].
pub(super) fn linear_to_srgb(linear: f32) -> f32 {
    let value = f64::from(linear.abs());
    if value <= EDGE / SLOPE {
        return (f64::from(linear) * SLOPE) as f32;
    }
    // v^(1/2.4) = v^(1/4) v^(1/6), and s^(1/3) = s (s^(-1/3))^2 with s = v^(1/2).
    let square = value.sqrt();
    let root = inverse_root(
        square,
        guess(value, -1.0 / 6.0),
        |r| r * r * r,
        [1.0 / 3.0, 2.0 / 9.0, 14.0 / 81.0],
    );
    let power = square.sqrt() * (square * (root * root));
    ((power * (1.0 + OFFSET) - OFFSET) as f32).copysign(linear)
}

/// `value^power` within a few percent, for a positive value in the range of f32: the bits of a float are,
/// but for scale and offset, nearly its logarithm.
fn guess(value: f64, power: f32) -> f64 {
    // 127 is the exponent's bias; 0.045 centres the error of log2(1 + m) ~ m.
    const ONE: f32 = (127.0 - 0.045) * (1 << 23) as f32;
    let bits = (value as f32).to_bits() as f32;
    f64::from(f32::from_bits((power * bits + (1.0 - power) * ONE) as u32))
}

/// `value^(-1/n)` from a near one, where `power(root)` is `root^n` and `series` are the coefficients of h, h^2
/// and h^3 in (1 - h)^(-1/n): root <- root (1 - h)^(-1/n) with h = 1 - value root^n. What a few percent
/// leave after the first round is of order 1e-4, and after the second below f64's last bits but a few.
fn inverse_root(value: f64, near: f64, power: impl Fn(f64) -> f64, series: [f64; 3]) -> f64 {
    let [a, b, c] = series;
    let mut root = near;
    for _ in 0..2 {
        let h = 1.0 - value * power(root);
        root += root * (h * (a + h * (b + h * c)));
    }
    root
}

/// The value itself; NaN becomes 0, an infinity the largest number, -0 becomes 0, so that no input can
/// spread over a picture or yield an unspecified pixel.
pub(super) fn finite(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(f32::MIN, f32::MAX) + 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Matrix = [[f64; 3]; 3];

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        let column = |j: usize| [b[0][j], b[1][j], b[2][j]];
        a.map(|row| [0, 1, 2].map(|j| (0..3).map(|k| row[k] * column(j)[k]).sum()))
    }

    fn times(a: &Matrix, v: [f64; 3]) -> [f64; 3] {
        a.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
    }

    fn diagonal(v: [f64; 3]) -> Matrix {
        [[v[0], 0.0, 0.0], [0.0, v[1], 0.0], [0.0, 0.0, v[2]]]
    }

    /// By cofactors.
    fn inverse(m: &Matrix) -> Matrix {
        let cofactor = |i: usize, j: usize| {
            let (a, b, c, d) = ((i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3);
            m[a][c] * m[b][d] - m[a][d] * m[b][c]
        };
        let determinant: f64 = (0..3).map(|j| m[0][j] * cofactor(0, j)).sum();
        [0, 1, 2].map(|i| [0, 1, 2].map(|j| cofactor(j, i) / determinant))
    }

    /// X, Y, Z of Y = 1 from chromaticities.
    fn xyz([x, y]: [f64; 2]) -> [f64; 3] {
        [x / y, 1.0, (1.0 - x - y) / y]
    }

    /// RGB to XYZ (SMPTE RP 177).
    fn to_xyz(primaries: [[f64; 2]; 3], white: [f64; 2]) -> Matrix {
        let [r, g, b] = primaries.map(xyz);
        let m = [0, 1, 2].map(|i| [r[i], g[i], b[i]]);
        product(&m, &diagonal(times(&inverse(&m), xyz(white))))
    }

    #[test]
    fn matrices_follow_from_primaries_and_white_points() {
        let (d65, d60) = ([0.3127, 0.3290], [0.32168, 0.33767]);
        let rec709 = to_xyz([[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]], d65);
        let ap1 = to_xyz([[0.713, 0.293], [0.165, 0.830], [0.128, 0.044]], d60);
        let bradford =
            [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]];
        let (from, to) = (times(&bradford, xyz(d65)), times(&bradford, xyz(d60)));
        let gains = diagonal([0, 1, 2].map(|i| to[i] / from[i]));
        let adapt = product(&inverse(&bradford), &product(&gains, &bradford));
        let wanted = product(&inverse(&ap1), &product(&adapt, &rec709));
        let back = inverse(&wanted);
        let unit = product(&REC709_TO_AP1, &AP1_TO_REC709);
        for i in 0..3 {
            for j in 0..3 {
                assert!((REC709_TO_AP1[i][j] - wanted[i][j]).abs() < 1e-14, "{wanted:?}");
                assert!((AP1_TO_REC709[i][j] - back[i][j]).abs() < 1e-14, "{back:?}");
                assert!((unit[i][j] - f64::from(u8::from(i == j))).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn grey_stays_grey_and_white_is_one_in_every_encoding() {
        for transfer in Transfer::ALL {
            assert_eq!(transfer.encode([1.0; 3]), [1.0; 3]);
            assert_eq!(transfer.encode([0.0; 3]), [0.0; 3]);
            for code in 0..=255u8 {
                let [r, g, b] = transfer.encode([f32::from(code) / 255.0; 3]);
                assert!((r - g).abs() <= 6e-8 && (g - b).abs() <= 6e-8, "{transfer:?} {code}");
            }
        }
    }

    #[test]
    fn the_curve_is_that_of_the_standard() {
        let mut worst = 0f64;
        for step in 0..400_000 {
            let value = (f64::from(step) * 1.6e-4) as f32;
            let v = f64::from(value);
            let light = if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
            let code =
                if v <= 0.04045 / 12.92 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
            for (got, wanted) in [(srgb_to_linear(value), light), (linear_to_srgb(value), code)] {
                worst = worst.max((f64::from(got) - wanted).abs() / wanted.max(1e-9));
            }
        }
        // Half a unit in the last place of f32.
        assert!(worst <= 6.0e-8, "{worst:e}");
    }

    #[test]
    fn the_curve_comes_back_from_below_zero_to_far_above_one() {
        let mut worst = 0f32;
        let mut last = [f32::MIN; 2];
        for step in -10_000..=640_000 {
            let value = step as f32 * 1e-4;
            let (light, code) = (srgb_to_linear(value), linear_to_srgb(value));
            for back in [linear_to_srgb(light), srgb_to_linear(code)] {
                worst = worst.max((back - value).abs() / value.abs().max(1e-6));
            }
            assert!(light >= last[0] && code >= last[1], "falls at {value}");
            assert_eq!(srgb_to_linear(-value), -light);
            assert_eq!(linear_to_srgb(-value), -code);
            last = [light, code];
        }
        assert!(worst <= 1e-6, "{worst:e}");
    }

    #[test]
    fn extremes_stay_numbers() {
        for value in [f32::MAX, f32::MIN, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, -0.0, 1e-45] {
            for transfer in Transfer::ALL {
                for colour in [[value; 3], [value, -value, 1.0], [0.0, value, f32::MAX]] {
                    let colour = colour.map(finite);
                    for c in [transfer.encode(colour), transfer.decode(colour)] {
                        assert!(c.map(finite).iter().all(|v| v.is_finite()), "{transfer:?} {c:?}");
                    }
                }
            }
        }
        assert_eq!(finite(-0.0).to_bits(), 0);
    }

    #[test]
    fn unknown_transfers_are_refused() {
        assert_eq!(Transfer::try_from(3).unwrap(), Transfer::AcesCg);
        for number in [0, 4, u32::MAX] {
            let error = Transfer::try_from(number).unwrap_err();
            assert!(error.message().starts_with(&format!("transfer {number} is not known")));
        }
    }
}
