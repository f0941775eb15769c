//! The operations that change files during a setup.
//!
//! Tests replace them with ones that stop at a chosen operation.

use std::fs;
use std::io;
use std::path::Path;

use crate::platform::fs::{create_like, create_owned_directory, overwrite, sync_directory};

/// Operations that change files.
pub trait Disk {
    /// Creates a directory; fails if it exists.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Creates a private file, or one with the attributes of the file `like`; fails if it exists.
    fn create(&self, like: Option<&Path>, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file over another one in the same directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Writes an existing file in place.
    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory; fails if it is not empty.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}

/// The files of this machine.
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        create_owned_directory(path)
    }

    fn create(&self, like: Option<&Path>, path: &Path, bytes: &[u8]) -> io::Result<()> {
        create_like(like, path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_directory(to.parent().unwrap_or(Path::new("/")))
    }

    fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        overwrite(path, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}
