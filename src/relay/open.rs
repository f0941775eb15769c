//! Where does a relay keep its events, and who else has them open?

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::broker::LOG_DIRECTORY;
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;
use crate::files::write_private;
use crate::log::{Directory, LockFile, LogError, Storage as _};
use crate::store::{EventStore, MemoryStore, SegmentedStore};

/// Where the relay keeps its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: a restart forgets them.
    Memory,
    /// In a log in this directory.
    Log(PathBuf),
    /// In this file.
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
}

impl Storage {
    /// As it is called on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Log(_) => "log",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
        }
    }
}

/// An open store, and the lock that keeps a second relay away from it.
pub struct Store {
    pub events: Box<dyn EventStore>,
    /// The directory that it is in; of a relay in memory, none.
    pub directory: PathBuf,
    _held: Option<Arc<dyn LockFile>>,
}

/// Opens a store for one relay.
pub fn open(storage: &Storage) -> Result<Store, Failure> {
    match storage {
        Storage::Memory => {
            let events = Box::new(MemoryStore::default());
            Ok(Store { events, directory: PathBuf::new(), _held: None })
        }
        Storage::Log(directory) => {
            let held = hold(directory, "relay")?;
            let events = Box::new(SegmentedStore::open(&directory.join(LOG_DIRECTORY)));
            Ok(Store { events, directory: directory.clone(), _held: Some(held) })
        }
        #[cfg(feature = "sqlite")]
        Storage::Sqlite(path) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = parent.unwrap_or(Path::new(".")).to_owned();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("relay");
            let held = hold(&directory, name)?;
            let events = Box::new(crate::store::SqliteStore::open(path));
            Ok(Store { events, directory, _held: Some(held) })
        }
    }
}

/// Takes a directory for this process.
fn hold(directory: &Path, name: &str) -> Result<Arc<dyn LockFile>, Failure> {
    let io = |e| LogError::io("open", &directory.display().to_string(), e);
    let lock = Directory::new(directory).lock_file(&format!("{name}.lock")).map_err(io)?;
    let holder = directory.join(format!("{name}.pid"));
    if !lock.try_lock().map_err(io)? {
        let pid = fs::read_to_string(&holder).unwrap_or_default();
        let place = directory.display();
        let message = format!("{place} is in use by another relay, process {}", pid.trim());
        let refusal = Refusal::new(Code::Busy, "persist_dir", message);
        return Err(refusal.hint("stop it, or name another place").into());
    }
    write_private(&holder, format!("{}\n", std::process::id()).as_bytes()).map_err(io)?;
    Ok(lock)
}

/// Where a relay keeps its log when no directory is named.
pub fn default_directory(listen: &SocketAddr) -> Result<PathBuf, Refusal> {
    crate::root::relay_directory(&listen.to_string())
}
