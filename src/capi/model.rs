//! In: a path. Out: an `lb_model`.

use super::call::{lb_call, watched};
use super::device::{LB_DEVICE_AUTO, LB_DEVICE_BY_ORDINAL, choose, lb_device_by, lb_device_kind};
use super::growing::{Growing, fill, read, unused, write};
use super::handle::{Kind, Registry};
use super::{entry, lb_error, lb_model, lb_status, put, text};
use crate::backend::Precision;
use crate::diffusion::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LoadOptions, PredictionType};
use crate::progress::Call;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::time::Duration;

/// The numbers that a model computes with.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_precision = u32;

/// What the device is best at, if pictures stay the same to the eye: on a processor that multiplies faster in bf16
/// that, else 32-bit floats. The environment variable LATENTBLEND_PRECISION ("f32", "bf16") names another.
pub const LB_PRECISION_AUTO: lb_precision = 0;
/// 32-bit floats.
pub const LB_PRECISION_F32: lb_precision = 1;
/// 16-bit floats, sums in 32. For GPUs.
pub const LB_PRECISION_F16: lb_precision = 2;
/// 16-bit brain floats, sums in 32.
pub const LB_PRECISION_BF16: lb_precision = 3;

/// What a UNet predicts.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_prediction = u32;

/// The noise.
pub const LB_PREDICTION_EPSILON: lb_prediction = 1;
/// The velocity.
pub const LB_PREDICTION_V: lb_prediction = 2;

/// In lb_model_options.flags, without a path: the embedded demo model that repaints under a mask, instead of
/// the one that paints whole pictures.
pub const LB_MODEL_DEMO_INPAINTING: u32 = 1;

/// How a model is loaded. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_model_options {
    /// sizeof(lb_model_options)
    pub struct_size: usize,
    /// An LB_DEVICE value.
    pub device: lb_device_kind,
    /// The number of the device among those of its kind.
    pub ordinal: u32,
    /// An LB_PRECISION value.
    pub precision: lb_precision,
    /// 0, or LB_MODEL_DEMO_INPAINTING.
    pub flags: u32,
    /// How many threads the model computes with, besides those that call: 0, one for each core, to 1024. Models
    /// of one number share them. Frames do not depend on it.
    pub threads: u32,
    /// Zero.
    pub reserved: u32,
    /// The most bytes of memory that the weights and any call on them may take together, by an estimate made
    /// before: what would take more is LB_ERROR_OUT_OF_MEMORY. 0: what the machine has.
    pub memory_limit: u64,
    /// After so many seconds without a call on the model its weights go by themselves, as by lb_model_unload; 0: they
    /// stay.
    pub idle_seconds: f64,
    /// What the device is named by, as `device_by` says; LB_DEVICE_BY_ORDINAL: NULL. With LB_DEVICE_CUDA the model is
    /// loaded onto that device or not at all; with LB_DEVICE_AUTO onto that one before others, if it can be used.
    pub device_what: *const c_void,
    /// An LB_DEVICE_BY value.
    pub device_by: lb_device_by,
    /// Zero.
    pub device_reserved: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_model_options {
    const NAME: &'static str = "lb_model_options";
    const FIRST: usize = size_of::<usize>() + 16;

    fn defaults() -> Self {
        lb_model_options {
            struct_size: size_of::<Self>(),
            device: LB_DEVICE_AUTO,
            ordinal: 0,
            precision: LB_PRECISION_AUTO,
            flags: 0,
            threads: 0,
            reserved: 0,
            memory_limit: 0,
            idle_seconds: 0.0,
            device_what: std::ptr::null(),
            device_by: LB_DEVICE_BY_ORDINAL,
            device_reserved: 0,
        }
    }
}

/// What a model is. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_model_info {
    /// sizeof(lb_model_info), set by the caller
    pub struct_size: usize,
    /// The size in pixels that the model was trained at.
    pub native_width: u32,
    /// See native_width.
    pub native_height: u32,
    /// Sizes are multiples of this.
    pub size_multiple: u32,
    /// An LB_PREDICTION value.
    pub prediction: lb_prediction,
    /// 1 where the UNet takes a mask and a masked picture, else 0.
    pub inpainting: u32,
    /// 1 where `name` is this very model, 0 where the model is of its kind.
    pub exact: u32,
    /// What the weights take in memory, in bytes: 0 while they are let go of.
    pub memory_bytes: u64,
    /// The published model that this is, or is of the kind of; "" where neither is known. UTF-8; valid
    /// until the last reference to the model is released, as are the other texts.
    pub name: *const c_char,
    /// The licence of the weights: the text that lies beside them, else what it is called and where it
    /// can be read, else that none is known.
    pub licence: *const c_char,
    /// 32 hexadecimal digits that tell these weights from others, the same for both layouts of files.
    pub fingerprint: *const c_char,
    /// Samples that the UNet has evaluated so far: a guided step takes two, an unguided one takes one.
    pub samples: u64,
    /// What the model computes with: an LB_PRECISION value, never LB_PRECISION_AUTO.
    pub precision: lb_precision,
    /// How many threads it computes with.
    pub threads: u32,
    /// The most bytes of memory that the weights and a frame of the native size take together, by an estimate.
    pub peak_bytes: u64,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_model_info {
    const NAME: &'static str = "lb_model_info";
    const FIRST: usize = size_of::<usize>() + 24;

    fn defaults() -> Self {
        lb_model_info {
            struct_size: size_of::<Self>(),
            native_width: 0,
            native_height: 0,
            size_multiple: 0,
            prediction: 0,
            inpainting: 0,
            exact: 0,
            memory_bytes: 0,
            name: std::ptr::null(),
            licence: std::ptr::null(),
            fingerprint: std::ptr::null(),
            samples: 0,
            precision: LB_PRECISION_AUTO,
            threads: 0,
            peak_bytes: 0,
        }
    }
}

static MODELS: Registry<Model> = Registry::new(Kind::Model);

/// The model of a handle.
pub(super) fn model(handle: *const lb_model) -> Result<Arc<Model>> {
    let wrong = if handle.is_null() { "model is NULL" } else { "model is not a live lb_model" };
    MODELS.get(handle.cast()).ok_or_else(|| Error::invalid(wrong))
}

/// Fills `options` with defaults; `struct_size` is sizeof(lb_model_options). Any thread, at once.
/// Since 0.1.
///
/// # Safety
/// `options` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_model_options_init(options: *mut lb_model_options, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(options, struct_size) };
}

#[cfg(feature = "demo-inpainting")]
fn demo_inpainting(options: &LoadOptions, call: &Call<'_>) -> Result<Model> {
    Model::demo_inpainting_with(options, call)
}

#[cfg(not(feature = "demo-inpainting"))]
fn demo_inpainting(_: &LoadOptions, _: &Call<'_>) -> Result<Model> {
    let what = "path is NULL, and this build embeds no demo model for inpainting";
    Err(Error::new(ErrorKind::Unsupported, what))
}

#[cfg(feature = "demo")]
fn demo(options: &LoadOptions, call: &Call<'_>) -> Result<Model> {
    Model::demo_with(options, call)
}

#[cfg(not(feature = "demo"))]
fn demo(_: &LoadOptions, _: &Call<'_>) -> Result<Model> {
    Err(Error::new(ErrorKind::Unsupported, "path is NULL, and this build embeds no demo model"))
}

/// The precision of an LB_PRECISION value.
fn precision(value: lb_precision) -> Result<Precision> {
    Ok(match value {
        LB_PRECISION_AUTO => Precision::Auto,
        LB_PRECISION_F32 => Precision::F32,
        LB_PRECISION_F16 => Precision::F16,
        LB_PRECISION_BF16 => Precision::Bf16,
        other => {
            let what = format!("precision {other}: wanted an LB_PRECISION value");
            return Err(Error::invalid(what));
        }
    })
}

/// How long weights stay without a call.
fn idle(seconds: f64) -> Result<Option<Duration>> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(idle) => Ok((!idle.is_zero()).then_some(idle)),
        Err(_) => Err(Error::invalid(format!(
            "idle_seconds {seconds}: wanted 0 (the weights stay) to 1e19"
        ))),
    }
}

/// The LB_PRECISION value of what an engine says it computes with; none for another's own.
fn precision_value(name: &str) -> lb_precision {
    match name.parse() {
        Ok(Precision::F32) => LB_PRECISION_F32,
        Ok(Precision::F16) => LB_PRECISION_F16,
        Ok(Precision::Bf16) => LB_PRECISION_BF16,
        _ => LB_PRECISION_AUTO,
    }
}

/// Loads a model of the Stable Diffusion 2 family: a folder in diffusers layout, a single .safetensors or
/// .ckpt file (of which tensors are read, and nothing is executed), or, for NULL, the embedded demo model.
/// May take seconds to a minute; reports LB_STAGE_LOAD and can be cancelled. Any thread. The model has one
/// reference, released by lb_model_release; its files may go once it is loaded, unless its weights are to go
/// (lb_model_unload, lb_model_options.idle_seconds). Since 0.1.
///
/// # Safety
/// `path` is NULL or NUL-ended UTF-8; `options` and `call` are NULL or as their declarations say; `model`
/// and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_model_load(
    path: *const c_char,
    options: *const lb_model_options,
    call: *const lb_call,
    model: *mut *mut lb_model,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        // SAFETY: passed on.
        let path = unsafe { text(path, "path")? };
        log::debug!("lb_model_load({path:?})");
        let options = match options.is_null() {
            true => lb_model_options::defaults(),
            // SAFETY: passed on.
            false => unsafe { read(options)? },
        };
        let named = (options.device_by, options.device_what);
        // SAFETY: passed on.
        let device = unsafe { choose(options.device, options.ordinal, named)? };
        unused("lb_model_options.reserved", options.reserved)?;
        unused("lb_model_options.device_reserved", options.device_reserved)?;
        let how = LoadOptions {
            device,
            precision: precision(options.precision)?,
            threads: options.threads as usize,
            memory_limit: (options.memory_limit > 0).then_some(options.memory_limit),
            idle: idle(options.idle_seconds)?,
            ..LoadOptions::default()
        };
        let demo_inpainting = options.flags & LB_MODEL_DEMO_INPAINTING != 0;
        if demo_inpainting && path.is_some() {
            return Err(Error::invalid("LB_MODEL_DEMO_INPAINTING with a path: wanted NULL"));
        }
        if options.flags & !LB_MODEL_DEMO_INPAINTING != 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("flags {:#x}: wanted 0 or LB_MODEL_DEMO_INPAINTING", options.flags),
            ));
        }
        // SAFETY: passed on.
        let call = unsafe { watched(call)? };
        // SAFETY: passed on.
        unsafe {
            put(model, "model", || {
                let loaded = match path {
                    Some(path) => Model::load_with(path, &how, &call)?,
                    None if demo_inpainting => self::demo_inpainting(&how, &call)?,
                    None => demo(&how, &call)?,
                };
                Ok(MODELS.insert(loaded).cast())
            })
        }
    })
}

/// Another reference to `model`, which is returned; NULL for a handle that is none. Any thread, at once.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_model_retain(model: *mut lb_model) -> *mut lb_model {
    if MODELS.retain(model.cast()) { model } else { std::ptr::null_mut() }
}

/// One reference less. NULL and a handle that is none are ignored. Sessions and running calls keep the
/// model; release order doesn't matter. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_model_release(model: *mut lb_model) {
    MODELS.release(model.cast());
}

/// Lets go of the idle memory that `model` keeps so that its next call is quick, and returns how many bytes that
/// were: up to 256 MiB on the CPU. Running calls keep theirs, frames stay the same, and what sessions hold is
/// theirs (lb_session_purge). A handle that is none is ignored. Any thread, at once. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn lb_model_trim(model: *mut lb_model) -> u64 {
    MODELS.get(model.cast()).map_or(0, |model| model.trim())
}

/// Lets go of the weights of `model` and of all other memory that it has on its device, and writes how many bytes
/// that were. While calls run on the model they keep them: 0 is written, and the weights go when the last of those
/// is done. The next call loads them again from where they came, as a part of it that reports LB_STAGE_LOAD and can be
/// cancelled, and makes the same bytes; sessions, what they have computed, and lb_model_info stay meanwhile. Where the
/// files are gone by then or hold other weights, that call fails (LB_ERROR_NOT_FOUND, LB_ERROR_BAD_MODEL,
/// LB_ERROR_IO), and one after it works once they are back. Any thread, at once. Since 0.1.
///
/// # Safety
/// `bytes` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_model_unload(
    model: *mut lb_model,
    bytes: *mut u64,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        log::debug!("lb_model_unload");
        // SAFETY: passed on.
        unsafe { put(bytes, "bytes", || Ok(model.unload())) }
    })
}

/// Writes the size at which `model` works best for a picture of `width` by `height` pixels that are
/// `pixel_aspect` times as wide as high (0.01 to 100; 1: square): its native area in that shape, what
/// lb_blend_options.width and height may be set to. In multiples of 64 (16 for models below 512 pixels, 8
/// below 128) and of lb_model_info.size_multiple; shapes beyond 4:1 are worked at 4:1, and a placement does
/// the rest. Sessions with pictures choose it by themselves. Any thread, at once. Since 0.1.
///
/// # Safety
/// `working_width`, `working_height` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_model_working_size(
    model: *const lb_model,
    width: u32,
    height: u32,
    pixel_aspect: f64,
    working_width: *mut u32,
    working_height: *mut u32,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        let size = [width as usize, height as usize];
        let [across, down] = model.info().working_size(size, pixel_aspect)?;
        // The last one writes once both are known to be there.
        // SAFETY: passed on.
        unsafe {
            put(working_width, "working_width", || {
                put(working_height, "working_height", || Ok(down as u32))?;
                Ok(across as u32)
            })
        }
    })
}

/// Writes what `model` is. The texts in it live as long as the model, of which the caller holds a
/// reference. Any thread, at once. Since 0.1.
///
/// # Safety
/// `info` is NULL, or points to as many writable bytes as its struct_size says; `error` is NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_model_get_info(
    model: *const lb_model,
    info: *mut lb_model_info,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        // SAFETY: passed on.
        let known = unsafe { read(info.cast_const())? };
        let (about, [name, licence, fingerprint]) = (model.info(), model.texts());
        let result = lb_model_info {
            native_width: about.native_size[0] as u32,
            native_height: about.native_size[1] as u32,
            size_multiple: about.factor as u32,
            prediction: match about.prediction_type() {
                PredictionType::Epsilon => LB_PREDICTION_EPSILON,
                PredictionType::Velocity => LB_PREDICTION_V,
            },
            inpainting: u32::from(about.inpainting),
            exact: u32::from(about.known.is_some_and(|known| known.exact)),
            memory_bytes: model.memory_bytes(),
            // The registry keeps the model, and with it its texts, until the last reference is released.
            name: name.as_ptr(),
            licence: licence.as_ptr(),
            fingerprint: fingerprint.as_ptr(),
            samples: model.engine().samples(),
            precision: precision_value(&model.engine().numerics().precision),
            threads: model.engine().threads() as u32,
            peak_bytes: model.peak_bytes(about.native_size, 1),
            ..known
        };
        // SAFETY: `read` has found the struct not to be NULL, and its size to be one.
        unsafe { write(info, &result) };
        Ok(())
    })
}
