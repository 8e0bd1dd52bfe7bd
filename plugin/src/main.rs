//! `cargo run -p latentblend-ofx [--release] [-- FOLDER]`: assembles `LatentBlend.ofx.bundle` in FOLDER, or in cargo's
//! target folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn run() -> std::io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let engine = latentblend_ofx::engine_of(&executable)?;
    let target = executable.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let folder = std::env::args_os().nth(1).map_or(target.to_owned(), PathBuf::from);
    latentblend_ofx::assemble(&engine, &folder)
}

fn main() -> ExitCode {
    match run() {
        Ok(bundle) => {
            println!("{}", bundle.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no bundle: {error}");
            ExitCode::FAILURE
        }
    }
}
