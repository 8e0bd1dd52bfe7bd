//! A host of OpenFX 1.5 for tests: suites, descriptors, instances, clips and images, over the independent
//! declarations of the crate `openfx`. It drives the *built bundle*, and can misbehave as hosts do.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unsafe_code, reason = "a host is called through pointers")]
#![allow(missing_docs, unreachable_pub, reason = "a test's own")]
#![allow(clippy::vec_box, reason = "a handle is an address, which must stay")]

pub mod bundle;
pub mod compare;
pub mod effect;
pub mod engine;
pub mod props;
pub mod quick;
pub mod repainted;
pub mod sources;
pub mod suites;

use effect::Effect;
use openfx::sys::generic::core::{OfxHost, OfxPlugin, OfxPropertySetStruct};
use props::{Props, Value};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

pub const OK: c_int = 0;
pub const FAILED: c_int = 1;
pub const UNKNOWN: c_int = 3;
pub const BAD_HANDLE: c_int = 9;
pub const REPLY_NO: c_int = 13;
pub const REPLY_DEFAULT: c_int = 14;

/// What of a host is otherwise than it should be.
#[derive(Clone, Default)]
pub struct Quirks {
    /// The host's name.
    pub name: &'static str,
    /// Suites that aren't there: name and version.
    pub missing: Vec<(&'static str, c_int)>,
    /// Functions of optional suites, and abort, are NULL.
    pub null_functions: bool,
    /// Properties that can't be set, by the beginning of their names.
    pub refused: Vec<&'static str>,
    /// Parameter types that the host has none of.
    pub no_types: Vec<&'static str>,
    /// Instances lack the project's size.
    pub no_project: bool,
}

/// The struct behind an `OfxHost`'s handle; its properties come first.
#[repr(C)]
pub struct HostData {
    pub props: Props,
    pub suites: suites::Suites,
    pub quirks: Quirks,
}

/// A host with the plug-in loaded and described.
pub struct Host {
    pub data: Box<HostData>,
    host: Box<OfxHost>,
    pub plugin: *mut OfxPlugin,
    pub library: libloading::Library,
    _turn: MutexGuard<'static, ()>,
}

/// A plug-in has one host at a time; the shim is one in this process.
static TURN: Mutex<()> = Mutex::new(());

unsafe extern "C" fn fetch(
    host: *mut OfxPropertySetStruct,
    name: *const c_char,
    version: c_int,
) -> *const c_void {
    // SAFETY: the handle is a HostData's beginning.
    let (data, name) = unsafe { (&*host.cast::<HostData>(), CStr::from_ptr(name)) };
    let name = name.to_str().unwrap();
    if data.quirks.missing.contains(&(name, version)) {
        return std::ptr::null();
    }
    data.suites.find(name, version)
}

impl Host {
    /// Opens the shim of `bundle` as a host does, up to and including the action Load.
    pub fn load(bundle: &Path, quirks: Quirks) -> Self {
        let (host, status) = Self::try_load(bundle, quirks);
        assert_eq!(status, OK, "Load");
        host
    }

    pub fn try_load(bundle: &Path, quirks: Quirks) -> (Self, c_int) {
        let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
        let path =
            bundle.join("Contents").join(latentblend_ofx::ARCHITECTURE).join("LatentBlend.ofx");
        // SAFETY: the shim runs nothing when it is opened.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        let props = Props::default();
        if !quirks.name.is_empty() {
            props.put("OfxPropName", Value::text(quirks.name));
        }
        let suites = suites::Suites::new(quirks.null_functions);
        props.refuse(&quirks.refused);
        let data = Box::new(HostData { props, suites, quirks });
        let handle = (&raw const *data).cast_mut().cast();
        let host = Box::new(OfxHost { host: handle, fetchSuite: Some(fetch) });
        // SAFETY: the names and types are those of the specification.
        let plugin = unsafe {
            let set: libloading::Symbol<'_, unsafe extern "C" fn(*const OfxHost) -> c_int> =
                library.get(b"OfxSetHost").unwrap();
            assert_eq!(set(&raw const *host), OK);
            let count: libloading::Symbol<'_, unsafe extern "C" fn() -> c_int> =
                library.get(b"OfxGetNumberOfPlugins").unwrap();
            assert_eq!(count(), 1);
            let get: libloading::Symbol<'_, unsafe extern "C" fn(c_int) -> *mut OfxPlugin> =
                library.get(b"OfxGetPlugin").unwrap();
            assert!(get(1).is_null() && get(-1).is_null());
            get(0)
        };
        let mut this = Host { data, host, plugin, library, _turn: turn };
        // SAFETY: the plug-in is alive.
        unsafe { ((*plugin).setHost.unwrap())(&raw mut *this.host) };
        let status = this.act("OfxActionLoad", null_mut(), None, None);
        (this, status)
    }

    /// Calls the plug-in's main entry.
    pub fn act(
        &self,
        action: &str,
        handle: *mut c_void,
        input: Option<&Props>,
        output: Option<&Props>,
    ) -> c_int {
        let action = CString::new(action).unwrap();
        let raw = |props: Option<&Props>| props.map_or(null_mut(), Props::handle);
        // SAFETY: the plug-in and what is behind the handles are alive.
        unsafe {
            ((*self.plugin).mainEntry.unwrap())(action.as_ptr(), handle, raw(input), raw(output))
        }
    }

    /// A descriptor after Describe.
    pub fn describe(&self) -> Box<Effect> {
        let effect = Effect::new(&self.data.quirks);
        assert_eq!(self.act("OfxActionDescribe", effect.handle(), None, None), OK, "Describe");
        effect
    }

    /// A descriptor after Describe and DescribeInContext.
    pub fn describe_in(&self, context: &str) -> Box<Effect> {
        let effect = self.describe();
        let input = Props::default();
        input.put("OfxImageEffectPropContext", Value::text(context));
        let action = "OfxImageEffectActionDescribeInContext";
        assert_eq!(self.act(action, effect.handle(), Some(&input), None), OK, "{context}");
        effect
    }

    /// An instance after CreateInstance.
    pub fn create(&self, context: &str, values: &[(&str, Value)]) -> Box<Effect> {
        let (effect, status) = self.try_create(context, values);
        assert_eq!(status, OK, "CreateInstance");
        effect
    }

    pub fn try_create(&self, context: &str, values: &[(&str, Value)]) -> (Box<Effect>, c_int) {
        let described = self.describe_in(context);
        let effect = described.instance(context, &self.data.quirks);
        for (name, value) in values {
            effect.set(name, value.clone());
        }
        let status = self.act("OfxActionCreateInstance", effect.handle(), None, None);
        (effect, status)
    }

    pub fn destroy(&self, effect: Box<Effect>) {
        assert_eq!(self.act("OfxActionDestroyInstance", effect.handle(), None, None), OK);
        assert_eq!(effect.images_held(), 0, "images that were not released");
    }

    /// InstanceChanged for a parameter, as after a user's edit.
    pub fn edited(&self, effect: &Effect, name: &str) -> c_int {
        let input = Props::default();
        input.put("OfxPropType", Value::text("OfxTypeParameter"));
        input.put("OfxPropName", Value::text(name));
        input.put("OfxPropChangeReason", Value::text("OfxChangeUserEdited"));
        input.put("OfxPropTime", Value::D(0.0));
        self.act("OfxActionInstanceChanged", effect.handle(), Some(&input), None)
    }

    /// A render action with its properties, by name.
    pub fn render(
        &self,
        effect: &Effect,
        time: f64,
        window: [c_int; 4],
        more: &[(&str, Value)],
    ) -> c_int {
        let input = Props::default();
        input.put("OfxPropTime", Value::D(time));
        input.put_all("OfxImageEffectPropRenderWindow", window.map(Value::I));
        input.put_all("OfxImageEffectPropRenderScale", [1.0, 1.0].map(Value::D));
        input.put("OfxImageEffectPropFieldToRender", Value::text("OfxFieldNone"));
        let mut lists: HashMap<&str, Vec<Value>> = HashMap::new();
        for (name, value) in more {
            lists.entry(name).or_default().push(value.clone());
        }
        for (name, values) in lists {
            input.put_all(name, values);
        }
        self.act("OfxImageEffectActionRender", effect.handle(), Some(&input), None)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.act("OfxActionUnload", null_mut(), None, None);
    }
}
