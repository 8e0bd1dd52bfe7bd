//! In: numbers. Out: [`Latent`] and [`Context`], what passes between sampling and blending.

use crate::error::{Error, Result};

/// One latent in host memory: channels first, as PyTorch orders it, so that seeds and files agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Latent {
    shape: [usize; 3],
    data: Vec<f32>,
}

impl Latent {
    /// A latent of `shape` (channels, height, width).
    ///
    /// # Errors
    /// `InvalidArgument` where `data` has another length.
    pub fn new(shape: [usize; 3], data: Vec<f32>) -> Result<Self> {
        let wanted = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if wanted != Some(data.len()) || data.is_empty() {
            return Err(Error::invalid(format!(
                "{} values given for a latent of shape {shape:?}",
                data.len()
            )));
        }
        Ok(Latent { shape, data })
    }

    /// (channels, height, width)
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The values, width fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The memory that the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}

/// The conditioning of one prompt: (tokens, width), as the text encoder gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    tokens: usize,
    data: Vec<f32>,
}

impl Context {
    /// Conditioning of `tokens` rows.
    ///
    /// # Errors
    /// `InvalidArgument` where `data` does not split into `tokens` rows.
    pub fn new(tokens: usize, data: Vec<f32>) -> Result<Self> {
        if tokens == 0 || data.is_empty() || !data.len().is_multiple_of(tokens) {
            return Err(Error::invalid(format!(
                "{} values do not split into {tokens} tokens",
                data.len()
            )));
        }
        Ok(Context { tokens, data })
    }

    /// Rows.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.data.len() / self.tokens
    }

    /// The values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}
