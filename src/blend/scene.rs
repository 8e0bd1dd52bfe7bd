//! In: the caller's own pictures: keyframes' images, an inpainting's source. Out: [`Scene`], the same
//! pictures on one plane, as the model sees them and as frames are laid over them.

use super::image::smoothstep;
use super::inpainting::{Inpainting, Repainting};
use super::options::Keyframe;
use super::timing::Place;
use crate::diffusion::{Latent, Model, ModelInfo, Priority};
use crate::error::{Error, Result};
use crate::frame::{Fit, Format, Frame, Highlights, Source, Transfer};
use crate::progress::Call;
use parking_lot::Mutex;
use std::sync::Arc;

/// One picture of the scene, of the scene's size.
pub(crate) struct Picture {
    pub(crate) source: Source,
    /// What brings it into the model's range.
    pub(crate) curve: Highlights,
}

/// The image of a keyframe.
struct Image {
    picture: Picture,
    /// Whether the keyframe is the image, and how far it reaches then.
    blend: Option<f64>,
    /// The model's frame of it, as other frames are: what it holds of the image.
    reconstruction: Mutex<Option<Arc<Frame>>>,
}

/// The pictures of a session.
pub(crate) struct Scene {
    /// Width and height of every picture, and of what is written.
    pub(crate) size: [usize; 2],
    /// What of that the model's frames show: x1, y1, x2, y2.
    pub(crate) part: [usize; 4],
    /// One for each keyframe.
    images: Vec<Option<Image>>,
    plate: Option<(Picture, Repainting)>,
    /// The source as the model sees it.
    plate_seen: Mutex<Option<Arc<Frame>>>,
}

/// What brings a picture into the model's range: by its own highest value, unless that is given.
fn curve(source: &Source, peak: Option<f64>) -> Result<Highlights> {
    if let Some(peak) = peak {
        return Highlights::new(peak);
    }
    let layout = source.layout();
    // Codes of these spaces end at 1.
    if !layout.format.is_float() && layout.transfer != Transfer::AcesCg {
        return Ok(Highlights::NONE);
    }
    const MOST: f32 = 1000.0;
    Highlights::new(f64::from(source.shown()?.highest.clamp(0.0, MOST)))
}

fn checked(name: &str, format: Format) -> Result<()> {
    match format.channels() {
        1 => Err(Error::invalid(format!("{name} in {format:?}: wanted RGB or RGBA"))),
        _ => Ok(()),
    }
}

/// The latent of a picture: the mean of its posterior.
pub(super) fn encoded(
    model: &Model,
    priority: Priority,
    picture: Frame,
    call: &Call<'_>,
) -> Result<Latent> {
    Ok(model.encode(priority, picture, call)?.mean)
}

/// The size of a session's pictures and the part of them that the model sees, if there are any.
fn extent(
    keyframes: &[Keyframe],
    inpainting: Option<&Inpainting>,
) -> Result<Option<([usize; 2], [usize; 4])>> {
    let first = keyframes.iter().find_map(|keyframe| keyframe.image.as_ref());
    Ok(match (inpainting, first) {
        (Some(inpainting), _) => Some((inpainting.source.size(), inpainting.part()?)),
        (None, Some(image)) => {
            let [width, height] = image.source.size();
            Some(([width, height], [0, 0, width, height]))
        }
        (None, None) => None,
    })
}

/// The size at which a model works for these pictures where the caller names none: their shape at the
/// model's native area.
pub(super) fn natural_size(
    keyframes: &[Keyframe],
    inpainting: Option<&Inpainting>,
    model: &ModelInfo,
) -> Result<Option<[usize; 2]>> {
    let Some((_, [x1, y1, x2, y2])) = extent(keyframes, inpainting)? else { return Ok(None) };
    model.working_size([x2 - x1, y2 - y1], 1.0).map(Some)
}

impl Scene {
    /// The scene of a session that works at `work` pixels, if it has any pictures.
    pub(super) fn new(
        keyframes: &[Keyframe],
        inpainting: Option<&Inpainting>,
        work: [usize; 2],
        model: &ModelInfo,
    ) -> Result<Option<Scene>> {
        let Some((size, part)) = extent(keyframes, inpainting)? else { return Ok(None) };
        let mut images = Vec::with_capacity(keyframes.len());
        for keyframe in keyframes {
            images.push(match &keyframe.image {
                None => None,
                Some(image) => {
                    image.check()?;
                    checked("a keyframe's image", image.source.layout().format)?;
                    if keyframe.start.is_some() && image.strength == 1.0 {
                        return Err(Error::invalid(
                            "a keyframe with an image of strength 1 and a start latent: wanted one",
                        ));
                    }
                    let picture = Picture {
                        curve: curve(&image.source, image.peak)?,
                        source: image.source.brought_to(size, image.fit)?,
                    };
                    let blend = (image.strength == 1.0).then_some(image.blend);
                    Some(Image { picture, blend, reconstruction: Mutex::default() })
                }
            });
        }
        let plate = match inpainting {
            None => None,
            Some(inpainting) => {
                checked("an inpainting's source", inpainting.source.layout().format)?;
                let repainting = Repainting::new(inpainting, work, model.factor)?;
                let picture = Picture {
                    curve: curve(&inpainting.source, inpainting.peak)?,
                    source: inpainting.source.clone(),
                };
                Some((picture, repainting))
            }
        };
        Ok(Some(Scene { size, part, images, plate, plate_seen: Mutex::default() }))
    }

    /// What is repainted, if anything is.
    pub(crate) fn repainting(&self) -> Option<&Repainting> {
        self.plate.as_ref().map(|(_, repainting)| repainting)
    }

    /// The picture under the patch.
    pub(crate) fn plate(&self) -> Option<&Picture> {
        self.plate.as_ref().map(|(picture, _)| picture)
    }

    /// The image of a keyframe.
    pub(crate) fn image(&self, keyframe: usize) -> Option<&Picture> {
        Some(&self.images.get(keyframe)?.as_ref()?.picture)
    }

    /// The images that a place is near, and how near: 1 is the image itself.
    pub(crate) fn ends(&self, place: Place) -> Vec<(usize, f32)> {
        let away = [place.fraction, 1.0 - place.fraction];
        let near = |(side, away): (usize, f64)| {
            let keyframe = place.segment + side;
            let blend = self.images.get(keyframe)?.as_ref()?.blend?;
            let weight = match away {
                0.0 => 1.0,
                _ if away >= blend => return None,
                _ => 1.0 - smoothstep(away / blend),
            };
            Some((keyframe, weight as f32)).filter(|(_, weight)| *weight > 0.0)
        };
        away.into_iter().enumerate().filter_map(near).collect()
    }

    /// What takes frames at a place back from the model's range. A patch belongs to its plate; between
    /// keyframes the curve goes from the one's to the other's.
    pub(crate) fn curve(&self, place: Place) -> Highlights {
        if let Some(plate) = self.plate() {
            return plate.curve;
        }
        let of = |keyframe: usize| self.image(keyframe).map_or(Highlights::NONE, |i| i.curve);
        of(place.segment).between(of(place.segment + 1), place.fraction)
    }

    /// What brings a keyframe's image into the model's range.
    pub(crate) fn curve_of(&self, keyframe: usize) -> Highlights {
        let own = self.image(keyframe).map_or(Highlights::NONE, |image| image.curve);
        self.plate().map_or(own, |plate| plate.curve)
    }

    /// A keyframe's image as the model sees it.
    pub(super) fn working(&self, keyframe: usize, work: [usize; 2]) -> Result<Frame> {
        let image = self.image(keyframe).ok_or_else(|| Error::internal("no image"))?;
        self.seen(&image.source, self.curve_of(keyframe), work)
    }

    /// The source as the model sees it.
    pub(crate) fn plate_working(&self, work: [usize; 2]) -> Result<Arc<Frame>> {
        let plate = self.plate().ok_or_else(|| Error::internal("no source"))?;
        let mut known = self.plate_seen.lock();
        if let Some(seen) = &*known {
            return Ok(Arc::clone(seen));
        }
        let seen = Arc::new(self.seen(&plate.source, plate.curve, work)?);
        *known = Some(Arc::clone(&seen));
        Ok(seen)
    }

    fn seen(&self, source: &Source, curve: Highlights, work: [usize; 2]) -> Result<Frame> {
        // What lies far beyond the range, infinities among them, would upset the network everywhere.
        const BEYOND: f32 = 0.5;
        let frame = source.shown()?.frame.cropped(self.part)?;
        let rgb = frame.rgb().iter().map(|&v| curve.compress(v).clamp(-BEYOND, 1.0 + BEYOND));
        Frame::new(frame.width(), frame.height(), rgb.collect())?.resized(work, Fit::Stretch)
    }

    /// The model's frame of a keyframe's image, where it is known.
    pub(crate) fn reconstruction(&self, keyframe: usize) -> Option<Arc<Frame>> {
        self.images.get(keyframe)?.as_ref()?.reconstruction.lock().clone()
    }

    pub(crate) fn keep_reconstruction(&self, keyframe: usize, frame: &Arc<Frame>) {
        if let Some(Some(image)) = self.images.get(keyframe) {
            *image.reconstruction.lock() = Some(Arc::clone(frame));
        }
    }

    /// Lets go of what can be made again.
    pub(crate) fn forget(&self) {
        for image in self.images.iter().flatten() {
            *image.reconstruction.lock() = None;
            image.picture.source.forget();
        }
        *self.plate_seen.lock() = None;
        if let Some((picture, repainting)) = &self.plate {
            picture.source.forget();
            repainting.forget();
        }
    }
}
