//! In: a folder on disk, a single file, or files embedded in the program. Out: their bytes, read piece
//! by piece.
//!
//! Nothing is memory-mapped: a mapped file that shrinks while it is used kills the process, past any
//! guard.

use super::single::Single;
use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A JSON or text file of a model is never larger than this; a larger one is not a model's.
const TEXT_LIMIT: u64 = 64 << 20;

/// Files embedded in the program: paths relative to the model folder, and their bytes.
pub type Embedded = &'static [(&'static str, &'static [u8])];

/// Where a model's files are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A folder on disk.
    Folder(PathBuf),
    /// A file that holds all networks.
    Single(Arc<Single>),
    /// Files inside the program.
    Embedded(Embedded),
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// Bytes in memory, the program's own or a text that was made up for a single file.
enum Embed {
    Static(&'static [u8]),
    Own(Vec<u8>),
}

impl AsRef<[u8]> for Embed {
    fn as_ref(&self) -> &[u8] {
        match self {
            Embed::Static(bytes) => bytes,
            Embed::Own(bytes) => bytes,
        }
    }
}

/// An open file of a model.
pub(crate) struct SourceFile {
    reader: Box<dyn ReadSeek>,
    /// What messages call the file.
    pub(crate) label: String,
    pub(crate) length: u64,
}

impl Source {
    /// What lies at `path`, which must exist. `config` stands in for what a single file does not say.
    pub(crate) fn open_path(path: &Path, config: Option<&Path>) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path.display(), &e))?;
        if metadata.is_dir() {
            return Ok(Source::Folder(path.to_path_buf()));
        }
        Ok(Source::Single(Arc::new(Single::open(path, config)?)))
    }

    /// The same place for as long as the process runs, wherever its working folder goes; of a single file only where
    /// it is and which sizes it has. What is there by then is [`again`](Self::again)'s to read.
    pub(crate) fn anchored(&self) -> Self {
        let absolute =
            |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        match self {
            Source::Folder(folder) => Source::Folder(absolute(folder)),
            Source::Single(single) => Source::Single(Arc::new(single.anchored(absolute))),
            Source::Embedded(files) => Source::Embedded(files),
        }
    }

    /// The same, with what is there now.
    pub(crate) fn again(&self) -> Result<Self> {
        match self {
            Source::Single(single) => Ok(Source::Single(Arc::new(single.again()?))),
            Source::Folder(_) | Source::Embedded(_) => Ok(self.clone()),
        }
    }

    /// What messages call the whole.
    pub(crate) fn place(&self) -> String {
        match self {
            Source::Folder(folder) => folder.display().to_string(),
            Source::Single(single) => single.place(),
            Source::Embedded(_) => "embedded model".to_owned(),
        }
    }

    /// What messages call the file `name`.
    pub(crate) fn label(&self, name: &str) -> String {
        match self {
            Source::Folder(folder) => folder.join(name).display().to_string(),
            Source::Single(single) => single.label(name),
            Source::Embedded(_) => format!("embedded model: {name}"),
        }
    }

    /// What the header of a single file calls its licence.
    pub(super) fn stated_licence(&self) -> Option<&str> {
        match self {
            Source::Single(single) => single.licence.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        match self {
            Source::Folder(folder) => folder.join(name).is_file(),
            Source::Single(single) => single.text(name).is_some(),
            Source::Embedded(files) => files.iter().any(|(path, _)| *path == name),
        }
    }

    pub(crate) fn open(&self, name: &str) -> Result<SourceFile> {
        let label = self.label(name);
        let bytes = match self {
            Source::Folder(folder) => return SourceFile::open(&folder.join(name)),
            Source::Single(single) => single.text(name).map(<[u8]>::to_vec).map(Embed::Own),
            Source::Embedded(files) => {
                files.iter().find(|(path, _)| *path == name).map(|(_, bytes)| Embed::Static(bytes))
            }
        };
        match bytes {
            Some(bytes) => Ok(SourceFile {
                length: bytes.as_ref().len() as u64,
                reader: Box::new(Cursor::new(bytes)),
                label,
            }),
            None => Err(Error::new(ErrorKind::NotFound, format!("{label}: not there"))),
        }
    }

    /// A whole small file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.open(name)?.read_whole()
    }

    /// A whole JSON file.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|e| Error::bad_model(format!("{}: {e}", self.label(name))))
    }
}

impl SourceFile {
    /// A file on disk.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let label = path.display().to_string();
        // To open a pipe would wait for whoever writes into it, perhaps for ever.
        if !std::fs::metadata(path).map_err(|e| Error::io(&label, &e))?.is_file() {
            return Err(Error::bad_model(format!("{label}: not a regular file")));
        }
        let file = File::open(path).map_err(|e| Error::io(&label, &e))?;
        let length = file.metadata().map_err(|e| Error::io(&label, &e))?.len();
        Ok(SourceFile { reader: Box::new(file), label, length })
    }

    /// All of a small file.
    pub(crate) fn read_whole(&mut self) -> Result<Vec<u8>> {
        if self.length > TEXT_LIMIT {
            return Err(Error::bad_model(format!(
                "{}: {} bytes, at most {TEXT_LIMIT} were expected",
                self.label, self.length
            )));
        }
        self.read_at(0, self.length as usize)
    }

    /// `length` bytes from `offset` on. A file that ends early is a damaged model.
    pub(crate) fn read_at(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(offset, length, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`read_at`](Self::read_at), in place of what is in `bytes`: memory that was used before needn't be made anew.
    pub(crate) fn read_into(
        &mut self,
        offset: u64,
        length: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let label = &self.label;
        self.reader.seek(SeekFrom::Start(offset)).map_err(|e| Error::io(label, &e))?;
        bytes.clear();
        bytes.try_reserve_exact(length).map_err(|_| {
            Error::new(ErrorKind::OutOfMemory, format!("{label}: no memory for {length} bytes"))
        })?;
        let got = Read::take(&mut self.reader, length as u64)
            .read_to_end(bytes)
            .map_err(|e| Error::io(label, &e))?;
        if got != length {
            return Err(Error::bad_model(format!(
                "{label}: ends {} bytes early (wanted {length} bytes at {offset})",
                length - got
            )));
        }
        Ok(())
    }
}
