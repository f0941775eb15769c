//! Import of the JSON files that an older version or a script has written.
//!
//! Rows are only added. A row whose key the log has seen is skipped.

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    LegacyImported, MessageSent, RoomCreated, RoomVisibility, SessionRegistered, Target,
};

use super::alias::new_mailbox;
use crate::address::{Address, folded_alias};
use crate::command::{ForeignFile, ForeignMessage, ForeignSession};
use crate::facts::Facts;
use crate::reply::{Decision, ImportReply};
use crate::state::State;

/// Source of messages imported from legacy files.
pub const IMPORT_SOURCE: &str = "import";

/// An import in progress.
struct Import<'a> {
    /// The state with the events applied.
    state: State,
    events: Vec<Payload>,
    facts: &'a Facts<'a>,
    sessions: usize,
    messages: usize,
}

pub(super) fn import(
    state: &State,
    files: &[ForeignFile],
    facts: &Facts<'_>,
) -> Decision<ImportReply> {
    let state = state.clone();
    let mut import = Import { state, events: Vec::new(), facts, sessions: 0, messages: 0 };
    for file in files {
        match &file.room {
            Some(room_id) => import.room_history(room_id, file),
            None => import.rows(file),
        }
    }
    let Import { events, sessions, messages, .. } = import;
    Decision::durable(events, ImportReply { sessions, messages })
}

impl Import<'_> {
    fn record(&mut self, event: Payload) {
        self.messages += usize::from(matches!(event, Payload::MessageSent(_)));
        self.state.apply(self.state.head + 1, self.facts.now_us, &event);
        self.events.push(event);
    }

    fn is_new(&self, key: &str) -> bool {
        self.state.imported.get(format!("entry {key}")).is_none()
    }

    /// Imports the sessions and messages of one file.
    fn rows(&mut self, file: &ForeignFile) {
        let mut entries = Vec::new();
        for row in &file.sessions {
            if !self.is_new(&row.key) {
                continue;
            }
            entries.push(row.key.clone());
            if let Some(event) = session(&self.state, row, &file.file, self.facts) {
                self.sessions += 1;
                self.record(event);
            }
        }
        for row in &file.messages {
            if !self.is_new(&row.key) {
                continue;
            }
            entries.push(row.key.clone());
            for event in message(&self.state, row, &file.file, self.facts) {
                self.record(event);
            }
        }
        self.record(imported(file, entries));
    }

    /// Imports the history of a room, and creates the room if it does not exist.
    fn room_history(&mut self, room_id: &str, file: &ForeignFile) {
        let room = self.state.rooms.get(fold(room_id));
        if room.is_none() {
            self.record(Payload::RoomCreated(RoomCreated {
                room_id: room_id.to_owned(),
                created_by: String::new(),
                visibility: RoomVisibility::Public,
                invited: Vec::new(),
            }));
        }
        let first_label = room.map_or(1, |room| room.next_label);
        for (row, label) in file.messages.iter().zip(first_label..) {
            let target =
                Target::Room { room_id: fold(room_id), label: Some(label), skipped: Vec::new() };
            let sent = message_sent(row, target, String::new(), self.facts);
            self.record(Payload::MessageSent(sent));
        }
        self.record(imported(file, Vec::new()));
    }
}

/// Records that a file was read, with the keys of its new rows.
fn imported(file: &ForeignFile, entries: Vec<String>) -> Payload {
    Payload::LegacyImported(LegacyImported {
        file: file.file.clone(),
        stamp: file.stamp.clone(),
        entries,
    })
}

fn message_sent(
    row: &ForeignMessage,
    target: Target,
    from_mailbox: String,
    facts: &Facts<'_>,
) -> MessageSent {
    MessageSent {
        from_mailbox,
        sent_us: row.sent_us.unwrap_or(facts.now_us),
        source: Some(IMPORT_SOURCE.into()),
        ..MessageSent::new(
            row.message_id.clone().map_or_else(|| (facts.mint)(), String::from),
            sender_name(&row.from),
            row.to.clone(),
            target,
            row.body.clone(),
        )
    }
}

/// The registration of an older session; `None` if its names are invalid or the alias is in use.
fn session(state: &State, row: &ForeignSession, file: &str, facts: &Facts<'_>) -> Option<Payload> {
    if check_name(&row.session_id).is_err() || check_alias(&row.alias).is_err() {
        return None;
    }
    let existing = state.mailbox_for_alias(&row.alias);
    // The log has newer information about an alias that has registered itself.
    if existing.as_ref().is_some_and(|mailbox| mailbox.session.is_some()) {
        return None;
    }
    let mailbox = existing.map_or_else(|| new_mailbox(state, &row.alias), |row| row.name);
    Some(Payload::SessionRegistered(SessionRegistered {
        process: row.process.clone(),
        client_type: row.client_type.clone(),
        role: row.role.clone(),
        cwd: row.cwd.clone(),
        imported_from: Some(file.to_owned()),
        ..SessionRegistered::new(
            row.session_id.clone(),
            row.alias.clone(),
            mailbox,
            facts.actor.node_id.clone(),
        )
    }))
}

/// The message, preceded by the registration of its mailbox if no session has registered it.
fn message(state: &State, row: &ForeignMessage, file: &str, facts: &Facts<'_>) -> Vec<Payload> {
    let mut events = Vec::new();
    let to = Address::parse(&row.to);
    let target = match (&row.session_id, to.host()) {
        (None, Some(host)) => {
            Target::Outbox { alias: to.alias().to_owned(), host: host.to_owned() }
        }
        (None, None) => match state.mailbox_for_alias(&row.to) {
            Some(mailbox) => Target::Mailbox(mailbox.name),
            None => Target::Outbox { alias: row.to.clone(), host: "relay".into() },
        },
        (Some(session_id), _) => match state.mailbox_for_session(session_id) {
            Some(mailbox) => Target::Mailbox(mailbox.name),
            None => {
                let owner = inbox_owner(session_id, row);
                match session(state, &owner, file, facts) {
                    Some(Payload::SessionRegistered(fact)) => {
                        let mailbox = fact.mailbox.clone();
                        events.push(Payload::SessionRegistered(fact));
                        Target::Mailbox(mailbox)
                    }
                    _ => match state.mailbox_for_alias(&owner.alias) {
                        Some(mailbox) => Target::Mailbox(mailbox.name),
                        None => return events,
                    },
                }
            }
        },
    };
    let from_mailbox = state.mailbox_for_alias(&row.from).map_or_else(String::new, |row| row.name);
    events.push(Payload::MessageSent(message_sent(row, target, from_mailbox, facts)));
    events
}

/// The owner of an inbox that has no row in the registry: the session that the file is named after.
fn inbox_owner(session_id: &str, row: &ForeignMessage) -> ForeignSession {
    let alias = row.to.split('#').next().filter(|to| check_alias(to).is_ok());
    ForeignSession {
        key: String::new(),
        session_id: session_id.into(),
        alias: alias.unwrap_or(session_id).into(),
        process: None,
        client_type: None,
        role: None,
        cwd: None,
    }
}

/// The sender's name in an older file, or `unknown` if it cannot be an alias.
fn sender_name(from: &str) -> String {
    let is_name = check_name(&folded_alias(from)).is_ok();
    if is_name { from.to_owned() } else { String::from("unknown") }
}
