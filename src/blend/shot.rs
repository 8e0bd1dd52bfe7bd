//! In: times and callers' images. Out: the frames at these times in them: decoded, and laid over or under
//! the caller's own pictures.

use super::lineage::Node;
use super::meter::Meter;
use super::origin::{Remnant, View};
use super::scene::{Canvas, Scene};
use super::session::Session;
use super::timing::Place;
use crate::error::{Error, Result};
use crate::frame::{
    Composite, End, Format, Frame, ImageMut, ImageRef, Layout, Placement, Plate, Transfer,
    led_over, writable,
};
use crate::progress::Call;
use std::sync::Arc;

/// What of a frame is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Output {
    /// The picture; in an inpainting session the source with its patch.
    #[default]
    Picture,
    /// The patch alone, multiplied by its feathered matte, which is its alpha; RGBA formats only.
    Patch,
}

/// Where a frame goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The caller's pixels.
    pub image: ImageMut<'a>,
    /// Where the picture lies among them. `None`: the image has the session's size.
    pub placement: Option<Placement>,
    /// In an inpainting session: the picture that the patch is laid over, instead of the source and of
    /// its size. The patch stays that of the source, so it holds still while the plate moves.
    pub plate: Option<ImageRef<'a>>,
    /// What is written.
    pub output: Output,
}

impl<'a> Target<'a> {
    /// The whole picture in `image`.
    pub fn new(image: ImageMut<'a>) -> Self {
        Target { image, placement: None, plate: None, output: Output::Picture }
    }

    /// The same with the picture at `placement`.
    pub fn placed(self, placement: Placement) -> Self {
        Target { placement: Some(placement), ..self }
    }

    /// The same over another plate.
    pub fn over(self, plate: ImageRef<'a>) -> Self {
        Target { plate: Some(plate), ..self }
    }

    /// The patch alone.
    pub fn patch(self) -> Self {
        Target { output: Output::Patch, ..self }
    }
}

/// A frame at one place, before it is laid over anything.
struct Shot {
    place: Place,
    /// `None` where an image covers it.
    frame: Option<Frame>,
}

/// Whether the image near a frame is the frame.
fn covered(near: Option<(usize, f32)>) -> bool {
    near.is_some_and(|(_, weight)| weight == 1.0)
}

impl Session {
    /// Writes the frame at each of `times` into a caller's image, as [`Frame::write`] does. What is shown
    /// of a caller's own picture (an image keyframe at its t, the source outside of the mask) is that
    /// picture's own bytes where size, format and transfer are the same, alpha included.
    ///
    /// # Errors
    /// Those of [`Session::render`]; `InvalidArgument` for targets that cannot be, known before the work.
    /// No pixel was written then.
    pub fn render_into(
        &self,
        times: &[f64],
        targets: &mut [Target<'_>],
        call: &Call<'_>,
    ) -> Result<()> {
        if times.len() != targets.len() {
            return Err(Error::invalid(format!(
                "{} times and {} targets: wanted as many of one as of the other",
                times.len(),
                targets.len()
            )));
        }
        let scene = self.tree().scene();
        for target in targets.iter() {
            self.check(target)?;
        }
        let Some(scene) = scene else {
            if self.render_by_device(times, targets, call)? {
                return Ok(());
            }
            let frames = self.render_many(times, call)?;
            for (frame, target) in frames.iter().zip(targets) {
                frame.write(&mut target.image, target.placement.as_ref())?;
            }
            return Ok(());
        };
        let shots = self.shots(times, call)?;
        for (shot, target) in shots.iter().zip(targets) {
            let alone = target.output == Output::Patch;
            let composite = shot.composite(scene, target.plate, alone)?;
            composite.write(&mut target.image, target.placement.as_ref())?;
        }
        Ok(())
    }

    /// Fails for a target that no frame could be written to.
    fn check(&self, target: &Target<'_>) -> Result<()> {
        let scene = self.tree().scene();
        let alone = target.output == Output::Patch;
        let repaints = scene.is_some_and(|scene| scene.repainting().is_some());
        if !repaints && (alone || target.plate.is_some()) {
            let what = if alone { "a patch alone" } else { "a plate" };
            return Err(Error::invalid(format!(
                "{what} of a session that repaints nothing: wanted one with a source and a mask"
            )));
        }
        if let Some(plate) = &target.plate {
            let (layout, [width, height]) = (plate.layout(), self.size());
            if layout.format.channels() == 1 {
                let format = layout.format;
                return Err(Error::invalid(format!("a plate in {format:?}: wanted RGB or RGBA")));
            }
            if [layout.width, layout.height] != [width, height] {
                return Err(Error::invalid(format!(
                    "a plate of {}x{} pixels: wanted {width}x{height}, as the source",
                    layout.width, layout.height
                )));
            }
        }
        writable(self.size(), &target.image, target.placement.as_ref(), alone)
    }

    /// The frames at `times` in a session with pictures, of their size.
    pub(super) fn composed(
        &self,
        scene: &Scene,
        times: &[f64],
        call: &Call<'_>,
    ) -> Result<Vec<Frame>> {
        let [width, height] = scene.canvas.size;
        let layout = Layout::packed(width, height, Format::RgbF32, Transfer::Srgb);
        let one = |shot: Shot| {
            if shot.is_bare(scene)
                && let Some(frame) = shot.frame
            {
                return Ok(frame);
            }
            let mut bytes = vec![0; width * height * 12];
            let mut image = ImageMut::new(&mut bytes, 0, layout)?;
            shot.composite(scene, None, false)?.write(&mut image, None)?;
            let values = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_ne_bytes(b));
            Frame::new(width, height, values.collect())
        };
        self.shots(times, call)?.into_iter().map(one).collect()
    }

    /// The model's frames at `times`, less what is shown of images' own pixels.
    fn shots(&self, times: &[f64], call: &Call<'_>) -> Result<Vec<Shot>> {
        let tree = self.tree();
        let scene = tree.scene().ok_or_else(|| Error::internal("a session without pictures"))?;
        let wanted = self.placed(times)?;
        // Held on to: somebody may purge the session meanwhile.
        let mut reconstructions: Vec<(usize, Arc<Frame>)> = Vec::new();
        for &(_, place) in &wanted {
            if let Some((keyframe, _)) = scene.near(place)
                && !reconstructions.iter().any(|(known, _)| *known == keyframe)
                && let Some(known) = scene.reconstruction(keyframe)
            {
                reconstructions.push((keyframe, known));
            }
        }
        let (nodes, missing) = self.needed(scene, &wanted, |keyframe| {
            reconstructions.iter().any(|(known, _)| *known == keyframe)
        });
        let frames = nodes.len() - missing.len();
        let _urgent = tree.model().urgent();
        let mut meter = tree.meter(call, &nodes, nodes.len());
        let mut decoded = self.decoded(&nodes, &mut meter)?;
        for (keyframe, frame) in missing.into_iter().zip(decoded.split_off(frames)) {
            let frame = Arc::new(frame);
            scene.keep_reconstruction(keyframe, &frame);
            reconstructions.push((keyframe, frame));
        }
        let mut decoded = decoded.into_iter();
        let mut shots = Vec::with_capacity(wanted.len());
        for (_, place) in wanted {
            let near = scene.near(place);
            if covered(near) {
                shots.push(Shot { place, frame: None });
                continue;
            }
            let frame = decoded.next();
            let mut frame = frame.ok_or_else(|| Error::internal("no frame came back"))?;
            if let Some((keyframe, weight)) = near {
                let own = reconstructions.iter().find(|(k, _)| *k == keyframe);
                let (_, own) = own.ok_or_else(|| Error::internal("an image's frame was lost"))?;
                frame = frame.less(own, weight)?;
            }
            shots.push(Shot { place, frame: Some(frame) });
        }
        Ok(shots)
    }

    /// The model's frames of branches, as they are laid over pictures.
    fn decoded(&self, nodes: &[(Node, Place)], meter: &mut Meter<'_, '_>) -> Result<Vec<Frame>> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let tree = self.tree();
        let frames = tree.frames(nodes, meter)?.into_iter();
        frames.map(|frame| self.settled(frame)).collect()
    }

    /// How a place is shown, for a session that goes on from there.
    pub(super) fn view(&self, place: Place, meter: &mut Meter<'_, '_>) -> Result<Option<View>> {
        let Some(scene) = self.tree().scene() else { return Ok(None) };
        let mut remnant = None;
        if let Some((keyframe, weight)) = scene.near(place)
            && let Some(image) = scene.image(keyframe)
        {
            let reconstruction = match scene.reconstruction(keyframe) {
                Some(known) => known,
                None => {
                    let place = self.tree().keyframe_place(keyframe);
                    let node = self.tree().leaf(place);
                    let mut made = self.decoded(&[(node, place)], meter)?;
                    let made = made.pop().ok_or_else(|| Error::internal("no frame came back"))?;
                    let made = Arc::new(made);
                    scene.keep_reconstruction(keyframe, &made);
                    made
                }
            };
            remnant = Some(Remnant {
                source: image.picture.source.clone(),
                curve: scene.curve_of(keyframe),
                reconstruction,
                weight,
                blend: image.blend.unwrap_or(0.0),
            });
        }
        Ok(Some(View { canvas: scene.canvas, curve: scene.curve(place), remnant }))
    }

    /// What is decoded for frames at `wanted`: those that are seen, and behind them the images near them
    /// whose own frames are not `known` yet, as keyframes too.
    pub(super) fn needed(
        &self,
        scene: &Scene,
        wanted: &[(Node, Place)],
        known: impl Fn(usize) -> bool,
    ) -> (Vec<(Node, Place)>, Vec<usize>) {
        let tree = self.tree();
        let (mut nodes, mut missing) = (Vec::new(), Vec::new());
        for &(node, place) in wanted {
            let near = scene.near(place);
            if covered(near) {
                continue;
            }
            nodes.push((node, place));
            if let Some((keyframe, _)) = near
                && !known(keyframe)
                && !missing.contains(&keyframe)
            {
                missing.push(keyframe);
            }
        }
        for &keyframe in &missing {
            let place = tree.keyframe_place(keyframe);
            nodes.push((tree.leaf(place), place));
        }
        (nodes, missing)
    }

    /// A frame whose base is led over from the source around it, where that is wanted.
    fn settled(&self, frame: Frame) -> Result<Frame> {
        match self.tree().repainting() {
            Some((scene, repainting)) if repainting.lead_over => {
                let source = scene.plate_working(self.tree().working_size())?;
                led_over(&frame, &source, &repainting.hole)
            }
            _ => Ok(frame),
        }
    }
}

impl Shot {
    /// Whether it is the model's frame and nothing else, as in a session without pictures.
    fn is_bare(&self, scene: &Scene) -> bool {
        let same = |frame: &Frame| Canvas::whole([frame.width(), frame.height()]) == scene.canvas;
        self.frame.as_ref().is_some_and(same)
            && scene.plate().is_none()
            && scene.near(self.place).is_none()
            && scene.curve(self.place).is_none()
    }

    /// The frame with the pictures around it.
    fn composite<'a>(
        &'a self,
        scene: &'a Scene,
        plate: Option<ImageRef<'a>>,
        alone: bool,
    ) -> Result<Composite<'a>> {
        let mut ends = Vec::new();
        if let Some((keyframe, weight)) = scene.near(self.place) {
            let image = scene.image(keyframe).ok_or_else(|| Error::internal("no image"))?;
            let picture = &image.picture;
            ends.push(End {
                image: picture.source.image()?,
                shown: picture.source.shown()?,
                weight,
                curve: scene.curve_of(keyframe),
            });
        }
        let plate = match scene.plate() {
            Some(own) => Some(Plate {
                image: match plate {
                    Some(plate) => plate,
                    None => own.picture.source.image()?,
                },
                shown: match plate {
                    Some(_) => None,
                    None => Some(own.picture.source.shown()?),
                },
                matte: &own.repainting.matte,
                alone,
            }),
            None => None,
        };
        Ok(Composite {
            size: scene.canvas.size,
            frame: self.frame.as_ref(),
            part: scene.canvas.part,
            curve: scene.curve(self.place),
            ends,
            plate,
        })
    }
}

impl Frame {
    /// The frame less a share of another of its size.
    fn less(&self, other: &Frame, share: f32) -> Result<Frame> {
        let values = self.rgb().iter().zip(other.rgb()).map(|(&a, &b)| a - share * b).collect();
        Frame::new(self.width(), self.height(), values)
    }
}
