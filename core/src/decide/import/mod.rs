//! Import of the JSON files that an older version or a script has written.
//!
//! Rows are only added. A row whose key the log has seen is skipped; rows of a file of lines follow
//! the last imported line. One import is one batch, so it is recorded whole or not at all.

mod mail;
mod owners;
mod rooms;

use c2c_log_format::Payload;
use c2c_log_format::id::check_name;
use c2c_log_format::payload::{LegacyDetails, LegacyImported, MessageSent, Target};

use crate::address::folded_alias;
use crate::facts::Facts;
use crate::foreign::{ForeignFile, ForeignMessage, ForeignRows};
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
    reply: ImportReply,
}

pub(super) fn import(
    state: &State,
    files: &[ForeignFile],
    facts: &Facts<'_>,
) -> Decision<ImportReply> {
    let state = state.clone();
    let mut import = Import { state, events: Vec::new(), facts, reply: ImportReply::default() };
    for file in files {
        import.file(file);
    }
    Decision::durable(import.events, import.reply)
}

impl Import<'_> {
    fn file(&mut self, file: &ForeignFile) {
        let recorded = self.state.imported.get(format!("file {}", file.path()));
        if file.expected.as_ref().is_some_and(|stamp| *stamp != recorded.unwrap_or_default()) {
            return;
        }
        // The description of the room was not whole: its members and messages wait for it.
        let room_id = file.rows.room_id().filter(|_| !file.rows.is_empty());
        if room_id.is_some_and(|room_id| self.room_here(file, room_id).is_none()) {
            return;
        }
        let entries = match &file.rows {
            ForeignRows::Registry(rows) => self.registry(file, rows),
            ForeignRows::Mail(rows) => self.mail(file, rows),
            ForeignRows::Room(room) => self.room(file, room),
            ForeignRows::Members { room_id, members } => self.members(file, room_id, members),
            ForeignRows::RoomHistory { room_id, lines } => self.room_history(file, room_id, lines),
            ForeignRows::DeadLetters(rows) => self.dead_letters(file, rows),
            ForeignRows::Delivered(rows) => self.delivered(file, rows),
            ForeignRows::RelayHistory { room_id, messages } => {
                self.relay_history(room_id, messages)
            }
        };
        self.record(imported(file.path(), file.stamp.clone(), entries));
    }

    fn record(&mut self, event: Payload) {
        self.state.apply(self.state.head + 1, self.facts.now_us, &event);
        self.events.push(event);
    }

    /// Records what a file says about the last event and the event has no field for.
    fn record_details(&mut self, details: LegacyDetails) {
        let LegacyDetails { room_id, session_id, at_us, .. } = &details;
        if room_id.is_some() || session_id.is_some() || at_us.is_some() {
            self.record(Payload::LegacyDetails(details));
        }
    }

    fn is_new(&self, key: &str) -> bool {
        self.state.imported.get(format!("entry {key}")).is_none()
    }

    /// The first number that an entry of this name does not have yet. Numbers are given in order, so
    /// the search need not try each.
    fn next_number(&self, name: &str, entries: &[String]) -> usize {
        let is_used = |number: usize| {
            let key = format!("{name} {number}");
            !self.is_new(&key) || entries.contains(&key)
        };
        let mut end = 1;
        while is_used(end - 1) {
            end *= 2;
        }
        let mut begin = end / 2;
        while begin + 1 < end {
            let middle = begin.midpoint(end);
            match is_used(middle - 1) {
                true => begin = middle,
                false => end = middle,
            }
        }
        begin
    }
}

/// Records that a file, or a part of it, was read, with the keys of its new rows.
fn imported(file: String, stamp: String, entries: Vec<String>) -> Payload {
    Payload::LegacyImported(LegacyImported { file, stamp, entries })
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
        deferrable: row.deferrable,
        ..MessageSent::new(
            row.message_id.clone().map_or_else(|| (facts.mint)(), String::from),
            sender_name(&row.from),
            row.to.clone(),
            target,
            row.body.clone(),
        )
    }
}

/// The sender's name in an older file, or `unknown` if it cannot be an alias.
fn sender_name(from: &str) -> String {
    let is_name = check_name(&folded_alias(from)).is_ok();
    if is_name { from.to_owned() } else { String::from("unknown") }
}
