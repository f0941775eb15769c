//! Keys of rows: pairs of names, or a name and a sequence.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;

/// Returns the key of a row that belongs to two names, or to a name and a sequence.
pub fn compound_key(first: &str, second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + 1 + second.len());
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second);
    key
}

/// Returns the sequence at the end of a key, or 0 if the key is too short.
pub fn sequence_in_key(key: &[u8]) -> Sequence {
    key.last_chunk().map_or(0, |tail| Sequence::from_be_bytes(*tail))
}

/// Returns the first name in a key of two names.
pub(super) fn first_of(key: &[u8]) -> String {
    let first = key.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(first).into_owned()
}

/// Returns the second name in a key of two names.
pub fn second_name_in_key(key: &[u8]) -> String {
    let second = key.splitn(2, |byte| *byte == 0).nth(1).unwrap_or(&[]);
    String::from_utf8_lossy(second).into_owned()
}

/// Returns the key of an open message in the outbox, by the sender's alias and the message_id.
pub(super) fn departure_key(from: &str, message_id: &str) -> Vec<u8> {
    compound_key(&fold(from), message_id.as_bytes())
}

/// Returns the key of an open message from another log, by the sender's address and the
/// message_id.
pub(super) fn arrival_key(sender: &str, message_id: &str) -> Vec<u8> {
    compound_key(&fold(sender), message_id.as_bytes())
}

/// Returns the key of a peer or binding, by two names that are compared without regard to case.
pub(super) fn folded_pair(first: &str, second: &str) -> Vec<u8> {
    compound_key(&fold(first), fold(second).as_bytes())
}
