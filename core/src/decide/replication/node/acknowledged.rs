//! Acknowledged pushes: what a relay has accepted or rejected.

use std::collections::BTreeSet;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorDirection, MessagesRelayed, Origin, Receipt, ReceiptLevel};
use c2c_log_format::{Payload, Sequence};

use super::notices::{origin_of_relay, record_receipts};
use super::rejected::rejected_in_room;
use crate::address::Address;
use crate::batch::{Outcome, Position, Pushed};
use crate::code::Code;
use crate::decide::replication::intake::cursor_advanced;
use crate::facts::Facts;
use crate::rejection::Rejection;
use crate::reply::Decision;
use crate::state::{OutboxMessage, State};

/// Processes a relay's answer to a push. Accepted messages are marked as held by the relay,
/// messages with a final rejection return to their sender, and the rest is pushed again.
pub(in crate::decide) fn pushed(state: &State, pushed: &Pushed, facts: &Facts<'_>) -> Decision<()> {
    let Pushed { relay, relay_name, received, .. } = pushed;
    let mut events = Vec::new();
    let mut receipts = Vec::new();
    let mut relayed = Vec::new();
    // Messages that the relay accepted once, and that it may have lost.
    let mut lost = Vec::new();
    let mut answered = BTreeSet::new();
    for (sequence, outcome) in &received.outcomes {
        let Some(row) = state.outbox.get(sequence.to_be_bytes()) else {
            if let Some((event, rejection)) = room_rejection(pushed, *sequence, outcome)
                // An event that left as several items is rejected several times.
                && answered.insert(dedup_key(event, *sequence, rejection))
            {
                events.extend(rejected_in_room(state, event, rejection, pushed, facts));
            }
            continue;
        };
        match answer(&row, relay, outcome) {
            Answer::Relayed => relayed.push(*sequence),
            Answer::Lost => lost.push(*sequence),
            Answer::Receipt { level, code } => {
                receipts.push(receipt(*sequence, &row, level, code, pushed, facts));
            }
            Answer::PushAgain => {}
        }
    }
    if !relayed.is_empty() {
        events.push(messages_relayed(relayed, relay));
    }
    let cursor = state.cursor(&CursorDirection::Out, relay);
    if received.position.sequence < cursor.sequence {
        // The relay has lost a part of its data, so that any message may be lost there.
        let rows = state.outbox_in_order().into_iter();
        lost.extend(rows.filter(|(_, row)| row.relay.as_ref() == Some(relay)).map(|(at, _)| at));
    }
    if !lost.is_empty() {
        events.push(messages_relayed(lost, ""));
    }
    if !receipts.is_empty() {
        events.extend(record_receipts(state, receipts, origin_of_relay(pushed), facts));
    }
    let Position { sequence, digest } = &received.position;
    if (cursor.sequence, &cursor.digest) != (*sequence, digest) {
        let (log, node_id) = (relay.clone(), relay_name.as_str().into());
        events.push(cursor_advanced(
            CursorDirection::Out,
            log,
            node_id,
            &received.position,
            String::new(),
        ));
    }
    Decision::durable(events, ())
}

fn messages_relayed(messages: Vec<Sequence>, relay: &str) -> Payload {
    Payload::MessagesRelayed(MessagesRelayed { messages, relay: relay.to_owned() })
}

/// The room event and its rejection, if the outcome at a sequence is one.
fn room_rejection<'a>(
    pushed: &'a Pushed,
    sequence: Sequence,
    outcome: &'a Outcome,
) -> Option<(&'a Payload, &'a Rejection)> {
    let Outcome::Rejected(rejection) = outcome else { return None };
    let (_, event) = pushed.rejected_room_events.iter().find(|(at, _)| *at == sequence)?;
    Some((event, rejection))
}

/// Identifies what a rejection is answered by: each message, otherwise each room and member once.
fn dedup_key(event: &Payload, sequence: Sequence, rejection: &Rejection) -> (String, String) {
    let room = event.room_id().map(fold).unwrap_or_default();
    match event {
        Payload::MessageSent(_) => (room, sequence.to_string()),
        Payload::RoomJoined(fact) if rejection.code != Code::RoomExists => {
            (room, fact.mailbox.clone())
        }
        _ => (room, String::new()),
    }
}

/// The consequence of an outcome for a message in the outbox.
enum Answer {
    /// The relay holds the message.
    Relayed,
    /// Whether the relay still holds the message is unknown.
    Lost,
    Receipt {
        level: ReceiptLevel,
        code: Option<String>,
    },
    PushAgain,
}

fn answer(row: &OutboxMessage, relay: &str, outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Accepted | Outcome::Duplicate if row.relay.as_deref() != Some(relay) => {
            Answer::Relayed
        }
        Outcome::Delivered => Answer::Receipt { level: ReceiptLevel::Delivered, code: None },
        // A relay accepted the message once. It may have been delivered since, and a relay that has
        // lost data cannot know, so its rejection is not final.
        Outcome::Rejected(_) if row.relay.is_some() => {
            if row.relay.as_deref() == Some("") {
                Answer::PushAgain
            } else {
                Answer::Lost
            }
        }
        Outcome::Rejected(rejection) if !rejection.code.retryable() => Answer::Receipt {
            level: ReceiptLevel::Rejected,
            code: Some(rejection.code.name().to_owned()),
        },
        _ => Answer::PushAgain,
    }
}

/// A relay's answer as a receipt. A delivery is reported in the name of the recipient, a rejection
/// in the name of the relay.
fn receipt(
    sequence: Sequence,
    row: &OutboxMessage,
    level: ReceiptLevel,
    code: Option<String>,
    pushed: &Pushed,
    facts: &Facts<'_>,
) -> Receipt {
    let by = match level {
        ReceiptLevel::Delivered => Address::on(&row.alias, &row.host).to_string(),
        _ => pushed.relay_name.clone(),
    };
    Receipt {
        message_id: row.message_id.clone().into(),
        sender: Address::on(&row.from, &facts.actor.node_id).to_string(),
        origin: Origin {
            log: pushed.received.log.clone(),
            sequence,
            node: facts.actor.node_id.to_string(),
            digest: String::new(),
        },
        level,
        by,
        at_us: facts.now_us,
        code,
    }
}
