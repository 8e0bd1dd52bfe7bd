//! In: times and callers' images. Out: the frames at these times in them, converted by the device that has decoded them:
//! into a device's own memory, or, as a caller's bytes, into the host's.

use super::session::Session;
use super::shot::Target;
use crate::backend::{CudaConversion, CudaImage, CudaPicture};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{ImageRef, Layout, Placement, fitting};
use crate::progress::Call;

/// The most frames that wait on a device until all of a call are decoded.
const MOST_THERE: usize = 64;

impl Session {
    /// Writes the frame at each of `times` into an image in a CUDA device's memory by that device itself: the bytes that
    /// [`render_into`](Self::render_into) would write, queued on the image's own stream. False, with nothing done,
    /// where frames have to come through the host: the model is elsewhere, or the caller's own pictures are shown.
    ///
    /// # Errors
    /// Those of [`Session::render`]; `InvalidArgument` for images that cannot be, known before the work. No image is
    /// written then; `Device` where the device itself fails in the midst of it.
    pub fn render_onto(
        &self,
        times: &[f64],
        images: &[(&CudaImage, Option<Placement>)],
        call: &Call<'_>,
    ) -> Result<bool> {
        if times.len() != images.len() {
            return Err(Error::invalid(format!(
                "{} times and {} images: wanted as many of one as of the other",
                times.len(),
                images.len()
            )));
        }
        let tree = self.tree();
        if tree.scene().is_some() || times.len() > MOST_THERE {
            return Ok(false);
        }
        // A model is on no device while its weights are let go of.
        let _held = tree.model().ready(call)?;
        let engine = tree.model().engine();
        if !images.iter().all(|(image, _)| engine.reaches(image)) {
            return Ok(false);
        }
        for (image, placement) in images {
            fitting(self.size(), image.layout(), placement.as_ref())?;
        }
        let Some(pictures) = self.pictures_there(times, call)? else { return Ok(false) };
        // All that can be missing is there before the first is written.
        let all = pictures
            .iter()
            .zip(images)
            .map(|(picture, (image, placement))| picture.prepare(image, placement.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        all.into_iter().try_for_each(CudaConversion::queue)?;
        Ok(true)
    }

    /// Writes the frame at each of `times` into an image of the host's, in the bytes that a device has made of it. False,
    /// with nothing written, where none does or has the room; of a session without pictures, and for targets that can be.
    pub(super) fn render_by_device(
        &self,
        times: &[f64],
        targets: &mut [Target<'_>],
        call: &Call<'_>,
    ) -> Result<bool> {
        if times.len() > MOST_THERE || !self.tree().model().engine().converts() {
            return Ok(false);
        }
        let Some(pictures) = self.pictures_there(times, call)? else { return Ok(false) };
        let mut all = Vec::with_capacity(targets.len());
        for (picture, target) in pictures.iter().zip(targets.iter()) {
            match picture.read(target.image.layout(), target.placement.as_ref()) {
                Ok(bytes) => all.push(bytes),
                // A large image that the host has room for, and the device hasn't.
                Err(e) if e.kind() == ErrorKind::OutOfMemory => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        // From here on nothing fails but for memory for a row.
        for (bytes, target) in all.iter().zip(targets) {
            let Layout { width, height, format, transfer, .. } = *target.image.layout();
            let layout = Layout::packed(width, height, format, transfer);
            target.image.copy(&ImageRef::new(bytes, 0, layout)?)?;
        }
        Ok(true)
    }

    /// The frames at `times`, left on the device.
    fn pictures_there(&self, times: &[f64], call: &Call<'_>) -> Result<Option<Vec<CudaPicture>>> {
        let tree = self.tree();
        let wanted = self.placed(times)?;
        let _urgent = tree.model().urgent();
        let mut meter = tree.meter(call, &wanted, wanted.len());
        tree.pictures(&wanted, &mut meter)
    }
}
