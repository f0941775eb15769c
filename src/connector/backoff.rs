//! How long until the next try?

use std::time::Duration;

/// The first wait, and the longest.
const FIRST_MS: u64 = 250;
const LONGEST_MS: u64 = 30_000;

/// Waits that double, each shortened by chance so that many clients do not come back at once.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `chance` is anything random.
    pub fn next(&mut self, chance: u64) -> Duration {
        let full = LONGEST_MS.min(FIRST_MS << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(full / 2 + chance % (full / 2 + 1))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_begin_anew() {
        let mut backoff = Backoff::default();
        let longest = |backoff: &mut Backoff| backoff.next(u64::MAX / 3 * 2).as_millis() as u64;
        for tries in 0..100_u32 {
            let wait = longest(&mut backoff);
            let full = LONGEST_MS.min(FIRST_MS << tries.min(16));
            assert!(wait >= full / 2 && wait <= full, "{tries}: {wait}");
        }
        backoff.reset();
        assert!(longest(&mut backoff) <= FIRST_MS);
    }
}
