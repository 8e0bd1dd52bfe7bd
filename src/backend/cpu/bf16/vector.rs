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
    /// 2^self to 12 bits at least, for values below 127; 0 far below -126.
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
mod wide {
    use super::{Kernel, Narrow, power};
    use crate::backend::cpu::simd::Simd;
    use crate::backend::cpu::simd::x86::{Avx2, Avx512};
    use half::bf16;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the instructions are on in this function; the operands are the caller's promise.
        unsafe { kernel.run::<Avx2>() }
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: as for `avx2`.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    pub(super) unsafe fn avx512bf16<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: as for `avx2`.
        unsafe { kernel.run::<Avx512Bf16>() }
    }

    impl Narrow for Avx2 {
        emulated!();
        #[inline(always)]
        unsafe fn widen(at: *const bf16) -> Self {
            // SAFETY: `at` is valid for 8 values; the load needs no alignment.
            Avx2(unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            })
        }
        #[inline(always)]
        unsafe fn narrow(self, at: *mut bf16) {
            // SAFETY: `at` is valid for 8 values.
            unsafe {
                let bits = _mm256_castps_si256(self.0);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
                let kept = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, half));
                // What is no number stays none, however its bits would round.
                let strange = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
                let kept = _mm256_blendv_epi8(kept, _mm256_set1_epi32(0x7fc0), strange);
                let packed = _mm256_packus_epi32(kept, kept);
                let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
                _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(packed));
            }
        }
        #[inline(always)]
        unsafe fn pairs(at: *const bf16) -> Self::Pairs {
            // SAFETY: `at` is valid for 8 pairs.
            unsafe { halves8(_mm256_loadu_si256(at.cast())) }
        }
        #[inline(always)]
        unsafe fn same_pair(at: *const bf16) -> Self::Pairs {
            // SAFETY: `at` is valid for a pair.
            unsafe { halves8(_mm256_set1_epi32(at.cast::<i32>().read_unaligned())) }
        }
    }

    /// The first and the second half of each pair.
    #[inline(always)]
    unsafe fn halves8(pairs: __m256i) -> (Avx2, Avx2) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let second = _mm256_and_si256(pairs, _mm256_set1_epi32(-65536));
            let first = _mm256_slli_epi32::<16>(pairs);
            (Avx2(_mm256_castsi256_ps(first)), Avx2(_mm256_castsi256_ps(second)))
        }
    }

    /// 16 values of bf16.
    #[inline(always)]
    unsafe fn widen16(at: *const bf16) -> __m512 {
        // SAFETY: `at` is valid for 16 values; the load needs no alignment.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    impl Narrow for Avx512 {
        emulated!();
        #[inline(always)]
        unsafe fn widen(at: *const bf16) -> Self {
            // SAFETY: as for `widen16`.
            Avx512(unsafe { widen16(at) })
        }
        #[inline(always)]
        unsafe fn narrow(self, at: *mut bf16) {
            // SAFETY: `at` is valid for 16 values.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd);
                let kept = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
                let strange = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let kept = _mm512_mask_mov_epi32(kept, strange, _mm512_set1_epi32(0x7fc0));
                _mm256_storeu_si256(at.cast(), _mm512_cvtepi32_epi16(kept));
            }
        }
        #[inline(always)]
        unsafe fn pairs(at: *const bf16) -> Self::Pairs {
            // SAFETY: `at` is valid for 16 pairs.
            unsafe { halves16(_mm512_loadu_si512(at.cast())) }
        }
        #[inline(always)]
        unsafe fn same_pair(at: *const bf16) -> Self::Pairs {
            // SAFETY: `at` is valid for a pair.
            unsafe { halves16(_mm512_set1_epi32(at.cast::<i32>().read_unaligned())) }
        }
    }

    /// The first and the second half of each pair.
    #[inline(always)]
    unsafe fn halves16(pairs: __m512i) -> (Avx512, Avx512) {
        // SAFETY: the caller has the instructions.
        unsafe {
            let second = _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
            let first = _mm512_slli_epi32::<16>(pairs);
            (Avx512(_mm512_castsi512_ps(first)), Avx512(_mm512_castsi512_ps(second)))
        }
    }

    /// 2^r on 0..1, the largest relative error as small as a cubic's can be: 7.5e-5.
    const EXP2: [f32; 4] = [0.999_925_2, 0.695_833_5, 0.226_067_17, 0.078_024_52];

    /// 16 lanes, with the instructions for bf16.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512Bf16(Avx512);

    /// A function as the level below has it.
    macro_rules! inherited {
        ($($name:ident($($other:ident),*)),*) => {$(
            #[inline(always)]
            unsafe fn $name(self, $($other: Self),*) -> Self {
                // SAFETY: the caller has the instructions.
                Avx512Bf16(unsafe { self.0.$name($($other.0),*) })
            }
        )*};
    }

    impl Simd for Avx512Bf16 {
        const LANES: usize = Avx512::LANES;
        const PANEL: usize = Avx512::PANEL;
        const ROWS: usize = Avx512::ROWS;
        inherited!(add(b), sub(b), mul(b), div(b), max(b), min(b), mul_add(b, c), power_of_two());
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: `at` is valid for 16 values.
            Avx512Bf16(unsafe { Avx512::load(at) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            // SAFETY: as for `load`.
            unsafe { self.0.store(at) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512Bf16(unsafe { Avx512::splat(value) })
        }
        #[inline(always)]
        unsafe fn magnitude(self) -> (Self, Self) {
            // SAFETY: the caller has the instructions.
            let (size, sign) = unsafe { self.0.magnitude() };
            (Avx512Bf16(size), Avx512Bf16(sign))
        }
    }

    impl Narrow for Avx512Bf16 {
        type Pairs = __m512bh;
        #[inline(always)]
        unsafe fn ask(at: *const bf16) {
            // SAFETY: it is no read.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn widen(at: *const bf16) -> Self {
            // SAFETY: as for `widen16`.
            Avx512Bf16(Avx512(unsafe { widen16(at) }))
        }
        #[inline(always)]
        unsafe fn narrow(self, at: *mut bf16) {
            // SAFETY: `at` is valid for 16 values; both types are 256 bits without meaning.
            unsafe {
                let kept: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(self.0.0));
                _mm256_storeu_si256(at.cast(), kept);
            }
        }
        #[inline(always)]
        unsafe fn narrow_both(self, other: Self, at: *mut bf16) {
            // SAFETY: as for `narrow`, of 32 values.
            unsafe {
                let kept = _mm512_cvtne2ps_pbh(other.0.0, self.0.0);
                let kept: __m512i = std::mem::transmute(kept);
                _mm512_storeu_si512(at.cast(), kept);
            }
        }
        #[inline(always)]
        unsafe fn pairs(at: *const bf16) -> __m512bh {
            // SAFETY: `at` is valid for 16 pairs; both types are 512 bits without meaning.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(at.cast())) }
        }
        #[inline(always)]
        unsafe fn same_pair(at: *const bf16) -> __m512bh {
            // SAFETY: `at` is valid for a pair; as above.
            unsafe {
                let pair = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                std::mem::transmute::<__m512i, __m512bh>(pair)
            }
        }
        #[inline(always)]
        unsafe fn dot(self, a: __m512bh, b: __m512bh) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512Bf16(Avx512(unsafe { _mm512_dpbf16_ps(self.0.0, a, b) }))
        }
        #[inline(always)]
        unsafe fn exp2(self) -> Self {
            // `scalef` takes the part before the point, and makes 0 of what is too small.
            // SAFETY: the caller has the instructions.
            Avx512Bf16(Avx512(unsafe {
                let c = |value: f32| _mm512_set1_ps(value);
                let x = self.0.0;
                let r = _mm512_reduce_ps::<0x01>(x);
                let p = _mm512_fmadd_ps(c(EXP2[3]), r, c(EXP2[2]));
                let p = _mm512_fmadd_ps(p, r, c(EXP2[1]));
                let p = _mm512_fmadd_ps(p, r, c(EXP2[0]));
                _mm512_scalef_ps(p, x)
            }))
        }
        #[inline(always)]
        unsafe fn reciprocal(self) -> Self {
            // SAFETY: the caller has the instructions.
            Avx512Bf16(Avx512(unsafe { _mm512_rcp14_ps(self.0.0) }))
        }
        #[inline(always)]
        unsafe fn logistic2(self) -> Self {
            // SAFETY: the caller has the instructions.
            unsafe { Self::splat(1.0).add(Self::splat(0.0).sub(self).exp2()).reciprocal() }
        }
        #[inline(always)]
        unsafe fn highest(self) -> f32 {
            // SAFETY: the caller has the instructions.
            unsafe { _mm512_reduce_max_ps(self.0.0) }
        }
        #[inline(always)]
        unsafe fn any_above(self, other: Self) -> bool {
            // SAFETY: the caller has the instructions.
            unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0.0, other.0.0) != 0 }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: the caller has the instructions.
            unsafe { _mm512_reduce_add_ps(self.0.0) }
        }
    }
}
