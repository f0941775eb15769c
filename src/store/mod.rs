//! Where are events kept?
//!
//! A store keeps events, never state: the one `decide` and the one `apply` serve all of them.
//! Nothing above may assume that it is the only writer: an append names the head it expects.

#[cfg(test)]
mod conformance;
mod memory;
mod segmented;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::scan::Place;
use c2c_log_format::{Event, Payload, Sequence};

pub use memory::MemoryStore;
pub use segmented::SegmentedStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, is_sqlite};

use crate::log::{Appended, Checkpoint, Damaged, LogError};

/// Trouble in a store.
pub type StoreError = LogError;

/// One event with the time of its frame.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub event: &'a Event<'a>,
    pub time_us: u64,
    /// Whether its batch promised to be on disk.
    pub durable: bool,
}

/// Opens a store of its own on the same events.
pub type Reopen = Arc<dyn Fn() -> Box<dyn EventStore> + Send + Sync>;

/// An append-only sequence of batches.
pub trait EventStore: Send {
    /// Id of the log, 32 hex digits; empty before the first append.
    fn log_id(&mut self) -> Result<String, StoreError>;

    /// Visits every event after `after`, which is where this store's last visit ended or zero.
    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError>;

    /// Keeps other writers out, where that is possible; optimistic stores do nothing.
    fn lock(&mut self) -> Result<(), StoreError>;

    /// Lets other writers in again.
    fn unlock(&mut self);

    /// Appends one batch after `head`, or answers with the head that is there.
    fn append(
        &mut self,
        head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durable: bool,
    ) -> Result<Appended, StoreError>;

    /// Returns when everything up to `sequence` is on disk.
    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError>;

    /// Highest sequence on disk.
    fn durable(&self) -> Sequence;

    /// The events with these sequences; those that are gone are left out.
    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError>;

    /// Visits events by scope or message_id hash, newest segment first, until told to stop.
    fn search(
        &mut self,
        wanted: &dyn Fn(&c2c_log_format::EventHead) -> bool,
        visit: &mut dyn FnMut(Stored<'_>),
        enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError>;

    /// Visits the events with these hashes of message_ids.
    fn find(
        &mut self,
        messages: &[u64],
        visit: &mut dyn FnMut(Stored<'_>),
    ) -> Result<(), StoreError> {
        let wanted: HashSet<u64> = messages.iter().copied().collect();
        self.search(&|head| wanted.contains(&head.message), visit, &|| false)
    }

    /// Whether [`Self::find`] is fast however long the log is.
    fn finds_by_id(&self) -> bool {
        false
    }

    /// The newest checkpoint of a projection, if the store keeps any.
    fn checkpoint(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError>;

    /// Opens the same events once more, at their start; `None` for a store without checkpoints.
    fn reopen(&self) -> Option<Reopen>;

    /// Goes on reading after a checkpoint.
    fn resume(&mut self, checkpoint: &Checkpoint);

    /// Keeps a checkpoint of a state that stands at this store's last read; `encode` writes it
    /// for a log id, a segment and the place there to go on from.
    fn keep_checkpoint(
        &mut self,
        head: Sequence,
        encode: &dyn Fn([u8; 16], Sequence, Place) -> Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Events and bytes read since the checkpoint.
    fn tail_size(&self) -> (u64, u64);

    /// A number that changes with every append.
    fn pulse(&self) -> u32;

    /// Sleeps until something was appended since `pulse`, or the time is over.
    fn wait(&mut self, pulse: u32, timeout: Duration);

    /// What could not be read.
    fn damage(&self) -> Vec<Damaged>;

    /// Whether the newest checkpoint is damaged.
    fn checkpoint_damaged(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Bytes of the log, and ranges set aside that nobody has accepted yet.
    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError>;
}
