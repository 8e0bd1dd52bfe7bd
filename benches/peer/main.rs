//! The library's side of `benches/peer/run.py`: it loads a model and does what it is told, a word a line on the
//! standard input, saying how long it took, a line of JSON each.
//!
//! ```text
//! peer MODEL WIDTH HEIGHT PRECISION THREADS          MODEL: a folder, or "demo"
//! ```

use latentblend::{
    Batch, BlendOptions, Branch, Call, Context, Keyframe, Latent, LoadOptions, Model, Sampler,
    Schedule, Session, Step,
};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PROMPTS: [&str; 2] = ["a castle on a hill at sunset", "a lake in the mountains by day"];

/// The processor time of this process so far, in seconds; the kernel counts in hundredths.
fn processor() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat[stat.rfind(')').ok_or("no name")? + 2..].split(' ').collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// The highest memory of this process so far, in bytes.
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

struct Peer {
    model: Model,
    size: [usize; 2],
    contexts: [Arc<Context>; 2],
    latent: Latent,
    /// Warm, with the next fraction that it hasn't rendered yet.
    session: Option<(Session, f64)>,
}

impl Peer {
    fn new(model: Model, size: [usize; 2]) -> Outcome<Self> {
        let tokens = [model.tokenize(PROMPTS[0])?.0, model.tokenize("")?.0];
        let mut contexts = model.engine().encode_prompts(&[&tokens[0], &tokens[1]])?.into_iter();
        let mut next = || contexts.next().map(Arc::new).ok_or("a prompt was lost");
        let contexts = [next()?, next()?];
        let info = model.info();
        let shape = [info.latent_channels, size[1] / info.factor, size[0] / info.factor];
        let count = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 291.0 - 1.734;
        let latent = Latent::new(shape, (0..count).map(value).collect())?;
        Ok(Peer { model, size, contexts, latent, session: None })
    }

    /// One evaluation of the UNet for a guidance pair.
    fn unet(&self) -> Outcome<()> {
        let [positive, negative] = &self.contexts;
        let branch = Branch {
            latent: self.latent.clone(),
            history: None,
            feed: None,
            positive: Arc::clone(positive),
            negative: Arc::clone(negative),
            guidance: 4.0,
            extra: None,
        };
        let steps = vec![Step { timestep: 481, alpha: 0.25, alpha_next: 0.3 }];
        let prediction_type = self.model.info().prediction_type();
        let schedule = Arc::new(Schedule { steps, prediction_type, sampler: Sampler::Ddim });
        let branches = vec![branch];
        let batch = Batch { branches, schedule, steps: 0..1, keep: 0, guidance: Arc::default() };
        let mut run = Arc::clone(self.model.engine()).denoise(batch)?;
        while run.advance()?.is_none() {}
        Ok(())
    }

    fn new_session(&self) -> Outcome<Session> {
        let keyframes = [Keyframe::new(PROMPTS[0], 420), Keyframe::new(PROMPTS[1], 421)];
        let options =
            BlendOptions { size: Some(self.size), steps: Some(30), ..BlendOptions::default() };
        Ok(Session::new(&self.model, &keyframes, &options)?)
    }

    /// What `task` took, and the evaluations of the UNet (of a pair) in it.
    fn run(&mut self, task: &str) -> Outcome<serde_json::Value> {
        if task == "warm" && self.session.is_none() {
            let session = self.new_session()?;
            session.prepare(&Call::new())?;
            self.session = Some((session, 0.37));
        }
        let (wall, used) = (Instant::now(), processor()?);
        let evaluations = match task {
            "unet" => {
                self.unet()?;
                1
            }
            "decode" => {
                self.model.engine().decode(std::slice::from_ref(&self.latent))?;
                0
            }
            "cold" => {
                let session = self.new_session()?;
                let count = session.evaluations(&[0.5])?;
                session.render(0.5, &Call::new())?;
                count
            }
            "warm" => {
                let (session, t) = self.session.as_mut().ok_or("no session")?;
                *t = (*t + 0.618).fract();
                let count = session.evaluations(&[*t])?;
                session.render(*t, &Call::new())?;
                count
            }
            other => {
                return Err(format!("task {other:?} is none of unet, decode, cold, warm").into());
            }
        };
        Ok(serde_json::json!({
            "seconds": wall.elapsed().as_secs_f64(),
            "processor_seconds": processor()? - used,
            "evaluations": evaluations,
            "peak_bytes": peak()?,
        }))
    }
}

fn main_inner() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, width, height, precision, threads] = &arguments[..] else {
        return Err("usage: peer MODEL WIDTH HEIGHT PRECISION THREADS".into());
    };
    let options = LoadOptions {
        precision: precision.parse()?,
        threads: threads.parse()?,
        ..LoadOptions::default()
    };
    let call = Call::new();
    let start = Instant::now();
    let model = match model.as_str() {
        "demo" => Model::demo_with(&options, &call)?,
        path => Model::load_with(path, &options, &call)?,
    };
    let size = [width.parse()?, height.parse()?];
    let loaded = serde_json::json!({
        "load_seconds": start.elapsed().as_secs_f64(),
        "kernels": model.engine().numerics().kernels,
        "precision": model.engine().numerics().precision,
        "threads": model.engine().threads(),
        "estimated_peak_bytes": model.peak_bytes(size, 1),
        "weight_bytes": model.memory_bytes(),
        "peak_bytes": peak()?,
    });
    let mut output = std::io::stdout();
    writeln!(output, "{loaded}")?;
    let mut peer = Peer::new(model, size)?;
    for line in std::io::stdin().lock().lines() {
        writeln!(output, "{}", peer.run(line?.trim())?)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match main_inner() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer: {error}");
            ExitCode::FAILURE
        }
    }
}
