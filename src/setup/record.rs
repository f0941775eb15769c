//! The record of a setup: what it wrote, and how to take it back.
//!
//! Each client has one record file, beside copies of the texts that setup replaces. The record names a
//! change before the change begins, so that the next run can take back one that was interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What setup knows of the files of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Files that setup has changed.
    #[serde(default)]
    pub files: Vec<RecordedFile>,
    /// Directories that setup has created, outermost first.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// A change that has begun.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Files and directories that are not needed any more.
    #[serde(default)]
    pub garbage: Vec<PathBuf>,
}

/// A file that setup has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// The file itself, with symbolic links resolved.
    pub target: PathBuf,
    /// Copy of its content before the first setup; `None` if it did not exist.
    pub original: Option<PathBuf>,
    /// Digest of the text that setup wrote; `None` if it removed the file.
    pub written: Option<String>,
}

/// A change of several files that is not complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub steps: Vec<PendingStep>,
    /// Directories that it creates, outermost first.
    pub directories: Vec<PathBuf>,
    /// Copies of originals that it creates beside the files.
    pub copies: Vec<PathBuf>,
}

/// One file of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStep {
    pub target: PathBuf,
    /// The new file, until it replaces the target.
    pub temporary: PathBuf,
    /// Copy of the present content; `None` if the target does not exist.
    pub old: Option<PathBuf>,
    /// Copy of the new content; `None` if the target is removed.
    pub new: Option<PathBuf>,
}

/// Name of the record file.
pub const RECORD: &str = "record.json";

impl Record {
    /// Reads the record in a directory. A record that does not exist is empty.
    pub fn load(directory: &Path) -> io::Result<Self> {
        match fs::read(directory.join(RECORD)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }

    /// What is recorded of a file.
    pub fn file(&self, target: &Path) -> Option<&RecordedFile> {
        self.files.iter().find(|file| file.target == target)
    }
}

/// Digest of a text, in hexadecimal.
pub fn digest(text: &str) -> String {
    let mut out = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}
