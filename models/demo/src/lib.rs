//! The demo model as files in the program: paths relative to a diffusers folder, and their bytes.
//!
//! A crate of its own, so that the weights are compiled once and not with every change of the library.

/// Bytes that start at a multiple of 64, so that a reader may take them for numbers of any type.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

/// A file below this crate's folder as `(path in the model, bytes)`.
macro_rules! file {
    ($folder:literal, $path:literal) => {{
        static FILE: &Aligned<[u8]> =
            &Aligned(*include_bytes!(concat!("../", $folder, "/", $path)));
        ($path, &FILE.0)
    }};
}

/// The files of one model; all but the UNet and the index are the same in both.
macro_rules! model {
    ($folder:literal) => {
        &[
            file!($folder, "model_index.json"),
            file!($folder, "unet/config.json"),
            file!($folder, "unet/diffusion_pytorch_model.safetensors"),
            file!("standard", "scheduler/scheduler_config.json"),
            file!("standard", "text_encoder/config.json"),
            file!("standard", "text_encoder/model.safetensors"),
            file!("standard", "tokenizer/merges.txt"),
            file!("standard", "tokenizer/special_tokens_map.json"),
            file!("standard", "tokenizer/tokenizer_config.json"),
            file!("standard", "tokenizer/vocab.json"),
            file!("standard", "vae/config.json"),
            file!("standard", "vae/diffusion_pytorch_model.safetensors"),
        ]
    };
}

/// A model's files.
pub type Files = &'static [(&'static str, &'static [u8])];

/// The model that paints whole pictures.
#[cfg(feature = "standard")]
pub static STANDARD: Files = model!("standard");

/// The model that repaints what a mask marks.
#[cfg(feature = "inpainting")]
pub static INPAINTING: Files = model!("inpainting");
