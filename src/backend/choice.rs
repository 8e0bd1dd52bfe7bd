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
    /// What `Auto` comes to, but this CUDA device before others: the one that a caller's own memory is of, say.
    Near(u32),
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
            DeviceChoice::CudaUuid(uuid) => {
                let driver = CudaDriver::find()?;
                let ordinal = driver.of_uuid(uuid)?.ordinal;
                DeviceChoice::Cuda(ordinal).resolve(precision)
            }
            DeviceChoice::Auto => DeviceChoice::automatic(precision, None),
            DeviceChoice::Near(ordinal) => DeviceChoice::automatic(precision, Some(ordinal)),
        }
    }

    /// What the environment names, or the best there is.
    fn automatic(precision: Precision, first: Option<u32>) -> Result<Chosen> {
        match std::env::var("LATENTBLEND_DEVICE") {
            Ok(text) if !text.is_empty() && text != "auto" => {
                let choice = text.parse::<DeviceChoice>();
                choice.map_err(|e| e.at("LATENTBLEND_DEVICE"))?.resolve(precision)
            }
            _ => Ok(DeviceChoice::best(precision, first)),
        }
    }

    /// The first CUDA device that computes with that, `first` before all. A driver that isn't there, or has no such device, leaves the
    /// CPU, which says what is wrong with a precision that it hasn't either.
    fn best(precision: Precision, first: Option<u32>) -> Chosen {
        if precision.on_cuda().is_err() {
            return Chosen::Cpu;
        }
        let Ok(driver) = CudaDriver::find() else { return Chosen::Cpu };
        let able = |device: &&CudaInfo| device.computes_in(precision).is_ok();
        let preferred = |device: &&CudaInfo| Some(device.ordinal) == first && able(device);
        let devices = driver.devices().iter();
        let found = devices.clone().find(preferred).or_else(|| devices.clone().find(able));
        match found.map(|device| device.ordinal) {
            Some(ordinal) => Chosen::Cuda { driver, ordinal },
            None => Chosen::Cpu,
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    /// "auto", "cpu", "cuda", "cuda:1" and so on, or a UUID as NVIDIA's tools write it: "GPU-8932f937-d72c-..."
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "device {text:?}: wanted \"auto\", \"cpu\", \"cuda\", \"cuda:N\" or \"GPU-\" and a UUID"
            ))
        };
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => {
                // An instance of a partitioned device has a UUID of its own.
                if let Some(uuid) = text.strip_prefix("GPU-").or(text.strip_prefix("MIG-")) {
                    return uuid_of(uuid).map(DeviceChoice::CudaUuid).ok_or_else(wrong);
                }
                let number = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                number.parse().map(DeviceChoice::Cuda).map_err(|_| wrong())
            }
        }
    }
}

/// Sixteen bytes in 32 hexadecimal digits, in groups of 8, 4, 4, 4 and 12.
fn uuid_of(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let mut uuid = [0; 16];
    let digits: Vec<u32> =
        groups.concat().chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    for (byte, pair) in uuid.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    Some(uuid)
}
