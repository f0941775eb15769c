//! What time is it? The only reader of the system clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 UTC.
pub fn now_us() -> u64 {
    us_of(SystemTime::now()).unwrap_or(0)
}

/// A time as the system gives it, in microseconds since 1970 UTC; `None` before that.
pub fn us_of(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_micros() as u64)
}

/// RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(time_us: u64) -> String {
    match jiff::Timestamp::from_microsecond(time_us as i64) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::from("1970-01-01T00:00:00.000Z"),
    }
}

/// A time as people read it: local, or UTC when asked for.
pub fn human(time_us: u64, utc: bool) -> String {
    let Ok(time) = jiff::Timestamp::from_microsecond(time_us as i64) else {
        return String::from("?");
    };
    let zone = if utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Reads RFC 3339, or seconds since 1970 (with a fraction), into microseconds.
pub fn parse(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds >= 0.0).then_some((seconds * 1e6) as u64);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}
