//! Programs in C and C++, built against an installed copy of the library that cargo has just built.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "tests use a part each")]

#[path = "../../examples/install.rs"]
pub mod install;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says what isn't tested, and why, past the test harness, which shows nothing of tests that pass.
pub fn skip(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

/// Whether a program is there; says so if not.
pub fn has(tool: &str, what: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip(what, &format!("there is no {tool}"));
    }
    found
}

/// Where a test file keeps what it builds: of its own, so that runs of several don't meet.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// The folder with the libraries of this very build.
pub fn built() -> PathBuf {
    let folder = install::built(&std::env::current_exe().unwrap()).unwrap();
    let name =
        format!("{}latentblend{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let made = modified(&folder.join(&name));
    let mut sources = vec![root().join("build.rs"), root().join("src")];
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert!(modified(&path) <= made, "{name} is older than {}", path.display());
        }
    }
    folder
}

fn modified(path: &Path) -> SystemTime {
    let metadata = path.metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.modified().unwrap()
}

/// The prefix of an installed copy, made anew by each run. It is one for all test files, for it is large;
/// its files are replaced, so that programs of another run that use it keep theirs.
pub fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
        let arguments =
            install::Arguments { prefix: prefix.clone(), libdir: "lib".into(), destdir: None };
        install::install(&built(), &arguments).unwrap();
        prefix
    })
}

/// The compiler for a file: CC or CXX, or what the system calls so.
pub fn compiler(source: &Path) -> Command {
    let cpp = source.extension().is_some_and(|e| e == "cpp" || e == "hpp");
    let (variable, name) = if cpp { ("CXX", "c++") } else { ("CC", "cc") };
    Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()))
}

/// All warnings, as errors.
pub const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wno-unused-function"];

/// Compiles one file of `tests/c` against the installed copy.
pub fn compile(name: &str, kind: &str, flags: &[&str]) -> PathBuf {
    let source = root().join("tests/c").join(name);
    let program = scratch().join(format!("{kind}-{}", name.replace('.', "-")));
    let cpp = name.ends_with("cpp");
    let output = compiler(&source)
        .arg(if cpp { "-std=c++17" } else { "-std=c11" })
        .args(STRICT)
        .args(["-g", "-O1"])
        .args(flags)
        .arg("-I")
        .arg(installed().join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(installed().join("lib"))
        .args(["-llatentblend", "-lpthread", "-ldl", "-lm"])
        .output()
        .unwrap();
    succeeded(name, &output);
    program
}

/// Runs a program over the installed copy.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> Output {
    let mut command = Command::new(program);
    with_library(&mut command);
    command.args(arguments).current_dir(scratch()).stdin(Stdio::null());
    // What a developer has set must not decide a test.
    command.env_remove("LATENTBLEND_LOG");
    command.output().unwrap()
}

/// Lets a program find the installed copy.
pub fn with_library(command: &mut Command) {
    for variable in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        command.env(variable, installed().join("lib"));
    }
}

/// What a program printed, if it ended well.
pub fn succeeded(name: &str, output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
    out
}

/// The names of the functions that the header declares.
pub fn declared() -> Vec<String> {
    let header = std::fs::read_to_string(root().join("include/latentblend.h")).unwrap();
    let code: String = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.starts_with('#'))
        .map(|line| format!("{line} "))
        .collect();
    let mut names: Vec<String> = code
        .split(';')
        .filter(|part| !part.contains("typedef"))
        .filter_map(|part| {
            let name = part.split('(').next()?.rsplit([' ', '*']).next()?;
            (part.contains('(') && name.starts_with("lb_")).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    assert!(names.len() > 30, "{names:?}");
    names
}
