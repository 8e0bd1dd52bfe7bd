//! In: a pair of keyframes and a number of frames. Out: the frames that each method makes of them, and what
//! they cost.

use crate::direct::{Ends, GUIDANCE};
use latentblend::{
    Adapt, BlendOptions, Branching, Call, Crossfeed, Distance, Even, Frame, Keyframe, LatentMix,
    Look, Model, Pace, PromptRules, Result, Sampler, SchedulePolicy, Session, StemLimit, Timing,
};
use std::sync::Arc;

/// A way from one picture to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The two keyframes, each of half the budget's steps, one faded into the other.
    Dissolve,
    /// Each frame sampled as a whole (stable-diffusion-videos), in as many steps as the budget has for it.
    Resample,
    /// The tree of 2022 with a leaf for every fourth frame and pixel in-betweens, in as many steps as fit.
    Tree2022,
    /// The tree of 2022 with its 30 steps and as many leaves as fit, at most one for each frame.
    Leaves2022,
    /// The engine of February 2023 with both crossfeeds and as many pictures as fit; pixel in-betweens.
    Engine2023,
    /// This library's defaults: exact frames, latents mixed by bands, in even time, whose measuring is paid for.
    Ours,
    /// Latents mixed on one arc.
    OursArc,
    /// The same with t in proportion to time: what even time does.
    OursLinear,
    /// Even time by the distance of latents: no decode for the measuring.
    OursLatents,
    /// Branches placed by what they show, then even time.
    OursAdapted,
    /// 15 steps of DPM-Solver++(2M).
    OursDpm,
    /// With the crossfeeds of 2023.
    OursCrossfeed,
    /// The first branches leave at 0.3 of the steps, as in 2023.
    OursEarly,
    /// They leave at 0.3 of 20 steps.
    OursShort,
    /// They leave at half of the steps.
    OursHalf,
    /// They leave at 0.8.
    OursLate,
}

/// What a method made.
pub(crate) struct Made {
    pub(crate) frames: Vec<Frame>,
    /// Of each frame.
    pub(crate) t: Vec<f64>,
    /// Pictures decoded, those that were only measured included.
    pub(crate) decodes: usize,
    /// The size of its tree or runs, in words.
    pub(crate) how: String,
}

impl Method {
    /// Those of the main table, all at equal evaluations.
    pub(crate) const COMPARED: [Method; 6] = [
        Method::Dissolve,
        Method::Resample,
        Method::Tree2022,
        Method::Engine2023,
        Method::Ours,
        Method::OursArc,
    ];
    /// Options of ours, and of the 2022 tree's.
    pub(crate) const TRIED: [Method; 10] = [
        Method::Leaves2022,
        Method::OursLinear,
        Method::OursLatents,
        Method::OursAdapted,
        Method::OursDpm,
        Method::OursCrossfeed,
        Method::OursEarly,
        Method::OursShort,
        Method::OursHalf,
        Method::OursLate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Dissolve => "dissolve",
            Method::Resample => "resample",
            Method::Tree2022 => "2022",
            Method::Leaves2022 => "2022-leaves",
            Method::Engine2023 => "2023",
            Method::Ours => "ours",
            Method::OursArc => "ours-arc",
            Method::OursLinear => "ours-linear",
            Method::OursLatents => "ours-latents",
            Method::OursAdapted => "ours-adapted",
            Method::OursDpm => "ours-dpm",
            Method::OursCrossfeed => "ours-crossfeed",
            Method::OursEarly => "ours-early",
            Method::OursLate => "ours-late",
            Method::OursShort => "ours-short",
            Method::OursHalf => "ours-half",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Method> {
        let all = Method::COMPARED.into_iter().chain(Method::TRIED);
        all.into_iter().find(|method| method.name() == name)
    }

    /// Makes `frames` frames within `budget` branch-steps.
    ///
    /// # Errors
    /// What the library reports.
    pub(crate) fn make(
        self,
        model: &Model,
        keyframes: &[Keyframe; 2],
        frames: usize,
        budget: usize,
    ) -> Result<Made> {
        let even: Vec<f64> = (0..frames).map(|k| k as f64 / (frames - 1) as f64).collect();
        match self {
            Method::Dissolve => {
                let ends = Ends::new(model, keyframes, PromptRules::Transformers)?;
                let steps = (budget / 2).min(999);
                let schedule = Arc::new(model.schedule(steps, SchedulePolicy::Model)?);
                let [a, b] = [ends.solo(model, 0, &schedule)?, ends.solo(model, 1, &schedule)?];
                let frames = even.iter().map(|&t| faded(&a, &b, t)).collect::<Result<_>>()?;
                let how = format!("2 runs of {steps} steps");
                Ok(Made { frames, t: even, decodes: 2, how })
            }
            Method::Resample => {
                let ends = Ends::new(model, keyframes, PromptRules::Transformers)?;
                let steps = (budget / frames).max(1);
                let latents = ends.resampled(model, steps, &even)?;
                let how = format!("{frames} runs of {steps} steps");
                let frames = model.engine().decode(&latents)?;
                Ok(Made { decodes: frames.len(), frames, t: even, how })
            }
            Method::Tree2022 | Method::Leaves2022 | Method::Engine2023 => {
                self.as_then(model, keyframes, frames, budget)
            }
            _ => self.as_now(model, keyframes, frames),
        }
    }

    /// This library's frames.
    fn as_now(self, model: &Model, keyframes: &[Keyframe; 2], frames: usize) -> Result<Made> {
        let call = Call::new();
        let mut session = Session::new(model, keyframes, &options(self))?;
        let mut decodes = frames;
        let even = Even::default();
        if self == Method::OursAdapted {
            session = session.adapted(&Adapt { even: even.clone(), strength: 1.0 }, &call)?;
            decodes += even.samples;
        }
        session.prepare(&call)?;
        let pace = match self {
            Method::OursLinear => Pace::Linear,
            Method::OursLatents => Pace::Even(Even { distance: Distance::Latents, ..even }),
            _ => {
                decodes += even.samples;
                Pace::Even(even)
            }
        };
        let session = session.timed(&Timing { pace, ..Timing::default() }, &call)?;
        let t = session.timeline().frames(frames);
        let mut made = Vec::with_capacity(frames);
        for times in t.chunks(8) {
            made.extend(session.render_many(times, &call)?);
        }
        Ok(Made { frames: made, t, decodes, how: described(&session) })
    }

    /// The frames of an older version: its pictures, and pixel in-betweens in even numbers between them.
    fn as_then(
        self,
        model: &Model,
        keyframes: &[Keyframe; 2],
        frames: usize,
        budget: usize,
    ) -> Result<Made> {
        let call = Call::new();
        let session = fitting(self, model, keyframes, frames, budget)?;
        let leaves = session.leaves();
        let mut pictures = Vec::with_capacity(leaves.len());
        for times in leaves.chunks(8) {
            pictures.extend(session.render_many(times, &call)?);
        }
        let (mut made, mut t) = (Vec::with_capacity(frames), Vec::with_capacity(frames));
        let gaps = leaves.len() - 1;
        let missing = frames - leaves.len();
        for gap in 0..gaps {
            // In-betweens are dealt out evenly over the gaps.
            let inner = missing * (gap + 1) / gaps - missing * gap / gaps;
            for part in 0..=inner {
                let share = part as f64 / (inner + 1) as f64;
                made.push(faded(&pictures[gap], &pictures[gap + 1], share)?);
                t.push(leaves[gap] + share * (leaves[gap + 1] - leaves[gap]));
            }
        }
        made.push(pictures[gaps].clone());
        t.push(1.0);
        let how = format!("{}, {} pictures", described(&session), pictures.len());
        Ok(Made { frames: made, t, decodes: pictures.len(), how })
    }
}

/// The options of a method that is this library's own.
fn options(method: Method) -> BlendOptions {
    let defaults = BlendOptions { guidance: GUIDANCE, ..BlendOptions::default() };
    match method {
        Method::OursDpm => {
            BlendOptions { sampler: Sampler::DpmSolver2M, steps: Some(15), ..defaults }
        }
        Method::OursCrossfeed => BlendOptions {
            branch1_crossfeed: Some(Crossfeed::new(0.1, 0.6, 0.8)),
            parental_crossfeed: Some(Crossfeed::new(0.1, 0.8, 0.8)),
            ..defaults
        },
        Method::OursEarly => BlendOptions { depth: 0.3, ..defaults },
        Method::OursShort => BlendOptions { depth: 0.3, steps: Some(20), ..defaults },
        Method::OursHalf => BlendOptions { depth: 0.5, ..defaults },
        Method::OursLate => BlendOptions { depth: 0.8, ..defaults },
        Method::OursArc => BlendOptions { latent_mix: Some(LatentMix::Arc), ..defaults },
        _ => defaults,
    }
}

/// Branch-steps that ours takes for `frames` frames at the most: its tree, what even time looks at, and the
/// frames. All methods get as much.
///
/// # Errors
/// What the library reports.
pub(crate) fn budget(model: &Model, frames: usize) -> Result<usize> {
    let keyframes = [Keyframe::new("", 0), Keyframe::new("", 1)];
    let session = Session::new(model, &keyframes, &options(Method::Ours))?;
    let plan = session.plan();
    let inner = plan.branch_steps() - plan.last().steps.len() * plan.last().fractions.len();
    Ok(inner + plan.last().steps.len() * (Even::default().samples + frames))
}

/// The largest session of an older version that stays within the budget.
pub(crate) fn fitting(
    method: Method,
    model: &Model,
    keyframes: &[Keyframe; 2],
    frames: usize,
    budget: usize,
) -> Result<Session> {
    /// Numbers of steps for which the schedule of 2022 has just as many.
    const STEPS: [usize; 8] = [100, 50, 40, 30, 25, 20, 15, 12];
    let session = |look: Look, steps: usize, branching: Branching| {
        let options = BlendOptions {
            look,
            steps: Some(steps),
            branching: Some(branching),
            guidance: GUIDANCE,
            ..BlendOptions::default()
        };
        Session::new(model, keyframes, &options)
    };
    let tree = |steps: usize, leaves: usize| {
        let branching = Branching::automatic(steps, 0.65, leaves, Look::Compat2022)?;
        session(Look::Compat2022, steps, branching)
    };
    let stems = |pictures: usize| {
        let branching = Branching::stems(30, 0.3, StemLimit::Frames(pictures))?;
        session(Look::Compat2023, 30, branching)
    };
    let counts = (3..=frames).rev();
    let candidates: Vec<Session> = match method {
        Method::Tree2022 => {
            let leaves = (frames / 4).max(5);
            STEPS.iter().map(|&steps| tree(steps, leaves)).collect::<Result<_>>()?
        }
        Method::Leaves2022 => counts.map(|leaves| tree(30, leaves)).collect::<Result<_>>()?,
        _ => counts.map(stems).collect::<Result<_>>()?,
    };
    let fits = |session: &Session| {
        session.plan().branch_steps() <= budget && session.leaves().len() <= frames
    };
    let smallest = candidates[candidates.len() - 1].clone();
    Ok(candidates.into_iter().find(fits).unwrap_or(smallest))
}

/// A plan's size in words.
fn described(session: &Session) -> String {
    let levels = session.plan().levels().iter();
    let levels: Vec<String> = levels
        .map(|level| format!("{} from step {}", level.fractions.len(), level.steps.start))
        .collect();
    format!("{} steps; branches: {}", session.schedule().steps.len(), levels.join(", "))
}

/// `a` and `b` mixed pixel by pixel; both ends are exact.
fn faded(a: &Frame, b: &Frame, share: f64) -> Result<Frame> {
    let mix = |(a, b): (&f32, &f32)| (f64::from(*a) * (1.0 - share) + f64::from(*b) * share) as f32;
    Frame::new(a.width(), a.height(), a.rgb().iter().zip(b.rgb()).map(mix).collect())
}
