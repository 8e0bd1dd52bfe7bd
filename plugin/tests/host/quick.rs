//! A small node on the tiny model, and the frame that the C API makes of the same.

use super::Host;
use super::bundle::tiny;
use super::effect::{Effect, Image, Shape};
use super::engine::{More, Wanted, engine};
use super::props::Value;
use latentblend::capi::*;

pub const GENERATOR: &str = "OfxImageEffectContextGenerator";
pub const CONTEXTS: [&str; 4] = [
    GENERATOR,
    "OfxImageEffectContextGeneral",
    "OfxImageEffectContextFilter",
    "OfxImageEffectContextTransition",
];

pub fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("modelPath", Value::text(&tiny())),
        ("preset", Value::I(0)),
        ("steps", Value::I(3)),
        ("sizeMode", Value::I(1)),
    ]
}

pub fn shape() -> Shape {
    Shape::new(24, 18)
}

pub fn short(options: &mut lb_blend_options) {
    (options.preset, options.steps) = (LB_PRESET_LOWEST, 3);
}

/// The C API's frame for `values` at a fraction.
pub fn frame(t: f64) -> Vec<u8> {
    let wanted = Wanted {
        model: Some(tiny()),
        prompts: vec![
            ("a white lighthouse on the left, the sea at sunset".into(), 420),
            ("an old castle in the middle, mountains by night".into(), 421),
        ],
        negative: String::new(),
        options: short,
        size: [0, 0],
        t,
        transfer: LB_TRANSFER_SRGB,
        fit: LB_FIT_CROP,
        filter: LB_FILTER_BICUBIC,
        pixel_aspect: 1.0,
        more: More::default(),
    };
    engine().frame(&wanted, &shape(), shape().bounds, shape().bounds)
}

/// An image's pixels, top row first.
pub fn pixels(image: &Image) -> Vec<u8> {
    let [x1, y1, x2, y2] = image.shape.bounds;
    (y1..y2).rev().flat_map(|y| image.row(y, x1, x2)).collect()
}

pub fn render(host: &Host, effect: &Effect, image: &Image) -> i32 {
    effect.target(image);
    host.render(effect, 0.0, image.shape.bounds, &[])
}
