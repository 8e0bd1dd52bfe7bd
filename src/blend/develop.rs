//! In: branches that are to be seen. Out: their pictures: denoised, then decoded. On a device that does both at once, those
//! that are finished are decoded while the next are denoised.

use super::cache::BATCH;
use super::lineage::Node;
use super::meter::Meter;
use super::timing::Place;
use super::tree::{Trails, Tree};
use crate::backend::CudaPicture;
use crate::diffusion::{Latent, Pending, Priority};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::progress::Call;

/// How latents' pictures are begun.
type Begin<'a, T> = dyn Fn(Vec<Latent>, &Call<'_>) -> Result<Pending<T>> + 'a;

impl Tree {
    /// The frames of branches, in their order.
    pub(super) fn frames(
        &self,
        wanted: &[(Node, Place)],
        meter: &mut Meter<'_, '_>,
    ) -> Result<Vec<Frame>> {
        let begin = |latents, call: &Call<'_>| self.model().decode(latents, call);
        let parts = self.develop(wanted, meter, &begin)?;
        in_order(wanted.len(), parts)
    }

    /// Their pictures, left on the device; `None` where they are the host's.
    pub(super) fn pictures(
        &self,
        wanted: &[(Node, Place)],
        meter: &mut Meter<'_, '_>,
    ) -> Result<Option<Vec<CudaPicture>>> {
        let begin = |latents, call: &Call<'_>| self.model().decode_there(latents, call);
        let parts = self.develop(wanted, meter, &begin)?;
        let parts = parts.into_iter().map(|(places, made)| Some((places, made?)));
        match parts.collect::<Option<Vec<_>>>() {
            Some(parts) => in_order(wanted.len(), parts).map(Some),
            None => Ok(None),
        }
    }

    /// What `begin` makes of the latents of branches, in parts: which of `wanted`, and what came of them.
    fn develop<T: 'static>(
        &self,
        wanted: &[(Node, Place)],
        meter: &mut Meter<'_, '_>,
        begin: &Begin<'_, T>,
    ) -> Result<Vec<(Vec<usize>, T)>> {
        let (call, beside) = (meter.call(), self.model().decodes_beside());
        let mut left: Vec<usize> = (0..wanted.len()).collect();
        let mut begun: Vec<(Vec<usize>, Pending<T>)> = Vec::new();
        let mut decode = |known: &Trails| -> Result<()> {
            // No more is denoised once a picture can't be made.
            if let Some(error) = begun.iter().find_map(|(_, pending)| pending.failure()) {
                return Err(error);
            }
            let of = |index: usize| known.get(&wanted[index].0);
            let (there, rest): (Vec<usize>, Vec<usize>) =
                left.iter().partition(|&&index| of(index).is_some());
            // Where one thing is done at a time, all are denoised first.
            if there.is_empty() || !(beside || rest.is_empty()) {
                return Ok(());
            }
            let latents = there.iter().filter_map(|&index| of(index));
            let latents = latents.map(|trail| trail.last().latent.clone()).collect();
            begun.push((there, begin(latents, call)?));
            left = rest;
            Ok(())
        };
        let together = if beside { BATCH } else { usize::MAX };
        self.finish_by(wanted, Priority::Urgent, meter, together, &mut decode)?;
        let mut done = 0;
        let mut parts = Vec::with_capacity(begun.len());
        for (places, pending) in begun {
            let made = pending.wait(|turns| meter.decode(done + turns, wanted.len()))?;
            done += places.len();
            parts.push((places, made));
        }
        Ok(parts)
    }
}

/// What was made in parts, as it was wanted.
fn in_order<T>(count: usize, parts: Vec<(Vec<usize>, Vec<T>)>) -> Result<Vec<T>> {
    let mut all: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (places, made) in parts {
        places.into_iter().zip(made).for_each(|(place, made)| all[place] = Some(made));
    }
    let all: Option<Vec<T>> = all.into_iter().collect();
    all.ok_or_else(|| Error::internal("a frame was lost"))
}
