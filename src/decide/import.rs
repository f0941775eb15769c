//! What becomes of rows that scripts or the older c2c wrote into files?
//!
//! Additions only: a row that the log has seen, by its key, is passed over.

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    LegacyImported, MessageSent, Process, RoomCreated, SessionRegistered, Target,
};

use super::session::new_mailbox;
use super::{Decision, Facts, Reply};
use crate::state::State;

/// Source of messages that come from older files.
pub const IMPORTED: &str = "import";

/// One older file, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignFile {
    /// Name under the root.
    pub file: String,
    /// Size and modification time: an unchanged file is not read again.
    pub stamp: String,
    pub sessions: Vec<ForeignSession>,
    pub messages: Vec<ForeignMessage>,
    /// The public room whose history it is.
    pub room: Option<String>,
}

/// A row of `registry.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSession {
    pub key: String,
    pub session_id: String,
    pub alias: String,
    pub process: Option<Process>,
    pub client_type: Option<String>,
    pub role: Option<String>,
    pub cwd: Option<String>,
}

/// A row of an inbox or of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignMessage {
    pub key: String,
    /// Session whose inbox it was in; `None` in the outbox.
    pub session_id: Option<String>,
    pub message_id: Option<String>,
    pub from: String,
    pub to: String,
    pub body: String,
    pub sent_us: Option<u64>,
}

pub(super) fn import(state: &State, files: &[ForeignFile], facts: &Facts<'_>) -> Decision {
    let mut state = state.clone();
    let mut events = Vec::new();
    let (mut sessions, mut messages) = (0, 0);
    for file in files {
        if let Some(room_id) = &file.room {
            let said = history(&state, room_id, file, facts);
            for event in &said {
                messages += usize::from(matches!(event, Payload::MessageSent(_)));
                state.apply(state.head + 1, facts.now_us, event);
            }
            events.extend(said);
            continue;
        }
        let mut entries = Vec::new();
        let new = |key: &str| state_has_not(&state, key);
        let fresh_sessions: Vec<_> = file.sessions.iter().filter(|row| new(&row.key)).collect();
        let fresh_messages: Vec<_> = file.messages.iter().filter(|row| new(&row.key)).collect();
        for row in fresh_sessions {
            entries.push(row.key.clone());
            if let Some(event) = session(&state, row, &file.file, facts) {
                sessions += 1;
                state.apply(state.head + 1, facts.now_us, &event);
                events.push(event);
            }
        }
        for row in fresh_messages {
            entries.push(row.key.clone());
            for event in message(&state, row, &file.file, facts) {
                messages += usize::from(matches!(event, Payload::MessageSent(_)));
                state.apply(state.head + 1, facts.now_us, &event);
                events.push(event);
            }
        }
        let (name, stamp) = (file.file.clone(), file.stamp.clone());
        let mark = Payload::LegacyImported(LegacyImported { file: name, stamp, entries });
        state.apply(state.head + 1, facts.now_us, &mark);
        events.push(mark);
    }
    Decision { events, reply: Reply::Imported { sessions, messages }, durable: true }
}

/// What was said in a room, and the room if nobody knows it.
fn history(state: &State, room_id: &str, file: &ForeignFile, facts: &Facts<'_>) -> Vec<Payload> {
    let mut events = Vec::new();
    let known = state.rooms.get(fold(room_id));
    if known.is_none() {
        let (room_id, visibility) = (room_id.to_owned(), String::from("public"));
        let (created_by, invited) = (String::new(), Vec::new());
        events.push(Payload::RoomCreated(RoomCreated { room_id, created_by, visibility, invited }));
    }
    let first = known.map_or(1, |room| room.next_label);
    for (row, label) in file.messages.iter().zip(first..) {
        let target =
            Target::Room { room_id: fold(room_id), label: Some(label), skipped: Vec::new() };
        events.push(Payload::MessageSent(sent(row, target, String::new(), facts)));
    }
    let (file, stamp) = (file.file.clone(), file.stamp.clone());
    events.push(Payload::LegacyImported(LegacyImported { file, stamp, entries: Vec::new() }));
    events
}

fn sent(
    row: &ForeignMessage,
    target: Target,
    from_mailbox: String,
    facts: &Facts<'_>,
) -> MessageSent {
    MessageSent {
        message_id: row.message_id.clone().unwrap_or_else(|| (facts.mint)()),
        from: sender_name(&row.from),
        from_mailbox,
        to: row.to.clone(),
        body: row.body.clone(),
        sent_us: row.sent_us.unwrap_or(facts.now_us),
        target,
        tag: None,
        reply_to: None,
        expires_us: None,
        deferrable: false,
        source: Some(IMPORTED.into()),
        origin: None,
    }
}

fn state_has_not(state: &State, key: &str) -> bool {
    state.imported.get(format!("entry {key}")).is_none()
}

fn session(state: &State, row: &ForeignSession, file: &str, facts: &Facts<'_>) -> Option<Payload> {
    if check_name(&row.session_id).is_err() || check_alias(&row.alias).is_err() {
        return None;
    }
    let existing = state.mailbox_of(&row.alias);
    // The log knows more about an alias that registered itself.
    if existing.as_ref().is_some_and(|mailbox| mailbox.session.is_some()) {
        return None;
    }
    let mailbox = existing.map_or_else(|| new_mailbox(state, &row.alias), |row| row.name);
    Some(Payload::SessionRegistered(SessionRegistered {
        session_id: row.session_id.clone(),
        alias: row.alias.clone(),
        mailbox,
        node_id: facts.actor.node_id.clone(),
        process: row.process.clone(),
        client_type: row.client_type.clone(),
        role: row.role.clone(),
        cwd: row.cwd.clone(),
        tmux_location: None,
        takeover_from: None,
        imported_from: Some(file.to_owned()),
        build: String::new(),
    }))
}

/// The message, and the mailbox it needs if nobody has registered it.
fn message(state: &State, row: &ForeignMessage, file: &str, facts: &Facts<'_>) -> Vec<Payload> {
    let mut events = Vec::new();
    let target = match (&row.session_id, row.to.split_once('@')) {
        (None, Some((alias, host))) => {
            Target::Outbox { alias: alias.to_owned(), host: host.to_owned() }
        }
        (None, None) => match state.mailbox_of(&row.to) {
            Some(mailbox) => Target::Mailbox(mailbox.name),
            None => Target::Outbox { alias: row.to.clone(), host: "relay".into() },
        },
        (Some(session_id), _) => match state.mailbox_of_session(session_id) {
            Some(mailbox) => Target::Mailbox(mailbox.name),
            None => {
                // An inbox without a registry row still has an owner: the session of its name.
                let alias = row.to.split('#').next().filter(|to| check_alias(to).is_ok());
                let owner = ForeignSession {
                    key: String::new(),
                    session_id: session_id.clone(),
                    alias: alias.unwrap_or(session_id).to_owned(),
                    process: None,
                    client_type: None,
                    role: None,
                    cwd: None,
                };
                match session(state, &owner, file, facts) {
                    Some(Payload::SessionRegistered(fact)) => {
                        let mailbox = fact.mailbox.clone();
                        events.push(Payload::SessionRegistered(fact));
                        Target::Mailbox(mailbox)
                    }
                    _ => match state.mailbox_of(&owner.alias) {
                        Some(mailbox) => Target::Mailbox(mailbox.name),
                        None => return events,
                    },
                }
            }
        },
    };
    let from_mailbox = state.mailbox_of(&row.from).map_or_else(String::new, |row| row.name);
    events.push(Payload::MessageSent(sent(row, target, from_mailbox, facts)));
    events
}

/// A sender in an older file may be anything; what no alias can be is shown as unknown.
fn sender_name(from: &str) -> String {
    let plain = from.split('@').next().is_some_and(|alias| check_name(&fold(alias)).is_ok());
    if plain { from.to_owned() } else { String::from("unknown") }
}
