//! Events inside a batch: a binary head and a JSON payload.
//!
//! ```text
//! offset  size  field
//!      0     2  kind
//!      2     1  flags: bit 0 must be understood
//!      3     1  schema version of the kind
//!      4     4  payload length in bytes
//!      8     8  sequence
//!     16     8  hash of the mailbox or room concerned, 0 for none
//!     24     8  hash of the acting mailbox, 0 for none
//!     32     8  hash of the message_id, 0 for none
//!     40     n  payload, JSON
//! ```
//!
//! A reader interested in one mailbox filters by the head and parses only the matching payloads.

use alloc::vec::Vec;

use crate::Sequence;
use crate::bytes::{slice, u16_at, u32_at, u64_at};
use crate::checksum::sha256;
use crate::error::{FormatError, Problem};
use crate::limits::EVENT_HEAD_BYTES;

const FLAG_MUST_UNDERSTAND: u8 = 1;

/// The binary head of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead {
    /// Number of the kind; see [`crate::payload`].
    pub kind: u16,
    /// Whether a reader that does not know the kind must not write to the log.
    pub must_understand: bool,
    /// Version of the payload's schema.
    pub schema: u8,
    /// Sequence of the event.
    pub sequence: Sequence,
    /// Hash of the mailbox or room concerned.
    pub scope: u64,
    /// Hash of the acting mailbox.
    pub actor: u64,
    /// Hash of the message_id.
    pub message: u64,
}

/// An encoded event in a batch: its head and the bytes of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The binary head.
    pub head: EventHead,
    /// The JSON payload, unparsed.
    pub payload: &'a [u8],
}

impl EventHead {
    /// Appends the head and `payload` to a batch.
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) {
        self.encode_with(out, |out| out.extend_from_slice(payload));
    }

    /// Appends the head and the bytes that `payload` appends, and fills in their length.
    pub fn encode_with(&self, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
        let at = out.len();
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.push(if self.must_understand { FLAG_MUST_UNDERSTAND } else { 0 });
        out.push(self.schema);
        let length = out.len()..out.len() + 4;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.scope.to_le_bytes());
        out.extend_from_slice(&self.actor.to_le_bytes());
        out.extend_from_slice(&self.message.to_le_bytes());
        payload(out);
        let written = (out.len() - at - EVENT_HEAD_BYTES) as u32;
        out[length].copy_from_slice(&written.to_le_bytes());
    }
}

impl Event<'_> {
    /// Returns the digest by which other logs identify this event: the SHA-256 of its time, head
    /// and payload.
    ///
    /// The time is included so that a log restored from a copy, which may write the same payload at
    /// the same sequence again, is not mistaken for the original log.
    pub fn digest(&self, time_us: u64) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(8 + EVENT_HEAD_BYTES + self.payload.len());
        bytes.extend_from_slice(&time_us.to_le_bytes());
        self.head.encode(self.payload, &mut bytes);
        sha256(&bytes)
    }
}

/// Iterator over the events of a batch, in order; it ends after the first error.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    body: &'a [u8],
    offset: usize,
    expected: Sequence,
    left: u16,
}

/// Iterates over the `count` events in the body of a frame; `first` is the sequence of the first
/// one.
pub fn events(body: &[u8], first: Sequence, count: u16) -> Events<'_> {
    Events { body, offset: 0, expected: first, left: count }
}

impl<'a> Events<'a> {
    fn read(&mut self) -> Result<Event<'a>, FormatError> {
        let at = self.offset;
        let flags = *slice(self.body, at + 2, 1)?.first().unwrap_or(&0);
        let head = EventHead {
            kind: u16_at(self.body, at)?,
            must_understand: flags & FLAG_MUST_UNDERSTAND != 0,
            schema: *slice(self.body, at + 3, 1)?.first().unwrap_or(&0),
            sequence: u64_at(self.body, at + 8)?,
            scope: u64_at(self.body, at + 16)?,
            actor: u64_at(self.body, at + 24)?,
            message: u64_at(self.body, at + 32)?,
        };
        if head.sequence != self.expected {
            return Err(FormatError::at(at + 8, Problem::Implausible));
        }
        let len = u32_at(self.body, at + 4)? as usize;
        let payload = slice(self.body, at + EVENT_HEAD_BYTES, len)?;
        self.offset = at + EVENT_HEAD_BYTES + len;
        // The frame header was checked: its sequences do not overflow.
        self.expected = self.expected.saturating_add(1);
        self.left -= 1;
        if self.left == 0 && self.offset != self.body.len() {
            return Err(FormatError::at(self.offset, Problem::Implausible));
        }
        Ok(Event { head, payload })
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Result<Event<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let event = self.read();
        if event.is_err() {
            self.left = 0;
        }
        Some(event)
    }
}
