//! How do many processes share one sync?
//!
//! Whoever waits for durability tries to become the leader: it syncs once for everything that was
//! appended before, raises the mark and wakes all others. A leader that is killed leaves the lock
//! free; the others look again after a short time.

use std::time::{Duration, Instant};

use c2c_log_format::Sequence;
use c2c_log_format::segment::{Reason, file_name};

use super::{Log, LogError, Tail};

/// How long a follower sleeps before it looks whether the leader is gone.
const FOLLOWER_NAP: Duration = Duration::from_millis(20);
/// How long anybody waits for the disk before the outcome is called unknown.
const SYNC_WAIT: Duration = Duration::from_secs(30);

impl Log {
    /// Returns when everything up to `sequence` is on disk. Takes no writer lock. `Reload` says that
    /// the sequence was given up after a failed sync.
    pub fn wait_durable(&mut self, sequence: Sequence) -> Result<(), LogError> {
        let deadline = Instant::now() + SYNC_WAIT;
        loop {
            let Some(control) = &self.control else { return Ok(()) };
            let pulse = control.pulse();
            // A mark of a later epoch says nothing about an event of an earlier one.
            if control.epoch() != self.epoch_seen {
                return Err(LogError::Reload);
            }
            if control.durable() >= sequence && control.epoch() == self.epoch_seen {
                return Ok(());
            }
            let Some(tail) = self.tail() else { return Err(LogError::Reload) };
            let unknown = || LogError::Unknown { file: file_name(tail.segment), sequence };
            if control.poisoned() == tail.segment || Instant::now() > deadline {
                return Err(unknown());
            }
            if tail.place.sequence <= sequence {
                return Err(unknown());
            }
            let io = |e| LogError::io("lock", "sync.lock", e);
            match self.storage.try_lock("sync.lock").map_err(io)? {
                Some(_leader) => self.lead()?,
                None => control.wait(pulse, FOLLOWER_NAP),
            }
        }
    }

    /// Syncs the active segment for everybody.
    fn lead(&mut self) -> Result<(), LogError> {
        let Some(tail) = self.tail() else { return Err(LogError::Reload) };
        let head = tail.place.sequence - 1;
        // The leader before may have failed: its segment must not be synced again.
        if self.durable() >= head || self.page().poisoned() == tail.segment {
            return Ok(());
        }
        let file = self.segment(tail.segment)?.file;
        let synced = file.sync();
        let page = self.page();
        match synced {
            Ok(()) => page.raise_durable(head),
            // The kernel may have dropped the data and will say so only once: never sync this
            // segment again, let the next writer leave it.
            Err(_) => page.set_poisoned(tail.segment),
        }
        page.beat();
        Ok(())
    }

    /// Opens a segment after one whose sync failed; what was not durable there is void.
    pub(super) fn leave_poisoned(&mut self, tail: &Tail) -> Result<(), LogError> {
        // No leader may raise the mark while it is set back.
        let lock = |e| LogError::io("lock", "sync.lock", e);
        let _no_leader = self.storage.lock("sync.lock").map_err(lock)?;
        let durable = self.durable();
        let mut end = super::first_place(&self.segment(tail.segment)?.header);
        self.scan_segment(tail.segment, &mut |frame| {
            if frame.header.sequence <= durable {
                end.sequence = frame.header.last_sequence() + 1;
                end.previous_frame = frame.header.crc;
            }
        })?;
        // ORDER: the epoch first, so that nobody takes a mark of the new segment for one of the old.
        self.page().next_epoch();
        self.open_next(tail.segment, end, tail.place.sequence, Reason::FailedSync)?;
        let page = self.page();
        page.set_durable(end.sequence - 1);
        page.set_poisoned(0);
        page.beat();
        Ok(())
    }
}
