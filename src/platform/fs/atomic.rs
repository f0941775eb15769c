//! Atomic replacement of whole files.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::access::{FILE_MODE, private_options, sync_directory};
use super::attributes::{mode_of, set_file_mode};
use super::owner::{create_private_directory, give_to_owner_of};

/// Number of symbolic links after which a chain counts as a loop, as in the Linux kernel.
const LINKS_MAX: usize = 40;

/// How [`write_atomic`] replaces a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits of the file, regardless of the umask.
    pub mode: u32,
    /// Keep the permission bits of an existing file, and its owner and group if this process is
    /// allowed to set them. `mode` then applies only to new files.
    pub keep_attributes: bool,
    /// Replace the file that a symbolic link points to, and keep the link. Otherwise the link itself
    /// is replaced.
    pub follow_links: bool,
    /// Return only when the file and its directory entry are on disk.
    pub durable: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { mode: FILE_MODE, keep_attributes: true, follow_links: true, durable: true }
    }
}

impl WriteOptions {
    /// A file that only this user can read, regardless of the attributes of an existing file.
    pub const PRIVATE: Self =
        Self { mode: FILE_MODE, keep_attributes: false, follow_links: false, durable: true };
}

/// A written temporary file that has not replaced its target yet. Dropping it removes the file.
#[derive(Debug)]
pub struct PreparedFile {
    temporary: NamedTempFile,
    target: PathBuf,
    durable: bool,
}

impl PreparedFile {
    /// Writes `bytes` to a temporary file in the directory of `path`, which must exist.
    pub fn create(path: &Path, bytes: &[u8], options: WriteOptions) -> io::Result<Self> {
        Self::create_with(path, options, |file| file.write_all(bytes))
    }

    /// Like [`Self::create`], but calls `write` to write the content.
    pub fn create_with(
        path: &Path,
        options: WriteOptions,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let target = if options.follow_links { link_target(path)? } else { path.to_owned() };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let mut temporary = Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            .make_in(directory_of(&target), |path| {
                private_options().write(true).create_new(true).open(path)
            })?;
        write(temporary.as_file_mut())?;
        let file = temporary.as_file();
        let existing = match options.keep_attributes {
            true => existing_file(&target)?,
            false => None,
        };
        // Set the owner first: changing it clears some permission bits.
        let mode = match &existing {
            Some(existing) => keep_owner(file, existing),
            None => {
                give_to_owner_of(directory_of(&target), file)?;
                options.mode
            }
        };
        set_file_mode(file, mode)?;
        if options.durable {
            file.sync_all()?;
        }
        Ok(Self { temporary, target, durable: options.durable })
    }

    /// The file that [`Self::commit`] replaces, with symbolic links resolved if they are followed.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Replaces the target. If only the final sync fails, returns its error: the target is replaced
    /// but may not be durable.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.persist(&self.target).map_err(|failed| failed.error)?;
        sync_directory_of(&self.target, self.durable)
    }

    /// Creates the target. Fails with [`io::ErrorKind::AlreadyExists`] if it exists.
    pub fn commit_new(self) -> io::Result<()> {
        self.temporary.persist_noclobber(&self.target).map_err(|failed| failed.error)?;
        sync_directory_of(&self.target, self.durable)
    }
}

/// Writes a file so that a reader finds the old content or the new content, never a part. The
/// directory must exist. After an error no temporary file remains.
pub fn write_atomic(path: &Path, bytes: &[u8], options: WriteOptions) -> io::Result<()> {
    PreparedFile::create(path, bytes, options)?.commit()
}

/// Writes a file with mode 0600 atomically, and creates its directory with mode 0700 if necessary.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_private_directory(directory_of(path))?;
    write_atomic(path, bytes, WriteOptions::PRIVATE)
}

/// Whether an I/O error means that the disk, the quota or the file size limit is exhausted.
pub fn is_disk_full(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
}

/// The path at the end of a chain of symbolic links, even if no file or directory exists there.
pub fn link_target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        // The last component that exists: the file, or a directory above it that is a link to a
        // directory that does not exist.
        let Some(last) = target.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
            return Ok(target);
        };
        match fs::read_link(last) {
            Ok(next) => {
                let rest = target.strip_prefix(last).unwrap_or(Path::new("")).to_owned();
                let end = directory_of(last).join(next);
                target = if rest.as_os_str().is_empty() { end } else { end.join(rest) };
            }
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

fn sync_directory_of(file: &Path, durable: bool) -> io::Result<()> {
    if durable { sync_directory(directory_of(file)) } else { Ok(()) }
}

pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn existing_file(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata).filter(Metadata::is_file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Gives a new file the owner and group of the existing one if this process is allowed to, and
/// returns the mode to set.
pub(super) fn keep_owner(file: &File, existing: &Metadata) -> u32 {
    let (uid, gid) = (existing.uid(), existing.gid());
    let mode = mode_of(existing);
    let keeps_group = fchown(file, Some(uid), Some(gid)).or_else(|_| fchown(file, None, Some(gid)));
    match keeps_group {
        Ok(()) => mode,
        // A different group must not get the permissions of the old one.
        Err(_) => (mode & 0o707) | ((mode & 0o007) << 3),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::attributes::set_mode;
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        mode_of(&fs::symlink_metadata(path).unwrap())
    }

    #[test]
    fn a_new_file_is_readable_by_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        write_atomic(&path, b"text", WriteOptions::default()).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"text"[..], 0o600));
        let shared = WriteOptions { mode: 0o644, ..WriteOptions::default() };
        write_atomic(&directory.path().join("shared"), b"text", shared).unwrap();
        assert_eq!(mode(&directory.path().join("shared")), 0o644);
        assert_eq!(names(directory.path()), ["new", "shared"]);
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        set_mode(&path, 0o640).unwrap();
        // Only root can set a different owner.
        let _ = std::os::unix::fs::chown(&path, Some(61_001), Some(61_002));
        let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
        let before = owner(&path);
        write_atomic(&path, b"new", WriteOptions::default()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!((mode(&path), owner(&path)), (0o640, before));
        write_atomic(&path, b"secret", WriteOptions::PRIVATE).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_symbolic_link_stays_a_link_and_its_target_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        symlink("elsewhere/second", at("first")).unwrap();
        symlink("target", at("elsewhere/second")).unwrap();
        for text in ["created", "replaced"] {
            write_atomic(&at("first"), text.as_bytes(), WriteOptions::default()).unwrap();
            assert_eq!(fs::read_to_string(at("elsewhere/target")).unwrap(), text);
        }
        assert!(at("first").is_symlink() && at("elsewhere/second").is_symlink());
        let replace = WriteOptions { follow_links: false, ..WriteOptions::default() };
        write_atomic(&at("first"), b"own", replace).unwrap();
        assert!(!at("first").is_symlink());
        symlink("nowhere/yet", at("directory")).unwrap();
        assert_eq!(link_target(&at("directory/a/b")).unwrap(), at("nowhere/yet/a/b"));
        symlink("loop", at("loop")).unwrap();
        write_atomic(&at("loop"), b"", WriteOptions::default()).unwrap_err();
    }

    #[test]
    fn a_new_file_never_replaces_an_existing_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let create =
            |bytes: &[u8]| PreparedFile::create(&path, bytes, WriteOptions::PRIVATE).unwrap();
        create(b"first").commit_new().unwrap();
        let error = create(b"second").commit_new().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["key"]);
    }

    #[test]
    fn a_failed_write_keeps_the_target_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        // A file cannot replace a directory that is not empty.
        fs::create_dir_all(path.join("inside")).unwrap();
        write_atomic(&path, b"text", WriteOptions::default()).unwrap_err();
        assert_eq!(names(directory.path()), ["taken"]);
        let other = directory.path().join("other");
        drop(PreparedFile::create(&other, b"text", WriteOptions::default()).unwrap());
        assert_eq!(names(directory.path()), ["taken"]);
        write_atomic(&other.join("file"), b"text", WriteOptions::default()).unwrap_err();
    }
}
