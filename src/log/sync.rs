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
    /// Returns when everything up to `sequence` is on disk. Takes no writer lock.
    pub fn wait_durable(&mut self, sequence: Sequence) -> Result<(), LogError> {
        let deadline = Instant::now() + SYNC_WAIT;
        loop {
            let Some(control) = &self.control else { return Ok(()) };
            let pulse = control.pulse();
            if control.durable() >= sequence {
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
        if self.durable() >= head {
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
        let durable = self.durable();
        let mut end = super::first_place(&self.segment(tail.segment)?.header);
        self.scan_segment(tail.segment, &mut |frame| {
            if frame.header.sequence <= durable {
                end.sequence = frame.header.last_sequence() + 1;
                end.previous_frame = frame.header.crc;
            }
        })?;
        self.open_next(tail.segment, end, tail.place.sequence, Reason::FailedSync)?;
        let page = self.page();
        page.set_durable(end.sequence - 1);
        page.set_poisoned(0);
        page.next_epoch();
        page.beat();
        Ok(())
    }
}
