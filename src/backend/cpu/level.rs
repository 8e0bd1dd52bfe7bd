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
    /// x86-64 with AVX2, FMA and F16C: 8 values at a time.
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
            Level::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Level::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => {
                Level::Avx512.is_available()
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
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

    /// The precision that is fastest in it on this processor: bf16 where that is multiplied faster than f32.
    ///
    /// Matrices always are. Vectors are where the processor's maker is AMD (Zen 4 and later: twice as fast); Intel's
    /// products of pairs run at half the rate of those of f32, so that as many numbers are multiplied in the same
    /// time, and f32 has Winograd's method besides.
    pub fn precision(self) -> Precision {
        self.precision_of(&vendor())
    }

    /// As [`Level::precision`], on a processor of this maker.
    fn precision_of(self, vendor: &[u8; 12]) -> Precision {
        let faster = match self {
            Level::Amx => true,
            Level::Avx512Bf16 => [b"AuthenticAMD", b"HygonGenuine"].contains(&vendor),
            _ => false,
        };
        if faster { Precision::Bf16 } else { Precision::F32 }
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

/// What the processor's maker calls itself.
fn vendor() -> [u8; 12] {
    let mut name = [0; 12];
    #[cfg(target_arch = "x86_64")]
    {
        let leaf = std::arch::x86_64::__cpuid_count(0, 0);
        let parts = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes);
        name.copy_from_slice(parts.as_flattened());
    }
    name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_chosen_where_it_is_faster_than_f32() {
        let vendors = [b"AuthenticAMD", b"HygonGenuine", b"GenuineIntel", b"            "];
        for (vendor, pairs_are_faster) in vendors.into_iter().zip([true, true, false, false]) {
            for level in Level::ALL {
                let faster = level == Level::Amx || level == Level::Avx512Bf16 && pairs_are_faster;
                let wanted = if faster { Precision::Bf16 } else { Precision::F32 };
                assert_eq!(level.precision_of(vendor), wanted, "{level}");
            }
        }
        assert_eq!(Level::best().precision(), Level::best().precision_of(&vendor()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_maker_is_a_name() {
        assert!(vendor().iter().all(u8::is_ascii_graphic), "{:?}", vendor());
    }
}
