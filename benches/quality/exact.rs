//! In: the model. Out: [`Exact`]: what has to be the same to the last bit, by how much it isn't, and what a
//! frame costs that nobody has asked for before.

use crate::direct::{Ends, run};
use crate::methods::{Method, budget, fitting};
use crate::pairs::{ORDER, PAIRS, keyframes};
use latentblend::{
    BlendOptions, Call, Format, Frame, ImageMut, ImageRef, Inpainting, Keyframe, LatentMix, Layout,
    Mask, Model, PromptRules, Result, SchedulePolicy, Session, Source, Target, Transfer,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Errors are the largest difference of two values (0 to 1).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Exact {
    /// How many pairs were looked at.
    pub(crate) pairs: usize,
    /// By method: frames 0 and 1 against the keyframes' pictures, sampled alone by the engine.
    pub(crate) endpoint: BTreeMap<String, f64>,
    /// By method: the last frame of a transition against the first of the next, made apart.
    pub(crate) seam: BTreeMap<String, f64>,
    /// Frames of a chain that are the same as the one before.
    pub(crate) repeated: usize,
    /// Bytes outside of an inpainting's mask that differ from the source's.
    pub(crate) outside: usize,
    /// The mean step across the mask's edge over the mean step one pixel further in and out: 1 is no seam.
    pub(crate) edge: f64,
    /// The same of the sources, at that place: what it is where nothing was repainted.
    #[serde(default)]
    pub(crate) edge_of_source: f64,
    /// The latents of this benchmark's own tree against the session's.
    pub(crate) tree: f64,
    /// The mean cosine of the latents that branches start between, from the first branching on.
    pub(crate) cosines: Vec<f64>,
    /// The most evaluations that a frame of a prepared session takes.
    pub(crate) warm_evaluations: usize,
    /// Medians of the time of such a frame, without and with its decode, over that of one sampler step.
    pub(crate) warm_ratio: [f64; 2],
}

/// The largest difference.
fn apart(p: &Frame, q: &Frame) -> f64 {
    let pairs = p.rgb().iter().zip(q.rgb());
    pairs.map(|(p, q)| f64::from((p - q).abs())).fold(0.0, f64::max)
}

impl Exact {
    /// Looks at the first `pairs` pairs.
    ///
    /// # Errors
    /// What the library reports.
    pub(crate) fn find(model: &Model, inpainting: &Model, pairs: usize) -> Result<Exact> {
        const FRAMES: usize = 17;
        let mut exact = Exact { pairs, ..Exact::default() };
        let budget = budget(model, FRAMES)?;
        let methods = [Method::Tree2022, Method::Engine2023, Method::Ours];
        for pair in ORDER.into_iter().take(pairs) {
            let [a, b] = keyframes(pair, 0);
            let c = Keyframe::new(PAIRS[pair].prompts[0], 90 + pair as u64);
            for method in methods {
                let session = |keyframes: &[Keyframe; 2]| match method {
                    Method::Ours => Session::new(model, keyframes, &BlendOptions::default()),
                    _ => fitting(method, model, keyframes, FRAMES, budget),
                };
                let (first, last) =
                    exact.ends(model, method, &session(&[a.clone(), b.clone()])?)?;
                let next = session(&[b.clone(), c.clone()])?.render(0.0, &Call::new())?;
                exact.raise(method, [first, last.0], apart(&last.1, &next));
            }
            exact.own_tree(model, pair)?;
            exact.inpainted(model, inpainting, pair)?;
        }
        exact.edge /= exact.pairs as f64;
        exact.edge_of_source /= exact.pairs as f64;
        exact.chain(model)?;
        exact.latency(model)?;
        Ok(exact)
    }

    fn raise(&mut self, method: Method, ends: [f64; 2], seam: f64) {
        let name = method.name().to_owned();
        let endpoint = self.endpoint.entry(name.clone()).or_default();
        *endpoint = endpoint.max(ends[0]).max(ends[1]);
        let largest = self.seam.entry(name).or_default();
        *largest = largest.max(seam);
    }

    /// Both ends' errors, and the last frame.
    fn ends(
        &self,
        model: &Model,
        method: Method,
        session: &Session,
    ) -> Result<(f64, (f64, Frame))> {
        let rules = match method {
            Method::Ours => PromptRules::Transformers,
            _ => PromptRules::OpenClip,
        };
        let keyframes = [session.keyframes()[0].clone(), session.keyframes()[1].clone()];
        let ends = Ends::new(model, &keyframes, rules)?;
        let schedule = Arc::new(session.schedule().clone());
        let error = |end: usize| -> Result<(f64, Frame)> {
            let frame = session.render(end as f64, &Call::new())?;
            Ok((apart(&frame, &ends.solo(model, end, &schedule)?), frame))
        };
        Ok((error(0)?.0, error(1)?))
    }

    /// This benchmark's own tree, which knows nothing of sessions, has a session's latents.
    fn own_tree(&mut self, model: &Model, pair: usize) -> Result<()> {
        let keyframes = keyframes(pair, 0);
        let ends = Ends::new(model, &keyframes, PromptRules::Transformers)?;
        let mut cosines = Vec::new();
        // The default last: the cosines are its.
        for latent_mix in [LatentMix::Arc, LatentMix::Bands] {
            let options = BlendOptions { latent_mix: Some(latent_mix), ..BlendOptions::default() };
            let session = Session::new(model, &keyframes, &options)?;
            let times = [0.125, 0.5, 0.71875];
            let schedule = Arc::new(session.schedule().clone());
            let own;
            (own, cosines) = ends.tree(model, session.plan(), &schedule, &times, latent_mix)?;
            for (own, latent) in own.iter().zip(session.latents(&times, &Call::new())?) {
                let pairs = own.data().iter().zip(latent.data());
                let largest = pairs.map(|(p, q)| f64::from((p - q).abs())).fold(0.0, f64::max);
                self.tree = self.tree.max(largest);
            }
        }
        self.cosines.resize(cosines.len(), 0.0);
        let share = 1.0 / self.pairs as f64;
        self.cosines.iter_mut().zip(cosines).for_each(|(sum, cosine)| *sum += share * cosine);
        Ok(())
    }

    /// A picture of the model's whose middle is repainted: outside it may not change at all.
    fn inpainted(&mut self, model: &Model, inpainting: &Model, pair: usize) -> Result<()> {
        let keyframes = keyframes(pair, 0);
        let size @ [width, height] = inpainting.info().native_size;
        let hole = [width / 4, height / 4, width * 3 / 4, height * 7 / 8];
        let options = BlendOptions { size: Some(size), ..BlendOptions::default() };
        // Of the first prompt, but another seed than what is put into it.
        let whole = [Keyframe::new(PAIRS[pair].prompts[0], 190 + pair as u64)];
        let whole = Session::new(model, &whole, &options)?;
        let bytes = whole.render(0.0, &Call::new())?.to_rgb8();
        self.edge_of_source += edge(&bytes, size, hole);
        let layout = Layout::packed(width, height, Format::RgbU8, Transfer::Srgb);
        let source = Source::new(&ImageRef::new(&bytes, 0, layout)?)?;
        let mask = Mask::rectangle(width, height, hole)?;
        let scene = Inpainting::new(source, mask);
        let session = Session::inpainting(inpainting, &keyframes, &options, &scene)?;
        let times = [0.0, 0.4, 1.0];
        for t in times {
            let mut made = vec![0; bytes.len()];
            let target = Target::new(ImageMut::new(&mut made, 0, layout)?);
            session.render_into(&[t], &mut [target], &Call::new())?;
            let inside = |i: usize| {
                let (x, y) = (i / 3 % width, i / 3 / width);
                (hole[0]..hole[2]).contains(&x) && (hole[1]..hole[3]).contains(&y)
            };
            self.outside += (0..bytes.len()).filter(|&i| !inside(i) && bytes[i] != made[i]).count();
            self.edge += edge(&made, size, hole) / times.len() as f64;
        }
        Ok(())
    }

    /// Three keyframes in even frames: none is shown twice.
    fn chain(&mut self, model: &Model) -> Result<()> {
        let [a, b] = keyframes(0, 0);
        let [c, _] = keyframes(1, 0);
        let session = Session::new(model, &[a, b, c], &BlendOptions::default())?;
        let frames = session.render_many(&session.timeline().frames(9), &Call::new())?;
        self.repeated = frames.windows(2).filter(|pair| pair[0] == pair[1]).count();
        Ok(())
    }

    /// Frames of a prepared session, at places that nothing was asked for.
    fn latency(&mut self, model: &Model) -> Result<()> {
        const TRIES: usize = 9;
        let keyframes = keyframes(9, 0);
        let session = Session::new(model, &keyframes, &BlendOptions::default())?;
        session.prepare(&Call::new())?;
        let ends = Ends::new(model, &keyframes, PromptRules::Transformers)?;
        let schedule = Arc::new(model.schedule(1, SchedulePolicy::Model)?);
        let mut seconds = [const { Vec::new() }; 3];
        for index in 0..TRIES {
            // Steps of the golden ratio never come close to where they were.
            let t = [0, 1].map(|k| ((2 * index + k + 1) as f64 * 0.618_033_988_75).fract());
            self.warm_evaluations = self.warm_evaluations.max(session.evaluations(&t[..1])?);
            let mut timed = |which: usize, work: &mut dyn FnMut() -> Result<()>| {
                let start = Instant::now();
                let result = work();
                seconds[which].push(start.elapsed().as_secs_f64());
                result
            };
            let one = || vec![ends.first_branch()];
            timed(0, &mut || run(model, one(), &schedule, 0..1).map(drop))?;
            timed(1, &mut || session.latents(&t[..1], &Call::new()).map(drop))?;
            timed(2, &mut || session.render(t[1], &Call::new()).map(drop))?;
        }
        let [step, latent, frame] = seconds.map(|mut all| {
            all.sort_by(f64::total_cmp);
            all[TRIES / 2]
        });
        self.warm_ratio = [latent / step, frame / step];
        Ok(())
    }
}

/// See [`Exact::edge`].
fn edge(bytes: &[u8], [width, _]: [usize; 2], [left, top, right, bottom]: [usize; 4]) -> f64 {
    let step = |p: usize, q: usize| -> f64 {
        (0..3).map(|c| f64::from(bytes[3 * p + c].abs_diff(bytes[3 * q + c]))).sum()
    };
    let (mut across, mut beside) = (0.0, 0.0);
    let mut line = |at: &dyn Fn(usize) -> usize, edge: usize| {
        across += step(at(edge - 1), at(edge));
        beside += 0.5 * (step(at(edge - 2), at(edge - 1)) + step(at(edge), at(edge + 1)));
    };
    for y in top..bottom {
        line(&|x| y * width + x, left);
        line(&|x| y * width + x, right);
    }
    for x in left..right {
        line(&|y| y * width + x, top);
        line(&|y| y * width + x, bottom);
    }
    across / beside.max(1e-9)
}
