//! In: vectors. Out: exp, SiLU and GELU of them, to the last bits of f32, the same on every lane.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector instructions")]

use super::simd::Simd;
use crate::backend::Activation;

/// Adding it rounds to an integer, which the low bits of the sum then hold.
const ROUND: f32 = 12_582_912.0;

/// e^x. Below -87 it is e^-87, above 88 e^88: nothing here depends on more. What is no number stays none.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its series to the sixth power, whose rest is 1e-8 there.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S) -> S {
    // SAFETY: the caller has the instructions of S, as of all functions here.
    unsafe {
        let c = |value: f32| S::splat(value);
        // The second operand is what comes of one that is no number.
        let x = c(88.0).min(c(-87.0).max(x));
        let shifted = x.mul_add(c(std::f32::consts::LOG2_E), c(ROUND));
        let n = shifted.sub(c(ROUND));
        // ln 2 in two parts, the first of few bits, so that n times it is exact.
        let r = n.mul_add(c(-0.693_359_4), x);
        let r = n.mul_add(c(2.121_944_4e-4), r);
        let p = c(1.0 / 720.0);
        let p = p.mul_add(r, c(1.0 / 120.0));
        let p = p.mul_add(r, c(1.0 / 24.0));
        let p = p.mul_add(r, c(1.0 / 6.0));
        let p = p.mul_add(r, c(0.5));
        let p = p.mul_add(r, c(1.0));
        let p = p.mul_add(r, c(1.0));
        p.mul(shifted.power_of_two())
    }
}

/// x / (1 + e^-x)
#[inline(always)]
unsafe fn silu<S: Simd>(x: S) -> S {
    // SAFETY: as for `exp`.
    unsafe { x.div(S::splat(1.0).add(exp(S::splat(0.0).sub(x)))) }
}

/// x Phi(x), the error function after Abramowitz and Stegun, 7.1.26 (at most 1.5e-7 off).
#[inline(always)]
pub(super) unsafe fn gelu<S: Simd>(x: S) -> S {
    // SAFETY: as for `exp`.
    unsafe {
        let c = |value: f32| S::splat(value);
        let (size, sign) = x.mul(c(std::f32::consts::FRAC_1_SQRT_2)).magnitude();
        let t = c(1.0).div(size.mul_add(c(0.327_591_1), c(1.0)));
        let p = c(1.061_405_4);
        let p = p.mul_add(t, c(-1.453_152));
        let p = p.mul_add(t, c(1.421_413_7));
        let p = p.mul_add(t, c(-0.284_496_74));
        let p = p.mul_add(t, c(0.254_829_6)).mul(t);
        let tail = p.mul(exp(c(0.0).sub(size.mul(size))));
        let erf = sign.mul(c(1.0).sub(tail));
        x.mul(c(0.5)).mul(c(1.0).add(erf))
    }
}

/// activation(x)
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(activation: Activation, x: S) -> S {
    // SAFETY: as for `exp`.
    unsafe {
        match activation {
            Activation::Identity => x,
            Activation::Silu => silu(x),
            Activation::Gelu => gelu(x),
        }
    }
}
