//! In: a source image and a mask. Out: what the network is told of them at each evaluation.
//!
//! Models of nine channels are told the mask and the masked picture, as Stable Diffusion 2.0-inpainting was
//! trained: latent, mask, latent of the masked picture, in this order. With models of four, what is kept
//! is put back after each step, with as much noise as the step leaves (latent masking; Lugmayr et al. 2022).

use super::image::noised;
use super::meter::Meter;
use super::scene::{Canvas, encoded};
use super::timing::Place;
use super::tree::Tree;
use crate::diffusion::{Batch, Branch, Latent, Priority, State, Trail};
use crate::error::{Error, Result};
use crate::frame::{Frame, Mask, Source};
use crate::progress::Call;
use parking_lot::Mutex;
use std::sync::Arc;

/// What is repainted, and how the patch is laid over the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Inpainting {
    /// The picture, in any format and colour space, HDR too.
    pub source: Source,
    /// What of it is repainted. May have another size, of the same shape. The network is told the mask as
    /// 0 and 1, from a half on; where it is 0, the source is left as it is, bit for bit.
    pub mask: Mask,
    /// The part of the source that the model sees and repaints: x1, y1, x2, y2 in its pixels, the last two
    /// just outside. `None`: all of it. A smaller part is repainted in more detail.
    pub region: Option<[usize; 4]>,
    /// Over how many of the source's pixels the patch fades in from the mask's edge, inwards, 0 to
    /// 10000. `None`: as many as one pixel of a latent covers.
    pub feather: Option<f64>,
    /// Whether brightness and colour of the patch are led over from what surrounds it.
    pub lead_over: bool,
    /// Whether the first keyframe shows the source itself, and not what its seed and prompt give.
    pub from_source: bool,
    /// As [`KeyframeImage::peak`](crate::KeyframeImage::peak), for the source.
    pub peak: Option<f64>,
}

impl Inpainting {
    /// All of `source` seen, what `mask` marks repainted, by both keyframes' prompts.
    pub fn new(source: Source, mask: Mask) -> Self {
        Inpainting {
            source,
            mask,
            region: None,
            feather: None,
            lead_over: true,
            from_source: false,
            peak: None,
        }
    }

    /// The source's plane, and the part of it that the model sees.
    pub(super) fn canvas(&self) -> Result<Canvas> {
        Ok(Canvas { size: self.source.size(), part: self.part()? })
    }

    /// The part of the source that the model sees, checked.
    pub(super) fn part(&self) -> Result<[usize; 4]> {
        let [width, height] = self.source.size();
        let Some(region) = self.region else { return Ok([0, 0, width, height]) };
        let [x1, y1, x2, y2] = region;
        if x1 < x2 && x2 <= width && y1 < y2 && y2 <= height {
            return Ok(region);
        }
        Err(Error::invalid(format!(
            "inpainting region {region:?}: wanted x1, y1, x2, y2 with x1 < x2 <= {width} and y1 < y2 <= \
             {height}"
        )))
    }
}

/// What a session keeps of an [`Inpainting`].
pub(crate) struct Repainting {
    pub(crate) lead_over: bool,
    /// How much of the patch is shown at each of the source's pixels.
    pub(crate) matte: Vec<f32>,
    /// At the working size: 1 where the model repaints.
    hard: Vec<f32>,
    /// At the working size: 1 where the matte is not 0, or the model repaints.
    pub(crate) hole: Vec<f32>,
    /// The same in latent pixels.
    cells: Vec<f32>,
    /// What a model of nine channels is told.
    extra: Mutex<Option<Arc<Latent>>>,
    /// The source's latent.
    clean: Mutex<Option<Arc<Latent>>>,
}

impl Repainting {
    /// Checks an inpainting for a session that works at `work` pixels, `factor` to a latent pixel.
    pub(super) fn new(inpainting: &Inpainting, work: [usize; 2], factor: usize) -> Result<Self> {
        let (size, part) = (inpainting.source.size(), inpainting.part()?);
        let [[mask_w, mask_h], [width, height]] = [inpainting.mask.size(), size];
        // Proxies are rounded: a pixel more or less is the same shape.
        let off = |a: usize, b: usize, c: usize, d: usize| {
            (a as f64 - b as f64 * c as f64 / d as f64).abs() <= 1.0
        };
        if !off(mask_w, mask_h, width, height) && !off(mask_h, mask_w, height, width) {
            return Err(Error::invalid(format!(
                "a mask of {mask_w}x{mask_h} pixels for a source of {width}x{height}: wanted the same \
                 shape"
            )));
        }
        let mask = inpainting.mask.resized(size)?.within(part);
        let seen = [part[2] - part[0], part[3] - part[1]];
        let cell = factor as f64 * (seen[0] as f64 / work[0] as f64).max(1.0);
        let feather = inpainting.feather.unwrap_or(cell);
        if !(0.0..=10_000.0).contains(&feather) {
            return Err(Error::invalid(format!("feather {feather}: wanted 0 to 10000 pixels")));
        }
        let matte = mask.matte(feather)?;
        let worked = mask.cropped(part)?.resized(work)?;
        let hard = worked.hard();
        // The nearest pixel of a latent pixel is its first, as torch has it.
        let [width, height] = work;
        let first =
            |i: usize| i / (width / factor) * factor * width + i % (width / factor) * factor;
        let cells: Vec<f32> =
            (0..width / factor * (height / factor)).map(|i| hard[first(i)]).collect();
        if cells.iter().all(|&cell| cell == 0.0) {
            return Err(Error::invalid(format!(
                "the mask marks nothing: wanted 0.5 (128 of 255) or more over {factor}x{factor} pixels \
                 of the {width}x{height} that the model works at"
            )));
        }
        let cell_of = |i: usize| i / width / factor * (width / factor) + i % width / factor;
        let touched = |(i, &v): (usize, &f32)| v > 0.0 || cells[cell_of(i)] > 0.0;
        let hole = worked.values().iter().enumerate().map(touched);
        let hole = hole.map(|touched| f32::from(u8::from(touched))).collect();
        Ok(Repainting {
            lead_over: inpainting.lead_over,
            matte,
            hard,
            hole,
            cells,
            extra: Mutex::default(),
            clean: Mutex::default(),
        })
    }

    /// The memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let fixed = [&self.matte, &self.hard, &self.hole, &self.cells].map(Vec::len);
        let latent = |known: &Mutex<Option<Arc<Latent>>>| {
            known.lock().as_ref().map_or(0, |latent| latent.bytes())
        };
        fixed.iter().sum::<usize>() * size_of::<f32>() + latent(&self.extra) + latent(&self.clean)
    }

    /// Lets go of what can be made again.
    pub(super) fn forget(&self) {
        *self.extra.lock() = None;
        *self.clean.lock() = None;
    }

    /// The picture with what is repainted hidden: grey, the middle of the model's range.
    fn masked(&self, picture: &Frame) -> Result<Frame> {
        let pixels = picture.rgb().chunks_exact(3).zip(&self.hard);
        let rgb = pixels.flat_map(|(pixel, &hard)| match hard {
            0.0 => [pixel[0], pixel[1], pixel[2]],
            _ => [0.5; 3],
        });
        Frame::new(picture.width(), picture.height(), rgb.collect())
    }
}

/// What four-channel models must keep: latent pixels, their clean values, and each branch's noise.
struct Kept<'a> {
    cells: &'a [f32],
    clean: &'a Latent,
    noises: Vec<Latent>,
}

impl Kept<'_> {
    /// A branch's latent with what is kept put back at signal share `alpha`; `None`: clean.
    fn put(&self, branch: usize, latent: &Latent, alpha: Option<f64>) -> Result<Latent> {
        let known = match alpha {
            Some(alpha) => noised(self.clean, &self.noises[branch], alpha)?,
            None => self.clean.clone(),
        };
        let values = latent.data().iter().zip(known.data()).zip(self.cells.iter().cycle());
        let values = values.map(|((&x, &known), &cell)| if cell == 0.0 { known } else { x });
        Latent::new(latent.shape(), values.collect())
    }
}

impl Tree {
    /// What a model of nine channels is told besides the latent; nothing for one of four.
    pub(super) fn extra(&self, priority: Priority, call: &Call<'_>) -> Result<Option<Arc<Latent>>> {
        if !self.model().info().inpainting {
            return Ok(None);
        }
        let Some((scene, repainting)) = self.repainting() else {
            return self.empty_mask(priority, call).map(Some);
        };
        if let Some(known) = &*repainting.extra.lock() {
            return Ok(Some(Arc::clone(known)));
        }
        let picture = scene.plate_working(self.working_size())?;
        let masked = encoded(self.model(), priority, repainting.masked(&picture)?, call)?;
        let [channels, height, width] = masked.shape();
        let extra = [repainting.cells.as_slice(), masked.data()].concat();
        let extra = Arc::new(Latent::new([1 + channels, height, width], extra)?);
        *repainting.extra.lock() = Some(Arc::clone(&extra));
        Ok(Some(extra))
    }

    /// The source's latent, where a model of four channels repaints a part of it.
    fn kept(&self, priority: Priority, call: &Call<'_>) -> Result<Option<Arc<Latent>>> {
        let Some((scene, repainting)) = self.repainting() else { return Ok(None) };
        if self.model().info().inpainting {
            return Ok(None);
        }
        if let Some(known) = &*repainting.clean.lock() {
            return Ok(Some(Arc::clone(known)));
        }
        let picture = scene.plate_working(self.working_size())?;
        let picture = Frame::clone(&picture);
        let clean = Arc::new(encoded(self.model(), priority, picture, call)?);
        *repainting.clean.lock() = Some(Arc::clone(&clean));
        Ok(Some(clean))
    }

    /// The noise that a run at this place would have started from, were no keyframe an image.
    pub(super) fn noise_at(&self, place: Place) -> Result<Latent> {
        let [from, to] = self.lineage().ends(place);
        let mix = self.recipe().latent_mix;
        mix.between(&self.noise_of(from)?, &self.noise_of(to)?, place.fraction)
    }

    /// Runs a batch whose branches lie at `places`; without places nothing is put back.
    pub(super) fn denoise(
        &self,
        batch: Batch,
        places: &[Place],
        priority: Priority,
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Trail>> {
        let kept = match places {
            [] => None,
            _ => self.kept(priority, meter.call())?,
        };
        let (Some(clean), Some((_, repainting))) = (kept, self.repainting()) else {
            return self.sampled(batch, priority, meter);
        };
        let mut noises = Vec::with_capacity(places.len());
        for place in places {
            noises.push(self.noise_at(*place)?);
        }
        let kept = Kept { cells: &repainting.cells, clean: &clean, noises };
        let Batch { mut branches, schedule, steps, keep, guidance } = batch;
        let first = keep.clamp(steps.start, steps.end.saturating_sub(1).max(steps.start));
        let mut states: Vec<Vec<State>> = vec![Vec::new(); branches.len()];
        for step in steps {
            for (index, branch) in branches.iter_mut().enumerate() {
                // What draws a branch, as mixing two parents, changes what both of them kept.
                let history = branch.history.take();
                let mut state = State { latent: branch.latent.clone(), history };
                if let Some(feed) = &branch.feed {
                    state = feed.draw(step, state)?;
                }
                if step > 0 {
                    state.latent =
                        kept.put(index, &state.latent, Some(schedule.steps[step].alpha))?;
                }
                (branch.latent, branch.history) = (state.latent, state.history);
            }
            let alone = |branch: &Branch| Branch { feed: None, ..branch.clone() };
            let batch = Batch {
                branches: branches.iter().map(alone).collect(),
                schedule: Arc::clone(&schedule),
                steps: step..step + 1,
                keep: step,
                guidance: Arc::clone(&guidance),
            };
            let trails = self.sampled(batch, priority, meter)?;
            let next = schedule.steps.get(step + 1).map(|next| next.alpha);
            for (index, trail) in trails.iter().enumerate() {
                let mut state = trail.last().clone();
                state.latent = kept.put(index, &state.latent, next)?;
                (branches[index].latent, branches[index].history) =
                    (state.latent.clone(), state.history.clone());
                if step >= first {
                    states[index].push(state);
                }
            }
        }
        states.into_iter().map(|states| Trail::new(first, states)).collect()
    }
}
