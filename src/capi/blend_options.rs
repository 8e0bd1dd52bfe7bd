//! In: a caller's `lb_blend_options`. Out: the options of a session to be.

use super::array::elements;
use super::curve::{curve, lb_curve};
use super::growing::{Growing, choice, fill, unused};
use crate::blend::{BlendOptions, Branching, Crossfeed, Look, Preset};
use crate::diffusion::{LatentMix, NoiseKind, Sampler};
use crate::error::{Error, Result};

/// A preset: a number of steps, and how many frames the tree holds.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_preset = u32;

/// 12 steps, 5 leaves: a first look.
pub const LB_PRESET_LOWEST: lb_preset = 1;
/// 15 steps, a leaf for every 16 frames.
pub const LB_PRESET_LOW: lb_preset = 2;
/// 30 steps, a leaf for every 8 frames.
pub const LB_PRESET_MEDIUM: lb_preset = 3;
/// 60 steps, a leaf for every 4 frames.
pub const LB_PRESET_HIGH: lb_preset = 4;
/// 100 steps, a leaf for every 2 frames.
pub const LB_PRESET_ULTRA: lb_preset = 5;

/// Whose random numbers a seed stands for.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_noise = u32;

/// PyTorch's CUDA generator.
pub const LB_NOISE_CUDA: lb_noise = 1;
/// PyTorch's CPU generator.
pub const LB_NOISE_CPU: lb_noise = 2;

/// Which version's choices a transition is made with.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_look = u32;

/// This library's own.
pub const LB_LOOK_CURRENT: lb_look = 1;
/// Those of the original's version of 2022.
pub const LB_LOOK_COMPAT_2022: lb_look = 2022;
/// Those of the original's version of February 2023.
pub const LB_LOOK_COMPAT_2023: lb_look = 2023;

/// How a run goes from step to step.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_sampler = u32;

/// Deterministic DDIM: first order.
pub const LB_SAMPLER_DDIM: lb_sampler = 1;
/// DPM-Solver++(2M): second order from one evaluation a step.
pub const LB_SAMPLER_DPM_SOLVER_2M: lb_sampler = 2;

/// How latents are mixed, where branches start between others.
#[allow(non_camel_case_types, reason = "its name in C")]
pub type lb_latent_mix = u32;

/// As the look has it: by bands, and on one arc in the looks of 2022 and 2023.
pub const LB_LATENT_MIX_AUTO: lb_latent_mix = 0;
/// On one arc for the whole latent, as the original does.
pub const LB_LATENT_MIX_ARC: lb_latent_mix = 1;
/// On an arc of its own for every channel and band of frequencies: frames in the middle keep more detail.
pub const LB_LATENT_MIX_BANDS: lb_latent_mix = 2;

/// As a crossfeed's power: the look's own crossfeed, which is none but in LB_LOOK_COMPAT_2023.
pub const LB_CROSSFEED_OF_LOOK: f64 = -1.0;

/// How a transition is made; lb_blend_options_init fills in the defaults, which are those of the
/// original's first example. Since 0.1.
#[allow(non_camel_case_types, reason = "its name in C")]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct lb_blend_options {
    /// sizeof(lb_blend_options)
    pub struct_size: usize,
    /// Pixels, a multiple of lb_model_info.size_multiple. 0 in both: what the model was trained at.
    pub width: u32,
    /// See width.
    pub height: u32,
    /// An LB_PRESET value: the tree's fineness.
    pub preset: lb_preset,
    /// Diffusion steps, 1 to 999. 0: the preset's.
    pub steps: u32,
    /// How many frames the transition is meant for, from which presets derive their leaves.
    pub frames: u32,
    /// An LB_NOISE value.
    pub noise: lb_noise,
    /// An LB_LOOK value.
    pub look: lb_look,
    /// Must be 0.
    pub flags: u32,
    /// Where the first branches leave their keyframes, as a share of the steps, 0 to below 1.
    pub depth: f64,
    /// How much denser branches lie in the middle; below 1.7 they are spaced evenly.
    pub mid_compression: f64,
    /// The guidance scale at the keyframes, 0 to 100; 1 or less turns guidance off.
    pub guidance: f64,
    /// What of the guidance is left in the middle, above 0 to 1.
    pub guidance_mid_damper: f64,
    /// Memory for latents that can be made again.
    pub cache_bytes: u64,
    /// The tree in full, instead of depth and frames: `levels` diffusion steps, rising; copied. NULL:
    /// by preset.
    pub injections: *const u32,
    /// Branches from each of those steps on; copied.
    pub branches: *const u32,
    /// How many injections and branches there are.
    pub levels: u64,
    /// How far each keyframe but the first is drawn to the one before, until branches leave: 0 (not at
    /// all) to 1, or LB_CROSSFEED_OF_LOOK.
    pub branch1_crossfeed_power: f64,
    /// Up to which share of the steps, 0 to 1.
    pub branch1_crossfeed_range: f64,
    /// What share of the power is left there, 0 to 1.
    pub branch1_crossfeed_decay: f64,
    /// How far branches are drawn to what lies between the two that they started from: 0 (not at all) to
    /// 1, or LB_CROSSFEED_OF_LOOK.
    pub parental_crossfeed_power: f64,
    /// Up to which share of the steps, 0 to 1.
    pub parental_crossfeed_range: f64,
    /// What share of the power is left there, 0 to 1.
    pub parental_crossfeed_decay: f64,
    /// An LB_SAMPLER value.
    pub sampler: lb_sampler,
    /// An LB_LATENT_MIX value; the looks of 2022 and 2023 have but the arc.
    pub latent_mix: lb_latent_mix,
    /// The guidance scale by t, through the whole transition, in place of guidance and its damper; copied.
    /// NULL: by these.
    pub guidance_over_t: *const lb_curve,
    /// What of the guidance scale g is left along a run: x is 0 at its first step and 1 at its last, and the
    /// scale there 1 + (g - 1) y; copied. NULL: all of it.
    pub guidance_over_steps: *const lb_curve,
    /// How far guided predictions are brought back to the deviation of unguided ones, 0 to 1.
    pub guidance_rescale: f64,
    /// Steps that are guided, from the first on; behind them a step costs half. 0: all.
    pub guided_steps: u32,
    /// Whether the last keyframe leads back to the first, 0 or 1; t then runs to their number.
    pub looped: u32,
}

// SAFETY: repr(C), starts with its size; numbers and pointers may have any bits.
unsafe impl Growing for lb_blend_options {
    const NAME: &'static str = "lb_blend_options";
    const FIRST: usize = std::mem::offset_of!(lb_blend_options, branch1_crossfeed_power);

    fn defaults() -> Self {
        let options = BlendOptions::default();
        lb_blend_options {
            struct_size: size_of::<Self>(),
            width: 0,
            height: 0,
            preset: LB_PRESET_MEDIUM,
            steps: 0,
            frames: options.frames as u32,
            noise: LB_NOISE_CUDA,
            look: LB_LOOK_CURRENT,
            flags: 0,
            depth: options.depth,
            mid_compression: options.mid_compression,
            guidance: options.guidance,
            guidance_mid_damper: options.guidance_mid_damper,
            cache_bytes: options.cache_bytes as u64,
            injections: std::ptr::null(),
            branches: std::ptr::null(),
            levels: 0,
            branch1_crossfeed_power: LB_CROSSFEED_OF_LOOK,
            branch1_crossfeed_range: 0.0,
            branch1_crossfeed_decay: 0.0,
            parental_crossfeed_power: LB_CROSSFEED_OF_LOOK,
            parental_crossfeed_range: 0.0,
            parental_crossfeed_decay: 0.0,
            sampler: LB_SAMPLER_DDIM,
            latent_mix: LB_LATENT_MIX_AUTO,
            guidance_over_t: std::ptr::null(),
            guidance_over_steps: std::ptr::null(),
            guidance_rescale: options.guidance_rescale,
            guided_steps: 0,
            looped: 0,
        }
    }
}

/// # Safety
/// As the header says of `lb_blend_options`.
pub(super) unsafe fn options(raw: &lb_blend_options) -> Result<BlendOptions> {
    let wrong = |name: &str, value: u32, kind: &str| {
        Error::invalid(format!("{name} {value}: wanted an {kind} value"))
    };
    unused("lb_blend_options.flags", raw.flags)?;
    let crossfeed = |power: f64, range: f64, decay: f64| {
        (power != LB_CROSSFEED_OF_LOOK).then(|| Crossfeed::new(power, range, decay))
    };
    let size = match (raw.width, raw.height) {
        (0, 0) => None,
        (width, height) => Some([width as usize, height as usize]),
    };
    let branching = if raw.injections.is_null() && raw.branches.is_null() && raw.levels == 0 {
        None
    } else {
        // SAFETY: passed on.
        let read = |pointer, name| unsafe { elements(pointer, raw.levels, name) };
        let wide = |values: Vec<u32>| values.into_iter().map(|v| v as usize).collect();
        Some(Branching {
            injections: wide(read(raw.injections, "lb_blend_options.injections")?),
            branches: wide(read(raw.branches, "lb_blend_options.branches")?),
        })
    };
    Ok(BlendOptions {
        size,
        preset: match raw.preset {
            LB_PRESET_LOWEST => Preset::Lowest,
            LB_PRESET_LOW => Preset::Low,
            LB_PRESET_MEDIUM => Preset::Medium,
            LB_PRESET_HIGH => Preset::High,
            LB_PRESET_ULTRA => Preset::Ultra,
            other => return Err(wrong("preset", other, "LB_PRESET")),
        },
        steps: (raw.steps > 0).then_some(raw.steps as usize),
        depth: raw.depth,
        frames: raw.frames as usize,
        branching,
        mid_compression: raw.mid_compression,
        guidance: raw.guidance,
        guidance_mid_damper: raw.guidance_mid_damper,
        // SAFETY: passed on.
        guidance_over_t: unsafe { curve(raw.guidance_over_t)? },
        // SAFETY: passed on.
        guidance_over_steps: unsafe { curve(raw.guidance_over_steps)? },
        guided_steps: (raw.guided_steps > 0).then_some(raw.guided_steps as usize),
        guidance_rescale: raw.guidance_rescale,
        looped: choice("looped", raw.looped)?,
        noise: match raw.noise {
            LB_NOISE_CUDA => NoiseKind::Cuda,
            LB_NOISE_CPU => NoiseKind::Cpu,
            other => return Err(wrong("noise", other, "LB_NOISE")),
        },
        sampler: match raw.sampler {
            LB_SAMPLER_DDIM => Sampler::Ddim,
            LB_SAMPLER_DPM_SOLVER_2M => Sampler::DpmSolver2M,
            other => return Err(wrong("sampler", other, "LB_SAMPLER")),
        },
        latent_mix: match raw.latent_mix {
            LB_LATENT_MIX_AUTO => None,
            LB_LATENT_MIX_ARC => Some(LatentMix::Arc),
            LB_LATENT_MIX_BANDS => Some(LatentMix::Bands),
            other => return Err(wrong("latent_mix", other, "LB_LATENT_MIX")),
        },
        branch1_crossfeed: crossfeed(
            raw.branch1_crossfeed_power,
            raw.branch1_crossfeed_range,
            raw.branch1_crossfeed_decay,
        ),
        parental_crossfeed: crossfeed(
            raw.parental_crossfeed_power,
            raw.parental_crossfeed_range,
            raw.parental_crossfeed_decay,
        ),
        look: match raw.look {
            LB_LOOK_CURRENT => Look::Current,
            LB_LOOK_COMPAT_2022 => Look::Compat2022,
            LB_LOOK_COMPAT_2023 => Look::Compat2023,
            other => return Err(wrong("look", other, "LB_LOOK")),
        },
        cache_bytes: usize::try_from(raw.cache_bytes).unwrap_or(usize::MAX),
    })
}

/// Fills `options` with defaults; `struct_size` is sizeof(lb_blend_options). Any thread, at once.
/// Since 0.1.
///
/// # Safety
/// `options` is NULL, or points to `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lb_blend_options_init(options: *mut lb_blend_options, struct_size: usize) {
    // SAFETY: passed on.
    unsafe { fill(options, struct_size) };
}
