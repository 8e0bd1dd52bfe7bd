//! In: nothing. Out: a small frame of the embedded model, and whether it is the one it should be.
//!
//! It runs everything: text encoder, noise, a tree of two keyframes, guidance, the VAE's decoder. The
//! hash tells whether the very bytes are right; those depend on the order in which the processor's matrix
//! kernel sums, so there is one for each level that was recorded, and beside it the means of the picture's
//! parts, which are the same everywhere up to rounding.

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;

/// What was recorded: the hash of the frame's 8-bit pixels on each level of processor that was at hand, and
/// the frame's parts (4 x 4 squares, red, green and blue of each, times 255). The test below renews it with
/// LATENTBLEND_BLESS=1 when the embedded model has changed.
#[cfg(feature = "demo")]
#[derive(Serialize, serde::Deserialize)]
struct Recorded {
    hashes: std::collections::BTreeMap<String, String>,
    means: Vec<f64>,
}

#[cfg(feature = "demo")]
fn recorded() -> Result<Recorded> {
    serde_json::from_str(include_str!("test_frame.json"))
        .map_err(|e| Error::new(ErrorKind::Internal, format!("test_frame.json: {e}")))
}

/// What a mean may differ by, in 255ths, in f32 and in shorter numbers: far above rounding, below anything that can
/// be seen.
#[cfg(feature = "demo")]
const BOUNDS: [f64; 2] = [0.05, 1.0];

#[derive(Serialize)]
pub(super) struct TestFrame {
    prompts: [&'static str; 2],
    seeds: [u64; 2],
    size: [usize; 2],
    steps: usize,
    t: f64,
    seconds: f64,
    /// XXH3-128 of the 8-bit RGB pixels.
    hash: String,
    /// What the processor ran, and in which precision where that isn't f32.
    kernels: String,
    /// The hash recorded for these kernels; nothing where none was.
    expected_hash: Option<String>,
    hash_as_expected: Option<bool>,
    /// Of the means of the frame's parts from the recorded ones, in 255ths.
    largest_difference: f64,
    as_expected: bool,
}

#[cfg(not(feature = "demo"))]
pub(super) fn test_frame() -> Result<TestFrame> {
    Err(Error::new(ErrorKind::Unsupported, "this build embeds no demo model"))
}

/// What goes in.
#[cfg(feature = "demo")]
const PROMPTS: [&str; 2] = ["a castle on a hill at sunset", "a lake in the mountains by day"];
#[cfg(feature = "demo")]
const SEEDS: [u64; 2] = [420, 421];
#[cfg(feature = "demo")]
const SIZE: [usize; 2] = [64, 64];
#[cfg(feature = "demo")]
const STEPS: usize = 4;
#[cfg(feature = "demo")]
const T: f64 = 0.5;

/// The kernels that made the frame, its 8-bit pixels, and the means of its parts.
#[cfg(feature = "demo")]
fn picture() -> Result<(String, Vec<u8>, Vec<f64>)> {
    use crate::backend::{DeviceChoice, Numerics};
    use crate::blend::{BlendOptions, Branching, Keyframe, Session};
    use crate::diffusion::Model;
    use crate::model::LoadOptions;
    use crate::progress::Call;

    // On the CPU: what is expected is its frame.
    let options = LoadOptions { device: DeviceChoice::Cpu, ..LoadOptions::default() };
    let model = Model::demo_with(&options, &Call::new())?;
    let keyframes = [Keyframe::new(PROMPTS[0], SEEDS[0]), Keyframe::new(PROMPTS[1], SEEDS[1])];
    let options = BlendOptions {
        size: Some(SIZE),
        steps: Some(STEPS),
        branching: Some(Branching { injections: vec![0, 2], branches: vec![2, 3] }),
        ..BlendOptions::default()
    };
    let frame = Session::new(&model, &keyframes, &options)?.render(T, &Call::new())?;
    let Numerics { kernels, precision, .. } = model.engine().numerics();
    let kernels = if precision == "f32" { kernels } else { format!("{kernels} {precision}") };
    Ok((kernels, frame.to_rgb8(), means(frame.rgb(), SIZE)))
}

#[cfg(feature = "demo")]
pub(super) fn test_frame() -> Result<TestFrame> {
    let start = std::time::Instant::now();
    let (kernels, pixels, means) = picture()?;
    let recorded = recorded()?;
    let bound = BOUNDS[usize::from(kernels.contains(' ') && !kernels.starts_with("reference"))];
    if means.len() != recorded.means.len() {
        return Err(Error::new(ErrorKind::Internal, format!("{} means", means.len())));
    }
    let differences = means.iter().zip(&recorded.means).map(|(got, wanted)| (got - wanted).abs());
    let largest_difference = differences.fold(0.0, f64::max);
    let hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&pixels));
    let expected_hash = recorded.hashes.get(&kernels).cloned();
    let hash_as_expected = expected_hash.as_ref().map(|expected| *expected == hash);
    Ok(TestFrame {
        prompts: PROMPTS,
        seeds: SEEDS,
        size: SIZE,
        steps: STEPS,
        t: T,
        seconds: start.elapsed().as_secs_f64(),
        as_expected: largest_difference <= bound && hash_as_expected != Some(false),
        hash,
        kernels,
        expected_hash,
        hash_as_expected,
        largest_difference,
    })
}

/// The means of 4 x 4 parts of a picture, channel by channel, times 255.
#[cfg(feature = "demo")]
fn means(rgb: &[f32], [width, height]: [usize; 2]) -> Vec<f64> {
    let (w, h) = (width / 4, height / 4);
    let mean = |part: usize| {
        let (channel, column, row) = (part % 3, part / 3 % 4, part / 12);
        let pixels = (row * h..(row + 1) * h)
            .flat_map(|y| (column * w..(column + 1) * w).map(move |x| y * width + x));
        let sum: f64 = pixels.map(|p| f64::from(rgb[p * 3 + channel].clamp(0.0, 1.0))).sum();
        sum / (w * h) as f64 * 255.0
    };
    (0..48).map(mean).collect()
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use super::*;

    #[test]
    fn the_test_frame_is_the_recorded_one() {
        let bless = std::env::var_os("LATENTBLEND_BLESS").is_some();
        let found = test_frame().unwrap();
        if !found.as_expected && bless {
            let (kernels, _, means) = picture().unwrap();
            let means = means.iter().map(|m| (m * 1000.0).round() / 1000.0).collect();
            let hashes = [(kernels, found.hash.clone())].into();
            let recorded = Recorded { hashes, means };
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctor/test_frame.json");
            std::fs::write(path, serde_json::to_string(&recorded).unwrap() + "\n").unwrap();
        }
        let text = serde_json::to_string_pretty(&found).unwrap();
        assert!(
            found.as_expected || bless,
            "{text}\nif the embedded model has changed: LATENTBLEND_BLESS=1 cargo test --lib test_frame"
        );
    }
}
