//! The history of one message: every event that mentions it.

use c2c_log_format::payload::{LegacyDelivered, MessageSent, Receipt, RoomRange, Target};
use c2c_log_format::{Payload, Sequence};

use super::history::delivered_by_older;
use super::types::{LoggedEvent, MessageTrace, MessageView, TraceStep};
use crate::address::folded_alias;
use crate::ids::RoomId;
use crate::limits::UNCONFIRMED_AFTER_S;
use crate::state::State;

/// Whether events of a kind can mention a message: claims, acks, moves, relaying and receipts.
pub fn may_mention(kind: u16) -> bool {
    (201..=208).contains(&kind) || (504..=506).contains(&kind)
}

/// Whether a message queued at `queued_us` waits for a receipt for longer than the limit.
pub(super) fn is_unconfirmed(queued_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(queued_us) >= UNCONFIRMED_AFTER_S * 1_000_000
}

/// A message as it was accepted, with its position and time in the log.
#[derive(Debug, Clone)]
pub struct AcceptedMessage {
    /// Sequence of the message in this log.
    pub sequence: Sequence,
    /// Time of its frame, microseconds since 1970 UTC.
    pub time_us: u64,
    /// The message.
    pub sent: MessageSent,
}

/// The trace of a message. `later` holds the events after it whose kind [`may_mention`] a message, in
/// any order.
pub fn trace(
    state: &State,
    accepted: AcceptedMessage,
    mut later: Vec<LoggedEvent>,
    now_us: u64,
) -> MessageTrace {
    let AcceptedMessage { sequence, time_us, sent } = accepted;
    let mut hops =
        vec![TraceStep { sequence, time_us, what: "accepted".into(), who: sent.from.clone() }];
    let room_id = match &sent.target {
        Target::Room { room_id, .. } => Some(RoomId::from(room_id)),
        _ => None,
    };
    let mut open_claims: Vec<String> = Vec::new();
    later.sort_unstable_by_key(|event| event.sequence);
    for event in later {
        let step = mention(&event.payload, sequence, room_id.as_deref(), &mut open_claims)
            .or_else(|| receipt(&event.payload, &sent));
        if let Some((what, who)) = step {
            hops.push(TraceStep { sequence: event.sequence, time_us: event.time_us, what, who });
        }
    }
    let queued = state.outbox.get(sequence.to_be_bytes());
    let open_since_us = queued.map(|row| row.queued_us);
    MessageTrace {
        message: Some(MessageView::new(sequence, sent, room_id)),
        hops,
        open_since_us,
        unconfirmed: open_since_us.is_some_and(|queued_us| is_unconfirmed(queued_us, now_us)),
    }
}

/// The trace of a message that an older version delivered. `time_us` is the time of its import.
pub fn trace_of_older(sequence: Sequence, time_us: u64, fact: &LegacyDelivered) -> MessageTrace {
    let surface = if fact.surface.is_empty() { "an older version" } else { &fact.surface };
    let step = |time_us, what: String, who: &str| TraceStep {
        sequence,
        time_us,
        what,
        who: who.to_owned(),
    };
    let delivered = step(fact.drained_us, format!("drained by {surface}"), &fact.mailbox);
    MessageTrace {
        hops: vec![delivered, step(time_us, "imported as history".into(), "")],
        message: Some(delivered_by_older(sequence, fact)),
        ..MessageTrace::default()
    }
}

/// What a receipt from another log reports about a message, and which node reported it.
fn receipt(payload: &Payload, sent: &MessageSent) -> Option<(String, String)> {
    let Payload::ReceiptsRecorded(fact) = payload else { return None };
    let is_for_message = |receipt: &&Receipt| {
        receipt.message_id == sent.message_id
            && folded_alias(&receipt.sender) == folded_alias(&sent.from)
    };
    let receipt = fact.receipts.iter().find(is_for_message)?;
    let what = match &receipt.code {
        Some(code) => format!("{}: {code}", receipt.level),
        None => receipt.level.to_string(),
    };
    Some((what, receipt.by.clone()))
}

/// What an event records about the message at `sequence`, and the mailbox, node or relay concerned.
/// `open_claims` collects the claims that hold the message.
fn mention(
    payload: &Payload,
    sequence: Sequence,
    room: Option<&str>,
    open_claims: &mut Vec<String>,
) -> Option<(String, String)> {
    match payload {
        Payload::InboxClaimed(fact) => {
            let in_room =
                |range: &RoomRange| Some(range.room_id.as_str()) == room && range.upto >= sequence;
            if !fact.messages.contains(&sequence) && !fact.rooms.iter().any(in_room) {
                return None;
            }
            open_claims.push(fact.claim.clone());
            Some((format!("claimed by {}", fact.surface), fact.mailbox.clone()))
        }
        Payload::ClaimAcked(fact) if open_claims.contains(&fact.claim) => {
            open_claims.retain(|claim| *claim != fact.claim);
            Some((fact.level.to_string(), fact.mailbox.clone()))
        }
        Payload::ClaimReturned(fact) if open_claims.contains(&fact.claim) => {
            Some((format!("returned: {}", fact.reason), fact.mailbox.clone()))
        }
        Payload::AckRefused(fact) if open_claims.contains(&fact.claim) => {
            Some(("late ack refused".into(), fact.mailbox.clone()))
        }
        Payload::MessagesExpired(fact) if fact.messages.contains(&sequence) => {
            Some(("expired unread".into(), fact.mailbox.clone()))
        }
        Payload::MessagesDeadLettered(fact) if fact.messages.contains(&sequence) => {
            Some((format!("dead letter: {}", fact.reason), fact.mailbox.clone()))
        }
        Payload::DeadLettersReturned(fact) if fact.messages.contains(&sequence) => {
            Some(("redelivered from the dead letters".into(), fact.mailbox.clone()))
        }
        Payload::DeadLettersPurged(fact) if fact.messages.contains(&sequence) => {
            Some(("purged from the dead letters".into(), String::new()))
        }
        Payload::RoomLabelled(fact) => {
            let (_, label) = fact.labels.iter().find(|(at, _)| *at == sequence)?;
            Some(("relayed".into(), format!("as message {label} of {}", fact.room_id)))
        }
        Payload::MessagesRelayed(fact) if fact.messages.contains(&sequence) => {
            let what = if fact.relay.is_empty() { "lost by the relay" } else { "relayed" };
            Some((what.into(), fact.relay.clone()))
        }
        _ => None,
    }
}
