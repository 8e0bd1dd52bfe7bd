//! In: a session and a t. Out: [`Origin`], what the frame there leaves to a session that goes on from it, and
//! that session ([`Session::extend`]).

use super::options::{Keyframe, Recipe};
use super::session::Session;
use crate::diffusion::{Context, State, Trail};
use crate::error::{Error, Result};
use crate::progress::{Call, Stage};
use std::fmt;
use std::sync::Arc;

/// A frame of a session as the first frame of another: the latents from which branches start beside it, its
/// conditioning and its guidance. It keeps nothing of the session that it came from.
#[derive(Clone, PartialEq)]
pub struct Origin {
    /// The state at the end of each level, the noise being level 0, up to where the last level starts.
    trails: Vec<Arc<Trail>>,
    /// The first step of each level.
    starts: Vec<usize>,
    /// Under the prompt, and under the negative prompt.
    contexts: [Arc<Context>; 2],
    guidance: f64,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin at steps {:?}, guidance {}", self.starts, self.guidance)
    }
}

impl Origin {
    /// # Errors
    /// None: `starts` are as many as `states`.
    pub(super) fn new(
        states: Vec<State>,
        starts: Vec<usize>,
        contexts: [Arc<Context>; 2],
        guidance: f64,
    ) -> Result<Self> {
        let trail = |(state, start): (State, &usize)| {
            Trail::new(start.saturating_sub(1), vec![state]).map(Arc::new)
        };
        let trails = states.into_iter().zip(&starts).map(trail).collect::<Result<_>>()?;
        Ok(Origin { trails, starts, contexts, guidance })
    }

    pub(super) fn trails(&self) -> &[Arc<Trail>] {
        &self.trails
    }

    pub(super) fn starts(&self) -> &[usize] {
        &self.starts
    }

    pub(super) fn contexts(&self) -> [&Arc<Context>; 2] {
        [&self.contexts[0], &self.contexts[1]]
    }

    pub(super) fn guidance(&self) -> f64 {
        self.guidance
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let states: usize = self.trails.iter().map(|trail| trail.bytes()).sum();
        states + self.contexts.iter().map(|c| size_of_val(c.data())).sum::<usize>()
    }

    /// # Errors
    /// `InvalidArgument` where it doesn't fit the recipe, `Unsupported` with crossfeeds and the tree of 2023.
    pub(super) fn check(&self, recipe: &Recipe) -> Result<()> {
        recipe.check_extension()?;
        let levels = recipe.plan.levels();
        let starts: Vec<usize> = levels.iter().map(|level| level.steps.start).collect();
        if self.starts != starts || self.trails.len() != starts.len() {
            return Err(Error::invalid(format!(
                "a keyframe from a session whose branches leave at steps {:?}: here they leave at {starts:?}",
                self.starts
            )));
        }
        let multistep = recipe.schedule.sampler.multistep();
        for (level, trail) in self.trails.iter().enumerate() {
            if trail.last().history.is_some() != (multistep && level > 0) {
                return Err(Error::invalid(format!(
                    "a keyframe from a session of another sampler than {}",
                    recipe.schedule.sampler.name()
                )));
            }
        }
        let states = self.trails.iter().map(|trail| trail.last());
        let latents = states.flat_map(|state| [&state.latent].into_iter().chain(&state.history));
        for latent in latents.clone() {
            if latent.shape() != recipe.shape {
                return Err(Error::invalid(format!(
                    "a keyframe from a session with latents of shape {:?}: here they have {:?}",
                    latent.shape(),
                    recipe.shape
                )));
            }
        }
        let mut values = latents.flat_map(|latent| latent.data());
        let mut told = self.contexts.iter().flat_map(|context| context.data());
        let finite = values.all(|v| v.is_finite()) && told.all(|v| v.is_finite());
        if !(finite && (0.0..=1e4).contains(&self.guidance)) {
            return Err(Error::invalid("a keyframe's origin holds values that are not finite"));
        }
        Ok(())
    }
}

impl Session {
    /// What the frame at `from_t` leaves to a session that goes on from it, as [`Keyframe::origin`]. Runs the
    /// branches beside it, as far as they aren't kept, but for the last level's.
    ///
    /// # Errors
    /// `InvalidArgument` for a t outside the transition, `Cancelled`, and what the device reports.
    pub fn origin(&self, from_t: f64, call: &Call<'_>) -> Result<Origin> {
        let placed = self.placed(&[from_t])?;
        let (_, place) = placed[0];
        let _urgent = self.tree().model().urgent();
        let origin = self.tree().origin(place, call)?;
        call.report(Stage::Denoise, 1, 1, 1.0)?;
        Ok(origin)
    }

    /// A session from this one's frame at `from_t`, which is its frame at 0 bit for bit, to a new keyframe: a
    /// change of mind while a transition is being shown. Options are this session's; where its guidance at
    /// `from_t` is another than at a keyframe's, it fades over. Image ends, loops and timing stay behind.
    ///
    /// The new session keeps nothing of this one but the model: extend as often as you like.
    ///
    /// # Errors
    /// Those of [`Session::origin`] and [`Session::new`].
    pub fn extend(&self, from_t: f64, to: &Keyframe, call: &Call<'_>) -> Result<Session> {
        let origin = self.origin(from_t, call)?;
        let keyframes = self.keyframes();
        let nearest = (from_t.round().max(0.0) as usize) % keyframes.len();
        let from =
            Keyframe { start: None, origin: Some(Arc::new(origin)), ..keyframes[nearest].clone() };
        let mut recipe = self.tree().recipe().clone();
        (recipe.plans, recipe.looped) = (None, false);
        Session::from_recipe(self.tree().model(), vec![from, to.clone()], recipe, None)
    }
}
