//! Group commit: one sync for several commands of one process.

use c2c_log_format::Sequence;

use super::Broker;
use crate::error::Failure;
use crate::store::StoreError;

/// # Group commit
impl Broker {
    /// Begins a group: commands no longer wait for the disk one by one. No reply may be sent before
    /// [`Self::commit_group`] returns.
    pub fn begin_group(&mut self) {
        self.group = Some(0);
    }

    /// Waits until everything since [`Self::begin_group`] is on disk. After an error, the outcome of
    /// every command in the group is unknown.
    pub fn commit_group(&mut self) -> Result<(), Failure> {
        let wait_for = self.group.take().unwrap_or_default();
        self.store.wait_durable(wait_for)?;
        self.checkpoint_in_background_if_due(false);
        Ok(())
    }

    /// Frees the events that committed groups wrote. Called after the replies, because freeing a large
    /// batch is slow.
    pub fn drop_committed_events(&mut self) {
        self.committed.clear();
    }

    /// Waits until everything that was appended is on disk, and returns the last such sequence.
    pub fn settle(&mut self) -> Result<Sequence, Failure> {
        self.catch_up()?;
        self.store.wait_durable(self.state.head)?;
        Ok(self.state.head)
    }

    /// Waits until a sequence is on disk; within a group, only notes that the commit has to.
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
