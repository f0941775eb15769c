//! How does a batch on the wire become one to decide on, and back?
//!
//! The relay and the connector speak the protocol of `wire` and decide by `decide`, which know
//! nothing of each other.

use c2c_log_format::Payload;
use c2c_log_format::id::hex;

use crate::broker::{Broker, Kept};
use crate::code::Code;
use crate::decide::{self, Position, Refusal};
use crate::failure::Failure;
use crate::wire::cursor::{Digest, from_hex};
use crate::wire::{Batch, Cursor, Item};

/// The bytes of a log id.
pub fn log_bytes(log_id: &str) -> Result<[u8; 16], Refusal> {
    let named = from_hex(log_id);
    named.ok_or_else(|| Refusal::new(Code::InvalidArgument, "log", "a log id is 32 hex digits"))
}

/// A place on the wire; the beginning of a log has no digest.
pub fn to_cursor(log: [u8; 16], position: &Position) -> Cursor {
    let digest = from_hex(&position.digest).unwrap_or_default();
    Cursor { log, sequence: position.sequence, digest: Digest(digest) }
}

/// A place to decide on.
pub fn to_position(cursor: &Cursor) -> Position {
    let digest = if cursor.sequence == 0 { String::new() } else { hex(&cursor.digest.0) };
    Position { sequence: cursor.sequence, digest }
}

/// A batch that came, as one to decide on. `node_id` is who keeps the log that it was read from.
pub fn to_decide(batch: &Batch, node_id: &str) -> Result<decide::Batch, Refusal> {
    let log = batch.begins().log;
    let items = batch.items().iter().filter_map(|item| to_item(item, log).transpose());
    Ok(decide::Batch {
        log: hex(&log),
        node_id: node_id.to_owned(),
        start: to_position(&batch.begins()),
        items: items.collect::<Result<_, _>>()?,
        end: to_position(&batch.upto()),
    })
}

/// `None` for what a newer program says that an older one need not understand.
fn to_item(item: &Item, log: [u8; 16]) -> Result<Option<decide::Item>, Refusal> {
    if item.log != log {
        let message = "an event of a log that the batch was not read from";
        return Err(Refusal::new(Code::BatchInvalid, "items", message));
    }
    let (sequence, digest) = (item.head.sequence, hex(&item.digest.0));
    match Payload::decode(item.head.kind, &item.payload) {
        Some(Ok(payload)) => Ok(Some(decide::Item { sequence, digest, payload })),
        Some(Err(e)) => {
            let message = format!("event {sequence} cannot be read: {e}");
            Err(Refusal::new(Code::BatchInvalid, "items", message))
        }
        None if item.head.must_understand => {
            let message = format!("event {sequence} is of a newer c2c");
            Err(Refusal::new(Code::UpgradeNeeded, "items", message).hint("update c2c"))
        }
        None => Ok(None),
    }
}

/// Takes what leaves because of an event into a batch, all of it or nothing; whether another event
/// may follow. What leaves as it is keeps its bytes.
pub fn push(batch: &mut Batch, log: [u8; 16], event: &Kept, leaving: Vec<Payload>) -> bool {
    let place = place_of(log, event);
    if leaving.is_empty() {
        batch.pass(place);
        return true;
    }
    let items: Vec<Item> = leaving.iter().map(|payload| item_of(log, event, payload)).collect();
    if !batch.has_room(&items) {
        return false;
    }
    for item in items {
        batch.push(item, place);
    }
    !batch.is_full()
}

/// An event that the other side has seen and not taken, once more.
pub fn item_of(log: [u8; 16], event: &Kept, payload: &Payload) -> Item {
    if event.payload.as_ref() == Some(payload) {
        let (time_us, head, digest) = (event.time_us, event.head, Digest(event.digest()));
        return Item { log, time_us, head, payload: event.bytes.clone(), digest };
    }
    Item::new(log, event.head.sequence, event.time_us, payload)
}

/// The place of an event.
pub fn place_of(log: [u8; 16], event: &Kept) -> Cursor {
    Cursor { log, sequence: event.head.sequence, digest: Digest(event.digest()) }
}

/// Whether a log holds that place.
pub fn holds(broker: &mut Broker, position: &Position) -> Result<bool, Failure> {
    if position.sequence == 0 {
        return Ok(position.digest.is_empty());
    }
    let there = broker.fetch(&[position.sequence])?;
    Ok(there.first().is_some_and(|event| hex(&event.digest()) == position.digest))
}
