//! In: a keyframe. Out: [`KeyframeRecord`], the same in the header of a session's file, with tensors beside it;
//! and the keyframe back, checked.

use super::exact::Exact;
use super::image::KeyframeImage;
use super::keyframe::Keyframe;
use super::origin::{Origin, Remnant, View};
use super::scene::Canvas;
use super::scene_record::Album;
use super::tensor::{Stored, Tensors, take};
use crate::diffusion::Trail;
use crate::error::{Error, Result};
use crate::frame::{Fit, Frame, Highlights};
use crate::model::Fingerprint;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
pub(super) struct KeyframeRecord {
    prompt: String,
    negative_prompt: String,
    seed: u64,
    /// Whether the file holds its start latent.
    start: bool,
    origin: Option<OriginRecord>,
    #[serde(default)]
    image: Option<ImageRecord>,
}

#[derive(Serialize, Deserialize)]
struct OriginRecord {
    starts: Vec<usize>,
    #[serde(with = "super::exact")]
    guidance: f64,
    /// The step after which each trail begins. None in format 1, where a trail was its last state.
    #[serde(default)]
    firsts: Vec<usize>,
    /// The step after which its run ends, where the file holds the state there.
    #[serde(default)]
    finished: Option<usize>,
    /// Whether the file holds its noise.
    #[serde(default)]
    noise: bool,
    #[serde(default)]
    view: Option<ViewRecord>,
    /// Whether it is of a session that repaints a part of a picture. Not in formats 1 and 2.
    #[serde(default)]
    repaints: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct ViewRecord {
    size: [usize; 2],
    part: [usize; 4],
    #[serde(with = "super::exact")]
    curve: f64,
    remnant: Option<RemnantRecord>,
}

#[derive(Serialize, Deserialize)]
struct RemnantRecord {
    picture: usize,
    #[serde(with = "super::exact")]
    curve: f64,
    #[serde(with = "super::exact")]
    weight: f64,
    #[serde(with = "super::exact")]
    blend: f64,
}

#[derive(Serialize, Deserialize)]
struct ImageRecord {
    picture: usize,
    #[serde(with = "super::exact")]
    strength: f64,
    #[serde(with = "super::exact")]
    blend: f64,
    fit: u32,
    peak: Option<Exact>,
}

/// What a file holds beside its header.
pub(super) struct Parts {
    pub(super) tensors: Tensors,
    pub(super) album: Album,
}

impl Parts {
    /// Adds a keyframe.
    pub(super) fn put(&mut self, number: usize, keyframe: &Keyframe) -> KeyframeRecord {
        if let Some(start) = &keyframe.start {
            let stored = Stored::new(&start.shape(), start.data());
            self.tensors.insert(format!("keyframe.{number}.start"), stored);
        }
        let image = keyframe.image.as_ref().map(|image| ImageRecord {
            picture: self.album.number(&image.source),
            strength: image.strength,
            blend: image.blend,
            fit: image.fit as u32,
            peak: image.peak.map(Exact),
        });
        KeyframeRecord {
            prompt: keyframe.prompt.clone(),
            negative_prompt: keyframe.negative_prompt.clone(),
            seed: keyframe.seed,
            start: keyframe.start.is_some(),
            origin: keyframe.origin.as_ref().map(|origin| self.put_origin(number, origin)),
            image,
        }
    }

    fn put_origin(&mut self, number: usize, origin: &Origin) -> OriginRecord {
        let mut add = |what: &str, stored: Stored| {
            self.tensors.insert(format!("keyframe.{number}.origin.{what}"), stored);
        };
        for (level, trail) in origin.trails.iter().enumerate() {
            add(&level.to_string(), Stored::states(trail.states().iter()));
        }
        if let Some(finished) = &origin.finished {
            add("finished", Stored::states(finished.states().iter()));
        }
        if let Some(noise) = &origin.noise {
            add("noise", Stored::new(&noise.shape(), noise.data()));
        }
        for (name, context) in ["positive", "negative"].into_iter().zip(&origin.contexts) {
            add(name, Stored::new(&[context.tokens(), context.width()], context.data()));
        }
        if let Some(remnant) = origin.view.as_ref().and_then(|view| view.remnant.as_ref()) {
            let frame = &remnant.reconstruction;
            add("seen", Stored::new(&[frame.height(), frame.width(), 3], frame.rgb()));
        }
        let remnant = |remnant: &Remnant| RemnantRecord {
            picture: self.album.number(&remnant.source),
            curve: remnant.curve.bend(),
            weight: f64::from(remnant.weight),
            blend: remnant.blend,
        };
        OriginRecord {
            starts: origin.starts.clone(),
            guidance: origin.guidance,
            firsts: origin.trails.iter().map(|trail| trail.first()).collect(),
            finished: origin.finished.as_ref().map(|trail| trail.first()),
            noise: origin.noise.is_some(),
            repaints: Some(origin.repaints),
            view: origin.view.as_ref().map(|view| ViewRecord {
                size: view.canvas.size,
                part: view.canvas.part,
                curve: view.curve.bend(),
                remnant: view.remnant.as_ref().map(remnant),
            }),
        }
    }

    /// Takes a keyframe out, of a session with `model`, which repaints something or nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for what is missing, or cannot be.
    pub(super) fn take(
        &mut self,
        number: usize,
        record: &KeyframeRecord,
        model: Option<Fingerprint>,
        repaints: bool,
    ) -> Result<Keyframe> {
        let mut keyframe =
            Keyframe::new(&record.prompt, record.seed).negative(&record.negative_prompt);
        if record.start {
            let start = take(&mut self.tensors, &format!("keyframe.{number}.start"))?;
            keyframe.start = Some(Arc::new(start.latent()?));
        }
        if let Some(origin) = &record.origin {
            let repaints = origin.repaints.unwrap_or(repaints);
            let taken = self.take_origin(number, origin)?;
            keyframe.origin = Some(Arc::new(Origin { model, repaints, ..taken }));
        }
        if let Some(image) = &record.image {
            keyframe.image = Some(KeyframeImage {
                source: self.album.source(image.picture)?,
                strength: image.strength,
                blend: image.blend,
                fit: Fit::try_from(image.fit)?,
                peak: image.peak.map(|peak| peak.0),
            });
        }
        Ok(keyframe)
    }

    fn take_origin(&mut self, number: usize, record: &OriginRecord) -> Result<Origin> {
        let tensors = &mut self.tensors;
        let mut part = |what: &str| take(tensors, &format!("keyframe.{number}.origin.{what}"));
        let firsts = match record.firsts.is_empty() {
            true => record.starts.iter().map(|start| start.saturating_sub(1)).collect(),
            false => record.firsts.clone(),
        };
        let trails = firsts.iter().enumerate().map(|(level, &first)| {
            Trail::new(first, part(&level.to_string())?.to_states()?).map(Arc::new)
        });
        let trails = trails.collect::<Result<Vec<_>>>()?;
        let finished = match record.finished {
            Some(step) => Some(Arc::new(Trail::new(step, part("finished")?.to_states()?)?)),
            None => None,
        };
        let noise = match record.noise {
            true => Some(Arc::new(part("noise")?.latent()?)),
            false => None,
        };
        let contexts =
            [Arc::new(part("positive")?.context()?), Arc::new(part("negative")?.context()?)];
        let view = match &record.view {
            None => None,
            Some(view) => {
                let remnant = match &view.remnant {
                    None => None,
                    Some(remnant) => {
                        let seen = part("seen")?;
                        let [height, width, 3] = *seen.shape.as_slice() else {
                            return Err(Error::invalid(format!("a frame of {:?}", seen.shape)));
                        };
                        Some(Remnant {
                            source: self.album.source(remnant.picture)?,
                            curve: Highlights::of_bend(remnant.curve)?,
                            reconstruction: Arc::new(Frame::new(width, height, seen.values())?),
                            weight: remnant.weight as f32,
                            blend: remnant.blend,
                        })
                    }
                };
                Some(View {
                    canvas: Canvas { size: view.size, part: view.part },
                    curve: Highlights::of_bend(view.curve)?,
                    remnant,
                })
            }
        };
        Ok(Origin {
            // A file says it once for all.
            model: None,
            repaints: false,
            trails,
            finished,
            noise,
            starts: record.starts.clone(),
            contexts,
            guidance: record.guidance,
            view,
        })
    }
}
