//! In: bytes. Out: arguments of calls: good, odd and absurd ones, in memory as the header asks for.

use arbitrary::{Result, Unstructured};
use latentblend::capi::*;
use std::ffi::{CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

/// The tiny model: this file is part of two packages.
pub(super) fn path() -> &'static CString {
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
pub(super) fn shared() -> *mut lb_model {
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
pub(super) fn checked(call: impl FnOnce(*mut *mut lb_error) -> lb_status) -> bool {
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
pub(super) struct Handles {
    pub(super) known: Vec<usize>,
    /// How many references are held.
    pub(super) held: Vec<usize>,
}

impl Handles {
    pub(super) fn add(&mut self, handle: usize) {
        self.known.push(handle);
        self.held.push(handle);
    }

    pub(super) fn any(&self, u: &mut Unstructured<'_>) -> Result<usize> {
        Ok(match u.int_in_range(0..=9)? {
            0 => 0,
            1 => u.arbitrary()?,
            _ if self.known.is_empty() => 0,
            _ => *u.choose(&self.known)?,
        })
    }

    pub(super) fn drop_one(&mut self, handle: usize) {
        if let Some(at) = self.held.iter().position(|&held| held == handle) {
            self.held.swap_remove(at);
        }
    }
}

pub(super) fn pointer<T>(address: usize) -> *mut T {
    std::ptr::without_provenance_mut(address)
}

pub(super) struct Watch {
    pub(super) left: u32,
    pub(super) highest: f64,
}

/// Lets a call go on for a while.
pub(super) extern "C" fn watch(user: *mut c_void, progress: *const lb_progress) -> i32 {
    // SAFETY: the harness hands over a Watch, the library a report.
    let (watch, progress) = unsafe { (&mut *user.cast::<Watch>(), &*progress) };
    assert!(progress.fraction >= watch.highest && progress.fraction <= 1.0);
    assert!(progress.done <= progress.total);
    watch.highest = progress.fraction;
    watch.left = watch.left.saturating_sub(1);
    i32::from(watch.left == 0)
}

pub(super) extern "C" fn listen(
    _: *mut c_void,
    level: lb_log_level,
    target: *const c_char,
    text: *const c_char,
) {
    assert!(level <= LB_LOG_DEBUG && !target.is_null() && !text.is_null());
}

/// A struct in memory of its own, with the size that the bytes choose and zeros behind what is known.
pub(super) struct Room(pub(super) Vec<u64>);

pub(super) const ROOM: usize = 1 << 10;

impl Room {
    pub(super) fn new<T: Copy>(value: T, size: usize) -> Self {
        let mut room = Room(vec![0; ROOM / 8]);
        // SAFETY: the room is larger than any struct.
        unsafe {
            room.0.as_mut_ptr().cast::<T>().write(value);
            room.0.as_mut_ptr().cast::<usize>().write(size);
        }
        room
    }

    pub(super) fn ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// Mostly the right size; else any that the room has, or one that is no size.
pub(super) fn size<T>(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=11)? {
        0 => u.int_in_range(0..=ROOM)?,
        1 => *u.choose(&[0, 1, usize::MAX, 1 << 40])?,
        2 => ROOM,
        _ => size_of::<T>(),
    })
}

pub(super) fn made<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the size is that of the memory.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

pub(super) fn odd(u: &mut Unstructured<'_>) -> Result<f64> {
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
pub(super) fn text(u: &mut Unstructured<'_>) -> Result<Option<CString>> {
    if u.ratio(1, 8)? {
        return Ok(None);
    }
    let length = u.int_in_range(0..=40)?;
    let bytes = u.bytes(length.min(u.len()))?;
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Ok(CString::new(&bytes[..end]).ok())
}

pub(super) fn or_null(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

/// Where a picture's first byte is in `buffer`, if all of its rows lie there: else there is no memory.
pub(super) fn within(buffer: &mut [u8], height: u32, row_bytes: isize, row: isize) -> *mut u8 {
    let span = i128::from(height.saturating_sub(1)) * row_bytes as i128;
    let (low, high) = (span.min(0), span.max(0) + row as i128);
    if high - low <= buffer.len() as i128 {
        // SAFETY: the whole span from `low` on lies in the buffer.
        unsafe { buffer.as_mut_ptr().add(-low as usize) }
    } else {
        null_mut()
    }
}

/// Bytes from a row to the next: mostly right.
pub(super) fn row_bytes(u: &mut Unstructured<'_>, row: isize) -> Result<isize> {
    Ok(match u.int_in_range(0..=5)? {
        0 => -row,
        1 => u.arbitrary::<i16>()?.into(),
        2 => *u.choose(&[0, isize::MIN, isize::MAX, -1])?,
        3 => row + 3,
        _ => row,
    })
}

/// Bytes of a row of pixels.
pub(super) fn row(width: u32, format: lb_format) -> isize {
    width as isize * ((format >> 8) as isize * (format & 15) as isize)
}

/// A folder of this process.
pub(super) fn scratch() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("latentblend-calls-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch folder");
        path
    })
}

/// The path of a file in that folder.
pub(super) fn file(name: &str) -> CString {
    CString::new(scratch().join(name).to_str().expect("a path in UTF-8")).expect("no NUL")
}

/// A path: of one of a few files of this process, of none, or no path at all.
pub(super) fn place(u: &mut Unstructured<'_>) -> Result<Option<CString>> {
    Ok(match u.int_in_range(0..=7)? {
        0 => None,
        1 => Some(CString::new([0xff, b'a']).expect("no NUL")),
        2 => Some(file("none/at/all")),
        3 => Some(file(".")),
        n => Some(file(["first", "second"][n % 2])),
    })
}

/// A file of weights of LPIPS, of the right shapes.
pub(super) fn weights() -> &'static CString {
    static PATH: OnceLock<CString> = OnceLock::new();
    PATH.get_or_init(|| {
        const LAYERS: [(usize, [usize; 4]); 5] = [
            (0, [64, 3, 11, 11]),
            (3, [192, 64, 5, 5]),
            (6, [384, 192, 3, 3]),
            (8, [256, 384, 3, 3]),
            (10, [256, 256, 3, 3]),
        ];
        let (mut header, mut end) = (Vec::new(), 0);
        for (layer, (number, shape)) in LAYERS.iter().enumerate() {
            let mut add = |name: String, shape: &[usize]| {
                let next = end + 2 * shape.iter().product::<usize>();
                let entry = format!(
                    "\"{name}\":{{\"dtype\":\"BF16\",\"shape\":{shape:?},\"data_offsets\":[{end},{next}]}}"
                );
                header.push(entry);
                end = next;
            };
            add(format!("features.{number}.weight"), shape);
            add(format!("features.{number}.bias"), &shape[..1]);
            add(format!("lin{layer}.model.1.weight"), &[1, shape[0], 1, 1]);
        }
        let header = format!("{{{}}}", header.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..end).map(|at| [0x20, 0x3c][at % 2]));
        std::fs::write(scratch().join("lpips"), bytes).expect("a scratch file");
        file("lpips")
    })
}
