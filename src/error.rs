//! In: nothing. Out: the one error type of the library, sorted by who must act on it.
//!
//! A message names the value that was met and what was wanted, so that a person who reads it in a
//! host's status line can act without a debugger.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// What went wrong, sorted by what a caller does about it.
///
/// The numbers are those of the C API and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument is out of its range: the caller's to correct.
    InvalidArgument = 1,
    /// A file or folder that the call named is not there.
    NotFound = 2,
    /// A model was found, but it is damaged or not of the Stable Diffusion 2 family; or a session's file,
    /// and it is damaged or none.
    BadModel = 3,
    /// The host or the device has too little memory, or a size is beyond any memory.
    OutOfMemory = 4,
    /// A driver or a kernel failed. The session stays valid.
    Device = 5,
    /// This build or this device cannot do what was asked.
    Unsupported = 6,
    /// The call was cancelled, by its token or by its progress callback.
    Cancelled = 7,
    /// Reading or writing failed.
    Io = 8,
    /// A fault of this library.
    Internal = 99,
}

/// A failure: its kind and a message for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of every fallible function of the library.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` with a message that names the value and what was wanted.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// What went wrong, for the program.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong, for the person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `place: ` in front of its message.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn bad_model(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::BadModel, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    pub(crate) fn cancelled() -> Self {
        Error::new(ErrorKind::Cancelled, "the call was cancelled")
    }

    /// An I/O error on `path`: a missing file is `NotFound`, anything else `Io`.
    pub(crate) fn io(path: impl fmt::Display, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::OutOfMemory => ErrorKind::OutOfMemory,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{path}: {error}"))
    }
}

/// Threads of ours have names that begin so.
pub(crate) const THREAD_NAME: &str = "latentblend";

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`; a panic in it becomes an `Internal` error, and nothing is printed.
///
/// What `body` has borrowed may be left half-changed by a panic, so callers give up what it worked on.
pub(crate) fn guarded<T>(body: impl FnOnce() -> T) -> Result<T> {
    static ONCE: Once = Once::new();
    // The hook before ours still sees every panic that isn't ours.
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let ours = thread.name().is_some_and(|name| name.starts_with(THREAD_NAME));
            if !(ours || GUARDED.get()) {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    result.map_err(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
        Error::internal(format!("a fault of the library: {what}"))
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    /// Shapes and arguments are checked before they reach candle, so what it reports is our fault.
    fn from(error: candle_core::Error) -> Self {
        Error::internal(format!("candle: {error}"))
    }
}
