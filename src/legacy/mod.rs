//! Import and export of the JSON files of the older c2c.
//!
//! Import reads rows that scripts or the older program wrote to `registry.json`, `<sid>.inbox.json`
//! and `remote-outbox.jsonl`. Export writes the same files as views of the log, on request.

mod export;
mod lock;

use std::fs;
use std::io;
use std::path::Path;

use c2c_log_format::checksum::name_hash;
use c2c_log_format::id::fold;
use c2c_log_format::payload::Process;
use serde_json::Value;

use crate::error::Failure;
use crate::platform::fs::{create_private_directory, modified_parts, owner_of};
use crate::platform::user;
use crate::store::StoreError;
use c2c_core::code::Code;
use c2c_core::decide::{ForeignFile, ForeignMessage, ForeignSession, Rejection};
use c2c_core::ids::{MessageId, SessionId};
use c2c_core::state::State;

pub use export::{LegacyMessage, LegacyViews, write_views};
pub use lock::LegacyLocks;

/// Key of the rows that c2c wrote itself; they are never imported.
pub const EXPORTED_KEY: &str = "c2c_log";

const REGISTRY: &str = "registry.json";
const OUTBOX: &str = "remote-outbox.jsonl";
const INBOX_SUFFIX: &str = ".inbox.json";

/// Creates the broker root if it does not exist. Fails with `bad_root` if it is not a directory or
/// belongs to another user.
pub fn create_or_check_root(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    let failed =
        |source: io::Error| Failure::from(StoreError::io("create", &shown.to_string(), source));
    let metadata = match fs::metadata(root) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return create_private_directory(root).map_err(failed);
        }
        Err(e) => return Err(failed(e)),
    };
    let reject = |message: String, hint: &str| {
        Err(Rejection::new(Code::BadRoot, "broker_root", message).hint(hint).into())
    };
    if !metadata.is_dir() {
        return reject(format!("{shown} is not a directory"), "choose a directory as broker root");
    }
    if !user::acts_for(owner_of(&metadata)) {
        let message = format!("{shown} belongs to another user");
        return reject(message, "use your own broker root, or run as the owner of this one");
    }
    Ok(())
}

/// Once a directory is unchanged for this long, its next change is certain to set another time.
const SETTLED_US: u64 = 1_000_000;

/// Finds legacy files in a root, and skips the search while the root is unchanged.
#[derive(Default)]
pub struct LegacyFileFinder {
    /// Time of the root's last change, if it contained no legacy file then.
    empty_since_us: Option<u64>,
}

impl LegacyFileFinder {
    /// Reads the legacy files in a root that changed since their last import.
    pub fn changed_files(
        &mut self,
        root: &Path,
        state: &State,
    ) -> Result<Vec<ForeignFile>, Failure> {
        let changed = fs::metadata(root).and_then(|metadata| metadata.modified()).ok();
        let changed_us = changed.and_then(crate::platform::clock::us_of);
        if changed_us.is_some() && changed_us == self.empty_since_us {
            return Ok(Vec::new());
        }
        let names = file_names(root)?;
        let settled = changed_us.filter(|us| us + SETTLED_US < crate::platform::clock::now_us());
        self.empty_since_us = settled.filter(|_| names.is_empty());
        read_files(root, "", state, names)
    }
}

/// Reads the legacy files in a root other than that of the log. The path of the root becomes a part
/// of the keys of their rows, so that they differ from the rows of files with the same name.
pub fn read_files_of_another_root(from: &Path, state: &State) -> Result<Vec<ForeignFile>, Failure> {
    let absolute = fs::canonicalize(from).unwrap_or_else(|_| from.to_owned());
    read_files(from, &format!("{}/", absolute.display()), state, file_names(from)?)
}

/// File names of the inboxes of all sessions.
pub fn inbox_file_names(state: &State) -> Vec<String> {
    let sessions = state.sessions.scan([]).into_iter();
    sessions.map(|(_, session)| format!("{}{INBOX_SUFFIX}", session.session_id)).collect()
}

/// File names of the legacy files in a root.
fn file_names(root: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("list", &root.display().to_string(), e).into()),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name == REGISTRY || name == OUTBOX || name.ends_with(INBOX_SUFFIX))
        .collect();
    // The registry first: it maps inboxes to aliases.
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
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let (modified_s, modified_ns) = modified_parts(&metadata);
        let stamp = format!("{} {modified_s} {modified_ns}", metadata.len());
        if state.imported.get(format!("file {origin}{name}")).as_deref() == Some(&stamp) {
            continue;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Removed meanwhile, or not text: nothing to import.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                continue;
            }
            Err(e) => return Err(StoreError::io("read", &path.display().to_string(), e).into()),
        };
        if let Some(file) = parse(&name, origin, stamp, &text) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Parses one older file. Returns `None` for invalid JSON: a script may still be writing the file.
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
        if row.get(EXPORTED_KEY).is_some() {
            continue;
        }
        let hash = name_hash(&row.to_string());
        // Two equal rows in one file are two messages.
        let ordinal = seen.iter().filter(|other| **other == hash).count();
        seen.push(hash);
        let key = format!("{origin}{name} {hash:016x} {ordinal}");
        if name == REGISTRY {
            file.sessions.extend(parse_session(row, key));
        } else {
            let session_id = name.strip_suffix(INBOX_SUFFIX).map(SessionId::from);
            file.messages.extend(parse_message(row, key, session_id));
        }
    }
    Some(file)
}

fn text_field(row: &Value, key: &str) -> Option<String> {
    row.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty())
}

fn parse_session(row: &Value, key: String) -> Option<ForeignSession> {
    let process = row.get("pid").and_then(Value::as_u64).map(|pid| Process {
        pid: pid as u32,
        start: row.get("pid_start_time").and_then(Value::as_u64).unwrap_or(0),
        boot: String::new(),
        ns: 0,
    });
    Some(ForeignSession {
        key,
        session_id: text_field(row, "session_id")?.into(),
        alias: text_field(row, "alias")?.into(),
        process,
        client_type: text_field(row, "client_type"),
        role: text_field(row, "role"),
        cwd: text_field(row, "cwd"),
    })
}

fn parse_message(
    row: &Value,
    key: String,
    session_id: Option<SessionId>,
) -> Option<ForeignMessage> {
    let sent_us = match row.get("ts") {
        Some(Value::Number(seconds)) => seconds.as_f64().map(|s| (s * 1e6) as u64),
        Some(Value::String(ts)) => crate::platform::clock::parse(ts),
        _ => None,
    };
    let message_id = text_field(row, "message_id");
    let to = text_field(row, "to_alias").or_else(|| session_id.clone().map(String::from))?;
    Some(ForeignMessage {
        // A message to several recipients has one id: it is imported once for each recipient.
        key: message_id.as_ref().map_or(key, |id| format!("id {id} {}", fold(&to))),
        to,
        session_id,
        message_id: message_id.map(MessageId::from),
        from: text_field(row, "from_alias").unwrap_or_else(|| String::from("unknown")),
        body: text_field(row, "content")?,
        sent_us,
    })
}
