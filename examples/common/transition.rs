//! A session as a movie and a contact sheet.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use latentblend::{Call, LatentMix, Session, Stage};

use super::{Movie, ProgressBar, contact_sheet, evenly, write_png8};

/// The value of `--latent-mix`.
pub(crate) fn latent_mix(text: &str) -> Result<LatentMix, String> {
    let found = LatentMix::ALL.into_iter().find(|mix| mix.name() == text);
    let names = LatentMix::ALL.map(LatentMix::name);
    found.ok_or_else(|| format!("wanted one of {}", names.join(", ")))
}

/// Runs `work` under a progress bar.
pub(crate) fn watched<T>(
    name: &str,
    work: impl FnOnce(&Call<'_>) -> latentblend::Result<T>,
) -> latentblend::Result<T> {
    const PARTS: u64 = 1000;
    let bar = Mutex::new(ProgressBar::new(name, PARTS));
    let call = Call::new().on_progress(|progress| {
        if let Ok(mut bar) = bar.lock()
            && progress.stage != Stage::Text
        {
            bar.set((progress.fraction * PARTS as f64) as u64);
        }
        ControlFlow::Continue(())
    });
    let result = work(&call)?;
    drop(call);
    if let Ok(bar) = bar.into_inner() {
        bar.finish();
    }
    Ok(result)
}

/// Writes `frames` frames, even in t, as a movie to `path`, and twenty of them as a contact sheet beside
/// it, with the ending `png`.
pub(crate) fn write_transition(
    session: &Session,
    path: &Path,
    frames: usize,
    fps: f64,
) -> Result<(), Box<dyn Error>> {
    const BATCH: usize = 4;
    const SHEET: usize = 20;
    let [width, height] = session.size();
    let last = frames.max(2) - 1;
    let times: Vec<f64> = (0..=last).map(|i| session.last_t() * i as f64 / last as f64).collect();
    let mut bar = ProgressBar::new("frames", times.len() as u64);
    // Movies have even sides; a picture's last row or column may be left out of it.
    let even = [width & !1, height & !1];
    let mut movie = Movie::create(path, even[0], even[1], fps)?;
    let chosen = evenly(times.len(), SHEET);
    let mut sheet = Vec::new();
    for (batch, part) in times.chunks(BATCH).enumerate() {
        for (index, frame) in session.render_many(part, &Call::new())?.iter().enumerate() {
            let rgb = frame.to_rgb8();
            let rows = rgb.chunks_exact(width * 3).take(even[1]);
            movie.push(&rows.flat_map(|row| &row[..even[0] * 3]).copied().collect::<Vec<u8>>())?;
            if chosen.contains(&(batch * BATCH + index)) {
                sheet.push((part[index], rgb));
            }
            bar.step();
        }
    }
    movie.finish()?;
    bar.finish();
    let sheet: Vec<(f64, &[u8])> = sheet.iter().map(|(t, rgb)| (*t, rgb.as_slice())).collect();
    let (pixels, sheet_width, sheet_height) = contact_sheet(&sheet, width, height, 5)?;
    let sheet_path = path.with_extension("png");
    write_png8(&sheet_path, sheet_width, sheet_height, &pixels)?;
    eprintln!("  {} ({} frames), {}", path.display(), times.len(), sheet_path.display());
    Ok(())
}
