//! In: nothing. Out: [`Numerics`], by which results that agree bit for bit are told from others.

/// What decides the last bits of a result: two machines with equal numerics, the same library and the same
/// weights make the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numerics {
    /// The kind of device: "cpu", "cuda", ...
    pub device: String,
    /// The kernels that it runs, as far as they round differently.
    pub kernels: String,
    /// What numbers are computed with: "f32", "f16", "bf16".
    pub precision: String,
}

impl Numerics {
    /// Those of an engine that says nothing about itself.
    pub fn unknown() -> Self {
        let unknown = || String::from("unknown");
        Numerics { device: unknown(), kernels: unknown(), precision: unknown() }
    }

    /// Those of products by the `gemm` crate on this processor, which chooses its kernels as here.
    pub(super) fn reference() -> Self {
        #[cfg(target_arch = "x86_64")]
        let level = if std::arch::is_x86_feature_detected!("avx512f") {
            "avx512f"
        } else if std::arch::is_x86_feature_detected!("fma") {
            "fma"
        } else {
            "scalar"
        };
        #[cfg(not(target_arch = "x86_64"))]
        let level = std::env::consts::ARCH;
        Numerics {
            device: "cpu".into(),
            kernels: format!("reference {level}"),
            precision: "f32".into(),
        }
    }
}
