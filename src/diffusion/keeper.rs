//! In: loaded networks, and what loads them again. Out: [`Keeper`], an engine that lets go of them: on request, or when
//! nobody has called for a while. The next call has them loaded again, and waits for whoever is at it already.
//!
//! Calls are counted: while one runs, nothing goes, and whoever asked for it gets it when the last of them is done. So
//! there are never two copies of the weights, nor a load in the middle of a call.

use super::engine::{Batch, Denoising, Engine, Posterior};
use super::executor::{Chore, Executor};
use super::facts::Facts;
use super::latent::{Context, Latent};
use super::needs::Needs;
use super::pipeline::Pipeline;
use super::state::Trail;
use crate::backend::{Backend, CudaImage, CudaPicture, Numerics};
use crate::error::Result;
use crate::frame::Frame;
use crate::progress::{Call, Progress, Stage};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long a call that waits for another's load sleeps before it reports, and looks at its token, again.
const SLICE: Duration = Duration::from_millis(20);

/// A call that runs: until it is dropped, weights stay. Nothing for an engine that never lets go of any.
pub(crate) type Hold = Option<Box<dyn Send + Sync>>;

/// An engine whose weights come and go.
pub(super) trait Keep: Engine {
    /// Counts a call. Loads nothing.
    fn hold(&self) -> Hold;

    /// Loads the weights if they aren't there, as part of `call`; shares the load that another call is at.
    fn ready(&self, call: &Call<'_>) -> Result<()>;

    /// What of the weights is held, in bytes.
    fn held_bytes(&self) -> u64;

    /// Lets go of them, now or when the last call is done; how many bytes went now.
    fn unload(&self) -> u64;
}

/// Loads the networks once more, or says why that can't be.
type Load<B> = Box<dyn Fn(&Call<'_>) -> Result<Pipeline<B>> + Send + Sync>;

/// The networks of a model while they are wanted.
pub(super) struct Keeper<B: Backend> {
    place: Arc<Place<B>>,
    load: Load<B>,
}

/// Where the networks are, or aren't.
struct Place<B: Backend> {
    state: Mutex<State<B>>,
    /// A load has ended.
    loaded: Condvar,
    /// How long they stay without a call, and whose thread looks.
    idle: Option<(Duration, Arc<Executor>)>,
}

struct State<B: Backend> {
    held: Option<Arc<Pipeline<B>>>,
    /// Of those that are, or were last, held.
    facts: Arc<Facts>,
    /// MiB done, and of how many, while somebody loads.
    loading: Option<[u32; 2]>,
    calls: usize,
    /// Somebody wants them gone when the last call is done.
    unwanted: bool,
    /// The end of the last call.
    since: Instant,
    /// Samples that were evaluated by those that are gone.
    samples: u64,
}

impl<B: Backend> State<B> {
    /// Takes the networks out. No call has them.
    fn take(&mut self) -> Option<Pipeline<B>> {
        self.unwanted = false;
        let pipeline = Arc::into_inner(self.held.take()?)?;
        self.samples += pipeline.samples();
        Some(pipeline)
    }
}

impl<B: Backend> Place<B> {
    /// What goes does so outside of the lock: it may take its time.
    fn unload(&self) -> u64 {
        let gone = {
            let mut state = self.state.lock();
            if state.calls > 0 {
                state.unwanted = true;
                return 0;
            }
            state.take()
        };
        gone.map_or(0, Pipeline::give_back)
    }

    fn leave(&self) {
        let gone = {
            let mut state = self.state.lock();
            state.calls -= 1;
            if state.calls > 0 {
                return;
            }
            state.since = Instant::now();
            if state.unwanted { state.take() } else { None }
        };
        if let Some(gone) = gone {
            gone.give_back();
        }
        if let Some((_, executor)) = &self.idle {
            executor.stir();
        }
    }
}

impl<B: Backend> Chore for Place<B> {
    fn tend(&self, now: Instant) -> Option<Instant> {
        let (idle, _) = self.idle.as_ref()?;
        let gone = {
            let mut state = self.state.lock();
            if state.calls > 0 || state.held.is_none() {
                return None;
            }
            // None: longer than any clock goes.
            let due = state.since.checked_add(*idle)?;
            if now < due {
                return Some(due);
            }
            state.take()
        };
        if let Some(gone) = gone {
            gone.give_back();
        }
        None
    }
}

/// A call that was counted.
struct Counted<B: Backend>(Arc<Place<B>>);

impl<B: Backend> Counted<B> {
    fn new(place: &Arc<Place<B>>) -> Self {
        place.state.lock().calls += 1;
        Counted(Arc::clone(place))
    }
}

impl<B: Backend> Drop for Counted<B> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The networks, for one call. They are dropped first, and then the call is over.
struct Lent<B: Backend> {
    pipeline: Arc<Pipeline<B>>,
    _call: Counted<B>,
}

/// Ends a load, whatever came of it.
struct Loading<'a, B: Backend>(&'a Place<B>);

impl<B: Backend> Drop for Loading<'_, B> {
    fn drop(&mut self) {
        self.0.state.lock().loading = None;
        self.0.loaded.notify_all();
    }
}

impl<B: Backend> Keeper<B> {
    /// Keeps `pipeline`. What `load` makes has the same weights. After `idle` without a call, `executor` lets go of them.
    pub(super) fn new(
        pipeline: Pipeline<B>,
        load: impl Fn(&Call<'_>) -> Result<Pipeline<B>> + Send + Sync + 'static,
        idle: Option<Duration>,
        executor: &Arc<Executor>,
    ) -> Self {
        let state = State {
            facts: Arc::clone(pipeline.facts()),
            held: Some(Arc::new(pipeline)),
            loading: None,
            calls: 0,
            unwanted: false,
            since: Instant::now(),
            samples: 0,
        };
        let place = Arc::new(Place {
            state: Mutex::new(state),
            loaded: Condvar::new(),
            idle: idle.map(|idle| (idle, Arc::clone(executor))),
        });
        if idle.is_some() {
            let chore: Weak<Place<B>> = Arc::downgrade(&place);
            executor.see_to(chore);
        }
        Keeper { place, load: Box::new(load) }
    }

    /// The networks, for a call that was counted.
    fn pipeline(&self, call: &Call<'_>) -> Result<Arc<Pipeline<B>>> {
        let mut state = self.place.state.lock();
        loop {
            if let Some(pipeline) = &state.held {
                return Ok(Arc::clone(pipeline));
            }
            let Some([done, total]) = state.loading else { break };
            MutexGuard::unlocked(&mut state, || report(call, done, total))?;
            if state.loading.is_some() {
                self.place.loaded.wait_for(&mut state, SLICE);
            }
        }
        state.loading = Some([0, 0]);
        drop(state);
        let end = Loading(&self.place);
        let watched = Call::new().on_progress(|&Progress { done, total, .. }| {
            self.place.state.lock().loading = Some([done, total]);
            match report(call, done, total) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let pipeline = Arc::new((self.load)(&watched)?);
        {
            let mut state = self.place.state.lock();
            state.facts = Arc::clone(pipeline.facts());
            state.held = Some(Arc::clone(&pipeline));
        }
        drop(end);
        Ok(pipeline)
    }

    /// The networks, for a call of this very function's caller, whom nobody watches.
    fn lent(&self) -> Result<Lent<B>> {
        let call = Counted::new(&self.place);
        Ok(Lent { pipeline: self.pipeline(&Call::new())?, _call: call })
    }

    /// The networks if they are there, for a call that does without them otherwise.
    fn held(&self) -> Option<Lent<B>> {
        let call = Counted::new(&self.place);
        let pipeline = self.place.state.lock().held.clone()?;
        Some(Lent { pipeline, _call: call })
    }

    fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.place.state.lock().facts)
    }
}

/// Tells `call` how far the load is. Its own work has not begun, or stands still.
fn report(call: &Call<'_>, done: u32, total: u32) -> Result<()> {
    call.report(Stage::Load, done as usize, total as usize, 0.0)
}

impl<B: Backend> Keep for Keeper<B> {
    fn hold(&self) -> Hold {
        Some(Box::new(Counted::new(&self.place)))
    }

    fn ready(&self, call: &Call<'_>) -> Result<()> {
        self.pipeline(call).map(drop)
    }

    fn held_bytes(&self) -> u64 {
        let state = self.place.state.lock();
        state.held.as_ref().map_or(0, |pipeline| pipeline.weight_bytes())
    }

    fn unload(&self) -> u64 {
        self.place.unload()
    }
}

impl<B: Backend> Engine for Keeper<B> {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        self.lent()?.pipeline.encode_prompts(prompts)
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        self.facts().evaluations(branches, steps)
    }

    fn needs(&self, size: [usize; 2], branches: usize) -> Needs {
        self.facts().needs(size, branches)
    }

    fn weight_bytes(&self) -> u64 {
        self.facts().weights
    }

    fn threads(&self) -> usize {
        self.facts().threads
    }

    fn trim(&self) -> u64 {
        self.held().map_or(0, |lent| lent.pipeline.trim())
    }

    fn samples(&self) -> u64 {
        let state = self.place.state.lock();
        state.samples + state.held.as_ref().map_or(0, |pipeline| pipeline.samples())
    }

    fn context_shape(&self) -> Option<[usize; 2]> {
        Some(self.facts().context)
    }

    fn numerics(&self) -> Numerics {
        self.facts().numerics.clone()
    }

    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>> {
        let lent = self.lent()?;
        let run = Arc::clone(&lent.pipeline).denoise(batch)?;
        Ok(Box::new(Running { run, _lent: lent }))
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        self.lent()?.pipeline.encode(frame)
    }

    /// False while it is on no device.
    fn reaches(&self, image: &CudaImage) -> bool {
        self.held().is_some_and(|lent| lent.pipeline.reaches(image))
    }

    fn converts(&self) -> bool {
        self.facts().converts
    }

    fn decodes_beside(&self) -> bool {
        self.facts().beside
    }

    fn decode_there(&self, latent: &Latent) -> Result<Option<CudaPicture>> {
        self.lent()?.pipeline.decode_there(latent)
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        self.lent()?.pipeline.decode(latents)
    }
}

/// A batch on its way, which holds on to the networks.
struct Running<B: Backend> {
    run: Box<dyn Denoising>,
    _lent: Lent<B>,
}

impl<B: Backend> Denoising for Running<B> {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        self.run.advance()
    }
}
