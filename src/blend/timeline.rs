//! In: how a caller wants time to go. Out: [`Timeline`], which tells the t of any moment and of any frame's
//! number, with keyframes exactly where they belong.
//!
//! Knows nothing of pictures: what was measured on them comes in as curves.

use super::curve::Curve;
use super::easing::Easing;
use super::even::Even;
use super::timing::rounded;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How time goes within segments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Pace {
    /// [`Pace::Even`]; with the looks of 2022 and 2023, [`Pace::Linear`]. The default.
    Auto(Even),
    /// t goes as time goes.
    Linear,
    /// From leaf to leaf of the plan in equal times, as the version of 2022 spaced its frames: slower
    /// where leaves lie denser.
    Leaves,
    /// In equal times, equal change, as measured on frames.
    Even(Even),
    /// The caller's: from the share of the whole time (0 to 1) to t, which may also turn back. Segments'
    /// lengths and easings don't apply.
    Curve(Curve),
}

impl Default for Pace {
    fn default() -> Self {
        Pace::Auto(Even::default())
    }
}

/// How long a segment takes, and how it sets off and arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its share of the time, in proportion to the other segments'; above 0.
    pub length: f64,
    /// On top of the pace.
    pub easing: Easing,
}

impl Default for Segment {
    fn default() -> Self {
        Segment { length: 1.0, easing: Easing::Linear }
    }
}

/// How time goes through a transition.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Within segments.
    pub pace: Pace,
    /// One for each segment; none at all for segments of equal lengths without easing.
    pub segments: Vec<Segment>,
}

impl Timing {
    /// The segments' lengths and easings.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong number of them, and values out of their ranges.
    pub(super) fn segments_of(&self, count: usize) -> Result<Vec<Segment>> {
        const LONGEST: f64 = 1e9;
        if self.segments.is_empty() {
            return Ok(vec![Segment::default(); count]);
        }
        if self.segments.len() != count {
            return Err(Error::invalid(format!(
                "timing of {} segments: the transition has {count}",
                self.segments.len()
            )));
        }
        if let Pace::Curve(_) = self.pace {
            return Err(Error::invalid(
                "a curve from time to t, and lengths of segments: wanted one",
            ));
        }
        for segment in &self.segments {
            let length = segment.length;
            if !(length > 1.0 / LONGEST && length < LONGEST) {
                return Err(Error::invalid(format!(
                    "a segment of length {length}: wanted above 0"
                )));
            }
            segment.easing.check()?;
        }
        Ok(self.segments.clone())
    }
}

/// One segment's part of the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Span {
    /// Its length, in proportion to the others'.
    #[serde(with = "super::exact")]
    pub(super) length: f64,
    pub(super) easing: Easing,
    /// From the share of its way to the fraction; `None` where they are the same.
    pub(super) curve: Option<Curve>,
}

/// Which t each moment shows. Made by [`Session::timed`](super::Session::timed); immutable, and saved with
/// its session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    spans: Vec<Span>,
    /// From time to t, instead of spans.
    whole: Option<Curve>,
    looped: bool,
}

impl Timeline {
    /// t in proportion to time.
    pub(super) fn linear(segments: usize, looped: bool) -> Self {
        let span = Span { length: 1.0, easing: Easing::Linear, curve: None };
        Timeline { spans: vec![span; segments], whole: None, looped }
    }

    pub(super) fn of_spans(spans: Vec<Span>, looped: bool) -> Self {
        Timeline { spans, whole: None, looped }
    }

    /// The caller's curve from time to t, through a transition of `segments`.
    ///
    /// # Errors
    /// `InvalidArgument` for t outside the transition.
    pub(super) fn of_curve(curve: Curve, segments: usize, looped: bool) -> Result<Self> {
        if let Some(odd) = curve.range().iter().find(|t| !(0.0..=segments as f64).contains(*t)) {
            return Err(Error::invalid(format!("a curve to t {odd}: wanted 0 to {segments}")));
        }
        Ok(Timeline { whole: Some(curve), ..Timeline::linear(segments, looped) })
    }

    /// # Errors
    /// `InvalidArgument` where it isn't one for `segments` segments.
    pub(super) fn check(&self, segments: usize, looped: bool) -> Result<()> {
        let sound = |span: &Span| {
            let curve = span.curve.as_ref().is_none_or(|curve| {
                curve.rises() && curve.range() == [0.0, 1.0] && curve.at(0.0) == 0.0
            });
            curve && span.length > 0.0 && span.length.is_finite() && span.easing.check().is_ok()
        };
        let fits = self.spans.len() == segments && self.looped == looped;
        if !fits || !self.spans.iter().all(sound) {
            return Err(Error::invalid("a timeline that doesn't fit its transition"));
        }
        if let Some(curve) = &self.whole {
            Timeline::of_curve(curve.clone(), segments, looped)?;
        }
        Ok(())
    }

    /// The t at `time`, a share of the whole time from 0 to 1; what lies outside is held. A multiple of
    /// 2^-24, as every t.
    pub fn t(&self, time: f64) -> f64 {
        let time = if time > 0.0 { time.min(1.0) } else { 0.0 };
        if let Some(curve) = &self.whole {
            return rounded(curve.at(time));
        }
        let total: f64 = self.spans.iter().map(|span| span.length).sum();
        let place = time * total;
        let mut start = 0.0;
        for (segment, span) in self.spans.iter().enumerate() {
            let share = (place - start) / span.length;
            // Half a step of t early is this segment's end, so that sums of lengths may round.
            if share < 1.0 || segment + 1 == self.spans.len() {
                let way = span.easing.at(share);
                let fraction = span.curve.as_ref().map_or(way, |curve| curve.at(way));
                return rounded(segment as f64 + fraction);
            }
            start += span.length;
        }
        0.0
    }

    /// The t of each of `frames` frames of the whole, evenly in time. The first is that of time 0; the last
    /// is that of time 1, or, in a loop, one frame before, for the next round begins with the first. No
    /// keyframe is shown twice.
    pub fn frames(&self, frames: usize) -> Vec<f64> {
        (0..frames).map(|frame| self.frame(frame, frames)).collect()
    }

    /// The t of frame `frame` of `frames`.
    pub fn frame(&self, frame: usize, frames: usize) -> f64 {
        let last = if self.looped { frames } else { frames.saturating_sub(1) };
        self.t(frame as f64 / last.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blend::Interpolation;

    fn spans(lengths: &[f64], easing: Easing) -> Vec<Span> {
        let span = |&length: &f64| Span { length, easing: easing.clone(), curve: None };
        lengths.iter().map(span).collect()
    }

    #[test]
    fn frames_are_even_and_no_keyframe_is_doubled() {
        let line = Timeline::linear(3, false);
        assert_eq!(line.frames(4), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(line.frames(7), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(Timeline::linear(3, true).frames(6), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
        assert_eq!(line.frames(1), [0.0]);
        let many = line.frames(3001);
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((many[1000], many[2000], many[3000]), (1.0, 2.0, 3.0));
    }

    #[test]
    fn lengths_and_easing_shape_time() {
        let line = Timeline::of_spans(spans(&[1.0, 3.0], Easing::InOut), false);
        assert_eq!((line.t(0.0), line.t(0.25), line.t(1.0)), (0.0, 1.0, 2.0));
        assert_eq!(line.t(0.125), 0.5);
        assert!(line.t(0.03) < 0.06, "it sets off slowly: {}", line.t(0.03));
        // Lengths whose sums round still meet at the keyframe.
        let odd = Timeline::of_spans(spans(&[0.1, 0.2, 0.3, 0.1], Easing::Linear), false);
        for (segment, time) in [(1.0, 0.1 / 0.7), (2.0, 0.3 / 0.7), (3.0, 0.6 / 0.7)] {
            assert_eq!(odd.t(time), segment);
        }
    }

    #[test]
    fn a_curve_from_time_to_t_may_turn_back() {
        let points = [[0.0, 0.0], [0.5, 2.0], [1.0, 1.0]];
        let curve = Curve::new(&points, Interpolation::Linear).unwrap();
        let line = Timeline::of_curve(curve.clone(), 2, false).unwrap();
        assert_eq!(line.frames(5), [0.0, 1.0, 2.0, 1.5, 1.0]);
        let error = Timeline::of_curve(curve, 1, false).unwrap_err();
        assert_eq!(error.message(), "a curve to t 2: wanted 0 to 1");
    }
}
