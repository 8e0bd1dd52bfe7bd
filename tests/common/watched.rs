//! A real engine whose turns are logged, and that can be told to fail.

use latentblend::backend::Numerics;
use latentblend::{
    Batch, Context, Denoising, Engine, Frame, Latent, Model, Posterior, Result, Trail,
};
use std::sync::{Arc, Mutex, PoisonError};

type Hook = Box<dyn Fn(usize) + Send + Sync>;

/// What the engine was asked for, turn by turn.
#[derive(Clone, Default)]
pub struct Log(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// For an evaluation the length of its schedule and the number of branches, else (0, 0).
    entries: Mutex<Vec<(usize, usize)>>,
    hook: Mutex<Option<Hook>>,
}

impl Log {
    pub fn entries(&self) -> Vec<(usize, usize)> {
        self.0.entries.lock().unwrap().clone()
    }

    pub fn turns(&self) -> usize {
        self.0.entries.lock().unwrap().len()
    }

    /// Calls `hook` in every turn, with its number.
    pub fn on_turn(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        *self.0.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    fn turn(&self, entry: (usize, usize)) {
        let number = {
            let mut entries = self.0.entries.lock().unwrap();
            entries.push(entry);
            entries.len()
        };
        let hook = self.0.hook.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hook) = &*hook {
            hook(number);
        }
    }
}

/// The tiny model, its engine logged.
pub fn watched_model() -> (Model, Log) {
    let log = Log::default();
    let model = super::tiny("base");
    let engine = Watched { inner: model.engine().clone(), log: log.clone() };
    (Model::from_engine(Arc::new(engine), model.info().clone()).unwrap(), log)
}

struct Watched {
    inner: Arc<dyn Engine>,
    log: Log,
}

impl Engine for Watched {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        self.log.turn((0, 0));
        // Without a tokenizer a prompt comes as its bytes.
        let padded = |prompt: &&[u32]| {
            let mut ids = prompt.to_vec();
            ids.resize(77, 0);
            ids
        };
        let padded: Vec<Vec<u32>> = prompts.iter().map(padded).collect();
        let padded: Vec<&[u32]> = padded.iter().map(Vec::as_slice).collect();
        self.inner.encode_prompts(&padded)
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        self.inner.evaluations(branches, steps)
    }

    fn samples(&self) -> u64 {
        self.inner.samples()
    }

    fn numerics(&self) -> Numerics {
        self.inner.numerics()
    }

    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>> {
        let entry = (batch.schedule.steps.len(), batch.branches.len());
        let inner = Arc::clone(&self.inner).denoise(batch)?;
        Ok(Box::new(Run { inner, log: self.log.clone(), entry }))
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        self.log.turn((0, 0));
        self.inner.encode(frame)
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        self.log.turn((0, 0));
        self.inner.decode(latents)
    }
}

struct Run {
    inner: Box<dyn Denoising>,
    log: Log,
    entry: (usize, usize),
}

impl Denoising for Run {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        self.log.turn(self.entry);
        self.inner.advance()
    }
}
