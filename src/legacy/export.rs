//! Export of the legacy files as views of the log.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::EXPORTED_KEY;
use super::files::{ARCHIVE, ARCHIVE_SUFFIX, ROOMS};
use crate::platform::fs::{WriteOptions, create_private_directory, write_atomic};
use c2c_core::ids::{Alias, RoomId};
use c2c_core::state::{State, second_name_in_key};

/// One message in the older JSON format.
#[derive(Debug, Clone)]
pub struct LegacyMessage {
    pub sequence: u64,
    pub mailbox: String,
    pub room_id: Option<RoomId>,
    pub row: Value,
}

/// Content of the views that the state does not hold: messages with their text.
#[derive(Debug, Clone, Default)]
pub struct LegacyViews {
    pub log_id: String,
    pub inbox: Vec<LegacyMessage>,
    pub rooms: Vec<LegacyMessage>,
    pub outbox: Vec<Value>,
    pub dead_letters: Vec<Value>,
    /// Messages that an older version delivered, by session.
    pub delivered: BTreeMap<String, Vec<Value>>,
}

/// Writes `registry.json`, the inboxes, the outbox, dead letters, delivered messages and rooms to a
/// directory, which is created if necessary. Returns the number of files.
pub fn write_views(target: &Path, state: &State, views: &LegacyViews) -> io::Result<usize> {
    create_private_directory(target)?;
    // The registry, the outbox and the dead letters.
    let mut written = 3;
    write(target, "registry.json", &pretty(&registry(state, &views.log_id)))?;
    for (_, session) in state.sessions.scan([]) {
        let is_theirs = |message: &&LegacyMessage| message.mailbox == session.mailbox;
        let rows: Vec<Value> = views
            .inbox
            .iter()
            .filter(is_theirs)
            .map(|message| marked(&message.row, &views.log_id))
            .collect();
        write(target, &format!("{}.inbox.json", session.session_id), &pretty(&json!(rows)))?;
        written += 1;
    }
    write(target, "remote-outbox.jsonl", &lines(&views.outbox, &views.log_id))?;
    write(target, "dead-letter.jsonl", &lines(&views.dead_letters, &views.log_id))?;
    for (session, rows) in &views.delivered {
        let folder = target.join(ARCHIVE);
        create_private_directory(&folder)?;
        write(&folder, &format!("{session}{ARCHIVE_SUFFIX}"), &lines(rows, &views.log_id))?;
        written += 1;
    }
    for (_, room) in state.rooms.scan([]) {
        let folder = target.join(ROOMS).join(room.room_id.as_str());
        create_private_directory(&folder)?;
        let is_in_room = |message: &&LegacyMessage| {
            message.room_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&room.room_id))
        };
        let history: Vec<Value> =
            views.rooms.iter().filter(is_in_room).map(|message| message.row.clone()).collect();
        write(&folder, "history.jsonl", &lines(&history, &views.log_id))?;
        let members = members(state, &room.room_id, &views.log_id);
        write(&folder, "members.json", &pretty(&members))?;
        let meta = json!({
            "visibility": room.visibility,
            "invited_members": room.invited,
            "created_by": room.created_by,
        });
        write(&folder, "meta.json", &pretty(&marked(&meta, &views.log_id)))?;
        written += 3;
    }
    Ok(written)
}

fn registry(state: &State, log_id: &str) -> Value {
    let rows = state.sessions.scan([]).into_iter().map(|(_, session)| {
        let mailbox = state.mailboxes.get(&session.mailbox);
        let mut row = Map::new();
        row.insert("session_id".into(), json!(session.session_id));
        row.insert(
            "alias".into(),
            json!(mailbox.map_or(Alias::from(&session.mailbox), |row| row.alias)),
        );
        if let Some(process) = &session.process {
            row.insert("pid".into(), json!(process.pid));
            row.insert("pid_start_time".into(), json!(process.start));
        }
        row.insert("registered_at".into(), json!(session.registered_us as f64 / 1e6));
        row.insert("node_id".into(), json!(session.node_id));
        row.insert(EXPORTED_KEY.into(), json!(log_id));
        Value::Object(row)
    });
    Value::Array(rows.collect())
}

fn members(state: &State, room_id: &str, log_id: &str) -> Value {
    let rows =
        state.members.scan(c2c_core::state::compound_key(&room_id.to_ascii_lowercase(), &[]));
    let rows = rows.into_iter().filter_map(|(key, member)| {
        let mailbox = state.mailboxes.get(second_name_in_key(&key))?;
        Some(json!({
            "alias": mailbox.alias,
            "session_id": mailbox.session,
            "joined_at": member.joined_us as f64 / 1e6,
            EXPORTED_KEY: log_id,
        }))
    });
    Value::Array(rows.collect())
}

/// A row that import skips.
fn marked(row: &Value, log_id: &str) -> Value {
    let mut row = row.clone();
    row[EXPORTED_KEY] = json!(log_id);
    row
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn lines(rows: &[Value], log_id: &str) -> String {
    rows.iter().map(|row| format!("{}\n", marked(row, log_id))).collect()
}

/// Replaces a file atomically, unless it has this text already: replacing a thousand files takes
/// seconds, and wakes programs that watch them. Not durable, because the log is.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    const VIEW: WriteOptions = WriteOptions { durable: false, ..WriteOptions::PRIVATE };
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(());
    }
    write_atomic(&path, text.as_bytes(), VIEW)
}
