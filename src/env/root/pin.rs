//! Pins: the root of a repository, recorded when it is first used.
//!
//! A repository has a pin for its common directory, one for its remote, and one for the identity of
//! the directory, which finds the root again after a move.

use std::fs;
use std::path::{Path, PathBuf};

use super::record;
use super::repository::{RepositoryIdentity, remote};
use crate::platform::fs::FileIdentity;

const HEADER: &str = "c2c pin 1";
const DIRECTORY: &str = "pins";

/// A key of a pin.
pub enum PinKey<'a> {
    CommonDirectory(&'a Path),
    Remote(&'a str),
    /// Inode number and birth time of the common directory.
    Inode(FileIdentity),
}

impl<'a> PinKey<'a> {
    /// The key for what a repository's remote says.
    pub fn of_identity(identity: &'a RepositoryIdentity) -> Self {
        match identity {
            RepositoryIdentity::Remote(text) => Self::Remote(text),
            RepositoryIdentity::CommonDirectory(path) => Self::CommonDirectory(path),
        }
    }

    /// The key for the identity of a directory; `None` if the file system has no birth times.
    pub fn of_inode(common: &Path) -> Option<Self> {
        let identity = FileIdentity::of(&fs::metadata(common).ok()?);
        (identity.born_ns != 0).then_some(Self::Inode(identity))
    }

    fn path(&self) -> Option<PathBuf> {
        let name = match self {
            Self::CommonDirectory(path) => {
                record::file_name("directory", path.as_os_str().as_encoded_bytes())
            }
            Self::Remote(text) => record::file_name("remote", text.as_bytes()),
            Self::Inode(FileIdentity { inode, born_ns }) => {
                record::file_name("inode", format!("{inode} {born_ns}").as_bytes())
            }
        };
        Some(record::base()?.0.join(DIRECTORY).join(name))
    }
}

/// The root that a key is pinned to.
pub fn find(key: &PinKey<'_>) -> Option<PathBuf> {
    let lines = record::read(&key.path()?, HEADER)?;
    lines.first().map(PathBuf::from).filter(|root| root.is_absolute())
}

/// Pins a repository to a root under every key that has no pin yet. Errors are ignored: without a
/// pin the same rules find the same root, as long as the repository stays as it is.
pub fn write(common: &Path, root: &Path) {
    let (Some(shown), Some(directory)) = (root.to_str(), common.to_str()) else { return };
    let remote = remote(common).map(|remote| remote.identity);
    let keys = [
        Some(PinKey::CommonDirectory(common)),
        remote.as_ref().map(PinKey::of_identity),
        PinKey::of_inode(common),
    ];
    for key in keys.into_iter().flatten() {
        if find(&key).is_none()
            && let Some(path) = key.path()
        {
            let _ = record::create(&path, HEADER, &[shown, directory]);
        }
    }
}

/// The pinned roots of this user, each with the common directory that was pinned first.
pub fn all() -> Vec<(PathBuf, PathBuf)> {
    let Some((base, _)) = record::base() else { return Vec::new() };
    let files = fs::read_dir(base.join(DIRECTORY)).into_iter().flatten().flatten();
    let pins = files.filter_map(|file| record::read(&file.path(), HEADER));
    pins.filter_map(|lines| match &lines[..] {
        [root, common] => Some((root.into(), common.into())),
        _ => None,
    })
    .collect()
}
