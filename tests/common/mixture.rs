//! An engine without weights: latents are drawn from a mixture of round Gaussians, where the best guess
//! is known exactly (the formulas stand in `tests/golden/mixture.py`). The rest of the library runs as
//! with real networks. A frame is the latent itself.

use super::golden::Recorded;
use latentblend::{
    Batch, Branch, Context, Denoising, Engine, Error, ErrorKind, Frame, Latent, Model, ModelInfo,
    Posterior, Result, Spacing, State, StepWeights, Trail, data_prediction,
};
use std::sync::Arc;

pub struct Mixture {
    pub weights: Vec<f64>,
    pub means: Vec<Vec<f64>>,
    pub sigmas: Vec<f64>,
    /// The vector that the prompt "0", "1", ... adds to every mean; the empty prompt adds nothing.
    pub prompts: Vec<Vec<f64>>,
}

/// The parts of a recorded tensor along its first axis.
pub fn rows(recorded: &Recorded) -> Vec<Vec<f64>> {
    (0..recorded.shape[0]).map(|index| recorded.row(index).values).collect()
}

impl Mixture {
    /// The expected clean latent given `x` at signal share `a`.
    pub fn clean(&self, x: &[f64], a: f64, prompt: &[f64]) -> Vec<f64> {
        let root = a.sqrt();
        let off: Vec<Vec<f64>> = self
            .means
            .iter()
            .map(|mean| {
                let each = x.iter().zip(mean).zip(prompt);
                each.map(|((x, mean), prompt)| x - root * (mean + prompt)).collect()
            })
            .collect();
        let variance: Vec<f64> = self.sigmas.iter().map(|s| a * s * s + 1.0 - a).collect();
        let logits: Vec<f64> = off
            .iter()
            .zip(&variance)
            .zip(&self.weights)
            .map(|((off, v), weight)| {
                let square: f64 = off.iter().map(|o| o * o).sum();
                weight.ln() - x.len() as f64 / 2.0 * v.ln() - square / (2.0 * v)
            })
            .collect();
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = logits.iter().map(|l| (l - highest).exp()).collect();
        let total: f64 = shares.iter().sum();
        let mut clean = vec![0.0; x.len()];
        for k in 0..shares.len() {
            let pull = root * self.sigmas[k] * self.sigmas[k] / variance[k];
            for (i, y) in clean.iter_mut().enumerate() {
                *y += shares[k] / total * (self.means[k][i] + prompt[i] + pull * off[k][i]);
            }
        }
        clean
    }

    /// The noise in `x` at signal share `a`.
    pub fn epsilon(&self, x: &[f64], a: f64, prompt: &[f64]) -> Vec<f64> {
        let clean = self.clean(x, a, prompt);
        x.iter().zip(clean).map(|(x, x0)| (x - a.sqrt() * x0) / (1.0 - a).sqrt()).collect()
    }

    /// A model around this engine.
    pub fn model(self) -> Model {
        let diffusion = super::stable_diffusion_2(Spacing::Leading);
        let info = ModelInfo {
            latent_channels: 4,
            factor: 1,
            native_size: [4, 4],
            inpainting: false,
            diffusion,
            fingerprint: None,
            known: None,
        };
        Model::from_engine(Arc::new(self), info).unwrap()
    }
}

impl Engine for Mixture {
    fn encode_prompts(&self, prompts: &[&[u32]]) -> Result<Vec<Context>> {
        let one = |prompt: &&[u32]| {
            let text: String = prompt.iter().filter_map(|&byte| char::from_u32(byte)).collect();
            let vector = match text.parse::<usize>() {
                Ok(index) => self.prompts[index].clone(),
                Err(_) if text.is_empty() => vec![0.0; self.means[0].len()],
                Err(e) => return Err(Error::new(ErrorKind::InvalidArgument, e.to_string())),
            };
            Context::new(1, vector.iter().map(|&v| v as f32).collect())
        };
        prompts.iter().map(one).collect()
    }

    fn context_shape(&self) -> Option<[usize; 2]> {
        Some([1, self.means[0].len()])
    }

    fn evaluations(&self, _branches: usize, steps: usize) -> usize {
        steps
    }

    fn denoise(self: Arc<Self>, batch: Batch) -> Result<Box<dyn Denoising>> {
        batch.check()?;
        let start = |b: &Branch| State { latent: b.latent.clone(), history: b.history.clone() };
        let states = batch.branches.iter().map(start).collect();
        let (done, kept) = (batch.steps.start, vec![Vec::new(); batch.branches.len()]);
        Ok(Box::new(Run { mixture: self, batch, states, kept, done }))
    }

    fn encode(&self, frame: &Frame) -> Result<Posterior> {
        let mean = Latent::new([3, frame.height(), frame.width()], frame.rgb().to_vec())?;
        Ok(Posterior { log_variance: mean.clone(), mean })
    }

    fn decode(&self, latents: &[Latent]) -> Result<Vec<Frame>> {
        let one = |latent: &Latent| {
            let [_, h, w] = latent.shape();
            Frame::new(w, h, latent.data()[..3 * h * w].to_vec())
        };
        latents.iter().map(one).collect()
    }
}

struct Run {
    mixture: Arc<Mixture>,
    batch: Batch,
    states: Vec<State>,
    kept: Vec<Vec<State>>,
    done: usize,
}

impl Denoising for Run {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        let schedule = &self.batch.schedule;
        let step = &schedule.steps[self.done];
        let clean = data_prediction(step, schedule.prediction_type);
        let last = self.done + 1 == self.batch.steps.end;
        for (index, branch) in self.batch.branches.iter().enumerate() {
            let mut state = self.states[index].clone();
            if let Some(feed) = &branch.feed {
                state = feed.draw(self.done, state)?;
            }
            let weights = schedule.weights(self.done, state.history.is_some());
            let wide = |data: &[f32]| data.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let x = wide(state.latent.data());
            let told = self.mixture.epsilon(&x, step.alpha, &wide(branch.positive.data()));
            let empty = self.mixture.epsilon(&x, step.alpha, &wide(branch.negative.data()));
            let scale = self.batch.guidance.scale(branch.guidance, self.done);
            let guided = told.iter().zip(&empty).map(|(p, n)| n + scale * (p - n));
            let guided: Vec<f64> = guided.collect();
            let before = match &state.history {
                Some(history) => wide(history.data()),
                None => vec![0.0; x.len()],
            };
            let sum = |w: StepWeights| {
                let terms = x.iter().zip(&guided).zip(&before);
                let terms =
                    terms.map(|((x, e), m)| w.latent * x + w.prediction * e + w.history * m);
                Latent::new(state.latent.shape(), terms.map(|v| v as f32).collect())
            };
            let latent = sum(weights)?;
            let history = schedule.sampler.multistep().then(|| sum(clean)).transpose()?;
            self.states[index] = State { latent, history };
            if self.done >= self.batch.keep || last {
                self.kept[index].push(self.states[index].clone());
            }
        }
        self.done += 1;
        if !last {
            return Ok(None);
        }
        let kept = std::mem::take(&mut self.kept);
        let first = |states: &Vec<State>| self.done - states.len();
        Ok(Some(kept.into_iter().map(|s| Trail::new(first(&s), s)).collect::<Result<_>>()?))
    }
}
