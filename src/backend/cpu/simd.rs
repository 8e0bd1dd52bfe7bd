//! In: a kernel written once over [`Simd`]. Out: the same kernel in the instructions of each level.
//!
//! Each kernel is a struct of its operands with one generic, always inlined `run`; [`Level::run`] calls
//! it from within a function that has the level's instructions switched on.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a [`Level`] has proved, and
//! operands as their own text says.
#![allow(unsafe_code, reason = "vector instructions")]

use super::level::Level;
use half::f16;

/// A vector of f32.
///
/// # Safety of all functions
/// The processor must have the instructions of the implementation; pointers must be valid for
/// [`LANES`](Simd::LANES) values.
#[allow(clippy::missing_safety_doc, reason = "said once, above")]
pub(super) trait Simd: Copy {
    const LANES: usize;
    /// Vectors in one panel of packed weights: with [`ROWS`](Simd::ROWS), what fills the registers.
    const PANEL: usize;
    /// Rows of a tile.
    const ROWS: usize;
    unsafe fn load(at: *const f32) -> Self;
    /// Asks for the vector at `at`, which may be anything, to be brought into the first level cache. Worth it where
    /// a panel is larger than that.
    #[inline(always)]
    fn soon(_: *const f32) {}
    unsafe fn store(self, at: *mut f32);
    /// LANES values of f16 at `at`.
    unsafe fn of_half(at: *const f16) -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `other` where either is no number.
    unsafe fn max(self, other: Self) -> Self;
    /// `other` where either is no number.
    unsafe fn min(self, other: Self) -> Self;
    /// self * factor + term
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    /// 2^n for lanes that hold 1.5 2^23 + n: the number that adding 1.5 2^23 has rounded.
    unsafe fn power_of_two(self) -> Self;
    /// |self| and the sign of self as 1 or -1.
    unsafe fn magnitude(self) -> (Self, Self);
}

/// Work that can be done at any level.
pub(super) trait Kernel {
    type Output;
    /// # Safety
    /// The processor has the instructions of `S`; the operands are what the kernel's own text asks for.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

impl Level {
    /// Runs `kernel` in the instructions of this level.
    ///
    /// # Safety
    /// As the kernel's `run`, but for the instructions, which a `Level` has proved.
    pub(super) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: arrays need no special instructions; the operands are the caller's promise.
            Level::Portable => unsafe { kernel.run::<Portable>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; a `Level` is only made where the processor has its instructions.
            Level::Avx2 => unsafe { x86::avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => unsafe { x86::avx512(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            // SAFETY: as for the first arm.
            _ => unsafe { kernel.run::<Portable>() },
        }
    }
}

/// Vectors as arrays, which the compiler turns into whatever the architecture has.
#[derive(Clone, Copy)]
pub(super) struct Portable(pub(super) [f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Simd for Portable {
    const LANES: usize = 8;
    const PANEL: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: `at` is valid for 8 values; reads need no alignment.
        Portable(unsafe { at.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as for `load`.
        unsafe { at.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn of_half(at: *const f16) -> Self {
        // SAFETY: as for `load`.
        Portable(unsafe { at.cast::<[f16; 8]>().read_unaligned() }.map(f16::to_f32))
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        // A fused one would be a call of the C library on processors without the instruction.
        self.zip(factor, |a, b| a * b).zip(term, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        Portable(self.0.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(0x3f80_0000))))
    }
    #[inline(always)]
    unsafe fn magnitude(self) -> (Self, Self) {
        (Portable(self.0.map(f32::abs)), Portable(self.0.map(|v| 1f32.copysign(v))))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Kernel, Simd, f16};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the instructions are on in this function; the operands are the caller's promise.
        unsafe { kernel.run::<Avx2>() }
    }

    #[target_feature(enable = "avx512f,avx2,fma,f16c")]
    pub(super) unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: as for `avx2`.
        unsafe { kernel.run::<Avx512>() }
    }

    /// 8 lanes.
    #[derive(Clone, Copy)]
    pub(in crate::backend::cpu) struct Avx2(pub(in crate::backend::cpu) __m256);

    /// 16 lanes.
    #[derive(Clone, Copy)]
    pub(in crate::backend::cpu) struct Avx512(pub(in crate::backend::cpu) __m512);

    /// One arithmetic function by the intrinsic of the same two operands.
    macro_rules! binary {
        ($type:ident, $($name:ident = $intrinsic:ident),*) => {$(
            #[inline(always)]
            unsafe fn $name(self, other: Self) -> Self {
                // SAFETY: the caller has the instructions.
                $type(unsafe { $intrinsic(self.0, other.0) })
            }
        )*};
    }

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const PANEL: usize = 2;
        const ROWS: usize = 6;
        binary!(
            Avx2,
            add = _mm256_add_ps,
            sub = _mm256_sub_ps,
            mul = _mm256_mul_ps,
            div = _mm256_div_ps,
            max = _mm256_max_ps,
            min = _mm256_min_ps
        );
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: `at` is valid for 8 values; the load needs no alignment.
            Avx2(unsafe { _mm256_loadu_ps(at) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            // SAFETY: as for `load`.
            unsafe { _mm256_storeu_ps(at, self.0) }
        }
        #[inline(always)]
        unsafe fn of_half(at: *const f16) -> Self {
            // SAFETY: as for `load`.
            Avx2(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has the instructions.
            Avx2(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the caller has the instructions.
            Avx2(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            // SAFETY: the caller has the instructions.
            Avx2(unsafe {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
                _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f80_0000)))
            })
        }
        #[inline(always)]
        unsafe fn magnitude(self) -> (Self, Self) {
            // SAFETY: the caller has the instructions.
            unsafe {
                let sign = _mm256_and_ps(self.0, _mm256_set1_ps(-0.0));
                (Avx2(_mm256_xor_ps(self.0, sign)), Avx2(_mm256_or_ps(_mm256_set1_ps(1.0), sign)))
            }
        }
    }

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const PANEL: usize = 4;
        const ROWS: usize = 6;
        #[inline(always)]
        fn soon(at: *const f32) {
            // SAFETY: a hint; no address is wrong.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
        binary!(
            Avx512,
            add = _mm512_add_ps,
            sub = _mm512_sub_ps,
            mul = _mm512_mul_ps,
            div = _mm512_div_ps,
            max = _mm512_max_ps,
            min = _mm512_min_ps
        );
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: `at` is valid for 16 values; the load needs no alignment.
            Avx512(unsafe { _mm512_loadu_ps(at) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            // SAFETY: as for `load`.
            unsafe { _mm512_storeu_ps(at, self.0) }
        }
        #[inline(always)]
        unsafe fn of_half(at: *const f16) -> Self {
            // SAFETY: as for `load`.
            Avx512(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, term.0) })
        }
        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512(unsafe {
                let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f80_0000)))
            })
        }
        #[inline(always)]
        unsafe fn magnitude(self) -> (Self, Self) {
            // SAFETY: the caller has the instructions.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let sign = _mm512_and_si512(bits, _mm512_set1_epi32(i32::MIN));
                let one = _mm512_castps_si512(_mm512_set1_ps(1.0));
                (
                    Avx512(_mm512_castsi512_ps(_mm512_xor_si512(bits, sign))),
                    Avx512(_mm512_castsi512_ps(_mm512_or_si512(one, sign))),
                )
            }
        }
    }
}
