//! In: nothing. Out: what this library is.

use std::ffi::c_char;

/// Rises with a release that breaks callers; while it is 0, LB_VERSION_MINOR does.
pub const LB_VERSION_MAJOR: u32 = 0;
/// Rises with every release that adds something.
pub const LB_VERSION_MINOR: u32 = 1;
/// Rises with every release that mends something.
pub const LB_VERSION_PATCH: u32 = 0;
/// MAJOR << 16 | MINOR << 8 | PATCH.
pub const LB_VERSION: u32 = LB_VERSION_MAJOR << 16 | LB_VERSION_MINOR << 8 | LB_VERSION_PATCH;
/// Rises only when an existing symbol or the beginning of a struct changes its meaning.
pub const LB_ABI_VERSION: u32 = 1;

/// LB_VERSION of the library that is loaded, not of the header. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_version() -> u32 {
    LB_VERSION
}

/// LB_ABI_VERSION of the library that is loaded. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_abi_version() -> u32 {
    LB_ABI_VERSION
}

/// The version as text, such as "0.1.0". Static. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_version_string() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
