//! Writing and loading checkpoints: shortcuts for the next start, which may be lost at any time.

use std::sync::Arc;

use super::Broker;
use crate::error::Failure;
use crate::log::Checkpoint;
use crate::platform::clock;
use crate::store::Reopen;
use c2c_core::limits::{CHECKPOINT_BYTES, CHECKPOINT_EVENTS};
use c2c_core::state::{Bytes, CheckpointBase, State};
use c2c_log_format::scan::FramePosition;

/// # Checkpoints
impl Broker {
    /// Writes a checkpoint if one is due. Errors are ignored: a checkpoint is only a shortcut.
    pub fn checkpoint_if_due(&mut self) {
        let (events, bytes) = self.store.tail_size();
        let damaged = self.base.as_ref().is_some_and(CheckpointBase::was_rebuilt);
        if damaged || events >= CHECKPOINT_EVENTS || bytes >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    /// Whether a checkpoint is due that the process could write while it is idle.
    pub fn checkpoint_due(&self) -> bool {
        self.checkpointer.is_tail_long(self.store.tail_size(), 1)
    }

    /// Starts a checkpoint on a background thread, if one is due and none is being written. With
    /// `is_idle`, a pause after the previous checkpoint does not delay it.
    ///
    /// The thread opens the log itself, reads from the previous checkpoint to the end and writes the
    /// next one. It shares nothing with this broker but the log.
    pub fn checkpoint_in_background_if_due(&mut self, is_idle: bool) {
        let tail = self.store.tail_size();
        if !self.checkpointer.is_due(tail, is_idle) {
            return;
        }
        self.checkpointer.cover(tail);
        let Some(reopen) = self.store.reopen() else { return };
        let root = self.root.clone();
        self.checkpointer.start(move || {
            // An error must not fail a command: a checkpoint is only a shortcut.
            let _ = Self::with_store(&root, reopen()).checkpoint_now();
        });
    }

    /// Writes a checkpoint that is due, before the process ends.
    pub fn checkpoint_at_end(&mut self) {
        self.checkpointer.join();
        if self.checkpoint_due() {
            // An error must not fail the shutdown: a checkpoint is only a shortcut.
            let _ = self.checkpoint_now();
        }
    }

    fn checkpoint_now(&mut self) -> Result<(), Failure> {
        self.catch_up()?;
        self.store.wait_durable(self.state.head)?;
        self.checkpoint();
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) {
        // A checkpoint must not be written from incomplete rows.
        let is_intact = self.base.as_ref().is_none_or(|base| base.verify().is_ok());
        if is_intact && self.state.skipped == 0 && self.merged.is_empty() {
            let (state, now_us) = (&self.state, clock::now_us());
            // The store fills in the log id and its resume token.
            let blank = FramePosition { offset: 0, sequence: state.head + 1, previous_frame: 0 };
            let encode = || state.checkpoint([0; 16], 0, blank, now_us);
            let _ = self.store.keep(state.head, &encode);
        }
    }
}

/// The rows of a checkpoint, with a function that rebuilds them from the log if they turn out to be
/// damaged.
pub(super) fn open_base(checkpoint: &Checkpoint, reopen: Reopen) -> Option<CheckpointBase> {
    let header = checkpoint.header;
    let rebuild = move || {
        let (mut state, mut first) = (State::default(), None);
        let read = reopen().read_after(0, &mut |stored| {
            first.get_or_insert(stored.event.head.sequence);
            if stored.event.head.sequence <= header.sequence {
                state.apply_event(stored.event, stored.time_us);
            }
        });
        // If segments were archived, the rows would lack what their events contain.
        read.ok().filter(|()| first == Some(1))?;
        let rows = state.checkpoint(header.log_id, header.segment, header.position, header.time_us);
        Some(Arc::new(rows) as Bytes)
    };
    CheckpointBase::open(Arc::new(checkpoint.bytes.clone()), &header, Arc::new(rebuild))
}
