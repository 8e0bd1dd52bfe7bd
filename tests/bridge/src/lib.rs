//! The C++ wrapper, as Rust sees it: what C++ throws arrives as an `Err`, and what a callback in Rust
//! fails with goes through C++, C and Rust and comes back.
//!
//! The functions of C are those in the crate `latentblend`, which is linked in; there is no shared
//! library here.
#![allow(unsafe_code, reason = "a bridge to another language")]

use latentblend as _;

/// What a callback is told, and when it has enough.
#[derive(Debug, Default)]
pub struct Watcher {
    /// The fraction of each report.
    pub fractions: Vec<f64>,
    /// The call is cancelled at this report.
    pub cancel_at: Option<usize>,
    /// The callback fails at this report.
    pub fail_at: Option<usize>,
}

impl Watcher {
    /// Whether the call goes on.
    fn tell(&mut self, fraction: f64) -> Result<bool, String> {
        self.fractions.push(fraction);
        let report = self.fractions.len();
        if self.fail_at == Some(report) {
            return Err(format!("the watcher failed at report {report}"));
        }
        Ok(self.cancel_at != Some(report))
    }
}

/// The messages of a log.
#[derive(Debug, Default)]
pub struct Lines(pub Vec<String>);

impl Lines {
    fn push(&mut self, level: u32, message: &str) {
        self.0.push(format!("{level} {message}"));
    }
}

/// The bridge.
#[cxx::bridge(namespace = "bridge")]
pub mod ffi {
    /// A keyframe.
    struct Frame<'a> {
        /// What the picture shows.
        prompt: &'a str,
        /// What it must not show.
        negative_prompt: &'a str,
        /// The seed of its noise.
        seed: u64,
    }

    extern "Rust" {
        type Watcher;
        fn tell(self: &mut Watcher, fraction: f64) -> Result<bool>;
        type Lines;
        fn push(self: &mut Lines, level: u32, message: &str);
    }

    #[namespace = "latentblend"]
    unsafe extern "C++" {
        include!("latentblend.hpp");

        /// A loaded model.
        type Model;

        /// A transition.
        type Session;
        /// Lets go of what can be made again.
        fn purge(self: &Session);

        /// A token that stops one operation.
        type Cancel;
        /// Stops it.
        fn request(self: &Cancel);
        /// Whether it was asked to stop.
        fn requested(self: &Cancel) -> bool;

        /// The version of the library that is linked.
        fn version() -> u32;
    }

    unsafe extern "C++" {
        include!("latentblend-bridge/src/bridge.h");

        /// The embedded model.
        fn demo() -> Result<UniquePtr<Model>>;
        /// The model at a path.
        fn load(path: &str) -> Result<UniquePtr<Model>>;
        /// The same model once more.
        fn share_model(model: &Model) -> Result<UniquePtr<Model>>;
        /// A transition with the preset 'lowest'; sizes of 0 are the model's.
        fn session(
            model: &Model,
            frames: &[Frame<'_>],
            width: u32,
            height: u32,
        ) -> Result<UniquePtr<Session>>;
        /// The same session once more.
        fn share(session: &Session) -> Result<UniquePtr<Session>>;
        /// What the session was moved to; `session` is left empty.
        fn move_out(session: Pin<&mut Session>) -> UniquePtr<Session>;
        /// The frame at `t`, RGB, 8 bits.
        fn render(session: &Session, t: f64) -> Result<Vec<u8>>;
        /// The same, from the bottom row up.
        fn render_bottom_up(session: &Session, t: f64) -> Result<Vec<u8>>;
        /// Several, one after the other.
        fn render_many(session: &Session, t: &[f64]) -> Result<Vec<u8>>;
        /// The frame at `t`, with every report told to `watcher`.
        fn render_watched(session: &Session, t: f64, watcher: &mut Watcher) -> Result<Vec<u8>>;
        /// The status and message that rendering at `t` fails with; 0 where it doesn't.
        fn render_status(session: &Session, t: f64, message: &mut String) -> i32;
        /// Width and height at which the model works best for a plate.
        fn working_size(model: &Model, width: u32, height: u32, aspect: f64) -> Result<Vec<u32>>;
        /// A transition of what `mask` marks of an RGB picture of 8 bits.
        fn repaint(
            model: &Model,
            frames: &[Frame<'_>],
            plate: &[u8],
            mask: &[u8],
            width: u32,
            height: u32,
        ) -> Result<UniquePtr<Session>>;
        /// The same session under another time: an LB_PACE value, and LB_EASING values by segment or none.
        fn timed(session: &Session, pace: u32, easings: &[u32]) -> Result<UniquePtr<Session>>;
        /// The t of so many frames.
        fn frame_times(session: &Session, count: usize) -> Result<Vec<f64>>;
        /// How much changes from frame to frame.
        fn changes(session: &Session, frames: usize) -> Result<Vec<f64>>;
        /// A session whose branches lie where latents change.
        fn adapted(session: &Session, strength: f64) -> Result<UniquePtr<Session>>;
        /// A session from a frame to a new keyframe, with every report told to `watcher`.
        fn extend(
            session: &Session,
            from_t: f64,
            to: &Frame<'_>,
            watcher: &mut Watcher,
        ) -> Result<UniquePtr<Session>>;
        /// Writes a session to a file.
        fn save(session: &Session, path: &str) -> Result<()>;
        /// Takes it up again.
        fn restore(model: &Model, path: &str) -> Result<UniquePtr<Session>>;
        /// Loads weights of LPIPS, and lets go of them.
        fn load_lpips(path: &str) -> Result<()>;
        /// Fills the tree, unless `cancel` is requested.
        fn prepare(session: &Session, cancel: &Cancel) -> Result<()>;
        /// Evaluations of the UNet that a frame would take.
        fn evaluations(session: &Session) -> Result<u64>;
        /// A token.
        fn cancel() -> Result<UniquePtr<Cancel>>;
        /// Makes a session of `prompt` with a log that tells `lines`.
        fn logged(model: &Model, prompt: &str, lines: &mut Lines) -> Result<()>;
        /// Makes a session of `prompt` with a log that throws, and then asks that log.
        fn log_that_throws(model: &Model, prompt: &str) -> Result<()>;
    }
}

// SAFETY: the header says so of every owner: any function from any thread.
unsafe impl Send for ffi::Session {}
// SAFETY: as above; nothing takes one by `&mut` but `move_out`.
unsafe impl Sync for ffi::Session {}
// SAFETY: as above.
unsafe impl Send for ffi::Cancel {}
// SAFETY: as above.
unsafe impl Sync for ffi::Cancel {}
