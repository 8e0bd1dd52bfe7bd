//! The fuzzers' kept corpus, through the same code that they run (`fuzz/README.md`).
#![allow(
    unsafe_code,
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the harness is shared with the fuzzers"
)]

#[path = "../fuzz/harness/calls.rs"]
mod calls;
#[path = "../fuzz/harness/models.rs"]
mod models;

use std::path::Path;

/// The files of the corpus `name`, in the order of their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// A new function has to be among the calls that the fuzzer makes.
#[test]
fn the_fuzzer_of_calls_makes_every_call_that_takes_anything() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let harness: String = ["arguments", "calls", "files", "render", "sessions", "time"]
        .map(|name| std::fs::read_to_string(root.join(format!("fuzz/harness/{name}.rs"))).unwrap())
        .concat();
    let header = std::fs::read_to_string(root.join("include/latentblend.h")).unwrap();
    let code = header.lines().filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut seen = 0;
    for (at, _) in code.match_indices("lb_") {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = at + code[at..].find(|c| !word(c)).unwrap();
        let (name, rest) = (&code[at..end], &code[end..]);
        let inner = code[..at].chars().next_back().is_some_and(word);
        // It takes seconds, and what it is given is a path and a buffer.
        if inner || !rest.starts_with('(') || rest.starts_with("(void)") || name == "lb_doctor" {
            continue;
        }
        let called = harness.split(|c| !word(c)).any(|called| called == name);
        assert!(called, "fuzz/harness does not call {name}");
        seen += 1;
    }
    assert!(seen > 40, "only {seen} functions were found");
}

/// The fuzzers are a package of their own, with a lock file that no build of this one renews.
#[test]
fn the_fuzzers_lock_file_knows_all_that_the_library_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let lock = std::fs::read_to_string(root.join("fuzz/Cargo.lock")).unwrap();
    let entry = lock.split("[[package]]").find(|entry| entry.contains("name = \"latentblend\"\n"));
    let needed = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> =
        needed.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        // With its version behind it where there are several.
        let lines = entry.unwrap().lines().map(|line| line.trim_matches([' ', '"', ',']));
        let known = lines.filter_map(|line| line.split(' ').next()).any(|known| known == name);
        assert!(known, "fuzz/Cargo.lock: {name} is missing; run cargo metadata in fuzz");
    }
}

#[test]
fn the_corpus_of_calls_finds_nothing() {
    let corpus = corpus("calls");
    assert!(corpus.len() >= 100, "{} files", corpus.len());
    for (name, data) in corpus {
        std::panic::catch_unwind(|| calls::run(&data)).unwrap_or_else(|_| panic!("calls/{name}"));
    }
    calls::clean();
}

#[test]
fn the_corpus_of_damaged_models_finds_nothing() {
    let corpus = corpus("models");
    assert!(corpus.len() >= 100, "{} files", corpus.len());
    let mut kinds: Vec<u8> = Vec::new();
    for (name, data) in corpus {
        kinds.extend(data.first().map(|kind| kind % models::KINDS));
        std::panic::catch_unwind(|| models::run(&data)).unwrap_or_else(|_| panic!("models/{name}"));
    }
    models::clean();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), usize::from(models::KINDS), "kinds of damage: {kinds:?}");
}
