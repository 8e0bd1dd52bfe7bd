//! The shared library as the linker and the loader see it: it shows the functions of the header and
//! nothing else, is called by its ABI, and stays where it is.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/native.rs"]
mod native;

use native::{built, declared, has, installed, succeeded};
use std::path::Path;
use std::process::Command;

fn tool(name: &str, arguments: &[&str], library: &Path) -> String {
    succeeded(name, &Command::new(name).args(arguments).arg(library).output().unwrap())
}

#[test]
fn the_symbols_are_exactly_the_headers() {
    if !has("nm", "the symbols of the shared library") {
        return;
    }
    let listed = tool("nm", &["-D", "--defined-only"], &built().join("liblatentblend.so"));
    let mut symbols: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    symbols.sort();
    assert_eq!(symbols, declared());
    // The static library has them too; what else it has can't be hidden there.
    let listed = tool("nm", &["--defined-only"], &built().join("liblatentblend.a"));
    for name in declared() {
        assert!(listed.contains(&format!(" T {name}\n")), "liblatentblend.a lacks {name}");
    }
}

#[test]
fn the_library_is_called_by_its_abi_and_stays() {
    if !has("readelf", "the name of the shared library") {
        return;
    }
    let dynamic = tool("readelf", &["-d", "-W"], &built().join("liblatentblend.so"));
    let entry = |kind: &str| dynamic.lines().find(|line| line.contains(kind)).unwrap_or_default();
    let name = entry("(SONAME)");
    let name = name.split(['[', ']']).nth(1).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let numbers: Vec<&str> = version.split('.').collect();
    // While MAJOR is 0, every MINOR may break what was.
    let kept = if numbers[0] == "0" { 2 } else { 1 };
    assert_eq!(name, format!("liblatentblend.so.{}", numbers[..kept].join(".")));
    assert!(entry("(FLAGS_1)").contains("NODELETE"), "{dynamic}");
    // Under that name it is installed, and without a number for the linker: both lead to the file.
    let folder = installed().join("lib");
    let file = folder.join(format!("liblatentblend.so.{version}")).canonicalize().unwrap();
    for link in [name, "liblatentblend.so"] {
        let link = folder.join(link);
        assert!(link.is_symlink(), "{}", link.display());
        assert_eq!(link.canonicalize().unwrap(), file);
    }
    assert!(file.metadata().unwrap().is_file());
}
