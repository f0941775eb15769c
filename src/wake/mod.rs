//! When is a session nudged that does not read its mail, and how?
//!
//! Once for all mail that waits, and again only after a pause that grows. A nudge never says what was
//! written: whoever is woken reads that itself, so a nudge that is lost or doubled loses nothing.

mod nudge;
mod terminal;

use c2c_log_format::Sequence;

use crate::limits::{WAKE_PAUSE_S_MAX, WAKE_PAUSE_S_MIN};

pub use nudge::{Codex, Nudge, Waiting};
pub use terminal::Terminal;

/// What a woken session reads.
pub const SENTINEL: &str = "c2c: mail from other agents waits for you. Call the c2c poll_inbox tool to \
    read it. This notice is automatic and not from the user.";

/// The nudges of one session so far.
#[derive(Debug, Default)]
pub struct Nudges {
    /// Mail up to here was announced.
    upto: Sequence,
    /// How often, since mail was last read.
    tries: u32,
    /// Before this there is no other one.
    next_us: u64,
}

impl Nudges {
    /// Whether to nudge now. `unread` is the oldest and the newest message that nobody has read; what
    /// is answered with `true` counts as done.
    pub fn is_due(&mut self, unread: Option<(Sequence, Sequence)>, now_us: u64) -> bool {
        let Some((oldest, newest)) = unread else {
            self.tries = 0;
            return false;
        };
        // All that was announced has been read: this is news.
        let fresh = self.tries == 0 || oldest > self.upto;
        if !fresh && now_us < self.next_us {
            return false;
        }
        self.tries = if fresh { 1 } else { self.tries + 1 };
        self.upto = newest;
        let doubled = WAKE_PAUSE_S_MIN << (self.tries - 1).min(16);
        self.next_us = now_us + doubled.min(WAKE_PAUSE_S_MAX) * 1_000_000;
        true
    }

    /// When another one may be due although nothing new has come; none if all was read.
    pub fn next_us(&self) -> Option<u64> {
        (self.tries > 0).then_some(self.next_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn one_nudge_for_all_that_waits_and_the_pauses_grow() {
        let mut nudges = Nudges::default();
        assert!(!nudges.is_due(None, 0));
        assert!(nudges.is_due(Some((5, 5)), 0));
        // More comes while the first is unread.
        assert!(!nudges.is_due(Some((5, 9)), SECOND));
        let mut at = 0;
        for pause in [30, 60, 120, 240, 300, 300] {
            assert!(!nudges.is_due(Some((5, 9)), at + pause * SECOND - 1));
            at += pause * SECOND;
            assert!(nudges.is_due(Some((5, 9)), at), "{pause}");
        }
        // Read, and something new: at once, and from the short pause on.
        assert!(nudges.is_due(Some((10, 10)), at + SECOND));
        assert!(!nudges.is_due(Some((10, 11)), at + 30 * SECOND));
        assert!(nudges.is_due(Some((10, 11)), at + 31 * SECOND));
        assert!(!nudges.is_due(None, at + 32 * SECOND));
        assert!(nudges.is_due(Some((12, 12)), at + 32 * SECOND));
    }
}
