//! What time is it? The only reader of the system clock.

use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::time::{parse, rfc3339};

/// Microseconds since 1970 UTC.
pub fn now_us() -> u64 {
    us_of(SystemTime::now()).unwrap_or(0)
}

/// A time as the system gives it, in microseconds since 1970 UTC; `None` before that.
pub fn us_of(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_micros() as u64)
}

/// A time as people read it: local, or UTC when asked for.
pub fn human(time_us: u64, utc: bool) -> String {
    let Ok(time) = jiff::Timestamp::from_microsecond(time_us as i64) else {
        return String::from("?");
    };
    let zone = if utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
