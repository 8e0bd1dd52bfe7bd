//! Builds the shim, `LatentBlend.ofx`: C++17 sources and a link of its own.
//!
//! A C++ function that is linked into a Rust cdylib is not exported from it (rustc's version script hides it), and
//! the engine must not be a dependency of the shim: a host drops a plug-in whose dependencies it can't find. So
//! `cc` compiles, and its compiler links, without rustc.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources of the shim, without `src/shim/` and `.cpp`.
const SOURCES: [&str; 13] = [
    "card", "changed", "colour", "describe", "engine", "entry", "geometry", "host", "image",
    "instance", "models", "params", "regions",
];
const MORE: [&str; 7] = ["calls", "gpu", "pictures", "pixels", "recipe", "render", "session"];

/// `address,undefined`, say: builds the shim with them, for a test run under their runtime.
const SANITIZE: &str = "LATENTBLEND_OFX_SANITIZE";

fn sanitizers() -> Option<String> {
    env::var(SANITIZE).ok().filter(|which| !which.is_empty()).map(|w| format!("-fsanitize={w}"))
}

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in ["src/shim", "include", "shim.map", "../include/latentblend.h"] {
        println!("cargo::rerun-if-changed={path}");
    }
    declare(&root.join("include/openfx"), &out);
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-fvisibility=hidden")
        .flag_if_supported("-fvisibility-inlines-hidden")
        .flag_if_supported("-fno-gnu-unique")
        .include(root.join("include"))
        .include(root.join("../include"))
        .define("LATENTBLEND_OFX_VERSION", format!("\"{version}\"").as_str());
    println!("cargo::rerun-if-env-changed={SANITIZE}");
    if let Some(which) = sanitizers() {
        build.flag(which).flag("-fno-omit-frame-pointer").debug(true);
    }
    for name in SOURCES.iter().chain(&MORE) {
        build.file(root.join("src/shim").join(format!("{name}.cpp")));
    }
    let objects = build.compile_intermediates();
    let shim = out.join("LatentBlend.ofx");
    link(&build, &objects, &root.join("shim.map"), &shim);
    println!("cargo::rustc-env=LATENTBLEND_OFX_SHIM={}", shim.display());
}

/// Writes what the declarations declare, for tests/declarations.rs: as a list, and as Rust over the names that the
/// crate `openfx` has of it.
fn declare(headers: &Path, out: &Path) {
    let (mut list, mut strings, mut numbers) = (String::new(), String::new(), String::new());
    let (mut layouts, mut current) = (String::new(), None::<String>);
    let mut files: Vec<PathBuf> = std::fs::read_dir(headers)
        .expect("the headers are there")
        .map(|entry| entry.expect("the headers are readable").path())
        .collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a header is text");
        for line in text.lines() {
            if let Some((name, value)) = constant(line, "inline constexpr char ", "[] = \"", "\";")
            {
                list += &format!("S {name} {value}\n");
                strings += &format!("    (\"{name}\", \"{value}\", {name}),\n");
            } else if let Some((name, value)) =
                constant(line, "inline constexpr OfxStatus ", " = ", ";")
            {
                list += &format!("I {name} {value}\n");
                numbers += &format!("    (\"{name}\", {value}, {name} as i64),\n");
            } else if let Some(name) =
                line.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {"))
            {
                list += &format!("T {name}\n");
                layouts += &format!("    (\"{name}\", size_of::<{name}>(), &[\n");
                current = Some(name.to_owned());
            } else if let (Some(name), Some(field)) = (&current, field(line)) {
                list += &format!("F {name} {field}\n");
                layouts +=
                    &format!("        (\"{field}\", std::mem::offset_of!({name}, {field})),\n");
            } else if line == "};" && current.take().is_some() {
                layouts += "    ]),\n";
            }
        }
    }
    std::fs::write(out.join("declared.txt"), list).expect("OUT_DIR is writable");
    let rust = format!(
        "const STRINGS: &[(&str, &str, &std::ffi::CStr)] = &[\n{strings}];\n\
         const NUMBERS: &[(&str, i64, i64)] = &[\n{numbers}];\n\
         const LAYOUTS: &[(&str, usize, &[(&str, usize)])] = &[\n{layouts}];\n"
    );
    std::fs::write(out.join("declared.rs"), rust).expect("OUT_DIR is writable");
}

fn constant<'a>(
    line: &'a str,
    before: &str,
    between: &str,
    after: &str,
) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(before)?.strip_suffix(after)?.split_once(between)
}

/// The name of a struct's member.
fn field(line: &str) -> Option<&str> {
    let declaration = line.strip_prefix("    ")?.strip_suffix(';')?;
    match declaration.split_once("(*") {
        Some((_, rest)) => rest.split_once(')').map(|(name, _)| name),
        None => declaration.rsplit([' ', '*']).next(),
    }
}

/// Links `objects` into the shared object `shim`.
fn link(build: &cc::Build, objects: &[PathBuf], exports: &Path, shim: &Path) {
    let compiler = build.get_compiler();
    let system = env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it");
    let mut command: Command = compiler.to_command();
    if compiler.is_like_msvc() {
        command.arg("/LD").args(objects).arg(format!("/Fe:{}", shim.display()));
    } else {
        command.args(objects).arg("-o").arg(shim);
        match system.as_str() {
            "macos" => {
                command.args(["-bundle", "-Wl,-exported_symbols_list"]);
                let list = shim.with_extension("exports");
                std::fs::write(&list, "_OfxGetNumberOfPlugins\n_OfxGetPlugin\n_OfxSetHost\n")
                    .expect("OUT_DIR is writable");
                command.arg(list);
            }
            "windows" => {
                command.args(["-shared", "-static-libgcc", "-static-libstdc++"]);
            }
            _ => {
                // nodelete: hosts close what they have scanned, and the engine's threads would be left without
                // code. defs and now: a mistake shows when the host loads, not when it renders.
                command.args([
                    "-shared",
                    "-static-libgcc",
                    "-static-libstdc++",
                    "-ldl",
                    "-pthread",
                ]);
                command.args(["-Wl,-z,nodelete", "-Wl,-z,defs", "-Wl,-z,now", "-Wl,-z,relro"]);
                command.args(["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections"]);
                command.arg(format!("-Wl,--version-script={}", exports.display()));
            }
        }
    }
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
