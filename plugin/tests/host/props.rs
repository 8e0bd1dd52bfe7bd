//! Property sets, and the suite over them.

use super::{OK, UNKNOWN};
use openfx::sys::generic::core::OfxPropertySetStruct;
use openfx::sys::generic::property::OfxPropertySuiteV1;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::Mutex;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    P(usize),
    S(CString),
    D(f64),
    I(c_int),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Value::S(CString::new(text).unwrap())
    }
}

/// Values by name and index.
#[derive(Default)]
#[repr(C)]
pub struct Props {
    values: Mutex<HashMap<String, Vec<Value>>>,
    refused: Mutex<Vec<&'static str>>,
    /// Strings given out: they stay, since a plug-in may hold one until it calls again.
    given: Mutex<Vec<Box<CStr>>>,
}

impl Props {
    pub fn handle(&self) -> *mut OfxPropertySetStruct {
        (&raw const *self).cast_mut().cast()
    }

    pub fn put(&self, name: &str, value: Value) {
        self.put_all(name, [value]);
    }

    pub fn put_all(&self, name: &str, values: impl IntoIterator<Item = Value>) {
        self.values.lock().unwrap().insert(name.to_owned(), values.into_iter().collect());
    }

    pub fn refuse(&self, names: &[&'static str]) {
        self.refused.lock().unwrap().extend(names);
    }

    pub fn get(&self, name: &str, index: usize) -> Option<Value> {
        self.values.lock().unwrap().get(name)?.get(index).cloned()
    }

    pub fn text(&self, name: &str) -> String {
        match self.get(name, 0) {
            Some(Value::S(text)) => text.into_string().unwrap(),
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let values = self.values.lock().unwrap().get(name).cloned().unwrap_or_default();
        values
            .into_iter()
            .map(|value| match value {
                Value::S(text) => text.into_string().unwrap(),
                other => panic!("{name}: {other:?}"),
            })
            .collect()
    }

    pub fn int(&self, name: &str) -> Option<c_int> {
        match self.get(name, 0) {
            Some(Value::I(value)) => Some(value),
            _ => None,
        }
    }

    pub fn real(&self, name: &str, index: usize) -> Option<f64> {
        match self.get(name, index) {
            Some(Value::D(value)) => Some(value),
            _ => None,
        }
    }

    pub fn copy(&self) -> Props {
        let copy = Props::default();
        *copy.values.lock().unwrap() = self.values.lock().unwrap().clone();
        *copy.refused.lock().unwrap() = self.refused.lock().unwrap().clone();
        copy
    }

    fn set(&self, name: &str, index: c_int, value: Value) -> c_int {
        if self.refused.lock().unwrap().iter().any(|start| name.starts_with(start)) {
            return UNKNOWN;
        }
        let mut values = self.values.lock().unwrap();
        let list = values.entry(name.to_owned()).or_default();
        let index = index as usize;
        assert!(index <= list.len(), "{name}[{index}] set before those below it");
        if index == list.len() {
            list.push(value)
        } else {
            list[index] = value
        }
        OK
    }

    fn give(&self, text: &CStr) -> *mut c_char {
        let mut given = self.given.lock().unwrap();
        if let Some(known) = given.iter().find(|known| known.as_ref() == text) {
            return known.as_ptr().cast_mut();
        }
        given.push(text.into());
        given.last().unwrap().as_ptr().cast_mut()
    }
}

type Handle = *mut OfxPropertySetStruct;

/// The set of a handle, and a name.
///
/// # Safety
/// Both are alive.
unsafe fn at<'a>(handle: Handle, name: *const c_char) -> (&'a Props, &'a str) {
    // SAFETY: as above.
    unsafe { (&*handle.cast::<Props>(), CStr::from_ptr(name).to_str().unwrap()) }
}

macro_rules! setter {
    ($name:ident, $type:ty, $value:ident => $to:expr) => {
        unsafe extern "C" fn $name(
            h: Handle,
            name: *const c_char,
            i: c_int,
            $value: $type,
        ) -> c_int {
            // SAFETY: a plug-in passes what is alive.
            let (props, name) = unsafe { at(h, name) };
            props.set(name, i, $to)
        }
    };
}
setter!(set_pointer, *mut c_void, v => Value::P(v as usize));
setter!(set_double, f64, v => Value::D(v));
setter!(set_int, c_int, v => Value::I(v));
// SAFETY: a plug-in passes a string.
setter!(set_string, *const c_char, v => Value::S(unsafe { CStr::from_ptr(v) }.to_owned()));

macro_rules! getter {
    ($name:ident, $type:ty, $props:ident, $pattern:pat => $value:expr) => {
        unsafe extern "C" fn $name(
            h: Handle,
            name: *const c_char,
            i: c_int,
            out: *mut $type,
        ) -> c_int {
            // SAFETY: a plug-in passes what is alive.
            let ($props, name) = unsafe { at(h, name) };
            match $props.get(name, i as usize) {
                Some($pattern) => {
                    // SAFETY: writable by the plug-in's word.
                    unsafe { out.write($value) };
                    OK
                }
                _ => UNKNOWN,
            }
        }
    };
}
getter!(get_pointer, *mut c_void, _props, Value::P(v) => v as *mut c_void);
getter!(get_double, f64, _props, Value::D(v) => v);
getter!(get_int, c_int, _props, Value::I(v) => v);
getter!(get_string, *mut c_char, props, Value::S(v) => props.give(&v));

unsafe extern "C" fn dimension(h: Handle, name: *const c_char, out: *mut c_int) -> c_int {
    // SAFETY: a plug-in passes what is alive.
    let (props, name) = unsafe { at(h, name) };
    let values = props.values.lock().unwrap();
    let Some(list) = values.get(name) else { return UNKNOWN };
    // SAFETY: writable by the plug-in's word.
    unsafe { out.write(list.len() as c_int) };
    OK
}

/// The functions for several values at once are left out, as in a host that lacks them.
pub fn suite() -> OfxPropertySuiteV1 {
    // SAFETY: nullable functions.
    let mut suite: OfxPropertySuiteV1 = unsafe { std::mem::zeroed() };
    suite.propSetPointer = Some(set_pointer);
    suite.propSetString = Some(set_string);
    suite.propSetDouble = Some(set_double);
    suite.propSetInt = Some(set_int);
    suite.propGetPointer = Some(get_pointer);
    suite.propGetString = Some(get_string);
    suite.propGetDouble = Some(get_double);
    suite.propGetInt = Some(get_int);
    suite.propGetDimension = Some(dimension);
    suite
}
