//! Replication: events that arrive from another log or leave this one.
//!
//! Both ends follow the same rules: a batch starts where the one before ended, each item is taken
//! once, and the frame that records the items also moves the cursor.

mod intake;
pub(super) mod node;
pub(super) mod outgoing;
pub(super) mod registration;
mod relay;
pub(super) mod served;

use c2c_log_format::Payload;
use c2c_log_format::payload::{CursorAdvanced, CursorDirection};

use self::intake::{Intake, cursor_advanced};
use crate::batch::{Batch, Position, Received};
use crate::code::Code;
use crate::command::AdvanceCursor;
use crate::facts::Facts;
use crate::rejection::Rejection;
use crate::reply::Decision;
use crate::state::{ReplicationCursor, State};

/// Takes in a batch of another log: at a relay one that a node pushed, at a node one that it
/// fetched from a relay.
pub(super) fn receive(
    state: &State,
    batch: &Batch,
    facts: &Facts<'_>,
) -> Result<Decision<Received>, Rejection> {
    let cursor = state.cursor(&CursorDirection::In, &batch.log);
    check_start(&cursor, &batch.start)?;
    if !batch.items.is_empty() && batch.end == batch.start {
        // The cursor is how a log that was restored to before this batch shows it.
        let message = "a batch with items must move the cursor";
        return Err(Rejection::new(Code::InvalidArgument, "end", message));
    }
    if facts.relay.is_some() {
        relay::check_owner(state, batch, &cursor, facts)?;
    }
    let mut intake = Intake::new(state, batch, facts);
    if facts.relay.is_some() {
        relay::bind_senders(&mut intake);
    }
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut receipts = Vec::new();
    for item in &batch.items {
        let outcome = match facts.relay {
            Some(relay) => relay::take_in(&mut intake, item, relay)?,
            None => node::take_in(&mut intake, item, &mut receipts),
        };
        outcomes.push((item.sequence, outcome));
    }
    let mut events = intake.into_events();
    events.extend(node::receipts_to_send(receipts));
    if batch.end != batch.start {
        let key = facts.actor.key.clone().filter(|_| facts.relay.is_some()).unwrap_or_default();
        let (log, node_id) = (batch.log.clone(), batch.node_id.clone());
        events.push(cursor_advanced(CursorDirection::In, log, node_id, &batch.end, key));
    }
    let received = Received { log: batch.log.clone(), position: batch.end.clone(), outcomes };
    Ok(Decision::durable(events, received))
}

/// The event that moves a cursor which no batch moves.
pub(super) fn advance(command: &AdvanceCursor) -> Payload {
    let AdvanceCursor { direction, log, node_id, position } = command.clone();
    cursor_advanced(direction, log, node_id, &position, String::new())
}

/// Checks that a batch starts at the cursor. The same sequence with another digest means that the
/// other log was replaced.
fn check_start(cursor: &ReplicationCursor, start: &Position) -> Result<(), Rejection> {
    if cursor.sequence == start.sequence && cursor.digest == start.digest {
        return Ok(());
    }
    let (code, message) = if cursor.sequence == start.sequence {
        let message = format!("the log has a different event at sequence {}", start.sequence);
        (Code::OriginDiverged, message)
    } else {
        let message = format!(
            "the batch starts at {}, but the cursor is at {}",
            start.sequence, cursor.sequence
        );
        (Code::CursorDiverged, message)
    };
    let mut rejection = Rejection::new(code, "start", message);
    rejection.expected = Some(Box::new(cursor.clone()));
    Err(rejection)
}

/// Records how far a node has read this relay's log, as stated by its next request. A node that
/// starts from the beginning has lost its data, and gets only what it never confirmed.
pub(super) fn confirm(
    state: &State,
    log: &str,
    node_id: &str,
    position: &Position,
    facts: &Facts<'_>,
) -> Result<Decision<()>, Rejection> {
    let batch = Batch { log: log.into(), node_id: node_id.into(), ..Batch::default() };
    relay::check_owner(state, &batch, &state.cursor(&CursorDirection::In, log), facts)?;
    let cursor = state.cursor(&CursorDirection::Out, log);
    let is_restart = position.sequence == 0;
    let mut events = Vec::new();
    if cursor.sequence != position.sequence || cursor.node_id.is_empty() {
        events.push(Payload::CursorAdvanced(CursorAdvanced {
            direction: CursorDirection::Out,
            log: log.to_owned(),
            node_id: node_id.to_owned(),
            sequence: position.sequence,
            digest: position.digest.clone(),
            public_key: facts.actor.key.clone().unwrap_or_default(),
            floor: is_restart.then_some(state.head),
        }));
    }
    Ok(Decision { events, outcome: Ok(()), durable: is_restart })
}
