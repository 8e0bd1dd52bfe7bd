//! Promise 1: nothing that a callback or an engine does ends the process or leaves a session unusable.

mod common;

use common::watched::watched_model;
use common::{same, short, tiny};
use latentblend::{
    Batch, Call, Context, Denoising, Engine, ErrorKind, Frame, Latent, Model, Posterior, Result,
    Session, Trail,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[test]
fn a_callback_that_panics_leaves_the_session_usable() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    for fraction in [0.0, 0.3, 0.9] {
        let call = Call::new().on_progress(|progress| {
            assert!(progress.fraction < fraction, "stop");
            std::ops::ControlFlow::Continue(())
        });
        let result = catch_unwind(AssertUnwindSafe(|| session.render(0.4, &call)));
        assert!(result.is_err(), "the panic came out where the callback was called");
    }
    session.render(0.4, &Call::new()).unwrap();
}

#[test]
fn an_engine_that_panics_is_an_error_and_the_device_goes_on() {
    let (model, log) = watched_model();
    let (keyframes, options) = short();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    for turn in [1, 4, 8, 12] {
        let base = log.turns();
        log.on_turn(move |number| assert!(number != base + turn, "a fault in turn {turn}"));
        session.purge();
        let error = session.render(0.4, &Call::new()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("a fault in turn"), "{error}");
    }
    log.on_turn(|_| {});
    let frame = session.render(0.4, &Call::new()).unwrap();
    assert!(same(&session.render(0.4, &Call::new()).unwrap(), &frame));
}

/// Gives back fewer than it was asked for, or panics when its work is dropped.
struct Wrong {
    inner: Arc<dyn Engine>,
    what: &'static str,
}

struct PanicsWhenDropped(Box<dyn Denoising>);

impl Denoising for PanicsWhenDropped {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        self.0.advance()
    }
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct Short(Box<dyn Denoising>);

impl Denoising for Short {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        Ok(self.0.advance()?.map(|mut trails| {
            trails.pop();
            trails
        }))
    }
}

impl Engine for Wrong {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        let ids = [0; 77];
        let count = if self.what == "contexts" { 0 } else { prompts.len() };
        self.inner.encode_prompts(&vec![&ids[..]; count])
    }

    fn evaluations(&self, branches: usize, steps: usize) -> usize {
        self.inner.evaluations(branches, steps)
    }

    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>> {
        let run = Arc::clone(&self.inner).denoise(batch)?;
        Ok(match self.what {
            "latents" => Box::new(Short(run)),
            "drop" => Box::new(PanicsWhenDropped(run)),
            _ => run,
        })
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        self.inner.encode(frame)
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        self.inner.decode(if self.what == "frames" { &[] } else { latents })
    }
}

#[test]
fn an_engine_that_gives_back_too_little_is_an_error() {
    let real = tiny("base");
    let (keyframes, options) = short();
    for what in ["contexts", "latents", "frames"] {
        let engine = Wrong { inner: real.engine().clone(), what };
        let model = Model::from_engine(Arc::new(engine), real.info().clone()).unwrap();
        let session = Session::new(&model, &keyframes, &options).unwrap();
        let error = session.render(0.4, &Call::new()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains(what), "{error}");
    }
    // Another model on the same device is none the worse for it, nor for a panic in a drop.
    let engine = Wrong { inner: real.engine().clone(), what: "drop" };
    let model = Model::from_engine(Arc::new(engine), real.info().clone()).unwrap();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    session.render(0.4, &Call::new()).unwrap();
    Session::new(&real, &keyframes, &options).unwrap().render(0.4, &Call::new()).unwrap();
}

#[test]
fn model_and_session_may_go_while_a_frame_is_made() {
    let model = tiny("base");
    let (keyframes, options) = short();
    let session = Session::new(&model, &keyframes, &options).unwrap();
    let wanted = session.render(0.4, &Call::new()).unwrap();
    let other = Session::new(&model, &keyframes, &options).unwrap();
    let thread = std::thread::spawn(move || other.render(0.4, &Call::new()));
    drop(session);
    drop(model);
    assert!(same(&thread.join().unwrap().unwrap(), &wanted));
}
