//! In: trails that were costly to make. Out: the same trails, as long as the caller's limit allows.
//!
//! Also the place where threads that want the same branch find each other, so that it is made once.

use super::lineage::Node;
use crate::diffusion::{Priority, Trail};
use crate::error::Result;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Branches that are claimed, and denoised, together. Others who want one of them wait for no more, and
/// a cancelled call keeps the batches that it has finished.
pub(crate) const BATCH: usize = 16;

struct Entry {
    trail: Arc<Trail>,
    used: u64,
}

#[derive(Default)]
struct State {
    entries: HashMap<Node, Entry>,
    bytes: usize,
    clock: u64,
    /// Being made for a caller who waits for a picture, and being made by a `prepare`.
    urgent: HashSet<Node>,
    patient: HashSet<Node>,
}

/// Trails of one session, up to a number of bytes.
pub(crate) struct Cache {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    /// Nodes of this level are finished frames' latents: the first to go, for they cost the least.
    leaf_level: usize,
}

/// What a caller that wants nodes gets.
pub(crate) enum Lookup<'a> {
    /// All of them.
    Complete,
    /// Some are being made by another caller: look again later.
    Wait,
    /// These are missing, and this caller's to make.
    Make(Claim<'a>),
}

/// Nodes that one caller has taken upon itself to make. Given up when dropped.
pub(crate) struct Claim<'a> {
    cache: &'a Cache,
    priority: Priority,
    /// In the order of the tree.
    pub(crate) nodes: Vec<Node>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        let set = match self.priority {
            Priority::Urgent => &mut state.urgent,
            Priority::Patient => &mut state.patient,
        };
        for node in &self.nodes {
            set.remove(node);
        }
        self.cache.changed.notify_all();
    }
}

impl Cache {
    pub(crate) fn new(limit: usize, leaf_level: usize) -> Self {
        Cache { state: Mutex::default(), changed: Condvar::new(), limit, leaf_level }
    }

    /// Adds to `found` what of `wanted` is there, and says what to do about the rest. An urgent caller
    /// waits for other urgent ones, but never for a `prepare`, whose batch may be long.
    pub(crate) fn look_up(
        &self,
        wanted: &[Node],
        priority: Priority,
        found: &mut HashMap<Node, Arc<Trail>>,
    ) -> Lookup<'_> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut missing = Vec::new();
        for node in wanted {
            if found.contains_key(node) {
                continue;
            }
            state.clock += 1;
            match state.entries.get_mut(node) {
                Some(entry) => {
                    entry.used = state.clock;
                    found.insert(*node, Arc::clone(&entry.trail));
                }
                None => missing.push(*node),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Lookup::Complete;
        }
        missing.truncate(BATCH);
        let busy = |node: &Node| {
            state.urgent.contains(node)
                || priority == Priority::Patient && state.patient.contains(node)
        };
        if missing.iter().any(busy) {
            return Lookup::Wait;
        }
        match priority {
            Priority::Urgent => state.urgent.extend(&missing),
            Priority::Patient => state.patient.extend(&missing),
        }
        Lookup::Make(Claim { cache: self, priority, nodes: missing })
    }

    /// Sleeps until something changed, at most 20 ms.
    pub(crate) fn wait(&self) {
        let mut state = self.state.lock();
        self.changed.wait_for(&mut state, Duration::from_millis(20));
    }

    /// Which of `nodes` are not there; touches nothing.
    pub(crate) fn missing(&self, nodes: impl Iterator<Item = Node>) -> Vec<Node> {
        let state = self.state.lock();
        nodes.filter(|node| !state.entries.contains_key(node)).collect()
    }

    /// The trail of `node`, if it is there.
    pub(crate) fn get(&self, node: Node) -> Option<Arc<Trail>> {
        let mut state = self.state.lock();
        state.clock += 1;
        let clock = state.clock;
        let entry = state.entries.get_mut(&node)?;
        entry.used = clock;
        Some(Arc::clone(&entry.trail))
    }

    /// Keeps trails, and lets go of the least needed until the limit is met.
    pub(crate) fn insert(&self, made: impl Iterator<Item = (Node, Arc<Trail>)>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for (node, trail) in made {
            state.clock += 1;
            state.bytes += trail.bytes();
            let entry = Entry { trail, used: state.clock };
            if let Some(before) = state.entries.insert(node, entry) {
                state.bytes -= before.trail.bytes();
            }
        }
        while state.bytes > self.limit {
            let least = state
                .entries
                .iter()
                .min_by_key(|(node, entry)| (node.level != self.leaf_level, entry.used))
                .map(|(node, _)| *node);
            let Some(node) = least else { break };
            if let Some(entry) = state.entries.remove(&node) {
                state.bytes -= entry.trail.bytes();
            }
        }
    }

    /// All branches but finished ones, in the order of the tree; touches nothing.
    pub(crate) fn inner(&self) -> Vec<(Node, Arc<Trail>)> {
        let state = self.state.lock();
        let kept = state.entries.iter().filter(|(node, _)| node.level < self.leaf_level);
        let mut kept: Vec<_> = kept.map(|(node, e)| (*node, Arc::clone(&e.trail))).collect();
        kept.sort_unstable_by_key(|(node, _)| *node);
        kept
    }

    /// Lets go of all nodes for which `keep` is false.
    pub(crate) fn retain(&self, keep: impl Fn(&Node) -> bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.entries.retain(|node, entry| {
            let keep = keep(node);
            if !keep {
                state.bytes -= entry.trail.bytes();
            }
            keep
        });
    }

    /// The memory that the trails take.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Gathers `wanted`: takes what is there, waits for what others make, and has the rest made by
    /// `make`, which returns trails in the order of its nodes. `poll` is called while waiting.
    pub(crate) fn gather(
        &self,
        wanted: &[Node],
        priority: Priority,
        poll: &mut dyn FnMut() -> Result<()>,
        make: &mut dyn FnMut(&[Node]) -> Result<Vec<Trail>>,
    ) -> Result<HashMap<Node, Arc<Trail>>> {
        let mut found = HashMap::with_capacity(wanted.len());
        loop {
            match self.look_up(wanted, priority, &mut found) {
                Lookup::Complete => return Ok(found),
                Lookup::Wait => {
                    poll()?;
                    self.wait();
                }
                Lookup::Make(claim) => {
                    let made = make(&claim.nodes)?.into_iter().map(Arc::new);
                    let made: Vec<_> = claim.nodes.iter().copied().zip(made).collect();
                    self.insert(made.iter().cloned());
                    found.extend(made);
                }
            }
        }
    }
}
