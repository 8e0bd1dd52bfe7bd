//! In: nothing. Out: what this machine is: processor, memory, devices.

use super::cuda;
use crate::backend::{Level, Precision};
use crate::diffusion::physical;
use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Cpu {
    /// As the system calls it; nothing where it doesn't.
    model: Option<String>,
    /// The kernels that a model would be computed with.
    pub(super) level: &'static str,
    /// What it would be computed in, where the choice is left open.
    precision: &'static str,
    /// What of those that matter the processor has.
    instructions: Vec<&'static str>,
    threads: usize,
}

/// The instructions that kernels could use, and whether they are there.
fn instructions() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    {
        vec![
            ("avx", is_x86_feature_detected!("avx")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ("avx512fp16", is_x86_feature_detected!("avx512fp16")),
            ("amx", Level::Amx.is_available()),
        ]
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec![
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
            ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
            ("sve", std::arch::is_aarch64_feature_detected!("sve")),
        ]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}

pub(super) fn cpu() -> Result<Cpu> {
    let (level, precision) = Precision::Auto.on_cpu()?;
    let instructions: Vec<&str> =
        instructions().into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| {
        line.split_once(':').filter(|(key, _)| key.trim() == "model name").map(|(_, name)| name)
    });
    Ok(Cpu {
        model: model.map(|name| name.trim().to_owned()),
        level: level.map_or("reference", Level::name),
        precision: precision.name(),
        instructions,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

#[derive(Serialize)]
pub(super) struct Memory {
    machine_bytes: u64,
    /// What could be had now without swapping.
    available_bytes: Option<u64>,
    process_bytes: Option<u64>,
    /// The most that the process ever held.
    process_peak_bytes: Option<u64>,
}

/// The number of kB behind `key` in a file of /proc, in bytes.
fn field(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

pub(super) fn memory() -> Result<Memory> {
    let machine_bytes = physical().ok_or_else(|| {
        let what = "/proc/meminfo does not tell the memory; only Linux is asked in this version";
        Error::new(ErrorKind::Unsupported, what)
    })?;
    Ok(Memory {
        machine_bytes,
        available_bytes: field("/proc/meminfo", "MemAvailable:"),
        process_bytes: field("/proc/self/status", "VmRSS:"),
        process_peak_bytes: field("/proc/self/status", "VmHWM:"),
    })
}

#[derive(Serialize)]
pub(super) struct Device {
    kind: &'static str,
    ordinal: u32,
    name: String,
    usable: bool,
    /// Why it is or isn't usable.
    why: String,
    /// What was looked for, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    looked_for: Vec<cuda::Sought>,
}

/// All kinds of devices, those that cannot be used included.
pub(super) fn devices() -> Result<Vec<Device>> {
    let Cpu { model, level, precision, threads, .. } = cpu()?;
    let (usable, why, looked_for, found) = cuda::cuda();
    let mut devices = vec![Device {
        kind: "cpu",
        ordinal: 0,
        name: model.unwrap_or_else(|| "unnamed processor".into()),
        usable: true,
        why: format!("{threads} threads, level {level}; computes in {precision}, or as asked"),
        looked_for: Vec::new(),
    }];
    if found.is_empty() {
        devices.push(Device {
            kind: "cuda",
            ordinal: 0,
            name: cuda::name().unwrap_or_else(|| "none found".into()),
            usable,
            why: why.clone(),
            looked_for,
        });
    }
    for device in found {
        let able = device.usable();
        let [major, minor] = device.capability;
        let gigabytes = device.memory as f64 / f64::from(1 << 30);
        devices.push(Device {
            kind: "cuda",
            ordinal: device.ordinal,
            name: device.name,
            usable: able.is_ok(),
            why: match able {
                Ok(()) => format!(
                    "{why}; compute capability {major}.{minor}, {gigabytes:.1} GiB; computes in f16, or bf16 as asked"
                ),
                Err(error) => error.to_string(),
            },
            looked_for: Vec::new(),
        });
    }
    Ok(devices)
}
