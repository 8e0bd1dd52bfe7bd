//! In: a session and a t. Out: what the frame there leaves behind ([`Origin`]), and the session that goes on
//! from it ([`Session::extend`]).

use super::keyframe::Keyframe;
use super::lineage::Node;
use super::meter::Meter;
use super::origin::Origin;
use super::scene::{Canvas, Ground};
use super::session::Session;
use super::timing::Place;
use super::tree::Tree;
use crate::diffusion::{Priority, State, Trail};
use crate::error::{Error, Result};
use crate::progress::{Call, Stage};
use std::ops::Range;
use std::sync::Arc;

impl Tree {
    /// What a keyframe at `place` has in each level that holds the keyframes: where frames there start from
    /// and are drawn to, which lies between the two branches that the plan has beside it.
    fn trails_at(&self, place: Place, meter: &mut Meter<'_, '_>) -> Result<Vec<Arc<Trail>>> {
        let recipe = self.recipe();
        let leaf = self.lineage().leaf_level();
        let mut trails = Vec::with_capacity(leaf);
        let noise = self.states_at(1, place, 0..0, meter)?;
        trails.push(Arc::new(Trail::new(0, noise)?));
        // From the noise on, so that nothing is let go of before it was used.
        if !recipe.plan.is_nested() {
            for level in 1..leaf {
                let span = &recipe.spans[level - 1];
                let states = self.states_at(level + 1, place, span.keep..span.steps.end, meter)?;
                trails.push(Arc::new(Trail::new(span.keep, states)?));
            }
            return Ok(trails);
        }
        // All of a nested plan start from keyframes: at each step those would that leave there.
        let span = &recipe.spans[0];
        let levels = recipe.plan.levels();
        let mut states = Vec::new();
        for level in 2..=leaf {
            let from = if level == 2 { span.keep } else { levels[level - 1].steps.start - 1 };
            let end = match levels.get(level) {
                Some(next) => next.steps.start - 1,
                None => span.steps.end,
            };
            states.extend(self.states_at(level, place, from..end, meter)?);
        }
        trails.push(Arc::new(Trail::new(span.keep, states)?));
        Ok(trails)
    }

    /// Where a branch of `level` at `place` would start from, after each of `steps`; without steps, the noise.
    fn states_at(
        &self,
        level: usize,
        place: Place,
        steps: Range<usize>,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<State>> {
        let mut roots = self.lineage().roots(level, place);
        roots.draw = None;
        let wanted: Vec<(Node, Place)> = self.needs(&roots).collect();
        let known = self.finish(&wanted, Priority::Urgent, meter)?;
        if steps.is_empty() {
            let [left, right] = roots.from.map(|node| self.start(node, 0, &known));
            return Ok(vec![left?.mix(&right?, roots.mix, self.recipe().latent_mix)?]);
        }
        let after = |step: usize| -> Option<Result<State>> {
            let [left, right] = roots.from.map(|node| known.get(&node)?.after(step));
            Some(left?.mix(right?, roots.mix, self.recipe().latent_mix))
        };
        let mut states = steps.clone().map_while(after).collect::<Result<Vec<State>>>()?;
        if states.len() < steps.len() {
            // Only keyframes are followed for so long, by other keyframes: a frame's own run goes on.
            let run = self.own_run(level, place, meter)?;
            for step in steps.start + states.len()..steps.end {
                let state = run.after(step).cloned();
                states.push(state.ok_or_else(|| Error::internal("a step of a frame was lost"))?);
            }
        }
        Ok(states)
    }

    /// The whole run of a branch of `level` at `place`.
    fn own_run(&self, level: usize, place: Place, meter: &mut Meter<'_, '_>) -> Result<Trail> {
        let roots = self.roots(level, place);
        let wanted: Vec<(Node, Place)> = self.needs(&roots).collect();
        let known = self.finish(&wanted, Priority::Urgent, meter)?;
        let keep = self.recipe().spans[level - 1].steps.start;
        let mut run = self.run(level, &[&(place, roots)], keep, &known, Priority::Urgent, meter)?;
        run.pop().ok_or_else(|| Error::internal("no run came back"))
    }

    /// What the frame at `place` leaves to a session that goes on from it, but for how it is shown.
    fn origin(&self, place: Place, meter: &mut Meter<'_, '_>) -> Result<Origin> {
        let trails = self.trails_at(place, meter)?;
        let leaf = self.leaf(place);
        let mut finished = self.finish(&[(leaf, place)], Priority::Urgent, meter)?;
        let finished = finished.remove(&leaf).ok_or_else(|| Error::internal("a frame was lost"))?;
        let last = self.recipe().schedule.steps.len() - 1;
        let finished = Arc::new(Trail::new(last, vec![finished.last().clone()])?);
        // Where it is not what runs start from, for images start from their own.
        let noise = self.noise_at(place)?;
        let noise = (noise != trails[0].last().latent).then(|| Arc::new(noise));
        let contexts = self.contexts(&[place], Priority::Urgent, meter.call())?;
        let (positive, negative) = self.mixed(&contexts, place)?;
        let levels = self.recipe().plan.levels();
        Ok(Origin {
            model: self.model().info().fingerprint,
            repaints: self.repainting().is_some(),
            trails,
            finished: Some(finished),
            noise,
            starts: levels.iter().map(|level| level.steps.start).collect(),
            contexts: [positive, negative],
            guidance: self.guidance(place),
            view: None,
        })
    }
}

impl Session {
    /// What the frame at `from_t` leaves to a session that goes on from it, as [`Keyframe::origin`]. Runs that
    /// frame and the branches beside it, as far as they aren't kept.
    ///
    /// # Errors
    /// `InvalidArgument` for a t outside the transition, `Cancelled`, and what the device reports.
    pub fn origin(&self, from_t: f64, call: &Call<'_>) -> Result<Origin> {
        let placed = self.placed(&[from_t])?;
        let (_, place) = placed[0];
        let _urgent = self.tree().model().urgent();
        let mut meter = self.tree().meter(call, &placed, 0);
        let mut origin = self.tree().origin(place, &mut meter)?;
        origin.view = self.view(place, &mut meter)?;
        call.report(Stage::Denoise, 1, 1, 1.0)?;
        Ok(origin)
    }

    /// A session from this one's frame at `from_t`, which is its frame at 0 bit for bit, to a new keyframe: a
    /// change of mind while a transition is being shown. Options and frame size are this session's, and so is what
    /// is repainted; where its guidance at `from_t` is another than at a keyframe's, it fades over, and so
    /// does what is seen of a picture there. Image ends, loops, placed branches and timing stay behind.
    ///
    /// The new session keeps nothing of this one but the model, and what it repaints: extend as often as you
    /// like.
    ///
    /// # Errors
    /// Those of [`Session::origin`] and [`Session::new`].
    pub fn extend(&self, from_t: f64, to: &Keyframe, call: &Call<'_>) -> Result<Session> {
        let origin = self.origin(from_t, call)?;
        let keyframes = self.keyframes();
        let nearest = &keyframes[(from_t.round().max(0.0) as usize) % keyframes.len()];
        let from = Keyframe {
            prompt: nearest.prompt.clone(),
            negative_prompt: nearest.negative_prompt.clone(),
            seed: nearest.seed,
            origin: Some(Arc::new(origin)),
            ..Keyframe::default()
        };
        let mut recipe = self.tree().recipe().clone();
        (recipe.plans, recipe.looped) = (None, false);
        let ground = match self.tree().scene() {
            Some(scene) => scene.ground(),
            // A picture is brought to the frames that are there.
            None if to.image.is_some() => {
                Ground { plate: None, canvas: Some(Canvas::whole(self.working_size())) }
            }
            None => Ground::default(),
        };
        Session::from_recipe(self.tree().model(), vec![from, to.clone()], recipe, ground)
    }
}
