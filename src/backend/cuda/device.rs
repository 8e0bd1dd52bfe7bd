//! In: a device's number. Out: its context, streams of low priority, the kernels, and memory: what work is queued on. All
//! models on one device share them (`lane.rs`).
//!
//! A thread's current context is what it was before after every function here: a host has its own.
#![allow(unsafe_code, reason = "functions of the driver")]

use super::calls::{Handle, Status, is_lost};
use super::capture::Relaxed;
use super::code;
use super::driver::{CudaDriver, CudaInfo};
use super::kernels::CONVERT as CONVERT_NAME;
use super::lane::{LANES, Track, stream};
use super::lent::Lent;
use super::memory::Memory;
use super::replay::CudaReplays;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
const MAX_SHARED: i32 = 8;

/// A device in use.
pub(crate) struct Device {
    pub(super) driver: Arc<CudaDriver>,
    pub(super) info: CudaInfo,
    pub(super) context: Handle,
    /// What work is queued on: a [`Lane`](super::lane::Lane) is one of them.
    pub(super) tracks: [Track; LANES],
    /// What is recorded goes here; nothing ever runs on it.
    pub(super) recorder: Handle,
    /// Held while something is recorded.
    pub(super) recording: Mutex<()>,
    /// All kernels, and the one that writes a host's images.
    modules: [Handle; 2],
    functions: Mutex<HashMap<&'static str, Handle>>,
    pub(super) memory: Mutex<Memory>,
    /// What other streams may still read.
    pub(super) lent: Mutex<Vec<Lent>>,
    /// What was recorded so far.
    pub(super) replays: Mutex<CudaReplays>,
    /// Why it answers nothing any more.
    lost: Mutex<Option<String>>,
}

/// While it lives, the device's context is the thread's current one.
pub(super) struct Entered<'a> {
    device: &'a Device,
    _relaxed: Relaxed<'a>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut context = 0;
        // SAFETY: a place for a handle; pops what `enter` has pushed. There is nobody to tell of a failure.
        unsafe { (self.device.driver.calls.context_pop)(&mut context) };
    }
}

impl Device {
    /// Opens device `ordinal`, or shares it with whoever has.
    pub(super) fn open(driver: &Arc<CudaDriver>, ordinal: u32) -> Result<Arc<Self>> {
        let info = driver.device(ordinal)?.clone();
        let mut opened = driver.opened.lock();
        let known = opened.get(&ordinal).and_then(std::sync::Weak::upgrade);
        // A lost device may have come back; whoever holds the lost one goes on getting errors.
        if let Some(device) = known.filter(|device| device.lost.lock().is_none()) {
            return Ok(device);
        }
        let calls = &driver.calls;
        let mut context = 0;
        // SAFETY: a place for a handle.
        let status = unsafe { (calls.context_retain)(&mut context, ordinal as i32) };
        calls.check(status, &format!("opening device {ordinal} ({})", info.name))?;
        let mut device = Device {
            driver: Arc::clone(driver),
            info,
            context,
            tracks: Default::default(),
            recorder: 0,
            recording: Mutex::default(),
            modules: [0; 2],
            functions: Mutex::default(),
            memory: Mutex::new(Memory::new()),
            lent: Mutex::default(),
            replays: Mutex::default(),
            lost: Mutex::default(),
        };
        device.prepare()?;
        let device = Arc::new(device);
        opened.insert(ordinal, Arc::downgrade(&device));
        Ok(device)
    }

    fn prepare(&mut self) -> Result<()> {
        let (mut tracks, mut recorder, mut modules) = (<[Track; LANES]>::default(), 0, [0; 2]);
        let made = self.enter().and_then(|_entered| {
            let calls = &self.driver.calls;
            tracks.iter_mut().try_for_each(|track| track.prepare(calls))?;
            recorder = stream(calls)?;
            for (module, file) in modules.iter_mut().zip([code::KERNELS, code::CONVERT]) {
                let code = code::of(file, self.info.capability, self.driver.version())?;
                // SAFETY: a place for a handle; machine code with its length in itself, or a text that ends in NUL,
                // which the driver copies.
                let status =
                    unsafe { (calls.module_load)(module, code.bytes().as_ptr().cast::<c_void>()) };
                calls.check(status, "loading the kernels")?;
            }
            Ok(())
        });
        // Also where some failed: what is there is let go of with the device.
        (self.tracks, self.recorder, self.modules) = (tracks, recorder, modules);
        made
    }

    /// Makes the device's context the thread's current one.
    pub(super) fn enter(&self) -> Result<Entered<'_>> {
        if let Some(why) = &*self.lost.lock() {
            return Err(Error::new(ErrorKind::Device, why.clone()));
        }
        // SAFETY: a context that is retained.
        let status = unsafe { (self.driver.calls.context_push)(self.context) };
        self.check(status, "cuCtxPushCurrent")?;
        Ok(Entered { device: self, _relaxed: Relaxed::new(&self.driver.calls) })
    }

    /// Success, or the error; one that the context doesn't survive marks the device lost.
    pub(super) fn check(&self, status: Status, what: &str) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let error = self.driver.calls.error(status, what);
        if is_lost(status) {
            let name = &self.info.name;
            let why = format!(
                "{name} was lost ({error}); models on it must be loaded again, on the CPU if it stays so"
            );
            self.lost.lock().get_or_insert(why);
        }
        Err(error.at(&self.info.name))
    }

    /// Whether it still answers.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.lock().is_some()
    }

    pub(super) fn function(&self, name: &'static str) -> Result<Handle> {
        let mut functions = self.functions.lock();
        if let Some(&function) = functions.get(name) {
            return Ok(function);
        }
        let symbol = CString::new(name).map_err(|_| Error::internal("a kernel's name"))?;
        let calls = &self.driver.calls;
        let mut function = 0;
        let module = self.modules[usize::from(name == CONVERT_NAME)];
        // SAFETY: a place for a handle, a module that is loaded, a text that ends in NUL.
        unsafe {
            let status = (calls.module_function)(&mut function, module, symbol.as_ptr());
            self.check(status, &format!("kernel {name}"))?;
            let most = self.info.shared_memory as i32;
            let status = (calls.function_attribute)(function, MAX_SHARED, most);
            self.check(status, &format!("shared memory of kernel {name}"))?;
        }
        functions.insert(name, function);
        Ok(function)
    }

    /// Queues kernel `name`, whose one argument is `parameters`, on any stream of the device.
    pub(super) fn launch_on<P: super::kernels::Parameters>(
        &self,
        stream: Handle,
        name: &'static str,
        [x, y, z]: [u32; 3],
        block: u32,
        shared: u32,
        parameters: &P,
    ) -> Result<()> {
        let _entered = self.enter()?;
        let function = self.function(name)?;
        let mut arguments = [std::ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        // SAFETY: the kernel takes one argument of this type, by `Parameters`; it is copied during the call.
        let status = unsafe {
            (self.driver.calls.launch)(
                function,
                x,
                y,
                z,
                block,
                1,
                1,
                shared,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.check(status, &format!("kernel {name}"))
    }

    /// Lets a recorded graph go.
    pub(super) fn forget(&self, exec: Handle) {
        if let Ok(_entered) = self.enter() {
            // SAFETY: a graph of `record`'s that is not used again; the driver keeps it while it runs.
            unsafe { (self.driver.calls.graph_exec_destroy)(exec) };
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let calls = &self.driver.calls;
        let _relaxed = Relaxed::new(calls);
        self.memory.get_mut().release_all(calls, self.context);
        // SAFETY: all of these are ours and not used again. Failures (a lost device, a driver that has shut down
        // before us) leave nothing to be done.
        unsafe {
            let mut before = 0;
            if (calls.context_push)(self.context) == 0 {
                self.tracks.iter_mut().for_each(|track| track.release(calls));
                for module in self.modules {
                    if module != 0 {
                        (calls.module_unload)(module);
                    }
                }
                if self.recorder != 0 {
                    (calls.stream_destroy)(self.recorder);
                }
                (calls.context_pop)(&mut before);
            }
            (calls.context_release)(self.info.ordinal as i32);
        }
    }
}
