//! In: nothing. Out: the kernels' parameters, field by field as in kernels/*.cu, and their names.
#![allow(unsafe_code, reason = "what kernels take is promised here")]

use super::calls::Address;

/// What a kernel takes as its one argument.
///
/// # Safety
/// Laid out as the struct of the same name in kernels/*.cu.
// SAFETY: unsafe for whoever implements it; see above.
pub(super) unsafe trait Parameters: Copy {}

/// product.cu
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Product {
    pub(super) first: Address,
    pub(super) second: Address,
    pub(super) weight: Address,
    pub(super) bias: Address,
    pub(super) add: Address,
    pub(super) out: Address,
    pub(super) partial: Address,
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) channels: [i32; 2],
    pub(super) tall: i32,
    pub(super) wide: i32,
    pub(super) out_height: i32,
    pub(super) out_width: i32,
    pub(super) outputs: i32,
    pub(super) kernel: [i32; 2],
    pub(super) stride: i32,
    pub(super) before: i32,
    pub(super) k: i32,
    pub(super) rows: i32,
    pub(super) splits: i32,
    pub(super) activation: i32,
    pub(super) add_kind: i32,
    pub(super) add_f32: i32,
    pub(super) out_f32: i32,
    pub(super) gated: i32,
}

/// attention.cu
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Attention {
    pub(super) query: Address,
    pub(super) key: Address,
    pub(super) value: Address,
    pub(super) out: Address,
    pub(super) query_sample: u64,
    pub(super) key_sample: u64,
    pub(super) query_row: i32,
    pub(super) key_row: i32,
    pub(super) out_row: i32,
    pub(super) tokens: i32,
    pub(super) others: i32,
    pub(super) heads: i32,
    pub(super) width: i32,
    pub(super) causal: i32,
    pub(super) aligned: i32,
    pub(super) scale: f32,
    pub(super) listed: i32,
    pub(super) first: i32,
    pub(super) rows: [u16; 64],
}

/// norm.cu
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Norm {
    pub(super) first: Address,
    pub(super) second: Address,
    pub(super) out: Address,
    pub(super) scale: Address,
    pub(super) shift: Address,
    pub(super) sums: Address,
    pub(super) channels: [i32; 2],
    pub(super) pixels: i32,
    pub(super) samples: i32,
    pub(super) groups: i32,
    pub(super) parts: i32,
    pub(super) pixels_per_part: i32,
    pub(super) activation: i32,
    pub(super) epsilon: f32,
}

/// plain.cu
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Assemble {
    pub(super) first: Address,
    pub(super) second: Address,
    pub(super) out: Address,
    pub(super) pixels: u64,
    pub(super) channels: [i32; 2],
    pub(super) channels_out: i32,
    pub(super) sources_f32: [i32; 2],
    pub(super) out_f32: i32,
}

/// plain.cu
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Gather {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) length: u64,
    pub(super) rows: [u16; 128],
}

/// plain.cu
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Combine {
    pub(super) terms: [Address; 4],
    pub(super) out: Address,
    pub(super) length: u64,
    pub(super) count: i32,
    pub(super) f32: [i32; 4],
    pub(super) weights: [[f32; 64]; 4],
}

/// convert.cu
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Convert {
    pub(super) picture: Address,
    pub(super) top: Address,
    pub(super) row_bytes: i64,
    pub(super) table: Address,
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) tall: i32,
    pub(super) wide: i32,
    pub(super) rows: [i32; 2],
    pub(super) columns: [i32; 2],
    /// Where rows' starts, rows' weights and columns' weights begin in the table.
    pub(super) places: [u32; 3],
    pub(super) channels: i32,
    pub(super) bytes: i32,
    pub(super) is_float: i32,
    pub(super) transfer: i32,
}

// SAFETY: compared with the kernels' own, field by field, by whoever changes either; tests/cuda_kernels.rs runs
// every kernel with them.
unsafe impl Parameters for Product {}
// SAFETY: as above.
unsafe impl Parameters for Attention {}
// SAFETY: as above.
unsafe impl Parameters for Norm {}
// SAFETY: as above.
unsafe impl Parameters for Assemble {}
// SAFETY: as above.
unsafe impl Parameters for Gather {}
// SAFETY: as above.
unsafe impl Parameters for Combine {}
// SAFETY: as above; tests/cuda.rs runs it.
unsafe impl Parameters for Convert {}

/// The two names of a kernel that is there for both kinds of 16-bit numbers.
macro_rules! kernels {
    ($($constant:ident = $name:literal;)*) => {
        $(pub(super) const $constant: [&str; 2] = [concat!($name, "_f16"), concat!($name, "_bf16")];)*
    };
}

kernels! {
    PRODUCT_LARGE = "product_large";
    PRODUCT_LEAN = "product_lean";
    PRODUCT_SMALL = "product_small";
    PRODUCT_JOIN = "product_join";
    ATTENTION_LONG = "attention_long";
    ATTENTION_SHORT = "attention_short";
    ATTENTION_WIDE = "attention_wide";
    GROUP_SUMS = "group_sums";
    GROUP_SUMS_ODD = "group_sums_odd";
    GROUP_APPLY = "group_apply";
    GROUP_APPLY_ODD = "group_apply_odd";
    LAYER = "layer";
    LAYER_ODD = "layer_odd";
    ASSEMBLE = "assemble";
    COMBINE = "combine";
}
/// The same for any kind.
pub(super) const GATHER: &str = "gather";
/// Of the module that is compiled by itself.
pub(super) const CONVERT: &str = "convert";
