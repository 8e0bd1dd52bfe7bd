//! In: networks that were loaded. Out: [`Facts`], what is known of them also when they aren't there.

use super::needs::{Needs, Outline};
use crate::backend::{Backend, Numerics, Workers};

/// What a model's networks are and take, whether or not their weights are held.
pub(super) struct Facts {
    pub(super) outline: Outline,
    /// What the weights take in memory, in bytes.
    pub(super) weights: u64,
    /// Tokens of a prompt and values of each.
    pub(super) context: [usize; 2],
    pub(super) numerics: Numerics,
    pub(super) threads: usize,
    /// Branches that the backend evaluates together.
    branches: usize,
    /// Whether it has memory of its own, of which it takes less at once where it lacks.
    elastic: bool,
    /// Whether its device converts pictures to callers' formats.
    pub(super) converts: bool,
    /// Whether pictures are decoded beside what else runs.
    pub(super) beside: bool,
}

impl Facts {
    pub(super) fn new<B: Backend>(
        (backend, beside): (&B, bool),
        workers: &Workers,
        outline: Outline,
        weights: u64,
        context: [usize; 2],
    ) -> Self {
        Facts {
            outline,
            weights,
            context,
            numerics: backend.numerics(),
            threads: workers.count(),
            branches: backend.branches().max(1),
            elastic: backend.available().is_some(),
            converts: backend.converts(),
            beside,
        }
    }

    /// Evaluations of the UNet that a batch of `branches` over `steps` steps takes.
    pub(super) fn evaluations(&self, branches: usize, steps: usize) -> usize {
        branches.div_ceil(self.branches) * steps
    }

    /// What calls take in memory besides the weights, for pictures of `size` (width, height).
    pub(super) fn needs(&self, size: [usize; 2], branches: usize) -> Needs {
        let most = if self.elastic { 1 } else { self.branches };
        // What cannot be run dry cannot be run either, and then says why.
        self.outline.needs(size, branches.clamp(1, most)).unwrap_or_default()
    }
}
