//! What the C library is called, and how long it stays.
//!
//! In: the version and the target. Out: arguments for the linker of the shared library; the crate itself
//! is not touched, and other systems than those named here are left as they are.
//!
//! Which symbols the shared library shows needs nothing here: rustc hands the linker a list of the
//! `no_mangle` functions, and hides all else (`tests/symbols.rs` looks).

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let number = |name: &str| var(format!("CARGO_PKG_VERSION_{name}")).unwrap_or_default();
    let (major, minor) = (number("MAJOR"), number("MINOR"));
    // The part of the version within which programs that were linked go on working; cargo-c computes the
    // same, so that its names and this one agree.
    let abi = if major == "0" { format!("0.{minor}") } else { major };
    let link = |argument: &str| println!("cargo::rustc-cdylib-link-arg=-Wl,{argument}");
    let target = var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match target.as_str() {
        "linux" | "freebsd" | "netbsd" | "openbsd" | "dragonfly" | "illumos" | "haiku" | "hurd" => {
            link(&format!("-soname,liblatentblend.so.{abi}"));
        }
        // Without a number, as it is loaded from within a package.
        "android" => link("-soname,liblatentblend.so"),
        // cargo-c, which sets the feature, names the place that it installs to.
        "macos" if var("CARGO_FEATURE_CAPI").is_err() => {
            link(&format!("-install_name,@rpath/liblatentblend.{abi}.dylib"));
        }
        _ => {}
    }
    // A device's thread outlives the last handle by a moment, and a thread of the host may end with the
    // library's thread-locals: its code must be there. So closing the library leaves it where it is.
    if ["linux", "freebsd", "netbsd", "android"].contains(&target.as_str()) {
        link("-z,nodelete");
    }
}
