//! How does one process serve many callers: what it keeps at hand, and one sync for several commands?

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use c2c_log_format::{Event, EventHead, Payload, Sequence};

use super::Broker;
use crate::failure::Failure;
use crate::store::{EventStore, StoreError, Stored};

/// Events are read so many at a time, until they hold so many bytes.
const EVENTS_CHUNK: Sequence = 16;
const EVENTS_BYTES: usize = 1024 * 1024;

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

/// Hashes of message_ids, and where.
type Places = Vec<(u64, Sequence)>;

/// Where messages are, by the hash of their id.
#[derive(Default)]
pub(super) struct Ids {
    /// Read when the process began, in the order of the hashes.
    old: Places,
    /// What came since; under one hash there is nearly always one.
    new: HashMap<u64, Sequence>,
    others: HashMap<u64, Vec<Sequence>>,
    /// A thread that still reads what was there when the process began, and answers once.
    reading: Option<Receiver<Option<Places>>>,
}

impl Ids {
    pub fn note(&mut self, head: &EventHead) {
        if head.message != 0 {
            match self.new.entry(head.message) {
                Entry::Vacant(place) => drop(place.insert(head.sequence)),
                Entry::Occupied(_) => {
                    self.others.entry(head.message).or_default().push(head.sequence);
                }
            }
        }
    }

    /// Where messages with these ids may be; `None` as long as nobody knows.
    pub fn find(&mut self, hashes: &[u64]) -> Option<Vec<Sequence>> {
        if let Some(reading) = &self.reading {
            // A thread that failed leaves the answer to the store, for good.
            self.old = reading.try_recv().ok().flatten()?;
            self.reading = None;
        }
        let mut found = Vec::new();
        for hash in hashes {
            let from = self.old.partition_point(|(known, _)| known < hash);
            let same = self.old[from..].iter().take_while(|(known, _)| known == hash);
            found.extend(same.map(|(_, sequence)| *sequence));
            found.extend(self.new.get(hash));
            found.extend(self.others.get(hash).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }
}

/// Reads the ids of a whole log.
fn read_ids(store: &mut dyn EventStore, upto: Sequence) -> Option<Places> {
    let mut ids = Vec::new();
    let read = store.search(
        &|head| head.message != 0 && head.sequence <= upto,
        &mut |stored| ids.push((stored.event.head.message, stored.event.head.sequence)),
        &|| false,
    );
    read.ok()?;
    ids.sort_unstable();
    Some(ids)
}

impl Broker {
    /// From here on messages are found by their id without reading the log: another thread reads it
    /// once. A store that has an index of its own, or is in memory, needs none.
    pub fn remember_ids(&mut self) -> Result<(), Failure> {
        self.catch_up()?;
        self.index_ids();
        Ok(())
    }

    pub(super) fn index_ids(&mut self) {
        let Some(reopen) = self.store.reopen().filter(|_| !self.store.finds_by_id()) else {
            return;
        };
        let (answer, reading) = sync_channel(1);
        let upto = self.state.head;
        let read = move || drop(answer.send(read_ids(&mut *reopen(), upto)));
        let started = thread::Builder::new().name("ids".into()).spawn(read);
        self.ids = started.ok().map(|_| Ids { reading: Some(reading), ..Ids::default() });
    }

    /// Events by sequence, as they lie in the log; those that are gone are left out.
    pub fn fetch(&mut self, sequences: &[Sequence]) -> Result<Vec<Kept>, Failure> {
        let mut found = Vec::with_capacity(sequences.len());
        self.store.fetch(sequences, &mut |stored| found.push(Kept::of(&stored)))?;
        Ok(found)
    }

    /// The next events after a sequence, in order, as far as this broker has read; and up to where
    /// that is. It stops early rather than hold many large ones.
    pub fn events_after(
        &mut self,
        after: Sequence,
        most: u64,
    ) -> Result<(Vec<Kept>, Sequence), Failure> {
        let (mut at, upto) = (after, self.state.head.min(after.saturating_add(most)));
        let mut found = Vec::new();
        let mut bytes = 0;
        while at < upto && bytes < EVENTS_BYTES {
            let next = upto.min(at + EVENTS_CHUNK);
            let wanted: Vec<Sequence> = (at + 1..=next).collect();
            let events = self.fetch(&wanted)?;
            bytes += events.iter().map(|event| event.bytes.len()).sum::<usize>();
            found.extend(events);
            at = next;
        }
        Ok((found, at))
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
        self.store.wait_durable(wait_for)?;
        self.checkpoint_aside_if_due(false);
        Ok(())
    }

    /// Gives back the memory of what groups have written. That takes a while for a large batch, so it
    /// comes after the answers.
    pub fn free_spent(&mut self) {
        self.spent.clear();
    }

    /// Waits until everything that is written is on disk; the sequence up to which that is so.
    pub fn settle(&mut self) -> Result<Sequence, Failure> {
        self.catch_up()?;
        self.store.wait_durable(self.state.head)?;
        Ok(self.state.head)
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
