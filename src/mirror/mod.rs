//! How do the files of the older c2c come in, and how are they written out?
//!
//! In: rows that scripts or the older program wrote into `registry.json`, `<sid>.inbox.json` and
//! `remote-outbox.jsonl`. Out: the same files as views of the log, on demand.

mod export;
mod lock;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::fold;
use c2c_log_format::payload::Process;
use serde_json::Value;

use crate::code::Code;
use crate::decide::{ForeignFile, ForeignMessage, ForeignSession, Refusal};
use crate::failure::Failure;
use crate::log::LogError;
use crate::state::State;

pub use export::{LegacyMessage, Views, write_views};
pub use lock::Sidecars;

/// Rows with this key were written by us and are never read back.
pub const OURS: &str = "c2c_log";

const REGISTRY: &str = "registry.json";
const OUTBOX: &str = "remote-outbox.jsonl";
const INBOX_SUFFIX: &str = ".inbox.json";

/// Makes the root if it is missing, and refuses one that belongs to somebody else.
pub fn check_root(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    let failed =
        |cause: io::Error| Failure::Store(LogError::io("create", &shown.to_string(), cause));
    let found = match fs::metadata(root) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
            return Ok(());
        }
        Err(e) => return Err(failed(e)),
    };
    let refuse = |message: String, hint: &str| {
        Err(Refusal::new(Code::BadRoot, "broker_root", message).hint(hint).into())
    };
    if !found.is_dir() {
        return refuse(format!("{shown} is not a directory"), "name a directory");
    }
    let me = nix::unistd::geteuid();
    if !me.is_root() && found.uid() != me.as_raw() {
        let message = format!("{shown} belongs to another user");
        return refuse(message, "use a root of your own, or run as its owner");
    }
    Ok(())
}

/// A directory that has not changed for this long shows its next change by a new time.
const SETTLED_US: u64 = 1_000_000;

/// Looks for older files, and knows when there is no need to look again.
#[derive(Default)]
pub struct Lookout {
    /// When the root last changed, if it held no older file then.
    bare_since_us: Option<u64>,
}

impl Lookout {
    /// The older files under a root that hold rows the log has not seen.
    pub fn files(&mut self, root: &Path, state: &State) -> Result<Vec<ForeignFile>, Failure> {
        let changed = fs::metadata(root).and_then(|found| found.modified()).ok();
        let changed_us = changed.and_then(crate::clock::us_of);
        if changed_us.is_some() && changed_us == self.bare_since_us {
            return Ok(Vec::new());
        }
        let names = file_names(root)?;
        let settled = changed_us.filter(|us| us + SETTLED_US < crate::clock::now_us());
        self.bare_since_us = settled.filter(|_| names.is_empty());
        read_files(root, "", state, names)
    }
}

/// The older files under a root other than that of the log. Their path tells their rows from the
/// same rows in files of the same name elsewhere.
pub fn files_of_another_root(from: &Path, state: &State) -> Result<Vec<ForeignFile>, Failure> {
    let whole = fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
    read_files(from, &format!("{}/", whole.display()), state, file_names(from)?)
}

/// Names of the inbox files of all sessions.
pub fn inbox_names(state: &State) -> Vec<String> {
    let sessions = state.sessions.scan([]).into_iter();
    sessions.map(|(_, session)| format!("{}{INBOX_SUFFIX}", session.session_id)).collect()
}

/// Names of the older files under a root.
fn file_names(root: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LogError::io("list", &root.display().to_string(), e).into()),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name == REGISTRY || name == OUTBOX || name.ends_with(INBOX_SUFFIX))
        .collect();
    // The registry first: it says whose inbox is whose.
    names.sort_by_key(|name| (name != REGISTRY, name.clone()));
    Ok(names)
}

fn read_files(
    root: &Path,
    origin: &str,
    state: &State,
    names: Vec<String>,
) -> Result<Vec<ForeignFile>, Failure> {
    let mut files = Vec::new();
    for name in names {
        let path = root.join(&name);
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if !found.is_file() {
            continue;
        }
        let stamp = format!("{} {} {}", found.len(), found.mtime(), found.mtime_nsec());
        if state.imported.get(format!("file {origin}{name}")).as_deref() == Some(&stamp) {
            continue;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Somebody took it away just now, or it is no text: nothing that could be imported.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                continue;
            }
            Err(e) => return Err(LogError::io("read", &path.display().to_string(), e).into()),
        };
        if let Some(file) = parse(&name, origin, stamp, &text) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Reads one older file; what is no JSON yet (a script may be writing it) is left for later.
fn parse(name: &str, origin: &str, stamp: String, text: &str) -> Option<ForeignFile> {
    let file = format!("{origin}{name}");
    let mut file = ForeignFile { file, stamp, ..ForeignFile::default() };
    let rows: Vec<Value> = if name == OUTBOX {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    } else {
        match serde_json::from_str(text).ok()? {
            Value::Array(rows) => rows,
            _ => return None,
        }
    };
    let mut seen: Vec<u64> = Vec::new();
    for row in &rows {
        if row.get(OURS).is_some() {
            continue;
        }
        let hash = name_hash(&row.to_string());
        // The same row twice in one file is two rows.
        let ordinal = seen.iter().filter(|other| **other == hash).count();
        seen.push(hash);
        let key = format!("{origin}{name} {hash:016x} {ordinal}");
        if name == REGISTRY {
            file.sessions.extend(session(row, key));
        } else {
            let session_id = name.strip_suffix(INBOX_SUFFIX).map(str::to_owned);
            file.messages.extend(message(row, key, session_id));
        }
    }
    Some(file)
}

fn text(row: &Value, key: &str) -> Option<String> {
    row.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty())
}

fn session(row: &Value, key: String) -> Option<ForeignSession> {
    let process = row.get("pid").and_then(Value::as_u64).map(|pid| Process {
        pid: pid as u32,
        start: row.get("pid_start_time").and_then(Value::as_u64).unwrap_or(0),
        boot: String::new(),
        ns: 0,
    });
    Some(ForeignSession {
        key,
        session_id: text(row, "session_id")?,
        alias: text(row, "alias")?,
        process,
        client_type: text(row, "client_type"),
        role: text(row, "role"),
        cwd: text(row, "cwd"),
    })
}

fn message(row: &Value, key: String, session_id: Option<String>) -> Option<ForeignMessage> {
    let sent_us = match row.get("ts") {
        Some(Value::Number(seconds)) => seconds.as_f64().map(|s| (s * 1e6) as u64),
        Some(Value::String(ts)) => crate::clock::parse(ts),
        _ => None,
    };
    let message_id = text(row, "message_id");
    let to = text(row, "to_alias").or_else(|| session_id.clone())?;
    Some(ForeignMessage {
        // What went to several has one id: it is one message for each of them.
        key: message_id.as_ref().map_or(key, |id| format!("id {id} {}", fold(&to))),
        to,
        session_id,
        message_id,
        from: text(row, "from_alias").unwrap_or_else(|| String::from("unknown")),
        body: text(row, "content")?,
        sent_us,
    })
}
