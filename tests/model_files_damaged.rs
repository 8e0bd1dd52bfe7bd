//! Archives of PyTorch that are damaged, cut short or hostile: an error, or a model, and never more.

mod common;

use common::single::{File, archive, like, load, refused};
use latentblend::{ErrorKind, LoadOptions};
use std::time::Instant;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(archive(name)).unwrap()
}

#[test]
fn nothing_in_an_archive_is_executed() {
    for (name, wanted) in [("system.ckpt", "posix.system"), ("exec.ckpt", "__builtin__.exec")] {
        let error = refused(&archive(name), &LoadOptions::default());
        assert_eq!(error.kind(), ErrorKind::BadModel);
        assert!(error.message().contains(&format!("names {wanted}")), "{error}");
        assert!(error.message().contains("nothing was executed"), "{error}");
        assert!(!std::path::Path::new("latentblend-was-here").exists());
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    let error = refused(&archive("legacy.ckpt"), &LoadOptions::default());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("before version 1.6"), "{error}");

    for text in
        ["", "text", "{\"a\": 1, \"b\": 2}", "PK\x03\x04 and nothing else", "\0\0\0\0\0\0\0\0\0\0"]
    {
        let file = File::new("model.ckpt", text);
        assert_eq!(refused(&file.path(), &like("base")).kind(), ErrorKind::BadModel, "{text:?}");
    }

    // Numbers of the other byte order.
    let mut big = bytes("tiny.ckpt");
    let at = big.windows(6).position(|w| w == b"little").unwrap();
    big[at..at + 6].copy_from_slice(b"bigone");
    let file = File::new("model.ckpt", big);
    let error = refused(&file.path(), &like("base"));
    assert!(error.message().contains("'bigone' byte order, wanted 'little'"), "{error}");

    // A compressed entry, and an encrypted one.
    let whole = bytes("tiny.ckpt");
    let entry = whole.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    let first = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    assert!(first < entry);
    for (offset, value) in [(10, 8), (8, 1)] {
        let mut changed = whole.clone();
        changed[first + offset] = value;
        let file = File::new("model.ckpt", changed);
        let error = refused(&file.path(), &like("base"));
        assert!(error.message().contains("compressed or encrypted"), "{error}");
    }
}

/// The places where an archive of PyTorch is more than numbers: its pickle, its directory and its end.
fn structure(whole: &[u8]) -> Vec<usize> {
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let pickle = 0..150_000.min(directory);
    pickle.step_by(331).chain((directory..whole.len()).step_by(61)).collect()
}

#[test]
fn an_archive_that_is_cut_short_is_an_error() {
    let whole = bytes("tiny.ckpt");
    let file = File::new("model.ckpt", &whole);
    let mut cuts: Vec<usize> = (0..200).chain((200..whole.len()).step_by(9973)).collect();
    cuts.extend(whole.len() - 200..whole.len());
    for cut in cuts {
        file.write(&whole[..cut]);
        let error = refused(&file.path(), &like("base"));
        assert_eq!(error.kind(), ErrorKind::BadModel, "cut at {cut}: {error}");
    }
}

#[test]
fn an_archive_with_a_flipped_byte_is_an_error_or_loads() {
    let whole = bytes("tiny.ckpt");
    let file = File::new("model.ckpt", &whole);
    let (mut errors, start) = (0, Instant::now());
    let places = structure(&whole);
    for (turn, &at) in places.iter().enumerate() {
        let mut damaged = whole.clone();
        damaged[at] ^= [0x01, 0x80, 0xff][turn % 3];
        file.write(&damaged);
        if let Err(error) = load(&file.path(), &like("base")) {
            assert!(
                matches!(error.kind(), ErrorKind::BadModel | ErrorKind::Unsupported),
                "byte {at}: {:?} {error}",
                error.kind()
            );
            errors += 1;
        }
    }
    println!("{errors} errors of {} in {:.1?}", places.len(), start.elapsed());
    assert!(errors > places.len() / 4, "{errors} of {}", places.len());
}

/// Numbers in an archive's directory that claim what the file cannot hold.
#[test]
fn claims_beyond_the_file_are_refused() {
    let whole = bytes("tiny.ckpt");
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = whole.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
    let locator = end - 20;
    let wide = whole.windows(4).rposition(|w| w == b"PK\x06\x06");
    let mut claims: Vec<(usize, usize)> =
        [20, 24, 28, 30, 32, 42].iter().map(|at| (directory + at, 2)).collect();
    claims.extend([(directory + 24, 4), (directory + 42, 4), (end + 12, 4), (end + 16, 4)]);
    if let Some(wide) = wide {
        claims.extend([(wide + 40, 8), (wide + 48, 8), (locator + 8, 8)]);
    }
    for (at, length) in claims {
        let mut damaged = whole.clone();
        damaged[at..at + length].fill(0xff);
        let file = File::new("model.ckpt", damaged);
        match load(&file.path(), &like("base")).map(|_| ()) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::BadModel, "{at}: {error}"),
            // With the wide records at hand the narrow ones are not looked at.
            Ok(()) => assert!(wide.is_some() && at > end, "{at} of {end}"),
        }
    }
}

#[test]
fn a_checkpoint_that_shrinks_during_the_load_is_an_error() {
    let file = File::new("model.ckpt", bytes("tiny.ckpt"));
    let path = file.path();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let call = latentblend::Call::new().on_progress(|_| {
        if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3 {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(150_000).unwrap();
        }
        std::ops::ControlFlow::Continue(())
    });
    let error = latentblend::Model::load_with(&path, &like("base"), &call).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadModel);
    assert!(error.message().contains("ends"), "{error}");
}
