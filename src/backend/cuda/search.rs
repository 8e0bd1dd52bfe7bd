//! In: the name of a shared library. Out: the library, opened, or where it was looked for.
//!
//! A library that is not there is an error with a sentence, never a fault: hence own tables of functions and
//! absolute paths, and no binding that panics.
#![allow(unsafe_code, reason = "a shared library is opened")]

use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The driver's library.
pub const DRIVER: &str = "libcuda.so.1";

/// Where the dynamic loader and CUDA's installers put libraries.
const FOLDERS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",
    "/usr/lib/wsl/lib",
];

/// The folders of a list like PATH.
fn listed(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// The file that this very code was loaded from: the shared library, or a program that it is part of.
fn own_file() -> Option<PathBuf> {
    let here = own_file as fn() -> Option<PathBuf> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let within = usize::from_str_radix(start, 16).ok()? <= here
            && here < usize::from_str_radix(end, 16).ok()?;
        let path = rest.splitn(5, ' ').last()?.trim();
        (within && path.starts_with('/')).then(|| PathBuf::from(path))
    })
}

/// Where a library is looked for, in that order: LATENTBLEND_CUDA_PATH, beside the library itself and in the
/// bundle around it, the loader's path, and the usual folders.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = listed("LATENTBLEND_CUDA_PATH");
    if let Some(own) = own_file().as_deref().and_then(Path::parent) {
        folders.push(own.to_owned());
        folders.push(own.join("cuda"));
    }
    folders.extend(listed("LD_LIBRARY_PATH"));
    folders.extend(FOLDERS.iter().map(PathBuf::from));
    folders
}

/// The file called `name` in the first of [`folders`] that has one.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|path| path.exists())
}

/// A function that a library must have, by its address.
pub(super) struct Library {
    inner: libloading::Library,
    path: String,
}

impl Library {
    /// Opens `name` where it is found, or by the loader's own means.
    pub(super) fn find(name: &str) -> Result<Self> {
        if let Some(path) = find(name) {
            return Library::open(&path);
        }
        Library::open(Path::new(name)).map_err(|_| {
            let places: Vec<String> =
                folders().iter().map(|folder| folder.display().to_string()).collect();
            let what = format!(
                "CUDA: {name} not found; looked in {} and by the loader's own means",
                places.join(", ")
            );
            Error::new(ErrorKind::Unsupported, what)
        })
    }

    /// Opens the library at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        // SAFETY: its initialisers run; the file is the driver's, or one that the caller or its user has named.
        let inner = unsafe { libloading::Library::new(path) };
        let path = path.display().to_string();
        match inner {
            Ok(inner) => Ok(Library { inner, path }),
            Err(e) => Err(Error::new(ErrorKind::Unsupported, format!("CUDA: {path}: {e}"))),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The address of function `symbol` as a function pointer of type `F`.
    ///
    /// # Safety
    /// `F` is the type of that function.
    // SAFETY: unsafe for the caller, who knows the type.
    pub(super) unsafe fn function<F: Copy>(&self, symbol: &str) -> Result<F> {
        // SAFETY: the caller's promise; the library stays open for good (`keep`).
        let found = unsafe { self.inner.get::<F>(symbol.as_bytes()) };
        found.map(|function| *function).map_err(|_| {
            let what = format!("{} has no function {symbol}: an older driver?", self.path);
            Error::new(ErrorKind::Unsupported, what)
        })
    }

    /// Leaves the library open until the process ends, for its threads may outlive every handle.
    pub(super) fn keep(self) {
        std::mem::forget(self.inner);
    }
}
