//! Moving a whole root to another directory.
//!
//! The move closes the old root first: the root then rejects every command and names the new
//! directory. Next it copies the log and opens the copy. Running the same command again finishes an
//! interrupted move.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Broker, LOG_DIRECTORY};
use crate::error::Failure;
use crate::log::ARCHIVE;
use crate::platform::fs::{create_private_directory, private_options, sync_directory};
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{Actor, Rejection};

/// Suffixes of files that are valid only for one directory and one boot, and are not copied.
const NOT_COPIED: [&str; 3] = ["control", "place", ".lock"];

/// Directory of an unfinished copy.
const PARTIAL_COPY: &str = "log.part";

/// # Relocation
impl Broker {
    /// Moves this root to a directory that holds no log yet, and returns the broker of the new root.
    ///
    /// Fails with `bad_root` if the directory holds another log.
    pub fn relocate(&mut self, to: &Path, actor: &Actor) -> Result<Self, Failure> {
        self.refresh(actor)?;
        let target = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
        let shown = target.display().to_string();
        let mut at_target = Self::open(&target);
        at_target.refresh(actor)?;
        let is_copied = at_target.moved_to().as_deref() == Some(&*shown);
        if at_target.state.head > 0 && !is_copied {
            let message = format!("{shown} holds another log");
            return Err(Rejection::new(Code::BadRoot, "to", message)
                .hint("choose an empty directory")
                .into());
        }
        if self.moved_to().as_deref() != Some(&*shown) {
            self.execute(&command::MoveRoot { to: shown.clone() }, actor)?;
        }
        if !is_copied {
            let failed = |e| Failure::from(StoreError::io("copy the log to", &shown, e));
            copy_log(&self.root.join(LOG_DIRECTORY), &target).map_err(failed)?;
        }
        let mut relocated = Self::open(&target);
        relocated.execute(&command::MoveRoot { to: String::new() }, actor)?;
        Ok(relocated)
    }

    /// Directory that this root was moved to; `None` if it was not moved.
    pub fn moved_to(&self) -> Option<String> {
        self.state.meta.get([])?.moved_to
    }
}

/// Copies a log to a temporary directory, and renames the directory once the copy is complete and
/// on disk.
fn copy_log(from: &Path, root: &Path) -> io::Result<()> {
    let partial = root.join(PARTIAL_COPY);
    copy_files(from, &partial)?;
    if from.join(ARCHIVE).is_dir() {
        copy_files(&from.join(ARCHIVE), &partial.join(ARCHIVE))?;
    }
    fs::rename(&partial, root.join(LOG_DIRECTORY))?;
    sync_directory(root)
}

/// Copies the files of a directory. The copies are on disk when this returns.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    create_private_directory(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let is_excluded = text == "lock" || NOT_COPIED.iter().any(|end| text.ends_with(end));
        if is_excluded || !entry.file_type()?.is_file() {
            continue;
        }
        let mut options = private_options();
        let mut copy = options.write(true).create(true).truncate(true).open(to.join(&name))?;
        io::copy(&mut File::open(entry.path())?, &mut copy)?;
        copy.sync_all()?;
    }
    sync_directory(to)
}
