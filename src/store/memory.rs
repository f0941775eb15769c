//! How are events kept in memory only?

use std::collections::HashMap;
use std::time::Duration;

use c2c_log_format::scan::Place;
use c2c_log_format::{Event, EventHead, Payload, Sequence};

use super::{EventStore, StoreError, Stored};
use crate::log::{Appended, Checkpoint, Damaged};

struct Kept {
    head: EventHead,
    payload: Vec<u8>,
    time_us: u64,
    durable: bool,
}

/// Events in a vector; gone with the process.
pub struct MemoryStore {
    log_id: String,
    events: Vec<Kept>,
    /// Sequences by the hash of a message_id.
    ids: HashMap<u64, Vec<Sequence>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let log_id = uuid::Uuid::new_v4().simple().to_string();
        Self { log_id, events: Vec::new(), ids: HashMap::new() }
    }
}

impl MemoryStore {
    fn visit(kept: &Kept, visit: &mut dyn FnMut(Stored<'_>)) {
        let event = Event { head: kept.head, payload: &kept.payload };
        visit(Stored { event: &event, time_us: kept.time_us, durable: kept.durable });
    }

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
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        self.events.iter().skip(after as usize).for_each(|kept| Self::visit(kept, visit));
        Ok(())
    }

    fn lock(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn unlock(&mut self) {}

    fn append(
        &mut self,
        head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durable: bool,
    ) -> Result<Appended, StoreError> {
        if head != self.head() {
            return Err(StoreError::Conflict { head: self.head() });
        }
        for payload in batch {
            let head = payload.head(self.head() + 1);
            if head.message != 0 {
                self.ids.entry(head.message).or_default().push(head.sequence);
            }
            self.events.push(Kept { head, payload: payload.encode(), time_us, durable });
        }
        Ok(Appended { first: head + 1, last: self.head() })
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
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        for sequence in sequences {
            if let Some(kept) = self.events.get((*sequence as usize).wrapping_sub(1)) {
                Self::visit(kept, visit);
            }
        }
        Ok(())
    }

    fn search(
        &mut self,
        wanted: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(Stored<'_>),
        _enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.events.iter().filter(|kept| wanted(&kept.head)).for_each(|k| Self::visit(k, visit));
        Ok(())
    }

    fn find(
        &mut self,
        messages: &[u64],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let places = messages.iter().filter_map(|hash| self.ids.get(hash)).flatten();
        let mut places: Vec<Sequence> = places.copied().collect();
        places.sort_unstable();
        places.dedup();
        self.fetch(&places, visit)
    }

    fn finds_by_id(&self) -> bool {
        true
    }

    fn checkpoint(&mut self, _projection: u16) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    fn reopen(&self) -> Option<super::Reopen> {
        None
    }

    fn resume(&mut self, _checkpoint: &Checkpoint) {}

    fn keep_checkpoint(
        &mut self,
        _head: Sequence,
        _encode: &dyn Fn([u8; 16], Sequence, Place) -> Vec<u8>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn tail_size(&self) -> (u64, u64) {
        (0, 0)
    }

    fn pulse(&self) -> u32 {
        self.events.len() as u32
    }

    fn wait(&mut self, _pulse: u32, _timeout: Duration) {}

    fn damage(&self) -> Vec<Damaged> {
        Vec::new()
    }

    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        Ok((self.events.iter().map(|kept| kept.payload.len() as u64).sum(), Vec::new()))
    }
}
