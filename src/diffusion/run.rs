//! In: a batch of branches and a pipeline. Out: their states after its steps. Which branches are evaluated together, and
//! the sampler's step, guidance in it, are decided here.

use super::engine::{Batch, Branch, Denoising, Engine};
use super::feed::Feed;
use super::latent::{Context, Latent};
use super::pipeline::Pipeline;
use super::sampler::{StepWeights, data_prediction};
use super::state::{State, Trail};
use crate::backend::{Backend, HostTensor};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Evaluation, KeysValues};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Some branches of a batch, evaluated together. On the device there may be more of them (`bucket`): the last again.
struct Group<B: Backend> {
    /// As they were at the start.
    branches: Vec<Branch>,
    latents: B::Tensor,
    /// What a multistep sampler remembers of each branch.
    history: Option<B::Tensor>,
    /// What draws each branch.
    feeds: Vec<Option<Arc<Feed>>>,
    /// The step before which they were drawn last: once for each.
    drawn: Option<usize>,
    /// The states after each step that is kept.
    kept: Vec<Vec<State>>,
    extra: Option<B::Tensor>,
    guidance: Vec<f64>,
    guided: Layout,
    /// For steps at which guidance is off.
    plain: Layout,
    keys_values: KeysValues<B>,
}

/// The samples of one evaluation.
struct Layout {
    /// The latent of each sample, guided branches twice.
    rows: Vec<usize>,
    /// The prompt of each sample.
    prompts: Vec<usize>,
    /// Which sample is a branch's prediction under its prompt, and under its negative prompt.
    positive: Vec<usize>,
    negative: Vec<usize>,
}

/// A batch on its way through its steps.
pub(super) struct Run<B: Backend> {
    pipeline: Arc<Pipeline<B>>,
    batch: Batch,
    /// What is evaluated in one turn, in as many parts as memory wants.
    turns: Vec<Vec<Group<B>>>,
    done: usize,
}

impl<B: Backend> Run<B> {
    pub(super) fn new(pipeline: Arc<Pipeline<B>>, mut batch: Batch) -> Result<Self> {
        batch.check()?;
        batch.keep = batch.keep.clamp(batch.steps.start, batch.steps.end - 1);
        let branches = std::mem::take(&mut batch.branches);
        let [_, height, width] = branches.first().map_or([0; 3], |branch| branch.latent.shape());
        let together = pipeline.together([height, width]);
        let groups = |part: &[Branch]| {
            part.chunks(together).map(|some| Group::new(&pipeline, some.to_vec())).collect()
        };
        let turns = branches.chunks(pipeline.backend.branches().max(1)).map(groups);
        let turns = turns.collect::<Result<_>>()?;
        Ok(Run { pipeline, batch, turns, done: 0 })
    }

    /// The kept states of each branch.
    fn trails(&mut self) -> Result<Vec<Trail>> {
        let mut trails = Vec::new();
        for group in self.turns.iter_mut().flatten() {
            let mut branches: Vec<Vec<State>> = vec![Vec::new(); group.branches.len()];
            for states in group.kept.drain(..) {
                branches.iter_mut().zip(states).for_each(|(branch, state)| branch.push(state));
            }
            for states in branches {
                trails.push(Trail::new(self.batch.keep, states)?);
            }
        }
        Ok(trails)
    }
}

impl<B: Backend> Group<B> {
    fn new(pipeline: &Pipeline<B>, own: Vec<Branch>) -> Result<Self> {
        let mut branches = own.clone();
        while let Some(last) = branches.last().cloned()
            && branches.len() < pipeline.backend.bucket(own.len())
        {
            branches.push(last);
        }
        let mut contexts: Vec<&Arc<Context>> = Vec::new();
        let (mut rows, mut prompts) = (Vec::new(), Vec::new());
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        // A context that several branches share is projected once.
        for (row, branch) in branches.iter().enumerate() {
            let mut add = |context| {
                let known = contexts.iter().position(|c| Arc::ptr_eq(c, context));
                prompts.push(known.unwrap_or(contexts.len()));
                if known.is_none() {
                    contexts.push(context);
                }
                rows.push(row);
                rows.len() - 1
            };
            positive.push(add(&branch.positive));
            let guided = branch.guidance != 1.0;
            negative.push(if guided { add(&branch.negative) } else { positive[row] });
        }
        let all: Vec<usize> = (0..branches.len()).collect();
        let plain = Layout {
            prompts: positive.iter().map(|&sample: &usize| prompts[sample]).collect(),
            rows: all.clone(),
            positive: all.clone(),
            negative: all,
        };
        let (tokens, width) = contexts.first().map_or((0, 0), |c| (c.tokens(), c.width()));
        let mut values = Vec::with_capacity(contexts.len() * tokens * width);
        contexts.iter().for_each(|context| values.extend_from_slice(context.data()));
        let values = HostTensor::new([contexts.len(), 1, tokens, width], values)?;
        let latents: Vec<&Latent> = branches.iter().map(|branch| &branch.latent).collect();
        let extra: Vec<&Latent> = branches.iter().filter_map(|b| b.extra.as_deref()).collect();
        if !extra.is_empty() && extra.len() != branches.len() {
            return Err(Error::invalid("some branches of a batch lack their mask"));
        }
        let histories: Vec<&Latent> = branches.iter().filter_map(|b| b.history.as_ref()).collect();
        Ok(Group {
            branches: own,
            latents: pipeline.upload(&latents, 1.0)?,
            history: match histories.is_empty() {
                true => None,
                false => Some(pipeline.upload(&histories, 1.0)?),
            },
            feeds: branches.iter().map(|branch| branch.feed.clone()).collect(),
            drawn: None,
            kept: Vec::new(),
            extra: if extra.is_empty() { None } else { Some(pipeline.upload(&extra, 1.0)?) },
            guidance: branches.iter().map(|branch| branch.guidance).collect(),
            guided: Layout { rows, prompts, positive, negative },
            plain,
            keys_values: pipeline.unet.keys_values(&pipeline.backend, &values)?,
        })
    }

    /// The states of the branches as they are now.
    fn states(&self, pipeline: &Pipeline<B>) -> Result<Vec<State>> {
        let latents = pipeline.download(&self.latents)?;
        let histories = match &self.history {
            Some(history) => pipeline.download(history)?.into_iter().map(Some).collect(),
            None => vec![None; latents.len()],
        };
        let states = latents.into_iter().zip(histories);
        Ok(states.map(|(latent, history)| State { latent, history }).collect())
    }

    /// Two groups of half the branches, where they are now.
    fn halves(&mut self, pipeline: &Pipeline<B>) -> Result<[Group<B>; 2]> {
        let mut branches = std::mem::take(&mut self.branches);
        for (branch, state) in branches.iter_mut().zip(self.states(pipeline)?) {
            (branch.latent, branch.history) = (state.latent, state.history);
        }
        let first = branches.len().div_ceil(2);
        let rest = branches.split_off(first);
        let (mut a, mut b) = (Group::new(pipeline, branches)?, Group::new(pipeline, rest)?);
        (a.drawn, b.drawn) = (self.drawn, self.drawn);
        for mut states in self.kept.drain(..) {
            b.kept.push(states.split_off(first));
            a.kept.push(states);
        }
        Ok([a, b])
    }

    /// Draws the branches to others before `step`. On the host: latents are small beside what the UNet
    /// makes of them, and every backend then mixes alike.
    fn draw(&mut self, pipeline: &Pipeline<B>, step: usize) -> Result<()> {
        if self.drawn == Some(step) || !self.feeds.iter().flatten().any(|feed| feed.acts_at(step)) {
            return Ok(());
        }
        self.drawn = Some(step);
        let mut states = self.states(pipeline)?;
        for (state, feed) in states.iter_mut().zip(&self.feeds) {
            if let Some(feed) = feed {
                *state = feed.draw(step, state.clone())?;
            }
        }
        let latents: Vec<&Latent> = states.iter().map(|state| &state.latent).collect();
        self.latents = pipeline.upload(&latents, 1.0)?;
        let histories: Vec<&Latent> =
            states.iter().filter_map(|state| state.history.as_ref()).collect();
        if self.history.is_some() {
            if histories.len() != states.len() {
                return Err(Error::internal("a branch lost its history"));
            }
            self.history = Some(pipeline.upload(&histories, 1.0)?);
        }
        Ok(())
    }
}

impl<B: Backend> Group<B> {
    /// Takes step `number`.
    fn step(&mut self, pipeline: &Pipeline<B>, batch: &Batch, number: usize) -> Result<()> {
        let Pipeline { backend, unet, .. } = pipeline;
        let schedule = &batch.schedule;
        let step = &schedule.steps[number];
        let course = &batch.guidance;
        let off = course.factor(number) == 0.0;
        let layout = if off { &self.plain } else { &self.guided };
        let time = pipeline.time(step.timestep as f64)?;
        let evaluation = Evaluation {
            latents: &self.latents,
            extra: self.extra.as_ref(),
            rows: &layout.rows,
            prompts: &layout.prompts,
            time: &time,
            keys_values: &self.keys_values,
        };
        let prediction = unet.predict(backend, &evaluation)?;
        let positive = backend.gather(&prediction, &layout.positive)?;
        let negative = backend.gather(&prediction, &layout.negative)?;
        let scales: Vec<f64> = self.guidance.iter().map(|&g| course.scale(g, number)).collect();
        let corrections = match course.rescale > 0.0 && !off {
            true => pipeline.corrections(course, [&positive, &negative], &scales)?,
            false => vec![1.0; scales.len()],
        };
        let each = |weight: &dyn Fn(f64) -> f64| -> Vec<f32> {
            scales.iter().map(|&g| weight(g) as f32).collect()
        };
        // Of a prediction: times what rescaling leaves of it.
        let part = |weight: &dyn Fn(f64) -> f64| -> Vec<f32> {
            let scales = scales.iter().zip(&corrections);
            scales.map(|(&g, correction)| (weight(g) * correction) as f32).collect()
        };
        // Latent and guided prediction, weighed, and what else there is to add.
        let sum = |weights: &StepWeights| {
            let (latent, told, not) = (
                each(&|_| weights.latent),
                part(&|g| weights.prediction * g),
                part(&|g| weights.prediction * (1.0 - g)),
            );
            let history = each(&|_| weights.history);
            let mut terms = vec![
                (&self.latents, latent.as_slice()),
                (&positive, told.as_slice()),
                (&negative, not.as_slice()),
            ];
            if weights.history != 0.0
                && let Some(before) = &self.history
            {
                terms.push((before, history.as_slice()));
            }
            backend.combine(&terms)
        };
        let next = sum(&schedule.weights(number, self.history.is_some()))?;
        let history = match schedule.sampler.multistep() {
            true => Some(sum(&data_prediction(step, schedule.prediction_type))?),
            false => None,
        };
        // Those that only fill a bucket don't count.
        let own = layout.rows.iter().filter(|&&row| row < self.branches.len()).count();
        pipeline.samples.fetch_add(own as u64, Ordering::Relaxed);
        self.latents = next;
        self.history = history;
        Ok(())
    }
}

impl<B: Backend> Denoising for Run<B> {
    fn advance(&mut self) -> Result<Option<Vec<Trail>>> {
        let workers = self.pipeline.workers.clone();
        workers.run(|| self.step())
    }
}

impl<B: Backend> Run<B> {
    /// One evaluation.
    fn step(&mut self) -> Result<Option<Vec<Trail>>> {
        let evaluations = self.turns.len() * self.batch.steps.len();
        if self.done < evaluations {
            let pipeline = &*self.pipeline;
            let number = self.batch.steps.start + self.done / self.turns.len();
            let count = self.turns.len();
            let groups = &mut self.turns[self.done % count];
            // A picture may be decoded beside it, but not where that takes its memory.
            let (mut shared, mut by_itself) = (pipeline.shared(), None);
            let (mut index, mut again) = (0, false);
            while index < groups.len() {
                let group = &mut groups[index];
                group.draw(pipeline, number)?;
                match group.step(pipeline, &self.batch, number) {
                    // Nothing has changed yet: the same step by halves.
                    Err(e) if e.kind() == ErrorKind::OutOfMemory && group.branches.len() > 1 => {
                        let halves = group.halves(pipeline)?;
                        drop(groups.remove(index));
                        pipeline.room();
                        for half in halves.into_iter().rev() {
                            groups.insert(index, half);
                        }
                        continue;
                    }
                    // Nor less than one, but what decodes beside it has taken some: once more, when that is done.
                    Err(e)
                        if e.kind() == ErrorKind::OutOfMemory
                            && !again
                            && pipeline.decodes_beside() =>
                    {
                        again = true;
                        pipeline.decode_between();
                        drop(shared.take());
                        if by_itself.is_none() {
                            by_itself = pipeline.by_itself();
                        }
                        pipeline.room();
                        continue;
                    }
                    result => result?,
                }
                again = false;
                if number >= self.batch.keep {
                    let states = group.states(pipeline)?;
                    group.kept.push(states);
                }
                index += 1;
            }
            self.done += 1;
        }
        if self.done < evaluations {
            return Ok(None);
        }
        self.trails().map(Some)
    }
}
