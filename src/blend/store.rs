//! In: a session. Out: a file, and from it the same session again, in another process or on another machine.
//!
//! The file is safetensors: what was decided ([`Record`]) is one text in its header, what was computed are
//! tensors (`branch.LEVEL.INDEX`, and `keyframe.N.start`, `keyframe.N.origin...`, `picture.N`, `mask` where there
//! are such), and `checksum` is over all of it. Nothing that is read is believed before it was looked at.

use super::keyframe_record::Parts;
use super::lineage::Node;
use super::record::{ALGORITHM, ModelRecord, NumericsRecord, Record};
use super::scene::Ground;
use super::scene_record::{Album, SceneRecord, is_picture};
use super::session::Session;
use super::tensor::{Stored, Tensors, checksum};
use crate::diffusion::{Model, Trail, physical};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Call;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of the format that sessions are saved in. Those of earlier versions are read, too.
///
/// 2 added pictures, and to frames of other sessions what crossfeeds and the tree of 2023 need of them. 3 added
/// how latents are mixed, which a version that knows one way only must not pass over, and whether a frame of
/// another session is of one that repaints.
pub const SESSION_FORMAT: u32 = 3;

/// The oldest version that is read.
const OLDEST_FORMAT: u32 = 1;

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

impl Session {
    /// Writes the session to a file: keyframes with their pictures, what is repainted, all that was decided
    /// (schedule, plans, guidance, timeline), and the branches that are kept at present. [`Session::prepare`] first, and whoever loads it finds
    /// the work done. Finished frames are not kept in it. The file appears whole or not at all.
    ///
    /// # Errors
    /// `Io`, `NotFound` for a folder that isn't there, `Cancelled`.
    pub fn save(&self, path: impl AsRef<Path>, call: &Call<'_>) -> Result<()> {
        call.poll()?;
        let (path, tree) = (path.as_ref(), self.tree());
        let (record, mut tensors) = self.stored()?;
        let sum = checksum(&record, &tensors);
        tensors.insert(CHECKSUM.into(), Stored { shape: vec![sum.len()], bytes: sum.to_vec() });
        let views = tensors.iter().map(|(name, stored)| {
            let bytes = name == CHECKSUM || is_picture(name);
            let dtype = if bytes { Dtype::U8 } else { Dtype::F32 };
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
        let mut parts = Parts { tensors, album: Album::default() };
        let keyframes = tree.keyframes().iter().enumerate();
        let records = keyframes.map(|(number, keyframe)| parts.put(number, keyframe)).collect();
        let Parts { mut tensors, mut album } = parts;
        let scene = tree.scene().map(|scene| SceneRecord::new(scene, &mut album, &mut tensors));
        let record = Record::new(
            ModelRecord::of(tree.model().info()),
            NumericsRecord::of(tree.model().engine().numerics()),
            tree.recipe(),
            (records, album.put(&mut tensors), scene),
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
    for (what, there, oldest, here) in [
        ("format", versions.format, OLDEST_FORMAT, SESSION_FORMAT),
        ("algorithm", versions.algorithm, ALGORITHM, ALGORITHM),
    ] {
        if !(oldest..=here).contains(&there) {
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
            (name, Dtype::U8) if is_picture(name) => {
                tensors.insert(name.into(), Stored { shape: view.shape().to_vec(), bytes });
            }
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
    let album = Album::take(&record.pictures, &mut tensors)?;
    let ground = match &record.scene {
        Some(scene) => scene.ground(&album, &mut tensors, &recipe, model.info())?,
        None => Ground::default(),
    };
    let mut parts = Parts { tensors, album };
    let keyframes = record.keyframes.iter().enumerate();
    let (print, repaints) = (model.info().fingerprint, ground.plate.is_some());
    let keyframes = keyframes
        .map(|(number, saved)| parts.take(number, saved, print, repaints))
        .collect::<Result<_>>()?;
    let tensors = parts.tensors;
    let looped = recipe.looped;
    let session = Session::from_recipe(model, keyframes, recipe, ground)?;
    record.timeline.check(session.segments(), looped)?;
    let tree = session.tree();
    let mut branches = Vec::with_capacity(tensors.len());
    for (name, stored) in &tensors {
        let numbers = name.strip_prefix("branch.").and_then(|rest| rest.split_once('.'));
        let (node, (first, count, multistep)) = numbers
            .and_then(|(level, index)| {
                let node = Node { level: level.parse().ok()?, index: index.parse().ok()? };
                Some((node, tree.kept_steps(node)?))
            })
            .ok_or_else(|| Error::invalid(format!("{name} is no branch of it")))?;
        let [channels, height, width] = tree.recipe().shape;
        let parts = if multistep { 2 } else { 1 };
        if stored.shape != [count, parts, channels, height, width] {
            return Err(Error::invalid(format!("{name} has shape {:?}", stored.shape)));
        }
        branches.push((node, Arc::new(Trail::new(first, stored.to_states()?)?)));
    }
    tree.cache().insert(branches.into_iter());
    Ok(Session::around(Arc::clone(session.tree()), record.timeline.clone()))
}
