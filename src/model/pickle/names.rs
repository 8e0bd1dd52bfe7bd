//! In: a name in a pickle. Out: what it stands for, if a checkpoint may name it.

use safetensors::Dtype;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
    /// Something that a checkpoint carries beside its tensors.
    Other,
}

/// The types of numbers that storages are named after.
fn storage_type(name: &str) -> Option<Dtype> {
    Some(match name {
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "DoubleStorage" => Dtype::F64,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}

/// What `module.name` stands for, if a checkpoint may name it.
pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    // Callbacks, settings and counters that Lightning and NumPy leave beside the tensors.
    const PACKAGES: [&str; 6] =
        ["pytorch_lightning", "lightning", "lightning_fabric", "numpy", "omegaconf", "argparse"];
    const PLAIN: [&str; 13] = [
        "set",
        "frozenset",
        "list",
        "dict",
        "tuple",
        "int",
        "float",
        "bool",
        "str",
        "bytes",
        "bytearray",
        "complex",
        "object",
    ];
    let package = module.split('.').next().unwrap_or_default();
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch", _) if name.ends_with("Storage") => storage_type(name).map(Global::Storage),
        ("torch", "Size" | "device" | "float32" | "float16" | "bfloat16" | "int64")
        | ("collections", "defaultdict" | "deque" | "Counter")
        | ("_codecs", "encode")
        | ("typing", "Any")
        | ("copy_reg" | "copyreg", "_reconstructor") => Some(Global::Other),
        ("builtins" | "__builtin__", _) if PLAIN.contains(&name) => Some(Global::Other),
        _ if PACKAGES.contains(&package) => Some(Global::Other),
        _ => None,
    }
}
