//! The built bundle, assembled once for a test program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where a test program tells the processes that it starts of itself which bundle is theirs.
const SHARED: &str = "LATENTBLEND_TEST_BUNDLE";

/// The bundle in a folder that lives as long as the test program.
pub fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        // A process of the program's own uses the bundle that is there: if it placed the files anew, those that the
        // other processes have mapped would be deleted under them.
        if let Some(shared) = std::env::var_os(SHARED) {
            return PathBuf::from(shared);
        }
        let engine = latentblend_ofx::engine_of(&std::env::current_exe().unwrap()).unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Test programs may run at once: each has a bundle of its own, renewed at every run.
        let name = std::env::current_exe().unwrap().file_stem().unwrap().to_owned();
        latentblend_ofx::assemble(&engine, &target.join("ofx").join(name)).unwrap()
    })
}

/// Runs a test of this program in a process of its own, with `variables` in its environment.
/// The test is an ignored one; that it passed is asserted.
pub fn alone(name: &str, variables: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(SHARED, bundle())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{told}");
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
    // One whose file was replaced meanwhile is listed as `... (deleted)`.
    maps.lines().any(|line| line.contains(latentblend_ofx::ENGINE))
}
