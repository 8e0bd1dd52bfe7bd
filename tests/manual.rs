//! `docs/api.md` is the manual of the C surface, and the header's comments say what a caller has to know.

mod common;

use common::c::{functions, structs};
use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Whether `text` holds `word`, not as a part of another.
fn says(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next())
    })
}

#[test]
fn the_manual_has_every_function_and_struct_of_the_header() {
    let (header, manual) = (read("include/latentblend.h"), read("docs/api.md"));
    let (functions, structs) = (functions(&header), structs(&header));
    assert!(functions.len() >= 30 && structs.len() >= 10, "{functions:?} {structs:?}");
    for name in functions.iter().chain(&structs) {
        assert!(says(&manual, name), "docs/api.md does not name {name}");
    }
    // Each function has a row or a paragraph that begins with it.
    for name in &functions {
        let own = manual.lines().any(|line| {
            line.starts_with(&format!("| `{name}`")) || line.starts_with(&format!("**`{name}`"))
        });
        assert!(own, "docs/api.md has no entry for {name}");
    }
    // Every constant of the statuses is explained, too.
    for line in header.lines().filter_map(|line| line.strip_prefix("#define LB_ERROR_")) {
        let name = format!("LB_ERROR_{}", line.split(' ').next().unwrap());
        assert!(says(&manual, &name), "docs/api.md does not name {name}");
    }
}

#[test]
fn the_manual_names_nothing_that_is_not_there() {
    let (header, manual) = (read("include/latentblend.h"), read("docs/api.md"));
    let mut seen = 0;
    for prefix in ["lb_", "LB_"] {
        for (at, _) in manual.match_indices(prefix) {
            let before = manual[..at].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            let word: String = manual[at..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            // A family, written with a star.
            let family = manual[at + word.len()..].starts_with('*');
            let there = if family { header.contains(&word) } else { says(&header, &word) };
            assert!(there, "docs/api.md names {word}, the header does not");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} names were found");
}

#[test]
fn every_function_says_since_when_from_which_thread_and_for_how_long() {
    let header = read("include/latentblend.h");
    let names = functions(&header);
    let lines: Vec<&str> = header.lines().collect();
    let mut seen = 0;
    for (at, line) in lines.iter().enumerate() {
        let declared =
            |name: &&String| !line.starts_with("//") && line.contains(&format!("{name}("));
        let Some(name) = names.iter().find(declared) else { continue };
        let comment: Vec<&str> =
            lines[..at].iter().rev().take_while(|l| l.starts_with("//")).copied().collect();
        let comment = comment.into_iter().rev().map(|l| l.trim_start_matches(['/', ' ']));
        let comment = comment.collect::<Vec<_>>().join(" ");
        assert!(comment.contains("Since 0."), "{name}: since when? {comment}");
        assert!(comment.to_lowercase().contains("any thread"), "{name}: which thread? {comment}");
        let long =
            ["at once", "long", "second", "minute"].iter().any(|word| comment.contains(word));
        assert!(long, "{name}: how long? {comment}");
        seen += 1;
    }
    assert_eq!(seen, names.len());
}
