//! Reading recorded events by sequence.

use c2c_log_format::{Event, EventHead, Payload, Sequence};

use super::Broker;
use super::message_index::MessageIndex;
use crate::error::Failure;
use crate::store::EventRef;

/// Events are fetched in chunks of this many ...
const EVENTS_CHUNK: Sequence = 16;
/// ... and fetching stops when they hold this many bytes.
const EVENTS_BYTES: usize = 1024 * 1024;

/// One event as recorded in the log.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    pub head: EventHead,
    /// Time of its frame, microseconds since 1970 UTC.
    pub time_us: u64,
    /// The encoded payload.
    pub bytes: Vec<u8>,
    /// The decoded payload; `None` for a kind that this version does not know.
    pub payload: Option<Payload>,
}

impl RecordedEvent {
    fn of(stored: &EventRef<'_>) -> Self {
        let Event { head, payload } = *stored.event;
        Self {
            head,
            time_us: stored.time_us,
            bytes: payload.to_vec(),
            payload: Payload::decode(head.kind, payload).and_then(Result::ok),
        }
    }

    /// The digest that identifies this event in other logs.
    pub fn digest(&self) -> [u8; 32] {
        Event { head: self.head, payload: &self.bytes }.digest(self.time_us)
    }
}

/// # Recorded events
impl Broker {
    /// The events with these sequences. Missing ones are left out.
    pub fn fetch(&mut self, sequences: &[Sequence]) -> Result<Vec<RecordedEvent>, Failure> {
        let mut events = Vec::with_capacity(sequences.len());
        self.store.fetch(sequences, &mut |stored| events.push(RecordedEvent::of(&stored)))?;
        Ok(events)
    }

    /// The next events after a sequence, in order, and the sequence up to which they were read.
    ///
    /// Reads at most `most` sequences, no further than this broker's state, and stops early when the
    /// events hold more than `EVENTS_BYTES`.
    pub fn events_after(
        &mut self,
        after: Sequence,
        most: u64,
    ) -> Result<(Vec<RecordedEvent>, Sequence), Failure> {
        let (mut at, upto) = (after, self.state.head.min(after.saturating_add(most)));
        let mut events = Vec::new();
        let mut bytes = 0;
        while at < upto && bytes < EVENTS_BYTES {
            let next = upto.min(at + EVENTS_CHUNK);
            let sequences: Vec<Sequence> = (at + 1..=next).collect();
            let chunk = self.fetch(&sequences)?;
            bytes += chunk.iter().map(|event| event.bytes.len()).sum::<usize>();
            events.extend(chunk);
            at = next;
        }
        Ok((events, at))
    }

    /// Starts an index of messages by id, so that finding them does not read the log. Another thread
    /// reads the log once. A store that has its own index, or is in memory, needs none.
    pub fn index_message_ids(&mut self) -> Result<(), Failure> {
        self.catch_up()?;
        self.start_message_index();
        Ok(())
    }

    pub(super) fn start_message_index(&mut self) {
        if self.store.finds_by_id() {
            return;
        }
        if let Some(reopen) = self.store.reopen() {
            self.message_index = MessageIndex::start(reopen, self.state.head);
        }
    }
}
