//! What tests of the C surface share: calls as C makes them.
#![allow(unsafe_code, reason = "C hands over raw pointers")]

use super::golden;
use latentblend::capi::*;
use std::ffi::{CStr, CString, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

/// The status and message of a call, its error freed; both are there or neither.
pub fn outcome(call: impl FnOnce(*mut *mut lb_error) -> lb_status) -> (lb_status, String) {
    let mut error = null_mut();
    let status = call(&mut error);
    assert_eq!(error.is_null(), status == LB_OK, "an error without a failure, or the reverse");
    if error.is_null() {
        return (status, String::new());
    }
    assert_eq!(lb_error_status(error), status);
    // SAFETY: the error is alive.
    let message = unsafe { CStr::from_ptr(lb_error_message(error)) }.to_str().unwrap().to_owned();
    assert!(!message.is_empty(), "status {status} without a message");
    lb_error_free(error);
    (status, message)
}

/// A call that must succeed.
pub fn succeed(call: impl FnOnce(*mut *mut lb_error) -> lb_status) {
    assert_eq!(outcome(call), (LB_OK, String::new()));
}

/// A call that must fail with `status` and a message that says `text`.
pub fn fail(
    status: lb_status,
    text: &str,
    call: impl FnOnce(*mut *mut lb_error) -> lb_status,
) -> String {
    let (got, message) = outcome(call);
    assert_eq!(got, status, "{message}");
    assert!(message.contains(text), "{message:?} does not say {text:?}");
    message
}

/// A struct as its `_init` fills it.
pub fn made<T>(init: unsafe extern "C" fn(*mut T, usize)) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the size is that of the memory; all of it is a value when it is zero or filled.
    unsafe {
        init(value.as_mut_ptr(), size_of::<T>());
        value.assume_init()
    }
}

/// A struct to be filled by the library, of its full size.
pub fn empty<T: Copy>() -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: structs for results begin with their size, and zeros are a value of them.
    unsafe {
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        value.assume_init()
    }
}

/// The path of the tiny model `name`.
pub fn tiny_path(name: &str) -> CString {
    CString::new(golden::path("tiny").join(name).to_str().unwrap()).unwrap()
}

/// The model at `path`, in f32.
pub fn load(path: &CStr) -> *mut lb_model {
    let mut model = null_mut();
    let options = lb_model_options { precision: LB_PRECISION_F32, ..made(lb_model_options_init) };
    // SAFETY: as the header asks.
    succeed(|error| unsafe { lb_model_load(path.as_ptr(), &options, null(), &mut model, error) });
    model
}

pub fn keyframe(prompt: &CStr, seed: u64) -> lb_keyframe {
    lb_keyframe { prompt: prompt.as_ptr(), seed, ..empty() }
}

/// A short transition of 8x8 pixels.
pub fn small_options() -> lb_blend_options {
    lb_blend_options {
        width: 8,
        height: 8,
        preset: LB_PRESET_LOWEST,
        steps: 4,
        ..made(lb_blend_options_init)
    }
}

pub fn session(model: *mut lb_model, options: &lb_blend_options) -> *mut lb_session {
    let frames = [keyframe(c"a castle at dusk", 1), keyframe(c"a lake by day", 2)];
    let pointers = [&raw const frames[0], &raw const frames[1]];
    let mut session = null_mut();
    // SAFETY: as the header asks.
    succeed(|error| unsafe {
        lb_session_new(model, pointers.as_ptr(), 2, options, &mut session, error)
    });
    session
}

/// An image of 8-bit RGB over `pixels`.
pub fn image(pixels: &mut [u8], width: u32, height: u32) -> lb_image {
    assert!(pixels.len() >= (width * height * 3) as usize);
    lb_image {
        data: pixels.as_mut_ptr().cast::<c_void>(),
        row_bytes: width as isize * 3,
        width,
        height,
        format: LB_FORMAT_RGB_U8,
        ..made(lb_image_init)
    }
}

/// The names of the functions that a header declares.
pub fn functions(header: &str) -> Vec<String> {
    let code = header.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut names: Vec<String> = code
        .match_indices("lb_")
        .filter_map(|(at, _)| {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            let rest = &code[at..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
            let word = !(before.is_ascii_alphanumeric() || before == '_');
            (word && rest[end..].starts_with('(')).then(|| rest[..end].to_owned())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The names of the structs that a header defines.
pub fn structs(header: &str) -> Vec<String> {
    let names = header.lines().filter_map(|line| line.strip_prefix("typedef struct lb_"));
    names
        .filter_map(|rest| rest.split([' ', ';']).next())
        .map(|rest| format!("lb_{rest}"))
        .collect()
}

/// Runs the tests of the calling file whose names begin so in a process of their own, whose output is looked at.
pub fn prints_nothing(tests: &[&str]) {
    const CHILD: &str = "LATENTBLEND_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--test-threads", "1"])
        .args(tests)
        .env(CHILD, "1")
        .env_remove("LATENTBLEND_LOG")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "something was printed");
    // What is left is the test harness's own.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let own = line.is_empty() || line.starts_with("running ") || line.starts_with("test ");
        assert!(own, "printed: {line}");
    }
}
