//! In: bytes. Out: nothing, or a panic: the bytes are read as calls of the C surface with good, odd and
//! absurd arguments, on a tiny model, and what the header promises is checked after each.
//!
//! Pointers are always what the header asks for (memory of the size that is claimed, or NULL); everything
//! else is up to the bytes. Work is bounded: pictures are small, and every call is cancelled in the end.

use arbitrary::{Result, Unstructured};
use latentblend::capi::*;
use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The tiny model: this file is part of two packages.
fn path() -> &'static CString {
    static PATH: OnceLock<CString> = OnceLock::new();
    PATH.get_or_init(|| {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let roots = [here.clone(), here.join("..")];
        let mut tiny = roots.iter().map(|root| root.join("tests/golden/tiny/base"));
        let tiny = tiny.find(|path| path.is_dir()).expect("tests/golden/tiny/base");
        CString::new(tiny.to_str().expect("a path in UTF-8")).expect("no NUL")
    })
}

/// The tiny model, loaded once.
fn shared() -> *mut lb_model {
    static MODEL: OnceLock<usize> = OnceLock::new();
    let address = *MODEL.get_or_init(|| {
        let mut model = null_mut();
        // SAFETY: as the header asks.
        let status =
            unsafe { lb_model_load(path().as_ptr(), null(), null(), &mut model, null_mut()) };
        assert_eq!(status, LB_OK);
        model.addr()
    });
    std::ptr::without_provenance_mut(address)
}

/// Calls, checks that status and error agree, and frees the error.
fn checked(call: impl FnOnce(*mut *mut lb_error) -> lb_status) -> bool {
    let mut error = null_mut();
    let status = call(&mut error);
    assert_eq!(status == LB_OK, error.is_null());
    assert_ne!(status, LB_ERROR_INTERNAL, "a fault of the library");
    if !error.is_null() {
        assert_eq!(lb_error_status(error), status);
        // SAFETY: the error is alive, so its message is a string.
        assert!(unsafe { *lb_error_message(error) } != 0);
        lb_error_free(error);
    }
    status == LB_OK
}

/// The handles that were ever given out, and what the bytes make up.
#[derive(Default)]
struct Handles {
    known: Vec<usize>,
    /// How many references are held.
    held: Vec<usize>,
}

impl Handles {
    fn add(&mut self, handle: usize) {
        self.known.push(handle);
        self.held.push(handle);
    }

    fn any(&self, u: &mut Unstructured<'_>) -> Result<usize> {
        Ok(match u.int_in_range(0..=9)? {
            0 => 0,
            1 => u.arbitrary()?,
            _ if self.known.is_empty() => 0,
            _ => *u.choose(&self.known)?,
        })
    }

    fn drop_one(&mut self, handle: usize) {
        if let Some(at) = self.held.iter().position(|&held| held == handle) {
            self.held.swap_remove(at);
        }
    }
}

fn pointer<T>(address: usize) -> *mut T {
    std::ptr::without_provenance_mut(address)
}

struct Watch {
    left: u32,
    highest: f64,
}

/// Lets a call go on for a while.
extern "C" fn watch(user: *mut c_void, progress: *const lb_progress) -> i32 {
    // SAFETY: the harness hands over a Watch, the library a report.
    let (watch, progress) = unsafe { (&mut *user.cast::<Watch>(), &*progress) };
    assert!(progress.fraction >= watch.highest && progress.fraction <= 1.0);
    assert!(progress.done <= progress.total);
    watch.highest = progress.fraction;
    watch.left = watch.left.saturating_sub(1);
    i32::from(watch.left == 0)
}

extern "C" fn listen(
    _: *mut c_void,
    level: lb_log_level,
    target: *const c_char,
    text: *const c_char,
) {
    assert!(level <= LB_LOG_DEBUG && !target.is_null() && !text.is_null());
}

/// A struct in memory of its own, with the size that the bytes choose and zeros behind what is known.
struct Room(Vec<u64>);

const ROOM: usize = 1 << 10;

impl Room {
    fn new<T: Copy>(value: T, size: usize) -> Self {
        let mut room = Room(vec![0; ROOM / 8]);
        // SAFETY: the room is larger than any struct.
        unsafe {
            room.0.as_mut_ptr().cast::<T>().write(value);
            room.0.as_mut_ptr().cast::<usize>().write(size);
        }
        room
    }

    fn ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// Mostly the right size; else any that the room has, or one that is no size.
fn size<T>(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=11)? {
        0 => u.int_in_range(0..=ROOM)?,
        1 => *u.choose(&[0, 1, usize::MAX, 1 << 40])?,
        2 => ROOM,
        _ => size_of::<T>(),
    })
}

fn made<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the size is that of the memory.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

fn odd(u: &mut Unstructured<'_>) -> Result<f64> {
    const ODD: [f64; 10] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
    ];
    Ok(match u.int_in_range(0..=3)? {
        0 => *u.choose(&ODD)?,
        1 => u.arbitrary()?,
        _ => f64::from(u.arbitrary::<u16>()?) / 65535.0,
    })
}

/// A NUL-ended string of any bytes, or none.
fn text(u: &mut Unstructured<'_>) -> Result<Option<CString>> {
    if u.ratio(1, 8)? {
        return Ok(None);
    }
    let length = u.int_in_range(0..=40)?;
    let bytes = u.bytes(length.min(u.len()))?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Ok(CString::new(&bytes[..end]).ok())
}

fn or_null(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

#[derive(Default)]
struct State {
    models: Handles,
    sessions: Handles,
    cancels: Handles,
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

    fn new_session(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let count = u.int_in_range(0..=3)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push((text(u)?, text(u)?));
        }
        let mut rooms = Vec::new();
        for (prompt, negative) in &texts {
            let mut frame: lb_keyframe = {
                // SAFETY: zeros are a value of it.
                unsafe { std::mem::zeroed() }
            };
            frame.prompt = or_null(prompt);
            frame.negative_prompt = or_null(negative);
            frame.seed = u.arbitrary()?;
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
        let mut room = Room::new(options, size::<lb_blend_options>(u)?);
        let model = if u.ratio(3, 4)? { shared().addr() } else { self.models.any(u)? };
        let before = pointer(1);
        let mut out = before;
        let made = checked(|e| {
            // SAFETY: as the header asks.
            unsafe {
                let frames = if count == 0 { null() } else { frames.as_ptr() };
                lb_session_new(pointer(model), frames, count, room.ptr(), &mut out, e)
            }
        });
        if made {
            self.sessions.add(out.addr());
        } else {
            assert_eq!(out, before);
        }
        Ok(())
    }

    fn render(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const BUFFER: usize = 1 << 17;
        const FORMATS: [lb_format; 9] =
            [0x0301, 0x0401, 0x0302, 0x0402, 0x0312, 0x0412, 0x0314, 0x0414, 0x0999];
        let count = u.int_in_range(0..=2)?;
        let mut buffers: Vec<Vec<u8>> = (0..count).map(|_| vec![0xa5; BUFFER]).collect();
        let (mut rooms, mut places, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for buffer in &mut buffers {
            let mut image = lb_image {
                width: *u.choose(&[8, 8, 16, 24, 128, 5, 0, u32::MAX])?,
                height: *u.choose(&[8, 8, 16, 24, 128, 5, 0, u32::MAX])?,
                format: *u.choose(&FORMATS)?,
                transfer: u.int_in_range(0..=4)?,
                memory: if u.ratio(1, 16)? { u.int_in_range(0..=2)? } else { 0 },
                flags: u32::from(u.ratio(1, 16)?),
                ..made(lb_image_init)
            };
            let pixel = (image.format >> 8) as isize * (image.format & 15) as isize;
            let row = image.width as isize * pixel;
            image.row_bytes = match u.int_in_range(0..=5)? {
                0 => -row,
                1 => u.arbitrary::<i16>()?.into(),
                2 => *u.choose(&[0, isize::MIN, isize::MAX, -1])?,
                3 => row + 3,
                _ => row,
            };
            // The rows must lie in memory: else there is none.
            let span = i128::from(image.height.saturating_sub(1)) * image.row_bytes as i128;
            let (low, high) = (span.min(0), span.max(0) + row as i128);
            image.data = if high - low <= BUFFER as i128 {
                // SAFETY: the whole span from `low` on lies in the buffer.
                unsafe { buffer.as_mut_ptr().add(-low as usize).cast() }
            } else {
                null_mut()
            };
            let mut place = made(lb_placement_init);
            let small = u.ratio(3, 4)?;
            for side in place.bounds.iter_mut().chain(&mut place.window) {
                *side = if small { u.int_in_range(-8..=40)? } else { u.arbitrary()? };
            }
            if small {
                let [x, y, ..] = place.window;
                let end = |from: i32, length: u32| from.saturating_add(length.min(4096) as i32);
                place.window = [x, y, end(x, image.width), end(y, image.height)];
            }
            place.fit = u.int_in_range(0..=3)?;
            place.filter = u.int_in_range(0..=4)?;
            place.pixel_aspect = odd(u)?;
            places.push(Room::new(place, size::<lb_placement>(u)?));
            let placed = u.ratio(1, 2)?;
            rooms.push((image, placed, size::<lb_image>(u)?));
            times.push(odd(u)?);
        }
        let mut images: Vec<Room> = rooms
            .into_iter()
            .zip(&mut places)
            .map(|((mut image, placed, size), place)| {
                image.placement = if placed { place.ptr() } else { null() };
                Room::new(image, size)
            })
            .collect();
        let images: Vec<*const lb_image> =
            images.iter_mut().map(|room| room.ptr::<lb_image>().cast_const()).collect();
        let session = pointer(self.sessions.any(u)?);
        let written = self.with_call(u, |call| {
            // SAFETY: as the header asks; the arrays have `count` elements.
            checked(|e| unsafe {
                match count {
                    1 => lb_session_render(session, times[0], images[0], call, e),
                    _ => lb_session_render_many(
                        session,
                        times.as_ptr(),
                        images.as_ptr(),
                        count,
                        call,
                        e,
                    ),
                }
            })
        })?;
        if !written {
            assert!(buffers.iter().flatten().all(|&b| b == 0xa5), "a failed call wrote pixels");
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
        match u.int_in_range(0..=2)? {
            0 => fill(u, |info, e| unsafe { lb_model_get_info(model, info, e) }),
            1 => fill(u, |info, e| unsafe { lb_session_get_info(session, info, e) }),
            _ => fill(u, |info, e| unsafe { lb_device_get(index, info, e) }),
        }
    }

    fn init(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let size = u.int_in_range(0..=ROOM)?;
        let mut room = Room(vec![u64::MAX; ROOM / 8 + 1]);
        // SAFETY: the room has as many bytes.
        unsafe {
            match u.int_in_range(0..=3)? {
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
        let what = u.int_in_range(0..=2)?;
        let handles = [&mut self.models, &mut self.sessions, &mut self.cancels];
        let handles = handles.into_iter().nth(what).expect("three kinds");
        let handle = handles.any(u)?;
        if u.arbitrary()? {
            let kept = match what {
                0 => lb_model_retain(pointer(handle)).addr(),
                1 => lb_session_retain(pointer(handle)).addr(),
                _ => lb_cancel_retain(pointer(handle)).addr(),
            };
            assert!(kept == 0 || kept == handle);
            if kept != 0 && handles.held.contains(&handle) {
                handles.held.push(handle);
            }
        } else if handle != shared().addr() {
            match what {
                0 => lb_model_release(pointer(handle)),
                1 => lb_session_release(pointer(handle)),
                _ => lb_cancel_release(pointer(handle)),
            }
            handles.drop_one(handle);
        }
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15)? {
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
            8 => lb_session_purge(pointer(self.sessions.any(u)?)),
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
            // References that are left go together with those who hold them.
            _ => self.release_all(),
        }
        Ok(())
    }

    fn release_all(&mut self) {
        self.models.held.drain(..).for_each(|handle| lb_model_release(pointer(handle)));
        self.sessions.held.drain(..).for_each(|handle| lb_session_release(pointer(handle)));
        self.cancels.held.drain(..).for_each(|handle| lb_cancel_release(pointer(handle)));
    }
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
    assert!(
        state.sessions.known.iter().all(|&session| lb_session_retain(pointer(session)).is_null())
    );
}
