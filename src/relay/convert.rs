//! Conversion between batches of the relay protocol and batches of the rules.
//!
//! The relay and the connector exchange the types of [`crate::relay::protocol`] and decide with the
//! types of [`c2c_core`]. Those two do not depend on each other.

use c2c_log_format::Payload;
use c2c_log_format::id::hex;

use crate::broker::{Broker, RecordedEvent};
use crate::error::Failure;
use crate::relay::protocol::batch::{WireBatch, WireItem};
use crate::relay::protocol::cursor::{Digest, WireCursor, from_hex};
use c2c_core::code::Code;
use c2c_core::decide::{self, Position, Rejection};

/// Parses a log id.
pub fn parse_log_id(log_id: &str) -> Result<[u8; 16], Rejection> {
    from_hex(log_id).ok_or_else(|| {
        Rejection::new(Code::InvalidArgument, "log", "a log id consists of 32 hex digits")
    })
}

/// Converts a position to a cursor. At the beginning of a log, the digest is all zeros.
pub fn to_cursor(log: [u8; 16], position: &Position) -> WireCursor {
    let digest = from_hex(&position.digest).unwrap_or_default();
    WireCursor { log, sequence: position.sequence, digest: Digest(digest) }
}

/// Converts a cursor to a position. At the beginning of a log, the digest is empty.
pub fn to_position(cursor: &WireCursor) -> Position {
    let digest = if cursor.sequence == 0 { String::new() } else { hex(&cursor.digest.0) };
    Position { sequence: cursor.sequence, digest }
}

/// Converts a received batch. `node_id` is the node that owns the source log.
///
/// Fails with [`Code::BatchInvalid`] if an event is of another log or cannot be decoded, and with
/// [`Code::UpgradeNeeded`] if an event of a newer version must be understood.
pub fn to_decide(batch: &WireBatch, node_id: &str) -> Result<decide::Batch, Rejection> {
    let log = batch.start().log;
    let items = batch.items().iter().filter_map(|item| to_item(item, log).transpose());
    Ok(decide::Batch {
        log: hex(&log),
        node_id: node_id.into(),
        start: to_position(&batch.start()),
        items: items.collect::<Result<_, _>>()?,
        end: to_position(&batch.end()),
    })
}

/// Converts an event. Returns `None` for an event of a newer version that may be ignored.
fn to_item(item: &WireItem, log: [u8; 16]) -> Result<Option<decide::Item>, Rejection> {
    if item.log != log {
        let message = "the batch contains an event of another log";
        return Err(Rejection::new(Code::BatchInvalid, "items", message));
    }
    let (sequence, digest) = (item.head.sequence, hex(&item.digest.0));
    match Payload::decode(item.head.kind, &item.payload) {
        Some(Ok(payload)) => Ok(Some(decide::Item { sequence, digest, payload })),
        Some(Err(e)) => {
            let message = format!("event {sequence} cannot be decoded: {e}");
            Err(Rejection::new(Code::BatchInvalid, "items", message))
        }
        None if item.head.must_understand => {
            let message = format!("event {sequence} was written by a newer version of c2c");
            Err(Rejection::new(Code::UpgradeNeeded, "items", message).hint("update c2c"))
        }
        None => Ok(None),
    }
}

/// Adds the items of an event to a batch: all of them, or none if they do not fit. Returns whether
/// the batch accepts another event.
pub fn push_event(
    batch: &mut WireBatch,
    log: [u8; 16],
    event: &RecordedEvent,
    leaving: Vec<Payload>,
) -> bool {
    let position = cursor_of(log, event);
    if leaving.is_empty() {
        batch.skip_to(position);
        return true;
    }
    let items: Vec<WireItem> =
        leaving.iter().map(|payload| to_wire_item(log, event, payload)).collect();
    if !batch.fits(&items) {
        return false;
    }
    for item in items {
        batch.push(item, position);
    }
    !batch.is_full()
}

/// Converts one payload that an event replicates as. If it is the event's own payload, the item keeps
/// the recorded bytes and digest.
pub fn to_wire_item(log: [u8; 16], event: &RecordedEvent, payload: &Payload) -> WireItem {
    if event.payload.as_ref() == Some(payload) {
        return WireItem {
            log,
            time_us: event.time_us,
            head: event.head,
            payload: event.bytes.clone(),
            digest: Digest(event.digest()),
        };
    }
    WireItem::new(log, event.head.sequence, event.time_us, payload)
}

/// The position of an event in its log.
pub fn cursor_of(log: [u8; 16], event: &RecordedEvent) -> WireCursor {
    WireCursor { log, sequence: event.head.sequence, digest: Digest(event.digest()) }
}

/// Whether the log holds the event of a position.
pub fn holds_position(broker: &mut Broker, position: &Position) -> Result<bool, Failure> {
    if position.sequence == 0 {
        return Ok(position.digest.is_empty());
    }
    let events = broker.fetch(&[position.sequence])?;
    Ok(events.first().is_some_and(|event| hex(&event.digest()) == position.digest))
}
