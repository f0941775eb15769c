//! How does a busy process write checkpoints without waiting for them?
//!
//! Another thread opens the same log, reads from the checkpoint before to the end, and writes the
//! next one: whoever serves callers meanwhile shares nothing with it but the log.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Broker;
use crate::failure::Failure;
use crate::limits::{RELAY_CHECKPOINT_BYTES, RELAY_CHECKPOINT_EVENTS};

/// With much to write, this thread rests so many times as long as it worked, and lets the tail grow
/// so many times as long; until nothing else is done.
const REST_SHARE: u32 = 6;

/// A thread that writes checkpoints.
#[derive(Default)]
pub(super) struct Aside {
    thread: Option<JoinHandle<Duration>>,
    /// Events and bytes of the tail that are covered by what it wrote last.
    covered: (u64, u64),
    /// Until when it leaves the processors to others, unless the tail grows too long.
    rests_until: Option<Instant>,
}

impl Aside {
    /// The tail is counted from nothing again.
    pub fn begin_anew(&mut self) {
        self.covered = (0, 0);
    }

    /// Whether so much has come that a checkpoint is owed, times `most`.
    fn is_owed(&self, (events, bytes): (u64, u64), most: u32) -> bool {
        let events = events.saturating_sub(self.covered.0);
        let bytes = bytes.saturating_sub(self.covered.1);
        events >= RELAY_CHECKPOINT_EVENTS * u64::from(most)
            || bytes >= RELAY_CHECKPOINT_BYTES * u64::from(most)
    }

    fn is_due(&mut self, tail: (u64, u64), quiet: bool) -> bool {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        if let Some(took) = self.thread.take().and_then(|thread| thread.join().ok()) {
            self.rests_until = Some(Instant::now() + REST_SHARE * took);
        }
        let rests = !quiet && self.rests_until.is_some_and(|until| Instant::now() < until);
        self.is_owed(tail, if rests { REST_SHARE } else { 1 })
    }
}

impl Broker {
    /// Whether a checkpoint waits for a quiet moment.
    pub fn owes_checkpoint(&self) -> bool {
        self.aside.is_owed(self.store.tail_size(), 1)
    }

    /// Lets a checkpoint be written if one is due and none is being written; in a quiet moment the
    /// tail need not grow any more for that.
    pub fn checkpoint_aside_if_due(&mut self, quiet: bool) {
        let tail = self.store.tail_size();
        if !self.aside.is_due(tail, quiet) {
            return;
        }
        self.aside.covered = tail;
        let Some(reopen) = self.store.reopen() else { return };
        let root = self.root.clone();
        let write = move || {
            let begin = Instant::now();
            // Never fails a command: a checkpoint is only a shortcut.
            let _ = Self::on(&root, reopen()).checkpoint_now();
            begin.elapsed()
        };
        self.aside.thread = thread::Builder::new().name("checkpoint".into()).spawn(write).ok();
    }

    /// Writes the checkpoint that is owed, before this process ends.
    pub fn checkpoint_at_end(&mut self) {
        if let Some(thread) = self.aside.thread.take() {
            let _ = thread.join();
        }
        if self.owes_checkpoint() {
            // Never fails a stop: a checkpoint is only a shortcut.
            let _ = self.checkpoint_now();
        }
    }

    fn checkpoint_now(&mut self) -> Result<(), Failure> {
        self.catch_up()?;
        self.store.wait_durable(self.state.head)?;
        self.checkpoint();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_waits_for_quiet_while_the_thread_rests() {
        let mut aside = Aside::default();
        let owed = (RELAY_CHECKPOINT_EVENTS, 0);
        assert!(!aside.is_owed((RELAY_CHECKPOINT_EVENTS - 1, 0), 1));
        assert!(aside.is_due(owed, false), "nothing was written yet");

        aside.rests_until = Some(Instant::now() + Duration::from_secs(3_600));
        assert!(!aside.is_due(owed, false));
        assert!(aside.is_due(owed, true), "nobody asks for anything");
        let long = (RELAY_CHECKPOINT_EVENTS * u64::from(REST_SHARE), 0);
        assert!(aside.is_due(long, false), "a start would take too long");

        aside.covered = long;
        assert!(!aside.is_due(long, true), "all of it is covered");
        aside.begin_anew();
        assert!(aside.is_owed(owed, 1));
    }
}
