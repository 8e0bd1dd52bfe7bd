//! In: bytes. Out: sessions under another time, with other branches, and on to other keyframes.

use super::State;
use super::arguments::{Room, checked, made, odd, or_null, pointer, size, text, weights};
use super::sessions::Curves;
use arbitrary::{Result, Unstructured};
use latentblend::capi::*;
use std::ptr::{null, null_mut};

/// Memory for what is told of frames.
const VALUES: usize = 64;

impl State {
    /// Keeps a session that a call made, or checks that it made none.
    fn keep(&mut self, made: bool, out: *mut lb_session, before: *mut lb_session) {
        if made {
            self.sessions.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
    }

    pub(super) fn lpips(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let other = text(u)?;
        let path = if u.ratio(7, 8)? { weights().as_ptr() } else { or_null(&other) };
        let before = pointer(1);
        let mut out = before;
        // SAFETY: as the header asks.
        if checked(|e| unsafe { lb_lpips_load(path, &mut out, e) }) {
            self.lpips.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
        Ok(())
    }

    pub(super) fn timed(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut curves = Curves::default();
        let count = u.int_in_range(0..=3)?;
        let mut timing = lb_timing {
            pace: u.int_in_range(0..=5)?,
            distance: u.int_in_range(0..=3)?,
            samples: *u.choose(&[2, 3, 5, 0, 1, 4097, 4098, u32::MAX])?,
            across: u.int_in_range(0..=2)?,
            lpips: pointer(self.lpips.any(u)?),
            curve: curves.any(u)?,
            ..made(lb_timing_init)
        };
        let (mut lengths, mut easings, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            lengths.push(odd(u)?);
            easings.push(u.int_in_range(0..=4)?);
            own.push(curves.any(u)?);
        }
        if u.ratio(1, 2)? {
            timing.segments = count;
            timing.lengths = if u.ratio(1, 2)? { lengths.as_ptr() } else { null() };
            timing.easings = if u.ratio(1, 2)? { easings.as_ptr() } else { null() };
            timing.easing_curves = if u.ratio(1, 2)? { own.as_ptr() } else { null() };
        }
        if u.ratio(1, 16)? {
            timing.segments = u64::MAX;
        }
        let mut room = Room::new(timing, size::<lb_timing>(u)?);
        let session = pointer(self.sessions.any(u)?);
        let before = pointer(1);
        let mut out = before;
        let made = self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe { lb_session_timed(session, room.ptr(), call, &mut out, e) })
        })?;
        self.keep(made, out, before);
        Ok(())
    }

    pub(super) fn adapted(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let adapt = lb_adapt {
            distance: u.int_in_range(0..=3)?,
            samples: *u.choose(&[2, 3, 5, 0, 1, 4097, 4098, u32::MAX])?,
            lpips: pointer(self.lpips.any(u)?),
            strength: odd(u)?,
            ..made(lb_adapt_init)
        };
        let mut room = Room::new(adapt, size::<lb_adapt>(u)?);
        let session = pointer(self.sessions.any(u)?);
        let before = pointer(1);
        let mut out = before;
        let made = self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe { lb_session_adapted(session, room.ptr(), call, &mut out, e) })
        })?;
        self.keep(made, out, before);
        Ok(())
    }

    pub(super) fn extended(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let prompt = text(u)?;
        let frame = lb_keyframe {
            prompt: or_null(&prompt),
            seed: u.arbitrary()?,
            // SAFETY: zeros are a value of it.
            ..unsafe { std::mem::zeroed() }
        };
        let mut room = Room::new(frame, size::<lb_keyframe>(u)?);
        let (session, t) = (pointer(self.sessions.any(u)?), odd(u)?);
        let before = pointer(1);
        let mut out = before;
        let made = self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe { lb_session_extend(session, t, room.ptr(), call, &mut out, e) })
        })?;
        self.keep(made, out, before);
        Ok(())
    }

    /// What a session tells of its frames.
    pub(super) fn told(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let session = pointer(self.sessions.any(u)?);
        let mut values = vec![-7.0; VALUES];
        let into = if u.ratio(15, 16)? { values.as_mut_ptr() } else { null_mut() };
        match u.int_in_range(0..=2)? {
            0 => {
                let time = odd(u)?;
                // SAFETY: as the header asks.
                let told = checked(|e| unsafe { lb_session_t_at(session, time, into, e) });
                assert!(told == (values[0] != -7.0) && values[1..].iter().all(|&v| v == -7.0));
                assert!(!told || values[0] >= 0.0);
            }
            1 => {
                // As many as there is room for, or more than are believed to be meant.
                let count = *u.choose(&[0, 1, 2, 9, VALUES, usize::MAX, 1 << 40])?;
                // SAFETY: as the header asks, or refused by the count.
                let told = checked(|e| unsafe { lb_session_frame_times(session, count, into, e) });
                let wanted = if told { count } else { 0 };
                assert!(values[..wanted].iter().all(|&v| v >= 0.0));
                assert!(values[wanted..].iter().all(|&v| v == -7.0));
            }
            _ => {
                let frames = *u.choose(&[0, 1, 2, 3, 5, 65536, 65537, usize::MAX])?;
                let count = u.int_in_range(0..=VALUES)?;
                let (kind, lpips) = (u.int_in_range(0..=3)?, pointer(self.lpips.any(u)?));
                let told = self.with_call(u, |call| {
                    // SAFETY: as the header asks.
                    checked(|e| unsafe {
                        lb_session_changes(session, frames, kind, lpips, into, count, call, e)
                    })
                })?;
                let most = if told { frames } else { 0 };
                assert!(values[most..].iter().all(|&v| v == -7.0));
                assert!(values[..most.saturating_sub(1)].iter().all(|&v| v >= 0.0));
            }
        }
        Ok(())
    }
}
