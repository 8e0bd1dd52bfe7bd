//! The OpenFX node's bundle: the shim that this crate's build script links, and the engine library beside it.
//!
//! In: the engine, as cargo has built it. Out: `LatentBlend.ofx.bundle`, as hosts look for it. The node itself is
//! C++, in `src/shim`.

use std::io;
use std::path::{Path, PathBuf};

/// What the bundle is called; the shim within has the same name, as the specification wants.
pub const BUNDLE: &str = "LatentBlend.ofx.bundle";

/// The node's identifier, for good.
pub const IDENTIFIER: &str = "org.latentblend.LatentBlend";

/// The shim that the build script has linked.
pub fn shim() -> &'static Path {
    Path::new(env!("LATENTBLEND_OFX_SHIM"))
}

/// The folder of this system's libraries in a bundle.
pub const ARCHITECTURE: &str = if cfg!(target_os = "macos") {
    "MacOS"
} else if cfg!(target_os = "windows") {
    "Win64"
} else if cfg!(target_arch = "aarch64") {
    "Linux-aarch64"
} else {
    "Linux-x86-64"
};

/// The file name of the engine.
pub const ENGINE: &str = if cfg!(target_os = "macos") {
    "liblatentblend.dylib"
} else if cfg!(target_os = "windows") {
    "latentblend.dll"
} else {
    "liblatentblend.so"
};

/// The engine that cargo has built along with `executable`, a program or test of this workspace.
///
/// Cargo puts a dependency's libraries into `deps`; one in the folder above is only as new as the last
/// `cargo build` of the library itself.
///
/// # Errors
/// `NotFound`, with the places that were looked at.
pub fn engine_of(executable: &Path) -> io::Result<PathBuf> {
    let folder = executable.parent().unwrap_or(Path::new("."));
    let places = [folder.join("deps").join(ENGINE), folder.join(ENGINE)];
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let [first, second] = places.map(|place| place.display().to_string());
        io::Error::new(io::ErrorKind::NotFound, format!("no engine at {first} or {second}"))
    })
}

/// Assembles the bundle in `folder` around `engine`, or renews it there; another system's libraries in it stay.
/// Gives the bundle's path.
///
/// # Errors
/// Those of the file system.
pub fn assemble(engine: &Path, folder: &Path) -> io::Result<PathBuf> {
    let bundle = folder.join(BUNDLE);
    let contents = bundle.join("Contents");
    let libraries = contents.join(ARCHITECTURE);
    let resources = contents.join("Resources");
    std::fs::create_dir_all(&libraries)?;
    std::fs::create_dir_all(&resources)?;
    place(shim(), &libraries.join("LatentBlend.ofx"))?;
    place(engine, &libraries.join(ENGINE))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let icon = format!("{IDENTIFIER}.svg");
    place(&root.join("resources").join(&icon), &resources.join(&icon))?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        place(&root.join("..").join(licence), &resources.join(licence))?;
    }
    let plist = include_str!("../resources/Info.plist");
    std::fs::write(
        contents.join("Info.plist"),
        plist.replace("VERSION", env!("CARGO_PKG_VERSION")),
    )?;
    Ok(bundle)
}

/// Copies a file to where a host may have an older one open, or opens one right now: that one keeps its bytes, and nobody
/// sees a part of the new one.
fn place(from: &Path, to: &Path) -> io::Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = to.with_file_name(format!("{name}.{}", std::process::id()));
    let placed = std::fs::copy(from, &beside).and_then(|_| std::fs::rename(&beside, to));
    placed.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        io::Error::new(error.kind(), format!("{}: {error}", from.display()))
    })
}
