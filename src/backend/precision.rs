//! In: what a caller says about the numbers to compute with. Out: [`Precision`].

use super::Level;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// The numbers that networks compute with. Sums are always f32 or better, and latents are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// What the device is best at, if pictures stay the same to the eye: on a processor that multiplies faster in
    /// bf16 that (see [`Level::precision`]), else f32. `LATENTBLEND_PRECISION` may name another.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats, for GPUs: what those are best at.
    F16,
    /// 16-bit brain floats: f32 without the last 16 bits.
    Bf16,
}

impl Precision {
    /// Every one of them.
    pub const ALL: [Precision; 4] =
        [Precision::Auto, Precision::F32, Precision::F16, Precision::Bf16];

    /// What it is called: "auto", "f32", "f16", "bf16".
    pub fn name(self) -> &'static str {
        match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }

    /// The one that the environment asks for where the caller leaves the choice.
    ///
    /// # Errors
    /// `InvalidArgument` where `LATENTBLEND_PRECISION` holds no precision's name.
    pub fn or_environment(self) -> Result<Self> {
        let set = std::env::var_os("LATENTBLEND_PRECISION").filter(|value| !value.is_empty());
        match (self, set) {
            (Precision::Auto, Some(value)) => value
                .to_string_lossy()
                .parse()
                .map_err(|e: Error| Error::invalid(format!("LATENTBLEND_PRECISION: {e}"))),
            (own, _) => Ok(own),
        }
    }

    /// What it comes to on this processor: the kernels' level, none where the environment asks for the reference
    /// backend, and f32 or bf16.
    ///
    /// # Errors
    /// `InvalidArgument` for a name in the environment that is none, `Unsupported` for a level or a precision that
    /// this processor or backend lacks.
    pub fn on_cpu(self) -> Result<(Option<Level>, Self)> {
        let unsupported = |why: &str| Err(Error::new(ErrorKind::Unsupported, why));
        match (self.or_environment()?, Level::from_environment()?) {
            (Precision::Auto, Some(level)) => Ok((Some(level), level.precision())),
            (Precision::Auto | Precision::F32, level) => Ok((level, Precision::F32)),
            (Precision::Bf16, Some(level)) => Ok((Some(level), Precision::Bf16)),
            (Precision::Bf16, None) => {
                unsupported("precision bf16: the reference backend computes in f32")
            }
            (Precision::F16, _) => {
                unsupported("precision f16: the processor computes in f32 or bf16")
            }
        }
    }

    /// What it comes to on a CUDA device: f16 or bf16.
    ///
    /// # Errors
    /// `InvalidArgument` for a name in the environment that is none, `Unsupported` for f32.
    pub fn on_cuda(self) -> Result<Self> {
        match self.or_environment()? {
            Precision::Auto | Precision::F16 => Ok(Precision::F16),
            Precision::Bf16 => Ok(Precision::Bf16),
            Precision::F32 => {
                let what = "precision f32: CUDA devices compute in f16 or bf16";
                Err(Error::new(ErrorKind::Unsupported, what))
            }
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// In any case.
    fn from_str(name: &str) -> Result<Self> {
        Precision::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::invalid(format!(
                "precision {name:?} is none of \"auto\", \"f32\", \"f16\", \"bf16\""
            ))
        })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
