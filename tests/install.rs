//! An installed copy, and programs outside the tree that are built against it the ways that C and C++
//! users know.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/native.rs"]
mod native;

use native::install::{Arguments, install};
use native::{compiler, has, installed, root, succeeded};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A folder outside the tree, with the two programs in it.
fn outside() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["installed.c", "installed.cpp"] {
        std::fs::copy(root().join("tests/c").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Runs a program that was built; `library` is where it finds the shared library, unless it has its own.
fn runs(program: &Path, library: Option<&Path>) {
    let mut command = Command::new(program);
    command.arg(VERSION).env_remove("LD_LIBRARY_PATH");
    if let Some(library) = library {
        command.env("LD_LIBRARY_PATH", library);
    }
    let said = succeeded(&program.display().to_string(), &command.output().unwrap());
    assert!(said.starts_with("LB_ERROR_"), "{said}");
}

fn pkg_config(prefix: &Path, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("pkg-config")
        .args(arguments)
        .arg("latentblend")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    succeeded("pkg-config", &output).split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_program_outside_the_tree_builds_by_pkg_config() {
    if !has("pkg-config", "a program by pkg-config") {
        return;
    }
    let (folder, prefix) = (outside(), installed());
    assert_eq!(pkg_config(prefix, &["--modversion"]), [VERSION]);
    let flags = pkg_config(prefix, &["--cflags", "--libs"]);
    // The static library by its name, for the linker would take the shared one.
    let fixed: Vec<String> = pkg_config(prefix, &["--static", "--cflags", "--libs"])
        .into_iter()
        .map(|flag| flag.replace("-llatentblend", "-l:liblatentblend.a"))
        .collect();
    for name in ["installed.c", "installed.cpp"] {
        for (kind, flags) in [("shared", &flags), ("static", &fixed)] {
            let source = folder.path().join(name);
            let program = folder.path().join(format!("{kind}-{name}.out"));
            let output =
                compiler(&source).arg(&source).arg("-o").arg(&program).args(flags).output();
            succeeded(name, &output.unwrap());
            runs(&program, (kind == "shared").then(|| prefix.join("lib")).as_deref());
        }
    }
}

const LISTS: &str = r#"
cmake_minimum_required(VERSION 3.16)
project(outside C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(latentblend ${WANTED} REQUIRED COMPONENTS shared static)
if(NOT latentblend_VERSION STREQUAL "${EXPECTED}")
  message(FATAL_ERROR "found ${latentblend_VERSION}, wanted ${EXPECTED}")
endif()
find_package(latentblend REQUIRED)
foreach(kind latentblend shared static)
  add_executable(c-${kind} installed.c)
  add_executable(cpp-${kind} installed.cpp)
  target_link_libraries(c-${kind} PRIVATE latentblend::${kind})
  target_link_libraries(cpp-${kind} PRIVATE latentblend::${kind})
endforeach()
"#;

/// Configures the project in `folder`; whether that went well, and what was said.
fn configure(folder: &Path, prefix: &Path, wanted: &str) -> (bool, String) {
    let build = folder.join(format!("build-{wanted}"));
    let output = Command::new("cmake")
        .arg("-S")
        .arg(folder)
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()))
        .arg(format!("-DWANTED={wanted}"))
        .arg(format!("-DEXPECTED={VERSION}"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_program_outside_the_tree_builds_by_cmake() {
    if !has("cmake", "a program by CMake") {
        return;
    }
    let (folder, prefix) = (outside(), installed());
    std::fs::write(folder.path().join("CMakeLists.txt"), LISTS).unwrap();
    let (good, said) = configure(folder.path(), prefix, "0.1");
    assert!(good, "{said}");
    let output = Command::new("cmake").arg("--build").arg(folder.path().join("build-0.1")).output();
    succeeded("cmake --build", &output.unwrap());
    for language in ["c", "cpp"] {
        for kind in ["latentblend", "shared", "static"] {
            // CMake leaves the place of the shared library in the program.
            runs(&folder.path().join(format!("build-0.1/{language}-{kind}")), None);
        }
    }
}

/// What a version of the package says to a wish, as find_package asks it.
fn fits(prefix: &Path, wish: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("ask.cmake");
    let package = prefix.join("share/latentblend/cmake/latentblendConfigVersion.cmake");
    let text = format!(
        "include(\"{}\")\nif(NOT PACKAGE_VERSION STREQUAL \"{VERSION}\")\nmessage(FATAL_ERROR \
         \"${{PACKAGE_VERSION}}\")\nendif()\nif(PACKAGE_VERSION_COMPATIBLE)\nmessage(\"it fits\")\n\
         endif()\n",
        package.display()
    );
    std::fs::write(&script, text).unwrap();
    let mut command = Command::new("cmake");
    command.args(wish.iter().map(|setting| format!("-D{setting}"))).arg("-P").arg(&script);
    let output = command.output().unwrap();
    succeeded("cmake -P", &output);
    String::from_utf8_lossy(&output.stderr).contains("it fits")
}

#[test]
fn cmake_is_told_which_versions_fit() {
    if !has("cmake", "the versions that fit") {
        return;
    }
    let prefix = installed();
    let [major, minor, patch] =
        <[u32; 3]>::try_from(VERSION.split('.').map(|n| n.parse().unwrap()).collect::<Vec<_>>())
            .unwrap();
    let wish = |version: String| fits(prefix, &[&format!("PACKAGE_FIND_VERSION={version}")]);
    assert!(wish(VERSION.into()) && wish(format!("{major}.{minor}")));
    assert!(!wish(format!("{major}.{minor}.{}", patch + 1)), "a later patch");
    assert!(!wish(format!("{major}.{}", minor + 1)), "a later minor version");
    assert!(!wish(format!("{}.0", major + 1)), "a later major version");
    // While MAJOR is 0, every MINOR may break what was.
    assert!(!wish("0.0.9".into()), "an earlier minor version");
    let range = |least: &str, most: &str, last: &str| {
        let settings = [
            format!("PACKAGE_FIND_VERSION={least}"),
            format!("PACKAGE_FIND_VERSION_RANGE={least}...{most}"),
            format!("PACKAGE_FIND_VERSION_MIN={least}"),
            format!("PACKAGE_FIND_VERSION_MAX={most}"),
            format!("PACKAGE_FIND_VERSION_RANGE_MAX={last}"),
        ];
        fits(prefix, &settings.each_ref().map(String::as_str))
    };
    assert!(range("0.0.1", VERSION, "INCLUDE") && range("0.0.1", "9.0", "EXCLUDE"));
    assert!(!range("0.0.1", VERSION, "EXCLUDE") && !range("8.0", "9.0", "INCLUDE"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn a_package_is_staged_and_an_old_copy_replaced() {
    let stage = tempfile::tempdir().unwrap();
    let arguments = Arguments {
        prefix: "/usr".into(),
        libdir: "lib/x86_64-linux-gnu".into(),
        destdir: Some(stage.path().into()),
    };
    // A folder with small files for libraries: their contents are not what this looks at.
    let from = tempfile::tempdir().unwrap();
    let nothing = install(from.path(), &arguments).unwrap_err().to_string();
    assert!(nothing.starts_with("no library of latentblend in "), "{nothing}");
    for name in ["liblatentblend.so", "liblatentblend.a"] {
        std::fs::write(from.path().join(name), "first").unwrap();
    }
    install(from.path(), &arguments).unwrap();
    // A program that runs keeps the file that it has open.
    let library =
        stage.path().join(format!("usr/lib/x86_64-linux-gnu/liblatentblend.so.{VERSION}"));
    let mut open = std::fs::File::open(&library).unwrap();
    std::fs::write(from.path().join("liblatentblend.so"), "second").unwrap();
    let mut written = install(from.path(), &arguments).unwrap();
    assert_eq!(std::io::read_to_string(&mut open).unwrap(), "first");
    assert_eq!(std::fs::read_to_string(&library).unwrap(), "second");
    written.sort();
    assert_eq!(written, files(stage.path()), "what was written, and what is there");
    let record = stage.path().join("usr/lib/x86_64-linux-gnu/pkgconfig/latentblend.pc");
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains("prefix=/usr\nlibdir=${prefix}/lib/x86_64-linux-gnu\n"), "{record}");
    assert!(!record.contains(&*stage.path().to_string_lossy()), "{record}");
    let climbing = Arguments { libdir: "../lib".into(), ..arguments };
    assert!(install(from.path(), &climbing).is_err());
}

#[test]
fn cargo_c_is_told_of_the_same_files() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let about = &manifest[manifest.find("[package.metadata.capi]").unwrap()..];
    let patterns: Vec<&str> =
        about.split("from = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut named: Vec<PathBuf> = vec![];
    for pattern in patterns {
        match pattern.strip_suffix("/*.cmake") {
            Some(folder) => named.extend(files(&root().join(folder))),
            None => named.push(root().join(pattern)),
        }
    }
    assert!(named.iter().all(|path| path.is_file()), "{named:?}");
    let mut named: Vec<_> = named.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    named.sort();
    let ours = files(&installed().join("include"))
        .into_iter()
        .chain(files(&installed().join("share/latentblend/cmake")));
    let mut ours: Vec<_> = ours.map(|path| path.file_name().unwrap().to_owned()).collect();
    ours.sort();
    assert_eq!(named, ours);
}
