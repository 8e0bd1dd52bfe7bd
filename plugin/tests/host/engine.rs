//! The C API as the bundle's engine has it: what a frame must be.

use super::effect::{Image, Shape};
use latentblend::capi::*;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, OnceLock};

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
    /// What only some frames are made of.
    pub more: More,
}

/// A caller's picture, packed, top row first.
#[derive(Clone, Debug)]
pub struct Still {
    pub bytes: Arc<Vec<u8>>,
    pub size: [u32; 2],
    pub format: u32,
    pub transfer: u32,
}

impl Still {
    /// What a host's image shows.
    pub fn of(image: &Image, transfer: u32) -> Self {
        let size = [image.shape.width() as u32, image.shape.height() as u32];
        Still { bytes: Arc::new(image.pixels()), size, format: image.shape.format(), transfer }
    }

    fn source(&self) -> lb_source {
        // SAFETY: numbers and pointers.
        let mut source: lb_source = unsafe { std::mem::zeroed() };
        source.struct_size = size_of::<lb_source>();
        source.data = self.bytes.as_ptr().cast();
        source.row_bytes = (self.bytes.len() / self.size[1] as usize) as isize;
        [source.width, source.height] = self.size;
        (source.format, source.transfer) = (self.format, self.transfer);
        source
    }
}

#[derive(Clone, Debug, Default)]
pub struct More {
    /// The first keyframe's picture, and the last one's.
    pub images: [Option<Still>; 2],
    /// What is repainted, and where; the first channel of the second.
    pub repainted: Option<(Still, Still)>,
    /// What the patch is laid over.
    pub plate: Option<Still>,
    /// The patch alone.
    pub patch: bool,
    /// Pace and easing; `t` is then where it would be without.
    pub timing: Option<(u32, u32)>,
    /// The demo model that repaints.
    pub repaints: bool,
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

type NewInpainting = unsafe extern "C" fn(
    *mut lb_model,
    *const *const lb_keyframe,
    usize,
    *const lb_blend_options,
    *const lb_inpainting_options,
    *mut *mut lb_session,
    *mut *mut lb_error,
) -> lb_status;
type Timed = unsafe extern "C" fn(
    *mut lb_session,
    *const lb_timing,
    *const lb_call,
    *mut *mut lb_session,
    *mut *mut lb_error,
) -> lb_status;
type At = unsafe extern "C" fn(*const lb_session, f64, *mut f64, *mut *mut lb_error) -> lb_status;

pub struct Engine {
    library: libloading::Library,
    models: Mutex<Vec<(Option<String>, bool, usize)>>,
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

    fn model(&self, path: &Option<String>, repaints: bool) -> *mut lb_model {
        let mut models = self.models.lock().unwrap();
        if let Some((.., known)) = models.iter().find(|(p, r, _)| p == path && *r == repaints) {
            return *known as *mut lb_model;
        }
        // SAFETY: numbers.
        let mut options: lb_model_options = unsafe { std::mem::zeroed() };
        options.struct_size = size_of::<lb_model_options>();
        options.flags = if repaints { LB_MODEL_DEMO_INPAINTING } else { 0 };
        let text = path.as_ref().map(|p| CString::new(p.as_str()).unwrap());
        let (mut model, mut error) = (null_mut(), null_mut());
        let load: libloading::Symbol<'_, Load> = self.get("lb_model_load");
        let pointer = text.as_ref().map_or(null(), |t| t.as_ptr());
        // SAFETY: as the header asks.
        let status = unsafe { load(pointer, &options, null(), &mut model, &mut error) };
        self.good(status, error);
        models.push((path.clone(), repaints, model as usize));
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
        let ends = wanted.more.images.each_ref().map(|still| still.as_ref().map(Still::source));
        let mut frames: Vec<lb_keyframe> = frames;
        let last = frames.len() - 1;
        for (index, end) in [0, last].into_iter().zip(&ends) {
            if let Some(source) = end {
                frames[index].image = source;
                frames[index].image_fit = LB_FIT_STRETCH;
            }
        }
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
        let model = self.model(&wanted.model, wanted.more.repaints);
        let (frames, count) = (pointers.as_ptr(), pointers.len());
        let status = match &wanted.more.repainted {
            None => {
                let new: libloading::Symbol<'_, New> = self.get("lb_session_new");
                // SAFETY: as the header asks.
                unsafe { new(model, frames, count, &options, &mut session, &mut error) }
            }
            Some((source, mask)) => {
                let (source, mask) = (source.source(), mask.source());
                // SAFETY: numbers and pointers.
                let mut inpainting: lb_inpainting_options = unsafe { std::mem::zeroed() };
                inpainting.struct_size = size_of::<lb_inpainting_options>();
                (inpainting.source, inpainting.mask) = (&source, &mask);
                let new: libloading::Symbol<'_, NewInpainting> =
                    self.get("lb_session_new_inpainting");
                // SAFETY: as the header asks.
                unsafe {
                    new(model, frames, count, &options, &inpainting, &mut session, &mut error)
                }
            }
        };
        self.good(status, error);
        let Some((pace, easing)) = wanted.more.timing else { return session };
        let easings = vec![easing; count - 1];
        // SAFETY: numbers and pointers.
        let mut timing: lb_timing = unsafe { std::mem::zeroed() };
        timing.struct_size = size_of::<lb_timing>();
        (timing.pace, timing.easings) = (pace, easings.as_ptr());
        timing.segments = easings.len() as u64;
        let mut timed = null_mut();
        let time: libloading::Symbol<'_, Timed> = self.get("lb_session_timed");
        // SAFETY: as the header asks.
        let status = unsafe { time(session, &timing, null(), &mut timed, &mut error) };
        self.good(status, error);
        self.release(session);
        timed
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
        let plate = wanted.more.plate.as_ref().map(Still::source);
        image.plate = plate.as_ref().map_or(null(), |plate| plate);
        image.output = if wanted.more.patch { LB_OUTPUT_PATCH } else { LB_OUTPUT_PICTURE };
        let render: libloading::Symbol<'_, Render> = self.get("lb_session_render");
        let (mut error, mut t) = (null_mut(), wanted.t);
        if wanted.more.timing.is_some() {
            let at: libloading::Symbol<'_, At> = self.get("lb_session_t_at");
            let share = t / (wanted.prompts.len() - 1) as f64;
            // SAFETY: as the header asks.
            let status = unsafe { at(session, share, &mut t, &mut error) };
            self.good(status, error);
        }
        // SAFETY: as the header asks.
        let status = unsafe { render(session, t, &image, null(), &mut error) };
        self.good(status, error);
        bytes
    }
}
