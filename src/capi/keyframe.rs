//! In: one end of a transition, as a caller in C says it. Out: a keyframe.

use super::frame::{LB_FIT_CROP, lb_fit};
use super::growing::{Growing, read, unused};
use super::source::{copied, lb_source};
use super::text;
use crate::blend::{Keyframe, KeyframeImage};
use crate::error::{Error, Result};
use std::ffi::c_char;

/// One end of a transition. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_keyframe {
    /// sizeof(lb_keyframe)
    pub struct_size: usize,
    /// What the picture shows: UTF-8, copied. NULL is the empty prompt.
    pub prompt: *const c_char,
    /// What it must not show: UTF-8, copied. NULL is the empty prompt.
    pub negative_prompt: *const c_char,
    /// The seed of its noise.
    pub seed: u64,
    /// The picture itself, copied; the prompt then says what it shows. NULL: by prompt and seed.
    pub image: *const lb_source,
    /// How much of the image is kept: at 1 the keyframe is the image, below it is repainted. 0: 1.
    pub image_strength: f64,
    /// How far the image's own pixels reach into the transition, in t, up to 0.5. 0: 0.08. Below 0: they
    /// are shown at the keyframe only.
    pub image_blend: f64,
    /// The display-encoded value that the highlight curve brings to 1, up to 1000; 0: the image's highest.
    pub image_peak: f64,
    /// An LB_FIT value: how an image of another shape than the session's is brought into its bounds.
    pub image_fit: lb_fit,
    /// Must be 0.
    pub image_flags: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_keyframe {
    const NAME: &'static str = "lb_keyframe";
    const FIRST: usize = size_of::<usize>() + 2 * size_of::<*const c_char>() + 8;

    fn defaults() -> Self {
        lb_keyframe {
            struct_size: size_of::<Self>(),
            prompt: std::ptr::null(),
            negative_prompt: std::ptr::null(),
            seed: 0,
            image: std::ptr::null(),
            image_strength: 0.0,
            image_blend: 0.0,
            image_peak: 0.0,
            image_fit: LB_FIT_CROP,
            image_flags: 0,
        }
    }
}

/// A caller's keyframe.
///
/// # Safety
/// As the header says of `lb_keyframe`.
pub(super) unsafe fn keyframe(pointer: *const lb_keyframe) -> Result<Keyframe> {
    // SAFETY: passed on.
    let (raw, prompt, negative) = unsafe {
        let raw = read(pointer)?;
        let prompt = text(raw.prompt, "lb_keyframe.prompt")?;
        (raw, prompt, text(raw.negative_prompt, "lb_keyframe.negative_prompt")?)
    };
    let frame = Keyframe::new(prompt.unwrap_or(""), raw.seed).negative(negative.unwrap_or(""));
    unused("lb_keyframe.image_flags", raw.image_flags)?;
    if raw.image.is_null() {
        return Ok(frame);
    }
    let named = |e: Error| Error::new(e.kind(), format!("lb_keyframe.image: {}", e.message()));
    // SAFETY: passed on.
    let source = unsafe { copied(raw.image) }.map_err(named)?;
    let usual = KeyframeImage::new(source);
    Ok(frame.image(KeyframeImage {
        strength: if raw.image_strength == 0.0 { 1.0 } else { raw.image_strength },
        blend: match raw.image_blend {
            0.0 => usual.blend,
            blend if blend < 0.0 => 0.0,
            blend => blend,
        },
        fit: raw.image_fit.try_into()?,
        peak: (raw.image_peak != 0.0).then_some(raw.image_peak),
        ..usual
    }))
}
