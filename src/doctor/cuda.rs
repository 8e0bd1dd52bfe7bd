//! In: nothing. Out: what of CUDA is on this machine, and where it was looked for.

use crate::backend::{CUDA_DRIVER, CudaDriver, CudaInfo, cuda_folders};
use serde::Serialize;
use std::path::Path;

/// A file that CUDA needs, and where it was found or sought.
#[derive(Serialize)]
pub(super) struct Sought {
    what: &'static str,
    /// Nothing where it isn't there.
    found: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    looked_in: Vec<String>,
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

/// Whether CUDA can be used, why or why not, what was looked for, and the devices there are.
pub(super) fn cuda() -> (bool, String, Vec<Sought>, Vec<CudaInfo>) {
    let folders = cuda_folders();
    let driver = CudaDriver::find();
    let lying = || folders.iter().map(|folder| folder.join(CUDA_DRIVER)).find(|path| path.exists());
    let found = driver.as_ref().map_or_else(|_| lying(), |driver| Some(driver.path().into()));
    let shown = folders.iter().map(|folder| folder.display().to_string());
    let mut sought = vec![Sought {
        what: "CUDA driver (libcuda.so.1)",
        looked_in: if found.is_none() { shown.collect() } else { Vec::new() },
        found: found.map(|path| path.display().to_string()),
    }];
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
    let driver = match driver {
        Ok(driver) => driver,
        Err(error) => return (false, error.to_string(), sought, Vec::new()),
    };
    let devices = driver.devices().to_vec();
    let version = driver.version();
    let why = format!("CUDA {}.{}: {}", version / 1000, version % 1000 / 10, driver.path());
    let usable = devices.iter().any(|device| device.usable().is_ok());
    (usable, why, sought, devices)
}
