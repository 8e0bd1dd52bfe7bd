//! In: a folder on disk, or files embedded in the program. Out: their bytes, read piece by piece.
//!
//! Nothing is memory-mapped: a mapped file that shrinks while it is used kills the process, past any
//! guard.

use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A JSON or text file of a model is never larger than this; a larger one is not a model's.
const TEXT_LIMIT: u64 = 64 << 20;

/// Files embedded in the program: paths relative to the model folder, and their bytes.
pub type Embedded = &'static [(&'static str, &'static [u8])];

/// Where a model's files are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files inside the program.
    Embedded(Embedded),
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// An open file of a model.
pub(crate) struct SourceFile {
    reader: Box<dyn ReadSeek>,
    /// What messages call the file.
    pub(crate) label: String,
    pub(crate) length: u64,
}

impl Source {
    /// A folder, which must exist.
    pub(crate) fn folder(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::io(path.display(), &e))?;
        if !metadata.is_dir() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: not a folder; a model folder in diffusers layout is wanted",
                    path.display()
                ),
            ));
        }
        Ok(Source::Folder(path.to_path_buf()))
    }

    /// What messages call the file `name`.
    pub(crate) fn label(&self, name: &str) -> String {
        match self {
            Source::Folder(folder) => folder.join(name).display().to_string(),
            Source::Embedded(_) => format!("embedded model: {name}"),
        }
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        match self {
            Source::Folder(folder) => folder.join(name).is_file(),
            Source::Embedded(files) => files.iter().any(|(path, _)| *path == name),
        }
    }

    pub(crate) fn open(&self, name: &str) -> Result<SourceFile> {
        let label = self.label(name);
        match self {
            Source::Folder(folder) => {
                let file = File::open(folder.join(name)).map_err(|e| Error::io(&label, &e))?;
                let length = file.metadata().map_err(|e| Error::io(&label, &e))?.len();
                Ok(SourceFile { reader: Box::new(file), label, length })
            }
            Source::Embedded(files) => match files.iter().find(|(path, _)| *path == name) {
                Some((_, bytes)) => Ok(SourceFile {
                    reader: Box::new(Cursor::new(*bytes)),
                    label,
                    length: bytes.len() as u64,
                }),
                None => Err(Error::new(ErrorKind::NotFound, format!("{label}: not there"))),
            },
        }
    }

    /// A whole small file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut file = self.open(name)?;
        if file.length > TEXT_LIMIT {
            return Err(Error::bad_model(format!(
                "{}: {} bytes, at most {TEXT_LIMIT} were expected",
                file.label, file.length
            )));
        }
        file.read_at(0, file.length as usize)
    }

    /// A whole JSON file.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(&self.read(name)?)
            .map_err(|e| Error::bad_model(format!("{}: {e}", self.label(name))))
    }
}

impl SourceFile {
    /// `length` bytes from `offset` on. A file that ends early is a damaged model.
    pub(crate) fn read_at(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let label = &self.label;
        self.reader.seek(SeekFrom::Start(offset)).map_err(|e| Error::io(label, &e))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| {
            Error::new(ErrorKind::OutOfMemory, format!("{label}: no memory for {length} bytes"))
        })?;
        let got = Read::take(&mut self.reader, length as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(label, &e))?;
        if got != length {
            return Err(Error::bad_model(format!(
                "{label}: ends {} bytes early (wanted {length} bytes at {offset})",
                length - got
            )));
        }
        Ok(bytes)
    }
}
