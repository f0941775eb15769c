//! Session pointers: the root in which a session is registered.

use std::fs;
use std::path::{Path, PathBuf};

use c2c_core::decide::{Liveness, SessionSource};
use c2c_log_format::payload::Process;

use super::record;
use crate::platform::clock;
use crate::platform::process::{descends_from, liveness_of};

const HEADER: &str = "c2c session 1";
const DIRECTORY: &str = "sessions";

/// A pointer that was not written again for this long is removed.
const RETENTION_US: u64 = 90 * 24 * 60 * 60 * 1_000_000;

/// A session id, and where it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHint<'a> {
    pub session_id: &'a str,
    pub source: SessionSource,
}

fn path(session_id: &str) -> Option<PathBuf> {
    let name = record::file_name("session", session_id.as_bytes());
    Some(record::base()?.0.join(DIRECTORY).join(name))
}

/// The root in which a session is registered, if its pointer counts and the root exists.
///
/// An id that a client made for one conversation counts always. Any other id may be used by several
/// sessions, so it counts only while its process runs and is an ancestor of this one.
pub fn find(hint: SessionHint<'_>) -> Option<PathBuf> {
    if hint.source == SessionSource::Alias {
        return None;
    }
    let lines = record::read(&path(hint.session_id)?, HEADER)?;
    let (root, id, process) = match &lines[..] {
        [root, id, process @ ..] => (PathBuf::from(root), id, process),
        _ => return None,
    };
    let counts = match process {
        [] => true,
        [process] => parse_process(process).is_some_and(|process| {
            liveness_of(Some(&process)) == Liveness::Alive && descends_from(process.pid)
        }),
        _ => false,
    };
    (counts && id == hint.session_id && root.is_absolute() && root.is_dir()).then_some(root)
}

/// Records the root in which a session is registered. Errors are ignored: without a pointer the
/// working directory decides.
pub fn write(hint: SessionHint<'_>, process: Option<&Process>, root: &Path) {
    let Some(path) = path(hint.session_id) else { return };
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let Some(root) = root.to_str() else { return };
    let mut lines = vec![root, hint.session_id];
    let process = process.map(format_process);
    match (hint.source, &process) {
        (SessionSource::Client | SessionSource::Request, _) => {}
        (SessionSource::Variable, Some(process)) => lines.push(process),
        _ => return,
    }
    if record::read(&path, HEADER).is_some_and(|existing| existing == lines) {
        return;
    }
    let _ = record::replace(&path, HEADER, &lines);
    remove_old(path.parent().unwrap_or(Path::new("/")));
}

/// Whether the pointer of a session says that its client made the id for one conversation.
pub fn is_conversation(session_id: &str) -> bool {
    let lines = path(session_id).and_then(|path| record::read(&path, HEADER));
    lines.is_some_and(|lines| lines.len() == 2)
}

fn format_process(process: &Process) -> String {
    format!("{} {} {} {}", process.pid, process.start, process.ns, process.boot)
}

fn parse_process(text: &str) -> Option<Process> {
    let mut parts = text.splitn(4, ' ');
    let mut next = || parts.next();
    Some(Process {
        pid: next()?.parse().ok()?,
        start: next()?.parse().ok()?,
        ns: next()?.parse().ok()?,
        boot: next()?.to_owned(),
    })
}

fn remove_old(directory: &Path) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let modified_us = modified.ok().and_then(clock::us_of);
        if modified_us.is_some_and(|at_us| at_us + RETENTION_US < clock::now_us()) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// The roots that pointers of this user name.
pub fn roots() -> Vec<PathBuf> {
    let Some((base, _)) = record::base() else { return Vec::new() };
    let files = fs::read_dir(base.join(DIRECTORY)).into_iter().flatten().flatten();
    let pointers = files.filter_map(|file| record::read(&file.path(), HEADER));
    pointers.filter_map(|lines| lines.first().map(PathBuf::from)).collect()
}
