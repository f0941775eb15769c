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
/// so many times as long.
const REST_SHARE: u32 = 3;

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

    fn is_due(&mut self, (events, bytes): (u64, u64)) -> bool {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        if let Some(took) = self.thread.take().and_then(|thread| thread.join().ok()) {
            self.rests_until = Some(Instant::now() + REST_SHARE * took);
        }
        let events = events.saturating_sub(self.covered.0);
        let bytes = bytes.saturating_sub(self.covered.1);
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        let most = if rests { REST_SHARE } else { 1 };
        events >= RELAY_CHECKPOINT_EVENTS * u64::from(most)
            || bytes >= RELAY_CHECKPOINT_BYTES * u64::from(most)
    }
}

impl Broker {
    /// Lets a checkpoint be written if one is due and none is being written.
    pub(super) fn checkpoint_aside_if_due(&mut self) {
        let tail = self.store.tail_size();
        if !self.aside.is_due(tail) {
            return;
        }
        let Some(reopen) = self.store.reopen() else { return };
        let root = self.root.clone();
        let write = move || {
            let begin = Instant::now();
            // Never fails a command: a checkpoint is only a shortcut.
            let _ = Self::on(&root, reopen()).checkpoint_now();
            begin.elapsed()
        };
        self.aside.thread = thread::Builder::new().name("checkpoint".into()).spawn(write).ok();
        self.aside.covered = tail;
    }

    fn checkpoint_now(&mut self) -> Result<(), Failure> {
        self.catch_up()?;
        self.store.wait_durable(self.state.head)?;
        self.checkpoint();
        Ok(())
    }
}
