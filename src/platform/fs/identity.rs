//! Identity of a file: distinguishes it from copies and from later files of the same name.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

/// Inode number and birth time of a file.
///
/// The birth time is in nanoseconds since 1970, or 0 where the file system does not record one. The
/// inode number alone is not enough: file systems reuse it soon after a file is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    pub inode: u64,
    pub born_ns: u64,
}

impl FileIdentity {
    /// Reads the identity from file metadata.
    pub fn of(metadata: &fs::Metadata) -> Self {
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), born_ns: born.map_or(0, |since| since.as_nanos() as u64) }
    }
}
