//! In: the processor, and the name of a level where a caller forces one. Out: [`Level`], which
//! instructions the kernels use.

#![allow(unsafe_code, reason = "the system is asked for the registers of matrices")]

use crate::backend::Precision;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// The instructions that kernels are compiled for, from the most common to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has.
    Portable,
    /// x86-64 with AVX2 and FMA: 8 values at a time.
    Avx2,
    /// x86-64 with AVX-512 F: 16 values at a time.
    Avx512,
    /// The same with products of bf16: 32 at a time. In f32 it is [`Level::Avx512`].
    Avx512Bf16,
    /// The same with products of matrices: 16 rows by 16 columns of 32 bf16 at a time. In f32 it is
    /// [`Level::Avx512`].
    Amx,
}

impl Level {
    /// Every level, the slowest first.
    pub const ALL: [Level; 5] =
        [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];

    /// The name that `LATENTBLEND_CPU_LEVEL` takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
            Level::Amx => "amx",
        }
    }

    /// Whether this processor has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Level::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => {
                Level::Avx512.is_available()
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Level::Avx512Bf16.is_available() && matrices::allowed(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest level of this processor.
    pub fn best() -> Self {
        Level::ALL.into_iter().rev().find(|level| level.is_available()).unwrap_or(Level::Portable)
    }

    /// The precision that is fastest in it: bf16 where the processor multiplies in that.
    pub fn precision(self) -> Precision {
        if self >= Level::Avx512Bf16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// The level that `LATENTBLEND_CPU_LEVEL` asks for: one's name, or "best", which it is where nothing is set.
    /// `None` for "reference", which is no level.
    ///
    /// # Errors
    /// As [`Level::named`].
    pub fn from_environment() -> Result<Option<Self>> {
        match std::env::var("LATENTBLEND_CPU_LEVEL").unwrap_or_default().as_str() {
            "reference" => Ok(None),
            "" | "best" => Ok(Some(Level::best())),
            name => Level::named(name).map(Some),
        }
    }

    /// What it is where products are of f32.
    pub(super) fn full(self) -> Self {
        self.min(Level::Avx512)
    }

    /// The level named `name`, in any case.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown name, `Unsupported` where this processor lacks it.
    pub fn named(name: &str) -> Result<Self> {
        let level = Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name));
        let level = level.ok_or_else(|| {
            Error::invalid(format!(
                "processor level {name:?} is none of \"portable\", \"avx2\", \"avx512\", \
                 \"avx512bf16\", \"amx\""
            ))
        })?;
        if !level.is_available() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("this processor has no {level}"),
            ));
        }
        Ok(level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The registers of matrices, which Linux gives to a process that asks for them.
#[cfg(target_arch = "x86_64")]
mod matrices {
    /// Whether the processor multiplies matrices of bf16 and this process may have it do so.
    pub(super) fn allowed() -> bool {
        use std::sync::OnceLock;
        static ALLOWED: OnceLock<bool> = OnceLock::new();
        *ALLOWED.get_or_init(|| has_instructions() && asked())
    }

    fn has_instructions() -> bool {
        use std::arch::x86_64::__cpuid_count;
        if __cpuid_count(0, 0).eax < 7 {
            return false;
        }
        let bits = __cpuid_count(7, 0).edx;
        let (products, tiles) = (bits >> 22 & 1, bits >> 24 & 1);
        products == 1 && tiles == 1
    }

    #[cfg(target_os = "linux")]
    fn asked() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let answer: i64;
        // SAFETY: the call changes nothing but what this process may use; it clobbers what is named.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => answer,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn asked() -> bool {
        false
    }
}
