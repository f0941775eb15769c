//! Schedule of the nudges for one session.

use c2c_log_format::Sequence;

use c2c_core::limits::{WAKE_PAUSE_S_MAX, WAKE_PAUSE_S_MIN};

/// The nudges of one session since it last read its mail.
#[derive(Debug, Default)]
pub struct NudgeSchedule {
    /// The newest message that was announced.
    announced: Sequence,
    /// Number of nudges since mail was last read.
    count: u32,
    /// Earliest time of the next nudge without new mail, microseconds.
    next_us: u64,
}

impl NudgeSchedule {
    /// Whether to nudge now. `unread` holds the oldest and the newest unread message. A nudge that is
    /// due counts as sent.
    pub fn is_due(&mut self, unread: Option<(Sequence, Sequence)>, now_us: u64) -> bool {
        let Some((oldest, newest)) = unread else {
            self.count = 0;
            return false;
        };
        // All announced mail was read, so this mail is new.
        let is_new = self.count == 0 || oldest > self.announced;
        if !is_new && now_us < self.next_us {
            return false;
        }
        self.count = if is_new { 1 } else { self.count + 1 };
        self.announced = newest;
        let pause_s = WAKE_PAUSE_S_MIN << (self.count - 1).min(16);
        self.next_us = now_us + pause_s.min(WAKE_PAUSE_S_MAX) * 1_000_000;
        true
    }

    /// Time of the next nudge without new mail, microseconds; `None` if all mail was read.
    pub fn next_us(&self) -> Option<u64> {
        (self.count > 0).then_some(self.next_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn one_nudge_announces_all_waiting_mail_and_pauses_grow() {
        let mut nudges = NudgeSchedule::default();
        assert!(!nudges.is_due(None, 0));
        assert!(nudges.is_due(Some((5, 5)), 0));
        // More mail arrives while the first message is unread.
        assert!(!nudges.is_due(Some((5, 9)), SECOND));
        let mut at = 0;
        for pause in [30, 60, 120, 240, 300, 300] {
            assert!(!nudges.is_due(Some((5, 9)), at + pause * SECOND - 1));
            at += pause * SECOND;
            assert!(nudges.is_due(Some((5, 9)), at), "{pause}");
        }
        // New mail after all was read is announced immediately; the pauses start over.
        assert!(nudges.is_due(Some((10, 10)), at + SECOND));
        assert!(!nudges.is_due(Some((10, 11)), at + 30 * SECOND));
        assert!(nudges.is_due(Some((10, 11)), at + 31 * SECOND));
        assert!(!nudges.is_due(None, at + 32 * SECOND));
        assert!(nudges.is_due(Some((12, 12)), at + 32 * SECOND));
    }
}
