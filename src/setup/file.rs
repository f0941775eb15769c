//! Reading and replacing the files of a client.
//!
//! A symbolic link is followed, so that dotfiles kept elsewhere stay where they are. The text before
//! the first change is kept beside the file.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::platform::fs::{
    PreparedFile, WriteOptions, create_private_directory, link_target, mode_of, write_atomic,
};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Suffix of the file that holds the text before the first change.
const BACKUP_SUFFIX: &str = ".before-c2c";

/// The present and the new text of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    pub path: PathBuf,
    /// `None` if the file does not exist.
    pub before: Option<String>,
    /// Empty to have no file.
    pub after: String,
    /// Keep a backup of the current text, unless one exists.
    pub keeps_backup: bool,
    /// The whole file belongs to c2c: a symbolic link is replaced, not followed.
    pub is_ours: bool,
}

impl FileChange {
    /// Reads a file. The new text starts as a copy of the current one.
    pub fn read(path: PathBuf) -> Result<Self, Failure> {
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let message = format!("{} is not UTF-8; the file was not changed", path.display());
                return Err(Rejection::new(Code::InvalidUtf8, "file", message).into());
            }
            Err(e) => return Err(Failure::io("read", path, e)),
        };
        let after = before.clone().unwrap_or_default();
        Ok(Self { path, before, after, keeps_backup: true, is_ours: false })
    }

    /// The text before the first change, if a backup exists.
    pub fn backup(&self) -> Option<String> {
        fs::read_to_string(backup_path(&self.target().ok()?)).ok()
    }

    /// Whether the new text equals the current one.
    pub fn is_unchanged(&self) -> bool {
        self.before.as_deref().unwrap_or_default() == self.after
    }

    /// The file itself, with symbolic links resolved.
    fn target(&self) -> io::Result<PathBuf> {
        if self.is_ours { Ok(self.path.clone()) } else { link_target(&self.path) }
    }

    /// Writes the backup, and the new text into a temporary file.
    fn prepare(&self) -> io::Result<PreparedFile> {
        let target = self.target()?;
        create_private_directory(target.parent().unwrap_or(Path::new("/")))?;
        if let Some(before) = &self.before {
            // Replacing a file needs only write permission for its directory. Do not replace a file
            // that this user may not write.
            OpenOptions::new().append(true).open(&target)?;
            let backup = backup_path(&target);
            if self.keeps_backup && !backup.exists() {
                let mode = mode_of(&fs::metadata(&target)?) & 0o777;
                write_atomic(&backup, before.as_bytes(), WriteOptions { mode, ..REPLACE })?;
            }
        }
        PreparedFile::create(&target, self.after.as_bytes(), REPLACE)
    }
}

/// The target is resolved before.
const REPLACE: WriteOptions =
    WriteOptions { mode: 0o600, keep_attributes: true, follow_links: false, durable: true };

/// Writes all files that change. Prepares every file before it replaces the first one, so that a file
/// that cannot be written leaves all of them unchanged.
pub fn apply_changes(changes: &[FileChange]) -> Result<(), Failure> {
    let changes = || changes.iter().filter(|change| !change.is_unchanged());
    let failed = |change: &FileChange, e| Failure::io("write", &change.path, e);
    let prepared: Result<Vec<PreparedFile>, Failure> =
        changes().map(|change| change.prepare().map_err(|e| failed(change, e))).collect();
    for (change, prepared) in changes().zip(prepared?) {
        if fs::read_to_string(&change.path).ok() != change.before {
            let message = format!("{} was changed by another program", change.path.display());
            return Err(Rejection::new(Code::Busy, "file", message)
                .hint("run the command again")
                .into());
        }
        let result = match change.after.is_empty() {
            true => fs::remove_file(prepared.target()),
            false => prepared.commit(),
        };
        result.map_err(|e| failed(change, e))?;
    }
    Ok(())
}

fn backup_path(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{name}{BACKUP_SUFFIX}"))
}
