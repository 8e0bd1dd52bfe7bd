//! In: the driver's library. Out: the table of its functions that are used, what they take, and what their statuses mean.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::search::Library;
use crate::error::{Error, ErrorKind, Result};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// A context, stream, event, module, function, graph: pointers that only the driver looks behind.
pub(super) type Handle = usize;
/// An address in the memory of a device.
pub(super) type Address = u64;
/// A status; 0 is success.
pub(super) type Status = c_int;

/// CUDA_MEMCPY2D_v2
#[repr(C)]
pub(super) struct Copy2D {
    pub(super) source_x: usize,
    pub(super) source_y: usize,
    pub(super) source_kind: c_uint,
    pub(super) source_host: *const c_void,
    pub(super) source: Address,
    pub(super) source_array: Handle,
    pub(super) source_pitch: usize,
    pub(super) target_x: usize,
    pub(super) target_y: usize,
    pub(super) target_kind: c_uint,
    pub(super) target_host: *mut c_void,
    pub(super) target: Address,
    pub(super) target_array: Handle,
    pub(super) target_pitch: usize,
    pub(super) bytes: usize,
    pub(super) height: usize,
}

impl Default for Copy2D {
    fn default() -> Self {
        Copy2D {
            source_x: 0,
            source_y: 0,
            source_kind: 0,
            source_host: std::ptr::null(),
            source: 0,
            source_array: 0,
            source_pitch: 0,
            target_x: 0,
            target_y: 0,
            target_kind: 0,
            target_host: std::ptr::null_mut(),
            target: 0,
            target_array: 0,
            target_pitch: 0,
            bytes: 0,
            height: 0,
        }
    }
}

/// Code as a driver takes it: at an address that words may be read from.
pub(super) struct Loadable {
    words: Vec<u64>,
    length: usize,
}

impl Loadable {
    /// A copy of `bytes`.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_ne_bytes(word)
        };
        Loadable { words: bytes.chunks(8).map(word).collect(), length: bytes.len() }
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes lie in the words, and any of them are bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast::<u8>(), self.length) }
    }
}

macro_rules! table {
    ($($field:ident = $symbol:literal ($($argument:ty),*);)*) => {
        /// The driver's functions.
        pub(super) struct Calls {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Calls {
            /// Looks all of them up.
            pub(super) fn load(library: &Library) -> Result<Self> {
                Ok(Calls {
                    // SAFETY: the types are those of CUDA's header cuda.h, of versions 12.0 to 13.0.
                    $($field: unsafe { library.function($symbol)? },)*
                })
            }
        }
    };
}

table! {
    init = "cuInit" (c_uint);
    version = "cuDriverGetVersion" (*mut c_int);
    error_name = "cuGetErrorName" (Status, *mut *const c_char);
    error_text = "cuGetErrorString" (Status, *mut *const c_char);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, c_int);
    device_uuid = "cuDeviceGetUuid_v2" (*mut [u8; 16], c_int);
    device_memory = "cuDeviceTotalMem_v2" (*mut usize, c_int);
    device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, c_int);
    context_retain = "cuDevicePrimaryCtxRetain" (*mut Handle, c_int);
    context_release = "cuDevicePrimaryCtxRelease_v2" (c_int);
    context_push = "cuCtxPushCurrent_v2" (Handle);
    context_pop = "cuCtxPopCurrent_v2" (*mut Handle);
    context_current = "cuCtxGetCurrent" (*mut Handle);
    context_device = "cuCtxGetDevice" (*mut c_int);
    priorities = "cuCtxGetStreamPriorityRange" (*mut c_int, *mut c_int);
    stream_create = "cuStreamCreateWithPriority" (*mut Handle, c_uint, c_int);
    stream_destroy = "cuStreamDestroy_v2" (Handle);
    stream_context = "cuStreamGetCtx" (Handle, *mut Handle);
    stream_wait = "cuStreamSynchronize" (Handle);
    capture_begin = "cuStreamBeginCapture_v2" (Handle, c_int);
    capture_end = "cuStreamEndCapture" (Handle, *mut Handle);
    capture_mode = "cuThreadExchangeStreamCaptureMode" (*mut c_int);
    graph_instantiate = "cuGraphInstantiateWithFlags" (*mut Handle, Handle, u64);
    graph_launch = "cuGraphLaunch" (Handle, Handle);
    graph_destroy = "cuGraphDestroy" (Handle);
    graph_exec_destroy = "cuGraphExecDestroy" (Handle);
    event_create = "cuEventCreate" (*mut Handle, c_uint);
    event_record = "cuEventRecord" (Handle, Handle);
    event_wait = "cuEventSynchronize" (Handle);
    event_query = "cuEventQuery" (Handle);
    stream_after = "cuStreamWaitEvent" (Handle, Handle, c_uint);
    event_destroy = "cuEventDestroy_v2" (Handle);
    memory_take = "cuMemAlloc_v2" (*mut Address, usize);
    memory_give = "cuMemFree_v2" (Address);
    pinned_take = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    pinned_give = "cuMemFreeHost" (*mut c_void);
    memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    copy_in = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle);
    copy_out = "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle);
    copy = "cuMemcpyDtoDAsync_v2" (Address, Address, usize, Handle);
    copy_2d = "cuMemcpy2DAsync_v2" (*const Copy2D, Handle);
    module_load = "cuModuleLoadData" (*mut Handle, *const c_void);
    module_unload = "cuModuleUnload" (Handle);
    module_function = "cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    function_attribute = "cuFuncSetAttribute" (Handle, c_int, c_int);
    launch = "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
    pointer_attribute = "cuPointerGetAttribute" (*mut c_void, c_int, Address);
}

/// CUDA_ERROR_OUT_OF_MEMORY
pub(super) const OUT_OF_MEMORY: Status = 2;

/// Statuses after which a context answers nothing any more: a kernel failed, the card is gone, ...
pub(super) fn is_lost(status: Status) -> bool {
    // DEVICE_UNAVAILABLE; INVALID_CONTEXT, of ours, which is as good as it is retained; ECC_UNCORRECTABLE,
    // NVLINK_UNCORRECTABLE, CONTAINED; ILLEGAL_ADDRESS, LAUNCH_TIMEOUT; CONTEXT_IS_DESTROYED, ASSERT;
    // HARDWARE_STACK_ERROR to LAUNCH_FAILED; TENSOR_MEMORY_LEAK; EXTERNAL_DEVICE; UNKNOWN.
    matches!(
        status,
        46 | 201 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 911 | 999
    )
}

impl Calls {
    /// What the driver calls a status.
    fn words(&self, status: Status) -> String {
        let ask = |function: unsafe extern "C" fn(Status, *mut *const c_char) -> Status| {
            let mut text = std::ptr::null();
            // SAFETY: writes a pointer to a text of the driver's own, which stays, or leaves it NULL.
            unsafe {
                if function(status, &mut text) != 0 || text.is_null() {
                    return String::from("unknown");
                }
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        format!("{} ({status}: {})", ask(self.error_name), ask(self.error_text))
    }

    /// An error for a status that is not success; `what` says what was tried.
    pub(super) fn error(&self, status: Status, what: &str) -> Error {
        let kind = match status {
            OUT_OF_MEMORY => ErrorKind::OutOfMemory,
            _ => ErrorKind::Device,
        };
        Error::new(kind, format!("CUDA: {what}: {}", self.words(status)))
    }

    /// Success, or the error.
    pub(super) fn check(&self, status: Status, what: &str) -> Result<()> {
        if status == 0 { Ok(()) } else { Err(self.error(status, what)) }
    }
}
