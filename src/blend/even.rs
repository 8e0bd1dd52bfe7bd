//! In: a session. Out: how much changes along each of its segments, and a session whose time goes by that
//! ([`Session::timed`]).

use super::curve::{Curve, Interpolation};
use super::distance::{Distance, Features};
use super::plan::GuidanceDamping;
use super::session::Session;
use super::timeline::{Pace, Span, Timeline, Timing};
use crate::error::{Error, Result};
use crate::progress::Call;
use std::collections::BTreeMap;

/// How change is measured.
#[derive(Clone, Debug)]
pub struct Even {
    /// Between two moments.
    pub distance: Distance,
    /// Moments of each segment that are looked at, its keyframes included; 2 to 4097. Each costs a frame.
    pub samples: usize,
    /// Whether segments are long in proportion to what changes in them, on top of the lengths they are
    /// given.
    pub across: bool,
}

impl Default for Even {
    fn default() -> Self {
        Even { distance: Distance::Frames, samples: 33, across: false }
    }
}

impl Even {
    pub(super) fn check(&self) -> Result<()> {
        const MOST: usize = 4097;
        if !(2..=MOST).contains(&self.samples) {
            return Err(Error::invalid(format!("{} samples: wanted 2 to {MOST}", self.samples)));
        }
        Ok(())
    }
}

/// What changes along one segment.
pub(super) struct Change {
    /// (fraction, change from fraction 0 up to there), rising.
    points: Vec<[f64; 2]>,
}

/// Samples in the first round; the rest go where most changes.
const FIRST: usize = 9;
/// Frames that are rendered together.
const BATCH: usize = 8;

impl Change {
    /// Looks at a segment, first at even fractions, then in rounds at the middle of those intervals that
    /// change by more than the average, until there are `even.samples`. Distances decide, and nothing else:
    /// the same session gives the same samples, whatever its cache, threads or history.
    pub(super) fn measure(
        session: &Session,
        segment: usize,
        even: &Even,
        call: &Call<'_>,
    ) -> Result<Self> {
        even.check()?;
        // Fractions are counted on the grid of t, so that halves are exact.
        const GRID: u64 = 1 << 24;
        let mut known: BTreeMap<u64, Features> = BTreeMap::new();
        let first = FIRST.min(even.samples) as u64 - 1;
        let mut wanted: Vec<u64> = (0..=first).map(|k| k * GRID / first).collect();
        loop {
            let (done, all) = (known.len(), even.samples);
            for (part, moments) in wanted.chunks(BATCH).enumerate() {
                let share = |count: usize| (done + part * BATCH + count) as f64 / all as f64;
                let call = call.part(share(0), share(moments.len()));
                let times = moments.iter().map(|&m| segment as f64 + m as f64 / GRID as f64);
                let times: Vec<f64> = times.collect();
                let features = features(session, &times, &even.distance, &call)?;
                known.extend(moments.iter().copied().zip(features));
            }
            let gaps = gaps(&known, &even.distance)?;
            let room = even.samples - known.len();
            let average = gaps.iter().map(|gap| gap.2).sum::<f64>() / gaps.len() as f64;
            let mut large: Vec<_> =
                gaps.iter().filter(|gap| gap.2 >= average && gap.1 - gap.0 > 1).collect();
            if room == 0 || large.is_empty() || average == 0.0 {
                return Ok(Change::of(&gaps));
            }
            // The largest first; among equals the earlier. Stable, so this is one order.
            large.sort_by(|a, b| b.2.total_cmp(&a.2));
            wanted = large.iter().take(room).map(|gap| (gap.0 + gap.1) / 2).collect();
            wanted.sort_unstable();
        }
    }

    fn of(gaps: &[(u64, u64, f64)]) -> Self {
        const GRID: f64 = 16_777_216.0;
        let mut sum = 0.0;
        let ends = gaps.iter().map(|&(_, end, distance)| {
            sum += distance;
            [end as f64 / GRID, sum]
        });
        Change { points: [[0.0, 0.0]].into_iter().chain(ends).collect() }
    }

    /// All that changes.
    pub(super) fn total(&self) -> f64 {
        self.points[self.points.len() - 1][1]
    }

    /// From the share of the change to the fraction: monotone, from (0, 0) to (1, 1). `None` where nothing
    /// changes, so that any pace is even.
    pub(super) fn pace(&self) -> Result<Option<Curve>> {
        let total = self.total();
        if !(total > 0.0 && total.is_finite()) {
            return Ok(None);
        }
        // An interval without change still takes a moment: time must rise.
        let floor = total * 1e-6;
        let rises = self.points.windows(2).map(|pair| (pair[1][1] - pair[0][1]).max(floor));
        let mut sum = 0.0;
        let sums: Vec<f64> = rises
            .map(|rise| {
                sum += rise;
                sum
            })
            .collect();
        let ends = sums.iter().zip(&self.points[1..]).map(|(at, point)| [at / sum, point[0]]);
        let points: Vec<[f64; 2]> = [[0.0, 0.0]].into_iter().chain(ends).collect();
        Curve::new(&points, Interpolation::MonotoneCubic).map(Some)
    }
}

/// Each interval between known moments, and its distance.
fn gaps(known: &BTreeMap<u64, Features>, distance: &Distance) -> Result<Vec<(u64, u64, f64)>> {
    let moments: Vec<(&u64, &Features)> = known.iter().collect();
    let pairs = moments.windows(2);
    pairs.map(|pair| Ok((*pair[0].0, *pair[1].0, distance.of(pair[0].1, pair[1].1)?))).collect()
}

/// What the moments at `times` are compared by.
fn features(
    session: &Session,
    times: &[f64],
    distance: &Distance,
    call: &Call<'_>,
) -> Result<Vec<Features>> {
    match distance.of_frames() {
        true => {
            session.render_many(times, call)?.iter().map(|frame| distance.frame(frame)).collect()
        }
        false => Ok(session.latents(times, call)?.iter().map(Distance::latent).collect()),
    }
}

impl Session {
    /// This session with another timing: the same frames at the same t, which it shares with this one, cache
    /// included, under a [`Timeline`] that goes as `timing` says. For [`Pace::Even`] frames are looked at,
    /// which takes their time; what was found is kept in the timeline for good.
    ///
    /// # Errors
    /// `InvalidArgument` for timing that doesn't fit the transition, and what rendering reports.
    pub fn timed(&self, timing: &Timing, call: &Call<'_>) -> Result<Session> {
        let (count, looped) = (self.segments(), self.tree().recipe().looped);
        let recipe = self.tree().recipe();
        let compat = recipe.plan.is_nested() || recipe.damping == GuidanceDamping::Compat2022;
        let segments = timing.segments_of(count)?;
        if let Pace::Curve(curve) = &timing.pace {
            let timeline = Timeline::of_curve(curve.clone(), count, looped)?;
            return Ok(Session::around(self.tree().clone(), timeline));
        }
        let _held = self.tree().model().hold();
        let mut spans = Vec::with_capacity(count);
        let mut changes = Vec::with_capacity(count);
        for (index, segment) in segments.into_iter().enumerate() {
            let (mut length, curve) = (
                segment.length,
                match &timing.pace {
                    Pace::Linear | Pace::Curve(_) => None,
                    Pace::Auto(_) if compat => None,
                    Pace::Leaves => Some(self.leaf_pace(index)?),
                    Pace::Auto(even) | Pace::Even(even) => {
                        let share = |k: usize| k as f64 / count as f64;
                        let call = call.part(share(index), share(index + 1));
                        let change = Change::measure(self, index, even, &call)?;
                        changes.push(if even.across { change.total() } else { 1.0 });
                        change.pace()?
                    }
                },
            );
            if let Some(change) = changes.get(index) {
                length *= change;
            }
            spans.push(Span { length, easing: segment.easing, curve });
        }
        // A segment without any change keeps a moment, and a transition without any its lengths.
        let most = spans.iter().map(|span| span.length).fold(0.0, f64::max);
        if most == 0.0 {
            spans.iter_mut().for_each(|span| span.length = 1.0);
        }
        spans.iter_mut().for_each(|span| span.length = span.length.max(most * 1e-6));
        Ok(Session::around(self.tree().clone(), Timeline::of_spans(spans, looped)))
    }

    /// From leaf to leaf in equal times.
    fn leaf_pace(&self, segment: usize) -> Result<Curve> {
        let fractions = self.plan_of(segment).leaves();
        let last = (fractions.len() - 1) as f64;
        let points = fractions.iter().enumerate().map(|(k, &f)| [k as f64 / last, f]);
        Curve::new(&points.collect::<Vec<_>>(), Interpolation::Linear)
    }

    /// The change from frame to frame of `frames` frames of this session's timeline, as `distance` measures
    /// it: how even its time is. In a loop, the last is the one back to the first frame.
    ///
    /// # Errors
    /// What rendering reports.
    pub fn changes(&self, frames: usize, distance: &Distance, call: &Call<'_>) -> Result<Vec<f64>> {
        let mut times = self.timeline().frames(frames);
        if self.tree().recipe().looped {
            times.push(self.last_t());
        }
        let _held = self.tree().model().hold();
        let mut changes = Vec::with_capacity(times.len());
        let mut before: Option<Features> = None;
        let parts = times.len().div_ceil(BATCH);
        for (part, times) in times.chunks(BATCH).enumerate() {
            let share = |k: usize| k as f64 / parts as f64;
            let call = call.part(share(part), share(part + 1));
            for features in features(self, times, distance, &call)? {
                if let Some(before) = &before {
                    changes.push(distance.of(before, &features)?);
                }
                before = Some(features);
            }
        }
        Ok(changes)
    }
}
