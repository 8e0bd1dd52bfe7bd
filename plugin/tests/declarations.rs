//! The declarations in `include/openfx` are those of the specification, as two others have read it: the crate
//! `openfx` (bindings of 1.5.1), and the C headers within the package `openfx-sys` (a snapshot before 1.5).
#![allow(missing_docs, reason = "a test's own")]
#![allow(clippy::type_complexity, reason = "lists that are used once")]

#[path = "host/sources.rs"]
mod sources;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

mod declared {
    #![allow(unused_imports, reason = "not every module has a name of ours")]
    use openfx::sys::generic::core::*;
    use openfx::sys::generic::property::*;
    use openfx::sys::image_effect_v1::{
        colour::*, default_colorspace::*, gpu_render::*, image_effect::*, message::*, param::*,
        progress::*, time_line::*,
    };
    include!(concat!(env!("OUT_DIR"), "/declared.rs"));
    pub(super) fn all() -> (
        &'static [(&'static str, &'static str, &'static std::ffi::CStr)],
        &'static [(&'static str, i64, i64)],
        &'static [(&'static str, usize, &'static [(&'static str, usize)])],
    ) {
        (STRINGS, NUMBERS, LAYOUTS)
    }
}

const LIST: &str = include_str!(concat!(env!("OUT_DIR"), "/declared.txt"));

#[test]
fn names_and_values_are_those_of_the_crate_openfx() {
    let (strings, numbers, _) = declared::all();
    assert!(strings.len() > 170 && numbers.len() >= 18, "{} {}", strings.len(), numbers.len());
    for (name, ours, theirs) in strings {
        assert_eq!(*ours, theirs.to_str().unwrap(), "{name}");
    }
    for (name, ours, theirs) in numbers {
        assert_eq!(ours, theirs, "{name}");
    }
}

/// Compiles and runs a C++ program; its lines as names and values.
fn run(source: &str, includes: &[&Path]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let (file, program) = (folder.path().join("probe.cpp"), folder.path().join("probe"));
    std::fs::write(&file, source).unwrap();
    let mut command = Command::new(std::env::var_os("CXX").unwrap_or("c++".into()));
    command.args(["-std=c++17", "-w", "-o"]).arg(&program).arg(&file);
    for include in includes {
        command.arg("-I").arg(include);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(&program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|l| l.split_once('=').unwrap())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// A program that prints what is declared, each name preceded by `scope`; `guarded` where a macro may be missing.
fn probe(includes: &str, scope: &str, guarded: bool) -> String {
    let mut body = String::new();
    for line in LIST.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let name = words[1];
        let (label, value) = match words[0] {
            "S" => (name.to_owned(), format!("std::string({scope}{name})")),
            "I" => (name.to_owned(), format!("std::to_string({scope}{name})")),
            "T" => (format!("sizeof({name})"), format!("std::to_string(sizeof({scope}{name}))")),
            _ => (
                format!("{name}.{}", words[2]),
                format!("std::to_string(offsetof({scope}{name}, {}))", words[2]),
            ),
        };
        let print = format!("    std::cout << \"{label}=\" << {value} << '\\n';\n");
        match guarded && ["S", "I"].contains(&words[0]) {
            true => body += &format!("#ifdef {name}\n{print}#endif\n"),
            false => body += &print,
        }
    }
    format!(
        "#include <cstddef>\n#include <iostream>\n#include <string>\n{includes}\nint main() {{\n{body}}}\n"
    )
}

fn ours() -> BTreeMap<String, String> {
    let names = ["colour", "core", "dialogue", "gpu", "image_effect", "param", "property"];
    let includes: String =
        names.iter().map(|name| format!("#include \"openfx/{name}.h\"\n")).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    run(&probe(&includes, "ofx::", false), &[&folder])
}

#[test]
fn layouts_are_those_of_the_crate_openfx() {
    let ours = ours();
    let (_, _, layouts) = declared::all();
    assert!(layouts.len() >= 13, "{}", layouts.len());
    for (name, size, fields) in layouts {
        assert_eq!(ours[&format!("sizeof({name})")], size.to_string(), "{name}");
        assert!(!fields.is_empty(), "{name}");
        for (field, offset) in *fields {
            assert_eq!(ours[&format!("{name}.{field}")], offset.to_string(), "{name}.{field}");
        }
    }
}

/// What is younger than the headers in openfx-sys.
fn is_younger(name: &str) -> bool {
    let gpu =
        ["GPU", "CPURender", "Cuda", "OpenCL", "Metal"].iter().any(|part| name.contains(part));
    let colour = name.contains("Colour") || name == "kOfxConfigIdentifier";
    gpu || colour || name.contains("Thumbnail")
}

#[test]
fn names_values_and_layouts_are_those_of_the_headers_in_openfx_sys() {
    let headers = match sources::openfx() {
        Ok(folder) => folder.join("include"),
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let names = [
        "ofxCore",
        "ofxImageEffect",
        "ofxMessage",
        "ofxOpenGLRender",
        "ofxParam",
        "ofxProgress",
        "ofxProperty",
        "ofxTimeLine",
    ];
    let includes: String = names.iter().map(|name| format!("#include \"{name}.h\"\n")).collect();
    let theirs = run(&probe(&includes, "", true), &[&headers]);
    let ours = ours();
    assert!(theirs.len() > 200, "only {} names were compared", theirs.len());
    for (name, value) in &ours {
        match theirs.get(name) {
            Some(known) => assert_eq!(value, known, "{name}"),
            None => assert!(is_younger(name), "{name} is not in the headers of openfx-sys"),
        }
    }
}
