//! A played CUDA driver: tests/cuda/driver.cpp with all kernels, compiled by g++.
#![allow(unsafe_code, reason = "a library in C")]

use latentblend::backend::CudaDriver;
use std::ffi::{CStr, CString, c_char, c_long};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The played driver, built once a test program.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("played-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libcuda.so.1");
        let output = Command::new("g++")
            // Each copy of the library has variables of its own.
            .args(["-std=c++17", "-O2", "-march=native", "-fPIC", "-shared", "-fno-gnu-unique"])
            .arg("-fvisibility=hidden")
            .args(["-DLB_EMULATED", "-w", "-I"])
            .arg(root.join("src/backend/cuda/kernels"))
            .arg(root.join("tests/cuda/driver.cpp"))
            .arg("-o")
            .arg(&library)
            .output()
            .expect("g++, by which the kernels are compiled for this processor");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    })
}

/// One played driver with a state of its own.
pub struct Played {
    pub path: PathBuf,
    library: libloading::Library,
}

impl Played {
    /// `name` tells it from others of the program.
    pub fn new(name: &str) -> Played {
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

    /// Memory of the played device, as a host would have it.
    pub fn memory(&self, bytes: usize) -> u64 {
        unsafe {
            let memory: libloading::Symbol<'_, unsafe extern "C" fn(usize) -> u64> =
                self.library.get(b"played_memory").unwrap();
            memory(bytes)
        }
    }
}
