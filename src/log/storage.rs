//! File access of the log, behind two traits.
//!
//! Tests replace the real files with a simulated disk that tears, forgets, fills up and fails.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use super::control::Control;
use crate::platform::boot;
use crate::platform::fs::{
    FileIdentity, create_private_directory, forbids_writing, give_to_owner_of, preallocate,
    private_options_without_links, read_at, sync_directory, with_owner, write_at,
};
use crate::platform::lock;

/// A directory of log files.
pub trait Storage: Send + Sync {
    /// Names of all files in the directory, including archived segments, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file. With `create`, creates the file and the directory if they are missing.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Moves a file to the archive, where [`Storage::open`] still finds it under its name.
    fn archive(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing an existing one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and renames durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Opens a lock file, without taking the lock.
    fn lock_file(&self, name: &str) -> io::Result<Arc<dyn LockFile>>;
    /// Opens the page shared by all processes of this log.
    fn control(&self, create: bool) -> io::Result<Control>;
    /// Whether a page still belongs to this directory, and not to one that was removed.
    fn is_current(&self, control: &Control) -> bool;
    /// Identity of a file: differs from that of every copy, and survives renaming.
    fn identity(&self, name: &str) -> io::Result<FileIdentity>;
    /// Id of the running system's boot; `None` if it is unknown.
    fn boot_id(&self) -> Option<[u8; 16]>;
}

/// An exclusive lock between processes, released when the process ends.
pub trait LockFile: Send + Sync {
    /// Takes the lock; false if another process holds it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Waits for the lock and takes it.
    fn lock(&self) -> io::Result<()>;
    /// Releases the lock.
    fn unlock(&self);
}

/// A held lock; dropping the guard releases it.
pub struct LockGuard(Arc<dyn LockFile>);

impl LockGuard {
    /// Takes a lock; `None` if another process holds it.
    pub fn try_take(lock: &Arc<dyn LockFile>) -> io::Result<Option<Self>> {
        Ok(lock.try_lock()?.then(|| Self(Arc::clone(lock))))
    }

    /// Waits for a lock and takes it.
    pub fn take(lock: &Arc<dyn LockFile>) -> io::Result<Self> {
        lock.lock()?;
        Ok(Self(Arc::clone(lock)))
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
pub trait StorageFile: Send + Sync {
    /// Reads at an offset; returns fewer bytes than the buffer holds only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at an offset.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all earlier writes durable.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reserves space up to a length in bytes; the new space reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to a length in bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// The content of a file that is complete and never changes again.
    fn content(&self) -> io::Result<FileContent> {
        Ok(FileContent::Read(read_range(self, 0, self.len()?)?.into()))
    }
}

/// The content of a whole file.
#[derive(Clone)]
pub enum FileContent {
    /// A copy in memory.
    Read(Arc<[u8]>),
    /// A memory map of the file.
    Mapped(Arc<Mmap>),
}

impl Deref for FileContent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Reads the bytes from offset `from` to `to`, or to the end of the file.
pub fn read_range<F: StorageFile + ?Sized>(file: &F, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    let read = file.read_at(from, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Name of the directory of archived segments, inside the log directory.
pub const ARCHIVE: &str = "archive";

/// Real files in a real directory.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Refers to the log directory at `path`, which need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn file(&self, name: &str, create: bool) -> io::Result<fs::File> {
        let mut options = private_options_without_links();
        options.read(true);
        if create {
            let path = self.path.join(name);
            options.write(true).create(true);
            // Try without creating the directory first: it nearly always exists, and lock files are
            // opened for every append.
            let file = match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    create_private_directory(&self.path)?;
                    options.open(&path)?
                }
                other => other.map_err(|e| with_owner(e, &path))?,
            };
            // A file that only root can open would stop every agent of the root's user.
            give_to_owner_of(&self.path, &file)?;
            return Ok(file);
        }
        let path = self.path.join(name);
        // A root without write permission can still be read.
        match options.clone().write(true).open(&path) {
            Err(e) if forbids_writing(&e) => options.open(&path).map_err(|e| with_owner(e, &path)),
            other => other,
        }
    }
}

impl Storage for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = names_in(&self.path)?;
        names.extend(names_in(&self.path.join(ARCHIVE))?);
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        match self.file(name, create) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok(Arc::new(self.file(&format!("{ARCHIVE}/{name}"), false)?))
            }
            other => Ok(Arc::new(other?)),
        }
    }

    fn archive(&self, name: &str) -> io::Result<()> {
        let archive = self.path.join(ARCHIVE);
        create_private_directory(&archive)?;
        fs::rename(self.path.join(name), archive.join(name))?;
        // ORDER: the new name is durable before the old one is gone.
        sync_directory(&archive)?;
        self.sync_dir()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn lock_file(&self, name: &str) -> io::Result<Arc<dyn LockFile>> {
        Ok(Arc::new(self.file(name, true)?))
    }

    fn control(&self, create: bool) -> io::Result<Control> {
        Control::map(&self.file("control", create)?)
    }

    fn is_current(&self, control: &Control) -> bool {
        fs::metadata(self.path.join("control"))
            .is_ok_and(|metadata| FileIdentity::of(&metadata) == control.identity())
    }

    fn identity(&self, name: &str) -> io::Result<FileIdentity> {
        Ok(FileIdentity::of(&fs::symlink_metadata(self.path.join(name))?))
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        boot::boot_id()
    }
}

/// Names of the entries of a directory; empty if it does not exist.
fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

impl LockFile for fs::File {
    fn try_lock(&self) -> io::Result<bool> {
        lock::try_lock(self)
    }

    fn lock(&self) -> io::Result<()> {
        lock::lock(self)
    }

    fn unlock(&self) {
        lock::unlock(self);
    }
}

impl StorageFile for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_at(self, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_at(self, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        preallocate(self, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    #[expect(unsafe_code, reason = "a memory map of a file that other processes may open")]
    fn content(&self) -> io::Result<FileContent> {
        if self.metadata()?.len() == 0 {
            return Ok(FileContent::Read(Arc::new([])));
        }
        // SAFETY: callers map only files that were renamed to their final name after the last write
        // and are never written or cut again. Removing such a file leaves the mapped pages intact.
        let map = unsafe { Mmap::map(self)? };
        Ok(FileContent::Mapped(Arc::new(map)))
    }
}
