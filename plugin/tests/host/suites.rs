//! The suites of the test's host.
//!
//! Those functions of the specification that take any number of arguments are given here as functions of a fixed
//! number: stable Rust has no others, and on the systems tested (System V x86-64, AArch64 Linux) integers, pointers
//! and doubles arrive in the same registers.

#![allow(
    clippy::missing_transmute_annotations,
    clippy::useless_transmute,
    reason = "the fields' types say them, and some are those of the functions"
)]

use super::effect::{Clip, Effect, Image, Param};
use super::props::{self, Props, Value};
use super::{BAD_HANDLE, FAILED, OK, REPLY_NO, UNKNOWN};
use openfx::sys::generic::property::OfxPropertySuiteV1;
use openfx::sys::image_effect_v1::image_effect::OfxImageEffectSuiteV1;
use openfx::sys::image_effect_v1::message::{OfxMessageSuiteV1, OfxMessageSuiteV2};
use openfx::sys::image_effect_v1::param::OfxParameterSuiteV1;
use openfx::sys::image_effect_v1::progress::{OfxProgressSuiteV1, OfxProgressSuiteV2};
use openfx::sys::image_effect_v1::time_line::OfxTimeLineSuiteV1;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::{transmute, zeroed};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Suites {
    property: OfxPropertySuiteV1,
    effect: OfxImageEffectSuiteV1,
    param: OfxParameterSuiteV1,
    message1: OfxMessageSuiteV1,
    message2: OfxMessageSuiteV2,
    progress1: OfxProgressSuiteV1,
    progress2: OfxProgressSuiteV2,
    timeline: OfxTimeLineSuiteV1,
}

type Raw = *mut c_void;

unsafe fn effect<'a>(handle: Raw) -> &'a Effect {
    // SAFETY: by the caller's word.
    unsafe { &*handle.cast::<Effect>() }
}

unsafe fn text<'a>(pointer: *const c_char) -> &'a str {
    // SAFETY: by the caller's word.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
}

unsafe fn put<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: by the caller's word.
        unsafe { pointer.write(value) };
    }
}

unsafe extern "C" fn get_property_set(h: Raw, out: *mut Raw) -> c_int {
    // SAFETY: handles are effects.
    unsafe { put(out, effect(h).props.handle().cast()) };
    OK
}

unsafe extern "C" fn get_param_set(h: Raw, out: *mut Raw) -> c_int {
    // SAFETY: as above; a parameter set's handle is its effect's.
    unsafe { put(out, h) };
    OK
}

unsafe extern "C" fn clip_define(h: Raw, name: *const c_char, out: *mut Raw) -> c_int {
    // SAFETY: as above.
    let (effect, name) = unsafe { (effect(h), text(name)) };
    let clip = Box::new(Clip {
        name: name.to_owned(),
        props: Props::default(),
        region: Mutex::new(None),
        image: Mutex::new(None),
        frames: Mutex::default(),
        asked: Mutex::default(),
        held: AtomicUsize::new(0),
    });
    // SAFETY: as above.
    unsafe { put(out, clip.props.handle().cast()) };
    effect.clips.lock().unwrap().push(clip);
    OK
}

unsafe extern "C" fn clip_get_handle(
    h: Raw,
    name: *const c_char,
    clip: *mut Raw,
    props: *mut Raw,
) -> c_int {
    // SAFETY: as above.
    let (effect, name) = unsafe { (effect(h), text(name)) };
    let clips = effect.clips.lock().unwrap();
    let Some(found) = clips.iter().find(|c| c.name == name) else { return BAD_HANDLE };
    // SAFETY: as above.
    unsafe {
        put(clip, (&raw const **found).cast_mut().cast());
        put(props, found.props.handle().cast());
    }
    OK
}

unsafe extern "C" fn clip_get_property_set(clip: Raw, out: *mut Raw) -> c_int {
    // SAFETY: clips' handles are clips.
    unsafe { put(out, (*clip.cast::<Clip>()).props.handle().cast()) };
    OK
}

unsafe extern "C" fn clip_get_image(
    clip: Raw,
    time: f64,
    _region: *const f64,
    out: *mut Raw,
) -> c_int {
    // SAFETY: as above.
    let clip = unsafe { &*clip.cast::<Clip>() };
    let image = match clip.name.as_str() {
        "Output" => OURS.with(std::cell::Cell::get),
        _ => {
            clip.asked.lock().unwrap().push(time);
            clip.frames.lock().unwrap().iter().find(|frame| frame.0 == time).map(|frame| frame.1)
        }
    };
    let image = image.or(*clip.image.lock().unwrap());
    let Some(image) = image else { return FAILED };
    clip.held.fetch_add(1, Ordering::SeqCst);
    let image = image as *const Image;
    // SAFETY: the test keeps the image until the render is over.
    let props = unsafe { &(*image).props };
    props.put("test.clip", Value::P((&raw const *clip) as usize));
    // SAFETY: as above.
    unsafe { put(out, props.handle().cast()) };
    OK
}

thread_local! {
    /// An image for the renders of this thread only.
    pub static OURS: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

unsafe extern "C" fn clip_release_image(image: Raw) -> c_int {
    // SAFETY: an image's handle is its property set.
    let props = unsafe { &*image.cast::<Props>() };
    let Some(Value::P(clip)) = props.get("test.clip", 0) else { return BAD_HANDLE };
    // SAFETY: put there by clip_get_image.
    unsafe { &*(clip as *const Clip) }.held.fetch_sub(1, Ordering::SeqCst);
    OK
}

unsafe extern "C" fn clip_region(clip: Raw, _time: f64, out: *mut [f64; 4]) -> c_int {
    // SAFETY: as above.
    let clip = unsafe { &*clip.cast::<Clip>() };
    let Some(region) = *clip.region.lock().unwrap() else { return FAILED };
    // SAFETY: as above.
    unsafe { put(out, region) };
    OK
}

unsafe extern "C" fn abort(h: Raw) -> c_int {
    // SAFETY: as above.
    let effect = unsafe { effect(h) };
    let asked = effect.abort_asked.fetch_add(1, Ordering::SeqCst) as i32;
    let after = effect.abort_after.load(Ordering::SeqCst);
    c_int::from(after >= 0 && asked >= after)
}

unsafe extern "C" fn param_define(
    set: Raw,
    kind: *const c_char,
    name: *const c_char,
    out: *mut Raw,
) -> c_int {
    // SAFETY: as above.
    let (effect, kind, name) = unsafe { (effect(set), text(kind), text(name)) };
    if effect.no_types.contains(&kind) {
        return UNKNOWN;
    }
    let mut params = effect.params.lock().unwrap();
    assert!(params.iter().all(|p| p.name != name), "{name} is defined twice");
    let param = Box::new(Param {
        name: name.to_owned(),
        kind: kind.to_owned(),
        props: Props::default(),
        value: Mutex::new(Value::I(0)),
        keys: Mutex::default(),
        given: Mutex::default(),
    });
    param.props.refuse(&effect.refused);
    // SAFETY: as above.
    unsafe { put(out, param.props.handle().cast()) };
    params.push(param);
    OK
}

unsafe extern "C" fn param_get_handle(
    set: Raw,
    name: *const c_char,
    param: *mut Raw,
    props: *mut Raw,
) -> c_int {
    // SAFETY: as above.
    let (effect, name) = unsafe { (effect(set), text(name)) };
    let params = effect.params.lock().unwrap();
    let Some(found) = params.iter().find(|p| p.name == name) else { return UNKNOWN };
    // SAFETY: as above.
    unsafe {
        put(param, (&raw const **found).cast_mut().cast());
        put(props, found.props.handle().cast());
    }
    OK
}

unsafe extern "C" fn param_set_props(set: Raw, out: *mut Raw) -> c_int {
    // SAFETY: as above.
    unsafe { put(out, effect(set).set_props.handle().cast()) };
    OK
}

/// Writes a value as its parameter's type says.
unsafe fn hand(param: &Param, value: Value, out: Raw) -> c_int {
    // SAFETY: by the plug-in's word, `out` is of the parameter's type.
    unsafe {
        match value {
            Value::D(v) => out.cast::<f64>().write(v),
            Value::I(v) => out.cast::<c_int>().write(v),
            Value::S(v) => {
                let mut given = param.given.lock().unwrap();
                if !given.contains(&v) {
                    given.push(v.clone());
                }
                let kept = given.iter().find(|known| **known == v).unwrap();
                out.cast::<*const c_char>().write(kept.as_ptr());
            }
            Value::P(_) => return FAILED,
        }
    }
    OK
}

unsafe extern "C" fn get_value(param: Raw, out: Raw) -> c_int {
    // SAFETY: parameters' handles are parameters.
    let param = unsafe { &*param.cast::<Param>() };
    let value = param.at(0.0);
    // SAFETY: passed on.
    unsafe { hand(param, value, out) }
}

unsafe extern "C" fn get_value_at(param: Raw, time: f64, out: Raw) -> c_int {
    // SAFETY: as above.
    let param = unsafe { &*param.cast::<Param>() };
    let value = param.at(time);
    // SAFETY: passed on.
    unsafe { hand(param, value, out) }
}

unsafe extern "C" fn key_count(param: Raw, out: *mut u32) -> c_int {
    // SAFETY: as above.
    unsafe { put(out, (*param.cast::<Param>()).keys.lock().unwrap().len() as u32) };
    OK
}

unsafe extern "C" fn key_time(param: Raw, index: u32, out: *mut f64) -> c_int {
    // SAFETY: as above.
    let keys = unsafe { &*param.cast::<Param>() }.keys.lock().unwrap();
    let Some(key) = keys.get(index as usize) else { return FAILED };
    // SAFETY: as above.
    unsafe { put(out, key.0) };
    OK
}

unsafe extern "C" fn set_value(param: Raw, whole: usize) -> c_int {
    // SAFETY: as above.
    let param = unsafe { &*param.cast::<Param>() };
    *param.value.lock().unwrap() = match param.kind.as_str() {
        // SAFETY: a string by the plug-in's word.
        "OfxParamTypeString" => {
            Value::S(unsafe { CStr::from_ptr(whole as *const c_char) }.to_owned())
        }
        "OfxParamTypeDouble" => return FAILED,
        _ => Value::I(whole as c_int),
    };
    OK
}

unsafe extern "C" fn message(
    h: Raw,
    _kind: *const c_char,
    _id: *const c_char,
    format: *const c_char,
) -> c_int {
    // SAFETY: as above.
    let (effect, format) = unsafe { (effect(h), text(format)) };
    // What printf would make of it: no argument is ever passed.
    assert!(!format.replace("%%", "").contains('%'), "'{format}' asks for arguments");
    effect.messages.lock().unwrap().push(format.replace("%%", "%"));
    OK
}

unsafe extern "C" fn clear_message(h: Raw) -> c_int {
    // SAFETY: as above.
    unsafe { effect(h) }.messages.lock().unwrap().push(String::new());
    OK
}

unsafe extern "C" fn progress_start(h: Raw, _label: *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe { effect(h) }.progress.lock().unwrap().push(-1.0);
    OK
}

unsafe extern "C" fn progress_start2(h: Raw, label: *const c_char, _id: *const c_char) -> c_int {
    // SAFETY: passed on.
    unsafe { progress_start(h, label) }
}

unsafe extern "C" fn progress_update(h: Raw, at: f64) -> c_int {
    // SAFETY: as above.
    let effect = unsafe { effect(h) };
    let mut progress = effect.progress.lock().unwrap();
    progress.push(at);
    let after = effect.stop_after.load(Ordering::SeqCst);
    if after >= 0 && progress.len() as i32 > after { REPLY_NO } else { OK }
}

unsafe extern "C" fn progress_end(h: Raw) -> c_int {
    // SAFETY: as above.
    unsafe { effect(h) }.progress.lock().unwrap().push(2.0);
    OK
}

unsafe extern "C" fn time_bounds(_: Raw, first: *mut f64, last: *mut f64) -> c_int {
    // SAFETY: as above.
    unsafe {
        put(first, 0.0);
        put(last, 10.0);
    }
    OK
}

/// A function as another type of the same convention.
macro_rules! as_suite {
    ($function:ident($($type:ty),*)) => {
        // SAFETY: handles are pointers of one size; the rest is said above.
        Some(unsafe { transmute::<unsafe extern "C" fn($($type),*) -> c_int, _>($function) })
    };
}

impl Suites {
    pub fn new(null_functions: bool) -> Self {
        // SAFETY: nullable functions.
        let mut s: Suites = unsafe { zeroed() };
        s.property = props::suite();
        s.effect.getPropertySet = as_suite!(get_property_set(Raw, *mut Raw));
        s.effect.getParamSet = as_suite!(get_param_set(Raw, *mut Raw));
        s.effect.clipDefine = as_suite!(clip_define(Raw, *const c_char, *mut Raw));
        s.effect.clipGetHandle = as_suite!(clip_get_handle(Raw, *const c_char, *mut Raw, *mut Raw));
        s.effect.clipGetPropertySet = as_suite!(clip_get_property_set(Raw, *mut Raw));
        s.effect.clipGetImage = as_suite!(clip_get_image(Raw, f64, *const f64, *mut Raw));
        s.effect.clipReleaseImage = as_suite!(clip_release_image(Raw));
        s.effect.clipGetRegionOfDefinition = as_suite!(clip_region(Raw, f64, *mut [f64; 4]));
        s.param.paramDefine = as_suite!(param_define(Raw, *const c_char, *const c_char, *mut Raw));
        s.param.paramGetHandle =
            as_suite!(param_get_handle(Raw, *const c_char, *mut Raw, *mut Raw));
        s.param.paramSetGetPropertySet = as_suite!(param_set_props(Raw, *mut Raw));
        s.param.paramGetValue = as_suite!(get_value(Raw, Raw));
        s.param.paramGetValueAtTime = as_suite!(get_value_at(Raw, f64, Raw));
        s.param.paramSetValue = as_suite!(set_value(Raw, usize));
        if null_functions {
            return s;
        }
        s.param.paramGetNumKeys = as_suite!(key_count(Raw, *mut u32));
        s.param.paramGetKeyTime = as_suite!(key_time(Raw, u32, *mut f64));
        s.effect.abort = as_suite!(abort(Raw));
        s.message1.message = as_suite!(message(Raw, *const c_char, *const c_char, *const c_char));
        s.message2.message = as_suite!(message(Raw, *const c_char, *const c_char, *const c_char));
        s.message2.setPersistentMessage =
            as_suite!(message(Raw, *const c_char, *const c_char, *const c_char));
        s.message2.clearPersistentMessage = as_suite!(clear_message(Raw));
        s.progress1.progressStart = as_suite!(progress_start(Raw, *const c_char));
        s.progress1.progressUpdate = as_suite!(progress_update(Raw, f64));
        s.progress1.progressEnd = as_suite!(progress_end(Raw));
        s.progress2.progressStart = as_suite!(progress_start2(Raw, *const c_char, *const c_char));
        s.progress2.progressUpdate = as_suite!(progress_update(Raw, f64));
        s.progress2.progressEnd = as_suite!(progress_end(Raw));
        s.timeline.getTimeBounds = as_suite!(time_bounds(Raw, *mut f64, *mut f64));
        s
    }

    pub fn find(&self, name: &str, version: c_int) -> *const c_void {
        match (name, version) {
            ("OfxPropertySuite", 1) => (&raw const self.property).cast(),
            ("OfxImageEffectSuite", 1) => (&raw const self.effect).cast(),
            ("OfxParameterSuite", 1) => (&raw const self.param).cast(),
            ("OfxMessageSuite", 1) => (&raw const self.message1).cast(),
            ("OfxMessageSuite", 2) => (&raw const self.message2).cast(),
            ("OfxProgressSuite", 1) => (&raw const self.progress1).cast(),
            ("OfxProgressSuite", 2) => (&raw const self.progress2).cast(),
            ("OfxTimeLineSuite", 1) => (&raw const self.timeline).cast(),
            _ => std::ptr::null(),
        }
    }
}

/// For values that a suite keeps: nothing here.
pub fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}
