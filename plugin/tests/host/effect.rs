//! Descriptors and instances: parameters with keyframes, clips, images in memory of any layout.

use super::Quirks;
use super::props::{Props, Value};
use std::ffi::{CString, c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

pub struct Param {
    pub name: String,
    pub kind: String,
    pub props: Props,
    pub value: Mutex<Value>,
    /// Of a double: times and values, linear between.
    pub keys: Mutex<Vec<(f64, f64)>>,
    /// Strings given out by value.
    pub given: Mutex<Vec<CString>>,
}

impl Param {
    pub fn at(&self, time: f64) -> Value {
        let keys = self.keys.lock().unwrap();
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return self.value.lock().unwrap().clone();
        };
        if time <= first.0 {
            return Value::D(first.1);
        }
        let Some(next) = keys.iter().position(|key| key.0 > time) else { return Value::D(last.1) };
        let (a, b) = (keys[next - 1], keys[next]);
        Value::D(a.1 + (b.1 - a.1) * (time - a.0) / (b.0 - a.0))
    }
}

/// How an image lies in memory.
#[derive(Clone, Debug)]
pub struct Shape {
    pub bounds: [c_int; 4],
    pub region: Option<[c_int; 4]>,
    pub components: &'static str,
    pub depth: &'static str,
    /// Bytes between rows; their padding.
    pub padding: usize,
    /// Stored top row first, as MLT does: negative row bytes.
    pub top_down: bool,
    pub pixel_aspect: f64,
}

impl Shape {
    pub fn new(width: c_int, height: c_int) -> Self {
        Shape {
            bounds: [0, 0, width, height],
            region: None,
            components: "OfxImageComponentRGBA",
            depth: "OfxBitDepthByte",
            padding: 0,
            top_down: false,
            pixel_aspect: 1.0,
        }
    }

    pub fn width(&self) -> usize {
        (self.bounds[2] - self.bounds[0]) as usize
    }

    pub fn height(&self) -> usize {
        (self.bounds[3] - self.bounds[1]) as usize
    }

    /// The C API's number for the format.
    pub fn format(&self) -> u32 {
        let channels = match self.components {
            "OfxImageComponentAlpha" => 1,
            "OfxImageComponentRGB" => 3,
            _ => 4,
        };
        let kind = match self.depth {
            "OfxBitDepthByte" => 0x01,
            "OfxBitDepthShort" => 0x02,
            "OfxBitDepthHalf" => 0x12,
            _ => 0x14,
        };
        channels << 8 | kind
    }

    pub fn pixel_bytes(&self) -> usize {
        let format = self.format();
        ((format >> 8) * (format & 0xf)) as usize
    }
}

/// The half nearest to a value that is exact, or nearly, in one; no specials.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, exponent) = ((bits >> 16 & 0x8000) as u16, (bits >> 23 & 255) as i32 - 127 + 15);
    match exponent {
        ..=0 => sign,
        31.. => sign | 0x7bff,
        _ => sign | (exponent as u16) << 10 | (bits >> 13 & 1023) as u16,
    }
}

/// What pixels hold before a render, and what stays where none is to be written.
pub const UNTOUCHED: u8 = 0xa5;

pub struct Image {
    pub props: Props,
    pub shape: Shape,
    pub memory: Mutex<Vec<u8>>,
}

impl Image {
    pub fn new(shape: &Shape) -> Box<Self> {
        let row = shape.width() * shape.pixel_bytes() + shape.padding;
        let memory = vec![UNTOUCHED; row * shape.height() + 64];
        let props = Props::default();
        // Rows begin in the middle of nowhere, aligned to a pixel's value only.
        let first = memory.as_ptr() as usize + 16;
        let (data, row_bytes) = match shape.top_down {
            false => (first, row as c_int),
            true => (first + row * (shape.height() - 1), -(row as c_int)),
        };
        props.put("OfxImagePropData", Value::P(data));
        props.put("OfxImagePropRowBytes", Value::I(row_bytes));
        props.put_all("OfxImagePropBounds", shape.bounds.map(Value::I));
        if let Some(region) = shape.region {
            props.put_all("OfxImagePropRegionOfDefinition", region.map(Value::I));
        }
        props.put("OfxImageEffectPropPixelDepth", Value::text(shape.depth));
        props.put("OfxImageEffectPropComponents", Value::text(shape.components));
        props.put("OfxImagePropPixelAspectRatio", Value::D(shape.pixel_aspect));
        Box::new(Image { props, shape: shape.clone(), memory: Mutex::new(memory) })
    }

    /// The bytes of row `y` (upwards, in the image's plane) from `x1` to `x2`.
    pub fn row(&self, y: c_int, x1: c_int, x2: c_int) -> Vec<u8> {
        let start = self.place(x1, y);
        let length = (x2 - x1) as usize * self.shape.pixel_bytes();
        self.memory.lock().unwrap()[start..start + length].to_vec()
    }

    /// Fills the pixels: `values` gives each channel's at x, y (upwards), 0 to 1; floats may go beyond.
    pub fn paint(&self, values: impl Fn(c_int, c_int) -> [f32; 4]) {
        let [x1, y1, x2, y2] = self.shape.bounds;
        let channels = (self.shape.format() >> 8) as usize;
        let size = self.shape.pixel_bytes();
        for (y, x) in (y1..y2).flat_map(|y| (x1..x2).map(move |x| (y, x))) {
            let mut bytes = Vec::new();
            for value in &values(x, y)[..channels] {
                match self.shape.depth {
                    "OfxBitDepthByte" => bytes.push((value * 255.0).round() as u8),
                    "OfxBitDepthShort" => {
                        bytes.extend(((value * 65535.0).round() as u16).to_ne_bytes());
                    }
                    "OfxBitDepthHalf" => bytes.extend(half(*value).to_ne_bytes()),
                    _ => bytes.extend(value.to_ne_bytes()),
                }
            }
            let start = self.place(x, y);
            self.memory.lock().unwrap()[start..start + size].copy_from_slice(&bytes);
        }
    }

    /// Where the pixel at x, y begins.
    fn place(&self, x: c_int, y: c_int) -> usize {
        let row = self.shape.width() * self.shape.pixel_bytes() + self.shape.padding;
        let up = (y - self.shape.bounds[1]) as usize;
        let stored = if self.shape.top_down { self.shape.height() - 1 - up } else { up };
        16 + stored * row + (x - self.shape.bounds[0]) as usize * self.shape.pixel_bytes()
    }

    /// All pixels, packed, top row first.
    pub fn pixels(&self) -> Vec<u8> {
        let [x1, y1, x2, y2] = self.shape.bounds;
        (y1..y2).rev().flat_map(|y| self.row(y, x1, x2)).collect()
    }

    /// How many bytes of the whole memory were written (or happen to be as before).
    pub fn written(&self) -> usize {
        self.memory.lock().unwrap().iter().filter(|&&byte| byte != UNTOUCHED).count()
    }

    /// Whether the bytes around and between the rows are as they were.
    pub fn guards_are_whole(&self) -> bool {
        let memory = self.memory.lock().unwrap();
        let pixels = self.shape.width() * self.shape.pixel_bytes();
        let row = pixels + self.shape.padding;
        let end = 16 + row * self.shape.height();
        let padding = (0..self.shape.height()).all(|y| {
            let start = 16 + y * row;
            memory[start + pixels..start + row].iter().all(|&b| b == UNTOUCHED)
        });
        padding && memory[..16].iter().chain(&memory[end..]).all(|&b| b == UNTOUCHED)
    }
}

pub struct Clip {
    pub name: String,
    pub props: Props,
    pub region: Mutex<Option<[f64; 4]>>,
    /// What clipGetImage gives at any time.
    pub image: Mutex<Option<usize>>,
    /// What it gives at these times instead.
    pub frames: Mutex<Vec<(f64, usize)>>,
    /// When it was asked for an image.
    pub asked: Mutex<Vec<f64>>,
    pub held: AtomicUsize,
}

#[repr(C)]
pub struct Effect {
    pub props: Props,
    pub set_props: Props,
    pub params: Mutex<Vec<Box<Param>>>,
    pub clips: Mutex<Vec<Box<Clip>>>,
    pub no_types: Vec<&'static str>,
    pub refused: Vec<&'static str>,
    /// abort() says yes after so many calls; negative: never.
    pub abort_after: AtomicI32,
    pub abort_asked: AtomicUsize,
    pub messages: Mutex<Vec<String>>,
    pub progress: Mutex<Vec<f64>>,
    /// progressUpdate says stop after so many calls; negative: never.
    pub stop_after: AtomicI32,
}

impl Effect {
    pub fn new(quirks: &Quirks) -> Box<Self> {
        let effect = Effect {
            props: Props::default(),
            set_props: Props::default(),
            params: Mutex::default(),
            clips: Mutex::default(),
            no_types: quirks.no_types.clone(),
            refused: quirks.refused.clone(),
            abort_after: AtomicI32::new(-1),
            abort_asked: AtomicUsize::new(0),
            messages: Mutex::default(),
            progress: Mutex::default(),
            stop_after: AtomicI32::new(-1),
        };
        effect.props.refuse(&quirks.refused);
        Box::new(effect)
    }

    pub fn handle(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    /// An instance of this descriptor, with a project of 64x48 canonical pixels and 11 frames.
    pub fn instance(&self, context: &str, quirks: &Quirks) -> Box<Effect> {
        let instance = Effect::new(quirks);
        instance.props.put("OfxImageEffectPropContext", Value::text(context));
        if !quirks.no_project {
            instance.props.put_all("OfxImageEffectPropProjectSize", [64.0, 48.0].map(Value::D));
            instance.props.put_all("OfxImageEffectPropProjectOffset", [0.0, 0.0].map(Value::D));
            instance.props.put("OfxImageEffectInstancePropEffectDuration", Value::D(11.0));
        }
        for param in self.params.lock().unwrap().iter() {
            let value = match param.props.get("OfxParamPropDefault", 0) {
                Some(value) => value,
                None if param.kind == "OfxParamTypeDouble" => Value::D(0.0),
                None if param.kind == "OfxParamTypeString" => Value::text(""),
                None => Value::I(0),
            };
            instance.params.lock().unwrap().push(Box::new(Param {
                name: param.name.clone(),
                kind: param.kind.clone(),
                props: param.props.copy(),
                value: Mutex::new(value),
                keys: Mutex::default(),
                given: Mutex::default(),
            }));
        }
        for clip in self.clips.lock().unwrap().iter() {
            let props = clip.props.copy();
            let output = c_int::from(clip.name == "Output");
            props.put("OfxImageClipPropConnected", Value::I(output));
            instance.clips.lock().unwrap().push(Box::new(Clip {
                name: clip.name.clone(),
                props,
                region: Mutex::new(None),
                image: Mutex::new(None),
                frames: Mutex::default(),
                asked: Mutex::default(),
                held: AtomicUsize::new(0),
            }));
        }
        instance
    }

    pub fn param(&self, name: &str) -> *const Param {
        let params = self.params.lock().unwrap();
        let found = params.iter().find(|param| param.name == name);
        &raw const **found.unwrap_or_else(|| panic!("no parameter {name}"))
    }

    /// A parameter, for as long as the effect lives.
    pub fn p(&self, name: &str) -> &Param {
        // SAFETY: boxed, and never removed.
        unsafe { &*self.param(name) }
    }

    pub fn set(&self, name: &str, value: Value) {
        *self.p(name).value.lock().unwrap() = value;
    }

    pub fn value(&self, name: &str) -> Value {
        self.p(name).value.lock().unwrap().clone()
    }

    pub fn c(&self, name: &str) -> &Clip {
        let clips = self.clips.lock().unwrap();
        let found = clips.iter().find(|clip| clip.name == name);
        let clip: *const Clip = &raw const **found.unwrap_or_else(|| panic!("no clip {name}"));
        // SAFETY: boxed, and never removed.
        unsafe { &*clip }
    }

    pub fn connect(&self, clip: &str, region: [f64; 4]) {
        self.c(clip).props.put("OfxImageClipPropConnected", Value::I(1));
        *self.c(clip).region.lock().unwrap() = Some(region);
    }

    /// Connects a clip that shows `image` at any time.
    pub fn show(&self, clip: &str, image: &Image) {
        let [x1, y1, x2, y2] = image.shape.bounds.map(f64::from);
        let aspect = image.shape.pixel_aspect;
        self.connect(clip, [x1 * aspect, y1, x2 * aspect, y2]);
        *self.c(clip).image.lock().unwrap() = Some((&raw const *image) as usize);
    }

    /// The same at `time` only.
    pub fn show_at(&self, clip: &str, time: f64, image: &Image) {
        self.show(clip, image);
        *self.c(clip).image.lock().unwrap() = None;
        self.c(clip).frames.lock().unwrap().push((time, (&raw const *image) as usize));
    }

    /// When a clip was asked for its image since the last time.
    pub fn asked(&self, clip: &str) -> Vec<f64> {
        std::mem::take(&mut *self.c(clip).asked.lock().unwrap())
    }

    /// What the next render writes into.
    pub fn target(&self, image: &Image) {
        *self.c("Output").image.lock().unwrap() = Some((&raw const *image) as usize);
    }

    pub fn images_held(&self) -> usize {
        self.clips.lock().unwrap().iter().map(|clip| clip.held.load(Ordering::SeqCst)).sum()
    }

    pub fn message(&self) -> String {
        self.messages.lock().unwrap().last().cloned().unwrap_or_default()
    }
}
