//! What the command-line examples share: files they write and how they report progress.
//!
//! * [`Movie`]: an `.mp4` that any browser plays (H.264, bundled encoder);
//! * [`write_png8`], [`write_png16`]: one picture, tagged as sRGB;
//! * [`contact_sheet`], [`evenly`]: a grid of labelled thumbnails;
//! * [`ModelArguments`]: which model, and how it is computed;
//! * [`read_png`]: a picture or a mask from a file;
//! * [`watched`], [`write_transition`]: a call under a progress bar, and a session as movie and sheet;
//! * [`latent_mix`]: an option that many have;
//! * [`ProgressBar`]: a bar with the time left, on stderr.
//!
//! Use it from an example with `mod common;`. Pictures are rows of interleaved R, G, B samples
//! without padding, top row first, values as shown on an sRGB screen.

// Every example uses a part of this module only.
#![allow(dead_code, unused_imports)]

mod model;
mod movie;
mod mp4;
mod png;
mod progress;
mod sheet;
mod transition;
mod yuv;

pub(crate) use self::model::ModelArguments;
pub(crate) use self::movie::Movie;
pub(crate) use self::png::{Picture, read_png, write_png8, write_png16};
pub(crate) use self::progress::ProgressBar;
pub(crate) use self::sheet::{contact_sheet, evenly};
pub(crate) use self::transition::{latent_mix, watched, write_transition};

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that could not be written, and why.
#[derive(Debug)]
pub(crate) struct OutputError {
    path: PathBuf,
    reason: String,
}

/// Shorthand for results of this module.
pub(crate) type Result<T> = std::result::Result<T, OutputError>;

impl OutputError {
    pub(crate) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for OutputError {}

/// Checks that `have` samples are `width` x `height` RGB pixels, and that there is at least one.
fn check_rgb(path: &Path, width: usize, height: usize, have: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(OutputError::new(
            path,
            format!("a picture of {width}x{height} pixels is empty"),
        ));
    }
    match width.checked_mul(height).and_then(|n| n.checked_mul(3)) {
        Some(want) if want == have => Ok(()),
        _ => Err(OutputError::new(
            path,
            format!("{have} samples are not {width}x{height} RGB pixels"),
        )),
    }
}
