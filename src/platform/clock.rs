//! The system clock. No other module reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use c2c_core::time::{parse, rfc3339};

/// Returns the current time in microseconds since 1970 UTC.
pub fn now_us() -> u64 {
    us_of(SystemTime::now()).unwrap_or(0)
}

/// Returns the current moment of the clock that is never set, for deadlines and durations.
#[inline]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Time since an earlier moment.
#[inline]
pub fn since(earlier: Instant) -> Duration {
    Instant::now().saturating_duration_since(earlier)
}

/// Time left until a deadline; zero if it has passed.
#[inline]
pub fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A duration in milliseconds, to the microsecond, for logs.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Converts a system time to microseconds since 1970 UTC; `None` for a time before 1970.
pub fn us_of(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_micros() as u64)
}

/// Formats a timestamp for users, in local time or in UTC.
pub fn human(time_us: u64, utc: bool) -> String {
    let Ok(time) = jiff::Timestamp::from_microsecond(time_us as i64) else {
        return String::from("?");
    };
    let zone = if utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_zero_once_the_deadline_has_passed() {
        let start = monotonic();
        assert!(until(start + Duration::from_secs(60)) > Duration::from_secs(30));
        assert_eq!(until(start), Duration::ZERO);
        assert!(since(start) < Duration::from_secs(30));
        assert_eq!(since(start + Duration::from_secs(60)), Duration::ZERO);
    }
}
