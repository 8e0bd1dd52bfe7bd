//! `include/latentblend.h` is what cbindgen makes of `src/capi`. `LATENTBLEND_BLESS=1` rewrites it. It, and
//! `latentblend.hpp`, compile alone in every standard that they are for.

mod common;
#[path = "common/native.rs"]
mod native;

#[cfg(unix)]
use native::{STRICT, compiler, root, scratch, skip, succeeded};
use std::path::Path;

/// The files in the order of the header's sections.
const FILES: [&str; 20] = [
    "status",
    "version",
    "log",
    "call",
    "device",
    "model",
    "source",
    "keyframe",
    "curve",
    "blend_options",
    "session",
    "inpainting",
    "distance",
    "timing",
    "adapt",
    "extend",
    "frame",
    "copy",
    "store",
    "doctor",
];

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    // The opaque types come first, for all others name them.
    builder = builder.with_src(root.join("src/capi/opaque.rs"));
    for file in FILES {
        builder = builder.with_src(root.join(format!("src/capi/{file}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/latentblend.h");
    let generated = generated();
    if std::env::var_os("LATENTBLEND_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "include/latentblend.h is stale: run LATENTBLEND_BLESS=1 cargo test --test header"
    );
}

/// Compiles `text` alone. None where the compiler doesn't know the standard.
#[cfg(unix)]
fn compiles(name: &str, standard: &str, text: &str) -> Option<()> {
    let probe = |text: &str, flags: &[&str]| {
        let source = scratch().join(format!("{standard}-{name}"));
        std::fs::write(&source, text).unwrap();
        let mut command = compiler(&source);
        command.arg(format!("-std={standard}")).args(flags).arg("-c").arg(&source);
        command.arg("-o").arg(source.with_extension("o"));
        command.arg("-I").arg(root().join("include")).output().unwrap()
    };
    if !probe("int main(void);\n", &[]).status.success() {
        return None;
    }
    let mut flags = STRICT.to_vec();
    flags.push("-Wshadow");
    succeeded(&format!("{name} as {standard}"), &probe(text, &flags));
    Some(())
}

#[cfg(unix)]
#[test]
fn the_headers_compile_alone_in_every_standard() {
    // One name of a standard, or the one that older compilers have for it.
    let c: [&[&str]; 4] = [&["c99"], &["c11"], &["c17"], &["c23", "c2x"]];
    let cpp: [&[&str]; 4] = [&["c++11"], &["c++14"], &["c++17"], &["c++20"]];
    let alone =
        |header: &str| format!("#include \"{header}\"\n#include \"{header}\"\nint alone;\n");
    let all = [
        ("alone.c", "latentblend.h", c.as_slice()),
        ("alone.cpp", "latentblend.h", cpp.as_slice()),
        ("wrapper.cpp", "latentblend.hpp", &cpp[2..]),
    ];
    for (name, header, standards) in all {
        for names in standards {
            if !names.iter().any(|standard| compiles(name, standard, &alone(header)).is_some()) {
                skip(&format!("{header} as {}", names[0]), "the compiler doesn't know it");
            }
        }
    }
}

/// Nothing in the headers is defined twice where two files of a program include them.
#[cfg(unix)]
#[test]
fn two_files_of_one_program_may_include_the_headers() {
    for (extension, header) in [("c", "latentblend.h"), ("cpp", "latentblend.hpp")] {
        let uses = match extension {
            "c" => "lb_version()",
            _ => {
                "latentblend::version() + (latentblend::device_count() > 9 ? (latentblend::Log({}), 1) : 0)"
            }
        };
        let text = |name: &str| {
            format!(
                "#include <{header}>\nuint32_t {name}(void);\nuint32_t {name}(void) {{ return {uses}; }}\n"
            )
        };
        let main = "int main(void) { return one() == two() && one() == LB_VERSION ? 0 : 1; }\n";
        let second = format!("{}uint32_t one(void);\n{main}", text("two"));
        let sources = [("one", text("one")), ("two", second)].map(|(name, text)| {
            let path = scratch().join(format!("{name}.{extension}"));
            std::fs::write(&path, text).unwrap();
            path
        });
        let program = scratch().join(format!("twice-{extension}"));
        let output = compiler(&sources[0])
            .args(&sources)
            .arg(if extension == "c" { "-std=c11" } else { "-std=c++17" })
            .args(STRICT)
            .arg("-I")
            .arg(native::installed().join("include"))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(native::installed().join("lib"))
            .args(["-llatentblend", "-lpthread"])
            .output();
        succeeded(header, &output.unwrap());
        succeeded(header, &native::run(&program, &[]));
    }
}
