//! In: the processor, and the name of a level where a caller forces one. Out: [`Level`], which
//! instructions the kernels use.

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
}

impl Level {
    /// Every level, the slowest first.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The name that `LATENTBLEND_CPU_LEVEL` takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
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
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest level of this processor.
    pub fn best() -> Self {
        Level::ALL.into_iter().rev().find(|level| level.is_available()).unwrap_or(Level::Portable)
    }

    /// The precision that is fastest in it.
    pub fn precision(self) -> Precision {
        Precision::F32
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

    /// The level named `name`, in any case.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown name, `Unsupported` where this processor lacks it.
    pub fn named(name: &str) -> Result<Self> {
        let level = Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name));
        let level = level.ok_or_else(|| {
            Error::invalid(format!(
                "processor level {name:?} is none of \"portable\", \"avx2\", \"avx512\""
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
