//! A real engine whose prompts are answered from a script: "first", "second", "unconditional".

use latentblend::backend::Numerics;
use latentblend::{Batch, Context, Denoising, Engine, Frame, Latent, Posterior, Result};
use std::sync::Arc;

pub struct Scripted {
    pub inner: Arc<dyn Engine>,
    pub contexts: Vec<Context>,
}

impl Engine for Scripted {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        let names = ["first", "second", "unconditional"];
        let one = |prompt: &&[u32]| {
            let text: String = prompt.iter().filter_map(|&byte| char::from_u32(byte)).collect();
            self.contexts[names.iter().position(|name| *name == text).unwrap()].clone()
        };
        Ok(prompts.iter().map(one).collect())
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
        Arc::clone(&self.inner).denoise(batch)
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        self.inner.encode(frame)
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        self.inner.decode(latents)
    }
}
