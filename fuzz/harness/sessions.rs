//! In: bytes. Out: sessions over keyframes, with and without pictures.

use super::State;
use super::arguments::{
    Room, checked, made, odd, or_null, pointer, row, row_bytes, shared, size, text, within,
};
use arbitrary::{Result, Unstructured};
use latentblend::capi::*;
use std::ptr::null;

/// Memory for pictures.
const PIXELS: usize = 1 << 14;

/// A picture or a mask over `memory`, in which all pictures lie over each other.
pub(super) fn picture(u: &mut Unstructured<'_>, memory: &mut [u8]) -> Result<Room> {
    const FORMATS: [lb_format; 13] = [
        0x0301, 0x0401, 0x0302, 0x0402, 0x0312, 0x0412, 0x0314, 0x0414, 0x0101, 0x0102, 0x0112,
        0x0114, 0x0999,
    ];
    const SIDES: [u32; 7] = [8, 8, 16, 24, 5, 0, u32::MAX];
    let mut source = lb_source {
        width: *u.choose(&SIDES)?,
        height: *u.choose(&SIDES)?,
        format: *u.choose(&FORMATS)?,
        transfer: u.int_in_range(0..=4)?,
        memory: if u.ratio(1, 16)? { u.int_in_range(0..=2)? } else { 0 },
        flags: u32::from(u.ratio(1, 16)?),
        ..made(lb_source_init)
    };
    let bytes = row(source.width, source.format);
    source.row_bytes = row_bytes(u, bytes)?;
    source.data = within(memory, source.height, source.row_bytes, bytes).cast_const().cast();
    if !source.data.is_null() {
        let value = u.arbitrary()?;
        let from = u.int_in_range(0..=memory.len() / 64)?;
        memory[from..].iter_mut().step_by(7).for_each(|byte| *byte = value);
    }
    Ok(Room::new(source, size::<lb_source>(u)?))
}

/// Curves, and the points that they point to.
#[derive(Default)]
pub(super) struct Curves {
    points: Vec<Vec<f64>>,
    rooms: Vec<Room>,
}

impl Curves {
    /// A curve, or none.
    pub(super) fn any(&mut self, u: &mut Unstructured<'_>) -> Result<*const lb_curve> {
        if u.ratio(1, 3)? {
            return Ok(null());
        }
        let count = u.int_in_range(0..=4)?;
        let mut points = || -> Result<Vec<f64>> { (0..count).map(|_| odd(u)).collect() };
        let (mut x, y) = (points()?, points()?);
        if u.ratio(3, 4)? {
            x.sort_by(f64::total_cmp);
        }
        let curve = lb_curve {
            struct_size: 0,
            x: if u.ratio(15, 16)? { x.as_ptr() } else { null() },
            y: if u.ratio(15, 16)? { y.as_ptr() } else { null() },
            // More than is believed to be meant, or what is there.
            count: if u.ratio(1, 16)? { u64::MAX } else { count as u64 },
            interpolation: u.int_in_range(0..=2)?,
            flags: u32::from(u.ratio(1, 16)?),
        };
        // Moving a vector leaves its points where they are.
        self.points.extend([x, y]);
        self.rooms.push(Room::new(curve, size::<lb_curve>(u)?));
        Ok(self.rooms.last_mut().expect("just pushed").ptr::<lb_curve>().cast_const())
    }
}

impl State {
    pub(super) fn new_session(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let count = u.int_in_range(0..=3)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push((text(u)?, text(u)?));
        }
        let (mut rooms, mut pictures, mut memory) = (Vec::new(), Vec::new(), vec![0x5a; PIXELS]);
        for (prompt, negative) in &texts {
            let mut frame: lb_keyframe = {
                // SAFETY: zeros are a value of it.
                unsafe { std::mem::zeroed() }
            };
            frame.prompt = or_null(prompt);
            frame.negative_prompt = or_null(negative);
            frame.seed = u.arbitrary()?;
            if u.ratio(1, 4)? {
                pictures.push(picture(u, &mut memory)?);
                frame.image = pictures.last_mut().expect("just pushed").ptr();
                frame.image_strength = odd(u)?;
                frame.image_blend = odd(u)?;
                frame.image_peak = odd(u)?;
                frame.image_fit = u.int_in_range(0..=3)?;
                frame.image_flags = u32::from(u.ratio(1, 16)?);
            }
            rooms.push(Room::new(frame, size::<lb_keyframe>(u)?));
        }
        let frames: Vec<*const lb_keyframe> =
            rooms.iter_mut().map(|room| room.ptr::<lb_keyframe>().cast_const()).collect();
        const SIDES: [u32; 9] = [0, 8, 16, 24, 8, 7, 12, u32::MAX, 1 << 31];
        let mut options = lb_blend_options {
            width: *u.choose(&SIDES)?,
            height: *u.choose(&SIDES)?,
            preset: u.int_in_range(0..=6)?,
            steps: *u.choose(&[1, 2, 3, 4, 6, 0, 1000, u32::MAX])?,
            ..made(lb_blend_options_init)
        };
        let (mut injections, mut branches) = (Vec::<u32>::new(), Vec::<u32>::new());
        if u.ratio(1, 3)? {
            let levels = u.int_in_range(0..=3)?;
            for _ in 0..levels {
                injections.push(u.int_in_range(0..=7)?);
                branches.push(u.int_in_range(0..=7)?);
            }
            options.injections = injections.as_ptr();
            options.branches = branches.as_ptr();
            options.levels = levels;
        }
        if u.ratio(1, 3)? {
            options.frames = u.arbitrary()?;
            options.noise = u.int_in_range(0..=3)?;
            options.look = *u.choose(&[0, 1, 2, 2022, 2023])?;
            options.flags = u.int_in_range(0..=1)?;
            options.depth = odd(u)?;
            options.mid_compression = odd(u)?;
            options.guidance = odd(u)?;
            options.guidance_mid_damper = odd(u)?;
            options.cache_bytes = *u.choose(&[0, 1, 1000, u64::MAX])?;
        }
        let mut curves = Curves::default();
        if u.ratio(1, 3)? {
            options.guidance_over_t = curves.any(u)?;
            options.guidance_over_steps = curves.any(u)?;
            options.guidance_rescale = odd(u)?;
            options.guided_steps = u.int_in_range(0..=9)?;
            options.sampler = u.int_in_range(0..=3)?;
            options.latent_mix = u.int_in_range(0..=2)?;
        }
        if u.ratio(1, 4)? {
            options.branch1_crossfeed_power = odd(u)?;
            options.branch1_crossfeed_range = odd(u)?;
            options.branch1_crossfeed_decay = odd(u)?;
            options.parental_crossfeed_power = odd(u)?;
            options.parental_crossfeed_range = odd(u)?;
            options.parental_crossfeed_decay = odd(u)?;
        }
        options.looped = if u.ratio(1, 3)? { u.int_in_range(0..=2)? } else { 0 };
        let mut room = Room::new(options, size::<lb_blend_options>(u)?);
        let mut repaints = made(lb_inpainting_options_init);
        let part = u.ratio(1, 4)?;
        if part {
            for target in [&mut repaints.source, &mut repaints.mask] {
                if u.ratio(15, 16)? {
                    pictures.push(picture(u, &mut memory)?);
                    *target = pictures.last_mut().expect("just pushed").ptr();
                }
            }
            repaints.mask_channel = u.int_in_range(0..=2)?;
            repaints.first = u.int_in_range(0..=2)?;
            if u.ratio(1, 3)? {
                for side in &mut repaints.region {
                    *side = if u.ratio(7, 8)? { u.int_in_range(0..=24)? } else { u.arbitrary()? };
                }
            }
            repaints.feather = odd(u)?;
            repaints.peak = odd(u)?;
            repaints.keep_base = u.int_in_range(0..=2)?;
        }
        let mut repaints = Room::new(repaints, size::<lb_inpainting_options>(u)?);
        let model = if u.ratio(3, 4)? { shared().addr() } else { self.models.any(u)? };
        let before = pointer(1);
        let mut out = before;
        let made = checked(|e| {
            // SAFETY: as the header asks.
            unsafe {
                let frames = if count == 0 { null() } else { frames.as_ptr() };
                let model = pointer(model);
                match part {
                    true => lb_session_new_inpainting(
                        model,
                        frames,
                        count,
                        room.ptr(),
                        repaints.ptr(),
                        &mut out,
                        e,
                    ),
                    false => lb_session_new(model, frames, count, room.ptr(), &mut out, e),
                }
            }
        });
        if made {
            self.sessions.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
        Ok(())
    }
}
