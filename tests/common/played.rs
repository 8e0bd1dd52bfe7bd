//! A played CUDA driver: tests/cuda/driver.cpp with all kernels, compiled by g++.
#![allow(unsafe_code, reason = "a library in C")]

use latentblend::backend::CudaDriver;
use std::ffi::{CStr, CString, c_char, c_long};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// How it is compiled.
const COMPILER: [&str; 10] = [
    "-std=c++17",
    "-O2",
    "-march=native",
    "-fPIC",
    "-shared",
    // Each copy of the library has variables of its own.
    "-fno-gnu-unique",
    "-fvisibility=hidden",
    // What is converted for a caller's image is rounded as the library rounds it.
    "-ffp-contract=off",
    "-DLB_EMULATED",
    "-w",
];

/// The played driver, built once for its sources, whichever test program is the first to ask.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Of this package, or of one beside it.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let above = root.parent().unwrap_or(root);
        let root = if root.join("tests/cuda/driver.cpp").exists() { root } else { above };
        let kernels = root.join("src/backend/cuda/kernels");
        let driver = root.join("tests/cuda/driver.cpp");
        let mut hasher = DefaultHasher::new();
        COMPILER.hash(&mut hasher);
        let mut sources: Vec<PathBuf> =
            std::fs::read_dir(&kernels).unwrap().map(|entry| entry.unwrap().path()).collect();
        sources.retain(|path| path.extension().is_some_and(|e| e != "code"));
        sources.sort();
        for source in sources.iter().chain([&driver, &driver.with_file_name("state.hpp")]) {
            std::fs::read(source).unwrap().hash(&mut hasher);
        }
        let name = format!("played-{:016x}", hasher.finish());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libcuda.so.1");
        if library.exists() {
            return library;
        }
        let own = folder.join(format!("built-{}", std::process::id()));
        let mut compiler = Command::new("g++");
        let compiler = compiler.args(COMPILER).arg("-I").arg(kernels).arg(driver);
        let output = compiler
            .arg("-o")
            .arg(&own)
            .output()
            .expect("g++, by which the kernels are compiled for this processor");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Whole or not at all: another program may be at the same.
        std::fs::rename(&own, &library).unwrap();
        library
    })
}

/// The driver that the library of this program finds, of two devices; one test at a time.
pub fn machine() -> (&'static Played, MutexGuard<'static, ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    static PLAYED: OnceLock<Played> = OnceLock::new();
    let guard = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let played = PLAYED.get_or_init(|| {
        let played = Played::new("machine");
        played.set("devices", 2);
        let folder = played.path.parent().unwrap();
        // Before it stand a file that is no library, and a driver that is too old.
        let broken = folder.join("broken");
        std::fs::create_dir_all(&broken).unwrap();
        std::fs::write(broken.join("libcuda.so.1"), "no library").unwrap();
        let old = Box::leak(Box::new(Played::new("old-machine")));
        old.set("version", 11080);
        let path = [&broken, old.path.parent().unwrap(), folder].map(PathBuf::from);
        let path = std::env::join_paths(path).unwrap();
        // Nothing else of this program reads or writes the environment meanwhile: the lock is held.
        unsafe { std::env::set_var("LATENTBLEND_CUDA_PATH", path) };
        played
    });
    (played, guard)
}

/// One played driver with a state of its own.
pub struct Played {
    pub path: PathBuf,
    library: libloading::Library,
}

impl Drop for Played {
    fn drop(&mut self) {
        // A copy that stays is in nobody's way.
        let _ = self.path.parent().map(std::fs::remove_dir_all);
    }
}

impl Played {
    /// `name` tells it from others of the program.
    pub fn new(name: &str) -> Played {
        let name = format!("{name}-{}", std::process::id());
        let folder = built().parent().unwrap().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("libcuda.so.1");
        std::fs::copy(built(), &path).unwrap();
        let library = unsafe { libloading::Library::new(&path).unwrap() };
        Played { path, library }
    }

    pub fn driver(&self) -> Arc<CudaDriver> {
        CudaDriver::open(&self.path).unwrap()
    }

    pub fn set(&self, what: &str, value: i64) {
        let what = CString::new(what).unwrap();
        unsafe {
            let set: libloading::Symbol<'_, unsafe extern "C" fn(*const c_char, c_long)> =
                self.library.get(b"played_set").unwrap();
            set(what.as_ptr(), value);
        }
    }

    pub fn get(&self, what: &str) -> i64 {
        let what = CString::new(what).unwrap();
        unsafe {
            let get: libloading::Symbol<'_, unsafe extern "C" fn(*const c_char) -> c_long> =
                self.library.get(b"played_get").unwrap();
            get(what.as_ptr())
        }
    }

    /// Kernels that were never launched.
    pub fn never(&self) -> String {
        unsafe {
            let never: libloading::Symbol<'_, unsafe extern "C" fn() -> *const c_char> =
                self.library.get(b"played_never").unwrap();
            CStr::from_ptr(never()).to_str().unwrap().to_owned()
        }
    }

    /// Memory of the first played device, as a host would have it.
    pub fn memory(&self, bytes: usize) -> u64 {
        self.memory_of(0, bytes)
    }

    pub fn memory_of(&self, device: i32, bytes: usize) -> u64 {
        unsafe {
            let memory: libloading::Symbol<'_, unsafe extern "C" fn(usize, i32) -> u64> =
                self.library.get(b"played_memory").unwrap();
            memory(bytes, device)
        }
    }

    /// The same that ends the process when anybody but the driver reaches it.
    pub fn guarded(&self, device: i32, bytes: usize) -> u64 {
        unsafe {
            let memory: libloading::Symbol<'_, unsafe extern "C" fn(usize, i32) -> u64> =
                self.library.get(b"played_guarded").unwrap();
            memory(bytes, device)
        }
    }

    /// Lets the test look at guarded memory while `work` runs.
    pub fn opened<T>(&self, work: impl FnOnce() -> T) -> T {
        unsafe {
            let open: libloading::Symbol<'_, unsafe extern "C" fn(i32)> =
                self.library.get(b"played_open").unwrap();
            open(1);
            let result = work();
            open(0);
            result
        }
    }

    /// Makes a device's context the thread's current one; -1 ends that.
    pub fn enter(&self, device: i32) {
        unsafe {
            let enter: libloading::Symbol<'_, unsafe extern "C" fn(i32)> =
                self.library.get(b"played_enter").unwrap();
            enter(device);
        }
    }
}
