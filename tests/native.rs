//! C and C++ programs over the whole surface, under tools that see what a program may not: no error, no
//! leak; and the examples in C and C++, whose frames are those of Rust.
#![cfg(all(unix, feature = "demo"))]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "common/native.rs"]
mod native;

use latentblend::{BlendOptions, Branching, Call, Keyframe, Model, Preset, Session};
use native::{compile, declared, has, installed, root, run, scratch, skip, succeeded};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

const PROGRAMS: [&str; 8] = [
    "surface.c",
    "derived.c",
    "misuse.c",
    "misuse_derived.c",
    "growth.c",
    "threads.c",
    "surface.cpp",
    "derived.cpp",
];

/// Those that do everything wrong.
const MISUSE: [&str; 2] = ["misuse.c", "misuse_derived.c"];

/// A program that checks itself has found nothing, and nothing else has said anything.
fn went_well(name: &str, program: impl AsRef<OsStr>, arguments: &[&OsStr]) -> String {
    let output = run(program, arguments);
    let said = succeeded(name, &output);
    assert!(said.contains(" checks, 0 failures\n"), "{name}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name} has printed something");
    said
}

#[test]
fn programs_run_under_address_sanitizer() {
    let flags = ["-fsanitize=address", "-fno-omit-frame-pointer"];
    let probe = scratch().join("probe.c");
    std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
    let output = native::compiler(&probe)
        .args(flags)
        .arg(&probe)
        .arg("-o")
        .arg(scratch().join("probe"))
        .output();
    if !output.is_ok_and(|output| output.status.success()) {
        return skip("programs under AddressSanitizer", "the compiler has none");
    }
    let canary = compile("canary.c", "asan", &flags);
    succeeded("canary", &run(&canary, &[]));
    for fault in ["overflow", "leak"] {
        let output = run(&canary, &[fault.as_ref()]);
        assert!(!output.status.success(), "AddressSanitizer does not see a {fault}");
    }
    let mut frames = Vec::new();
    for name in PROGRAMS {
        let program = compile(name, "asan", &flags);
        let symbols = Command::new("nm").arg(&program).output().unwrap();
        let symbols = succeeded("nm", &symbols);
        assert!(symbols.contains("__asan_init"), "{name} is not under AddressSanitizer");
        let said = went_well(name, &program, &[]);
        frames.extend(said.lines().find(|line| line.starts_with("frame ")).map(str::to_owned));
    }
    // C and C++ have made the same frame as Rust.
    let keyframes = [Keyframe::new("a castle at dusk", 1), Keyframe::new("a lake by day", 2)];
    let options = BlendOptions {
        size: Some([64, 64]),
        steps: Some(4),
        branching: Some(Branching { injections: vec![2], branches: vec![3] }),
        ..BlendOptions::default()
    };
    let model = Model::demo(&Call::new()).unwrap();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let frame = session.render(0.25, &Call::new()).unwrap().to_rgb8();
    let sum = frame.iter().fold(0u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    assert_eq!(frames, [format!("frame {sum:08x}"), format!("frame {sum:08x}")]);
}

#[test]
fn programs_run_under_valgrind() {
    if !has("valgrind", "programs under valgrind") {
        return;
    }
    let log = scratch().join("valgrind.log");
    let log_file = format!("--log-file={}", log.display());
    // What is only "possibly" lost is there to the end and not lost: the few hash tables of statics, which
    // hold no pointer to their beginning, and what the system keeps for threads that run. A table that
    // nobody has any more is lost with its owner, and counts.
    let options = [
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect",
        "--error-exitcode=9",
        "--num-callers=30",
        // One thread runs at a time here, and those that wait for work must not keep the others from it.
        "--fair-sched=try",
        &log_file,
    ];
    let watched = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("valgrind");
        native::with_library(&mut command);
        command.env("RAYON_NUM_THREADS", "1").env_remove("LATENTBLEND_LOG");
        command.env("LATENTBLEND_TEST_SLOW", "1");
        command.args(options).arg(program).args(arguments).current_dir(scratch()).output().unwrap()
    };
    let canary = compile("canary.c", "plain", &[]);
    succeeded("canary", &watched(&canary, &[]));
    for fault in ["overflow", "leak"] {
        let code = watched(&canary, &[fault]).status.code();
        assert_eq!(code, Some(9), "valgrind does not see a {fault}");
    }
    // Those that do everything once, and those that do everything wrong, with a model of random weights: the
    // embedded one takes minutes here.
    let model = root().join("tests/golden/tiny/base");
    let model = model.to_str().unwrap();
    for name in ["surface.c", "derived.c"].into_iter().chain(MISUSE) {
        let output = watched(&compile(name, "plain", &[]), &[model]);
        let found = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(output.status.success(), "{name}: {}\n{found}", output.status);
        assert!(found.contains("ERROR SUMMARY: 0 errors"), "{name}: {found}");
        assert!(found.contains("definitely lost: 0 bytes"), "{name}: {found}");
        let said = succeeded(name, &output);
        assert!(said.contains(" checks, 0 failures\n"), "{name}: {said}");
    }
}

#[test]
fn a_program_may_close_the_library() {
    let program = compile("unload.c", "plain", &[]);
    let library = installed().join("lib").join(format!(
        "{}latentblend{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    succeeded("unload.c", &run(&program, &[library.as_os_str()]));
}

/// Nothing of the header is left out of the programs or of the C++ header.
#[test]
fn every_function_of_the_header_is_tried() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let named = |text: &str, name: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name)
    };
    let header = read("include/latentblend.h");
    let all = |names: &[&str]| -> String {
        names.iter().map(|name| read(&format!("tests/c/{name}"))).collect()
    };
    let (surface, misuse) = (all(&["check.h", "surface.c", "derived.c"]), all(&MISUSE));
    let cpp = read("include/latentblend.hpp");
    for name in declared() {
        assert!(named(&cpp, &name), "latentblend.hpp has no way to {name}");
        let takes = !header.contains(&format!("{name}(void)"));
        assert!(named(&surface, &name), "neither surface.c nor derived.c calls {name}");
        assert!(!takes || named(&misuse, &name), "none of {MISUSE:?} calls {name}");
    }
}

#[test]
fn every_example_compiles_without_a_warning() {
    let mut seen = 0;
    for folder in ["c", "cpp"] {
        for entry in std::fs::read_dir(root().join("examples").join(folder)).unwrap() {
            let source = entry.unwrap().path();
            let name = source.file_name().unwrap().to_str().unwrap().to_owned();
            let output = native::compiler(&source)
                .arg(if folder == "c" { "-std=c99" } else { "-std=c++17" })
                .args(native::STRICT)
                .args(["-c", "-I"])
                .arg(root().join("include"))
                .arg(&source)
                .arg("-o")
                .arg(scratch().join(format!("{name}.o")))
                .output()
                .unwrap();
            succeeded(&name, &output);
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} examples were found");
}

/// The one command of an example's first lines that builds it.
fn build_line(text: &str) -> String {
    let line = text.lines().find(|line| line.contains("pkg-config")).unwrap();
    line.trim_start_matches([' ', '*', '/']).to_owned()
}

#[test]
fn the_examples_make_the_frames_of_rust() {
    if !has("pkg-config", "the examples in C and C++") {
        return;
    }
    let prompts = [
        "a blue hot air balloon over green hills by day, sunny, photo",
        "a red lighthouse by the sea at night under a clear sky, with a full moon",
    ];
    let keyframes = [Keyframe::new(prompts[0], 34), Keyframe::new(prompts[1], 39)];
    let options = BlendOptions { preset: Preset::Low, ..BlendOptions::default() };
    let model = Model::demo(&Call::new()).unwrap();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let middle = session.render(0.5, &Call::new()).unwrap();
    let mut ppm = format!("P6\n{} {}\n255\n", middle.width(), middle.height()).into_bytes();
    ppm.extend(middle.to_rgb8());
    for name in ["c/simple_transition.c", "cpp/simple_transition.cpp"] {
        let source = root().join("examples").join(name);
        let text = std::fs::read_to_string(&source).unwrap();
        assert!(text.lines().count() < 100, "{name} is long for an example");
        let folder = scratch().join(name.replace('/', "-"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(source.file_name().unwrap()), &text).unwrap();
        let output = Command::new("sh")
            .args(["-ec", &build_line(&text)])
            .env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig"))
            .current_dir(&folder)
            .output()
            .unwrap();
        succeeded(name, &output);
        let made = |arguments: &[&str]| {
            let mut program = Command::new(folder.join("simple_transition"));
            native::with_library(&mut program);
            program.args(arguments).current_dir(&folder).output().unwrap()
        };
        let output = made(&["3"]);
        assert_eq!(succeeded(name, &output), "", "{name}: progress belongs on stderr");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("100 %") && told.contains("frames: 3 of 3"), "{name}: {told}");
        assert!(std::fs::read(folder.join("frame_001.ppm")).unwrap() == ppm, "{name}: frame 1");
        assert!(folder.join("frame_002.ppm").is_file(), "{name}: frame 2");
        let output = made(&["1", "no/such/place"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name}: a model that isn't there");
        assert!(told.contains("LB_ERROR_NOT_FOUND: no/such/place"), "{name}: {told}");
    }
}
