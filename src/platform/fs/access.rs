//! Opening and creating files and directories that only their owner may use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use crate::platform::user;

/// Mode of a new private file.
pub(super) const FILE_MODE: u32 = 0o600;

/// Options that give mode 0600, less the umask, to a file that they create. They permit no access
/// yet.
#[inline]
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Like [`private_options`]; opening fails if the last component of the path is a symbolic link.
#[inline]
pub fn private_options_without_links() -> OpenOptions {
    let mut options = private_options();
    options.custom_flags(libc::O_NOFOLLOW);
    options
}

/// Reads a small regular file that belongs to this user and that no other user may write; `None` for
/// every other file, and for one with more than `max_bytes` bytes. Symbolic links are not followed.
pub fn read_own_file(path: &Path, max_bytes: usize) -> Option<Vec<u8>> {
    // Without O_NONBLOCK, opening a named pipe waits for its writer.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let is_own = metadata.is_file() && is_own_owner(metadata.uid(), path);
    if !is_own || metadata.mode() & 0o022 != 0 || metadata.len() > max_bytes as u64 {
        return None;
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(max_bytes as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether a file with this owner is one of this user. For root, it is also one of the user to whom its
/// directory belongs: root then acts in that user's home.
fn is_own_owner(owner: u32, path: &Path) -> bool {
    let own = user::effective_id();
    let owner_of_directory = || Some(path.parent()?.metadata().ok()?.uid());
    owner == own || own == 0 && owner_of_directory() == Some(owner)
}

/// Reads a regular file, also through symbolic links. Any other kind of file fails with
/// [`io::ErrorKind::InvalidInput`]: reading a pipe or a device may never end.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    // Without O_NONBLOCK, opening a named pipe waits for its writer.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of text; see [`read_regular`].
pub fn read_regular_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_regular(path)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Whether an error means that a file cannot be opened for writing, although reading it may succeed:
/// missing permission, or a read-only file system.
#[inline]
pub fn forbids_writing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EROFS))
}

/// Makes the creation, renaming and removal of the files in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::platform::fs::{create_private_directory, mode_of, set_mode};
    use crate::platform::user;

    #[test]
    fn new_files_and_directories_are_for_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("outer/inner");
        create_private_directory(&inner).unwrap();
        create_private_directory(&inner).unwrap();
        let path = inner.join("file");
        private_options().write(true).create_new(true).open(&path).unwrap();
        let mode = |path: &Path| mode_of(&fs::metadata(path).unwrap());
        assert_eq!(mode(&path), 0o600);
        assert_eq!((mode(&inner), mode(inner.parent().unwrap())), (0o700, 0o700));
        sync_directory(&inner).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_followed_only_where_links_are_permitted() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        fs::write(directory.path().join("target"), "text").unwrap();
        symlink("target", &link).unwrap();
        private_options().read(true).open(&link).unwrap();
        private_options_without_links().read(true).open(&link).unwrap_err();
    }

    #[test]
    fn only_a_small_regular_file_that_no_other_user_may_write_is_an_own_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read_own_file(&path, 9), None);
        fs::write(&path, "text").unwrap();
        set_mode(&path, 0o600).unwrap();
        assert_eq!(read_own_file(&path, 9).as_deref(), Some(&b"text"[..]));
        assert_eq!(read_own_file(&path, 3), None);
        for mode in [0o620, 0o602] {
            set_mode(&path, mode).unwrap();
            assert_eq!(read_own_file(&path, 9), None);
        }
        set_mode(&path, 0o600).unwrap();
        let link = directory.path().join("link");
        symlink("file", &link).unwrap();
        assert_eq!(read_own_file(&link, 9), None);
        assert_eq!(read_own_file(directory.path(), 9), None);
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(read_own_file(&pipe, 9), None);
        if user::effective_id() == 0 {
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert_eq!(read_own_file(&path, 9), None);
            std::os::unix::fs::chown(directory.path(), Some(1), None).unwrap();
            assert_eq!(read_own_file(&path, 9).as_deref(), Some(&b"text"[..]));
        }
    }

    #[test]
    fn a_missing_permission_forbids_writing_and_a_missing_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let error = private_options().write(true).open(&path).unwrap_err();
        assert!(!forbids_writing(&error));
        assert!(forbids_writing(&io::Error::from_raw_os_error(libc::EROFS)));
        // Root may write anyway.
        if user::effective_id() != 0 {
            fs::write(&path, "text").unwrap();
            set_mode(&path, 0o400).unwrap();
            let error = private_options().write(true).open(&path).unwrap_err();
            assert!(forbids_writing(&error));
        }
    }
}
