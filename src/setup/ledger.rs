//! Changes of several files that happen together or not at all.
//!
//! A change is announced in the record before it begins, with copies of the old and the new content.
//! The next run takes back a change that was interrupted. Only one process at a time changes the
//! files of clients.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::file::{FileChange, Recorded};
use super::record::{Pending, PendingStep, RECORD, Record, RecordedFile, digest};
use crate::error::Failure;
use crate::platform::fs::{
    FileIdentity, create_private_directory, give_to_owner_of, has_other_names, is_not_replaceable,
    private_options, read_regular,
};
use crate::platform::lock;

/// Name of the lock file, beside the directories of the clients.
const LOCK: &str = "lock";

/// Outcome of a change that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    Done,
    /// Another program changed this file after it was read. All files are as they were.
    ChangedMeanwhile(PathBuf),
}

/// The record of a client, held by this process alone.
pub struct Ledger<'a> {
    disk: &'a dyn Disk,
    /// Holds the record and the copies of this client.
    directory: PathBuf,
    pub record: Record,
    _lock: File,
}

impl<'a> Ledger<'a> {
    /// Waits for other runs of setup, and takes back a change that was interrupted.
    pub fn open(disk: &'a dyn Disk, directory: &Path) -> Result<Self, Failure> {
        let all = parent_of(directory);
        let lock = take_lock(all).map_err(|e| Failure::io("create", all, e))?;
        let failed = |e| Failure::io("read", directory.join(RECORD), e);
        let record = Record::load(directory).map_err(failed)?;
        let mut ledger = Self { disk, directory: directory.to_owned(), record, _lock: lock };
        ledger.roll_back()?;
        ledger.collect_garbage().map_err(|e| ledger.failed(e))?;
        Ok(ledger)
    }

    /// Makes the changes and records them. After an error all files are as they were, unless this
    /// process also fails to put them back: then the next run does.
    pub fn apply(&mut self, changes: &[FileChange]) -> Result<Applied, Failure> {
        let applied = self.try_apply(changes);
        if !matches!(applied, Ok(Applied::Done)) {
            self.roll_back()?;
        }
        applied
    }

    fn try_apply(&mut self, changes: &[FileChange]) -> Result<Applied, Failure> {
        let steps: Vec<&FileChange> = changes.iter().filter(|file| !file.is_unchanged()).collect();
        check_writable(&steps)?;
        let next = self.announce(changes, &steps)?;
        let pending = self.record.pending.clone().unwrap_or_default();
        for directory in &pending.directories {
            self.disk.make_directory(directory).map_err(|e| Failure::io("create", directory, e))?;
        }
        let next = self.keep_originals(next, &steps)?;
        let mut in_place = Vec::new();
        for (step, change) in pending.steps.iter().zip(&steps) {
            let prepared = self.prepare(step, change.after.as_deref());
            in_place.push(prepared.map_err(|e| Failure::io("write", &change.path, e))?);
        }
        for change in &steps {
            let present = read(&change.path).map_err(|e| Failure::io("read", &change.path, e))?;
            if present.as_deref() != change.before.as_ref().map(String::as_bytes) {
                return Ok(Applied::ChangedMeanwhile(change.path.clone()));
            }
        }
        for ((step, change), in_place) in pending.steps.iter().zip(&steps).zip(in_place) {
            let committed = self.commit(step, change.after.as_deref(), in_place);
            committed.map_err(|e| Failure::io("write", &change.path, e))?;
        }
        self.record = next;
        self.save().and_then(|()| self.collect_garbage()).map_err(|e| self.failed(e))?;
        Ok(Applied::Done)
    }

    /// Writes the copies of the old and the new content, and the record that names them. Returns the
    /// record of after the change.
    fn announce(
        &mut self,
        changes: &[FileChange],
        steps: &[&FileChange],
    ) -> Result<Record, Failure> {
        let mut next = self.record.clone();
        let undone = |file: &RecordedFile| {
            changes
                .iter()
                .any(|change| change.target == file.target && change.recorded == Recorded::Nothing)
        };
        let forgotten: Vec<RecordedFile> =
            next.files.iter().filter(|file| undone(file)).cloned().collect();
        next.files.retain(|file| !undone(file));
        // The file holds its original again.
        let holds = |file: &RecordedFile, copy: &PathBuf| {
            read(copy).ok() == read_new(changes, &file.target)
        };
        next.garbage.extend(
            forgotten
                .iter()
                .filter_map(|file| file.original.clone().filter(|copy| holds(file, copy))),
        );
        // Copies of an earlier version of c2c, which kept no record.
        let unrecorded = steps.iter().filter(|change| {
            change.recorded == Recorded::Nothing && self.record.file(&change.target).is_none()
        });
        let copies = unrecorded.filter_map(|change| {
            let copy = read(&change.backup_path()).ok().flatten();
            let is_restored =
                copy.is_some() && copy.as_deref() == change.after.as_ref().map(String::as_bytes);
            is_restored.then(|| change.backup_path())
        });
        next.garbage.extend(copies);
        if next.files.is_empty() {
            // Innermost first.
            next.garbage.extend(next.directories.drain(..).rev());
        }
        if !steps.is_empty() {
            self.make_own_directory().map_err(|e| Failure::io("create", &self.directory, e))?;
            let pending = self.pending(steps).map_err(|e| self.failed(e))?;
            for step in &pending.steps {
                next.garbage.extend(step.old.iter().chain(&step.new).cloned());
            }
            if changes.iter().any(|change| change.recorded != Recorded::Nothing) {
                next.directories.extend(pending.directories.iter().cloned());
            }
            self.record.pending = Some(pending);
            self.save().map_err(|e| self.failed(e))?;
        }
        Ok(next)
    }

    fn pending(&self, steps: &[&FileChange]) -> io::Result<Pending> {
        let mut pending = Pending::default();
        for (i, change) in steps.iter().enumerate() {
            let copy = |kind: &str, text: &Option<String>| {
                let path = self.directory.join(format!("{kind}-{i}"));
                let stored = text.as_ref().map(|text| self.store(&path, text.as_bytes()));
                stored.transpose().map(|stored| stored.map(|()| path))
            };
            let name = change.target.file_name().unwrap_or_default().to_string_lossy();
            pending.steps.push(PendingStep {
                target: change.target.clone(),
                temporary: change.target.with_file_name(format!(".{name}.c2c-new")),
                old: copy("old", &change.before)?,
                new: copy("new", &change.after)?,
            });
            if change.after.is_some() {
                let parent = parent_of(&change.target);
                let missing = parent.ancestors().take_while(|path| !path.is_dir());
                let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
                for directory in missing.into_iter().rev() {
                    if !pending.directories.contains(&directory) {
                        pending.directories.push(directory);
                    }
                }
            }
            let copy = change.backup_path();
            if change.recorded == Recorded::Present && change.before.is_some() && !copy.exists() {
                pending.copies.push(copy);
            }
        }
        Ok(pending)
    }

    /// Copies the originals, beside the files where that is possible, and completes the record.
    fn keep_originals(&self, mut next: Record, steps: &[&FileChange]) -> Result<Record, Failure> {
        for change in steps {
            let original = match change.recorded {
                Recorded::Nothing => continue,
                Recorded::SameOriginal => {
                    self.record.file(&change.target).and_then(|file| file.original.clone())
                }
                Recorded::Copy => Some(change.backup_path()),
                Recorded::Absent => None,
                Recorded::Present => match &change.before {
                    Some(before) => {
                        let kept = self.keep_original(change, before);
                        Some(kept.map_err(|e| Failure::io("write", change.backup_path(), e))?)
                    }
                    None => None,
                },
            };
            next.files.retain(|file| file.target != change.target);
            let written = change.after.as_deref().map(digest);
            next.files.push(RecordedFile { target: change.target.clone(), original, written });
        }
        Ok(next)
    }

    fn keep_original(&self, change: &FileChange, before: &str) -> io::Result<PathBuf> {
        let beside = change.backup_path();
        match read(&beside)? {
            Some(present) if present == before.as_bytes() => return Ok(beside),
            // A copy that setup did not make now is not replaced.
            Some(_) => {}
            None => match self.disk.create(Some(&change.target), &beside, before.as_bytes()) {
                Err(e) if is_not_replaceable(&e) => {}
                other => return other.map(|()| beside),
            },
        }
        let name = digest(&change.target.to_string_lossy());
        let own = self.directory.join(format!("original-{}", &name[..16]));
        self.store(&own, before.as_bytes()).map(|()| own)
    }

    /// Writes the new content beside the target. Returns true if the target can only be written in
    /// place.
    fn prepare(&self, step: &PendingStep, after: Option<&str>) -> io::Result<bool> {
        let Some(after) = after else { return Ok(false) };
        let present = fs::symlink_metadata(&step.target).ok();
        if present.as_ref().is_some_and(|file| file.is_file() && has_other_names(file)) {
            return Ok(true);
        }
        self.remove_if_present(&step.temporary).or_else(|e| ignore_if(e, present.is_some()))?;
        let created = self.disk.create(Some(&step.target), &step.temporary, after.as_bytes());
        match created {
            Err(e) if present.is_some() && is_not_replaceable(&e) => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// Puts the new content in place.
    fn commit(&self, step: &PendingStep, after: Option<&str>, in_place: bool) -> io::Result<()> {
        let Some(after) = after else { return self.disk.remove(&step.target) };
        if !in_place {
            match self.disk.rename(&step.temporary, &step.target) {
                // The target is a mount point.
                Err(e) if is_not_replaceable(&e) && step.target.is_file() => {}
                other => return other,
            }
        }
        self.disk.overwrite(&step.target, after.as_bytes())?;
        self.remove_if_present(&step.temporary).or_else(|e| ignore_if(e, true))
    }

    /// Takes back a change that is not complete.
    fn roll_back(&mut self) -> Result<(), Failure> {
        let Some(pending) = self.record.pending.clone() else { return Ok(()) };
        for step in pending.steps.iter().rev() {
            self.put_back(step).map_err(|e| Failure::io("restore", &step.target, e))?;
        }
        let undone = || -> io::Result<()> {
            for copy in &pending.copies {
                self.remove_if_present(copy)?;
            }
            for directory in pending.directories.iter().rev().filter(|path| path.is_dir()) {
                // Another program may have put a file there.
                let _ = self.disk.remove_directory(directory);
            }
            Ok(())
        };
        undone().map_err(|e| self.failed(e))?;
        let copies = pending.steps.iter().flat_map(|step| step.old.iter().chain(&step.new));
        self.record.garbage.extend(copies.cloned());
        self.record.pending = None;
        self.save().and_then(|()| self.collect_garbage()).map_err(|e| self.failed(e))
    }

    /// Restores the old content of a target that this change has written, as a whole or in part.
    fn put_back(&self, step: &PendingStep) -> io::Result<()> {
        let copy = |path: &Option<PathBuf>| match path {
            Some(path) => read(path),
            None => Ok(None),
        };
        let (old, new, present) = (copy(&step.old)?, copy(&step.new)?, read(&step.target)?);
        self.remove_if_present(&step.temporary).or_else(|e| ignore_if(e, present.is_some()))?;
        let is_ours = present == new
            || matches!((&old, &new, &present), (Some(old), Some(new), Some(present))
                if is_torn(old, new, present));
        if present == old || !is_ours {
            return Ok(());
        }
        let Some(old) = old else { return self.disk.remove(&step.target) };
        let old = String::from_utf8(old).map_err(io::Error::other)?;
        let in_place = self.prepare(step, Some(&old))?;
        self.commit(step, Some(&old), in_place)
    }

    /// Removes the files that are not needed any more, and then the record if it is empty.
    fn collect_garbage(&mut self) -> io::Result<()> {
        if self.record.garbage.is_empty() {
            return Ok(());
        }
        for path in &self.record.garbage {
            if path.is_dir() {
                // A directory that something else is in stays.
                let _ = self.disk.remove_directory(path);
            } else {
                self.remove_if_present(path)?;
            }
        }
        self.record.garbage.clear();
        self.save()
    }

    /// Writes the record, or removes it if it is empty.
    fn save(&self) -> io::Result<()> {
        let path = self.directory.join(RECORD);
        if self.record == Record::default() {
            return self.remove_if_present(&path);
        }
        let temporary = self.directory.join("record.new");
        self.store(&temporary, &serde_json::to_vec(&self.record)?)?;
        self.disk.rename(&temporary, &path)
    }

    fn make_own_directory(&self) -> io::Result<()> {
        if self.directory.is_dir() { Ok(()) } else { self.disk.make_directory(&self.directory) }
    }

    /// Writes a private file, which may exist.
    fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.remove_if_present(path)?;
        self.disk.create(None, path, bytes)
    }

    fn remove_if_present(&self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(_) => self.disk.remove(path),
            Err(_) => Ok(()),
        }
    }

    fn failed(&self, e: io::Error) -> Failure {
        Failure::io("write", &self.directory, e)
    }

    /// Removes this client's directory, and those above it that c2c uses for setup only.
    fn remove_own_directory(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let _ = self.disk.remove(&entry.path());
        }
        if self.directory.is_dir() && self.disk.remove_directory(&self.directory).is_err() {
            return;
        }
        let all = parent_of(&self.directory);
        let others = fs::read_dir(all).into_iter().flatten().flatten();
        if others.into_iter().all(|entry| entry.file_name() == LOCK) {
            let _ = self.disk.remove(&all.join(LOCK));
            let _ = self.disk.remove_directory(all);
            let _ = self.disk.remove_directory(parent_of(all));
        }
    }
}

impl Drop for Ledger<'_> {
    fn drop(&mut self) {
        if self.record == Record::default() {
            self.remove_own_directory();
        }
    }
}

/// Takes the lock in a directory, which is created. The holder before may have removed it.
fn take_lock(directory: &Path) -> io::Result<File> {
    let path = directory.join(LOCK);
    loop {
        create_private_directory(directory)?;
        let file = match private_options().read(true).write(true).create(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        give_to_owner_of(directory, &file)?;
        lock::lock(&file)?;
        let held = FileIdentity::of(&file.metadata()?);
        if fs::metadata(&path).is_ok_and(|present| FileIdentity::of(&present) == held) {
            return Ok(file);
        }
    }
}

/// Replacing a file needs only write permission for its directory. A file that this user may not
/// write is not replaced.
fn check_writable(steps: &[&FileChange]) -> Result<(), Failure> {
    for change in steps.iter().filter(|change| change.before.is_some()) {
        let opened = OpenOptions::new().append(true).open(&change.path);
        opened.map_err(|e| Failure::io("write", &change.path, e))?;
    }
    Ok(())
}

/// The content of a file; `None` if it does not exist.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_regular(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The content of a target after the changes.
fn read_new(changes: &[FileChange], target: &Path) -> Option<Option<Vec<u8>>> {
    let change = changes.iter().find(|change| change.target == target)?;
    Some(change.after.as_ref().map(|text| text.as_bytes().to_vec()))
}

/// Whether a file is the result of writing `new` over `old` up to some point.
fn is_torn(old: &[u8], new: &[u8], present: &[u8]) -> bool {
    let written = present.iter().zip(new).take_while(|(a, b)| a == b).count();
    present.get(written..) == Some(old.get(written..).unwrap_or_default())
}

fn ignore_if(error: io::Error, ignore: bool) -> io::Result<()> {
    if ignore && is_not_replaceable(&error) { Ok(()) } else { Err(error) }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
