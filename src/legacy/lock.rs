//! Locks that exclude the older c2c from the files it shares with this one.
//!
//! Each file has a sidecar file with a POSIX record lock, such as `registry.json.lock` and
//! `<sid>.inbox.lock`. The registry is locked first, and all locks are released together.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::{ARCHIVE, Kind, LegacyFile, ROOMS};
use crate::error::Failure;
use crate::platform::clock;
use crate::platform::fs::private_options_without_links;
use crate::platform::limits::raise_open_files;
use crate::platform::lock::{try_record_lock, try_shared_record_lock};
use crate::store::StoreError;
use c2c_core::limits::LOCK_WAIT;
use c2c_core::state::State;

/// With more locks than this, the default limit of open files may be too low.
const LOCKS_WITHIN_DEFAULT: usize = 256;

/// Pause between two attempts to take a lock that is held.
const RETRY_INTERVAL: Duration = Duration::from_millis(2);

const REGISTRY_LOCK: &str = "registry.json.lock";

/// The locks of some legacy files, held until this is dropped.
pub struct LegacyLocks {
    /// Closing a file releases its lock.
    _files: Vec<File>,
}

impl LegacyLocks {
    /// Takes the locks of the registry and of the inboxes among these files of the root in use, so
    /// that no message is moved from one file to another meanwhile. Fails with `busy` if another
    /// process holds one for too long.
    pub fn for_import(root: &Path, files: &[LegacyFile]) -> Result<Self, Failure> {
        take(root, &import_locks(files), &open_or_create)
    }

    /// Like [`Self::for_import`], in a root that must not be changed: shares the locks that exist.
    pub fn for_reading(root: &Path, files: &[LegacyFile]) -> Result<Self, Failure> {
        take(root, &import_locks(files), &|path| File::open(path).map(|file| (file, false)))
    }

    /// Takes the locks of every file that an export replaces.
    pub fn for_export(root: &Path, state: &State) -> Result<Self, Failure> {
        let mut names = vec![
            REGISTRY_LOCK.to_owned(),
            "dead-letter.jsonl.lock".into(),
            "remote-outbox.lock".into(),
        ];
        for (_, session) in state.sessions.scan([]) {
            let id = session.session_id;
            names.extend([inbox_lock(&id), format!("{ARCHIVE}/{id}.lock", id = &*id)]);
        }
        for (_, room) in state.rooms.scan([]) {
            let directory = format!("{ROOMS}/{}", &*room.room_id);
            names.extend(["members", "history"].map(|file| format!("{directory}/{file}.lock")));
        }
        names[1..].sort_unstable();
        take(root, &names, &open_or_create)
    }
}

fn inbox_lock(session_id: &str) -> String {
    format!("{session_id}.inbox.lock")
}

/// The locks for reading these files: of the registry, and of each inbox from which messages move to
/// a changed file.
fn import_locks(files: &[LegacyFile]) -> Vec<String> {
    let with_inbox = files.iter().filter(|file| matches!(file.kind, Kind::Inbox | Kind::Archive));
    let mut names: Vec<String> = with_inbox.map(|file| inbox_lock(&file.owner)).collect();
    names.sort_unstable();
    names.dedup();
    names.insert(0, REGISTRY_LOCK.into());
    names
}

/// Opens a lock file; true if it can be locked exclusively.
type Open<'a> = &'a dyn Fn(&Path) -> io::Result<(File, bool)>;

fn open_or_create(path: &Path) -> io::Result<(File, bool)> {
    let mut options = private_options_without_links();
    Ok((options.write(true).create(true).truncate(false).open(path)?, true))
}

/// Takes these locks in order. A lock file that does not exist and cannot be created for lack of its
/// directory is not needed.
fn take(root: &Path, names: &[String], open: Open<'_>) -> Result<LegacyLocks, Failure> {
    if names.len() > LOCKS_WITHIN_DEFAULT {
        raise_open_files();
    }
    let deadline = clock::monotonic() + LOCK_WAIT;
    let mut files = Vec::new();
    for name in names {
        let failed = |e| Failure::from(StoreError::io("lock", name, e));
        let (file, is_exclusive) = match open(&root.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed)?,
        };
        wait_for_lock(&file, is_exclusive, deadline, &failed)?;
        files.push(file);
    }
    Ok(LegacyLocks { _files: files })
}

fn wait_for_lock(
    file: &File,
    is_exclusive: bool,
    deadline: Instant,
    failed: &dyn Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let try_lock = if is_exclusive { try_record_lock } else { try_shared_record_lock };
    while !try_lock(file).map_err(failed)? {
        if clock::monotonic() > deadline {
            return Err(StoreError::Busy { waited_ms: LOCK_WAIT.as_millis() as u64 }.into());
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
    Ok(())
}
