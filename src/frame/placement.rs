//! In: where a picture lies among a target's pixels, and which of them are asked for. Out: for each of
//! these the place in the frame that it shows. Also: the size at which a model works for a shape.
//!
//! Pure arithmetic on absolute pixel numbers, so a picture is the same whether it is asked for at once or
//! in tiles, and a proxy shows the same picture as the full size. Knows nothing of memory or colour.

use std::ops::Range;

use super::filter::{Filter, Taps};
use crate::error::{Error, Result};

/// How a picture fills bounds of another shape.
///
/// The numbers are those of the C API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Fit {
    /// Fills the bounds and loses what lies beyond them, alike on both sides.
    #[default]
    Crop = 0,
    /// Shows all of the picture between bars of opaque black, alike on both sides.
    Letterbox = 1,
    /// Fills the bounds with all of the picture; circles become ellipses.
    Stretch = 2,
}

impl Fit {
    /// Every fit.
    pub const ALL: [Fit; 3] = [Fit::Crop, Fit::Letterbox, Fit::Stretch];
}

impl TryFrom<u32> for Fit {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Fit::ALL.into_iter().find(|&f| f as u32 == number).ok_or_else(|| {
            Error::invalid(format!(
                "fit {number} is not known; wanted 0 (crop), 1 (letterbox) or 2 (stretch)"
            ))
        })
    }
}

/// Where a picture lies among the pixels of a target, and which part of them an image holds.
///
/// Rectangles are x1, y1, x2, y2 in pixels of the target, x2 and y2 being the first beyond; their origin is
/// anywhere, and y grows *downwards*, whichever way the image is stored. A target whose y grows upwards
/// (OpenFX) goes through [`from_y_up`](Self::from_y_up).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// The whole picture; may be far larger than the window. Each within -2^30..=2^30.
    pub bounds: [i32; 4],
    /// The pixels that the image holds, as many as its width and height. Those outside of the bounds
    /// belong to no picture: black, and transparent where there is an alpha channel.
    pub window: [i32; 4],
    /// How the picture fills the bounds.
    pub fit: Fit,
    /// How it is resampled.
    pub filter: Filter,
    /// Width over height of a pixel of the target as it is shown (2 for anamorphic film), 0.01..=100; those
    /// of a frame are square. Where a proxy is scaled by x and y differently, the target's own times y / x.
    pub pixel_aspect: f64,
}

/// The farthest coordinate of a rectangle: differences of two stay exact in any arithmetic.
const FARTHEST: i32 = 1 << 30;

impl Placement {
    /// A picture that fills `width` x `height` square pixels, all of which are asked for.
    pub fn whole(width: i32, height: i32) -> Self {
        let all = [0, 0, width, height];
        Placement {
            bounds: all,
            window: all,
            fit: Fit::default(),
            filter: Filter::default(),
            pixel_aspect: 1.0,
        }
    }

    /// The same placement from rectangles whose y grows upwards, y2 being the first above.
    pub fn from_y_up(self) -> Self {
        let flip = |[x1, y1, x2, y2]: [i32; 4]| [x1, y2.saturating_neg(), x2, y1.saturating_neg()];
        Placement { bounds: flip(self.bounds), window: flip(self.window), ..self }
    }

    /// Width over height of the bounds as they are shown: what [`working_size`] wants.
    ///
    /// # Errors
    /// `InvalidArgument` where the placement cannot be.
    pub fn shape_aspect(&self) -> Result<f64> {
        self.check()?;
        let [width, height] = self.extent();
        Ok(width * self.pixel_aspect / height)
    }

    /// Width and height of the bounds, in pixels.
    fn extent(&self) -> [f64; 2] {
        let [x1, y1, x2, y2] = self.bounds.map(f64::from);
        [x2 - x1, y2 - y1]
    }

    fn check(&self) -> Result<()> {
        for (name, rectangle) in [("bounds", self.bounds), ("window", self.window)] {
            let [x1, y1, x2, y2] = rectangle;
            if x2 <= x1 || y2 <= y1 {
                return Err(Error::invalid(format!(
                    "{name} {rectangle:?}: empty; wanted x1, y1, x2, y2 with x1 < x2 and y1 < y2"
                )));
            }
            if rectangle.iter().any(|c| !(-FARTHEST..=FARTHEST).contains(c)) {
                return Err(Error::invalid(format!("{name} {rectangle:?}: beyond +-{FARTHEST}")));
            }
        }
        if !(0.01..=100.0).contains(&self.pixel_aspect) {
            return Err(Error::invalid(format!(
                "pixel aspect {} is not within 0.01..=100",
                self.pixel_aspect
            )));
        }
        Ok(())
    }

    /// Fails where no frame could be laid into an image of `image` = (width, height).
    pub(crate) fn fits(&self, image: [usize; 2]) -> Result<()> {
        self.check()?;
        let [x1, y1, x2, y2] = self.window.map(i64::from);
        // Positive, as checked.
        let window = [(x2 - x1) as usize, (y2 - y1) as usize];
        if window != image {
            return Err(Error::invalid(format!(
                "the window {:?} has {}x{} pixels, the image {}x{}",
                self.window, window[0], window[1], image[0], image[1]
            )));
        }
        Ok(())
    }

    /// Lays a frame of `frame` = (width, height) into an image of `image` = (width, height).
    pub(super) fn lay(&self, frame: [usize; 2], image: [usize; 2]) -> Result<Laid> {
        let [width, height] = frame;
        self.lay_part(frame, [0, 0, width, height], frame, image)
    }

    /// Lays a picture of `picture` = (width, height) into an image of `image` = (width, height), of which
    /// a frame of `frame` = (width, height) shows `part`: x1, y1, x2, y2 in the picture's pixels.
    pub(super) fn lay_part(
        &self,
        picture: [usize; 2],
        part: [usize; 4],
        frame: [usize; 2],
        image: [usize; 2],
    ) -> Result<Laid> {
        self.fits(image)?;
        // Pixels of the picture per pixel of the target, so that both directions scale alike as shown.
        let [width, height] = self.extent();
        let fills = [picture[0] as f64 / width, picture[1] as f64 / height];
        let [across, down] = [fills[0] / self.pixel_aspect, fills[1]];
        let steps = match self.fit {
            Fit::Crop => [across.min(down) * self.pixel_aspect, across.min(down)],
            Fit::Letterbox => [across.max(down) * self.pixel_aspect, across.max(down)],
            Fit::Stretch => fills,
        };
        let axis = |i: usize| {
            let bounds = [i64::from(self.bounds[i]), i64::from(self.bounds[i + 2])];
            let window = [i64::from(self.window[i]), i64::from(self.window[i + 2])];
            let scale = frame[i] as f64 / (part[i + 2] - part[i]) as f64;
            let shown = Part { length: frame[i], first: part[i] as f64, scale };
            Axis::new(self.filter, picture[i], steps[i], bounds, window, shown)
        };
        Ok(Laid { columns: axis(0), rows: axis(1) })
    }
}

/// What a frame shows along one axis of a picture.
struct Part {
    /// Pixels of the frame.
    length: usize,
    /// Where it begins, in the picture's pixels.
    first: f64,
    /// Pixels of the frame per pixel of the picture.
    scale: f64,
}

impl Placement {
    /// Where the image's first pixel lies in a picture of `picture` = (width, height), x and y, if each
    /// pixel of the image within the bounds is one of the picture.
    pub(super) fn aligned(&self, picture: [usize; 2]) -> Option<[i64; 2]> {
        let [x1, y1, x2, y2] = self.bounds.map(i64::from);
        let same = [x2 - x1, y2 - y1] == picture.map(|side| side as i64);
        (same && self.pixel_aspect == 1.0)
            .then(|| [i64::from(self.window[0]) - x1, i64::from(self.window[1]) - y1])
    }
}

/// A placement as numbers, for a device that resamples by itself.
pub(crate) struct Tables {
    /// The image's columns and rows within the bounds, each the first and the first beyond.
    pub(crate) inside: [Range<usize>; 2],
    /// For each column within the bounds its first pixel in the frame, and where its weights begin; once more where
    /// they end; the same for each row; the rows' weights, the columns' weights, as bits.
    pub(crate) words: Vec<u32>,
    /// Where the last three of them begin.
    pub(crate) places: [usize; 3],
}

impl Placement {
    /// Lays a frame of `frame` = (width, height) into an image of `image` = (width, height).
    ///
    /// # Errors
    /// `InvalidArgument` where the placement cannot be.
    pub(crate) fn tables(&self, frame: [usize; 2], image: [usize; 2]) -> Result<Tables> {
        let Laid { columns, rows } = self.lay(frame, image)?;
        let mut words = Vec::new();
        let (starts, across) = columns.taps.table();
        words.extend(starts);
        let row_starts = words.len();
        let (starts, down) = rows.taps.table();
        words.extend(starts);
        let row_weights = words.len();
        words.extend(down.iter().map(|weight| weight.to_bits()));
        let column_weights = words.len();
        words.extend(across.iter().map(|weight| weight.to_bits()));
        let places = [row_starts, row_weights, column_weights];
        Ok(Tables { inside: [columns.inside.clone(), rows.inside.clone()], words, places })
    }
}

/// A placement worked out for one frame and one image.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) columns: Axis,
    pub(super) rows: Axis,
}

/// One axis of it.
#[derive(Debug)]
pub(super) struct Axis {
    /// The pixels of the image that lie within the bounds; the others belong to no picture.
    pub(super) inside: Range<usize>,
    /// The taps of those pixels. Bars have none.
    pub(super) taps: Taps,
}

impl Axis {
    /// A picture of `length` pixels, centred in `bounds`, `step` of them per pixel, as seen in `window`,
    /// and the taps of a frame that shows a part of it.
    fn new(
        filter: Filter,
        length: usize,
        step: f64,
        bounds: [i64; 2],
        window: [i64; 2],
        part: Part,
    ) -> Axis {
        let seen = [bounds[0].max(window[0]), bounds[1].min(window[1])];
        let inside = if seen[0] < seen[1] {
            // Within the window, whose length is an image's.
            (seen[0] - window[0]) as usize..(seen[1] - window[0]) as usize
        } else {
            0..0
        };
        let middle = (bounds[1] - bounds[0]) as f64 / 2.0;
        let half = length as f64 / step / 2.0;
        let places = (window[0]..).skip(inside.start).take(inside.len()).map(|pixel| {
            let centre = (pixel - bounds[0]) as f64 + 0.5 - middle;
            let place = length as f64 / 2.0 + centre * step;
            ((place - part.first) * part.scale, coverage(filter, centre, half))
        });
        Axis { taps: Taps::new(filter, part.length, step * part.scale, places), inside }
    }
}

/// How much of the pixel around `centre` lies within `half` of the middle: 0..=1, so that the edge of a
/// letterbox lies where it lies, between pixels. Pixels of the nearest filter are whole.
fn coverage(filter: Filter, centre: f64, half: f64) -> f64 {
    let covered = (centre + 0.5).min(half) - (centre - 0.5).max(-half);
    // What is whole but for rounding is whole.
    const SLACK: f64 = 1e-6;
    match filter {
        Filter::Nearest => f64::from(u8::from(covered >= 0.5 - SLACK)),
        _ if covered < SLACK => 0.0,
        _ if covered > 1.0 - SLACK => 1.0,
        _ => covered,
    }
}

/// The size at which a model works for a picture of `shape_aspect` (width over height as shown, pixel
/// aspect included): its `native` area (width, height) at that shape, each side a multiple of 64, or of 16
/// for models below 512 pixels, or of 8 below 128: an eighth of the native side is as fine as needed.
///
/// Of the four sizes around, the one with the least error in shape (counted twice, for it is cropped) and
/// area. Shapes beyond 4:1 are worked at 4:1, since pictures of a diffusion model fall apart beyond;
/// placement crops or fills the rest.
///
/// # Errors
/// `InvalidArgument` where `shape_aspect` is not a positive number, or the native size has no area.
pub fn working_size(native: [usize; 2], shape_aspect: f64) -> Result<[usize; 2]> {
    working_size_in(1, native, shape_aspect)
}

/// The same, each side a multiple of `multiple` as well, which a model demands.
pub(crate) fn working_size_in(
    multiple: usize,
    native: [usize; 2],
    shape_aspect: f64,
) -> Result<[usize; 2]> {
    if !(shape_aspect > 0.0 && shape_aspect.is_finite()) {
        return Err(Error::invalid(format!(
            "shape aspect {shape_aspect} is not a positive number"
        )));
    }
    let [width, height] = native;
    let shorter = width.min(height);
    if shorter == 0 || width.max(height) > super::image::LONGEST_SIDE {
        return Err(Error::invalid(format!("a native size of {width}x{height} cannot be")));
    }
    if !(1..=super::image::LONGEST_SIDE).contains(&multiple) {
        return Err(Error::invalid(format!("sizes in multiples of {multiple} cannot be")));
    }
    const WIDEST: f64 = 4.0;
    let aspect = shape_aspect.clamp(1.0 / WIDEST, WIDEST);
    let area = width as f64 * height as f64;
    let step = match shorter {
        512.. => 64_usize,
        128.. => 16,
        _ => 8,
    };
    let step = step.next_multiple_of(multiple);
    let around = |side: f64| {
        let below = ((side / step as f64) as usize).max(1) * step;
        [below, below + step]
    };
    // How many times too large or too small.
    let off = |got: f64, wanted: f64| (got / wanted).max(wanted / got);
    let error = |[w, h]: [usize; 2]| {
        let (w, h) = (w as f64, h as f64);
        let shape = off(w / h, aspect);
        shape * shape * off(w * h, area)
    };
    let [[w1, w2], [h1, h2]] = [around((area * aspect).sqrt()), around((area / aspect).sqrt())];
    let mut best = [w1, h1];
    for size in [[w1, h2], [w2, h1], [w2, h2]] {
        // Equal but for rounding goes to the smaller, so that a shape and its transpose agree.
        if error(size) < error(best) * (1.0 - 1e-9) {
            best = size;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_shape_gives_the_native_size() {
        for native in [[512, 512], [768, 768], [128, 128], [64, 64], [16, 16], [768, 512]] {
            let aspect = native[0] as f64 / native[1] as f64;
            assert_eq!(working_size(native, aspect).unwrap(), native);
        }
    }

    #[test]
    fn working_sizes_keep_area_and_shape() {
        assert_eq!(working_size([512, 512], 16.0 / 9.0).unwrap(), [704, 384]);
        assert_eq!(working_size([768, 768], 16.0 / 9.0).unwrap(), [1024, 576]);
        assert_eq!(working_size([128, 128], 16.0 / 9.0).unwrap(), [176, 96]);
        for native in [512, 768, 128, 64] {
            for tenths in 3..=40 {
                let aspect = f64::from(tenths) / 10.0;
                let [w, h] = working_size([native, native], aspect).unwrap();
                let step = if native >= 512 {
                    64
                } else if native >= 128 {
                    16
                } else {
                    8
                };
                assert!(w % step == 0 && h % step == 0, "{native} {aspect}: {w}x{h}");
                let area = (w * h) as f64 / (native * native) as f64;
                let shape = w as f64 / h as f64 / aspect;
                assert!((0.8..1.25).contains(&area), "{native} {aspect}: {w}x{h}");
                assert!((0.8..1.25).contains(&shape), "{native} {aspect}: {w}x{h}");
                assert_eq!(working_size([native, native], 1.0 / aspect).unwrap(), [h, w]);
            }
        }
    }

    #[test]
    fn what_a_model_demands_goes_before_fineness() {
        for (multiple, wanted) in
            [(8, [176, 96]), (32, [160, 96]), (64, [192, 128]), (48, [192, 96])]
        {
            assert_eq!(working_size_in(multiple, [128, 128], 16.0 / 9.0).unwrap(), wanted);
        }
        for multiple in [0, usize::MAX] {
            assert!(working_size_in(multiple, [128, 128], 1.0).is_err());
        }
    }

    #[test]
    fn extreme_shapes_are_worked_at_four_to_one() {
        assert_eq!(working_size([512, 512], 1e9).unwrap(), [1024, 256]);
        assert_eq!(working_size([512, 512], 1e-9).unwrap(), [256, 1024]);
        for aspect in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(working_size([512, 512], aspect).is_err());
        }
        assert!(working_size([0, 512], 1.0).is_err());
        assert!(working_size([usize::MAX, 512], 1.0).is_err());
    }

    #[test]
    fn an_axis_is_the_same_wherever_it_is_cut() {
        let all = || Part { length: 96, first: 0.0, scale: 1.0 };
        let whole = Axis::new(Filter::Lanczos, 96, 0.37, [-40, 301], [-100, 400], all());
        assert_eq!(whole.inside, 60..401);
        for start in (-100..390).step_by(7) {
            let window = [start, start + 10];
            let part = Axis::new(Filter::Lanczos, 96, 0.37, [-40, 301], window, all());
            for (index, pixel) in part.inside.clone().enumerate() {
                let same = (start + 100) as usize + pixel - whole.inside.start;
                assert_eq!(part.taps.at(index), whole.taps.at(same));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_values() {
        let good = Placement::whole(10, 10);
        let message = |p: Placement, image| p.lay([8, 8], image).unwrap_err().message().to_owned();
        assert_eq!(
            message(good, [10, 9]),
            "the window [0, 0, 10, 10] has 10x10 pixels, the image 10x9"
        );
        let bad = Placement { bounds: [5, 0, 5, 10], ..good };
        assert!(message(bad, [10, 10]).starts_with("bounds [5, 0, 5, 10]: empty"));
        let far = Placement { bounds: [i32::MIN, 0, i32::MAX, 10], ..good };
        assert!(message(far, [10, 10]).ends_with("beyond +-1073741824"));
        for pixel_aspect in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9] {
            let bad = Placement { pixel_aspect, ..good };
            assert_eq!(
                message(bad, [10, 10]),
                format!("pixel aspect {pixel_aspect} is not within 0.01..=100")
            );
            assert!(bad.shape_aspect().is_err());
        }
        assert!(Fit::try_from(3).unwrap_err().message().starts_with("fit 3 is not known"));
    }

    #[test]
    fn upward_coordinates_are_turned() {
        let up = Placement {
            bounds: [0, 0, 1920, 1080],
            window: [10, 20, 110, 50],
            ..Placement::whole(1, 1)
        };
        let down = up.from_y_up();
        assert_eq!(down.bounds, [0, -1080, 1920, 0]);
        assert_eq!(down.window, [10, -50, 110, -20]);
        assert_eq!(down.from_y_up(), up);
        assert_eq!(down.shape_aspect().unwrap(), 16.0 / 9.0);
    }
}
