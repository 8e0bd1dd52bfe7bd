//! In: bytes. Out: sessions that were written to files, and taken up from them, damaged or not.

use super::State;
use super::arguments::{Room, checked, file, made, or_null, place, pointer, scratch, shared, size};
use arbitrary::{Result, Unstructured};
use latentblend::capi::*;

impl State {
    pub(super) fn save(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (session, path) = (pointer(self.sessions.any(u)?), place(u)?);
        self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe { lb_session_save(session, or_null(&path), call, e) })
        })?;
        Ok(())
    }

    pub(super) fn take_up(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut path = place(u)?;
        if u.ratio(1, 2)? {
            // What was saved, with other bytes in it, and perhaps cut off. Places are counted in the header
            // as often as over the whole.
            let name = *u.choose(&["first", "second"])?;
            let mut bytes = std::fs::read(scratch().join(name)).unwrap_or_default();
            for _ in 0..u.int_in_range(0..=4)? {
                let (near, value): (bool, u8) = (u.arbitrary()?, u.arbitrary()?);
                let last = bytes.len().saturating_sub(1);
                let at = u.int_in_range(0..=if near { last.min(2048) } else { last })?;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= value;
                }
            }
            if u.ratio(1, 4)? {
                bytes.truncate(u.int_in_range(0..=bytes.len())?);
            }
            std::fs::write(scratch().join("damaged"), bytes).expect("a scratch file");
            path = Some(file("damaged"));
        }
        let options = lb_restore_options {
            accept_other_numerics: u.int_in_range(0..=2)?,
            flags: u32::from(u.ratio(1, 16)?),
            cache_bytes: *u.choose(&[0, 1, 1000, u64::MAX])?,
            ..made(lb_restore_options_init)
        };
        let mut room = Room::new(options, size::<lb_restore_options>(u)?);
        let model = pointer(if u.ratio(3, 4)? { shared().addr() } else { self.models.any(u)? });
        let before = pointer(1);
        let mut out = before;
        let loaded = self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe {
                lb_session_load(model, or_null(&path), room.ptr(), call, &mut out, e)
            })
        })?;
        if loaded {
            self.sessions.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
        Ok(())
    }
}
