//! Event stores: append-only sequences of batches behind small traits.
//!
//! A store holds events, never state, so that the same rules serve every store. A caller must not
//! assume that it is the only writer: each append names the head that it expects.

#[cfg(test)]
mod conformance;
mod error;
mod memory;
mod resume_token;
mod segmented;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::{Event, EventHead, Payload, Sequence};

pub use error::StoreError;
pub use memory::MemoryStore;
pub use resume_token::ResumeToken;
pub use segmented::SegmentedStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, is_sqlite};

use crate::log::{Appended, Checkpoint, Durability, LogDamage};

/// A stored event, borrowed while a visitor looks at it.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a> {
    pub event: &'a Event<'a>,
    /// Time of the event's batch, microseconds since 1970.
    pub time_us: u64,
    /// Whether a reply promised that the event's batch is on disk.
    pub durable: bool,
}

/// Opens the same store again, with a reader at the first event.
pub type Reopen = Arc<dyn Fn() -> Box<dyn Store> + Send + Sync>;

/// Everything that the broker needs from a store.
pub trait Store: EventStore + Checkpoints + Changes + Inspect {}

impl<T: EventStore + Checkpoints + Changes + Inspect> Store for T {}

/// An append-only sequence of batches of events.
pub trait EventStore: Send {
    /// Id of the log, 32 hex digits; empty before the first append.
    fn log_id(&mut self) -> Result<String, StoreError>;

    /// Visits every event after `after`, which is the end of this store's previous visit, or zero.
    ///
    /// Returns [`StoreError::Reload`] if events of an earlier visit became void.
    fn read_after(
        &mut self,
        after: Sequence,
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError>;

    /// Keeps other writers out until [`Self::unlock`]. A store that relies on
    /// [`StoreError::Conflict`] alone does nothing.
    fn lock(&mut self) -> Result<(), StoreError>;

    /// Lets other writers in again.
    fn unlock(&mut self);

    /// Appends one batch after `expected_head`.
    ///
    /// `time_us` is in microseconds since 1970. Returns [`StoreError::Conflict`] if the head is another
    /// one.
    fn append(
        &mut self,
        expected_head: Sequence,
        batch: &[Payload],
        time_us: u64,
        durability: Durability,
    ) -> Result<Appended, StoreError>;

    /// Returns when all events up to `sequence` are on disk.
    fn wait_durable(&mut self, sequence: Sequence) -> Result<(), StoreError>;

    /// Highest sequence known to be on disk.
    fn durable(&self) -> Sequence;

    /// Visits the events with these sequences, in this order; skips those that do not exist.
    fn fetch(
        &mut self,
        sequences: &[Sequence],
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError>;

    /// Visits the events whose head matches, newest part of the log first, until `is_enough`.
    ///
    /// Within a part, events are visited in order. `is_enough` is evaluated after each part.
    fn search(
        &mut self,
        matches: &dyn Fn(&EventHead) -> bool,
        visit: &mut dyn FnMut(EventRef<'_>),
        is_enough: &dyn Fn() -> bool,
    ) -> Result<(), StoreError>;

    /// Visits the events of the messages with these hashes of their ids.
    fn find(
        &mut self,
        message_hashes: &[u64],
        visit: &mut dyn FnMut(EventRef<'_>),
    ) -> Result<(), StoreError> {
        let Some(mut sequences) = self.indexed(message_hashes)? else {
            let hashes: HashSet<u64> = message_hashes.iter().copied().collect();
            return self.search(&|head| hashes.contains(&head.message), visit, &|| false);
        };
        sequences.sort_unstable();
        sequences.dedup();
        self.fetch(&sequences, visit)
    }

    /// Sequences of the messages with these hashes, in any order; `None` for a store without an
    /// index.
    fn indexed(&mut self, message_hashes: &[u64]) -> Result<Option<Vec<Sequence>>, StoreError> {
        let _ = message_hashes;
        Ok(None)
    }

    /// Whether [`Self::find`] takes the same time for a log of any length.
    fn finds_by_id(&self) -> bool {
        false
    }
}

/// Checkpoints of a store. The defaults are those of a store without checkpoints.
pub trait Checkpoints {
    /// The newest usable checkpoint of a projection.
    fn newest(&mut self, projection: u16) -> Result<Option<Checkpoint>, StoreError> {
        let _ = projection;
        Ok(None)
    }

    /// Stores a checkpoint of the state at `head`, if the reader is there and `head` is on disk.
    ///
    /// `encode` returns the whole checkpoint; the store fills in the log id and its resume token.
    fn keep(&mut self, head: Sequence, encode: &dyn Fn() -> Vec<u8>) -> Result<(), StoreError> {
        let _ = (head, encode);
        Ok(())
    }

    /// Moves the reader to the resume token that a checkpoint records.
    fn resume(&mut self, checkpoint: &Checkpoint) {
        let _ = checkpoint;
    }

    /// A function that opens the same store again; `None` for a store without checkpoints.
    fn reopen(&self) -> Option<Reopen> {
        None
    }

    /// Number of events and bytes read since the checkpoint.
    fn tail_size(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// Notification of appends, also by other processes.
pub trait Changes {
    /// Change counter: differs after each append.
    fn version(&self) -> u32;

    /// Waits until the version differs from `seen`, or until the timeout.
    fn wait(&mut self, seen: u32, timeout: Duration);
}

/// Health of a store. The defaults are those of a store that cannot be damaged.
pub trait Inspect {
    /// Damage that this store has encountered so far.
    fn damage(&self) -> Vec<LogDamage> {
        Vec::new()
    }

    /// Whether the newest checkpoint is damaged.
    fn checkpoint_damaged(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Size of the log in bytes, and the names of quarantined ranges that no operator has accepted.
    fn size(&mut self) -> Result<(u64, Vec<String>), StoreError> {
        Ok((0, Vec::new()))
    }
}
