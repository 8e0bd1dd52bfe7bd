//! In: a source, a mask, keyframes and options. Out: an `lb_session` that repaints what the mask marks.

use super::blend_options::lb_blend_options;
use super::growing::{Growing, choice, fill, read, unused};
use super::keyframe::lb_keyframe;
use super::model::model;
use super::session::{insert, wishes};
use super::source::{LB_MASK_CHANNEL_FIRST, copied, lb_mask_channel, lb_source, mask};
use super::{entry, lb_error, lb_model, lb_session, lb_status, put};
use crate::blend::{Inpainting, Session};
use crate::error::{Error, Result};

/// What an inpainting session shows at its first keyframe.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_first = u32;

/// What the first keyframe's prompt and seed, or its image, give.
pub const LB_FIRST_GENERATED: lb_first = 0;
/// The source itself; the first keyframe's prompt says what it shows under the mask, and may be empty.
pub const LB_FIRST_SOURCE: lb_first = 1;

/// What is repainted, and how the patch is laid over the source. Every member but source and mask may be 0.
/// Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_inpainting_options {
    /// sizeof(lb_inpainting_options)
    pub struct_size: usize,
    /// The picture; copied. Frames have its size.
    pub source: *const lb_source,
    /// What of it is repainted: 255 (1.0) repaints, 0 keeps every bit; copied. The network is told 0 or
    /// 1, from a half on. Another size than the source's is resampled, if it has its shape.
    pub mask: *const lb_source,
    /// An LB_MASK_CHANNEL value.
    pub mask_channel: lb_mask_channel,
    /// An LB_FIRST value.
    pub first: lb_first,
    /// The part of the source that the model sees: x1, y1, x2, y2 in its pixels from the TOP left, the
    /// last two just outside. All 0: all of it.
    pub region: [u32; 4],
    /// Over how many of the source's pixels the patch fades in from the mask's edge, inwards. 0: as many
    /// as a pixel of a latent covers. Below 0: none.
    pub feather: f64,
    /// The display-encoded value that the highlight curve brings to 1, up to 1000; 0: the source's
    /// highest.
    pub peak: f64,
    /// 1: brightness and colour of the patch are not led over from what surrounds it.
    pub keep_base: u32,
    /// Must be 0.
    pub flags: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_inpainting_options {
    const NAME: &'static str = "lb_inpainting_options";
    const FIRST: usize = size_of::<Self>();

    fn defaults() -> Self {
        lb_inpainting_options {
            struct_size: size_of::<Self>(),
            source: std::ptr::null(),
            mask: std::ptr::null(),
            mask_channel: LB_MASK_CHANNEL_FIRST,
            first: LB_FIRST_GENERATED,
            region: [0; 4],
            feather: 0.0,
            peak: 0.0,
            keep_base: 0,
            flags: 0,
        }
    }
}

/// # Safety
/// As the header says of `lb_inpainting_options`.
unsafe fn inpainting(raw: &lb_inpainting_options) -> Result<Inpainting> {
    unused("lb_inpainting_options.flags", raw.flags)?;
    let named = |name: &str, e: Error| {
        Error::new(e.kind(), format!("lb_inpainting_options.{name}: {}", e.message()))
    };
    // SAFETY: passed on.
    let source = unsafe { copied(raw.source) }.map_err(|e| named("source", e))?;
    // SAFETY: passed on.
    let mask = unsafe { mask(raw.mask, raw.mask_channel) }.map_err(|e| named("mask", e))?;
    Ok(Inpainting {
        region: (raw.region != [0; 4]).then(|| raw.region.map(|side| side as usize)),
        feather: match raw.feather {
            0.0 => None,
            feather if feather < 0.0 => Some(0.0),
            feather => Some(feather),
        },
        lead_over: !choice("keep_base", raw.keep_base)?,
        from_source: match raw.first {
            LB_FIRST_GENERATED => false,
            LB_FIRST_SOURCE => true,
            other => {
                return Err(Error::invalid(format!("first {other}: wanted an LB_FIRST value")));
            }
        },
        peak: (raw.peak != 0.0).then_some(raw.peak),
        ..Inpainting::new(source, mask)
    })
}

/// Fills `options` with defaults; `struct_size` is sizeof(lb_inpainting_options). Any thread, at once.
/// Since 0.1.
///
/// # Safety
/// `options` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_inpainting_options_init(
    options: *mut lb_inpainting_options,
    struct_size: usize,
) {
    // SAFETY: passed on.
    unsafe { fill(options, struct_size) };
}

/// As lb_session_new, for a part of a picture only: what the mask marks goes through the keyframes, and
/// the rest of the source stays what it is, bit for bit where an image's size, format and transfer are the
/// source's. Works with models for inpainting and with others. Any thread, at once
/// but for the copy of the pictures. Since 0.1.
///
/// # Safety
/// As lb_session_new says; `inpainting` and what it points to are NULL or as their declarations say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_session_new_inpainting(
    model: *mut lb_model,
    keyframes: *const *const lb_keyframe,
    count: usize,
    options: *const lb_blend_options,
    inpainting: *const lb_inpainting_options,
    session: *mut *mut lb_session,
    error: *mut *mut lb_error,
) -> lb_status {
    entry(error, || {
        let model = self::model(model)?;
        // SAFETY: passed on.
        let (frames, options) = unsafe { wishes(&model, keyframes, count, options)? };
        // SAFETY: passed on.
        let inpainting = unsafe { self::inpainting(&read(inpainting)?)? };
        log::debug!("lb_session_new_inpainting({frames:?}, {options:?})");
        // SAFETY: passed on.
        unsafe {
            put(session, "session", || {
                let made = Session::inpainting(&model, &frames, &options, &inpainting)?;
                Ok(insert(made))
            })
        }
    })
}
