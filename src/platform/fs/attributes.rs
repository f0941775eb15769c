//! Modes, owners and times of files.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The permission bits of a file, with the set-id and sticky bits.
#[inline]
pub fn mode_of(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

/// Id of the user who owns a file.
#[inline]
pub fn owner_of(metadata: &Metadata) -> u32 {
    metadata.uid()
}

/// Time of the last change of a file's content: seconds since 1970, and nanoseconds.
#[inline]
pub fn modified_parts(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Sets the permission bits of a file or directory.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Sets the permission bits of an open file or directory.
pub fn set_file_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::user;

    #[test]
    fn attributes_are_those_that_were_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        set_mode(&path, 0o640).unwrap();
        assert_eq!(mode_of(&fs::metadata(&path).unwrap()), 0o640);
        set_file_mode(&file, 0o604).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((mode_of(&metadata), owner_of(&metadata)), (0o604, user::effective_id()));
        let modified = metadata.modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        let parts = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
        assert_eq!(modified_parts(&metadata), parts);
    }
}
