//! A node that repaints the middle of its Source, and what the C API is told of the same.

use super::compare::{create, scene, wanted};
use super::effect::{Effect, Image, Shape};
use super::engine::{More, Still, Wanted};
use super::props::Value;
use super::{Host, OK};
use latentblend::capi::*;

pub const ALPHA: &str = "OfxImageComponentAlpha";

/// Whether the middle of a picture of 64x48 is masked at x, y.
pub fn inside(x: i32, y: i32) -> bool {
    (16..48).contains(&x) && (12..36).contains(&y)
}

pub fn picture(shape: &Shape, seed: i32) -> Box<Image> {
    let image = Image::new(shape);
    image.paint(|x, y| scene(x, y, seed));
    image
}

/// A mask image of one channel: 1 in the middle.
pub fn mask_image(shape: &Shape) -> Box<Image> {
    let image = Image::new(&Shape { components: ALPHA, ..shape.clone() });
    image.paint(|x, y| [f32::from(u8::from(inside(x, y))); 4]);
    image
}

/// What the C API is told of a mask: floats, top row first.
pub fn mask(shape: &Shape, value: impl Fn(i32, i32) -> f32) -> Still {
    let [x1, y1, x2, y2] = shape.bounds;
    let values = (y1..y2).rev().flat_map(|y| (x1..x2).map(move |x| (x, y)));
    let bytes: Vec<u8> = values.flat_map(|(x, y)| value(x, y).to_ne_bytes()).collect();
    let size = [shape.width() as u32, shape.height() as u32];
    Still { bytes: bytes.into(), size, format: LB_FORMAT_A_F32, transfer: LB_TRANSFER_SRGB }
}

pub fn middle(shape: &Shape) -> Still {
    mask(shape, |x, y| f32::from(u8::from(inside(x, y))))
}

/// The frame of a source and a mask, which lie on the output's pixels.
pub fn repainted(t: f64, source: Still, mask: Still) -> Wanted {
    let more = More { repainted: Some((source, mask)), ..More::default() };
    Wanted { fit: LB_FIT_STRETCH, more, ..wanted(t) }
}

pub fn node(host: &Host, context: &str, more: &[(&str, Value)]) -> Box<Effect> {
    let mut values = vec![("inpaint", Value::I(1)), ("hold", Value::I(0))];
    values.extend_from_slice(more);
    create(host, context, &values)
}

/// Renders all of an image.
pub fn rendered(host: &Host, effect: &Effect, shape: &Shape, time: f64) -> Box<Image> {
    let image = Image::new(shape);
    effect.target(&image);
    assert_eq!(host.render(effect, time, shape.bounds, &[]), OK, "{}", effect.message());
    assert_eq!(effect.images_held(), 0, "an image was not released");
    image
}

/// Asserts that `got` is `source` wherever `kept` says.
pub fn assert_kept(got: &Image, source: &Image, kept: impl Fn(i32, i32) -> bool) {
    let [x1, y1, x2, y2] = got.shape.bounds;
    let mut changed = 0;
    for (x, y) in (y1..y2).flat_map(|y| (x1..x2).map(move |x| (x, y))) {
        let same = got.row(y, x, x + 1) == source.row(y, x, x + 1);
        assert!(same || !kept(x, y), "{x}, {y} isn't the source's");
        changed += usize::from(!same);
    }
    assert!(changed > 50, "nothing was repainted");
}
