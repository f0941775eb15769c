//! Index of messages by the hash of their id, for a process that looks up many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use c2c_log_format::{EventHead, Sequence};

use crate::store::{EventStore, Reopen};

/// Hash and sequence of each message, in the order of the hashes.
type IndexEntries = Vec<(u64, Sequence)>;

/// Sequences of messages, by the hash of their id.
#[derive(Default)]
pub(super) struct MessageIndex {
    /// Messages that existed when the index was started.
    old: IndexEntries,
    /// Messages since then: the first one of each hash.
    new: HashMap<u64, Sequence>,
    /// Further messages with the same hash, which are rare.
    collisions: HashMap<u64, Vec<Sequence>>,
    /// Delivers `old` once, when the thread that reads the log has finished.
    reading: Option<Receiver<Option<IndexEntries>>>,
}

impl MessageIndex {
    /// Starts reading the log up to a sequence on a separate thread; `None` if no thread can be
    /// started.
    pub fn start(reopen: Reopen, upto: Sequence) -> Option<Self> {
        let (entries, reading) = sync_channel(1);
        let read = move || drop(entries.send(read_entries(&mut *reopen(), upto)));
        let started = thread::Builder::new().name("ids".into()).spawn(read);
        started.ok().map(|_| Self { reading: Some(reading), ..Self::default() })
    }

    /// Adds an event that was read after the start.
    pub fn note(&mut self, head: &EventHead) {
        if head.message != 0 {
            match self.new.entry(head.message) {
                Entry::Vacant(entry) => drop(entry.insert(head.sequence)),
                Entry::Occupied(_) => {
                    self.collisions.entry(head.message).or_default().push(head.sequence);
                }
            }
        }
    }

    /// Sequences of the messages with these id hashes, in order; `None` until the log has been read,
    /// or if reading it failed.
    pub fn find(&mut self, hashes: &[u64]) -> Option<Vec<Sequence>> {
        if let Some(reading) = &self.reading {
            // If the thread failed, `reading` stays set and the store answers all lookups.
            self.old = reading.try_recv().ok().flatten()?;
            self.reading = None;
        }
        let mut found = Vec::new();
        for hash in hashes {
            let from = self.old.partition_point(|(known, _)| known < hash);
            let same = self.old[from..].iter().take_while(|(known, _)| known == hash);
            found.extend(same.map(|(_, sequence)| *sequence));
            found.extend(self.new.get(hash));
            found.extend(self.collisions.get(hash).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }
}

/// Reads the id hashes of a whole log.
fn read_entries(store: &mut dyn EventStore, upto: Sequence) -> Option<IndexEntries> {
    let mut entries = Vec::new();
    let read = store.search(
        &|head| head.message != 0 && head.sequence <= upto,
        &mut |stored| entries.push((stored.event.head.message, stored.event.head.sequence)),
        &|| false,
    );
    read.ok()?;
    entries.sort_unstable();
    Some(entries)
}
