//! Conversion of timestamps to and from text. All timestamps are microseconds since 1970 UTC.

/// Formats a timestamp as RFC 3339 in UTC, with milliseconds.
///
/// A timestamp outside the range of RFC 3339 is formatted as the start of 1970.
pub fn rfc3339(time_us: u64) -> String {
    match jiff::Timestamp::from_microsecond(time_us as i64) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::from("1970-01-01T00:00:00.000Z"),
    }
}

/// Formats a timestamp as RFC 3339 in UTC, rounded down to seconds: the form used in signatures.
pub fn rfc3339_seconds(time_us: u64) -> String {
    let second_us = time_us - time_us % 1_000_000;
    rfc3339(second_us).replace(".000Z", "Z")
}

/// Parses RFC 3339, or seconds since 1970 with an optional fraction.
///
/// Returns `None` for other text and for a time before 1970.
pub fn parse(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return from_seconds(seconds);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok()
}

/// Converts seconds since 1970 to microseconds; `None` before 1970 and after the year 9999.
pub fn from_seconds(seconds: f64) -> Option<u64> {
    (0.0..253_402_300_800.0).contains(&seconds).then(|| (seconds * 1e6).round() as u64)
}

/// Converts a timestamp to seconds since 1970, the form used by older clients.
pub fn to_seconds(time_us: u64) -> f64 {
    time_us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_of_a_time_parse_to_the_same_timestamp() {
        assert_eq!(parse("1770000000.250000"), Some(1_770_000_000_250_000));
        assert_eq!(parse("2026-02-02T02:40:00.25Z"), Some(1_770_000_000_250_000));
        assert_eq!(rfc3339(1_770_000_000_250_000), "2026-02-02T02:40:00.250Z");
        assert_eq!(rfc3339_seconds(1_770_000_000_999_999), "2026-02-02T02:40:00Z");
    }

    #[test]
    fn conversion_to_seconds_and_back_keeps_every_microsecond() {
        for time_us in 1_770_000_000_000_000..1_770_000_000_010_000 {
            assert_eq!(from_seconds(to_seconds(time_us)), Some(time_us));
        }
    }

    #[test]
    fn invalid_timestamps_are_rejected() {
        for text in ["", "-1", "inf", "NaN", "1e300", "yesterday", "2026-02-02"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
