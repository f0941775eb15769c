//! Which files does a log need from the world?
//!
//! All file access of the log goes through these two traits, so that tests can put a disk under it
//! that tears, forgets, fills up and fails.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;

use super::control::Control;

/// A directory of log files.
pub trait Storage: Send + Sync {
    /// Names of the files in the directory, archived segments included.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file; `create` makes it, and the directory, if missing.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>>;
    /// Moves a file to where archived segments lie; it is found there as before.
    fn archive(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and renames durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// An exclusive lock among processes; it is not taken yet.
    fn lock_file(&self, name: &str) -> io::Result<Arc<dyn LockFile>>;
    /// The page shared by all processes of this log.
    fn control(&self, create: bool) -> io::Result<Control>;
    /// Whether that page is still the one of this directory, not of one that was removed.
    fn is_current(&self, control: &Control) -> bool;
    /// What tells a file from every copy of it, and stays when it or its directory is renamed.
    fn identity(&self, name: &str) -> io::Result<FileIdentity>;
    /// Identifies the running system: differs after each boot.
    fn boot_id(&self) -> [u8; 16];
}

/// Inode and time of birth, nanoseconds (0 where the file system keeps none). A number of an inode
/// alone is given again to another file soon after the first is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    pub inode: u64,
    pub born_ns: u64,
}

impl FileIdentity {
    /// From what the file system says of a file.
    pub fn of(found: &fs::Metadata) -> Self {
        let born = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: found.ino(), born_ns: born.map_or(0, |since| since.as_nanos() as u64) }
    }
}

/// An exclusive lock that ends with the process, and is taken many times through one descriptor.
pub trait LockFile: Send + Sync {
    /// Takes it; false if somebody else holds it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Waits for it.
    fn lock(&self) -> io::Result<()>;
    /// Gives it back.
    fn unlock(&self);
}

/// A lock that is held; dropping it gives it back.
pub struct Held(Arc<dyn LockFile>);

impl Held {
    /// Takes a lock; `None` if somebody else holds it.
    pub fn try_take(lock: &Arc<dyn LockFile>) -> io::Result<Option<Self>> {
        Ok(lock.try_lock()?.then(|| Self(Arc::clone(lock))))
    }

    /// Waits for a lock.
    pub fn take(lock: &Arc<dyn LockFile>) -> io::Result<Self> {
        lock.lock()?;
        Ok(Self(Arc::clone(lock)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// One open file.
#[expect(clippy::len_without_is_empty, reason = "a length in bytes, not a collection")]
pub trait StorageFile: Send + Sync {
    /// Reads at an offset; fewer bytes than asked only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at an offset.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reserves space up to a length; the new space reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts to a length.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// The whole content of a file that is complete and never changes, read where it is needed.
    fn whole(&self) -> io::Result<Whole> {
        Ok(Whole::Read(read_range(self, 0, self.len()?)?.into()))
    }
}

/// The content of a file.
#[derive(Clone)]
pub enum Whole {
    /// A copy of it.
    Read(Arc<[u8]>),
    /// Pages of the file itself.
    Mapped(Arc<Mmap>),
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Reads exactly the range, or up to the end of the file.
pub fn read_range<F: StorageFile + ?Sized>(file: &F, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    let read = file.read_at(from, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Boot id of this machine, as in `/proc/sys/kernel/random/boot_id`; empty if there is none.
pub fn boot_id_text() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        // One read into a buffer: the line is short, and every system call counts in a hook.
        let mut line = [0; 64];
        let file = fs::File::open("/proc/sys/kernel/random/boot_id");
        let len = file.and_then(|mut file| file.read(&mut line)).unwrap_or(0);
        String::from_utf8_lossy(&line[..len]).trim().to_owned()
    })
}

/// Directory of archived segments, in the directory of the log.
pub const ARCHIVE: &str = "archive";

/// Real files in a real directory.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The log directory at `path`, which need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn file(&self, name: &str, create: bool) -> io::Result<fs::File> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        if create {
            let path = self.path.join(name);
            options.write(true).create(true);
            // The directory is nearly always there, and locks are opened for every append.
            return match options.open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
                    options.open(&path)
                }
                other => other,
            };
        }
        let path = self.path.join(name);
        // A root that may only be read is still worth reading.
        match options.clone().write(true).open(&path) {
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EACCES | nix::libc::EROFS)) => {
                options.open(&path)
            }
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
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&archive)?;
        fs::rename(self.path.join(name), archive.join(name))?;
        // ORDER: there before it is gone from here, should the power fail.
        fs::File::open(&archive)?.sync_all()?;
        self.sync_dir()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn lock_file(&self, name: &str) -> io::Result<Arc<dyn LockFile>> {
        Ok(Arc::new(self.file(name, true)?))
    }

    fn control(&self, create: bool) -> io::Result<Control> {
        Control::map(&self.file("control", create)?)
    }

    fn is_current(&self, control: &Control) -> bool {
        let found = fs::metadata(self.path.join("control"));
        found.is_ok_and(|found| FileIdentity::of(&found) == control.identity())
    }

    fn identity(&self, name: &str) -> io::Result<FileIdentity> {
        Ok(FileIdentity::of(&fs::symlink_metadata(self.path.join(name))?))
    }

    fn boot_id(&self) -> [u8; 16] {
        uuid::Uuid::try_parse(boot_id_text()).map_or([0; 16], uuid::Uuid::into_bytes)
    }
}

/// Names of the files in a directory; none if it is missing.
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
        match fs2::FileExt::try_lock_exclusive(self) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn lock(&self) -> io::Result<()> {
        fs2::FileExt::lock_exclusive(self)
    }

    fn unlock(&self) {
        // An open descriptor of our own lock: there is no way to fail.
        let _ = fs2::FileExt::unlock(self);
    }
}

impl StorageFile for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        // Not the one of fs2, which reports an unrelated error instead of a full disk.
        let len = nix::libc::off_t::try_from(len).map_err(io::Error::other)?;
        Ok(nix::fcntl::posix_fallocate(self, 0, len)?)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn whole(&self) -> io::Result<Whole> {
        if self.metadata()?.len() == 0 {
            return Ok(Whole::Read(Arc::new([])));
        }
        // SAFETY: asked for only on files that got their name after their last write and are never
        // written or cut again; removing the name leaves the mapped pages as they are.
        let map = unsafe { Mmap::map(self)? };
        Ok(Whole::Mapped(Arc::new(map)))
    }
}
