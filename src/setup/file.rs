//! The present and the new text of a client's file.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{Record, digest};
use crate::error::Failure;
use crate::platform::fs::{link_target, read_regular_text};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Suffix of the file that holds the text before the first change.
const BACKUP_SUFFIX: &str = ".before-c2c";

/// The Unicode character that some editors write at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The content of a file before the first setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    Absent,
    Text(String),
}

/// What the record says of a file after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing: setup is undone.
    Nothing,
    /// The original stays the recorded one.
    SameOriginal,
    /// The original is the present content.
    Present,
    /// The original is in the copy beside the file, which an earlier version of c2c has made.
    Copy,
    /// The file did not exist.
    Absent,
}

/// The present and the new text of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: PathBuf,
    /// The file itself, with symbolic links resolved.
    pub target: PathBuf,
    /// `None` if the file does not exist.
    pub before: Option<String>,
    /// `None` to have no file.
    pub after: Option<String>,
    /// `None` if it is unknown.
    pub original: Option<Original>,
    /// Whether the present text is exactly the one that setup wrote last.
    pub is_as_written: bool,
    pub recorded: Recorded,
    /// The whole file belongs to c2c: a symbolic link is replaced, not followed.
    pub is_ours: bool,
}

impl FileChange {
    /// Reads a file. The new text starts as a copy of the current one.
    pub fn read(path: PathBuf, record: &Record) -> Result<Self, Failure> {
        let target = link_target(&path).map_err(|e| Failure::io("read", &path, e))?;
        Self::read_target(path, target, record, false)
    }

    /// Reads a file that belongs to c2c as a whole.
    pub fn read_ours(path: PathBuf, record: &Record) -> Result<Self, Failure> {
        Self::read_target(path.clone(), path, record, true)
    }

    fn read_target(
        path: PathBuf,
        target: PathBuf,
        record: &Record,
        is_ours: bool,
    ) -> Result<Self, Failure> {
        let before = text_of(&path)?;
        let after = before.clone();
        let recorded = record.file(&target);
        let is_as_written =
            recorded.is_some_and(|file| file.written == before.as_deref().map(digest));
        let original = match recorded {
            Some(file) => match &file.original {
                None => Some(Original::Absent),
                // Without the copy, the original is unknown.
                Some(copy) => text_of(copy)?.map(Original::Text),
            },
            None => text_of(&backup_path(&target))?.map(Original::Text),
        };
        let recorded = Recorded::Nothing;
        Ok(Self { path, target, before, after, original, is_as_written, recorded, is_ours })
    }

    /// Whether the new text equals the current one.
    pub fn is_unchanged(&self) -> bool {
        self.before == self.after
    }

    /// Whether the file holds the new text now.
    pub fn is_in_place(&self) -> bool {
        text_of(&self.path).is_ok_and(|present| present == self.after)
    }

    /// The new text without a byte order mark; empty if the file does not exist.
    pub fn text(&self) -> &str {
        let text = self.after.as_deref().unwrap_or_default();
        text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
    }

    /// Sets the new text. A byte order mark stays, and so do the line ends of lines that stay.
    pub fn set_text(&mut self, text: &str) {
        let has_mark = self.after.as_ref().is_some_and(|text| text.starts_with(BYTE_ORDER_MARK));
        let mut new = String::with_capacity(text.len() + 3);
        new.extend(has_mark.then_some(BYTE_ORDER_MARK));
        new.push_str(&super::lines::with_line_ends_of(self.text(), text));
        self.after = Some(new);
    }

    /// Path of the copy of the original that setup keeps beside the file.
    pub fn backup_path(&self) -> PathBuf {
        backup_path(&self.target)
    }
}

/// The text of a file; `None` if it does not exist.
fn text_of(path: &Path) -> Result<Option<String>, Failure> {
    match read_regular_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let message = format!("{} is not UTF-8; the file was not changed", path.display());
            Err(Rejection::new(Code::InvalidUtf8, "file", message).into())
        }
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            let message = format!("{} is not a regular file; it was not changed", path.display());
            Err(Rejection::new(Code::InvalidArgument, "file", message).into())
        }
        Err(e) => Err(Failure::io("read", path, e)),
    }
}

fn backup_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{name}{BACKUP_SUFFIX}"))
}
