//! In: a session. Out: one whose branches lie where its pictures change ([`Session::adapted`]).

use super::even::{Change, Even};
use super::plan::Plan;
use super::session::Session;
use super::timeline::Timeline;
use super::timing::rounded;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::progress::Call;
use std::sync::Arc;

/// How branches are placed by what they show.
#[derive(Clone, Debug)]
pub struct Adapt {
    /// How change is measured: with which distance, and on how many frames of each segment at the most.
    pub even: Even,
    /// How far branches go from where the plan has them (0) to equal shares of the change (1).
    pub strength: f64,
}

impl Default for Adapt {
    fn default() -> Self {
        Adapt { even: Even::default(), strength: 1.0 }
    }
}

impl Session {
    /// A session through the same keyframes whose branches lie denser where this one's pictures change more:
    /// each level keeps its number of branches, so that a frame costs what it did, and they part the change
    /// of the segment evenly. Measured once, on this session, and frozen into the new one's plans: the same
    /// keyframes and options give the same plans, whatever the cache, the threads and what was asked
    /// before. Keyframes are the same frames bit for bit; frames between them are others. Timing stays
    /// behind.
    ///
    /// # Errors
    /// `InvalidArgument` for a strength outside 0 to 1, and what rendering reports.
    pub fn adapted(&self, adapt: &Adapt, call: &Call<'_>) -> Result<Session> {
        if !(0.0..=1.0).contains(&adapt.strength) {
            return Err(Error::invalid(format!("strength {}: wanted 0 to 1", adapt.strength)));
        }
        let tree = self.tree();
        let _held = tree.model().hold();
        let count = self.segments();
        let mut plans = Vec::with_capacity(count);
        for segment in 0..count {
            let share = |k: usize| k as f64 / count as f64;
            let call = call.part(share(segment), share(segment + 1));
            let change = Change::measure(self, segment, &adapt.even, &call)?;
            let plan = self.plan_of(segment);
            plans.push(match change.pace()? {
                Some(pace) => placed(plan, adapt.strength, |share| pace.at(share))?,
                None => plan.clone(),
            });
        }
        let mut recipe = tree.recipe().clone();
        recipe.plans = Some(Arc::new(plans));
        let scene = tree.scene().cloned();
        let tree = Tree::new(tree.model().clone(), tree.keyframes().to_vec(), recipe, scene);
        let timeline = Timeline::linear(count, tree.recipe().looped);
        Ok(Session::around(Arc::new(tree), timeline))
    }
}

/// `plan` with the branches of each level moved towards `pace` of even shares. They stay on the grid of t,
/// and a step of it apart.
fn placed(plan: &Plan, strength: f64, pace: impl Fn(f64) -> f64) -> Result<Plan> {
    let mut levels = plan.levels().to_vec();
    if plan.is_nested() {
        // One after the other they halve gaps: of t before, of the change now. All differ from all.
        let mut all: Vec<&mut f64> = levels.iter_mut().flat_map(|l| &mut l.fractions).collect();
        all.sort_by(|a, b| a.total_cmp(b));
        let moved = all.iter().map(|fraction| [**fraction, pace(**fraction)]).collect::<Vec<_>>();
        for (fraction, moved) in all.into_iter().zip(rising(&moved, strength)) {
            *fraction = moved;
        }
        return Plan::from_nested_levels(levels);
    }
    for level in &mut levels {
        let last = (level.fractions.len() - 1) as f64;
        let even = |(index, &planned): (usize, &f64)| [planned, pace(index as f64 / last)];
        let moved: Vec<[f64; 2]> = level.fractions.iter().enumerate().map(even).collect();
        level.fractions = rising(&moved, strength);
    }
    Plan::from_levels(levels)
}

/// What lies between each pair, at `strength` of the way: from 0 to 1, on the grid of t, and a step of it apart.
fn rising(moved: &[[f64; 2]], strength: f64) -> Vec<f64> {
    const STEP: f64 = 1.0 / 16_777_216.0;
    let last = moved.len() - 1;
    let mut rising: Vec<f64> = Vec::with_capacity(moved.len());
    for (index, [planned, even]) in moved.iter().enumerate() {
        let least = rising.last().map_or(0.0, |before| before + STEP);
        let most = 1.0 - (last - index) as f64 * STEP;
        let between = rounded(planned + (even - planned) * strength);
        rising.push(if index == last { 1.0 } else { between.max(least).min(most) });
    }
    rising
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blend::Branching;

    #[test]
    fn branches_part_the_change_and_keep_their_number() {
        let branching = Branching { injections: vec![0, 6, 9], branches: vec![2, 5, 9] };
        let plan = Plan::new(12, &branching, 2.0).unwrap();
        let moved = placed(&plan, 1.0, |share| share * share).unwrap();
        assert_eq!(moved.levels()[0], plan.levels()[0]);
        assert_eq!(moved.levels()[1].fractions, [0.0, 0.0625, 0.25, 0.5625, 1.0]);
        assert_eq!(moved.branch_steps(), plan.branch_steps());
        let kept = placed(&plan, 0.0, |share| share * share).unwrap();
        let apart = |(a, b): (&f64, &f64)| (a - b).abs() <= 1.0 / 16_777_216.0;
        assert!(kept.last().fractions.iter().zip(&plan.last().fractions).all(apart));
        // Those of 2023 halve the change, and stay beside the branches that they leave from.
        let branching = Branching { injections: vec![4, 7], branches: vec![2, 3] };
        let plan = Plan::nested(12, &branching).unwrap();
        let moved = placed(&plan, 1.0, |share| share * share).unwrap();
        for (old, new) in plan.levels().iter().zip(moved.levels()) {
            let squares: Vec<f64> = old.fractions.iter().map(|f| f * f).collect();
            assert_eq!((&old.steps, &squares), (&new.steps, &new.fractions));
        }
        for (old, new) in plan.leaves().into_iter().zip(moved.leaves()) {
            assert_eq!(plan.sources(2, old).0, moved.sources(2, new).0);
        }
        // A jump: all branches want to be at one place, and still differ.
        let jump = placed(&plan, 1.0, |share| if share < 1.0 { 0.0 } else { 1.0 }).unwrap();
        assert!(jump.last().fractions.windows(2).all(|pair| pair[0] < pair[1]));
        let plan = Plan::nested(12, &Branching { injections: vec![4], branches: vec![9] }).unwrap();
        let jump = placed(&plan, 1.0, |share| if share < 1.0 { 0.0 } else { 1.0 }).unwrap();
        assert!(jump.leaves().windows(2).all(|pair| pair[0] < pair[1]));
    }
}
