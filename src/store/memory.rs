//! Events in memory, lost when the process ends.

use std::collections::HashMap;
use std::time::Duration;

use c2c_log_format::{Event, EventHead, Payload, Sequence};

use super::{Changes, Checkpoints, EventRef, EventStore, Inspect, StoreError};
use crate::log::{Appended, Durability};

struct MemoryEvent {
    head: EventHead,
    payload: Vec<u8>,
    time_us: u64,
    durable: bool,
}

/// A store in memory, without checkpoints.
pub struct MemoryStore {
    log_id: String,
    events: Vec<MemoryEvent>,
    /// Sequences by the hash of a message_id.
    ids: HashMap<u64, Vec<Sequence>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let log_id = uuid::Uuid::new_v4().simple().to_string();
        Self { log_id, events: Vec::new(), ids: HashMap::new() }
    }
}

impl MemoryEvent {
    fn show(&self, visit: &mut dyn FnMut(EventRef<'_>)) {
        let event = Event { head: self.head, payload: &self.payload };
        visit(EventRef { event: &event, time_us: self.time_us, durable: self.durable });
    }
}

impl MemoryStore {
    fn head(&self) -> Sequence {
        self.events.len() as Sequence
    }
}

impl EventStore for MemoryStore {
    fn log_id(&mut self) -> Result<String, StoreError> {
        Ok(if self.events.is_empty() { String::new() } else { self.log_id.clone() })
    }

    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        self.events.iter().skip(after as usize).for_each(|event| event.show(visit));
        Ok(())
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unlock(&mut self) {}

    fn append(
        &mut self,
        expected_head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, StoreError> {
        if expected_head != self.head() {
            return Err(StoreError::Conflict { head: self.head() });
        }
        let durable = durability.is_promised();
        for payload in batch {
            let head = payload.head(self.head() + 1);
            if head.message != 0 {
                self.ids.entry(head.message).or_default().push(head.sequence);
            }
            self.events.push(MemoryEvent { head, payload: payload.encode(), time_us, durable });
        }
        Ok(Appended { first: expected_head + 1, last: self.head() })
    }

    fn wait_durable(&mut self, _sequence: Sequence) -> Result<(), StoreError> {
        Ok(())
    }

    fn durable(&self) -> Sequence {
        self.head()
    }

    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        for sequence in sequences {
            if let Some(event) = self.events.get((*sequence as usize).wrapping_sub(1)) {
                event.show(visit);
            }
        }
        Ok(())
    }

    fn search(
        &mut self,
        matches: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(EventRef<'_>),
        _is_enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let matching = self.events.iter().filter(|event| matches(&event.head));
        matching.for_each(|event| event.show(visit));
        Ok(())
    }

    fn indexed(&mut self, message_hashes: &[u64]) -> Result<Option<Vec<Sequence>>, StoreError> {
        let known = message_hashes.iter().filter_map(|hash| self.ids.get(hash));
        Ok(Some(known.flatten().copied().collect()))
    }

    fn finds_by_id(&self) -> bool {
        true
    }
}

impl Checkpoints for MemoryStore {}

impl Changes for MemoryStore {
    fn version(&self) -> u32 {
        self.events.len() as u32
    }

    /// Returns immediately: no other process can append.
    fn wait(&mut self, _seen: u32, _timeout: Duration) {}
}

impl Inspect for MemoryStore {
    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        Ok((self.events.iter().map(|event| event.payload.len() as u64).sum(), Vec::new()))
    }
}
