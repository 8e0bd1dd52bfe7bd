//! `include/latentblend.h` is what cbindgen makes of `src/capi`. `LATENTBLEND_BLESS=1` rewrites it.

mod common;

use std::path::Path;

/// The files in the order of the header's sections.
const FILES: [&str; 10] = [
    "status",
    "version",
    "log",
    "call",
    "device",
    "model",
    "source",
    "session",
    "inpainting",
    "frame",
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
