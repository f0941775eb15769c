//! Views of the log in the format of the legacy files.

use serde_json::{Value, json};

use super::Broker;
use crate::error::Failure;
use crate::legacy::{LegacyMessage, LegacyViews};
use c2c_core::state::{Mailbox, MessageRef, sequence_in_key};
use c2c_core::view::{DeadLetterView, MessageView};

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
                "from_session_id": letter.mailbox,
                "reason": letter.reason,
                "message": message_row(&message, &letter.alias),
            }));
        }
        Ok(views)
    }
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
    LegacyMessage {
        sequence: message.sequence,
        mailbox: mailbox.name.clone(),
        room_id: message.room_id.clone(),
        row: message_row(message, &to),
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
