//! In: two frames or latents. Out: how different they look: [`Distance`].
//!
//! The built-in distances need no weights. They are compared in bands, from fine to coarse, and each value
//! is divided by what the picture has around it: a change that is lost in texture counts for less than the
//! same change on a plain (after the normalised Laplacian pyramid of Laparra et al. 2016). Only sums,
//! products, quotients and roots are used, in one order: a distance is the same on every machine.

use crate::diffusion::Latent;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::net::{Lpips, LpipsFeatures};
use std::sync::Arc;

/// How the difference of two moments of a transition is measured.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Distance {
    /// Between frames, reduced to [`Distance::SIDE`] pixels at most: the mean over all bands of the root
    /// mean square difference. A metric, and proportional to small changes.
    #[default]
    Frames,
    /// The same between latents: nothing is decoded, so it costs next to nothing beside the branches.
    Latents,
    /// The root of LPIPS (Zhang et al. 2018) between frames, reduced to [`Distance::LPIPS_SIDE`] pixels at
    /// most: LPIPS is a squared distance, and its root proportional to small changes.
    Lpips(Arc<Lpips>),
}

impl std::fmt::Debug for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a picture is compared by.
pub(super) enum Features {
    /// Values of each band.
    Bands(Vec<Vec<f32>>),
    Lpips(LpipsFeatures),
}

/// Values below which a band of a frame (0 to 1), or of a latent (deviation 1), is not much of a texture.
const FRAME_FLOOR: f32 = 0.1;
const LATENT_FLOOR: f32 = 1.0;

impl Distance {
    /// Frames are reduced to this many pixels along their longer side before their bands are compared.
    pub const SIDE: usize = 64;
    /// The same for LPIPS.
    pub const LPIPS_SIDE: usize = 128;

    /// Its name: "frames", "latents" or "lpips".
    pub fn name(&self) -> &'static str {
        match self {
            Distance::Frames => "frames",
            Distance::Latents => "latents",
            Distance::Lpips(_) => "lpips",
        }
    }

    /// Whether latents have to be decoded for it.
    pub(super) fn of_frames(&self) -> bool {
        !matches!(self, Distance::Latents)
    }

    /// The distance of two frames.
    ///
    /// # Errors
    /// `InvalidArgument` where their sizes differ, for [`Distance::Latents`], and for frames too small for
    /// LPIPS.
    pub fn between(&self, p: &Frame, q: &Frame) -> Result<f64> {
        self.of(&self.frame(p)?, &self.frame(q)?)
    }

    /// The distance of two latents, by their bands.
    ///
    /// # Errors
    /// `InvalidArgument` where their shapes differ.
    pub fn between_latents(p: &Latent, q: &Latent) -> Result<f64> {
        Distance::Latents.of(&Distance::latent(p), &Distance::latent(q))
    }

    /// What a frame is compared by.
    pub(super) fn frame(&self, frame: &Frame) -> Result<Features> {
        match self {
            Distance::Frames => {
                let planes = Planes::of_frame(frame, Distance::SIDE).opponent();
                Ok(Features::Bands(planes.bands(FRAME_FLOOR)))
            }
            Distance::Latents => Err(Error::invalid("the distance of latents was asked of frames")),
            Distance::Lpips(lpips) => {
                let Planes { height, width, data, .. } =
                    Planes::of_frame(frame, Distance::LPIPS_SIDE);
                Ok(Features::Lpips(lpips.features(&data, height, width)?))
            }
        }
    }

    /// What a latent is compared by.
    pub(super) fn latent(latent: &Latent) -> Features {
        let [count, height, width] = latent.shape();
        let data = latent.data().to_vec();
        Features::Bands(Planes { count, height, width, data }.bands(LATENT_FLOOR))
    }

    /// The distance by features that this distance has made.
    pub(super) fn of(&self, p: &Features, q: &Features) -> Result<f64> {
        match (self, p, q) {
            (_, Features::Bands(p), Features::Bands(q)) => {
                if p.iter().map(Vec::len).ne(q.iter().map(Vec::len)) {
                    return Err(Error::invalid("pictures of different sizes have no distance"));
                }
                let sum: f64 = p.iter().zip(q).map(|(p, q)| root_mean_square(p, q)).sum();
                Ok(sum / p.len().max(1) as f64)
            }
            (Distance::Lpips(lpips), Features::Lpips(p), Features::Lpips(q)) => {
                Ok(lpips.between(p, q)?.max(0.0).sqrt())
            }
            _ => Err(Error::internal("features of another distance")),
        }
    }
}

fn root_mean_square(p: &[f32], q: &[f32]) -> f64 {
    let pairs = p.iter().zip(q).map(|(p, q)| f64::from(*p) - f64::from(*q));
    (pairs.map(|d| d * d).sum::<f64>() / p.len().max(1) as f64).sqrt()
}

/// Pictures of one value a pixel.
struct Planes {
    count: usize,
    height: usize,
    width: usize,
    data: Vec<f32>,
}

impl Planes {
    /// Red, green and blue, 0 to 1, each pixel the mean over the area that it stands for.
    fn of_frame(frame: &Frame, most: usize) -> Self {
        let (width, height) = (frame.width(), frame.height());
        let longest = width.max(height);
        let reduced = |length: usize| match longest > most {
            true => ((length * most + longest / 2) / longest).max(1),
            false => length,
        };
        let (columns, rows) = (areas(width, reduced(width)), areas(height, reduced(height)));
        let value = |x: usize, y: usize, c: usize| {
            let v = f64::from(frame.rgb()[(y * width + x) * 3 + c]);
            if v > 0.0 { v.min(1.0) } else { 0.0 }
        };
        let mut data = Vec::with_capacity(3 * rows.len() * columns.len());
        let mut lines = vec![0.0; columns.len() * height];
        for c in 0..3 {
            for y in 0..height {
                for (column, area) in columns.iter().enumerate() {
                    let sum: f64 = area.iter().map(|&(x, share)| share * value(x, y, c)).sum();
                    lines[y * columns.len() + column] = sum;
                }
            }
            for area in &rows {
                for column in 0..columns.len() {
                    let line =
                        |&(y, share): &(usize, f64)| share * lines[y * columns.len() + column];
                    data.push(area.iter().map(line).sum::<f64>() as f32);
                }
            }
        }
        Planes { count: 3, height: rows.len(), width: columns.len(), data }
    }

    /// Lightness, red against green, and yellow against blue, these two at half weight, as eyes do.
    fn opponent(mut self) -> Self {
        let size = self.height * self.width;
        for pixel in 0..size {
            let [r, g, b] = [0, 1, 2].map(|c| self.data[c * size + pixel]);
            self.data[pixel] = 0.3 * r + 0.59 * g + 0.11 * b;
            self.data[size + pixel] = 0.5 * (r - g);
            self.data[2 * size + pixel] = 0.5 * (0.5 * (r + g) - b);
        }
        self
    }

    /// The bands of a pyramid, fine to coarse, each value b divided by floor + the mean of |b| around it;
    /// the last is what is left, divided by twice the floor.
    fn bands(mut self, floor: f32) -> Vec<Vec<f32>> {
        const SMALLEST: usize = 4;
        let mut bands = Vec::new();
        while self.height.min(self.width) >= 2 * SMALLEST {
            let low = self.blurred();
            let band: Vec<f32> = self.data.iter().zip(&low.data).map(|(v, l)| v - l).collect();
            let amplitude = Planes { data: band.iter().map(|b| b.abs()).collect(), ..self };
            let around = amplitude.blurred();
            bands.push(band.iter().zip(&around.data).map(|(b, a)| b / (floor + a)).collect());
            self = low.halved();
        }
        bands.push(self.data.iter().map(|v| v / (2.0 * floor)).collect());
        bands
    }

    /// Convolved with (1, 4, 6, 4, 1) / 16 along both axes (Burt & Adelson 1983), edges repeated.
    fn blurred(&self) -> Planes {
        const TAPS: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
        let (height, width) = (self.height, self.width);
        let along = |data: &[f32], step: usize, length: usize, pixel: usize, at: usize| {
            let base = pixel - at * step;
            let tap = |(k, weight): (usize, &f32)| {
                let neighbour = (at + k).saturating_sub(2).min(length - 1);
                weight * data[base + neighbour * step]
            };
            TAPS.iter().enumerate().map(tap).sum::<f32>()
        };
        let pixels = 0..self.data.len();
        let across: Vec<f32> =
            pixels.clone().map(|p| along(&self.data, 1, width, p, p % width)).collect();
        let down = pixels.map(|p| along(&across, width, height, p, p / width % height)).collect();
        Planes { data: down, ..*self }
    }

    /// Every other pixel of every other row.
    fn halved(&self) -> Planes {
        let (height, width) = (self.height.div_ceil(2), self.width.div_ceil(2));
        let mut data = Vec::with_capacity(self.count * height * width);
        for plane in self.data.chunks(self.height * self.width) {
            for row in plane.chunks(self.width).step_by(2) {
                data.extend(row.iter().step_by(2));
            }
        }
        Planes { count: self.count, height, width, data }
    }
}

/// For each of `count` equal parts of a line of `length` pixels, the pixels under it and their shares.
fn areas(length: usize, count: usize) -> Vec<Vec<(usize, f64)>> {
    let size = length as f64 / count as f64;
    (0..count)
        .map(|part| {
            let (start, end) = (part as f64 * size, (part + 1) as f64 * size);
            let last = (end.ceil() as usize).min(length);
            let share = |pixel: usize| {
                let covered = end.min((pixel + 1) as f64) - start.max(pixel as f64);
                (pixel, covered.max(0.0) / size)
            };
            (start as usize..last).map(share).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Frame {
        let pixels = (0..width * height).map(|p| value(p % width, p / width));
        Frame::new(width, height, pixels.flat_map(|v| [v, v * 0.5, 1.0 - v]).collect()).unwrap()
    }

    #[test]
    fn it_is_a_metric_and_proportional_to_small_changes() {
        let wave = |phase: f32| {
            frame(96, 72, |x, y| 0.5 + 0.4 * ((x as f32 * 0.2 + y as f32 * 0.1 + phase).sin()))
        };
        let between = |a: f32, b: f32| Distance::Frames.between(&wave(a), &wave(b)).unwrap();
        assert_eq!(between(0.4, 0.4), 0.0);
        assert_eq!(between(0.0, 0.7), between(0.7, 0.0));
        assert!(between(0.0, 1.0) <= between(0.0, 0.5) + between(0.5, 1.0));
        let ratio = between(0.0, 0.02) / between(0.0, 0.01);
        assert!((ratio - 2.0).abs() < 0.02, "{ratio}");
        assert!(between(0.0, 0.01) > 1e-4);
    }

    #[test]
    fn a_change_on_a_plain_counts_for_more_than_in_texture() {
        // A small one, which does not hide itself.
        let spot = |texture: f32, change: f32| {
            frame(64, 64, |x, y| {
                let noise = ((x * 7919 + y * 104_729) % 97) as f32 / 97.0 - 0.5;
                let here = (28..36).contains(&x) && (28..36).contains(&y);
                0.5 + texture * noise + if here && (x + y) % 2 == 0 { change } else { 0.0 }
            })
        };
        let between =
            |texture| Distance::Frames.between(&spot(texture, 0.0), &spot(texture, 0.01)).unwrap();
        assert!(between(0.0) > 1.5 * between(0.8), "{} {}", between(0.0), between(0.8));
    }

    #[test]
    fn areas_cover_the_line_once() {
        for (length, count) in [(10, 10), (10, 3), (7, 2), (100, 64)] {
            let areas = areas(length, count);
            assert_eq!(areas.len(), count);
            for area in &areas {
                assert!((area.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let (small, large) = (frame(16, 16, |_, _| 0.5), frame(32, 16, |_, _| 0.5));
        let error = Distance::Frames.between(&small, &large).unwrap_err();
        assert_eq!(error.message(), "pictures of different sizes have no distance");
        // One pixel, and values that are none, are pictures, too.
        let odd = Frame::new(1, 1, vec![f32::NAN, f32::INFINITY, -1.0]).unwrap();
        assert_eq!(Distance::Frames.between(&odd, &odd).unwrap(), 0.0);
    }
}
