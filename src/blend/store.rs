//! In: a session. Out: a file, and from it the same session again, in another process or on another machine.
//!
//! The file is safetensors: what was decided ([`Record`]) is one text in its header, what was computed are
//! tensors (`branch.LEVEL.INDEX`, and `keyframe.N.start`, `keyframe.N.origin...` where there are such), and
//! `checksum` is over all of it. Nothing that is read is believed before it was looked at.

use super::extend::Origin;
use super::lineage::Node;
use super::options::Keyframe;
use super::record::{ALGORITHM, KeyframeRecord, ModelRecord, NumericsRecord, OriginRecord, Record};
use super::session::Session;
use crate::diffusion::{Context, Latent, Model, State, Trail, physical};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Call;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// The version of the format that sessions are saved in.
pub const SESSION_FORMAT: u32 = 1;

/// Where the header says what the session is.
const KEY: &str = "latentblend.session";
const CHECKSUM: &str = "checksum";

/// How a saved session is taken up again.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Goes on although this machine rounds otherwise than the one that made the file: another kind of
    /// device, other kernels, another precision. Frames then differ in their last bits from those made there,
    /// and a sequence that both have rendered parts of may show it.
    pub accept_other_numerics: bool,
    /// Memory for latents that can be made again; `None`: as the saved session had it.
    pub cache_bytes: Option<usize>,
}

/// A tensor on its way to the file or from it.
struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn new(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Stored { shape: shape.to_vec(), bytes }
    }

    fn values(&self) -> Vec<f32> {
        let chunks = self.bytes.chunks_exact(4);
        chunks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    fn latent(&self) -> Result<Latent> {
        let shape = self.shape.as_slice().try_into();
        let shape = shape.map_err(|_| Error::invalid("a latent without three axes"))?;
        let latent = Latent::new(shape, self.values())?;
        match latent.data().iter().all(|v| v.is_finite()) {
            true => Ok(latent),
            false => Err(Error::invalid("a latent with values that are not finite")),
        }
    }

    /// Latents of one shape in a row, the history of each state behind its latent.
    fn states<'a>(states: impl Iterator<Item = &'a State>) -> Self {
        let (mut count, mut parts, mut shape, mut values) = (0, 1, [0; 3], Vec::new());
        for state in states {
            (count, parts, shape) = (count + 1, 1, state.latent.shape());
            values.extend_from_slice(state.latent.data());
            if let Some(history) = &state.history {
                parts = 2;
                values.extend_from_slice(history.data());
            }
        }
        let [channels, height, width] = shape;
        Stored::new(&[count, parts, channels, height, width], &values)
    }

    /// The way back: states with a history where there are two parts.
    fn to_states(&self) -> Result<Vec<State>> {
        let [count, parts @ (1 | 2), channels, height, width] = *self.shape.as_slice() else {
            return Err(Error::invalid(format!("states of shape {:?}", self.shape)));
        };
        let (shape, values) = ([channels, height, width], self.values());
        let length = channels.saturating_mul(height).saturating_mul(width);
        if length == 0 || values.len() / length != count.saturating_mul(parts) {
            return Err(Error::invalid(format!("states of shape {:?}", self.shape)));
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(Error::invalid("a latent with values that are not finite"));
        }
        let state = |values: &[f32]| {
            let (latent, history) = values.split_at(length);
            let history = (!history.is_empty()).then(|| Latent::new(shape, history.to_vec()));
            Ok(State {
                latent: Latent::new(shape, latent.to_vec())?,
                history: history.transpose()?,
            })
        };
        values.chunks_exact(length * parts).map(state).collect()
    }

    fn context(&self) -> Result<Context> {
        Context::new(self.shape.first().copied().unwrap_or(0), self.values())
    }
}

type Tensors = BTreeMap<String, Stored>;

/// Over all that a file says.
fn checksum(record: &str, tensors: &Tensors) -> [u8; 16] {
    let mut hash = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(record.as_bytes());
    for (name, stored) in tensors {
        add(name.as_bytes());
        stored.shape.iter().for_each(|&axis| add(&(axis as u64).to_le_bytes()));
        add(&stored.bytes);
    }
    hash.digest128().to_le_bytes()
}

impl Session {
    /// Writes the session to a file: keyframes, all that was decided (schedule, plans, guidance, timeline),
    /// and the branches that are kept at present. [`Session::prepare`] first, and whoever loads it finds
    /// the work done. Finished frames are not kept in it. The file appears whole or not at all.
    ///
    /// # Errors
    /// `Io`, `NotFound` for a folder that isn't there, `Cancelled`.
    pub fn save(&self, path: impl AsRef<Path>, call: &Call<'_>) -> Result<()> {
        call.poll()?;
        let (path, tree) = (path.as_ref(), self.tree());
        tree.check_pictures("saving")?;
        let (record, mut tensors) = self.stored()?;
        let sum = checksum(&record, &tensors);
        tensors.insert(CHECKSUM.into(), Stored { shape: vec![sum.len()], bytes: sum.to_vec() });
        let views = tensors.iter().map(|(name, stored)| {
            let dtype = if name == CHECKSUM { Dtype::U8 } else { Dtype::F32 };
            Ok((name.clone(), TensorView::new(dtype, stored.shape.clone(), &stored.bytes)?))
        });
        let bytes = views
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| serialize(views, Some(HashMap::from([(KEY.into(), record)]))))
            .map_err(|e| Error::internal(format!("a session as safetensors: {e}")))?;
        call.poll()?;
        let part = part_of(path);
        let io = |e: std::io::Error| Error::io(path.display(), &e);
        let written = std::fs::write(&part, bytes)
            .map_err(io)
            .and_then(|()| call.poll())
            .and_then(|()| std::fs::rename(&part, path).map_err(io));
        if written.is_err() {
            // What cannot be removed either is no worse than the error at hand.
            let _ = std::fs::remove_file(&part);
        }
        log::debug!("saved {} of {} keyframes", path.display(), tree.keyframes().len());
        written
    }

    /// What the file holds.
    fn stored(&self) -> Result<(String, Tensors)> {
        let tree = self.tree();
        let mut tensors = Tensors::new();
        for (node, kept) in tree.kept_branches() {
            let states = Stored::states(kept.states().iter());
            tensors.insert(format!("branch.{}.{}", node.level, node.index), states);
        }
        let mut records = Vec::with_capacity(tree.keyframes().len());
        for (number, keyframe) in tree.keyframes().iter().enumerate() {
            if let Some(start) = &keyframe.start {
                let stored = Stored::new(&start.shape(), start.data());
                tensors.insert(format!("keyframe.{number}.start"), stored);
            }
            if let Some(origin) = &keyframe.origin {
                for (level, at) in origin.trails().iter().enumerate() {
                    let states = Stored::states(std::iter::once(at.last()));
                    tensors.insert(format!("keyframe.{number}.origin.{level}"), states);
                }
            }
            records.push(KeyframeRecord {
                prompt: keyframe.prompt.clone(),
                negative_prompt: keyframe.negative_prompt.clone(),
                seed: keyframe.seed,
                start: keyframe.start.is_some(),
                origin: keyframe.origin.as_ref().map(|origin| OriginRecord {
                    starts: origin.starts().to_vec(),
                    guidance: origin.guidance(),
                }),
            });
        }
        for (number, keyframe) in tree.keyframes().iter().enumerate() {
            let Some(origin) = &keyframe.origin else { continue };
            for (name, context) in ["positive", "negative"].into_iter().zip(origin.contexts()) {
                let stored = Stored::new(&[context.tokens(), context.width()], context.data());
                tensors.insert(format!("keyframe.{number}.origin.{name}"), stored);
            }
        }
        let record = Record::new(
            ModelRecord::of(tree.model().info()),
            NumericsRecord::of(tree.model().engine().numerics()),
            tree.recipe(),
            records,
            self.timeline().clone(),
        )?;
        let text = serde_json::to_string(&record);
        Ok((text.map_err(|e| Error::internal(format!("a session as JSON: {e}")))?, tensors))
    }

    /// Takes up a session that [`Session::save`] has written, with the model that it was made with. Its
    /// frames are those of the saved session, bit for bit, whichever process renders them.
    ///
    /// # Errors
    /// `NotFound` and `Io`; `BadModel` for a file that is damaged or no session's; `InvalidArgument` for
    /// another model; `Unsupported` for a session of another version of format or algorithm, and for one made
    /// with other numerics, unless `options` accept them.
    pub fn load(
        model: &Model,
        path: impl AsRef<Path>,
        options: &RestoreOptions,
        call: &Call<'_>,
    ) -> Result<Session> {
        call.poll()?;
        let path = path.as_ref();
        let bytes = read(path)?;
        let session = restored(model, &bytes, options).map_err(|e| e.at(path.display()))?;
        call.poll()?;
        Ok(session)
    }
}

/// Where a file grows, beside its place, so that renaming it is one act.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    path.with_file_name(name)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |e: std::io::Error| Error::io(path.display(), &e);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if let Some(there) = physical().filter(|there| length > *there) {
        return Err(Error::new(
            ErrorKind::OutOfMemory,
            format!("{}: {length} bytes, the machine has {there}", path.display()),
        ));
    }
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(length as usize);
    reserved.map_err(|e| Error::new(ErrorKind::OutOfMemory, format!("{}: {e}", path.display())))?;
    // No more than was there when it was opened.
    Read::by_ref(&mut file).take(length).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Only the version, of whatever version.
#[derive(Deserialize)]
struct Versions {
    format: u32,
    algorithm: u32,
    library: String,
}

fn restored(model: &Model, bytes: &[u8], options: &RestoreOptions) -> Result<Session> {
    let damaged = |what: &dyn std::fmt::Display| {
        Error::bad_model(format!("not a session's file, or damaged: {what}"))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let text = header.metadata().as_ref().and_then(|notes| notes.get(KEY));
    let text = text.ok_or_else(|| damaged(&format!("its header has no {KEY}")))?;
    let versions: Versions = serde_json::from_str(text).map_err(|e| damaged(&e))?;
    for (what, there, here) in
        [("format", versions.format, SESSION_FORMAT), ("algorithm", versions.algorithm, ALGORITHM)]
    {
        if there != here {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a session of {what} version {there}, written by version {} of the library; this one \
                     has {what} version {here}",
                    versions.library
                ),
            ));
        }
    }
    let mut tensors = Tensors::new();
    let mut sum = None;
    for (name, view) in file.tensors() {
        let bytes = view.data().to_vec();
        match (name.as_str(), view.dtype()) {
            (CHECKSUM, Dtype::U8) => sum = Some(bytes),
            (_, Dtype::F32) => {
                tensors.insert(name, Stored { shape: view.shape().to_vec(), bytes });
            }
            (_, other) => return Err(damaged(&format!("{name} is {other:?}"))),
        }
    }
    if sum.as_deref() != Some(checksum(text, &tensors).as_slice()) {
        return Err(damaged(&"its checksum doesn't fit"));
    }
    let record: Record = serde_json::from_str(text).map_err(|e| damaged(&e))?;
    record.model.check(&ModelRecord::of(model.info()))?;
    let here = NumericsRecord::of(model.engine().numerics());
    if let Some(what) = record.numerics.difference(&here) {
        if !options.accept_other_numerics {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("made with other numerics ({what}), and those weren't accepted"),
            ));
        }
        log::info!("a session made with other numerics: {what}");
    }
    // From here on a fault is the file's, whatever a caller of the functions used would be told.
    session(model, &record, tensors, options).map_err(|e| match e.kind() {
        ErrorKind::InvalidArgument => damaged(&e),
        _ => e,
    })
}

fn session(
    model: &Model,
    record: &Record,
    mut tensors: Tensors,
    options: &RestoreOptions,
) -> Result<Session> {
    let mut recipe = record.recipe(model.info())?;
    recipe.cache_bytes = options.cache_bytes.unwrap_or(recipe.cache_bytes);
    let mut take = |name: String| {
        tensors.remove(&name).ok_or_else(|| Error::invalid(format!("{name} is missing")))
    };
    let mut keyframes = Vec::with_capacity(record.keyframes.len());
    for (number, saved) in record.keyframes.iter().enumerate() {
        let mut keyframe =
            Keyframe::new(&saved.prompt, saved.seed).negative(&saved.negative_prompt);
        if saved.start {
            keyframe.start = Some(Arc::new(take(format!("keyframe.{number}.start"))?.latent()?));
        }
        if let Some(origin) = &saved.origin {
            let mut part = |what: &str| take(format!("keyframe.{number}.origin.{what}"));
            let levels = 0..origin.starts.len();
            let states = levels.map(|level| {
                let mut states = part(&level.to_string())?.to_states()?;
                states.pop().ok_or_else(|| Error::invalid("an origin without a state"))
            });
            let states = states.collect::<Result<_>>()?;
            let contexts =
                [Arc::new(part("positive")?.context()?), Arc::new(part("negative")?.context()?)];
            let origin = Origin::new(states, origin.starts.clone(), contexts, origin.guidance)?;
            keyframe.origin = Some(Arc::new(origin));
        }
        keyframes.push(keyframe);
    }
    let looped = recipe.looped;
    let session = Session::from_recipe(model, keyframes, recipe, None)?;
    record.timeline.check(session.segments(), looped)?;
    let tree = session.tree();
    let mut branches = Vec::with_capacity(tensors.len());
    for (name, stored) in &tensors {
        let numbers = name.strip_prefix("branch.").and_then(|rest| rest.split_once('.'));
        let (node, (first, count)) = numbers
            .and_then(|(level, index)| {
                let node = Node { level: level.parse().ok()?, index: index.parse().ok()? };
                Some((node, tree.kept_steps(node)?))
            })
            .ok_or_else(|| Error::invalid(format!("{name} is no branch of it")))?;
        let [channels, height, width] = tree.recipe().shape;
        let parts = if tree.recipe().schedule.sampler.multistep() { 2 } else { 1 };
        if stored.shape != [count, parts, channels, height, width] {
            return Err(Error::invalid(format!("{name} has shape {:?}", stored.shape)));
        }
        branches.push((node, Arc::new(Trail::new(first, stored.to_states()?)?)));
    }
    tree.cache().insert(branches.into_iter());
    Ok(Session::around(Arc::clone(session.tree()), record.timeline.clone()))
}
