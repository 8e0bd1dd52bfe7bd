//! In: what a caller wants to see at a whole t. Out: [`Keyframe`], and of which kind it is.

use super::image::KeyframeImage;
use super::options::Recipe;
use super::origin::Origin;
use crate::diffusion::{Latent, Model};
use crate::error::{Error, Result};
use std::sync::Arc;

/// One end of a transition: what the picture shows there, and the seed of its noise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyframe {
    /// What the picture shows. May be empty.
    pub prompt: String,
    /// What it must not show. May be empty.
    pub negative_prompt: String,
    /// The seed of its noise, as PyTorch's generators read it.
    pub seed: u64,
    /// The start latent itself, in place of the seed's noise.
    pub start: Option<Arc<Latent>>,
    /// Where it goes on from: a frame of another session ([`Session::extend`](super::Session::extend)), in
    /// place of prompts, seed and start, which are then only what a caller may show.
    pub origin: Option<Arc<Origin>>,
    /// The picture itself; the prompt then says what it shows, and may be empty.
    pub image: Option<KeyframeImage>,
}

/// Where the run of a keyframe comes from, which is all that makes one keyframe another than the next: a tree
/// starts branches from it, and draws them to it, in the same way.
#[derive(Clone, Copy)]
pub(super) enum Kind<'a> {
    /// Sampled from noise.
    Prompt,
    /// Found from a picture, at the first need.
    Image(&'a KeyframeImage),
    /// Brought along from another session.
    Origin(&'a Arc<Origin>),
}

impl Keyframe {
    /// A keyframe without negative prompt.
    pub fn new(prompt: impl Into<String>, seed: u64) -> Self {
        Keyframe { prompt: prompt.into(), seed, ..Keyframe::default() }
    }

    /// The same with a start latent in place of the seed's noise.
    pub fn start(mut self, latent: Latent) -> Self {
        self.start = Some(Arc::new(latent));
        self
    }

    /// The same with a negative prompt.
    pub fn negative(mut self, prompt: impl Into<String>) -> Self {
        self.negative_prompt = prompt.into();
        self
    }

    /// The same as an image: the keyframe is then `image`, and the prompt, which may be empty, says what it
    /// shows.
    pub fn image(mut self, image: impl Into<KeyframeImage>) -> Self {
        self.image = Some(image.into());
        self
    }

    pub(super) fn kind(&self) -> Kind<'_> {
        match (&self.origin, &self.image) {
            (Some(origin), _) => Kind::Origin(origin),
            (None, Some(image)) => Kind::Image(image),
            (None, None) => Kind::Prompt,
        }
    }

    /// Fails for what doesn't go together, or not with the model, the recipe, and whether a part of a picture
    /// is repainted.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(super) fn check(&self, recipe: &Recipe, model: &Model, repaints: bool) -> Result<()> {
        match self.kind() {
            Kind::Origin(_) if self.image.is_some() => {
                return Err(Error::invalid(
                    "a keyframe with an image and an origin in another session: wanted one",
                ));
            }
            Kind::Origin(origin) => origin.check(recipe, model, repaints)?,
            Kind::Image(image) => {
                image.check()?;
                if self.start.is_some() && image.strength == 1.0 {
                    return Err(Error::invalid(
                        "a keyframe with an image of strength 1 and a start latent: wanted one",
                    ));
                }
            }
            Kind::Prompt => {}
        }
        let Some(latent) = &self.start else { return Ok(()) };
        if !latent.data().iter().all(|v| v.is_finite()) {
            return Err(Error::invalid("a start latent holds values that are not finite"));
        }
        if latent.shape() != recipe.shape {
            return Err(Error::invalid(format!(
                "a start latent of shape {:?}: wanted {:?}",
                latent.shape(),
                recipe.shape
            )));
        }
        Ok(())
    }
}
