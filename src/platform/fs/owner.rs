//! Owner of the files that root creates in a directory of another user.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::platform::user;

/// Mode of a new private directory.
const DIRECTORY_MODE: u32 = 0o700;

/// The cause of an error: a file of another user.
#[derive(Debug, thiserror::Error)]
#[error("Permission denied")]
pub struct OtherUsersFile {
    pub path: PathBuf,
    /// Id of its owner.
    pub owner: u32,
}

/// Adds the path and the owner to an error about a file that belongs to another user.
#[cold]
pub fn with_owner(error: io::Error, path: &Path) -> io::Error {
    let owner = fs::symlink_metadata(path).map(|file| file.uid());
    match owner {
        Ok(owner) if error.kind() == ErrorKind::PermissionDenied && !user::acts_for(owner) => {
            io::Error::new(ErrorKind::PermissionDenied, OtherUsersFile { path: path.into(), owner })
        }
        _ => error,
    }
}

/// Whether this user may write a file, or create files in a directory.
pub fn may_write(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Owner and group of a directory, if this process is root and another user owns the directory.
fn other_owner_of(directory: &Path) -> io::Result<Option<(u32, u32)>> {
    if user::effective_id() != 0 {
        return Ok(None);
    }
    let owner = fs::metadata(directory)?;
    Ok(Some((owner.uid(), owner.gid())).filter(|(uid, _)| *uid != 0))
}

/// Gives a file of root to the owner and group of its directory, so that its user can open it later.
/// Does nothing unless this process is root. A file with a second name keeps its owner.
#[inline]
pub fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let Some((uid, gid)) = other_owner_of(directory)? else { return Ok(()) };
    let present = file.metadata()?;
    if present.uid() == 0 && present.nlink() == 1 {
        fchown(file, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Creates a directory with mode 0700. Below a directory of another user, one that root creates
/// belongs to that user. Fails if it exists.
pub fn create_owned_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match other_owner_of(parent.unwrap_or(Path::new(".")))? {
        Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Creates a directory and its missing parents, each with mode 0700. Those that root creates below a
/// directory of another user belong to that user.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => create_private_directory(parent)?,
        // Nothing is above the root directory, and the working directory exists.
        None if path.as_os_str().is_empty() || path == Path::new("/") => return Ok(()),
        None => {}
    }
    match create_owned_directory(path) {
        // Another process was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::fs::{private_options, write_private};

    #[test]
    fn what_root_creates_belongs_to_the_owner_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("own");
        fs::create_dir(&own).unwrap();
        // Only root can give a directory away; other users check that nothing fails.
        let _ = std::os::unix::fs::chown(&own, Some(61_001), Some(61_002));
        let owner = |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid())).unwrap();
        let expected = owner(&own);
        create_private_directory(&own.join("a/b")).unwrap();
        write_private(&own.join("a/b/file"), b"text").unwrap();
        let lock = own.join("lock");
        let file = private_options().write(true).create(true).open(&lock).unwrap();
        give_to_owner_of(&own, &file).unwrap();
        for path in [own.join("a"), own.join("a/b"), own.join("a/b/file"), lock.clone()] {
            assert_eq!(owner(&path), expected, "{}", path.display());
        }
        // A second name could be one of a file that the other user wants to own.
        let second = directory.path().join("of root");
        fs::write(&second, "text").unwrap();
        fs::hard_link(&second, own.join("link")).unwrap();
        give_to_owner_of(&own, &File::open(own.join("link")).unwrap()).unwrap();
        assert_eq!(owner(&second), owner(directory.path()));
    }
}
