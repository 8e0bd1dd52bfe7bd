//! In: rows, strips. Out: their products by the processor's own products of matrices (Intel's AMX): 16 rows by 16
//! outputs of 32 inputs in one instruction.
//!
//! Rust has no functions for these instructions yet, so they stand here as text. Nothing that a compiler makes
//! touches the registers of matrices, so they keep what one piece of text left there for the next.
//!
//! # Safety
//! All unsafe functions here want a processor with these instructions, a process that may use them (both proved
//! by `Level::Amx`) and a thread that has called [`Configured::new`]; and operands as their own text says.
#![allow(unsafe_code, reason = "instructions as text")]

use super::packed::DEPTH;
use super::tile::{Meanwhile, Operand, ROWS, Sums};
use super::vector::Narrow;
use half::bf16;
use std::arch::asm;

/// The form of all registers: 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Form {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static FORM: Form = Form {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// While it lives, this thread's registers of matrices are in use; then they are free, and cost a switch between
/// threads nothing.
pub(super) struct Configured(());

impl Configured {
    /// # Safety
    /// As this module says.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: 64 bytes of a form that the processor knows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const FORM, options(nostack, readonly)) };
        Configured(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: whoever made this had the instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// The loop over the taps of a block around the loads and products of one step.
macro_rules! steps {
    ($operand:ident, $rows:ident, $strips:ident, $($line:literal),*) => {
        asm!(
            "xor {tap:e}, {tap:e} /* not always of use: {a1} */",
            "2:",
            "mov {offset}, [{taps} + {tap}*8]",
            $($line,)*
            "add {b0}, 1024",
            "add {b1}, 1024",
            "inc {tap}",
            "cmp {tap}, {count}",
            "jb 2b",
            tap = out(reg) _,
            offset = out(reg) _,
            taps = in(reg) $operand.taps.as_ptr(),
            count = in(reg) $operand.taps.len(),
            a0 = in(reg) $rows[0],
            a1 = in(reg) $rows[1],
            b0 = inout(reg) $strips[0],
            b1 = inout(reg) $strips[1],
            pitch = in(reg) 2 * $operand.pitch,
            line = in(reg) 64usize,
            options(nostack, readonly),
        )
    };
}

/// As `tile::multiply`.
///
/// # Safety
/// As `tile::multiply`.
#[inline(always)]
pub(super) unsafe fn multiply<S: Narrow>(
    size: [usize; 2],
    operands: &[Operand<'_>],
    mut strips: [*const bf16; 2],
    sums: Sums,
    meanwhile: &mut impl Meanwhile,
) {
    let (c, pitch) = (sums.at, 4 * sums.pitch);
    let d = c.wrapping_add(ROWS * sums.pitch);
    let (from, from2) = (sums.from, sums.from.wrapping_add(ROWS * sums.pitch));
    // SAFETY: by the caller's promise: loads stay within rows and strips, stores within the sums.
    unsafe {
        if !from.is_null() {
            asm!("tileloadd tmm0, [{c} + {pitch}]", c = in(reg) from, pitch = in(reg) pitch, options(nostack));
            if size[1] == 2 {
                asm!("tileloadd tmm1, [{c} + {pitch} + 64]", c = in(reg) from, pitch = in(reg) pitch, options(nostack));
            }
            if size[0] == 2 {
                asm!("tileloadd tmm2, [{c} + {pitch}]", c = in(reg) from2, pitch = in(reg) pitch, options(nostack));
            }
            if size == [2, 2] {
                asm!("tileloadd tmm3, [{c} + {pitch} + 64]", c = in(reg) from2, pitch = in(reg) pitch, options(nostack));
            }
        } else {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nostack)
            );
        }
        let operands = operands.iter().filter(|o| !o.taps.is_empty());
        let parts = operands.clone().map(|o| o.blocks).sum();
        if parts == 0 {
            meanwhile.part::<S>(1);
        }
        for operand in operands {
            let mut rows = operand.at;
            for _ in 0..operand.blocks {
                match size {
                    [2, 2] => steps!(
                        operand,
                        rows,
                        strips,
                        "tileloadd tmm6, [{b0} + {line}]",
                        "lea {offset}, [{a0} + {offset}*2]",
                        "tileloadd tmm4, [{offset} + {pitch}]",
                        "sub {offset}, {a0}",
                        "add {offset}, {a1}",
                        "tileloadd tmm7, [{b1} + {line}]",
                        "tileloadd tmm5, [{offset} + {pitch}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7"
                    ),
                    [2, _] => steps!(
                        operand,
                        rows,
                        strips,
                        "tileloadd tmm6, [{b0} + {line}]",
                        "lea {offset}, [{a0} + {offset}*2]",
                        "tileloadd tmm4, [{offset} + {pitch}]",
                        "sub {offset}, {a0}",
                        "add {offset}, {a1}",
                        "tileloadd tmm5, [{offset} + {pitch}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm2, tmm5, tmm6"
                    ),
                    [_, 2] => steps!(
                        operand,
                        rows,
                        strips,
                        "tileloadd tmm6, [{b0} + {line}]",
                        "lea {offset}, [{a0} + {offset}*2]",
                        "tileloadd tmm4, [{offset} + {pitch}]",
                        "tileloadd tmm7, [{b1} + {line}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7"
                    ),
                    _ => steps!(
                        operand,
                        rows,
                        strips,
                        "tileloadd tmm6, [{b0} + {line}]",
                        "lea {offset}, [{a0} + {offset}*2]",
                        "tileloadd tmm4, [{offset} + {pitch}]",
                        "tdpbf16ps tmm0, tmm4, tmm6"
                    ),
                }
                rows = rows.map(|row| row.wrapping_add(DEPTH));
                meanwhile.part::<S>(parts);
            }
        }
        asm!("tilestored [{c} + {pitch}], tmm0", c = in(reg) c, pitch = in(reg) pitch, options(nostack));
        if size[1] == 2 {
            asm!("tilestored [{c} + {pitch} + 64], tmm1", c = in(reg) c, pitch = in(reg) pitch, options(nostack));
        }
        if size[0] == 2 {
            asm!("tilestored [{c} + {pitch}], tmm2", c = in(reg) d, pitch = in(reg) pitch, options(nostack));
        }
        if size == [2, 2] {
            asm!("tilestored [{c} + {pitch} + 64], tmm3", c = in(reg) d, pitch = in(reg) pitch, options(nostack));
        }
    }
}
