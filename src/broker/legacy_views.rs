//! Views of the log in the format of the legacy files.

use std::collections::BTreeMap;

use c2c_log_format::id::check_name;
use c2c_log_format::payload::{LegacyDelivered, kind_name};
use c2c_log_format::{Payload, Sequence};
use serde_json::{Value, json};

use super::Broker;
use super::views::decoded;
use crate::error::Failure;
use crate::legacy::{LegacyMessage, LegacyViews};
use c2c_core::state::{DeadLetter, Mailbox, MessageRef, sequence_in_key};
use c2c_core::view::{DeadLetterView, LoggedEvent, MessageView};

/// # Legacy files
impl Broker {
    /// The content of the legacy files.
    pub fn legacy_views(&mut self) -> Result<LegacyViews, Failure> {
        let mut views = LegacyViews { log_id: self.log_id()?.to_owned(), ..LegacyViews::default() };
        for agent in self.agents() {
            let unread = self.state.unread(&agent.mailbox.name).in_order();
            for message in self.messages(&unread)? {
                views.inbox.push(inbox_message(&message, &agent.mailbox));
            }
        }
        for (_, room) in self.state.rooms.scan([]) {
            let history = self.room_history(&room.room_id, 0, 0)?;
            views.rooms.extend(history.into_iter().map(|row| room_message(row.message)));
        }
        for (key, queued) in self.state.outbox.scan([]) {
            for message in self.messages(&[MessageRef::new(sequence_in_key(&key), None)])? {
                views.outbox.push(outbox_row(&message, queued.queued_us));
            }
        }
        for DeadLetterView { letter, message } in self.dead_letters()? {
            let Some(message) = message else { continue };
            views.dead_letters.push(json!({
                "deleted_at": seconds(letter.at_us),
                "from_session_id": session_of(&letter),
                "reason": letter.reason,
                "message": message_row(&message, &recipient(&letter)),
            }));
        }
        views.delivered = self.delivered_by_older()?;
        Ok(views)
    }

    /// The messages that an older version delivered, by session.
    fn delivered_by_older(&mut self) -> Result<BTreeMap<String, Vec<Value>>, Failure> {
        let mut rows: BTreeMap<String, Vec<(Sequence, Value)>> = BTreeMap::new();
        self.store.search(
            &|head| kind_name(head.kind) == Some("legacy_delivered"),
            &mut |stored| {
                let event = decoded(&stored);
                if let Some(LoggedEvent {
                    sequence, payload: Payload::LegacyDelivered(fact), ..
                }) = event
                {
                    let is_name = check_name(&fact.session_id).is_ok();
                    let session = if is_name { &fact.session_id } else { &fact.mailbox };
                    rows.entry(session.clone()).or_default().push((sequence, delivered_row(&fact)));
                }
            },
            &|| false,
        )?;
        let in_order = |mut rows: Vec<(Sequence, Value)>| {
            rows.sort_unstable_by_key(|(sequence, _)| *sequence);
            rows.into_iter().map(|(_, row)| row).collect()
        };
        Ok(rows.into_iter().map(|(session, rows)| (session, in_order(rows))).collect())
    }
}

/// The session that did not receive a dead letter, as far as it is known.
fn session_of(letter: &DeadLetter) -> String {
    let session_id = letter.legacy.as_ref().and_then(|legacy| legacy.session_id.clone());
    session_id.map_or_else(|| letter.mailbox.clone(), String::from)
}

/// The recipient of a dead letter: the alias, for a room message with the room.
fn recipient(letter: &DeadLetter) -> String {
    match letter.legacy.as_ref().and_then(|legacy| legacy.room.as_deref()) {
        Some(room_id) => format!("{}#{room_id}", &*letter.alias),
        None => letter.alias.clone(),
    }
}

fn delivered_row(fact: &LegacyDelivered) -> Value {
    let mut row = json!({
        "drained_at": seconds(fact.drained_us),
        "session_id": fact.session_id,
        "from_alias": fact.from,
        "to_alias": fact.to,
        "content": fact.body,
        "message_id": fact.message_id,
    });
    if !fact.surface.is_empty() {
        row["drained_by"] = json!(fact.surface);
    }
    if fact.deferrable {
        row["deferrable"] = json!(true);
    }
    row
}

/// Seconds since 1970 UTC.
fn seconds(time_us: u64) -> f64 {
    time_us as f64 / 1e6
}

fn message_row(message: &MessageView, to: &str) -> Value {
    json!({
        "from_alias": message.sent.from,
        "to_alias": to,
        "content": message.sent.body,
        "ts": seconds(message.sent.sent_us),
        "message_id": message.sent.message_id,
    })
}

fn inbox_message(message: &MessageView, mailbox: &Mailbox) -> LegacyMessage {
    let to = match &message.room_id {
        Some(room_id) => format!("{}#{room_id}", mailbox.alias),
        None => mailbox.alias.clone().into(),
    };
    let mut row = message_row(message, &to);
    if message.sent.deferrable {
        row["deferrable"] = json!(true);
    }
    LegacyMessage {
        sequence: message.sequence,
        mailbox: mailbox.name.clone(),
        room_id: message.room_id.clone(),
        row,
    }
}

fn room_message(message: MessageView) -> LegacyMessage {
    let row = json!({
        "ts": seconds(message.sent.sent_us),
        "from_alias": message.sent.from,
        "content": message.sent.body,
    });
    LegacyMessage {
        sequence: message.sequence,
        mailbox: String::new(),
        room_id: message.room_id,
        row,
    }
}

fn outbox_row(message: &MessageView, queued_us: u64) -> Value {
    json!({
        "from_alias": message.sent.from,
        "to_alias": message.sent.to,
        "content": message.sent.body,
        "message_id": message.sent.message_id,
        "attempts": 0,
        "enqueued_at": seconds(queued_us),
    })
}
