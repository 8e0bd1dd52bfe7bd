//! In: bytes. Out: nothing, or a panic: the bytes are read as calls of the C surface with good, odd and
//! absurd arguments, on a tiny model, and what the header promises is checked after each.
//!
//! Pointers are always what the header asks for (memory of the size that is claimed, or NULL); everything
//! else is up to the bytes. Work is bounded: pictures are small, and every call is cancelled in the end.

mod arguments;
mod files;
mod render;
mod sessions;
mod time;

use arbitrary::{Result, Unstructured};
use arguments::{
    Handles, ROOM, Room, Watch, checked, listen, made, odd, or_null, path, pointer, scratch,
    shared, size, text, watch,
};
use latentblend::capi::*;
use std::ptr::null_mut;

#[derive(Default)]
struct State {
    models: Handles,
    sessions: Handles,
    cancels: Handles,
    lpips: Handles,
}

impl State {
    /// Runs `body` with a caller's lb_call.
    fn with_call(
        &self,
        u: &mut Unstructured<'_>,
        body: impl FnOnce(*const lb_call) -> bool,
    ) -> Result<bool> {
        let left = u.int_in_range(1..=40)?;
        let mut watched = Watch { left, highest: 0.0 };
        let call = lb_call {
            struct_size: 0,
            cancel: if u.ratio(1, 3)? { pointer(self.cancels.any(u)?) } else { null_mut() },
            progress: Some(watch),
            user: (&raw mut watched).cast(),
        };
        let mut room = Room::new(call, size::<lb_call>(u)?);
        Ok(body(room.ptr()))
    }

    fn load(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let other = text(u)?;
        let name = if u.ratio(1, 2)? { path().as_ptr() } else { or_null(&other) };
        if name.is_null() {
            // The embedded model is too slow for this.
            return Ok(());
        }
        let mut options = made(lb_model_options_init);
        if u.ratio(1, 2)? {
            options.device = u.int_in_range(0..=3)?;
            options.ordinal = u.int_in_range(0..=1)?;
            options.precision = u.int_in_range(0..=4)?;
            options.flags = u.int_in_range(0..=1)?;
        }
        let mut room = Room::new(options, size::<lb_model_options>(u)?);
        let before = pointer(1);
        let mut out = before;
        let loaded = self.with_call(u, |call| {
            // SAFETY: as the header asks.
            checked(|e| unsafe { lb_model_load(name, room.ptr(), call, &mut out, e) })
        })?;
        if loaded {
            self.models.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
        Ok(())
    }

    fn info(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        /// Fills a struct of a size that the bytes choose, and checks what was left alone.
        fn fill<T: Copy>(
            u: &mut Unstructured<'_>,
            call: impl FnOnce(*mut T, *mut *mut lb_error) -> lb_status,
        ) -> Result<()> {
            let size = size::<T>(u)?;
            // SAFETY: zeros are a value of all of these.
            let mut room = Room::new(unsafe { std::mem::zeroed::<T>() }, size);
            let before = room.0.clone();
            let filled = checked(|e| call(room.ptr(), e));
            let known = if filled { size.min(size_of::<T>()).div_ceil(8) } else { 1 };
            assert_eq!(room.0[0], before[0]);
            assert_eq!(room.0[known..], before[known..]);
            Ok(())
        }
        let (model, session) = (pointer(self.models.any(u)?), pointer(self.sessions.any(u)?));
        let index = *u.choose(&[0, 1, usize::MAX])?;
        // SAFETY, for all: the room is as large as is claimed, or the claim is no size.
        match u.int_in_range(0..=3)? {
            3 => {
                let sides = [0, 1, 8, 1920, u32::MAX];
                let (width, height) = (*u.choose(&sides)?, *u.choose(&sides)?);
                let (aspect, mut size) = (odd(u)?, [7; 2]);
                let good = u.ratio(3, 4)?;
                let model = if good { shared() } else { model };
                let [across, down] = size.each_mut().map(std::ptr::from_mut);
                let told = checked(|e| unsafe {
                    lb_model_working_size(model, width, height, aspect, across, down, e)
                });
                assert!(told == (size != [7; 2]) && (!told || size.iter().all(|s| s % 8 == 0)));
                Ok(())
            }
            0 => fill(u, |info, e| unsafe { lb_model_get_info(model, info, e) }),
            1 => fill(u, |info, e| unsafe { lb_session_get_info(session, info, e) }),
            _ => {
                fill(u, |info, e| unsafe { lb_device_get(index, info, e) })?;
                let by = u.int_in_range(0..=LB_DEVICE_BY_CONTEXT + 1)?;
                // Streams and contexts have to be real ones; a text of more than 16 bytes is a UUID, too.
                let what = match by {
                    LB_DEVICE_BY_STREAM.. => std::ptr::null(),
                    _ => c"GPU-8932f937-d72c-no-uuid".as_ptr(),
                };
                fill(u, |info, e| unsafe { lb_device_find(by, what.cast(), info, e) })
            }
        }
    }

    fn init(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let size = u.int_in_range(0..=ROOM)?;
        let mut room = Room(vec![u64::MAX; ROOM / 8 + 1]);
        // SAFETY: the room has as many bytes.
        unsafe {
            match u.int_in_range(0..=8)? {
                4 => lb_source_init(room.ptr(), size),
                5 => lb_inpainting_options_init(room.ptr(), size),
                6 => lb_timing_init(room.ptr(), size),
                7 => lb_adapt_init(room.ptr(), size),
                8 => lb_restore_options_init(room.ptr(), size),
                0 => lb_model_options_init(room.ptr(), size),
                1 => lb_blend_options_init(room.ptr(), size),
                2 => lb_image_init(room.ptr(), size),
                _ => lb_placement_init(room.ptr(), size),
            }
        }
        assert!(room.0[size.div_ceil(8)..].iter().all(|&word| word == u64::MAX));
        Ok(())
    }

    fn references(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let what = u.int_in_range(0..=3)?;
        let handles = [&mut self.models, &mut self.sessions, &mut self.cancels, &mut self.lpips];
        let handles = handles.into_iter().nth(what).expect("four kinds");
        let handle = handles.any(u)?;
        if u.arbitrary()? {
            let kept = match what {
                0 => lb_model_retain(pointer(handle)).addr(),
                1 => lb_session_retain(pointer(handle)).addr(),
                2 => lb_cancel_retain(pointer(handle)).addr(),
                _ => lb_lpips_retain(pointer(handle)).addr(),
            };
            assert!(kept == 0 || kept == handle);
            if kept != 0 && handles.held.contains(&handle) {
                handles.held.push(handle);
            }
        } else if handle != shared().addr() {
            match what {
                0 => lb_model_release(pointer(handle)),
                1 => lb_session_release(pointer(handle)),
                2 => lb_cancel_release(pointer(handle)),
                _ => lb_lpips_release(pointer(handle)),
            }
            handles.drop_one(handle);
        }
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=24)? {
            0 => self.load(u)?,
            1..=3 => self.new_session(u)?,
            4..=6 => self.render(u)?,
            7 => {
                let session = pointer(self.sessions.any(u)?);
                self.with_call(u, |call| {
                    // SAFETY: as the header asks.
                    checked(|e| unsafe { lb_session_prepare(session, call, e) })
                })?;
            }
            8 => {
                let session = self.sessions.any(u)?;
                lb_session_purge(pointer(session));
                // Of what is a model, and of what is none.
                lb_model_trim(shared());
                lb_model_trim(pointer(session));
                for model in [shared(), pointer(session)] {
                    let mut bytes = 0;
                    // SAFETY: as the header asks.
                    checked(|e| unsafe { lb_model_unload(model, &mut bytes, e) });
                }
            }
            9 | 10 => self.info(u)?,
            11 => self.init(u)?,
            12 => self.references(u)?,
            13 => match u.int_in_range(0..=2)? {
                0 => self.cancels.add(lb_cancel_new().addr()),
                1 => lb_cancel_request(pointer(self.cancels.any(u)?)),
                _ => drop(lb_cancel_requested(pointer(self.cancels.any(u)?))),
            },
            14 => {
                let (any, level): (usize, u32) = (u.arbitrary()?, u.arbitrary()?);
                // None of these bits is a handle that lives.
                lb_error_free(pointer(any & 0xff));
                assert_eq!(lb_error_status(pointer(any & 0xff)), LB_ERROR_INVALID_ARGUMENT);
                // SAFETY: a static string.
                assert!(unsafe { *lb_status_name(level as i32) } != 0);
                let listener: lb_log_fn = if level & 1 == 0 { Some(listen) } else { None };
                // SAFETY: the callback is a function that needs no data.
                unsafe { lb_set_log_callback(listener, null_mut(), level) };
            }
            15 => self.lpips(u)?,
            16 | 17 => self.timed(u)?,
            18 => self.adapted(u)?,
            19 | 20 => self.extended(u)?,
            21 => self.told(u)?,
            22 => self.save(u)?,
            23 => self.take_up(u)?,
            // References that are left go together with those who hold them.
            _ => self.release_all(),
        }
        Ok(())
    }

    fn release_all(&mut self) {
        self.models.held.drain(..).for_each(|handle| lb_model_release(pointer(handle)));
        self.sessions.held.drain(..).for_each(|handle| lb_session_release(pointer(handle)));
        self.cancels.held.drain(..).for_each(|handle| lb_cancel_release(pointer(handle)));
        self.lpips.held.drain(..).for_each(|handle| lb_lpips_release(pointer(handle)));
    }
}

/// Removes what a process leaves behind; for those that end in order.
pub fn clean() {
    let _ = std::fs::remove_dir_all(scratch());
}

/// Makes the calls that `data` stands for.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut state = State::default();
    for _ in 0..24 {
        if u.is_empty() || state.step(&mut u).is_err() {
            break;
        }
    }
    state.release_all();
    // What one run has saved must not be there for the next: it would be another one, then.
    for name in ["first", "second", "damaged"] {
        let _ = std::fs::remove_file(scratch().join(name));
    }
    assert!(
        state.sessions.known.iter().all(|&session| lb_session_retain(pointer(session)).is_null())
    );
}
