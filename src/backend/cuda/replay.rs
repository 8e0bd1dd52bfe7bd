//! In: a step of a network, by its key and its inputs. Out: its output. The first time a step runs as it is; the
//! second time it is planned (how much memory?), recorded as a graph, and from then on launched whole.
//!
//! A recorded step reads inputs that it owns and works in an arena that all recorded steps of a model share, for they
//! run one after the other. Inputs are copied in where they are others than before, the output is copied out: nothing
//! is asked of the driver but these copies and the launch.

use super::calls::{Address, Handle};
use super::lane::Lane;
use super::memory::{Arena, Block, Mode, current, in_mode};
use super::space::Space;
use super::tensor::Tensor;
use crate::backend::Replayable;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// The most steps that are kept recorded, and the most bytes that their inputs take.
const KEPT: usize = 24;
const KEPT_BYTES: u64 = 512 << 20;
/// As long as no memory is: places in a plan.
const BOUNDLESS: u64 = 1 << 46;

/// What was recorded on a device since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CudaReplays {
    /// Steps that were recorded.
    pub recorded: u64,
    /// Steps that ran by what was recorded.
    pub replayed: u64,
    /// Why some are not recorded, where that failed.
    pub refused: Option<String>,
}

/// What tells a step from others: its key, and shapes and kinds of its inputs.
#[derive(PartialEq, Eq, Clone)]
struct Name {
    key: Vec<usize>,
    inputs: Vec<([usize; 4], bool)>,
}

struct Recorded {
    name: Name,
    inputs: Vec<Tensor>,
    /// The blocks that the inputs were copied from.
    sources: Vec<u64>,
    exec: Handle,
    output: Address,
    shape: [usize; 4],
    f32: bool,
}

/// The recorded steps of a model.
#[derive(Default)]
pub(super) struct Recordings {
    steps: Vec<Recorded>,
    /// Steps that have run once.
    seen: Vec<Name>,
    arena: Option<Block>,
    /// The device or its driver cannot record.
    refused: bool,
}

impl Recordings {
    /// Lets all of them go, and their arena.
    pub(super) fn clear(&mut self, lane: &Lane) {
        self.forget(lane);
        self.seen.clear();
        self.arena = None;
    }

    fn forget(&mut self, lane: &Lane) {
        for step in self.steps.drain(..) {
            lane.forget(step.exec);
        }
    }

    /// The oldest go until one more has room.
    fn make_room(&mut self, lane: &Lane, more: u64) {
        let bytes = |steps: &[Recorded]| -> u64 {
            steps.iter().flat_map(|step| &step.inputs).map(Tensor::bytes).sum()
        };
        while !self.steps.is_empty()
            && (self.steps.len() >= KEPT || bytes(&self.steps) + more > KEPT_BYTES)
        {
            lane.forget(self.steps.remove(0).exec);
        }
    }
}

/// Runs `step` on `inputs`, or what was recorded of it.
pub(super) fn run(
    lane: &Lane,
    recordings: &Mutex<Recordings>,
    key: &[usize],
    inputs: &[&Tensor],
    step: &Replayable<'_, Tensor>,
) -> Result<Tensor> {
    let plain = || step(&inputs.iter().map(|&x| x.clone()).collect::<Vec<_>>());
    let name =
        Name { key: key.to_vec(), inputs: inputs.iter().map(|x| (x.shape, x.f32)).collect() };
    let mut recordings = recordings.lock();
    if recordings.refused || !matches!(current(), Mode::Run) {
        drop(recordings);
        return plain();
    }
    if !recordings.steps.iter().any(|step| step.name == name) {
        if !recordings.seen.contains(&name) {
            if recordings.seen.len() >= 4 * KEPT {
                recordings.seen.remove(0);
            }
            recordings.seen.push(name);
            drop(recordings);
            return plain();
        }
        match record(lane, &mut recordings, name.clone(), inputs, step) {
            Ok(()) => {}
            // Not recorded is slower, not wrong; little memory and a lost device are the caller's to hear of.
            Err(e) if e.kind() != ErrorKind::OutOfMemory && !lane.is_lost() => {
                log::warn!("{e}; steps run unrecorded on {}", lane.info.name);
                recordings.clear(lane);
                recordings.refused = true;
                lane.replays.lock().refused = Some(e.to_string());
                drop(recordings);
                return plain();
            }
            Err(e) => {
                recordings.clear(lane);
                return Err(e);
            }
        }
    }
    let Some(index) = recordings.steps.iter().position(|step| step.name == name) else {
        drop(recordings);
        return plain();
    };
    // The last used goes last, for the first are let go first.
    let mut recorded = recordings.steps.remove(index);
    let result = launch(lane, &mut recorded, inputs);
    recordings.steps.push(recorded);
    result
}

fn launch(lane: &Lane, recorded: &mut Recorded, inputs: &[&Tensor]) -> Result<Tensor> {
    let places = recorded.inputs.iter().zip(&mut recorded.sources);
    for ((to, source), from) in places.zip(inputs) {
        if *source != from.block().id() {
            lane.copy(to.address(), from.address(), from.bytes())?;
            *source = from.block().id();
        }
    }
    lane.replay(recorded.exec)?;
    lane.replays.lock().replayed += 1;
    let output = Tensor::new(lane, recorded.shape, recorded.f32)?;
    lane.copy(output.address(), recorded.output, output.bytes())?;
    Ok(output)
}

/// The arena of a step at `base`, whether it is planned or recorded: in no more room than its plan says, places could
/// be others (of the smallest part that holds a length, the last one is a candidate then), and not suffice.
fn arena(base: Address) -> Arena {
    Arena { base, space: Arc::new(Mutex::new(Space::new(BOUNDLESS))) }
}

/// The room that `step` needs.
fn plan(inputs: &[Tensor], step: &Replayable<'_, Tensor>) -> Result<u64> {
    let arena = arena(BOUNDLESS);
    let space = Arc::clone(&arena.space);
    in_mode(Mode::Plan(arena), || step(inputs))?;
    let peak = space.lock().peak();
    Ok(peak)
}

fn record(
    lane: &Lane,
    recordings: &mut Recordings,
    name: Name,
    inputs: &[&Tensor],
    step: &Replayable<'_, Tensor>,
) -> Result<()> {
    recordings.make_room(lane, inputs.iter().map(|x| x.bytes()).sum());
    let own = inputs.iter().map(|x| Tensor::new(lane, x.shape, x.f32));
    let own = own.collect::<Result<Vec<_>>>()?;
    let peak = plan(&own, step)?;
    if recordings.arena.as_ref().is_none_or(|arena| arena.length() < peak) {
        // Steps that were recorded in the old one go with it.
        recordings.forget(lane);
        recordings.arena = None;
        recordings.arena = Some(Block::new(lane, peak)?);
    }
    let base = recordings.arena.as_ref().map_or(0, Block::address);
    let arena = arena(base);
    let space = Arc::clone(&arena.space);
    let work = || in_mode(Mode::Record(arena), || step(&own));
    let (exec, output) = {
        // One recorder serves all models on the device.
        lane.record(work)?
    };
    let taken = space.lock().peak();
    if taken > peak {
        lane.forget(exec);
        return Err(Error::internal(format!("a recorded step took {taken} bytes of {peak}")));
    }
    lane.replays.lock().recorded += 1;
    recordings.steps.push(Recorded {
        name,
        sources: vec![0; own.len()],
        inputs: own,
        exec,
        output: output.address(),
        shape: output.shape,
        f32: output.f32,
    });
    Ok(())
}
