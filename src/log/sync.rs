//! How do many processes share one sync?
//!
//! Whoever waits for durability tries to become the leader: it syncs once for everything that was
//! appended before, raises the mark and wakes all others. A leader that is killed leaves the lock
//! free; the others look again after a short time.

use std::time::{Duration, Instant};

use c2c_log_format::Sequence;
use c2c_log_format::segment::{Reason, file_name};

use super::control::{Bell, Torn};
use super::storage::Held;
use super::{Log, LogError, Tail};

/// How long a follower sleeps before it looks whether the leader is gone.
const FOLLOWER_NAP: Duration = Duration::from_millis(20);
/// How often a page that stays torn is looked at before its writer counts as killed.
const TORN_LOOKS: u32 = 10;
/// How long anybody waits for the disk before the outcome is called unknown.
const SYNC_WAIT: Duration = Duration::from_secs(30);

impl Log {
    /// Returns when everything up to `sequence` is on disk. `Reload` says that the sequence was given
    /// up after a failed sync. Takes no writer lock, unless a writer was killed in the middle of
    /// publishing: then somebody has to settle what it left.
    pub fn wait_durable(&mut self, sequence: Sequence) -> Result<(), LogError> {
        let deadline = Instant::now() + SYNC_WAIT;
        let mut torn = 0;
        loop {
            let Some(control) = &self.control else { return Ok(()) };
            let pulse = control.pulse(Bell::Sync);
            // A mark of a later epoch says nothing about an event of an earlier one.
            if control.epoch() != self.epoch_seen {
                return Err(LogError::Reload);
            }
            if control.durable() >= sequence && control.epoch() == self.epoch_seen {
                return Ok(());
            }
            let tail = match control.read_tail() {
                Ok(Some(tail)) if tail.boot_id == self.boot_id => tail,
                // Nobody has written since the machine started: all there is came from the disk.
                Ok(_) => return Ok(()),
                // A writer that has lost the processor for a moment will be back.
                Err(Torn) if torn < TORN_LOOKS => {
                    torn += 1;
                    control.wait(Bell::Sync, pulse, FOLLOWER_NAP);
                    continue;
                }
                Err(Torn) => {
                    self.lock()?;
                    self.unlock();
                    continue;
                }
            };
            let unknown = || LogError::Unknown { file: file_name(tail.segment), sequence };
            if control.poisoned() == tail.segment || Instant::now() > deadline {
                return Err(unknown());
            }
            if tail.place.sequence <= sequence {
                return Err(unknown());
            }
            let io = |e| LogError::io("lock", "sync.lock", e);
            match Held::try_take(&self.locks.sync(&*self.storage).map_err(io)?).map_err(io)? {
                Some(leader) => {
                    self.lead()?;
                    drop(leader);
                    // ORDER: the lock first, so that whoever wakes can become the next leader.
                    self.page().ring(Bell::Sync);
                    self.page().ring(Bell::Change);
                }
                None => control.wait(Bell::Sync, pulse, FOLLOWER_NAP),
            }
        }
    }

    /// Syncs the active segment for everybody.
    fn lead(&mut self) -> Result<(), LogError> {
        // Torn since the caller looked: it will look again.
        let Some(tail) = self.tail() else { return Ok(()) };
        let head = tail.place.sequence - 1;
        // The leader before may have failed: its segment must not be synced again.
        if self.durable() >= head || self.page().poisoned() == tail.segment {
            return Ok(());
        }
        let file = self.segment(tail.segment)?.file;
        match file.sync() {
            Ok(()) => self.page().raise_durable(head),
            // The kernel may have dropped the data and will say so only once: never sync this
            // segment again, let the next writer leave it.
            Err(_) => self.page().set_poisoned(tail.segment),
        }
        Ok(())
    }

    /// Opens a segment after one whose sync failed; what was not durable there is void.
    pub(super) fn leave_poisoned(&mut self, tail: &Tail) -> Result<(), LogError> {
        // No leader may raise the mark while it is set back.
        let lock = |e| LogError::io("lock", "sync.lock", e);
        let lock_file = self.locks.sync(&*self.storage).map_err(lock)?;
        let _no_leader = Held::take(&lock_file).map_err(lock)?;
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
        page.ring(Bell::Sync);
        page.ring(Bell::Change);
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
    use crate::log::{Directory, Options};

    fn open(path: &Path) -> Log {
        Log::open(Arc::new(Directory::new(path)), Options::default())
    }

    /// A log with one event that nobody has synced, and its page.
    fn unsynced(path: &Path) -> std::fs::File {
        let mut log = open(path);
        let fact = SessionHeartbeat { session_id: "s".into(), mailbox: "m".into() };
        log.lock().expect("locked");
        log.append(&[Payload::SessionHeartbeat(fact)], 1, true).expect("appended");
        log.unlock();
        assert_eq!(log.durable(), 0);
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).open(path.join("control")).expect("a page")
    }

    #[test]
    fn after_a_boot_what_can_be_read_is_on_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let page = unsynced(dir.path());
        page.write_all_at(&[0; 4096], 0).expect("written");
        assert!(open(dir.path()).wait_durable(1).is_ok());
    }

    #[test]
    fn a_writer_killed_while_publishing_stops_nobody() {
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
