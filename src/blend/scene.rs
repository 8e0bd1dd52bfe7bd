//! In: the caller's own pictures: keyframes' images, an inpainting's source. Out: [`Scene`], the same
//! pictures on one plane, as the model sees them and as frames are laid over them.

use super::image::smoothstep;
use super::inpainting::{Inpainting, Repainting};
use super::keyframe::{Keyframe, Kind};
use super::lineage::Lineage;
use super::timing::Place;
use crate::diffusion::{Latent, Model, ModelInfo, Priority};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Fit, Format, Frame, Highlights, Source, Transfer};
use crate::progress::Call;
use parking_lot::Mutex;
use std::sync::Arc;

/// The plane on which a session's pictures lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Canvas {
    /// Width and height of every picture, and of what is written.
    pub(crate) size: [usize; 2],
    /// What of that the model's frames show: x1, y1, x2, y2.
    pub(crate) part: [usize; 4],
}

impl Canvas {
    /// All of it is seen by the model.
    pub(crate) fn whole([width, height]: [usize; 2]) -> Self {
        Canvas { size: [width, height], part: [0, 0, width, height] }
    }

    /// # Errors
    /// `InvalidArgument` for numbers that cannot be, `OutOfMemory` for a plane that no memory holds.
    pub(crate) fn check(&self) -> Result<()> {
        let ([width, height], [x1, y1, x2, y2]) = (self.size, self.part);
        if !(x1 < x2 && x2 <= width && y1 < y2 && y2 <= height) {
            return Err(Error::invalid(format!("part {:?} of {width}x{height} pixels", self.part)));
        }
        let bytes = (width as u64).saturating_mul(height as u64).saturating_mul(16);
        match crate::diffusion::physical().is_some_and(|there| bytes > there) {
            true => Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("pictures of {width}x{height} pixels"),
            )),
            false => Ok(()),
        }
    }
}

/// One picture of the scene, of the scene's size.
pub(crate) struct Picture {
    pub(crate) source: Source,
    /// What brings it into the model's range.
    pub(crate) curve: Highlights,
}

/// The picture of a keyframe, and how far it is seen.
pub(crate) struct Image {
    pub(crate) picture: Picture,
    /// How much of it is seen at the keyframe: 1 where the keyframe is the picture.
    weight: f32,
    /// Over how much of t that fades; `None` where the keyframe only starts from the picture.
    pub(crate) blend: Option<f64>,
    /// The model's frame of it, as other frames are: what it holds of the image.
    reconstruction: Mutex<Option<Arc<Frame>>>,
    /// Whether that was brought along, and cannot be made again.
    brought: bool,
}

/// What a keyframe adds to the scene.
struct End {
    /// What takes its frame back from the model's range.
    curve: Highlights,
    image: Option<Image>,
}

/// A picture of which a part is repainted.
pub(crate) struct Plate {
    pub(crate) picture: Picture,
    pub(crate) repainting: Repainting,
    /// What the caller said.
    pub(super) inpainting: Inpainting,
    canvas: Canvas,
    /// The source as the model sees it.
    seen: Mutex<Option<Arc<Frame>>>,
}

/// What a session's pictures are laid on, besides what its keyframes say.
#[derive(Clone, Default)]
pub(super) struct Ground {
    /// What is repainted, if anything is.
    pub(super) plate: Option<Arc<Plate>>,
    /// The plane, where it is another session's.
    pub(super) canvas: Option<Canvas>,
}

/// The pictures of a session.
pub(crate) struct Scene {
    pub(crate) canvas: Canvas,
    /// One for each keyframe.
    ends: Vec<End>,
    plate: Option<Arc<Plate>>,
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

/// The plane of a session's pictures, if there are any: that of the plate, or of the first keyframe that has
/// one.
fn canvas(keyframes: &[Keyframe], plate: Option<Canvas>) -> Option<Canvas> {
    let of = |keyframe: &Keyframe| match keyframe.kind() {
        Kind::Image(image) => Some(Canvas::whole(image.source.size())),
        Kind::Origin(origin) => origin.view.as_ref().map(|view| view.canvas),
        Kind::Prompt => None,
    };
    plate.or_else(|| keyframes.iter().find_map(of))
}

/// The size at which a model works for these pictures where the caller names none: their shape at the
/// model's native area.
pub(super) fn natural_size(
    keyframes: &[Keyframe],
    inpainting: Option<&Inpainting>,
    model: &ModelInfo,
) -> Result<Option<[usize; 2]>> {
    let plate = inpainting.map(Inpainting::canvas).transpose()?;
    let Some(Canvas { part: [x1, y1, x2, y2], .. }) = canvas(keyframes, plate) else {
        return Ok(None);
    };
    model.working_size([x2 - x1, y2 - y1], 1.0).map(Some)
}

impl Plate {
    /// Checks an inpainting for a session that works at `work` pixels, `factor` to a latent pixel.
    pub(super) fn new(inpainting: &Inpainting, work: [usize; 2], factor: usize) -> Result<Self> {
        checked("an inpainting's source", inpainting.source.layout().format)?;
        let picture = Picture {
            curve: curve(&inpainting.source, inpainting.peak)?,
            source: inpainting.source.clone(),
        };
        Ok(Plate {
            canvas: inpainting.canvas()?,
            repainting: Repainting::new(inpainting, work, factor)?,
            picture,
            inpainting: inpainting.clone(),
            seen: Mutex::default(),
        })
    }
}

impl Image {
    fn new(keyframe: &Keyframe, size: [usize; 2]) -> Result<Option<Self>> {
        Ok(match keyframe.kind() {
            Kind::Prompt => None,
            Kind::Image(image) => {
                checked("a keyframe's image", image.source.layout().format)?;
                let picture = Picture {
                    curve: curve(&image.source, image.peak)?,
                    source: image.source.brought_to(size, image.fit)?,
                };
                let blend = (image.strength == 1.0).then_some(image.blend);
                let reconstruction = Mutex::default();
                Some(Image { picture, weight: 1.0, blend, reconstruction, brought: false })
            }
            Kind::Origin(origin) => {
                let remnant = origin.view.as_ref().and_then(|view| view.remnant.as_ref());
                if let Some(remnant) = remnant {
                    checked("a keyframe's picture", remnant.source.layout().format)?;
                }
                remnant.map(|remnant| Image {
                    picture: Picture { source: remnant.source.clone(), curve: remnant.curve },
                    weight: remnant.weight,
                    blend: Some(remnant.blend),
                    reconstruction: Mutex::new(Some(Arc::clone(&remnant.reconstruction))),
                    brought: true,
                })
            }
        })
    }
}

impl Scene {
    /// The scene of a session that works at `work` pixels, if it has any pictures.
    ///
    /// # Errors
    /// `InvalidArgument` for pictures that cannot be used, or don't fit each other.
    pub(super) fn new(
        keyframes: &[Keyframe],
        ground: &Ground,
        work: [usize; 2],
    ) -> Result<Option<Scene>> {
        let plate = ground.plate.as_ref();
        let found = ground.canvas.or_else(|| canvas(keyframes, plate.map(|plate| plate.canvas)));
        let Some(canvas) = found else { return Ok(None) };
        canvas.check()?;
        let odd = |what: &str, [width, height]: [usize; 2]| {
            let [w, h] = canvas.size;
            Err(Error::invalid(format!(
                "{what} of {width}x{height} pixels: here they have {w}x{h}"
            )))
        };
        if let Some(plate) = plate
            && plate.canvas != canvas
        {
            return odd("a source", plate.canvas.size);
        }
        let mut ends = Vec::with_capacity(keyframes.len());
        for keyframe in keyframes {
            let image = Image::new(keyframe, canvas.size)?;
            let curve = match keyframe.kind() {
                Kind::Origin(origin) => {
                    let view = origin.view.as_ref();
                    if let Some(view) = view
                        && view.canvas != canvas
                    {
                        return odd("a keyframe from a session with pictures", view.canvas.size);
                    }
                    if let Some(remnant) = view.and_then(|view| view.remnant.as_ref()) {
                        let frame = &remnant.reconstruction;
                        if [frame.width(), frame.height()] != work {
                            return odd(
                                "a keyframe from a session",
                                [frame.width(), frame.height()],
                            );
                        }
                        if remnant.source.size() != canvas.size {
                            return odd("a keyframe's picture", remnant.source.size());
                        }
                    }
                    view.map_or(Highlights::NONE, |view| view.curve)
                }
                _ => image.as_ref().map_or(Highlights::NONE, |image| image.picture.curve),
            };
            ends.push(End { curve, image });
        }
        Ok(Some(Scene { canvas, ends, plate: ground.plate.clone() }))
    }

    /// The same ground for another session.
    pub(super) fn ground(&self) -> Ground {
        Ground { plate: self.plate.clone(), canvas: Some(self.canvas) }
    }

    /// What is repainted, if anything is.
    pub(crate) fn repainting(&self) -> Option<&Repainting> {
        self.plate().map(|plate| &plate.repainting)
    }

    /// What is under the patch.
    pub(crate) fn plate(&self) -> Option<&Plate> {
        self.plate.as_deref()
    }

    /// The picture of a keyframe.
    pub(crate) fn image(&self, keyframe: usize) -> Option<&Image> {
        self.ends.get(keyframe)?.image.as_ref()
    }

    /// The keyframes at both ends of a place's segment, and how far away they are.
    fn around(&self, place: Place) -> [(usize, f64); 2] {
        let [from, to] = Lineage::ends_among(self.ends.len(), place);
        [(from, place.fraction), (to, 1.0 - place.fraction)]
    }

    /// The keyframes whose pictures are seen at a place, and how much of them: 1 is the picture itself. Not more
    /// than one, for none reaches further than the middle.
    pub(crate) fn near(&self, place: Place) -> Option<(usize, f32)> {
        let near = |(keyframe, away): (usize, f64)| {
            let image = self.image(keyframe)?;
            let blend = image.blend?;
            let weight = match away {
                0.0 => image.weight,
                _ if away >= blend => return None,
                _ => (f64::from(image.weight) * (1.0 - smoothstep(away / blend))) as f32,
            };
            Some((keyframe, weight)).filter(|(_, weight)| *weight > 0.0)
        };
        self.around(place).into_iter().find_map(near)
    }

    /// What takes frames at a place back from the model's range. A patch belongs to its plate; between
    /// keyframes the curve goes from the one's to the other's.
    pub(crate) fn curve(&self, place: Place) -> Highlights {
        if let Some(plate) = self.plate() {
            return plate.picture.curve;
        }
        let [from, to] = self.around(place).map(|(keyframe, _)| keyframe);
        let of =
            |keyframe: usize| self.ends.get(keyframe).map_or(Highlights::NONE, |end| end.curve);
        of(from).between(of(to), place.fraction)
    }

    /// What brings a keyframe's image into the model's range.
    pub(crate) fn curve_of(&self, keyframe: usize) -> Highlights {
        let own = self.image(keyframe).map_or(Highlights::NONE, |image| image.picture.curve);
        self.plate().map_or(own, |plate| plate.picture.curve)
    }

    /// A keyframe's image as the model sees it.
    pub(super) fn working(&self, keyframe: usize, work: [usize; 2]) -> Result<Frame> {
        let image = self.image(keyframe).ok_or_else(|| Error::internal("no image"))?;
        self.seen(&image.picture.source, self.curve_of(keyframe), work)
    }

    /// The source as the model sees it.
    pub(crate) fn plate_working(&self, work: [usize; 2]) -> Result<Arc<Frame>> {
        let plate = self.plate().ok_or_else(|| Error::internal("no source"))?;
        let mut known = plate.seen.lock();
        if let Some(seen) = &*known {
            return Ok(Arc::clone(seen));
        }
        let seen = Arc::new(self.seen(&plate.picture.source, plate.picture.curve, work)?);
        *known = Some(Arc::clone(&seen));
        Ok(seen)
    }

    fn seen(&self, source: &Source, curve: Highlights, work: [usize; 2]) -> Result<Frame> {
        // What lies far beyond the range, infinities among them, would upset the network everywhere.
        const BEYOND: f32 = 0.5;
        let frame = source.shown()?.frame.cropped(self.canvas.part)?;
        let rgb = frame.rgb().iter().map(|&v| curve.compress(v).clamp(-BEYOND, 1.0 + BEYOND));
        Frame::new(frame.width(), frame.height(), rgb.collect())?.resized(work, Fit::Stretch)
    }

    /// The model's frame of a keyframe's image, where it is known.
    pub(crate) fn reconstruction(&self, keyframe: usize) -> Option<Arc<Frame>> {
        self.image(keyframe)?.reconstruction.lock().clone()
    }

    pub(crate) fn keep_reconstruction(&self, keyframe: usize, frame: &Arc<Frame>) {
        if let Some(image) = self.image(keyframe) {
            *image.reconstruction.lock() = Some(Arc::clone(frame));
        }
    }

    /// Lets go of what can be made again.
    pub(crate) fn forget(&self) {
        for image in self.ends.iter().filter_map(|end| end.image.as_ref()) {
            if !image.brought {
                *image.reconstruction.lock() = None;
            }
            image.picture.source.forget();
        }
        if let Some(plate) = self.plate() {
            *plate.seen.lock() = None;
            plate.picture.source.forget();
            plate.repainting.forget();
        }
    }

    /// Every picture that is held, some of them several times.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        let images = self.ends.iter().filter_map(|end| end.image.as_ref());
        let images = images.map(|image| &image.picture.source);
        images.chain(self.plate().map(|plate| &plate.picture.source))
    }

    /// The memory of all else.
    pub(super) fn bytes(&self) -> usize {
        let of = |frame: &Mutex<Option<Arc<Frame>>>| {
            frame.lock().as_ref().map_or(0, |frame| size_of_val(frame.rgb()))
        };
        // Those that were brought along are their origins'.
        let images = self.ends.iter().filter_map(|end| end.image.as_ref());
        let images: usize =
            images.filter(|image| !image.brought).map(|i| of(&i.reconstruction)).sum();
        let plate = self.plate().map_or(0, |plate| {
            let mask = size_of_val(plate.inpainting.mask.values());
            of(&plate.seen) + plate.repainting.bytes() + mask
        });
        images + plate
    }
}
