//! In: products of bf16 by the processor. Out: whether they are what its maker writes of them.
//!
//! That is spelled out in plain f32, and holds bit for bit, so that nothing else than the order of sums can differ from
//! level to level. (Intel, "64 and IA-32 Architectures Software Developer's Manual", VDPBF16PS and TDPBF16PS: rounding
//! to nearest, ties to even, whatever the mode; denormal operands are zeros, denormal results become zeros.)
//!
//! # Safety
//! The kernels run at levels that were found to be available.
#![allow(unsafe_code, reason = "the kernels under test")]

use super::packed::{COLUMNS, DEPTH, TILE};
use super::tile::{Operand, PITCH, ROWS, Square, multiply};
use super::vector::{Kernel, Narrow, run};
use crate::backend::cpu::Level;
use crate::backend::cpu::tests::Source;
use half::bf16;

/// Zero in place of a denormal.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// a b + c, rounded once.
fn fused(a: bf16, b: bf16, c: f32) -> f32 {
    let (a, b, c) = (flushed(a.to_f32()), flushed(b.to_f32()), flushed(c));
    let sum = a.mul_add(b, c);
    const TINY: f32 = 1e-30;
    if !(sum.abs() < TINY && c.abs() < TINY && (a * b).abs() < TINY) || a == 0.0 || b == 0.0 {
        return flushed(sum);
    }
    // Denormals are rounded elsewhere than other numbers; what becomes one is told by how it would be rounded if
    // it were none. One factor is small enough to be scaled.
    let scale = 2f32.powi(64);
    let (small, large) = if a.abs() < b.abs() { (a, b) } else { (b, a) };
    let sum = (small * scale).mul_add(large, c * scale);
    if sum.abs() < f32::MIN_POSITIVE * scale { 0f32.copysign(sum) } else { sum / scale }
}

/// What a lane of VDPBF16PS makes of a sum and two pairs.
fn vector(sum: f32, a: [bf16; 2], b: [bf16; 2]) -> f32 {
    fused(a[0], b[0], fused(a[1], b[1], sum))
}

/// What TDPBF16PS makes of a sum, a row's inputs and an output's: sums of the first and of the second of all pairs.
fn matrix(sum: f32, a: &[[bf16; 2]], b: &[[bf16; 2]]) -> f32 {
    let half =
        |half: usize| a.iter().zip(b).fold(0.0, |sum: f32, (a, b)| fused(a[half], b[half], sum));
    flushed(flushed(sum) + flushed(half(0) + half(1)))
}

/// What numbers a test draws.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Between -2 and 2.
    Plain,
    /// Products of which fall on either side of the smallest number that is no denormal; denormals among them.
    Tiny,
    /// Of all sizes, some infinite, some none.
    Strange,
}

const KINDS: [Kind; 3] = [Kind::Plain, Kind::Tiny, Kind::Strange];

/// All of them as good as the others.
fn bits(source: &mut Source) -> u64 {
    source.0 = source.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (source.0 ^ source.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn drawn(source: &mut Source, kind: Kind) -> bf16 {
    let drawn = bits(source);
    let (sign, fraction, chance) = ((drawn >> 8) as u16 & 0x8000, drawn as u16 & 0x7f, drawn >> 32);
    let exponent = |from: u64, to: u64| ((from + (chance >> 8) % (to - from)) as u16) << 7;
    bf16::from_bits(match (kind, chance % 64) {
        (Kind::Plain, _) => sign | exponent(120, 128) | fraction,
        (Kind::Tiny, 0..4) => sign | fraction,
        (Kind::Tiny, _) => sign | exponent(55, 72) | fraction,
        (Kind::Strange, 0) => sign | 0x7f80,
        (Kind::Strange, 1) if fraction < 4 => 0x7fc1,
        (Kind::Strange, _) => sign | exponent(0, 255) | fraction,
    })
}

/// Sums of a size that products of `kind` can move.
fn drawn_sum(source: &mut Source, kind: Kind) -> f32 {
    let bits = bits(source) as u32;
    match kind {
        Kind::Plain => drawn(source, kind).to_f32() + (bits % 1024) as f32 * 1e-6,
        // Denormals and up to 2^-118.
        Kind::Tiny => f32::from_bits((bits & 0x8000_0000) | (bits % (9 << 23))),
        Kind::Strange => f32::from_bits(bits),
    }
}

fn assert_same(got: f32, want: f32, what: &dyn Fn() -> String) {
    let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
    assert!(
        same,
        "{}: {got:e} ({:08x}), wanted {want:e} ({:08x})",
        what(),
        got.to_bits(),
        want.to_bits()
    );
}

/// The products of pairs of a vector and one pair.
struct Dot<'a> {
    sums: &'a mut [f32; 16],
    a: [bf16; 2],
    b: &'a [bf16; 32],
}

impl Kernel for Dot<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        for lane in (0..16).step_by(S::LANES) {
            // SAFETY: vectors within the arrays.
            unsafe {
                let sum = S::load(self.sums.as_ptr().add(lane));
                let (a, b) =
                    (S::same_pair(self.a.as_ptr()), S::pairs(self.b.as_ptr().add(2 * lane)));
                sum.dot(a, b).store(self.sums.as_mut_ptr().add(lane));
            }
        }
    }
}

#[test]
fn a_product_of_pairs_is_two_sums_that_are_rounded_one_after_the_other() {
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let mut source = Source(31);
        let mut denormal = 0;
        for round in 0..30_000 {
            let kind = KINDS[round % KINDS.len()];
            let a = [(); 2].map(|()| drawn(&mut source, kind));
            let b = [(); 32].map(|()| drawn(&mut source, kind));
            let before = [(); 16].map(|()| drawn_sum(&mut source, kind));
            let mut sums = before;
            // SAFETY: the level is there; arrays are as long as the kernel says.
            unsafe { run(level, Dot { sums: &mut sums, a, b: &b }) };
            for (lane, (&got, &sum)) in sums.iter().zip(&before).enumerate() {
                let b = [b[2 * lane], b[2 * lane + 1]];
                let first = b[1].to_f32().mul_add(a[1].to_f32(), sum);
                let exact = [a[0], a[1], b[0], b[1]].map(bf16::to_f32);
                let is_denormal = |x: f32| x.is_subnormal();
                let any = exact.into_iter().chain([sum, first, got]).any(is_denormal)
                    || is_denormal(b[0].to_f32().mul_add(a[0].to_f32(), first))
                    || got == f32::MIN_POSITIVE
                    || first == f32::MIN_POSITIVE;
                denormal += usize::from(any);
                // Levels without the instruction keep denormals, and the first rounds products, too, which shows
                // where they are beyond all numbers or denormal; all else is the same there.
                let odd = |half: usize| {
                    let product = a[half].to_f32() * b[half].to_f32();
                    product.is_infinite() || product.is_subnormal() || product == 0.0
                };
                let own = any || level == Level::Portable && (odd(0) || odd(1));
                if !own || level >= Level::Avx512Bf16 {
                    let what = || format!("{level}, {kind:?}: {sum:e} + {a:?} {b:?}");
                    assert_same(got, vector(sum, a, b), &what);
                }
            }
        }
        assert!(denormal > 10_000, "{denormal} cases with denormals are too few to say anything");
    }
}

/// A product of tiles of rows and strips.
struct Product<'a> {
    level: Level,
    size: [usize; 2],
    operands: &'a [Operand<'a>],
    strips: [*const bf16; 2],
    square: &'a mut Square,
    add: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Narrow>(self) {
        let Product { level, size, operands, strips, square, add } = self;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level has proved the instructions.
        let _configured = (level == Level::Amx).then(|| unsafe { super::amx::Configured::new() });
        let mut sums = square.sums();
        if add {
            sums.from = sums.at;
        }
        // SAFETY: the test hands in rows and strips that are as long as their sizes say.
        unsafe { multiply::<S>(level, size, operands, strips, sums, &mut ()) }
    }
}

#[test]
fn a_square_of_products_is_the_sum_over_blocks_and_taps_of_what_the_instruction_is_said_to_do() {
    let levels = [Level::Avx512Bf16, Level::Amx];
    for level in levels.into_iter().filter(|level| level.is_available()) {
        let mut source = Source(32);
        let mut case = 0;
        // Tiles of rows and of outputs, two operands of so many blocks of channels, taps.
        for rows in [1, 2] {
            for columns in [1, 2] {
                for (blocks, taps) in
                    [([1, 0], 1), ([3, 0], 1), ([1, 0], 9), ([2, 1], 4), ([1, 2], 2)]
                {
                    for add in [false, true] {
                        case += 1;
                        let kind = KINDS[case % KINDS.len()];
                        one_square(&mut source, level, kind, [rows, columns], blocks, taps, add);
                    }
                }
            }
        }
    }
}

fn one_square(
    source: &mut Source,
    level: Level,
    kind: Kind,
    [rows, columns]: [usize; 2],
    blocks: [usize; 2],
    taps: usize,
    add: bool,
) {
    // Rows lie an odd number of blocks apart; taps somewhere behind the first, not in order.
    let pitches = blocks.map(|blocks| (blocks + 3) * DEPTH);
    let offsets: Vec<usize> = (0..taps).map(|tap| tap * 5 % taps * DEPTH).collect();
    let inputs = pitches.map(|pitch| -> Vec<bf16> {
        let length = (2 * ROWS + taps + 1) * pitch;
        (0..length).map(|_| drawn(source, kind)).collect()
    });
    let tiles = (blocks[0] + blocks[1]) * taps;
    let strips =
        [(); 2].map(|()| -> Vec<bf16> { (0..tiles * TILE).map(|_| drawn(source, kind)).collect() });
    let mut square = Square::new();
    square.0.iter_mut().for_each(|sum| *sum = drawn_sum(source, kind));
    let before = square.0;
    let operands = [0, 1].map(|which| Operand {
        at: [0, (rows - 1) * ROWS * pitches[which]].map(|from| inputs[which][from..].as_ptr()),
        pitch: pitches[which],
        taps: &offsets,
        blocks: blocks[which],
    });
    let strip_at = [&strips[0], &strips[columns - 1]].map(|strip| strip.as_ptr());
    let product = Product {
        level,
        size: [rows, columns],
        operands: &operands,
        strips: strip_at,
        square: &mut square,
        add,
    };
    // SAFETY: the level is there; operands and strips are as long as their sizes say.
    unsafe { run(level, product) };
    for (row, column) in (0..rows * ROWS).flat_map(|r| (0..columns * COLUMNS).map(move |c| (r, c)))
    {
        let mut sum = if add { before[row * PITCH + column] } else { 0.0 };
        let mut tile = strips[column / COLUMNS].chunks_exact(TILE);
        for which in 0..2 {
            for (block, &tap) in
                (0..blocks[which]).flat_map(|b| offsets.iter().map(move |tap| (b, tap)))
            {
                let at = row * pitches[which] + block * DEPTH + tap;
                let pairs = |values: &[bf16]| -> Vec<[bf16; 2]> {
                    values.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
                };
                let a = pairs(&inputs[which][at..at + DEPTH]);
                let tile = pairs(tile.next().unwrap());
                let b: Vec<_> =
                    (0..DEPTH / 2).map(|pair| tile[pair * COLUMNS + column % COLUMNS]).collect();
                sum = if level == Level::Amx {
                    matrix(sum, &a, &b)
                } else {
                    a.iter().zip(&b).fold(sum, |sum, (&a, &b)| vector(sum, a, b))
                };
            }
        }
        let what = || {
            format!(
                "{level}, {kind:?}, {rows}x{columns} tiles, {blocks:?} blocks, {taps} taps, {row}, {column}"
            )
        };
        assert_same(square.0[row * PITCH + column], sum, &what);
    }
}
