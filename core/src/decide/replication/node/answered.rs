//! Answers of an older relay to requests that sent one event each.

use c2c_log_format::Payload;
use c2c_log_format::payload::{CursorDirection, MessagesRelayed, Origin, Receipt, ReceiptLevel};

use super::notices::{origin_of_relay, record_receipts, system_message};
use super::rejected::rejected_in_room;
use crate::address::Address;
use crate::batch::{Position, Pushed, Received, RequestAnswer};
use crate::code::Code;
use crate::command::RecordAnswer;
use crate::decide::replication::intake::cursor_advanced;
use crate::facts::Facts;
use crate::ids::NodeId;
use crate::rejection::Rejection;
use crate::reply::Decision;
use crate::state::{OutboxMessage, State};

/// Records an answer in one frame with the end of the request and, for a room event, the progress.
pub(in crate::decide) fn answered(
    state: &State,
    answer: &RecordAnswer,
    facts: &Facts<'_>,
) -> Decision<()> {
    let mut events = Vec::new();
    if let Some(row) = state.outbox.get(answer.sequence.to_be_bytes()) {
        events.extend(direct(state, answer, &row, facts));
    } else if let (Some(event), RequestAnswer::Rejected(rejection)) =
        (&answer.room_event, &answer.answer)
    {
        events.extend(rejected_in_room(state, event, rejection, &as_pushed(answer), facts));
    }
    if state.cursor(&CursorDirection::Out, &answer.attempts).sequence == answer.sequence {
        events.push(cursor(answer, &answer.attempts, Position::default()));
    }
    let progress = Position { sequence: answer.sequence, digest: String::new() };
    let is_new = state.cursor(&CursorDirection::Out, &answer.relay).sequence < answer.sequence;
    if answer.room_event.is_some() && is_new && answer.answer != RequestAnswer::NotSent {
        events.push(cursor(answer, &answer.relay, progress));
    }
    Decision::durable(events, ())
}

fn cursor(answer: &RecordAnswer, log: &str, position: Position) -> Payload {
    let (log, node_id) = (log.to_owned(), NodeId::from(answer.relay_name.as_str()));
    cursor_advanced(CursorDirection::Out, log, node_id, &position, String::new())
}

/// The answer as one to a push, for the rules that both have in common.
fn as_pushed(answer: &RecordAnswer) -> Pushed {
    Pushed {
        relay: answer.relay.clone(),
        relay_name: answer.relay_name.clone(),
        received: Received {
            log: answer.log.clone(),
            position: Position::default(),
            outcomes: Vec::new(),
        },
        rejected_room_events: Vec::new(),
    }
}

/// The events that follow from the answer about a message in the outbox. An older relay sends no
/// receipts, so that an accepted message leaves the outbox.
fn direct(
    state: &State,
    answer: &RecordAnswer,
    row: &OutboxMessage,
    facts: &Facts<'_>,
) -> Vec<Payload> {
    let (level, code) = match &answer.answer {
        RequestAnswer::NotSent => return Vec::new(),
        RequestAnswer::Accepted => (ReceiptLevel::Unconfirmed, None),
        RequestAnswer::MaybeRepeated | RequestAnswer::Unknown(_) => {
            (ReceiptLevel::Unconfirmed, Some(Code::OutcomeUnknown))
        }
        RequestAnswer::Rejected(rejection) => (ReceiptLevel::Rejected, Some(rejection.code)),
    };
    let mut events = Vec::new();
    if matches!(answer.answer, RequestAnswer::Accepted | RequestAnswer::MaybeRepeated) {
        let (messages, relay) = (vec![answer.sequence], answer.relay.clone());
        events.push(Payload::MessagesRelayed(MessagesRelayed { messages, relay }));
    }
    let by = match level {
        ReceiptLevel::Rejected => answer.relay_name.clone(),
        // In the name of the recipient, because only the recipient closes a message.
        _ => Address::on(&row.alias, &row.host).to_string(),
    };
    let receipt = Receipt {
        message_id: row.message_id.to_string(),
        sender: Address::on(&row.from, &facts.actor.node_id).to_string(),
        origin: Origin {
            log: answer.log.clone(),
            sequence: answer.sequence,
            node: facts.actor.node_id.to_string(),
            digest: String::new(),
        },
        level,
        by,
        at_us: facts.now_us,
        code: code.map(|code| code.name().to_owned()),
    };
    let origin = origin_of_relay(&as_pushed(answer));
    events.extend(record_receipts(state, vec![receipt], origin, facts));
    if let RequestAnswer::Unknown(rejection) = &answer.answer {
        events.push(unknown_outcome(row, rejection, facts));
    }
    events
}

/// Tells a sender that its message may or may not have been delivered.
fn unknown_outcome(row: &OutboxMessage, rejection: &Rejection, facts: &Facts<'_>) -> Payload {
    let body = format!(
        "It is unknown whether your message {} to {}@{} was delivered: the relay did not answer \
         the first request, and then: {}. It is not sent again.",
        row.message_id, row.alias, row.host, rejection.message
    );
    system_message(&row.from, &row.from_mailbox, body, Some(&row.message_id), facts)
}
