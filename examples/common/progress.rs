//! A progress bar on stderr.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Time between two lines where stderr is not a terminal.
const PAUSE: Duration = Duration::from_secs(5);

/// One stage of the work: its name, a bar, how much is done, the time spent and the time left.
///
/// A terminal shows one live line; a log file or a pipe gets a line at most every five seconds, and
/// one at the end.
pub(crate) struct ProgressBar {
    bar: indicatif::ProgressBar,
    stage: String,
    /// When the last line was written; `None` on a terminal.
    lines: Option<Instant>,
    finished: bool,
}

impl ProgressBar {
    /// Begins a stage of `total` steps.
    pub(crate) fn new(stage: &str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = indicatif::ProgressBar::with_draw_target(Some(total), target);
        let template = "{prefix:12} [{bar:30}] {pos}/{len}  {elapsed} spent{left}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style =
                style.with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
                    // Nothing done yet says nothing about the time left.
                    if state.pos() > 0 {
                        let _ = write!(out, ", {:#} left", HumanDuration(state.eta()));
                    }
                });
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(stage.to_owned());
        if terminal {
            // Steps can take long: the clock must not look stuck.
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        let lines = (!terminal).then(Instant::now);
        Self { bar, stage: stage.to_owned(), lines, finished: false }
    }

    /// Says that `done` steps are done by now.
    pub(crate) fn set(&mut self, done: u64) {
        self.bar.set_position(done);
        if self.lines.is_some_and(|last| last.elapsed() >= PAUSE) && done < self.total() {
            let left = format!(", {} left", HumanDuration(self.bar.eta()));
            self.line(&left);
        }
    }

    /// Says that one more step is done.
    pub(crate) fn step(&mut self) {
        self.set(self.bar.position() + 1);
    }

    /// Writes a line of its own, above the bar.
    pub(crate) fn say(&self, message: &str) {
        self.bar.suspend(|| to_stderr(message));
    }

    /// Ends the stage; the bar stays in view, full.
    pub(crate) fn finish(mut self) {
        self.finished = true;
        self.bar.finish();
        if self.lines.is_some() {
            self.line("");
        }
    }

    fn total(&self) -> u64 {
        self.bar.length().unwrap_or(0)
    }

    fn line(&mut self, tail: &str) {
        let (done, total) = (self.bar.position(), self.total());
        let percent = (100 * done).checked_div(total).unwrap_or(100);
        let spent = HumanDuration(self.bar.elapsed());
        to_stderr(&format!("{}: {done}/{total} ({percent} %), {spent} spent{tail}", self.stage));
        self.lines = Some(Instant::now());
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if !self.finished {
            // Given up half-way: leave the bar as it stands, so that what follows starts a new line.
            self.bar.abandon();
        }
    }
}

/// Writes a line; a closed stderr is no reason to stop.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
