//! In: vectors of 8 or 16 values. Out: what bf16 needs of them, in the instructions of each level of x86.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of the level.
#![allow(unsafe_code, reason = "instructions of the processor")]

use super::{Kernel, Narrow, power};
use crate::backend::cpu::simd::Simd;
use crate::backend::cpu::simd::x86::{Avx2, Avx512};
use half::{bf16, f16};
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

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
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
    unsafe fn of_half(at: *const f16) -> Self {
        // SAFETY: as for `load`.
        Avx512Bf16(unsafe { Avx512::of_half(at) })
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
    unsafe fn ask_to_write(at: *mut bf16) {
        // The compiler would make it a prefetch for reading: not all processors with vectors this wide need have the
        // other, but all that there are do, and one without would do nothing.
        // SAFETY: it is no write, nor a read.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags));
        }
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
