//! How are the older files written as views of the log?

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::OURS;
use crate::state::{State, second_of};

/// One message in the older shape.
#[derive(Debug, Clone)]
pub struct LegacyMessage {
    pub sequence: u64,
    pub mailbox: String,
    pub room_id: Option<String>,
    pub row: Value,
}

/// What the views show besides the state: messages with their text.
#[derive(Debug, Clone, Default)]
pub struct Views {
    pub log_id: String,
    pub inbox: Vec<LegacyMessage>,
    pub rooms: Vec<LegacyMessage>,
    pub outbox: Vec<Value>,
    pub dead_letters: Vec<Value>,
}

/// Writes `registry.json`, the inboxes, the outbox, dead letters and rooms into a directory.
pub fn write_views(target: &Path, state: &State, views: &Views) -> io::Result<usize> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(target)?;
    let mut written = 1;
    write(target, "registry.json", &pretty(&registry(state, &views.log_id)))?;
    for (_, session) in state.sessions.scan([]) {
        let of = |message: &&LegacyMessage| message.mailbox == session.mailbox;
        let rows: Vec<Value> = views
            .inbox
            .iter()
            .filter(of)
            .map(|message| mark(&message.row, &views.log_id))
            .collect();
        write(target, &format!("{}.inbox.json", session.session_id), &pretty(&json!(rows)))?;
        written += 1;
    }
    write(target, "remote-outbox.jsonl", &lines(&views.outbox, &views.log_id))?;
    write(target, "dead-letter.jsonl", &lines(&views.dead_letters, &views.log_id))?;
    for (_, room) in state.rooms.scan([]) {
        let folder = target.join("rooms").join(&room.room_id);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let of = |message: &&LegacyMessage| {
            message.room_id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&room.room_id))
        };
        let history: Vec<Value> =
            views.rooms.iter().filter(of).map(|message| message.row.clone()).collect();
        write(&folder, "history.jsonl", &lines(&history, &views.log_id))?;
        write(&folder, "members.json", &pretty(&members(state, &room.room_id)))?;
        let meta = json!({
            "visibility": room.visibility,
            "invited_members": room.invited,
            "created_by": room.created_by,
        });
        write(&folder, "meta.json", &pretty(&meta))?;
        written += 3;
    }
    Ok(written + 2)
}

fn registry(state: &State, log_id: &str) -> Value {
    let rows = state.sessions.scan([]).into_iter().map(|(_, session)| {
        let mailbox = state.mailboxes.get(&session.mailbox);
        let mut row = Map::new();
        row.insert("session_id".into(), json!(session.session_id));
        row.insert("alias".into(), json!(mailbox.map_or(session.mailbox.clone(), |row| row.alias)));
        if let Some(process) = &session.process {
            row.insert("pid".into(), json!(process.pid));
            row.insert("pid_start_time".into(), json!(process.start));
        }
        row.insert("registered_at".into(), json!(session.registered_us as f64 / 1e6));
        row.insert("node_id".into(), json!(session.node_id));
        row.insert(OURS.into(), json!(log_id));
        Value::Object(row)
    });
    Value::Array(rows.collect())
}

fn members(state: &State, room_id: &str) -> Value {
    let rows = state.members.scan(crate::state::pair(&room_id.to_ascii_lowercase(), &[]));
    let rows = rows.into_iter().filter_map(|(key, member)| {
        let mailbox = state.mailboxes.get(second_of(&key))?;
        Some(json!({
            "alias": mailbox.alias,
            "session_id": mailbox.session,
            "joined_at": member.joined_us as f64 / 1e6,
        }))
    });
    Value::Array(rows.collect())
}

fn mark(row: &Value, log_id: &str) -> Value {
    let mut row = row.clone();
    row[OURS] = json!(log_id);
    row
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn lines(rows: &[Value], log_id: &str) -> String {
    rows.iter().map(|row| format!("{}\n", mark(row, log_id))).collect()
}

/// Writes beside and renames, so that a reader sees the old or the new file, whole. A file that
/// says so already is left: replacing a thousand of them takes seconds, and wakes who watches them.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    if fs::read(folder.join(name)).is_ok_and(|now| now == text.as_bytes()) {
        return Ok(());
    }
    let aside = folder.join(format!(".{name}.tmp"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&aside, folder.join(name))
}
