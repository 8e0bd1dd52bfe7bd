//! In: what a frame of a session leaves behind. Out: [`Origin`], a keyframe of another session that is that
//! frame.
//!
//! Made by `extend.rs`, written and read by `store.rs`; a tree takes it for the run of a keyframe.

use super::options::Recipe;
use super::scene::Canvas;
use crate::diffusion::{Context, Latent, Model, Trail};
use crate::error::{Error, Result};
use crate::frame::{Frame, Highlights, Source};
use crate::model::Fingerprint;
use std::fmt;
use std::sync::Arc;

/// A frame of a session as the first frame of another: the latents from which branches start beside it and
/// to which they are drawn, its conditioning, its guidance, and what is seen in it of a caller's own picture. It
/// keeps nothing of the session that it came from.
#[derive(Clone, PartialEq)]
pub struct Origin {
    /// Of the model that it was made with; `None` where that has none.
    pub(super) model: Option<Fingerprint>,
    /// Whether that session repainted a part of a picture: the frame is then one only together with it.
    pub(super) repaints: bool,
    /// What a keyframe has in each level that holds the keyframes, the noise being level 0.
    pub(super) trails: Vec<Arc<Trail>>,
    /// The end of the frame's own run. `None` in files of format 1: it is run again there.
    pub(super) finished: Option<Arc<Trail>>,
    /// The noise that is put back where a picture is kept, unless it is that of level 0.
    pub(super) noise: Option<Arc<Latent>>,
    /// The first step of each level.
    pub(super) starts: Vec<usize>,
    /// Under the prompt, and under the negative prompt.
    pub(super) contexts: [Arc<Context>; 2],
    pub(super) guidance: f64,
    /// In a session with pictures.
    pub(super) view: Option<View>,
}

/// How a frame was shown in a session with pictures.
#[derive(Clone, PartialEq)]
pub(super) struct View {
    pub(super) canvas: Canvas,
    /// What took it back from the model's range.
    pub(super) curve: Highlights,
    pub(super) remnant: Option<Remnant>,
}

/// What is seen in a frame of a picture that it was near, or was.
#[derive(Clone, PartialEq)]
pub(super) struct Remnant {
    /// Of the canvas's size.
    pub(super) source: Source,
    pub(super) curve: Highlights,
    /// The model's own frame of the picture.
    pub(super) reconstruction: Arc<Frame>,
    /// 1: the frame is the picture.
    pub(super) weight: f32,
    /// Over how much of t it fades.
    pub(super) blend: f64,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin at steps {:?}, guidance {}", self.starts, self.guidance)
    }
}

impl Origin {
    /// What the keyframe has in a level of a tree whose last level is `leaf`.
    pub(super) fn trail(&self, level: usize, leaf: usize) -> Option<&Arc<Trail>> {
        if level == leaf { self.finished.as_ref() } else { self.trails.get(level) }
    }

    /// The noise that is put back where a picture is kept.
    pub(super) fn noise(&self) -> Option<&Latent> {
        match &self.noise {
            Some(noise) => Some(noise),
            None => self.trails.first().map(|trail| &trail.last().latent),
        }
    }

    /// The memory that it takes, but for a picture, which others may share.
    pub(super) fn bytes(&self) -> usize {
        let trails = self.trails.iter().chain(&self.finished);
        let states: usize = trails.map(|trail| trail.bytes()).sum();
        let remnant = self.view.as_ref().and_then(|view| view.remnant.as_ref());
        let seen = remnant.map_or(0, |remnant| size_of_val(remnant.reconstruction.rgb()));
        let noise = self.noise.as_ref().map_or(0, |noise| noise.bytes());
        states + noise + seen + self.contexts.iter().map(|c| size_of_val(c.data())).sum::<usize>()
    }

    /// # Errors
    /// `InvalidArgument` where it is of another model, or doesn't fit what a session repaints, or its recipe.
    pub(super) fn check(&self, recipe: &Recipe, model: &Model, repaints: bool) -> Result<()> {
        let name = |print: Option<Fingerprint>| match print {
            Some(print) => format!("a model of fingerprint {print}"),
            None => "a model without fingerprint".to_owned(),
        };
        if self.model != model.info().fingerprint {
            return Err(Error::invalid(format!(
                "a keyframe from a session with {}: here there is {}",
                name(self.model),
                name(model.info().fingerprint)
            )));
        }
        if let Some([tokens, width]) = model.engine().context_shape()
            && let Some(other) =
                self.contexts.iter().find(|c| [c.tokens(), c.width()] != [tokens, width])
        {
            return Err(Error::invalid(format!(
                "a keyframe from a session with conditioning of {}x{} values: here it has {tokens}x{width}",
                other.tokens(),
                other.width()
            )));
        }
        if self.repaints && !repaints {
            return Err(Error::invalid(
                "a keyframe from a session that repaints a part of a picture: here nothing is repainted",
            ));
        }
        let levels = recipe.plan.levels();
        let starts: Vec<usize> = levels.iter().map(|level| level.steps.start).collect();
        let nested = recipe.plan.is_nested();
        let held = if nested { 2 } else { levels.len() };
        if self.starts != starts || self.trails.len() != held {
            return Err(Error::invalid(format!(
                "a keyframe from a session whose branches leave at steps {:?}: here they leave at {starts:?}",
                self.starts
            )));
        }
        let multistep = recipe.schedule.sampler.multistep();
        let steps = recipe.schedule.steps.len();
        let of = |(level, trail): (usize, &Arc<Trail>)| {
            let (first, count) = match level.checked_sub(1) {
                None => (0, 1),
                Some(level) => {
                    let span = &recipe.spans[level];
                    (span.keep, span.steps.end - span.keep)
                }
            };
            (Arc::clone(trail), first, count, multistep && level > 0)
        };
        let trails = self.trails.iter().enumerate().map(of);
        let finished = self.finished.iter().map(|t| (Arc::clone(t), steps - 1, 1, multistep));
        for (trail, first, count, history) in trails.chain(finished) {
            if trail.states().iter().any(|state| state.history.is_some() != history) {
                return Err(Error::invalid(format!(
                    "a keyframe from a session of another sampler than {}",
                    recipe.schedule.sampler.name()
                )));
            }
            if (trail.first(), trail.count()) != (first, count) {
                return Err(Error::invalid(format!(
                    "a keyframe from a session with other crossfeeds: it has {} states from step {} on, here \
                     {count} from step {first} on are wanted",
                    trail.count(),
                    trail.first()
                )));
            }
        }
        let trails = self.trails.iter().chain(&self.finished);
        let states = trails.flat_map(|trail| trail.states());
        let latents = states.flat_map(|state| [&state.latent].into_iter().chain(&state.history));
        let latents = latents.chain(self.noise.iter().map(|noise| &**noise));
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
        match self.view.as_ref().and_then(|view| view.remnant.as_ref()) {
            Some(Remnant { weight, blend, .. })
                if !(*weight > 0.0 && *weight <= 1.0 && (0.0..=0.5).contains(blend)) =>
            {
                Err(Error::invalid(format!("a picture of weight {weight} over {blend}")))
            }
            _ => Ok(()),
        }
    }
}
