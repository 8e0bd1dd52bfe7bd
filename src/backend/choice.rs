//! In: what a caller says about devices, and this machine. Out: the device that a model is loaded onto.

use super::Precision;
use super::cuda::{CudaDriver, CudaInfo};
use crate::error::{Error, Result};
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
    Cuda { driver: Arc<CudaDriver>, ordinal: u32 },
}

impl DeviceChoice {
    /// The device on which that is computed with, or why there is none such.
    pub(crate) fn resolve(self, precision: Precision) -> Result<Chosen> {
        let cuda = |find: &dyn Fn(&CudaInfo) -> bool, what: &dyn Fn(usize) -> String| {
            let driver = CudaDriver::find()?;
            let devices = driver.devices();
            let found = devices.iter().find(|device| find(device));
            let found = found.ok_or_else(|| Error::invalid(what(devices.len())))?;
            found.computes_in(precision)?;
            let ordinal = found.ordinal;
            Ok(Chosen::Cuda { driver, ordinal })
        };
        match self {
            DeviceChoice::Cpu => Ok(Chosen::Cpu),
            DeviceChoice::Cuda(ordinal) => cuda(&|device| device.ordinal == ordinal, &|count| {
                format!("CUDA device {ordinal}: wanted 0 to {}", count.saturating_sub(1))
            }),
            DeviceChoice::CudaUuid(uuid) => cuda(&|device| device.uuid == uuid, &|_| {
                let uuid = uuid.map(|byte| format!("{byte:02x}")).concat();
                format!("CUDA: no device has the UUID {uuid}")
            }),
            DeviceChoice::Auto => match std::env::var("LATENTBLEND_DEVICE") {
                Ok(text) if !text.is_empty() && text != "auto" => {
                    let choice = text.parse::<DeviceChoice>();
                    choice.map_err(|e| e.at("LATENTBLEND_DEVICE"))?.resolve(precision)
                }
                _ => Ok(DeviceChoice::best(precision)),
            },
        }
    }

    /// The first CUDA device that computes with that. A driver that isn't there, or has no such device, leaves the
    /// CPU, which says what is wrong with a precision that it hasn't either.
    fn best(precision: Precision) -> Chosen {
        if precision.on_cuda().is_err() {
            return Chosen::Cpu;
        }
        let Ok(driver) = CudaDriver::find() else { return Chosen::Cpu };
        let able = |device: &&CudaInfo| device.computes_in(precision).is_ok();
        match driver.devices().iter().find(able).map(|device| device.ordinal) {
            Some(ordinal) => Chosen::Cuda { driver, ordinal },
            None => Chosen::Cpu,
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
