//! In: the decoder's output. Out: [`Frame`], the picture at one t, and its pixels: as bytes, or in a caller's
//! image of any format, row order, colour space and place ([`Frame::write`]).
//!
//! The other way, a caller's own picture ([`Source`]) and mask ([`Mask`]) become what a model works on, and are
//! laid under or over its frames, their own bytes where nothing was repainted.
//!
//! Knows nothing of models or latents.

mod colour;
mod composite;
mod convert;
mod filter;
mod highlight;
mod image;
mod mask;
mod membrane;
mod placement;
mod source;

pub use colour::Transfer;
pub(crate) use composite::{Composite, End, Plate, fitting, writable};
pub use filter::Filter;
pub use highlight::Highlights;
pub use image::{Format, ImageMut, ImageRef, Layout};
pub use mask::{Mask, MaskChannel};
pub(crate) use membrane::led_over;
pub use placement::{Fit, Placement, working_size};
pub(crate) use placement::{Tables, working_size_in};
pub use source::Source;

use crate::error::{Error, Result};

/// One picture: RGB, 32-bit float, interleaved, top row first, display-encoded (sRGB-like, as the
/// decoder was trained on), nominally 0..=1 but not clamped.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<f32>,
}

impl Frame {
    /// A frame from `rgb`, which holds `width * height * 3` values, top row first.
    ///
    /// # Errors
    /// `InvalidArgument` where the number of values is another one.
    pub fn new(width: usize, height: usize, rgb: Vec<f32>) -> Result<Self> {
        let wanted = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if wanted != Some(rgb.len()) || rgb.is_empty() {
            return Err(Error::invalid(format!(
                "{} values given for a frame of {width}x{height} RGB pixels",
                rgb.len()
            )));
        }
        Ok(Frame { width, height, rgb })
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values: red, green, blue, red, ..., top row first.
    pub fn rgb(&self) -> &[f32] {
        &self.rgb
    }

    /// The pixels as 8-bit RGB: clamped to 0..=1, rounded to the nearest code (half to even).
    pub fn to_rgb8(&self) -> Vec<u8> {
        self.rgb.iter().map(|&v| quantize(v, 255.0) as u8).collect()
    }

    /// The pixels as 16-bit RGB: clamped to 0..=1, rounded to the nearest code (half to even).
    pub fn to_rgb16(&self) -> Vec<u16> {
        self.rgb.iter().map(|&v| quantize(v, 65535.0) as u16).collect()
    }
}

/// The nearest code of `value` on a scale of 0..=`top`; NaN becomes 0, so that no input can
/// yield an unspecified pixel.
fn quantize(value: f32, top: f32) -> f32 {
    if value.is_nan() { 0.0 } else { (value.clamp(0.0, 1.0) * top).round_ties_even() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_round_to_the_nearest_code() {
        let rgb = vec![0.0, 1.0, 0.5, -3.0, 7.0, f32::NAN];
        let frame = Frame::new(2, 1, rgb).unwrap();
        assert_eq!(frame.to_rgb8(), [0, 255, 128, 0, 255, 0]);
        assert_eq!(frame.to_rgb16(), [0, 65535, 32768, 0, 65535, 0]);
    }

    #[test]
    fn a_frame_of_the_wrong_length_is_refused() {
        let error = Frame::new(2, 2, vec![0.0; 11]).unwrap_err();
        assert_eq!(error.message(), "11 values given for a frame of 2x2 RGB pixels");
    }
}
