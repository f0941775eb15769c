//! Batches of replicated events, and the answers to them.
//!
//! A leaf of the directory: commands and replies contain these types.

use c2c_log_format::{Payload, Sequence};

use super::ids::NodeId;
use super::rejection::Rejection;

/// A position in a log: a sequence, and the digest of the event there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Sequence of the last event before the position; 0 before the first event.
    pub sequence: Sequence,
    /// Hexadecimal; empty before the first event.
    pub digest: String,
}

/// Events of another log, between two positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Id of the log that the events are from.
    pub log: String,
    /// Node that keeps that log.
    pub node_id: NodeId,
    /// Position after which the batch begins.
    pub start: Position,
    /// In order of sequence. Items before `start` are retries.
    pub items: Vec<Item>,
    /// How far the log was read, whether or not an event there became an item.
    pub end: Position,
}

/// One event, in the form in which it leaves its log. An event may leave as several items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Sequence of the event in its log.
    pub sequence: Sequence,
    /// Digest of the event in its log.
    pub digest: String,
    /// Payload in its replicated form.
    pub payload: Payload,
}

/// Result for one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Recorded in this log.
    Accepted,
    /// Received before, not yet delivered.
    Duplicate,
    /// Received before, and delivered.
    Delivered,
    /// Not recorded, for this reason.
    Rejected(Rejection),
}

/// Answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Id of the log that the items are from.
    pub log: String,
    /// Where the next batch of that log starts.
    pub position: Position,
    /// Results by sequence of the item, in the order of the batch.
    pub outcomes: Vec<(Sequence, Outcome)>,
}

/// A relay's answer to a batch that this node pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Log id of the relay.
    pub relay: String,
    /// Name of the relay.
    pub relay_name: String,
    /// The relay's answer about the items.
    pub received: Received,
    /// The room events among the rejected items: the state does not keep them.
    pub rejected_room_events: Vec<(Sequence, Payload)>,
}

/// The answer of an older relay to a request that sent one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestAnswer {
    /// The relay accepted the event. It does not report what happens to it afterwards.
    Accepted,
    /// The relay accepted the event, and may have accepted it before.
    MaybeRepeated,
    /// The relay did not accept the event, and will not.
    Rejected(Rejection),
    /// Whether the relay accepted the event is unknown, and it is not sent again, for this reason.
    Unknown(Rejection),
    /// The event was not sent, and will be.
    NotSent,
}
