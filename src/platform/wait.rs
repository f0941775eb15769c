//! Waiting for a change of a word in shared memory, and waking the processes that wait.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Waits until the word differs from `seen`, until another process wakes this one, or until the
/// timeout. May return early.
#[cfg(target_os = "linux")]
pub fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    use rustix::thread::futex;
    let limit = futex::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // An error is an early return.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&limit));
}

/// Wakes at most `waiters_max` of the processes that wait for this word, longest wait first.
#[cfg(target_os = "linux")]
#[inline]
pub fn wake(word: &AtomicU32, waiters_max: u32) {
    use rustix::thread::futex;
    // An error is harmless: every wait has a timeout.
    let _ = futex::wake(word, futex::Flags::empty(), waiters_max);
}

/// How often a process checks a word on systems without futexes.
#[cfg(not(target_os = "linux"))]
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits until the word differs from `seen`, or until the timeout. Without futexes, checks the word
/// at intervals.
#[cfg(not(target_os = "linux"))]
pub fn wait(word: &AtomicU32, seen: u32, timeout: Duration) {
    let start = super::clock::monotonic();
    while word.load(std::sync::atomic::Ordering::Acquire) == seen {
        let left = timeout.saturating_sub(super::clock::since(start));
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(CHECK_INTERVAL));
    }
}

/// Does nothing: without futexes, waiting processes check the word themselves.
#[cfg(not(target_os = "linux"))]
pub fn wake(_word: &AtomicU32, _waiters_max: u32) {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::platform::clock;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_for_an_old_value_returns_at_once() {
        let start = clock::monotonic();
        wait(&AtomicU32::new(2), 1, LONG);
        assert!(clock::since(start) < LONG / 2);
    }

    #[test]
    fn a_wait_ends_at_its_timeout() {
        let word = AtomicU32::new(1);
        wait(&word, 1, Duration::from_millis(5));
        assert_eq!(word.load(Ordering::Acquire), 1);
    }

    #[test]
    fn a_change_wakes_the_waiting_thread() {
        let word = AtomicU32::new(1);
        let start = clock::monotonic();
        thread::scope(|scope| {
            scope.spawn(|| {
                while word.load(Ordering::Acquire) == 1 {
                    wait(&word, 1, LONG);
                }
            });
            thread::sleep(Duration::from_millis(5));
            word.store(2, Ordering::Release);
            wake(&word, u32::MAX >> 1);
        });
        assert!(clock::since(start) < LONG / 2);
    }
}
