//! In: perhaps the path of a model. Out: a report on this library, this machine and the models in reach,
//! as JSON, for whoever has to say why something does not work here.
//!
//! Nothing fails: what cannot be found out says why in its place. Nothing is changed and nothing is sent.

mod cuda;
mod machine;
mod models;
mod test_frame;

use crate::error::{Result, guarded};
use serde::Serialize;
use std::path::Path;

/// LB_ABI_VERSION of the C surface, which is built on this module (`capi/version.rs` is compared).
pub(crate) const ABI_VERSION: u32 = 1;

/// A part of the report, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<T> {
    Known(T),
    Unknown { error: String },
}

/// Makes a part; an error or a panic in it is what the report says.
fn part<T>(make: impl FnOnce() -> Result<T>) -> Part<T> {
    match guarded(make).and_then(|result| result) {
        Ok(known) => Part::Known(known),
        Err(error) => Part::Unknown { error: error.to_string() },
    }
}

#[derive(Serialize)]
struct Library {
    version: &'static str,
    abi_version: u32,
    features: Vec<&'static str>,
    target: String,
    optimised: bool,
}

fn library() -> Library {
    let features = [
        ("clip-vocabulary", cfg!(feature = "clip-vocabulary")),
        ("demo", cfg!(feature = "demo")),
        ("demo-inpainting", cfg!(feature = "demo-inpainting")),
    ];
    Library {
        version: env!("CARGO_PKG_VERSION"),
        abi_version: ABI_VERSION,
        features: features.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect(),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        optimised: !cfg!(debug_assertions),
    }
}

/// The variables that the library and its node listen to, where they are set.
const VARIABLES: [&str; 8] = [
    "LATENTBLEND_LOG",
    "LATENTBLEND_CPU_LEVEL",
    "LATENTBLEND_PRECISION",
    "LATENTBLEND_MODELS",
    "LATENTBLEND_SD2",
    "LATENTBLEND_CUDA_PATH",
    "LATENTBLEND_DEVICE",
    "LATENTBLEND_ENGINE",
];

#[derive(Serialize)]
struct Variable {
    name: &'static str,
    /// Nothing where it isn't set.
    value: Option<String>,
}

#[derive(Serialize)]
struct Report {
    library: Library,
    environment: Vec<Variable>,
    cpu: Part<machine::Cpu>,
    memory: Part<machine::Memory>,
    devices: Part<Vec<machine::Device>>,
    models: Part<models::Models>,
    test_frame: Part<test_frame::TestFrame>,
}

/// A report on this library, this machine and the models in reach, as one JSON object: `library`
/// (version, ABI, features), `environment`, `cpu` (model, kernel level, threads), `memory` of machine and
/// process, `devices` and why one cannot be used, `models` (every path that was tried, `model` first, and
/// what was found there), and `test_frame`, a small frame of the embedded model with its hash and the one
/// that was expected. Takes a second or two. A part that cannot be had is an object with `error`.
pub fn doctor(model: Option<&Path>) -> String {
    let variable = |name| {
        let value = std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Variable { name, value }
    };
    let report = Report {
        library: library(),
        environment: VARIABLES.map(variable).into(),
        cpu: part(machine::cpu),
        memory: part(machine::memory),
        devices: part(machine::devices),
        models: part(|| Ok(models::models(model))),
        test_frame: part(test_frame::test_frame),
    };
    // Only maps with odd keys can fail, and there are none.
    serde_json::to_string(&report).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
}
