//! Pacing of checkpoints that a busy process writes on a background thread.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::platform::clock;
use c2c_core::limits::{CHECKPOINT_PAUSE_FACTOR, RELAY_CHECKPOINT_BYTES, RELAY_CHECKPOINT_EVENTS};

/// Events and bytes of the tail after the newest checkpoint.
type TailSize = (u64, u64);

/// The background thread, and the rules for when it runs.
#[derive(Default)]
pub(super) struct BackgroundCheckpointer {
    thread: Option<JoinHandle<Duration>>,
    /// Part of the tail that the latest checkpoint covers.
    covered: TailSize,
    /// End of the pause that leaves the processors to other work.
    paused_until: Option<Instant>,
}

impl BackgroundCheckpointer {
    /// Forgets the covered part: the store counts its tail from zero again.
    pub fn reset_tail(&mut self) {
        self.covered = (0, 0);
    }

    /// Whether the uncovered tail has reached `factor` times the limit.
    pub fn is_tail_long(&self, (events, bytes): TailSize, factor: u32) -> bool {
        let events = events.saturating_sub(self.covered.0);
        let bytes = bytes.saturating_sub(self.covered.1);
        events >= RELAY_CHECKPOINT_EVENTS * u64::from(factor)
            || bytes >= RELAY_CHECKPOINT_BYTES * u64::from(factor)
    }

    /// Whether to start a checkpoint now. While the process is idle the pause does not apply.
    pub fn is_due(&mut self, tail: TailSize, is_idle: bool) -> bool {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        if let Some(took) = self.thread.take().and_then(|thread| thread.join().ok()) {
            self.paused_until = Some(clock::monotonic() + CHECKPOINT_PAUSE_FACTOR * took);
        }
        let is_paused =
            !is_idle && self.paused_until.is_some_and(|until| clock::monotonic() < until);
        self.is_tail_long(tail, if is_paused { CHECKPOINT_PAUSE_FACTOR } else { 1 })
    }

    /// Notes that a checkpoint is being written, or was attempted, for this tail.
    pub fn cover(&mut self, tail: TailSize) {
        self.covered = tail;
    }

    /// Runs `write_checkpoint` on a separate thread.
    pub fn start(&mut self, write_checkpoint: impl FnOnce() + Send + 'static) {
        let work = move || {
            let begin = clock::monotonic();
            write_checkpoint();
            clock::since(begin)
        };
        self.thread = thread::Builder::new().name("checkpoint".into()).spawn(work).ok();
    }

    /// Waits for a checkpoint that is being written.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_checkpoint_waits_out_the_pause_unless_the_process_is_idle() {
        let mut checkpointer = BackgroundCheckpointer::default();
        let due = (RELAY_CHECKPOINT_EVENTS, 0);
        assert!(!checkpointer.is_tail_long((RELAY_CHECKPOINT_EVENTS - 1, 0), 1));
        assert!(checkpointer.is_due(due, false), "no checkpoint was written yet");

        checkpointer.paused_until = Some(Instant::now() + Duration::from_secs(3_600));
        assert!(!checkpointer.is_due(due, false));
        assert!(checkpointer.is_due(due, true), "the process is idle");
        let long = (RELAY_CHECKPOINT_EVENTS * u64::from(CHECKPOINT_PAUSE_FACTOR), 0);
        assert!(checkpointer.is_due(long, false), "a restart would take too long");

        checkpointer.cover(long);
        assert!(!checkpointer.is_due(long, true), "the whole tail is covered");
        checkpointer.reset_tail();
        assert!(checkpointer.is_tail_long(due, 1));
    }
}
