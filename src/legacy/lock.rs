//! Locks that exclude the older c2c from the files it shares with this one.
//!
//! Each file has a sidecar file with a POSIX record lock: `registry.json.lock`, `<sid>.inbox.lock`.
//! The registry is locked before the inboxes, and all locks are released together.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::INBOX_SUFFIX;
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::fs::private_options_without_links;
use crate::platform::limits::raise_open_files;
use crate::platform::lock::try_record_lock;
use crate::store::StoreError;
use c2c_core::limits::LOCK_WAIT;

/// With more locks than this, the default limit of open files may be too low.
const LOCKS_WITHIN_DEFAULT: usize = 256;

/// Pause between two attempts to take a lock that is held.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

/// The locks of some legacy files, held until this is dropped.
pub struct LegacyLocks {
    /// Closing a file releases its lock.
    _files: Vec<File>,
}

impl LegacyLocks {
    /// Takes the locks of the registry and of these inbox files in a root. Fails with `busy` if another
    /// process holds one for too long.
    pub fn take<'a>(
        root: &Path,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Failure> {
        let deadline = clock::monotonic() + LOCK_WAIT;
        let sessions = names.into_iter().filter_map(|name| name.strip_suffix(INBOX_SUFFIX));
        let mut locks: Vec<String> = sessions.map(|id| format!("{id}.inbox.lock")).collect();
        locks.sort_unstable();
        locks.insert(0, "registry.json.lock".into());
        if locks.len() > LOCKS_WITHIN_DEFAULT {
            raise_open_files();
        }
        let mut files = Vec::new();
        for name in locks {
            let failed = |e| Failure::from(StoreError::io("lock", &name, e));
            let mut options = private_options_without_links();
            let file = options.write(true).create(true).truncate(false).open(root.join(&name));
            let file = file.map_err(failed)?;
            while !try_record_lock(&file).map_err(failed)? {
                if clock::monotonic() > deadline {
                    let waited_ms = LOCK_WAIT.as_millis() as u64;
                    return Err(StoreError::Busy { waited_ms }.into());
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
            files.push(file);
        }
        Ok(Self { _files: files })
    }
}
