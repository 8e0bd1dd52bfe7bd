//! In: a machine. Out: its CUDA driver, if it has one, and what devices that has.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::Calls;
use super::device::Device;
use super::search::{DRIVER, Library};
use crate::backend::Precision;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

/// The version that a driver must have at least: kernels are made by the compiler of this one (`code.rs`).
const VERSION: i32 = 12000;

/// The least compute capabilities, for the kernels and for bf16.
const CAPABILITY: [i32; 2] = [7, 5];
const BF16_CAPABILITY: [i32; 2] = [8, 0];

/// CU_DEVICE_ATTRIBUTE_*
mod attribute {
    pub(super) const MULTIPROCESSORS: i32 = 16;
    pub(super) const MAJOR: i32 = 75;
    pub(super) const MINOR: i32 = 76;
    pub(super) const SHARED_MEMORY: i32 = 97;
}

/// A loaded driver.
pub struct CudaDriver {
    pub(super) calls: Calls,
    path: String,
    version: i32,
    devices: Vec<CudaInfo>,
    /// Contexts in use, by ordinal.
    pub(super) opened: Mutex<HashMap<u32, Weak<Device>>>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaInfo {
    /// Its number, from 0.
    pub ordinal: u32,
    /// As its driver calls it.
    pub name: String,
    /// Tells it from every other.
    pub uuid: [u8; 16],
    /// All its memory, in bytes.
    pub memory: u64,
    /// Major and minor number of its instructions.
    pub capability: [i32; 2],
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most shared memory that a block may have, in bytes.
    pub shared_memory: u32,
}

impl CudaInfo {
    /// The UUID as NVIDIA's tools write it.
    pub fn uuid_text(&self) -> String {
        written(self.uuid)
    }

    /// Fails, with the reason, for a device that the kernels are not made for.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn usable(&self) -> Result<()> {
        if self.capability < CAPABILITY {
            let ([major, minor], [a, b]) = (self.capability, CAPABILITY);
            let what = format!(
                "{}: compute capability {major}.{minor}, wanted {a}.{b} or newer",
                self.name
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(())
    }

    /// What `precision` comes to on it: f16 or bf16.
    ///
    /// # Errors
    /// `Unsupported` for a device that cannot be used, or not with these numbers.
    pub fn computes_in(&self, precision: Precision) -> Result<Precision> {
        self.usable()?;
        let precision = precision.on_cuda()?;
        if precision == Precision::Bf16 && self.capability < BF16_CAPABILITY {
            let ([major, minor], [a, b]) = (self.capability, BF16_CAPABILITY);
            let what = format!(
                "bf16 on {} of compute capability {major}.{minor}: wanted {a}.{b} or newer, or f16",
                self.name
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok(precision)
    }
}

impl CudaDriver {
    /// This machine's driver. Looked for until it is found, then kept.
    ///
    /// # Errors
    /// `Unsupported` where there is none, with the places where it was looked for, or where it is too old;
    /// `Device` where it has no device or fails.
    pub fn find() -> Result<Arc<Self>> {
        static FOUND: OnceLock<Arc<CudaDriver>> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(Arc::clone(found));
        }
        let driver = Arc::new(Library::find(DRIVER, CudaDriver::load)?);
        Ok(Arc::clone(FOUND.get_or_init(|| driver)))
    }

    /// The driver in the file at `path`.
    ///
    /// # Errors
    /// Those of [`CudaDriver::find`].
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        Ok(Arc::new(CudaDriver::load(Library::open(path)?)?))
    }

    fn load(library: Library) -> Result<Self> {
        let calls = Calls::load(&library)?;
        let path = library.path().to_owned();
        library.keep();
        let mut version = 0;
        // SAFETY: no arguments but a number and a place for one; the library was just opened.
        unsafe {
            calls.check((calls.init)(0), "cuInit")?;
            calls.check((calls.version)(&mut version), "cuDriverGetVersion")?;
        }
        if version < VERSION {
            let what = format!(
                "{path}: a driver for CUDA {}.{}, wanted {}.{} or newer (version 525 of the driver)",
                version / 1000,
                version % 1000 / 10,
                VERSION / 1000,
                VERSION % 1000 / 10
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let mut count = 0;
        // SAFETY: a place for a number.
        unsafe { calls.check((calls.device_count)(&mut count), "cuDeviceGetCount")? };
        if count <= 0 {
            return Err(Error::new(ErrorKind::Device, format!("{path}: the driver has no device")));
        }
        let devices = (0..count).map(|ordinal| describe(&calls, ordinal)).collect::<Result<_>>()?;
        Ok(CudaDriver { calls, path, version, devices, opened: Mutex::default() })
    }

    /// Its devices, by ordinal.
    pub fn devices(&self) -> &[CudaInfo] {
        &self.devices
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The version of CUDA that it knows: 13000 is 13.0.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The device of a UUID, whether or not it can be used.
    ///
    /// # Errors
    /// `InvalidArgument` where there is none, with those that there are.
    pub fn of_uuid(&self, uuid: [u8; 16]) -> Result<&CudaInfo> {
        self.devices.iter().find(|device| device.uuid == uuid).ok_or_else(|| {
            let those: Vec<String> = self.devices.iter().map(CudaInfo::uuid_text).collect();
            let (uuid, those) = (written(uuid), those.join(", "));
            Error::invalid(format!("CUDA: no device has the UUID {uuid}: wanted {those}"))
        })
    }

    /// Device `ordinal`, if it can be used.
    ///
    /// # Errors
    /// `InvalidArgument` where there is none of that number, `Unsupported`.
    pub fn device(&self, ordinal: u32) -> Result<&CudaInfo> {
        let info = self.devices.get(ordinal as usize).ok_or_else(|| {
            Error::invalid(format!(
                "CUDA device {ordinal}: wanted 0 to {}",
                self.devices.len().saturating_sub(1)
            ))
        })?;
        info.usable()?;
        Ok(info)
    }
}

/// "GPU-", and 32 digits in five groups.
fn written(uuid: [u8; 16]) -> String {
    let digits = uuid.map(|byte| format!("{byte:02x}")).concat();
    let (a, b, c, d, e) =
        (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
    format!("GPU-{a}-{b}-{c}-{d}-{e}")
}

fn describe(calls: &Calls, ordinal: i32) -> Result<CudaInfo> {
    let mut name = [0; 128];
    let (mut uuid, mut memory) = ([0; 16], 0);
    // SAFETY: places for a text of the given length, for 16 bytes and for a number.
    unsafe {
        let length = name.len() as i32;
        calls.check((calls.device_name)(name.as_mut_ptr(), length, ordinal), "cuDeviceGetName")?;
        calls.check((calls.device_uuid)(&mut uuid, ordinal), "cuDeviceGetUuid")?;
        calls.check((calls.device_memory)(&mut memory, ordinal), "cuDeviceTotalMem")?;
    }
    let attribute = |number: i32| {
        let mut value = 0;
        // SAFETY: a place for a number.
        let status = unsafe { (calls.device_attribute)(&mut value, number, ordinal) };
        calls.check(status, "cuDeviceGetAttribute").map(|()| value)
    };
    let name: Vec<u8> = name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    Ok(CudaInfo {
        ordinal: ordinal as u32,
        name: String::from_utf8_lossy(&name).into_owned(),
        uuid,
        memory: memory as u64,
        capability: [attribute(attribute::MAJOR)?, attribute(attribute::MINOR)?],
        multiprocessors: attribute(attribute::MULTIPROCESSORS)?.max(1) as u32,
        shared_memory: attribute(attribute::SHARED_MEMORY)?.max(0) as u32,
    })
}
