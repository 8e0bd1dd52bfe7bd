//! The C API as the bundle's engine has it: what a frame must be.

use super::effect::Shape;
use latentblend::capi::*;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, OnceLock};

/// What a frame is made of.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub model: Option<String>,
    pub prompts: Vec<(String, u64)>,
    pub negative: String,
    pub options: fn(&mut lb_blend_options),
    pub size: [u32; 2],
    pub t: f64,
    pub transfer: u32,
    pub fit: u32,
    pub filter: u32,
    pub pixel_aspect: f64,
}

type New = unsafe extern "C" fn(
    *mut lb_model,
    *const *const lb_keyframe,
    usize,
    *const lb_blend_options,
    *mut *mut lb_session,
    *mut *mut lb_error,
) -> lb_status;
type Load = unsafe extern "C" fn(
    *const c_char,
    *const lb_model_options,
    *const lb_call,
    *mut *mut lb_model,
    *mut *mut lb_error,
) -> lb_status;
type Render = unsafe extern "C" fn(
    *mut lb_session,
    f64,
    *const lb_image,
    *const lb_call,
    *mut *mut lb_error,
) -> lb_status;

pub struct Engine {
    library: libloading::Library,
    models: Mutex<Vec<(Option<String>, usize)>>,
}

pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        // SAFETY: the engine runs nothing when it is opened.
        let library = unsafe { libloading::Library::new(super::bundle::engine()) }.unwrap();
        Engine { library, models: Mutex::default() }
    })
}

impl Engine {
    fn get<T>(&self, name: &str) -> libloading::Symbol<'_, T> {
        // SAFETY: the types are those of the header, which `latentblend::capi` is made of.
        unsafe { self.library.get(name.as_bytes()) }.unwrap()
    }

    fn good(&self, status: lb_status, error: *mut lb_error) {
        if status != LB_OK {
            let message: libloading::Symbol<
                '_,
                unsafe extern "C" fn(*const lb_error) -> *const c_char,
            > = self.get("lb_error_message");
            // SAFETY: the error is alive.
            panic!("{:?}", unsafe { CStr::from_ptr(message(error)) });
        }
    }

    fn model(&self, path: &Option<String>) -> *mut lb_model {
        let mut models = self.models.lock().unwrap();
        if let Some((_, known)) = models.iter().find(|(p, _)| p == path) {
            return *known as *mut lb_model;
        }
        let text = path.as_ref().map(|p| CString::new(p.as_str()).unwrap());
        let (mut model, mut error) = (null_mut(), null_mut());
        let load: libloading::Symbol<'_, Load> = self.get("lb_model_load");
        let pointer = text.as_ref().map_or(null(), |t| t.as_ptr());
        // SAFETY: as the header asks.
        let status = unsafe { load(pointer, null(), null(), &mut model, &mut error) };
        self.good(status, error);
        models.push((path.clone(), model as usize));
        model
    }

    pub fn session(&self, wanted: &Wanted) -> *mut lb_session {
        let texts: Vec<_> =
            wanted.prompts.iter().map(|(p, _)| CString::new(p.as_str()).unwrap()).collect();
        let negative = CString::new(wanted.negative.as_str()).unwrap();
        let frames: Vec<_> = texts
            .iter()
            .zip(&wanted.prompts)
            .map(|(text, (_, seed))| {
                // SAFETY: numbers and pointers.
                let mut frame: lb_keyframe = unsafe { std::mem::zeroed() };
                frame.struct_size = size_of::<lb_keyframe>();
                frame.prompt = text.as_ptr();
                frame.negative_prompt = negative.as_ptr();
                frame.seed = *seed;
                frame
            })
            .collect();
        let pointers: Vec<_> = frames.iter().map(|f| &raw const *f).collect();
        let init: libloading::Symbol<'_, unsafe extern "C" fn(*mut lb_blend_options, usize)> =
            self.get("lb_blend_options_init");
        let mut options = std::mem::MaybeUninit::uninit();
        // SAFETY: the size is that of the memory.
        let mut options = unsafe {
            init(options.as_mut_ptr(), size_of::<lb_blend_options>());
            options.assume_init()
        };
        [options.width, options.height] = wanted.size;
        (wanted.options)(&mut options);
        let (mut session, mut error) = (null_mut(), null_mut());
        let new: libloading::Symbol<'_, New> = self.get("lb_session_new");
        let model = self.model(&wanted.model);
        // SAFETY: as the header asks.
        let status = unsafe {
            new(model, pointers.as_ptr(), pointers.len(), &options, &mut session, &mut error)
        };
        self.good(status, error);
        session
    }

    pub fn release(&self, session: *mut lb_session) {
        let release: libloading::Symbol<'_, unsafe extern "C" fn(*mut lb_session)> =
            self.get("lb_session_release");
        // SAFETY: one reference of ours.
        unsafe { release(session) };
    }

    /// The frame in `window` of `bounds` (both upwards), packed, top row first.
    pub fn frame(
        &self,
        wanted: &Wanted,
        shape: &Shape,
        bounds: [i32; 4],
        window: [i32; 4],
    ) -> Vec<u8> {
        let session = self.session(wanted);
        let bytes = self.render(session, wanted, shape, bounds, window);
        self.release(session);
        bytes
    }

    pub fn render(
        &self,
        session: *mut lb_session,
        wanted: &Wanted,
        shape: &Shape,
        bounds: [i32; 4],
        window: [i32; 4],
    ) -> Vec<u8> {
        let down = |[x1, y1, x2, y2]: [i32; 4]| [x1, -y2, x2, -y1];
        let placement = lb_placement {
            struct_size: size_of::<lb_placement>(),
            bounds: down(bounds),
            window: down(window),
            fit: wanted.fit,
            filter: wanted.filter,
            pixel_aspect: wanted.pixel_aspect,
        };
        let (width, height) = ((window[2] - window[0]) as usize, (window[3] - window[1]) as usize);
        let row = width * shape.pixel_bytes();
        let mut bytes = vec![0; row * height];
        // SAFETY: numbers and pointers.
        let mut image: lb_image = unsafe { std::mem::zeroed() };
        image.struct_size = size_of::<lb_image>();
        image.data = bytes.as_mut_ptr().cast();
        image.row_bytes = row as isize;
        (image.width, image.height) = (width as u32, height as u32);
        image.placement = &raw const placement;
        (image.format, image.transfer) = (shape.format(), wanted.transfer);
        let render: libloading::Symbol<'_, Render> = self.get("lb_session_render");
        let mut error = null_mut();
        // SAFETY: as the header asks.
        let status = unsafe { render(session, wanted.t, &image, null(), &mut error) };
        self.good(status, error);
        bytes
    }
}
