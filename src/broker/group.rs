//! How does one process serve many callers: what it keeps at hand, and one sync for several commands?

use std::collections::HashMap;

use c2c_log_format::{Event, EventHead, Payload, Sequence};

use super::Broker;
use crate::failure::Failure;
use crate::store::{StoreError, Stored};

/// One event as it lies in the log.
#[derive(Debug, Clone)]
pub struct Kept {
    pub head: EventHead,
    pub time_us: u64,
    pub bytes: Vec<u8>,
    /// What it says; `None` for a kind that this program does not know.
    pub payload: Option<Payload>,
}

impl Kept {
    fn of(stored: &Stored<'_>) -> Self {
        let Event { head, payload } = *stored.event;
        let read = Payload::decode(head.kind, payload).and_then(Result::ok);
        Self { head, time_us: stored.time_us, bytes: payload.to_vec(), payload: read }
    }

    /// Its digest, by which other logs know it.
    pub fn digest(&self) -> [u8; 32] {
        Event { head: self.head, payload: &self.bytes }.digest(self.time_us)
    }
}

/// Sequences of messages by the hash of their id.
#[derive(Default)]
pub(super) struct Ids(HashMap<u64, Vec<Sequence>>);

impl Ids {
    pub fn note(&mut self, head: &EventHead) {
        if head.message != 0 {
            self.0.entry(head.message).or_default().push(head.sequence);
        }
    }

    pub fn find(&self, hashes: &[u64]) -> Vec<Sequence> {
        hashes.iter().filter_map(|hash| self.0.get(hash)).flatten().copied().collect()
    }
}

impl Broker {
    /// Reads the whole log once, so that messages are found by their id without another look.
    pub fn remember_ids(&mut self) -> Result<(), Failure> {
        self.ids = None;
        self.catch_up()?;
        Ok(self.index_ids()?)
    }

    pub(super) fn index_ids(&mut self) -> Result<(), StoreError> {
        let (mut ids, head) = (Ids::default(), self.state.head);
        self.store.search(
            &|row| row.message != 0 && row.sequence <= head,
            &mut |stored| ids.note(&stored.event.head),
            &|| false,
        )?;
        self.ids = Some(ids);
        Ok(())
    }

    /// Events by sequence, as they lie in the log; those that are gone are left out.
    pub fn fetch(&mut self, sequences: &[Sequence]) -> Result<Vec<Kept>, Failure> {
        let mut found = Vec::with_capacity(sequences.len());
        self.store.fetch(sequences, &mut |stored| found.push(Kept::of(&stored)))?;
        Ok(found)
    }

    /// The next events after a sequence, in order, as far as this broker has read.
    pub fn events_after(&mut self, after: Sequence, most: u64) -> Result<Vec<Kept>, Failure> {
        let upto = self.state.head.min(after.saturating_add(most));
        let wanted: Vec<Sequence> = (after + 1..=upto).collect();
        self.fetch(&wanted)
    }

    /// From here on commands do not wait for the disk one by one: [`Self::commit_group`] does it for
    /// all of them, and nobody may be told of any before.
    pub fn begin_group(&mut self) {
        self.group = Some(0);
    }

    /// Waits until everything since [`Self::begin_group`] is on disk. An error means that of all of
    /// it nobody knows.
    pub fn commit_group(&mut self) -> Result<(), Failure> {
        let wait_for = self.group.take().unwrap_or_default();
        Ok(self.store.wait_durable(wait_for)?)
    }

    pub(super) fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError> {
        match &mut self.group {
            Some(wait_for) => {
                *wait_for = sequence.max(*wait_for);
                Ok(())
            }
            None => self.store.wait_durable(sequence),
        }
    }
}
