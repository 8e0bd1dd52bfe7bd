//! In: nothing. Out: what a model can be loaded onto.

use super::growing::{Growing, read, write};
use super::{entry, lb_error, lb_status};
use crate::backend::{CudaDriver, CudaInfo, DeviceChoice};
use crate::error::{Error, Result, guarded};

/// A kind of device.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_device_kind = u32;

/// The best there is.
pub const LB_DEVICE_AUTO: lb_device_kind = 0;
/// The CPU.
pub const LB_DEVICE_CPU: lb_device_kind = 1;
/// An NVIDIA GPU.
pub const LB_DEVICE_CUDA: lb_device_kind = 2;

/// A device. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_device_info {
    /// sizeof(lb_device_info), set by the caller
    pub struct_size: usize,
    /// An LB_DEVICE value.
    pub kind: lb_device_kind,
    /// Its number among devices of its kind.
    pub ordinal: u32,
    /// Zero where the device has none.
    pub uuid: [u8; 16],
    /// Zero where it isn't known.
    pub memory_bytes: u64,
    /// UTF-8, NUL-ended.
    pub name: [u8; 128],
}

// SAFETY: repr(C), starts with its size; numbers may have any bits.
unsafe impl Growing for lb_device_info {
    const NAME: &'static str = "lb_device_info";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_device_info {
            struct_size: size_of::<Self>(),
            kind: LB_DEVICE_AUTO,
            ordinal: 0,
            uuid: [0; 16],
            memory_bytes: 0,
            name: [0; 128],
        }
    }
}

/// The CUDA devices that can be used.
fn cuda() -> Vec<CudaInfo> {
    let driver = CudaDriver::find();
    let devices = driver.as_ref().map_or(&[][..], |driver| driver.devices());
    devices.iter().filter(|device| device.usable().is_ok()).cloned().collect()
}

/// The devices that a model can be loaded onto. The CPU is always there, and the first; lb_doctor says why another
/// is not among them. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_device_count() -> usize {
    guarded(|| 1 + cuda().len()).unwrap_or(1)
}

/// Writes what device `index` is. Any thread, at once. Since 0.1.
///
/// # Safety
/// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_device_get(
    index: usize,
    info: *mut lb_device_info,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let known = unsafe { read(info.cast_const())? };
        let devices = cuda();
        if index > devices.len() {
            let what = format!("device {index}: wanted 0 to {}", devices.len());
            return Err(Error::invalid(what));
        }
        let mut result = lb_device_info { kind: LB_DEVICE_CPU, ..known };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut name = format!("CPU, {threads} threads");
        if let Some(device) = index.checked_sub(1).and_then(|index| devices.get(index)) {
            result.kind = LB_DEVICE_CUDA;
            result.ordinal = device.ordinal;
            result.uuid = device.uuid;
            result.memory_bytes = device.memory;
            name.clone_from(&device.name);
        }
        let length = name.len().min(result.name.len() - 1);
        result.name = [0; 128];
        result.name[..length].copy_from_slice(&name.as_bytes()[..length]);
        // SAFETY: `read` has found the struct not to be NULL, and its size to be one.
        unsafe { write(info, &result) };
        Ok(())
    })
}

/// A caller's choice of device.
pub(super) fn choose(kind: lb_device_kind, ordinal: u32) -> Result<DeviceChoice> {
    match kind {
        LB_DEVICE_AUTO if ordinal == 0 => Ok(DeviceChoice::Auto),
        LB_DEVICE_CPU if ordinal == 0 => Ok(DeviceChoice::Cpu),
        LB_DEVICE_AUTO | LB_DEVICE_CPU => {
            Err(Error::invalid(format!("device ordinal {ordinal}: there is one CPU, 0")))
        }
        LB_DEVICE_CUDA => Ok(DeviceChoice::Cuda(ordinal)),
        other => Err(Error::invalid(format!("device kind {other}: wanted an LB_DEVICE value"))),
    }
}
