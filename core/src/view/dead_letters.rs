//! Messages that could not be delivered.

use c2c_log_format::Sequence;

use super::types::{DeadLetterView, MessageView};
use crate::state::{DeadLetter, MessageRef, State, sequence_in_key};

/// References to the messages that [`with_messages`] needs.
pub fn references(state: &State) -> Vec<MessageRef> {
    let rows = state.dead_letters.scan([]);
    rows.iter().map(|(key, _)| MessageRef::new(sequence_in_key(key), None)).collect()
}

/// All dead letters, oldest first, each with its message. `messages` must be sorted by sequence; a
/// dead letter whose message is missing there gets `None`.
pub fn with_messages(state: &State, messages: &[MessageView]) -> Vec<DeadLetterView> {
    let mut rows: Vec<(Sequence, DeadLetter)> = state
        .dead_letters
        .scan([])
        .into_iter()
        .map(|(key, row)| (sequence_in_key(&key), row))
        .collect();
    rows.sort_by_key(|(sequence, _)| *sequence);
    rows.into_iter()
        .map(|(sequence, letter)| {
            let index = messages.binary_search_by_key(&sequence, |message| message.sequence);
            DeadLetterView { letter, message: index.ok().map(|index| messages[index].clone()) }
        })
        .collect()
}
