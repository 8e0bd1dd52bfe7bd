//! In: a kernel of 3x3, a patch of 4x4 values, the products of both. Out: each of them transformed, so that 16
//! multiplications make four results in place of 36: the minimal filtering F(2x2, 3x3) of Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks" (2016), section 4.1, with their names.
//!
//! # Safety
//! All unsafe functions here want a processor with the instructions of `S`, which a `Level` has proved.
#![allow(unsafe_code, reason = "vector instructions")]

use super::simd::Simd;

/// G g G^T, row by row, `g` being a kernel, row by row.
#[inline(always)]
pub(super) fn kernel(g: [f64; 9]) -> [f64; 16] {
    // G is (1, 0, 0), (1/2, 1/2, 1/2), (1/2, -1/2, 1/2), (0, 0, 1).
    let spread = |[a, b, c]: [f64; 3]| [a, (a + b + c) * 0.5, (a - b + c) * 0.5, c];
    let columns = [0, 1, 2].map(|x: usize| spread([g[x], g[3 + x], g[6 + x]]));
    let mut places = [0.0; 16];
    for (y, row) in places.chunks_exact_mut(4).enumerate() {
        row.copy_from_slice(&spread([columns[0][y], columns[1][y], columns[2][y]]));
    }
    places
}

/// B^T d B, row by row, `d` being a patch, row by row, of as many channels as a vector has lanes.
///
/// # Safety
/// As this module says.
#[inline(always)]
pub(super) unsafe fn patch<S: Simd>(d: [S; 16]) -> [S; 16] {
    // SAFETY: the caller's promise. Written out: a closure would not have the instructions.
    unsafe {
        let mut rows = d;
        for x in 0..4 {
            rows[x] = d[x].sub(d[8 + x]);
            rows[4 + x] = d[4 + x].add(d[8 + x]);
            rows[8 + x] = d[8 + x].sub(d[4 + x]);
            rows[12 + x] = d[4 + x].sub(d[12 + x]);
        }
        let mut places = rows;
        for y in 0..4 {
            let r = [rows[4 * y], rows[4 * y + 1], rows[4 * y + 2], rows[4 * y + 3]];
            places[4 * y] = r[0].sub(r[2]);
            places[4 * y + 1] = r[1].add(r[2]);
            places[4 * y + 2] = r[2].sub(r[1]);
            places[4 * y + 3] = r[1].sub(r[3]);
        }
        places
    }
}

/// A^T m A, row by row: the four results of the products `m` of a transformed patch and kernel.
///
/// # Safety
/// As this module says.
#[inline(always)]
pub(super) unsafe fn results<S: Simd>(m: [S; 16]) -> [S; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let (mut upper, mut lower) = ([zero; 4], [zero; 4]);
        for x in 0..4 {
            upper[x] = m[x].add(m[4 + x]).add(m[8 + x]);
            lower[x] = m[4 + x].sub(m[8 + x]).sub(m[12 + x]);
        }
        let mut results = [zero; 4];
        for (pair, r) in results.chunks_exact_mut(2).zip([upper, lower]) {
            pair[0] = r[0].add(r[1]).add(r[2]);
            pair[1] = r[1].sub(r[2]).sub(r[3]);
        }
        results
    }
}
