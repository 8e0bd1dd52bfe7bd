//! In: a repainted frame, the picture it belongs to, and what of it is kept. Out: the same frame, its
//! brightness and colour led over the edge.
//!
//! A model repaints a hole in about the colours around it, never in exactly those, and its decoder shifts
//! them a little everywhere. The differences along the edge are spread over the hole as a membrane that is
//! fixed there (Laplace's equation; Perez, Gangnet & Blake 2003), so that what the model painted stays and
//! only its base shifts. Solved coarse to fine, in a fixed number of rounds and in one order.

use super::Frame;
use super::image::reserve;
use crate::error::{Error, Result};

/// Differences are averaged over this many pixels to each side: along the edge the model's texture is
/// another than the picture's, and only the base is to be led over.
const RADIUS: usize = 4;

/// Rounds of relaxation on each level; the level above has solved all that is coarser.
const ROUNDS: usize = 12;

/// Differences on one level of the pyramid.
struct Level {
    width: usize,
    height: usize,
    values: Vec<[f32; 3]>,
    /// How much of the pixel is known: 1 is fixed.
    known: Vec<f32>,
}

/// `frame` with the differences from `picture` spread from where `hole` is 0 into where it is 1.
pub(crate) fn led_over(frame: &Frame, picture: &Frame, hole: &[f32]) -> Result<Frame> {
    let (width, height) = (frame.width(), frame.height());
    if [picture.width(), picture.height()] != [width, height] || hole.len() != width * height {
        return Err(Error::internal("a frame, its picture and its mask of different sizes"));
    }
    if hole.iter().all(|&h| h != 0.0) || hole.iter().all(|&h| h == 0.0) {
        return Ok(frame.clone());
    }
    let (made, wanted) = (frame.rgb().as_chunks::<3>().0, picture.rgb().as_chunks::<3>().0);
    let mut values = reserve(made.len())?;
    values.extend(made.iter().zip(wanted).zip(hole).map(|((m, w), &hole)| match hole {
        0.0 => [w[0] - m[0], w[1] - m[1], w[2] - m[2]],
        _ => [0.0; 3],
    }));
    let mut known = reserve(made.len())?;
    known.extend(hole.iter().map(|&h| if h == 0.0 { 1.0 } else { 0.0 }));
    let mut finest = Level { width, height, values, known };
    finest.smooth()?;
    let mut levels = vec![finest];
    while let Some(last) = levels.last()
        && last.known.contains(&0.0)
    {
        let coarser = last.coarser()?;
        levels.push(coarser);
    }
    while levels.len() > 1 {
        let Some(coarse) = levels.pop() else { break };
        if let Some(fine) = levels.last_mut() {
            fine.fill(&coarse)?;
        }
    }
    let mut rgb = reserve(frame.rgb().len())?;
    let shifts = levels[0].values.iter();
    rgb.extend(made.iter().zip(shifts).flat_map(|(m, s)| [m[0] + s[0], m[1] + s[1], m[2] + s[2]]));
    Frame::new(width, height, rgb)
}

impl Level {
    /// Averages what is known over a square of 2 RADIUS + 1 pixels, along rows and then columns.
    fn smooth(&mut self) -> Result<()> {
        for across in [true, false] {
            let (length, lines) =
                if across { (self.width, self.height) } else { (self.height, self.width) };
            let at = |line: usize, i: usize| match across {
                true => line * self.width + i,
                false => i * self.width + line,
            };
            let mut smoothed = reserve(self.values.len())?;
            smoothed.resize(self.values.len(), [0f32; 3]);
            for line in 0..lines {
                for i in 0..length {
                    let (mut sum, mut count) = ([0f32; 3], 0f32);
                    for j in i.saturating_sub(RADIUS)..(i + RADIUS + 1).min(length) {
                        let place = at(line, j);
                        let weight = self.known[place];
                        for (sum, value) in sum.iter_mut().zip(self.values[place]) {
                            *sum += weight * value;
                        }
                        count += weight;
                    }
                    if self.known[at(line, i)] > 0.0 {
                        smoothed[at(line, i)] = sum.map(|s| s / count);
                    }
                }
            }
            self.values = smoothed;
        }
        Ok(())
    }

    /// Half the size, each pixel the mean of what is known of its four.
    fn coarser(&self) -> Result<Level> {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut level = Level {
            width,
            height,
            values: reserve(width * height)?,
            known: reserve(width * height)?,
        };
        for y in 0..height {
            for x in 0..width {
                let (mut sum, mut count) = ([0f32; 3], 0f32);
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (x, y) = (2 * x + dx, 2 * y + dy);
                    if x < self.width && y < self.height {
                        let place = y * self.width + x;
                        for (sum, value) in sum.iter_mut().zip(self.values[place]) {
                            *sum += self.known[place] * value;
                        }
                        count += self.known[place];
                    }
                }
                level.values.push(if count > 0.0 { sum.map(|s| s / count) } else { sum });
                level.known.push(count.min(1.0));
            }
        }
        Ok(level)
    }

    /// Takes what is not known from the level above, and relaxes it.
    fn fill(&mut self, coarse: &Level) -> Result<()> {
        for y in 0..self.height {
            for x in 0..self.width {
                let place = y * self.width + x;
                let known = self.known[place];
                if known < 1.0 {
                    let above = coarse.values[y / 2 * coarse.width + x / 2];
                    for (value, above) in self.values[place].iter_mut().zip(above) {
                        *value = known * *value + (1.0 - known) * above;
                    }
                }
            }
        }
        let mut before: Vec<[f32; 3]> = reserve(self.values.len())?;
        for _ in 0..ROUNDS {
            before.clear();
            before.extend_from_slice(&self.values);
            for y in 0..self.height {
                for x in 0..self.width {
                    let place = y * self.width + x;
                    if self.known[place] > 0.0 {
                        continue;
                    }
                    let (left, right) = (x.saturating_sub(1), (x + 1).min(self.width - 1));
                    let (up, down) = (y.saturating_sub(1), (y + 1).min(self.height - 1));
                    let four = [
                        before[y * self.width + left],
                        before[y * self.width + right],
                        before[up * self.width + x],
                        before[down * self.width + x],
                    ];
                    self.values[place] = [0, 1, 2]
                        .map(|c| (four[0][c] + four[1][c] + four[2][c] + four[3][c]) / 4.0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one value, and a hole in its middle.
    fn flat(value: f32) -> Frame {
        Frame::new(40, 24, vec![value; 40 * 24 * 3]).unwrap()
    }

    fn hole() -> Vec<f32> {
        let inside = |i: usize| (12..30).contains(&(i % 40)) && (6..18).contains(&(i / 40));
        (0..40 * 24).map(|i| f32::from(u8::from(inside(i)))).collect()
    }

    #[test]
    fn a_shift_all_along_the_edge_goes_through_the_hole() {
        let led = led_over(&flat(0.3), &flat(0.5), &hole()).unwrap();
        assert!(led.rgb().iter().all(|v| (v - 0.5).abs() < 1e-6));
    }

    #[test]
    fn shifts_are_led_across_and_what_was_painted_stays() {
        // Wanted 0.2 more on the left and 0.2 less on the right; painted: a pattern in the hole.
        let pattern = |i: usize| if (i / 3).is_multiple_of(2) { 0.1 } else { 0.0 };
        let made = (0..40 * 24 * 3).map(|i| 0.5 + pattern(i) * hole()[i / 3]).collect();
        let made = Frame::new(40, 24, made).unwrap();
        let wanted = |i: usize| if i / 3 % 40 < 20 { 0.7 } else { 0.3 };
        let wanted = Frame::new(40, 24, (0..40 * 24 * 3).map(wanted).collect()).unwrap();
        let led = led_over(&made, &wanted, &hole()).unwrap();
        let shift = |x: usize| led.rgb()[(12 * 40 + x) * 3] - made.rgb()[(12 * 40 + x) * 3];
        assert!((shift(12) - 0.2).abs() < 0.05 && (shift(29) + 0.2).abs() < 0.05);
        assert!((12..29).all(|x| shift(x + 1) <= shift(x) + 1e-3), "it falls from left to right");
        assert!((12..29).all(|x| shift(x) - shift(x + 1) < 0.08), "and without an edge");
    }

    #[test]
    fn without_an_edge_nothing_changes() {
        for hole in [vec![0.0; 40 * 24], vec![1.0; 40 * 24]] {
            assert_eq!(led_over(&flat(0.3), &flat(0.5), &hole).unwrap(), flat(0.3));
        }
    }
}
