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
    file_of(own_file as fn() -> Option<PathBuf> as usize)
}

/// The file that code at `here` was loaded from.
fn file_of(here: usize) -> Option<PathBuf> {
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

/// Folders that were named, or that this library came with: LATENTBLEND_CUDA_PATH, beside the library itself and in
/// the bundle around it.
fn own_folders() -> Vec<PathBuf> {
    let mut folders = listed("LATENTBLEND_CUDA_PATH");
    if let Some(own) = own_file().as_deref().and_then(Path::parent) {
        folders.push(own.to_owned());
        folders.push(own.join("cuda"));
    }
    folders
}

/// Folders of the machine: the loader's path, and the usual ones.
fn usual_folders() -> Vec<PathBuf> {
    let mut folders = listed("LD_LIBRARY_PATH");
    folders.extend(FOLDERS.iter().map(PathBuf::from));
    folders
}

/// Where a library is looked for, in that order; what the process has loaded already, and what the loader finds by
/// itself, go before the last ones, from LD_LIBRARY_PATH on.
pub fn folders() -> Vec<PathBuf> {
    let mut folders = own_folders();
    folders.extend(usual_folders());
    folders
}

/// A way to open a library.
enum Way {
    File(PathBuf),
    /// What the process has loaded under that name: two drivers in one process wouldn't know of each other.
    Loaded,
    /// By the loader's own means.
    Name,
}

/// A function that a library must have, by its address.
pub(super) struct Library {
    inner: libloading::Library,
    path: String,
}

impl Library {
    /// What `make` makes of the first library called `name` of which it makes anything: of those in [`folders`], and
    /// of those that the process or its loader knows.
    ///
    /// # Errors
    /// `make`'s, or the loader's, of the first that was there, with the others' reasons; `Unsupported`, with the places,
    /// where there was none.
    pub(super) fn find<T>(name: &str, make: impl Fn(Self) -> Result<T>) -> Result<T> {
        let file = |folder: PathBuf| Way::File(folder.join(name));
        let ways = own_folders().into_iter().map(file).chain([Way::Loaded, Way::Name]);
        let mut tried: Vec<PathBuf> = Vec::new();
        let mut failures: Vec<Error> = Vec::new();
        for way in ways.chain(usual_folders().into_iter().map(file)) {
            let library = match way {
                Way::File(path) => {
                    // A link to what was tried is not another library.
                    let Ok(real) = path.canonicalize() else { continue };
                    if tried.contains(&real) {
                        continue;
                    }
                    tried.push(real);
                    Library::open(&path)
                }
                Way::Loaded | Way::Name => {
                    let Some(library) = Library::known(name, matches!(way, Way::Loaded)) else {
                        continue;
                    };
                    let real = Path::new(library.path()).canonicalize().unwrap_or_default();
                    if tried.contains(&real) {
                        continue;
                    }
                    tried.push(real);
                    Ok(library)
                }
            };
            match library.and_then(&make) {
                Ok(made) => return Ok(made),
                Err(e) => failures.push(e),
            }
        }
        let Some(first) = failures.first() else {
            let places: Vec<String> =
                folders().iter().map(|folder| folder.display().to_string()).collect();
            let what = format!(
                "CUDA: {name} not found; looked in {} and by the loader's own means",
                places.join(", ")
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        };
        let all: Vec<&str> = failures.iter().map(Error::message).collect();
        Err(Error::new(first.kind(), all.join("; ")))
    }

    /// The library that the loader means by `name`; `loaded`: only where the process has it already.
    #[cfg(unix)]
    fn known(name: &str, loaded: bool) -> Option<Self> {
        use libloading::os::unix::{Library as Unix, RTLD_LOCAL, RTLD_NOW};
        /// RTLD_NOLOAD of Linux.
        const NO_LOAD: i32 = 4;
        let flags = RTLD_NOW | RTLD_LOCAL | if loaded { NO_LOAD } else { 0 };
        // SAFETY: its initialisers run, if they haven't; the loader's own choice is the driver.
        let inner = unsafe { Unix::open(Some(name), flags) }.ok()?;
        let inner = libloading::Library::from(inner);
        // SAFETY: only the address is looked at.
        let start = unsafe { inner.get::<*const ()>(b"cuInit").ok().map(|at| *at as usize) };
        let path =
            start.and_then(file_of).map_or(name.to_owned(), |path| path.display().to_string());
        Some(Library { inner, path })
    }

    #[cfg(not(unix))]
    fn known(name: &str, loaded: bool) -> Option<Self> {
        if loaded { None } else { Library::open(Path::new(name)).ok() }
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
