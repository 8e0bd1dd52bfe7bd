//! In: a kernel written once over [`Narrow`]. Out: the same kernel in the instructions of each level: vectors of
//! f32 that are read from and written to bf16, and sums of products of pairs of bf16.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector instructions")]

use crate::backend::cpu::level::Level;
use crate::backend::cpu::simd::{Portable, Simd};
use half::bf16;

/// A vector of f32 that meets bf16 in memory.
///
/// # Safety of all functions
/// As for [`Simd`].
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub(super) trait Narrow: Simd {
    /// As many pairs of bf16 as a vector has f32.
    type Pairs: Copy;
    /// LANES values.
    unsafe fn widen(at: *const bf16) -> Self;
    /// LANES values, rounded to nearest, ties to even.
    unsafe fn narrow(self, at: *mut bf16);
    /// Both, one behind the other.
    #[inline(always)]
    unsafe fn narrow_both(self, other: Self, at: *mut bf16) {
        // SAFETY: the caller's promise for twice as many.
        unsafe {
            self.narrow(at);
            other.narrow(at.add(Self::LANES));
        }
    }
    /// LANES pairs.
    unsafe fn pairs(at: *const bf16) -> Self::Pairs;
    /// One pair for all lanes.
    unsafe fn same_pair(at: *const bf16) -> Self::Pairs;
    /// self + the products of both halves of the pairs.
    unsafe fn dot(self, a: Self::Pairs, b: Self::Pairs) -> Self;
    /// 2^self to 12 bits at least, for values below 127; 0 far below -126, more than 2^126 above.
    unsafe fn exp2(self) -> Self;
    /// The largest of all lanes.
    unsafe fn highest(self) -> f32;
    /// Whether any lane is above the other's; what is no number is above none.
    unsafe fn any_above(self, other: Self) -> bool;
    /// The sum of all lanes.
    unsafe fn sum(self) -> f32;
    /// 1 / self to 12 bits at least.
    unsafe fn reciprocal(self) -> Self;
    /// 1 / (1 + 2^-self) to 12 bits at least.
    unsafe fn logistic2(self) -> Self;
    /// Asks the second level cache for the line at `at`, which need not be there; or does nothing.
    #[inline(always)]
    unsafe fn ask(at: *const bf16) {
        let _ = at;
    }
    /// Asks the first level cache for the line at `at`, to be written, which need not be there; or does nothing.
    #[inline(always)]
    unsafe fn ask_to_write(at: *mut bf16) {
        let _ = at;
    }
}

/// Work that can be done at any level.
pub(super) trait Kernel {
    type Output;
    /// # Safety
    /// The processor has the instructions of `S`; the operands are what the kernel's own text asks for.
    unsafe fn run<S: Narrow>(self) -> Self::Output;
}

/// Runs `kernel` in the instructions of `level`.
///
/// # Safety
/// As the kernel's `run`, but for the instructions, which a `Level` has proved.
pub(super) unsafe fn run<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        // SAFETY: arrays need no special instructions; the operands are the caller's promise.
        Level::Portable => unsafe { kernel.run::<Portable>() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; a `Level` is only made where the processor has its instructions.
        Level::Avx2 => unsafe { wide::avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512 => unsafe { wide::avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Level::Avx512Bf16 | Level::Amx => unsafe { wide::avx512bf16(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: as for the first arm.
        _ => unsafe { kernel.run::<Portable>() },
    }
}

/// The first `count` values at `at`, the others zero.
///
/// # Safety
/// `at` is valid for `count` values, which are at most 16 and S::LANES.
#[inline(always)]
pub(super) unsafe fn widen_some<S: Narrow>(at: *const bf16, count: usize) -> S {
    // SAFETY: by the caller's promise; the array is as long as the longest vector.
    unsafe {
        if count == S::LANES {
            return S::widen(at);
        }
        let mut values = [bf16::ZERO; 16];
        std::ptr::copy_nonoverlapping(at, values.as_mut_ptr(), count);
        S::widen(values.as_ptr())
    }
}

/// Stores the first `count` values of `x`.
///
/// # Safety
/// As for [`widen_some`].
#[inline(always)]
pub(super) unsafe fn narrow_some<S: Narrow>(x: S, at: *mut bf16, count: usize) {
    // SAFETY: by the caller's promise.
    unsafe {
        if count == S::LANES {
            return x.narrow(at);
        }
        let mut values = [bf16::ZERO; 16];
        x.narrow(values.as_mut_ptr());
        std::ptr::copy_nonoverlapping(values.as_ptr(), at, count);
    }
}

/// 2^x, 2.4e-6 off at most.
#[inline(always)]
unsafe fn power<S: Simd>(x: S) -> S {
    /// Adding it rounds to an integer, which the low bits of the sum then hold.
    const ROUND: f32 = 12_582_912.0;
    // SAFETY: the caller has the instructions of S.
    unsafe {
        let c = |value: f32| S::splat(value);
        // The second operand is what comes of one that is no number.
        let x = c(127.0).min(c(-126.0).max(x));
        let shifted = x.add(c(ROUND));
        let r = x.sub(shifted.sub(c(ROUND)));
        // The series of 2^r to the fifth power, |r| <= 1/2: 2.4e-6 off.
        let p = c(1.333_355_8e-3);
        let p = p.mul_add(r, c(9.618_129e-3));
        let p = p.mul_add(r, c(5.550_411e-2));
        let p = p.mul_add(r, c(2.402_265e-1));
        let p = p.mul_add(r, c(std::f32::consts::LN_2));
        let p = p.mul_add(r, c(1.0));
        p.mul(shifted.power_of_two())
    }
}

/// What no level but the last has an instruction for.
macro_rules! emulated {
    () => {
        type Pairs = (Self, Self);
        #[inline(always)]
        unsafe fn dot(self, a: Self::Pairs, b: Self::Pairs) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe { b.0.mul_add(a.0, b.1.mul_add(a.1, self)) }
        }
        #[inline(always)]
        unsafe fn exp2(self) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe { power(self) }
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe { Self::splat(1.0).div(self) }
        }
        #[inline(always)]
        unsafe fn logistic2(self) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe { Self::splat(1.0).add(power(Self::splat(0.0).sub(self))).reciprocal() }
        }
        #[inline(always)]
        unsafe fn highest(self) -> f32 {
            let mut lanes = [f32::NEG_INFINITY; 16];
            // SAFETY: the array is as long as the longest vector.
            unsafe { self.store(lanes.as_mut_ptr()) };
            lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
        }
        #[inline(always)]
        unsafe fn any_above(self, other: Self) -> bool {
            let mut lanes = [[0f32; 16]; 2];
            // SAFETY: the arrays are as long as the longest vector.
            unsafe {
                self.store(lanes[0].as_mut_ptr());
                other.store(lanes[1].as_mut_ptr());
            }
            lanes[0].iter().zip(&lanes[1]).any(|(a, b)| a > b)
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let mut lanes = [0f32; 16];
            // SAFETY: the array is as long as the longest vector.
            unsafe { self.store(lanes.as_mut_ptr()) };
            lanes.into_iter().sum()
        }
    };
}

impl Narrow for Portable {
    emulated!();
    #[inline(always)]
    unsafe fn widen(at: *const bf16) -> Self {
        // SAFETY: `at` is valid for 8 values.
        let values = unsafe { at.cast::<[u16; 8]>().read_unaligned() };
        Portable(values.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn narrow(self, at: *mut bf16) {
        // SAFETY: `at` is valid for 8 values.
        unsafe { at.cast::<[bf16; 8]>().write_unaligned(self.0.map(bf16::from_f32)) }
    }
    #[inline(always)]
    unsafe fn pairs(at: *const bf16) -> Self::Pairs {
        // SAFETY: `at` is valid for 8 pairs.
        let pairs = unsafe { at.cast::<[[u16; 2]; 8]>().read_unaligned() };
        let half = |i: usize| Portable(pairs.map(|p| f32::from_bits(u32::from(p[i]) << 16)));
        (half(0), half(1))
    }
    #[inline(always)]
    unsafe fn same_pair(at: *const bf16) -> Self::Pairs {
        // SAFETY: `at` is valid for a pair.
        let pair = unsafe { at.cast::<[u16; 2]>().read_unaligned() };
        let half = |i: usize| Portable([f32::from_bits(u32::from(pair[i]) << 16); 8]);
        (half(0), half(1))
    }
}

#[cfg(target_arch = "x86_64")]
mod wide;
