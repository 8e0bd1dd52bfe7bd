//! The built bundle, assembled once for a test program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The bundle in a folder that lives as long as the test program.
pub fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let engine = latentblend_ofx::engine_of(&std::env::current_exe().unwrap()).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Test programs may run at once: each has a bundle of its own, renewed at every run.
        let name = std::env::current_exe().unwrap().file_stem().unwrap().to_owned();
        latentblend_ofx::assemble(&engine, &target.join("ofx").join(name)).unwrap()
    })
}

/// The engine within it.
pub fn engine() -> PathBuf {
    bundle().join("Contents").join(latentblend_ofx::ARCHITECTURE).join(latentblend_ofx::ENGINE)
}

/// The smallest model there is, of this repository's tests: a render takes some milliseconds.
pub fn tiny() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny/base");
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// A copy of that model in `folder`, for who damages it.
pub fn copy_of_tiny(folder: &Path) {
    let mut from = vec![PathBuf::from(tiny())];
    while let Some(source) = from.pop() {
        let target = folder.join(source.strip_prefix(tiny()).unwrap());
        if source.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            from.extend(std::fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

/// Whether the process has the engine's code in it.
pub fn engine_is_mapped() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| line.ends_with(latentblend_ofx::ENGINE))
}
