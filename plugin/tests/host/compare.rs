//! The node's frames against the C API's, byte for byte.

use super::bundle::tiny;
use super::effect::{Effect, Image, Shape, UNTOUCHED};
use super::engine::{More, Wanted, engine};
use super::props::Value;
use super::{Host, OK};
use latentblend::capi::*;
use latentblend::working_size;

pub const GENERATOR: &str = "OfxImageEffectContextGenerator";
pub const GENERAL: &str = "OfxImageEffectContextGeneral";
pub const FILTER: &str = "OfxImageEffectContextFilter";
pub const TRANSITION: &str = "OfxImageEffectContextTransition";

/// The native size of the tiny model.
const NATIVE: [usize; 2] = [128, 128];

pub fn short(options: &mut lb_blend_options) {
    options.preset = LB_PRESET_LOWEST;
    options.steps = 3;
}

/// The frame that `create` asks for, where the picture's shape is that of the project.
pub fn wanted(t: f64) -> Wanted {
    Wanted {
        model: Some(tiny()),
        prompts: vec![
            ("a white lighthouse on the left, the sea at sunset".into(), 420),
            ("an old castle in the middle, mountains by night".into(), 421),
        ],
        negative: String::new(),
        options: short,
        size: size(64.0 / 48.0),
        t,
        transfer: LB_TRANSFER_SRGB,
        fit: LB_FIT_CROP,
        filter: LB_FILTER_BICUBIC,
        pixel_aspect: 1.0,
        more: More::default(),
    }
}

pub fn size(aspect: f64) -> [u32; 2] {
    working_size(NATIVE, aspect).unwrap().map(|side| side as u32)
}

pub fn create(host: &Host, context: &str, more: &[(&str, Value)]) -> Box<Effect> {
    let mut values =
        vec![("modelPath", Value::text(&tiny())), ("preset", Value::I(0)), ("steps", Value::I(3))];
    values.extend_from_slice(more);
    host.create(context, &values)
}

/// Renders `window` of an image of `shape`, and compares: the window is the wanted frame within `picture`, and
/// nothing else was written.
pub fn check(
    host: &Host,
    effect: &Effect,
    (shape, window, picture): (&Shape, [i32; 4], [i32; 4]),
    (time, more): (f64, &[(&str, Value)]),
    wanted: &Wanted,
) {
    let image = Image::new(shape);
    effect.target(&image);
    assert_eq!(host.render(effect, time, window, more), OK, "{}", effect.message());
    assert_eq!(effect.images_held(), 0, "an image was not released");
    assert!(image.guards_are_whole(), "bytes beside the pixels were written: {shape:?}");
    let b = shape.bounds;
    let seen = [window[0].max(b[0]), window[1].max(b[1]), window[2].min(b[2]), window[3].min(b[3])];
    let frame = engine().frame(wanted, shape, picture, seen);
    assert!(frame.iter().any(|&byte| byte != frame[0]), "a picture of nothing");
    let row = (seen[2] - seen[0]) as usize * shape.pixel_bytes();
    for y in b[1]..b[3] {
        let at = format!("{shape:?}, window {window:?}, row {y}");
        if !(seen[1]..seen[3]).contains(&y) {
            assert!(image.row(y, b[0], b[2]).iter().all(|&byte| byte == UNTOUCHED), "{at}");
            continue;
        }
        let line = (seen[3] - 1 - y) as usize;
        assert!(
            image.row(y, seen[0], seen[2]) == frame[line * row..][..row],
            "{at}: another picture"
        );
        assert!(image.row(y, b[0], seen[0]).iter().all(|&byte| byte == UNTOUCHED), "{at}");
        assert!(image.row(y, seen[2], b[2]).iter().all(|&byte| byte == UNTOUCHED), "{at}");
    }
}

/// A picture with something in it, for a plate: its values at x, y, alpha among them. Another for each `seed`.
pub fn scene(x: i32, y: i32, seed: i32) -> [f32; 4] {
    let code = |factor: i32| ((x * factor + y * (3 + seed) + seed * 31) & 127) as f32 / 255.0 + 0.2;
    [code(1), code(2), code(3), if x < 6 { 0.5 } else { 1.0 }]
}
