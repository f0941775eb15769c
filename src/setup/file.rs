//! How is a client's file read and changed?
//!
//! A link is followed, so that dotfiles kept elsewhere stay where they are; what a file said before is
//! kept beside it; a reader finds the old text or the new one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::log::LogError;

/// End of the name under which the text before is kept.
const BACKUP: &str = ".before-c2c";

/// One file: what it says, and what it will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    /// None if there is no file.
    pub before: Option<String>,
    /// Empty for no file.
    pub after: String,
    /// Whether what it says now is kept beside it, if nothing is yet.
    pub keeps: bool,
    /// Whether the file is ours from the first to the last line: a link is replaced, not followed.
    pub whole: bool,
}

impl Change {
    /// What a file says now; it stays as it is until it is told otherwise.
    pub fn of(path: PathBuf) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let message = format!("{name} is not UTF-8; it was left as it is");
                return Err(Refusal::new(Code::InvalidUtf8, "file", message).into());
            }
            Err(e) => return Err(LogError::io("read", &name, e).into()),
        };
        let after = before.clone().unwrap_or_default();
        Ok(Self { path, before, after, keeps: true, whole: false })
    }

    /// What the file said before c2c ever was, if that was kept.
    pub fn kept(&self) -> Option<String> {
        let (target, directory) = place(self);
        fs::read_to_string(beside(&target, &directory, BACKUP)).ok()
    }

    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        self.before.as_deref().unwrap_or_default() == self.after
    }
}

/// Writes the files that change; before the first one it is known that all of them can be written.
pub fn carry_out(changes: &[Change]) -> Result<(), Failure> {
    let changes: Vec<&Change> = changes.iter().filter(|change| !change.is_nothing()).collect();
    let io = |path: &Path, e| Failure::from(LogError::io("write", &path.display().to_string(), e));
    let mut ready = Vec::new();
    for change in &changes {
        match prepare(change) {
            Ok(prepared) => ready.push(prepared),
            Err(e) => {
                ready.iter().for_each(|(part, _)| drop(fs::remove_file(part)));
                return Err(io(&change.path, e));
            }
        }
    }
    for (change, (part, target)) in changes.iter().zip(ready) {
        if fs::read_to_string(&change.path).ok() != change.before {
            let _ = fs::remove_file(&part);
            let message = format!("{} changed meanwhile", change.path.display());
            return Err(Refusal::new(Code::Busy, "file", message).hint("try again").into());
        }
        let done = if change.after.is_empty() {
            fs::remove_file(&part).and_then(|()| fs::remove_file(&target))
        } else {
            fs::rename(&part, &target)
        };
        done.map_err(|e| io(&change.path, e))?;
    }
    Ok(())
}

/// The new text beside the file, and the old one for later.
fn prepare(change: &Change) -> io::Result<(PathBuf, PathBuf)> {
    let (target, directory) = place(change);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let mode = fs::metadata(&target).map_or(0o600, |found| found.permissions().mode() & 0o777);
    if let Some(before) = &change.before {
        // Whoever may not write the file may not replace it either.
        OpenOptions::new().append(true).open(&target)?;
        let backup = beside(&target, &directory, BACKUP);
        // The first one: what was there before c2c ever was.
        if change.keeps && !backup.exists() {
            write(&backup, before, mode)?;
        }
    }
    let part = beside(&target, &directory, &format!(".c2c-{}", std::process::id()));
    write(&part, &change.after, mode)?;
    Ok((part, target))
}

/// The file itself and its directory.
fn place(change: &Change) -> (PathBuf, PathBuf) {
    let path = change.path.clone();
    let target = if change.whole { path } else { fs::canonicalize(&path).unwrap_or(path) };
    let directory = target.parent().unwrap_or(Path::new("/")).to_owned();
    (target, directory)
}

fn beside(target: &Path, directory: &Path, end: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    directory.join(format!("{name}{end}"))
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
