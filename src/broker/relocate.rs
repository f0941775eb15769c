//! How does a whole root move to another directory, and leave word where it went?
//!
//! First the old root is closed: whoever has it open is refused from then on, and told where to go.
//! Then the log is copied, and opened again at its new place. A move that was interrupted is
//! finished by the same command.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::{Broker, LOG_DIRECTORY};
use crate::code::Code;
use crate::decide::{Actor, Command, Refusal};
use crate::failure::Failure;
use crate::log::{ARCHIVE, LogError};

/// Files of a log that belong to one place and one boot.
const LEFT_BEHIND: [&str; 3] = ["control", "place", ".lock"];

/// Directory of a copy that is not finished yet.
const PART: &str = "log.part";

impl Broker {
    /// Moves this root to a directory that holds no log yet; answers with the broker there.
    pub fn relocate(&mut self, to: &Path, actor: &Actor) -> Result<Self, Failure> {
        self.look(actor)?;
        let target = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
        let shown = target.display().to_string();
        let mut there = Self::open(&target);
        there.look(actor)?;
        let interrupted = there.moved_to().as_deref() == Some(&*shown);
        if there.state.head > 0 && !interrupted {
            let message = format!("{shown} holds a log of its own");
            return Err(Refusal::new(Code::BadRoot, "to", message)
                .hint("name an empty directory")
                .into());
        }
        if self.moved_to().as_deref() != Some(&*shown) {
            self.execute(&Command::Move { to: shown.clone() }, actor)?;
        }
        if !interrupted {
            let failed = |e| Failure::from(LogError::io("copy the log to", &shown, e));
            copy_log(&self.root.join(LOG_DIRECTORY), &target).map_err(failed)?;
        }
        let mut there = Self::open(&target);
        there.execute(&Command::Move { to: String::new() }, actor)?;
        Ok(there)
    }

    /// Where this root moved to, if it did.
    pub fn moved_to(&self) -> Option<String> {
        self.state.meta.get([])?.moved_to
    }
}

/// Copies a log under another name, and gives it its own when it is whole and on disk.
fn copy_log(from: &Path, root: &Path) -> io::Result<()> {
    let part = root.join(PART);
    copy_files(from, &part)?;
    if from.join(ARCHIVE).is_dir() {
        copy_files(&from.join(ARCHIVE), &part.join(ARCHIVE))?;
    }
    fs::rename(&part, root.join(LOG_DIRECTORY))?;
    File::open(root)?.sync_all()
}

/// Copies the files of a directory, whole and on disk when this returns.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        let stays = text == "lock" || LEFT_BEHIND.iter().any(|end| text.ends_with(end));
        if stays || !entry.file_type()?.is_file() {
            continue;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut copy = options.open(to.join(&name))?;
        io::copy(&mut File::open(entry.path())?, &mut copy)?;
        copy.sync_all()?;
    }
    File::open(to)?.sync_all()
}
