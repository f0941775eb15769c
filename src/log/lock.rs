//! The writer lock, and the repair of the tail by the process that takes it.

use std::sync::Arc;
use std::time::Duration;

use c2c_log_format::limits::FRAME_HEADER_BYTES;
use c2c_log_format::scan::{Scanned, Scanner};
use c2c_log_format::segment::{OpenReason, file_name};
use c2c_log_format::{Sequence, bytes};

use super::storage::{LockGuard, read_range};
use super::{Control, LockFile, Log, LogError, ReadPosition, Tail, WaitQueue};
use crate::platform::clock;

/// Attempts to take the lock before waiting for it.
const LOCK_TRIES: u32 = 3;

/// Longest wait between two attempts: the process that should notify this one may have been killed.
const LOCK_WAIT_SLICE: Duration = Duration::from_millis(5);

impl Log {
    /// Takes the writer lock and repairs the tail if necessary. The caller releases it with
    /// [`Log::unlock`].
    ///
    /// Returns [`LogError::Busy`] if the lock is not free in time, and [`LogError::Reload`] if the
    /// directory was replaced.
    pub fn lock(&mut self) -> Result<(), LogError> {
        let io = |e| LogError::io("lock", "the log", e);
        let lock = self.locks.writer(&*self.storage).map_err(io)?;
        // A holder needs only microseconds unless it was stopped, so yield the processor to it first.
        for _ in 0..LOCK_TRIES {
            self.guard = LockGuard::try_take(&lock).map_err(io)?;
            if self.guard.is_some() {
                break;
            }
            std::thread::yield_now();
        }
        if self.guard.is_none() {
            self.guard = Some(self.wait_for_lock(&lock)?);
        }
        let settled = self.check_current().and_then(|()| self.settle());
        if settled.is_err() {
            self.unlock();
        }
        settled
    }

    /// Runs recovery regardless of the published tail: scans the last segment and leaves it if it is
    /// damaged.
    pub fn recover_now(&mut self) -> Result<(), LogError> {
        let io = |e| LogError::io("lock", "the log", e);
        let lock = self.locks.writer(&*self.storage).map_err(io)?;
        self.guard = Some(LockGuard::take(&lock).map_err(io)?);
        self.control = None;
        let recovered = self.ensure_page().and_then(|page| {
            self.recover(&page)?;
            page.next_epoch();
            Ok(())
        });
        self.unlock();
        recovered
    }

    /// Continues the log under a new log id, in a new segment.
    ///
    /// Used when another log is already known under the current id.
    pub fn renew_id(&mut self) -> Result<(), LogError> {
        self.lock()?;
        let renewed = self.ensure_page().and_then(|page| self.leave_id(&page));
        self.unlock();
        renewed
    }

    /// Waits until the lock is free and takes it.
    fn wait_for_lock(&self, lock: &Arc<dyn LockFile>) -> Result<LockGuard, LogError> {
        let deadline = clock::monotonic() + self.options.lock_wait;
        loop {
            let Some(page) = &self.control else {
                // The first writer of the log is creating the page right now.
                std::thread::sleep(LOCK_WAIT_SLICE / 10);
                match LockGuard::try_take(lock).map_err(|e| LogError::io("lock", "the log", e))? {
                    Some(guard) => return Ok(guard),
                    None if clock::monotonic() < deadline => continue,
                    None => return Err(self.busy()),
                }
            };
            page.count_lock_waiter(true);
            let seen = page.version(WaitQueue::Lock);
            // ORDER: count, then try, then wait: a holder that releases in between notices this waiter.
            let mut attempt = LockGuard::try_take(lock);
            if matches!(attempt, Ok(None)) {
                page.wait(WaitQueue::Lock, seen, LOCK_WAIT_SLICE);
                attempt = LockGuard::try_take(lock);
            }
            page.count_lock_waiter(false);
            match attempt.map_err(|e| LogError::io("lock", "the log", e))? {
                Some(guard) => return Ok(guard),
                None if clock::monotonic() < deadline => {}
                None => return Err(self.busy()),
            }
        }
    }

    fn busy(&self) -> LogError {
        LogError::Busy { waited_ms: self.options.lock_wait.as_millis() as u64 }
    }

    /// Releases the writer lock.
    pub fn unlock(&mut self) {
        if self.guard.take().is_some()
            && let Some(page) = &self.control
        {
            page.notify_lock_waiter();
        }
    }

    /// Highest sequence of the log, as the holder of the writer lock sees it.
    pub fn head(&self) -> Sequence {
        self.tail().map_or(0, |tail| tail.position.sequence - 1)
    }

    /// Whether a read position is at the tail.
    pub fn is_at_tail(&self, position: &ReadPosition) -> bool {
        let tail = self.tail();
        tail.is_some_and(|tail| tail.segment == position.segment && tail.position == position.frame)
    }

    /// Makes the published tail correct.
    ///
    /// Runs recovery if no writer has done so since the machine started, adopts or clears what a
    /// killed writer left behind, and leaves a segment whose sync failed.
    fn settle(&mut self) -> Result<(), LogError> {
        let page = self.ensure_page()?;
        let Some(tail) = self.tail() else { return self.recover(&page) };
        if page.poisoned() == tail.segment {
            return self.leave_poisoned(&page, &tail);
        }
        self.settle_tail(&page, tail)
    }

    /// Maps the control page, creating it if necessary.
    fn ensure_page(&mut self) -> Result<Arc<Control>, LogError> {
        if let Some(page) = &self.control {
            return Ok(Arc::clone(page));
        }
        let page = self.storage.control(true);
        let page = Arc::new(page.map_err(|e| LogError::io("map", "the control page", e))?);
        self.control = Some(Arc::clone(&page));
        Ok(page)
    }

    /// Adopts a complete frame that a killed writer left after the tail, or clears a partial one.
    fn settle_tail(&mut self, page: &Control, tail: Tail) -> Result<(), LogError> {
        if !page.is_writing() {
            return Ok(());
        }
        let name = file_name(tail.segment);
        let segment = self.segment(tail.segment)?;
        let from = tail.position.offset as u64;
        let io = |e| LogError::io("read", &name, e);
        let probe =
            read_range(&*segment.file, from, from + FRAME_HEADER_BYTES as u64).map_err(io)?;
        if bytes::all_zero(&probe) {
            page.set_writing(false);
            return Ok(());
        }
        let len = segment.file.len().map_err(io)?;
        let rest = read_range(&*segment.file, from, len).map_err(io)?;
        let mut scanner = Scanner::new(&rest, segment.header.salt, tail.position);
        let mut position = tail.position;
        while let Some(Scanned::Frame { .. }) = scanner.next() {
            position = scanner.position();
        }
        let unfinished = &rest[position.offset - tail.position.offset..];
        if let Some(last) = unfinished.iter().rposition(|byte| *byte != 0) {
            // Written during this boot and never published: an interrupted write.
            let zeros = vec![0; last + 1];
            segment
                .file
                .write_at(position.offset as u64, &zeros)
                .map_err(|e| LogError::io("write", &name, e))?;
        }
        if let Some(next) = scanner.seal() {
            return self.open_next(page, tail.segment, position, next, OpenReason::Rotation);
        }
        page.set_tail(&Tail { position, ..tail });
        page.set_writing(false);
        Ok(())
    }
}
