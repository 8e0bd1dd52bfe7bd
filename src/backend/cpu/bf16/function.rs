//! In: vectors. Out: SiLU and GELU of them, to a few units of the last place of bf16.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved.
#![allow(unsafe_code, reason = "vector instructions")]

use super::vector::Narrow;

/// x / (1 + e^-x)
#[inline(always)]
pub(super) unsafe fn silu<S: Narrow>(x: S) -> S {
    // SAFETY: the caller has the instructions of S.
    unsafe { x.mul(x.mul(S::splat(std::f32::consts::LOG2_E)).logistic2()) }
}

/// x Phi(x), the error function after Abramowitz and Stegun, 7.1.26 (at most 1.5e-7 off, and what the level's
/// quotient and power are off).
#[inline(always)]
pub(super) unsafe fn gelu<S: Narrow>(x: S) -> S {
    // SAFETY: the caller has the instructions of S.
    unsafe {
        let c = |value: f32| S::splat(value);
        let (size, sign) = x.mul(c(std::f32::consts::FRAC_1_SQRT_2)).magnitude();
        let t = size.mul_add(c(0.327_591_1), c(1.0)).reciprocal();
        let p = c(1.061_405_4);
        let p = p.mul_add(t, c(-1.453_152));
        let p = p.mul_add(t, c(1.421_413_7));
        let p = p.mul_add(t, c(-0.284_496_74));
        let p = p.mul_add(t, c(0.254_829_6)).mul(t);
        let power = size.mul(size).mul(c(-std::f32::consts::LOG2_E)).exp2();
        // 1 + erf = 2 - p e^-x^2 on the right, p e^-x^2 on the left.
        let erf = sign.mul(c(1.0).sub(p.mul(power)));
        x.mul(c(0.5)).mul(c(1.0).add(erf))
    }
}
