//! Group commit across processes.
//!
//! Every process that waits for durability tries to become the leader. The leader syncs once for all
//! events appended so far, raises the durable sequence and wakes the others. If a leader is killed,
//! its lock is released, and another process takes over after a short time.

use std::time::Duration;

use c2c_log_format::Sequence;
use c2c_log_format::segment::{OpenReason, file_name};

use super::control::Torn;
use super::storage::LockGuard;
use super::{Control, Log, LogError, Tail, WaitQueue};
use crate::platform::clock;

/// How long a follower waits before it checks whether the leader is gone.
const FOLLOWER_WAIT_SLICE: Duration = Duration::from_millis(20);
/// How many times a torn page is read before its writer counts as killed.
const TORN_READS: u32 = 10;
/// How long a process waits for the disk before it returns [`LogError::Unknown`].
const SYNC_WAIT: Duration = Duration::from_secs(30);

impl Log {
    /// Returns when all events up to `sequence` are on disk.
    ///
    /// Takes the writer lock only if a writer was killed while publishing the tail, which then needs
    /// repair, or if the current boot is unknown. Returns [`LogError::Reload`] if the event was
    /// discarded after a failed sync, and [`LogError::Unknown`] if the sync fails.
    pub fn wait_durable(&mut self, sequence: Sequence) -> Result<(), LogError> {
        let deadline = clock::monotonic() + SYNC_WAIT;
        let mut torn = 0;
        loop {
            let Some(page) = self.control.clone() else { return Ok(()) };
            let seen = page.version(WaitQueue::Sync);
            // The durable sequence of a later epoch does not cover events of an earlier one.
            if page.epoch() != self.epoch_seen {
                return Err(LogError::Reload);
            }
            if page.durable() >= sequence && page.epoch() == self.epoch_seen {
                return Ok(());
            }
            let tail = match page.read_tail() {
                Ok(Some(tail)) if tail.boot_id == self.boot_id => tail,
                // No process has written since the machine started, so all events are on disk.
                Ok(_) if self.knows_boot => return Ok(()),
                // Another process may have written. Recovery syncs its events.
                Ok(_) => {
                    self.lock()?;
                    self.unlock();
                    continue;
                }
                // The writer may only have lost the processor for a moment.
                Err(Torn) if torn < TORN_READS => {
                    torn += 1;
                    page.wait(WaitQueue::Sync, seen, FOLLOWER_WAIT_SLICE);
                    continue;
                }
                Err(Torn) => {
                    self.lock()?;
                    self.unlock();
                    continue;
                }
            };
            let unknown = || LogError::Unknown { file: file_name(tail.segment), sequence };
            if page.poisoned() == tail.segment || clock::monotonic() > deadline {
                return Err(unknown());
            }
            if tail.position.sequence <= sequence {
                return Err(unknown());
            }
            let io = |e| LogError::io("lock", "sync.lock", e);
            match LockGuard::try_take(&self.locks.sync(&*self.storage).map_err(io)?).map_err(io)? {
                Some(leader) => {
                    self.sync_as_leader(&page)?;
                    drop(leader);
                    // ORDER: release the lock first, so that a process that wakes can become the leader.
                    page.notify_all(WaitQueue::Sync);
                    page.notify_all(WaitQueue::Change);
                }
                None => page.wait(WaitQueue::Sync, seen, FOLLOWER_WAIT_SLICE),
            }
        }
    }

    /// Syncs the active segment on behalf of all waiting processes.
    fn sync_as_leader(&mut self, page: &Control) -> Result<(), LogError> {
        // The tail became torn after the caller read it; the caller will read it again.
        let Some(tail) = self.tail() else { return Ok(()) };
        let head = tail.position.sequence - 1;
        // The previous leader may have failed; its segment must not be synced again.
        if self.durable() >= head || page.poisoned() == tail.segment {
            return Ok(());
        }
        let file = self.segment(tail.segment)?.file;
        match file.sync() {
            Ok(()) => page.raise_durable(head),
            // The kernel may have dropped the data, and reports that only once. Never sync this segment
            // again; the next writer leaves it.
            Err(_) => page.set_poisoned(tail.segment),
        }
        Ok(())
    }

    /// Opens a segment after one whose sync failed. Events that were not durable there become void.
    pub(super) fn leave_poisoned(&mut self, page: &Control, tail: &Tail) -> Result<(), LogError> {
        // Keep leaders from raising the durable sequence while it is lowered.
        let lock = |e| LogError::io("lock", "sync.lock", e);
        let lock_file = self.locks.sync(&*self.storage).map_err(lock)?;
        let _no_leader = LockGuard::take(&lock_file).map_err(lock)?;
        let durable = self.durable();
        let mut end = super::first_position(&self.segment(tail.segment)?.header);
        self.scan_segment(tail.segment, &mut |frame| {
            if frame.header.sequence <= durable {
                end.sequence = frame.header.last_sequence() + 1;
                end.previous_frame = frame.header.crc;
            }
        })?;
        // ORDER: the epoch first, so that no process applies the durable sequence of the new segment to
        // events of the old one.
        page.next_epoch();
        self.open_next(page, tail.segment, end, tail.position.sequence, OpenReason::FailedSync)?;
        page.set_durable(end.sequence - 1);
        page.set_poisoned(0);
        page.notify_all(WaitQueue::Sync);
        page.notify_all(WaitQueue::Change);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::sync::Arc;

    use c2c_log_format::Payload;
    use c2c_log_format::payload::SessionHeartbeat;

    use super::*;
    use crate::log::{Directory, Durability, Options};

    fn open(path: &Path) -> Log {
        Log::open(Arc::new(Directory::new(path)), Options::default())
    }

    /// Creates a log with one unsynced event and opens its control page.
    fn unsynced(path: &Path) -> std::fs::File {
        let mut log = open(path);
        let heartbeat = SessionHeartbeat { session_id: "s".into(), mailbox: "m".into() };
        log.lock().expect("locked");
        log.append(&[Payload::SessionHeartbeat(heartbeat)], 1, Durability::Promised)
            .expect("appended");
        log.unlock();
        assert_eq!(log.durable(), 0);
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).open(path.join("control")).expect("a page")
    }

    #[test]
    fn after_a_boot_all_readable_events_count_as_durable() {
        let dir = tempfile::tempdir().expect("a directory");
        let page = unsynced(dir.path());
        page.write_all_at(&[0; 4096], 0).expect("written");
        assert!(open(dir.path()).wait_durable(1).is_ok());
    }

    #[test]
    fn a_writer_killed_while_publishing_does_not_block_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let page = unsynced(dir.path());
        let mut version = [0];
        page.read_exact_at(&mut version, 0).expect("read");
        page.write_all_at(&[version[0] | 1], 0).expect("written");
        let mut log = open(dir.path());
        assert!(log.wait_durable(1).is_ok());
        assert_eq!(log.durable(), 1);
    }
}
