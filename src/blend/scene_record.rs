//! In: a session's pictures, and what is repainted. Out: [`SceneRecord`] and [`PictureRecord`], the same in the
//! header of a session's file, and their pixels as tensors beside it; and back, checked.
//!
//! Pixels are stored as they came (their numbers in little-endian order), each picture once.

use super::exact::Exact;
use super::inpainting::Inpainting;
use super::options::Recipe;
use super::scene::{Canvas, Ground, Plate, Scene};
use super::tensor::{Stored, Tensors, take};
use crate::diffusion::ModelInfo;
use crate::error::{Error, Result};
use crate::frame::{Format, Layout, Mask, Source, Transfer};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Whether a tensor of this name holds a picture's bytes.
pub(super) fn is_picture(name: &str) -> bool {
    name.starts_with("picture.")
}

fn name_of(number: usize) -> String {
    format!("picture.{number}")
}

#[derive(Serialize, Deserialize)]
pub(super) struct PictureRecord {
    width: usize,
    height: usize,
    /// The numbers of [`Format`] and [`Transfer`].
    format: u32,
    transfer: u32,
}

/// The pictures of a file.
#[derive(Default)]
pub(super) struct Album {
    sources: Vec<Source>,
}

impl Album {
    /// The number of a picture, which is added where it isn't there yet.
    pub(super) fn number(&mut self, source: &Source) -> usize {
        let same = |other: &Source| other.memory().0 == source.memory().0;
        self.sources.iter().position(same).unwrap_or_else(|| {
            self.sources.push(source.clone());
            self.sources.len() - 1
        })
    }

    pub(super) fn source(&self, number: usize) -> Result<Source> {
        let source = self.sources.get(number).cloned();
        source.ok_or_else(|| Error::invalid(format!("{} is missing", name_of(number))))
    }

    /// Adds the pictures to a file's tensors.
    pub(super) fn put(&self, tensors: &mut Tensors) -> Vec<PictureRecord> {
        let record = |(number, source): (usize, &Source)| {
            let Layout { width, height, format, transfer, .. } = *source.layout();
            let shape = vec![height, width, format.bytes_per_pixel()];
            tensors.insert(name_of(number), Stored { shape, bytes: source.to_le_bytes() });
            PictureRecord { width, height, format: format as u32, transfer: transfer as u32 }
        };
        self.sources.iter().enumerate().map(record).collect()
    }

    /// Takes them out.
    ///
    /// # Errors
    /// `InvalidArgument` for what is missing, or cannot be.
    pub(super) fn take(records: &[PictureRecord], tensors: &mut Tensors) -> Result<Self> {
        let source = |(number, record): (usize, &PictureRecord)| {
            let PictureRecord { width, height, format, transfer } = *record;
            let (format, transfer) = (Format::try_from(format)?, Transfer::try_from(transfer)?);
            let stored = take(tensors, &name_of(number))?;
            if stored.shape != [height, width, format.bytes_per_pixel()] {
                return Err(Error::invalid(format!("a picture of shape {:?}", stored.shape)));
            }
            let layout = Layout::packed(width, height, format, transfer);
            Source::from_le_bytes(layout, stored.bytes)
        };
        let sources = records.iter().enumerate().map(source).collect::<Result<_>>()?;
        Ok(Album { sources })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct SceneRecord {
    size: [usize; 2],
    part: [usize; 4],
    inpainting: Option<InpaintingRecord>,
}

#[derive(Serialize, Deserialize)]
struct InpaintingRecord {
    picture: usize,
    region: Option<[usize; 4]>,
    feather: Option<Exact>,
    lead_over: bool,
    from_source: bool,
    peak: Option<Exact>,
}

impl SceneRecord {
    pub(super) fn new(scene: &Scene, album: &mut Album, tensors: &mut Tensors) -> Self {
        let inpainting = scene.plate().map(|plate| {
            let Inpainting { source, mask, region, feather, lead_over, from_source, peak } =
                &plate.inpainting;
            let [width, height] = mask.size();
            tensors.insert("mask".into(), Stored::new(&[height, width], mask.values()));
            InpaintingRecord {
                picture: album.number(source),
                region: *region,
                feather: feather.map(Exact),
                lead_over: *lead_over,
                from_source: *from_source,
                peak: peak.map(Exact),
            }
        });
        let Canvas { size, part } = scene.canvas;
        SceneRecord { size, part, inpainting }
    }

    /// What a session's pictures are laid on.
    ///
    /// # Errors
    /// `InvalidArgument` for what is missing, or cannot be.
    pub(super) fn ground(
        &self,
        album: &Album,
        tensors: &mut Tensors,
        recipe: &Recipe,
        model: &ModelInfo,
    ) -> Result<Ground> {
        let canvas = Some(Canvas { size: self.size, part: self.part });
        let Some(record) = &self.inpainting else { return Ok(Ground { plate: None, canvas }) };
        let mask = take(tensors, "mask")?;
        let [height, width] = *mask.shape.as_slice() else {
            return Err(Error::invalid(format!("a mask of shape {:?}", mask.shape)));
        };
        let inpainting = Inpainting {
            source: album.source(record.picture)?,
            mask: Mask::new(width, height, mask.values())?,
            region: record.region,
            feather: record.feather.map(|feather| feather.0),
            lead_over: record.lead_over,
            from_source: record.from_source,
            peak: record.peak.map(|peak| peak.0),
        };
        let plate = Plate::new(&inpainting, recipe.working_size(model), model.factor)?;
        Ok(Ground { plate: Some(Arc::new(plate)), canvas })
    }
}
