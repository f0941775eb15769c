//! The relay's store: where its events are, and the lock that keeps a second relay out.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::broker::LOG_DIRECTORY;
use crate::error::Failure;
use crate::log::{Directory, LockFile, Storage as _};
use crate::platform::fs::write_private;
use crate::store::{MemoryStore, SegmentedStore};
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Where the relay stores its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayStorage {
    /// In memory: a restart loses them.
    Memory,
    /// In a log in this directory.
    Log(PathBuf),
    /// In this SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
}

impl RelayStorage {
    /// The name as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Log(_) => "log",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
        }
    }
}

/// An open store, and the lock that keeps a second relay out of it.
pub struct RelayStore {
    pub events: Box<dyn crate::store::Store>,
    /// The directory of the store; empty for a relay in memory.
    pub directory: PathBuf,
    /// For [`super::RelayService::with_lock`].
    pub lock: StoreLock,
}

/// Keeps a second relay out of a store for as long as it is held.
#[must_use = "the store is unlocked when this is dropped"]
pub struct StoreLock {
    _file: Option<Arc<dyn LockFile>>,
}

/// Opens a store for one relay.
pub fn open(storage: &RelayStorage) -> Result<RelayStore, Failure> {
    match storage {
        RelayStorage::Memory => {
            let events = Box::new(MemoryStore::default());
            Ok(RelayStore { events, directory: PathBuf::new(), lock: StoreLock { _file: None } })
        }
        RelayStorage::Log(directory) => {
            let lock = lock(directory, "relay")?;
            let events = Box::new(SegmentedStore::open(&directory.join(LOG_DIRECTORY)));
            Ok(RelayStore { events, directory: directory.clone(), lock })
        }
        #[cfg(feature = "sqlite")]
        RelayStorage::Sqlite(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.unwrap_or(Path::new(".")).to_owned();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("relay");
            let lock = lock(&directory, name)?;
            let events = Box::new(crate::store::SqliteStore::open(path));
            Ok(RelayStore { events, directory, lock })
        }
    }
}

/// Locks a directory for this process, and writes the process id next to the lock.
fn lock(directory: &Path, name: &str) -> Result<StoreLock, Failure> {
    let io = |e| Failure::io("open", directory, e);
    let lock = Directory::new(directory).lock_file(&format!("{name}.lock")).map_err(io)?;
    let pid_file = directory.join(format!("{name}.pid"));
    if !lock.try_lock().map_err(io)? {
        let pid = fs::read_to_string(&pid_file).unwrap_or_default();
        let message =
            format!("{} is in use by another relay, process {}", directory.display(), pid.trim());
        let rejection = Rejection::new(Code::Busy, "persist_dir", message);
        return Err(rejection
            .hint("stop that relay, or choose another --persist-dir or --db-path")
            .into());
    }
    write_private(&pid_file, format!("{}\n", std::process::id()).as_bytes()).map_err(io)?;
    Ok(StoreLock { _file: Some(lock) })
}

/// The directory of the log when `--persist-dir` is not given.
pub fn default_directory(listen: &SocketAddr) -> Result<PathBuf, Rejection> {
    crate::env::directories::relay_directory(&listen.to_string())
}
