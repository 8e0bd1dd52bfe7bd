//! In: what a caller says about devices, and this machine. Out: the device that a model is loaded onto.

use super::Precision;
use super::cuda::{CudaDriver, CudaInfo, HalfKind};
use crate::error::{Error, ErrorKind, Result};
use std::str::FromStr;
use std::sync::Arc;

/// What a model is loaded onto.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// What LATENTBLEND_DEVICE says, else the first CUDA device that can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device, by its number.
    Cuda(u32),
    /// The CUDA device of this UUID, whatever its number.
    CudaUuid([u8; 16]),
}

/// A device that a choice came to.
pub(crate) enum Chosen {
    Cpu,
    Cuda { driver: Arc<CudaDriver>, ordinal: u32, kind: HalfKind },
}

impl DeviceChoice {
    /// The device on which that is computed with, or why there is none such.
    pub(crate) fn resolve(self, precision: Precision) -> Result<Chosen> {
        let kind = match precision {
            Precision::Auto | Precision::F16 => Some(HalfKind::F16),
            Precision::Bf16 => Some(HalfKind::Bf16),
            Precision::F32 => None,
        };
        let f32 = || {
            let what = "precision f32: CUDA devices compute in f16 or bf16";
            Error::new(ErrorKind::Unsupported, what)
        };
        match self {
            DeviceChoice::Cpu => Ok(Chosen::Cpu),
            DeviceChoice::Cuda(ordinal) => {
                let driver = CudaDriver::find()?;
                driver.device(ordinal)?;
                Ok(Chosen::Cuda { driver, ordinal, kind: kind.ok_or_else(f32)? })
            }
            DeviceChoice::CudaUuid(uuid) => {
                let driver = CudaDriver::find()?;
                let found = driver.devices().iter().find(|device| device.uuid == uuid);
                let ordinal = found.map(|device| device.ordinal).ok_or_else(|| {
                    Error::invalid(format!(
                        "CUDA: no device has the UUID {}",
                        uuid.map(|byte| format!("{byte:02x}")).concat()
                    ))
                })?;
                driver.device(ordinal)?;
                Ok(Chosen::Cuda { driver, ordinal, kind: kind.ok_or_else(f32)? })
            }
            DeviceChoice::Auto => match std::env::var("LATENTBLEND_DEVICE") {
                Ok(text) if !text.is_empty() && text != "auto" => {
                    let choice = text.parse::<DeviceChoice>();
                    choice.map_err(|e| e.at("LATENTBLEND_DEVICE"))?.resolve(precision)
                }
                // A driver that isn't there, or whose devices cannot be used, leaves the CPU; so does f32.
                _ => Ok(match (CudaDriver::find(), kind) {
                    (Ok(driver), Some(kind)) => {
                        let usable = |device: &&CudaInfo| device.usable().is_ok();
                        let first = driver.devices().iter().find(usable).map(|d| d.ordinal);
                        match first {
                            Some(ordinal) => Chosen::Cuda { driver, ordinal, kind },
                            None => Chosen::Cpu,
                        }
                    }
                    _ => Chosen::Cpu,
                }),
            },
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    /// "auto", "cpu", "cuda", or "cuda:1" and so on.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "device {text:?}: wanted \"auto\", \"cpu\", \"cuda\" or \"cuda:N\""
            ))
        };
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                number.parse().map(DeviceChoice::Cuda).map_err(|_| wrong())
            }
        }
    }
}
