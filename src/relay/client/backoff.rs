//! Exponential backoff with jitter.

use std::time::Duration;

/// First delay.
const FIRST_MS: u64 = 250;
/// Longest delay.
const LONGEST_MS: u64 = 30_000;

/// Delays that double with each failure, each shortened at random so that many clients do not
/// reconnect at the same moment.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and returns the delay before the next attempt. `random` is any random number.
    pub fn next(&mut self, random: u64) -> Duration {
        let full = LONGEST_MS.min(FIRST_MS << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_limit_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let longest = |backoff: &mut Backoff| backoff.next(u64::MAX / 3 * 2).as_millis() as u64;
        for failures in 0..100_u32 {
            let delay = longest(&mut backoff);
            let full = LONGEST_MS.min(FIRST_MS << failures.min(16));
            assert!(delay >= full / 2 && delay <= full, "{failures}: {delay}");
        }
        backoff.reset();
        assert!(longest(&mut backoff) <= FIRST_MS);
    }
}
