//! Where cargo keeps the sources of openfx-sys, which carry the C headers and HostSupport.

#![allow(unreachable_pub, reason = "a test's own")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder `openfx` of the package; or why it can't be had, for people.
pub fn openfx() -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openfx-sys/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    // Without a network first: what is there needs none.
    let mut reason = String::new();
    for offline in [true, false] {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
        command.arg(&manifest).args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
        if offline {
            command.arg("--offline");
        }
        let output = command.output().map_err(|error| format!("cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let marker = "openfx-sys-0.1.0";
        if let (true, Some(at)) =
            (output.status.success(), text.find(&format!("{marker}/Cargo.toml")))
        {
            let start = text[..at].rfind('"').map_or(0, |quote| quote + 1);
            return Ok(Path::new(&text[start..at + marker.len()]).join("openfx"));
        }
        reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    Err(format!("cargo cannot fetch openfx-sys 0.1.0: {reason}"))
}
