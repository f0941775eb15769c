//! How does the older c2c keep two writers of one file apart, and how do we take part?
//!
//! Each file has a sidecar with a POSIX record lock: `registry.json.lock`, `<sid>.inbox.lock`. They
//! are taken in that order, registry before inboxes, and given back together.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::INBOX_SUFFIX;
use crate::failure::Failure;
use crate::limits::LOCK_WAIT;
use crate::log::LogError;

/// With more locks than this the usual limit of open files may not do.
const FILES_PLAIN: usize = 256;

/// Pause before a lock that the older program holds is tried again.
const STEP: Duration = Duration::from_millis(2);

/// The locks of some older files, held until this is dropped.
pub struct Sidecars {
    /// Closing the file gives its lock back.
    _held: Vec<File>,
}

impl Sidecars {
    /// Takes the locks of the registry and of these files under a root.
    pub fn take<'a>(
        root: &Path,
        files: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Failure> {
        let deadline = Instant::now() + LOCK_WAIT;
        let inboxes = files.into_iter().filter_map(|name| name.strip_suffix(INBOX_SUFFIX));
        let mut names: Vec<String> = inboxes.map(|id| format!("{id}.inbox.lock")).collect();
        names.sort_unstable();
        names.insert(0, "registry.json.lock".into());
        if names.len() > FILES_PLAIN {
            allow_more_files();
        }
        let mut held = Vec::new();
        for name in names {
            let failed = |e| Failure::Store(LogError::io("lock", &name, e));
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(libc::O_NOFOLLOW).open(root.join(&name));
            let file = file.map_err(failed)?;
            while !try_lock(&file).map_err(failed)? {
                if Instant::now() > deadline {
                    let waited_ms = LOCK_WAIT.as_millis() as u64;
                    return Err(LogError::Busy { waited_ms }.into());
                }
                std::thread::sleep(STEP);
            }
            held.push(file);
        }
        Ok(Self { _held: held })
    }
}

/// Lets this process have as many files open as it may have at most.
fn allow_more_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where this fails, opening the files says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
