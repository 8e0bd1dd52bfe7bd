//! In: nothing. Out: what a model can be loaded onto.

use super::growing::{Growing, read, write};
use super::{entry, lb_error, lb_status};
use crate::backend::{Chosen, CudaDriver, CudaInfo, DeviceChoice, Precision};
use crate::error::{Error, ErrorKind, Result, guarded};
use std::ffi::c_void;

/// A kind of device.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_device_kind = u32;

/// The best there is.
pub const LB_DEVICE_AUTO: lb_device_kind = 0;
/// The CPU.
pub const LB_DEVICE_CPU: lb_device_kind = 1;
/// An NVIDIA GPU.
pub const LB_DEVICE_CUDA: lb_device_kind = 2;

/// How a device is named, and what `what` is then: a pointer to something, or a handle of CUDA's own.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_device_by = u32;

/// By its number. `what` is NULL.
pub const LB_DEVICE_BY_ORDINAL: lb_device_by = 0;
/// By its UUID: `what` points to 16 bytes, those of lb_device_info.uuid and of cuDeviceGetUuid.
pub const LB_DEVICE_BY_UUID: lb_device_by = 1;
/// By its name: `what` points to NUL-ended text, "cpu", "cuda", "cuda:1" or a UUID as NVML writes it,
/// "GPU-8932f937-d72c-...".
pub const LB_DEVICE_BY_NAME: lb_device_by = 2;
/// By memory in it: `what` is a CUdeviceptr.
pub const LB_DEVICE_BY_POINTER: lb_device_by = 3;
/// By a stream: `what` is a CUstream (cudaStream_t); NULL, the default stream, is that of the thread's current context.
pub const LB_DEVICE_BY_STREAM: lb_device_by = 4;
/// By a context: `what` is a CUcontext; NULL is the thread's current one.
pub const LB_DEVICE_BY_CONTEXT: lb_device_by = 5;

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
        let device = index.checked_sub(1).and_then(|index| devices.get(index));
        // SAFETY: `read` has found the struct not to be NULL, and its size to be one.
        unsafe { write(info, &about(device, known)) };
        Ok(())
    })
}

/// Writes which device `what` names, in the way that an LB_DEVICE_BY value says: one that a host knows by memory, a
/// stream or a context of its own, say. lb_model_options takes the same two. LB_ERROR_INVALID_ARGUMENT where nothing
/// is named, LB_ERROR_UNSUPPORTED, with the reason, where models cannot be loaded onto what is. Any thread, at once;
/// its current context stays. Since 0.1.
///
/// # Safety
/// `what` is as the LB_DEVICE_BY value says, streams and contexts are alive; the rest as lb_device_get says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_device_find(
    by: lb_device_by,
    what: *const c_void,
    info: *mut lb_device_info,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let known = unsafe { read(info.cast_const())? };
        if by == LB_DEVICE_BY_ORDINAL {
            return Err(Error::invalid("device_by LB_DEVICE_BY_ORDINAL: lb_device_get lists them"));
        }
        // SAFETY: passed on.
        let found = unsafe { named(by, what)? }.resolve(Precision::Auto)?;
        let device = match &found {
            Chosen::Cpu => None,
            Chosen::Cuda { driver, ordinal } => Some(driver.device(*ordinal)?),
        };
        // SAFETY: `read` has found the struct not to be NULL, and its size to be one.
        unsafe { write(info, &about(device, known)) };
        Ok(())
    })
}

/// What a device is; without one what the CPU is.
fn about(device: Option<&CudaInfo>, known: lb_device_info) -> lb_device_info {
    let mut result = lb_device_info { kind: LB_DEVICE_CPU, ..known };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut name = format!("CPU, {threads} threads");
    if let Some(device) = device {
        result.kind = LB_DEVICE_CUDA;
        result.ordinal = device.ordinal;
        result.uuid = device.uuid;
        result.memory_bytes = device.memory;
        name.clone_from(&device.name);
    }
    let length = name.len().min(result.name.len() - 1);
    result.name = [0; 128];
    result.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    result
}

/// What a caller names otherwise than by a number.
///
/// # Safety
/// `what` is as the LB_DEVICE_BY value says, streams and contexts are alive.
unsafe fn named(by: lb_device_by, what: *const c_void) -> Result<DeviceChoice> {
    let there = |name: &str| match what.is_null() {
        true => Err(Error::invalid(format!("a device by its {name}: NULL, wanted one"))),
        false => Ok(()),
    };
    match by {
        LB_DEVICE_BY_UUID => {
            there("UUID")?;
            // SAFETY: 16 bytes by the caller's word, aligned or not.
            Ok(DeviceChoice::CudaUuid(unsafe { what.cast::<[u8; 16]>().read_unaligned() }))
        }
        LB_DEVICE_BY_NAME => {
            there("name")?;
            // SAFETY: a text by the caller's word.
            let text = unsafe { super::text(what.cast(), "the device's name")? };
            text.unwrap_or_default().parse()
        }
        LB_DEVICE_BY_POINTER => {
            there("memory")?;
            CudaDriver::find()?.of_pointer(what.addr() as u64).map(DeviceChoice::Cuda)
        }
        LB_DEVICE_BY_STREAM => {
            // SAFETY: alive by the caller's word.
            unsafe { CudaDriver::find()?.of_stream(what.addr()) }.map(DeviceChoice::Cuda)
        }
        LB_DEVICE_BY_CONTEXT => {
            // SAFETY: alive by the caller's word.
            unsafe { CudaDriver::find()?.of_context(what.addr()) }.map(DeviceChoice::Cuda)
        }
        other => Err(Error::invalid(format!("device_by {other}: wanted an LB_DEVICE_BY value"))),
    }
}

/// A caller's choice of device: of a kind, by its number or by what it is named by.
///
/// # Safety
/// As [`named`] says.
pub(super) unsafe fn choose(
    kind: lb_device_kind,
    ordinal: u32,
    (by, what): (lb_device_by, *const c_void),
) -> Result<DeviceChoice> {
    if by == LB_DEVICE_BY_ORDINAL {
        return match what.is_null() {
            true => by_number(kind, ordinal),
            false => Err(Error::invalid(format!(
                "device_what {what:?} without a device_by: wanted NULL"
            ))),
        };
    }
    if !matches!(kind, LB_DEVICE_AUTO | LB_DEVICE_CUDA) || ordinal != 0 {
        let what = format!(
            "device kind {kind} with ordinal {ordinal} and device_by {by}: wanted LB_DEVICE_AUTO or LB_DEVICE_CUDA, and 0"
        );
        return Err(Error::invalid(what));
    }
    // SAFETY: passed on.
    let choice = unsafe { named(by, what) };
    if kind == LB_DEVICE_CUDA {
        return match choice? {
            DeviceChoice::Auto | DeviceChoice::Cpu => {
                Err(Error::invalid("LB_DEVICE_CUDA, and the name of a device that is none"))
            }
            choice => Ok(choice),
        };
    }
    match choice {
        Ok(DeviceChoice::Cuda(ordinal)) => Ok(DeviceChoice::Near(ordinal)),
        Ok(DeviceChoice::CudaUuid(uuid)) => match CudaDriver::find() {
            Ok(driver) => Ok(DeviceChoice::Near(driver.of_uuid(uuid)?.ordinal)),
            Err(_) => Ok(DeviceChoice::Auto),
        },
        Ok(choice) => Ok(choice),
        // A machine without a driver has its CPU.
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(DeviceChoice::Auto),
        Err(e) => Err(e),
    }
}

/// The device of a kind and a number.
fn by_number(kind: lb_device_kind, ordinal: u32) -> Result<DeviceChoice> {
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
