//! In: nothing. Out: what of CUDA is on this machine, and where it was looked for. Files are looked at,
//! none is loaded.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// A file that CUDA needs, and where it was found or sought.
#[derive(Serialize)]
pub(super) struct Sought {
    what: &'static str,
    /// Nothing where it isn't there.
    found: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    looked_in: Vec<String>,
}

/// Where the dynamic loader and CUDA's installers put libraries.
const FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/usr/lib/wsl/lib",
];

/// Driver, matrix products, convolutions: each under any of these names.
const LIBRARIES: [(&str, &[&str]); 3] = [
    ("CUDA driver (libcuda.so.1)", &["libcuda.so.1"]),
    ("cuBLASLt (libcublasLt.so.12 or .13)", &["libcublasLt.so.13", "libcublasLt.so.12"]),
    ("cuDNN (libcudnn.so.9)", &["libcudnn.so.9"]),
];

/// The folders of a list like PATH.
fn listed(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
}

fn folders() -> Vec<PathBuf> {
    let own = listed("LATENTBLEND_CUDA_PATH").into_iter().chain(listed("LD_LIBRARY_PATH"));
    own.chain(FOLDERS.iter().map(PathBuf::from)).collect()
}

/// The card's name, as its driver says.
pub(super) fn name() -> Option<String> {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?;
    let text = cards
        .filter_map(Result::ok)
        .find_map(|card| std::fs::read_to_string(card.path().join("information")).ok())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(line.trim().to_owned())
}

/// Whether CUDA can be used, why or why not, and what was looked for.
pub(super) fn cuda() -> (bool, String, Vec<Sought>) {
    let folders = folders();
    let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let mut sought: Vec<Sought> = LIBRARIES
        .iter()
        .map(|(what, names)| {
            let mut places = names.iter().flat_map(|n| folders.iter().map(move |f| f.join(n)));
            let found = places.find(|path| path.exists());
            Sought {
                what,
                looked_in: if found.is_none() { shown.clone() } else { Vec::new() },
                found: found.map(|path| path.display().to_string()),
            }
        })
        .collect();
    for (what, path) in [
        ("device node", "/dev/nvidia0"),
        ("kernel driver", "/proc/driver/nvidia/version"),
        ("device node of WSL", "/dev/dxg"),
    ] {
        let found = Path::new(path).exists();
        sought.push(Sought {
            what,
            looked_in: if found { Vec::new() } else { vec![path.to_owned()] },
            found: found.then(|| path.to_owned()),
        });
    }
    let missing: Vec<&str> =
        sought[..LIBRARIES.len()].iter().filter(|s| s.found.is_none()).map(|s| s.what).collect();
    let there = match missing[..] {
        [] => "the driver and its libraries are there".to_owned(),
        _ => format!("not found: {}", missing.join(", ")),
    };
    (false, format!("this version has no CUDA backend yet ({there})"), sought)
}
