//! In: positions along one axis of a frame. Out: [`Taps`], the pixels around each and their weights.
//!
//! Weights are made in f64 from basic operations only (the sine of Lanczos is a polynomial of our own), so
//! they are the same on every machine. Knows nothing of what an axis is an axis of.

use crate::error::{Error, Result};

/// How a frame is resampled. All but `Nearest` widen their kernel where the picture is made smaller, so
/// that nothing aliases; all of them give the frame back, bit for bit, where it is neither scaled nor moved
/// by fractions.
///
/// The numbers are those of the C API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Filter {
    /// Cubic convolution through the pixels (Keys 1981, a = -1/2; Catmull-Rom): sharp, hardly any ringing.
    #[default]
    Bicubic = 0,
    /// Windowed sinc of three lobes (Duchon 1979): sharpest, with some ringing at hard edges.
    Lanczos = 1,
    /// Straight lines between pixels: soft, never beyond the values of the frame.
    Bilinear = 2,
    /// The pixel that is nearest; for looking at pixels.
    Nearest = 3,
}

impl Filter {
    /// Every filter.
    pub const ALL: [Filter; 4] =
        [Filter::Bicubic, Filter::Lanczos, Filter::Bilinear, Filter::Nearest];

    /// How far the kernel reaches to either side, in pixels.
    fn reach(self) -> f64 {
        match self {
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
            Filter::Bilinear => 1.0,
            Filter::Nearest => 0.5,
        }
    }

    /// The weight of a pixel whose centre is `d` pixels away; not normalised, 0 from `reach` on.
    fn weight(self, d: f64) -> f64 {
        let d = d.abs();
        if d >= self.reach() {
            return 0.0;
        }
        match self {
            Filter::Bicubic if d <= 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
            Filter::Bicubic => ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0,
            Filter::Lanczos => sinc(d) * sinc(d / 3.0),
            Filter::Bilinear => 1.0 - d,
            Filter::Nearest => 1.0,
        }
    }
}

impl TryFrom<u32> for Filter {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        Filter::ALL.into_iter().find(|&f| f as u32 == number).ok_or_else(|| {
            Error::invalid(format!(
                "filter {number} is not known; wanted 0 (bicubic), 1 (Lanczos), 2 (bilinear) or 3 (nearest)"
            ))
        })
    }
}

/// sin(pi x) / (pi x).
fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { sine_of_turns(x) / (std::f64::consts::PI * x) }
}

/// sin(pi x), exactly 0 at whole numbers: the Taylor series of the part within half a turn of one.
fn sine_of_turns(x: f64) -> f64 {
    let whole = x.round_ties_even();
    let angle = std::f64::consts::PI * (x - whole);
    let square = angle * angle;
    // 1 - a^2/(2*3) (1 - a^2/(4*5) (...)); eleven terms leave less than 1e-17 at half a turn.
    let series = (1..=11).rev().fold(1.0, |sum, k| {
        let k = f64::from(2 * k);
        1.0 - square / (k * (k + 1.0)) * sum
    });
    let sign = if whole % 2.0 == 0.0 { 1.0 } else { -1.0 };
    sign * angle * series
}

/// For each pixel along one axis of a target: the pixels of the frame that it is made of.
#[derive(Debug)]
pub(super) struct Taps {
    /// For each target pixel: its first source pixel, and where its weights begin.
    starts: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

impl Taps {
    /// The taps of target pixels at `places` = (position, coverage) each on an axis of `length` pixels. A
    /// position counts from the frame's edge, pixel i reaching from i to i + 1, and is `step` further on for
    /// each target pixel; the weights of one place add up to its coverage (0..=1), 0 having none.
    pub(super) fn new(
        filter: Filter,
        length: usize,
        step: f64,
        places: impl Iterator<Item = (f64, f64)>,
    ) -> Taps {
        let mut taps = Taps { starts: Vec::new(), weights: Vec::new() };
        // A target pixel that covers many source pixels weighs them all.
        let wide = step.max(1.0);
        let reach = filter.reach() * wide;
        let last = length.saturating_sub(1);
        let mut kernel = Vec::new();
        for (position, coverage) in places {
            // The centre of a pixel at the picture's edge may lie just beyond it.
            let position = position.clamp(0.0, length as f64);
            if coverage <= 0.0 {
                taps.starts.push((0, taps.weights.len()));
                continue;
            }
            if filter == Filter::Nearest {
                // Positions are sums; one on the border of two pixels is always the second's.
                let pixel = ((position + 1e-9) as usize).min(last);
                taps.starts.push((pixel, taps.weights.len()));
                taps.weights.push(1.0);
                continue;
            }
            let first = (position - reach - 0.5).ceil().max(0.0) as usize;
            let end = ((position + reach - 0.5).floor() as usize).min(last) + 1;
            kernel.clear();
            kernel
                .extend((first..end).map(|i| filter.weight((position - (i as f64 + 0.5)) / wide)));
            let sum: f64 = kernel.iter().sum();
            taps.starts.push((first, taps.weights.len()));
            taps.weights.extend(kernel.iter().map(|w| (w / sum * coverage) as f32));
        }
        taps
    }

    /// Target pixels.
    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Target pixel `index`: its first source pixel, and the weights of that one and those after it.
    pub(super) fn at(&self, index: usize) -> (usize, &[f32]) {
        let (first, begin) = self.starts[index];
        let end = self.starts.get(index + 1).map_or(self.weights.len(), |next| next.1);
        (first, &self.weights[begin..end])
    }

    /// The first source pixel of each target pixel and where its weights begin, one after the other, and once more
    /// where they end; and all weights.
    pub(super) fn table(&self) -> (impl Iterator<Item = u32>, &[f32]) {
        let starts = self.starts.iter().copied().chain([(0, self.weights.len())]);
        let numbers = starts.flat_map(|(first, begin)| [first as u32, begin as u32]);
        (numbers, &self.weights)
    }

    /// The most source pixels that one target pixel is made of.
    pub(super) fn longest(&self) -> usize {
        (0..self.count()).map(|i| self.at(i).1.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sine_is_the_sine() {
        for step in -4000..=4000 {
            let x = f64::from(step) / 1000.0;
            let wanted = (std::f64::consts::PI * x).sin();
            assert!((sine_of_turns(x) - wanted).abs() < 2e-15, "{x}");
        }
        assert!((-4..=4).all(|n| sine_of_turns(f64::from(n)) == 0.0));
    }

    #[test]
    fn kernels_pass_through_pixels_and_end_where_they_say() {
        for filter in [Filter::Bicubic, Filter::Lanczos, Filter::Bilinear] {
            assert_eq!(filter.weight(0.0), 1.0);
            for n in 1..4 {
                assert_eq!(filter.weight(f64::from(n)), 0.0, "{filter:?}");
                assert_eq!(filter.weight(-f64::from(n)), 0.0, "{filter:?}");
            }
            assert!(filter.weight(filter.reach() - 1e-9).abs() < 1e-8, "{filter:?}");
        }
    }

    #[test]
    fn weights_add_up_to_the_coverage_and_follow_a_slope() {
        for filter in Filter::ALL {
            for (length, step) in
                [(1, 0.3), (5, 0.01), (33, 0.77), (64, 1.0), (40, 3.7), (7, 900.0)]
            {
                let places = (0..).map(|i| (f64::from(i) + 0.5) * step);
                let places: Vec<f64> = places.take_while(|&p| p <= length as f64).collect();
                let taps = Taps::new(filter, length, step, places.iter().map(|&p| (p, 1.0)));
                assert_eq!(taps.count(), places.len());
                for (index, &place) in places.iter().enumerate() {
                    let (first, weights) = taps.at(index);
                    assert!(first + weights.len() <= length && weights.len() <= taps.longest());
                    let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{filter:?} {length} {step}: {sum}");
                    // Away from the edges a straight slope stays one.
                    let reach = 3.0 * step.max(1.0) + 1.0;
                    if filter != Filter::Nearest && place > reach && place < length as f64 - reach {
                        let mean = weights
                            .iter()
                            .zip(first..)
                            .map(|(&w, i)| f64::from(w) * (i as f64 + 0.5));
                        assert!(
                            (mean.sum::<f64>() - place).abs() < 0.02 * step.max(1.0),
                            "{filter:?} {step}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_coverage_no_taps() {
        let taps =
            Taps::new(Filter::Bicubic, 8, 1.0, [(0.5, 0.0), (4.5, 0.5), (9.0, 0.0)].into_iter());
        assert!(taps.at(0).1.is_empty() && taps.at(2).1.is_empty());
        assert_eq!(taps.at(1).1.iter().sum::<f32>(), 0.5);
    }

    #[test]
    fn unknown_filters_are_refused() {
        assert_eq!(Filter::try_from(1).unwrap(), Filter::Lanczos);
        assert!(Filter::try_from(4).unwrap_err().message().starts_with("filter 4 is not known"));
    }
}
