//! The small files of a model, cut short or changed anywhere: an error that says which, or a model.

mod common;

use common::folder::Folder;
use latentblend::{Call, Error, ErrorKind, Model};
use std::path::Path;

const TEXTS: [&str; 8] = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
];

fn refused(name: &str, what: &str, error: &Error) {
    assert!(
        matches!(error.kind(), ErrorKind::BadModel | ErrorKind::NotFound | ErrorKind::Unsupported),
        "{name} {what}: {:?} {error}",
        error.kind()
    );
    assert!(!error.message().is_empty());
}

#[test]
fn a_text_that_is_cut_short_is_an_error_or_loads() {
    let folder = Folder::new();
    for name in TEXTS {
        let whole = std::fs::read(folder.path(name)).unwrap();
        let (mut errors, cuts) = (0, (0..12).map(|part| whole.len() * part / 12));
        for cut in cuts {
            folder.write(name, &whole[..cut]);
            if let Err(error) = folder.load() {
                refused(name, &format!("cut at {cut}"), &error);
                errors += 1;
            }
        }
        // A tokenizer's settings are of no interest but for one token, and merges may be fewer.
        assert!(errors >= 10 || name.starts_with("tokenizer/"), "{name}: {errors} errors");
        folder.write(name, &whole);
    }
    folder.load().unwrap();
}

#[test]
fn a_text_with_another_value_anywhere_is_an_error_or_loads() {
    let folder = Folder::new();
    for name in TEXTS.into_iter().filter(|name| name.ends_with("config.json")) {
        let whole = std::fs::read(folder.path(name)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        for key in keys {
            for other in
                ["null", "-1", "0", "1e308", "4294967296", "\"x\"", "[]", "[0,-1]", "{}", "true"]
            {
                let mut changed = value.clone();
                changed[&key] = serde_json::from_str(other).unwrap();
                folder.write(name, serde_json::to_vec(&changed).unwrap());
                if let Err(error) = folder.load() {
                    refused(name, &format!("{key} = {other}"), &error);
                }
            }
        }
        folder.write(name, &whole);
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    match std::process::Command::new("mkfifo").arg(&pipe).status() {
        Ok(status) if status.success() => {}
        other => {
            println!("skipped: no named pipes here ({other:?})");
            return;
        }
    }
    let error = |path: &Path| Model::load(path, &Call::new()).map(|_| ()).unwrap_err();
    let refused = error(&pipe);
    assert_eq!(refused.kind(), ErrorKind::BadModel);
    assert!(refused.message().ends_with("not a regular file"), "{refused}");
    let null = Path::new("/dev/zero");
    if null.exists() {
        assert_eq!(error(null).kind(), ErrorKind::BadModel);
    }
}
