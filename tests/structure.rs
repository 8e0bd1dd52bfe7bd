//! The order of the rooms: a module uses only those before it on the path of a frame.

mod common;

use std::path::{Path, PathBuf};

/// The path of a frame.
const ORDER: [&str; 10] = [
    "error",
    "progress",
    "frame",
    "backend",
    "model",
    "net",
    "diffusion",
    "blend",
    "doctor",
    "capi",
];

/// Every source file, with its top-level module.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    found
        .into_iter()
        .map(|path| (module(&path), path.clone(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The module that a text behind `crate::` names.
fn named(rest: &str) -> &str {
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

#[test]
fn a_module_uses_only_those_before_it() {
    let place = |module: &str| ORDER.iter().position(|m| *m == module);
    let mut seen = 0;
    for (module, path, text) in sources() {
        if module == "lib" {
            continue;
        }
        let Some(own) = place(&module) else { panic!("{}: not on the path", path.display()) };
        let test = path.file_name().is_some_and(|name| name == "tests.rs");
        for (number, line) in text.lines().enumerate() {
            // The other ways to another module.
            let climbs = code(line).contains("super::super")
                || path.file_name().is_some_and(|name| name == "mod.rs")
                    && code(line).replace("super::*", "").contains("super::");
            assert!(!climbs, "{}:{}: {line}", path.display(), number + 1);
            for rest in code(line).split("crate::").skip(1) {
                let used = named(rest);
                if test && used == "golden" {
                    continue;
                }
                let at = format!("{}:{}: crate::{used}", path.display(), number + 1);
                let Some(other) = place(used) else { panic!("{at} is not on the path") };
                assert!(other <= own, "{at} comes after {module}");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "only {seen} uses were found");
}

#[test]
fn unsafe_stands_only_where_it_may_and_with_its_reason() {
    let mut seen = 0;
    for (module, path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            // What a type or an attribute says is no act.
            let line = code(line).replace("#[unsafe(no_mangle)]", "").replace("unsafe_code", "");
            if !line.contains("unsafe") {
                continue;
            }
            seen += 1;
            let at = format!("{}:{}", path.display(), number + 1);
            assert!(["capi", "frame", "backend"].contains(&module.as_str()), "unsafe in {at}");
            let (act, declared) = (
                line.contains("unsafe {") || line.contains("unsafe impl"),
                line.contains("unsafe fn") || line.contains("unsafe trait"),
            );
            let declared = declared || line.contains("unsafe extern \"C\" fn lb_");
            let before = |count: usize, what: &str| {
                lines[number.saturating_sub(count)..=number].iter().any(|l| l.contains(what))
            };
            assert!(!act || before(4, "SAFETY:"), "{at}: no SAFETY reason");
            let of_all = lines.iter().any(|l| l.starts_with("//! # Safety"));
            let told = of_all || before(16, "# Safety");
            assert!(!declared || act || told, "{at}: no Safety section");
        }
    }
    assert!(seen > 20, "only {seen} uses were found");
}

#[test]
fn every_file_says_what_comes_in_and_goes_out() {
    for (module, path, text) in sources() {
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        let stated = head.contains("In:") && head.contains("Out:");
        let test = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(stated || test || module == "lib", "{}: {head}", path.display());
        let length = text.lines().count();
        assert!(length <= 560, "{}: {length} lines; could it be two rooms?", path.display());
    }
}
