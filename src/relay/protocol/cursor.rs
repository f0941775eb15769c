//! Cursors into another log: the last event read and its digest.

use std::fmt;

use c2c_log_format::id::hex;
use c2c_log_format::{Event, Sequence};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of one event as written to its log: time, head and payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Computes the digest of an event that was written at `time_us`.
    pub fn of(event: &Event<'_>, time_us: u64) -> Self {
        Self(event.digest(time_us))
    }
}

/// A position in a log, after one event.
///
/// The digest shows whether the log still holds the same event under that sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WireCursor {
    /// Id of the log.
    #[serde(with = "hex16")]
    pub log: [u8; 16],
    /// Sequence of the last event read; 0 before the first.
    pub sequence: Sequence,
    /// Digest of that event; all zeros before the first.
    pub digest: Digest,
}

impl WireCursor {
    /// The position before the first event of a log.
    pub const fn start(log: [u8; 16]) -> Self {
        Self { log, sequence: 0, digest: Digest([0; 32]) }
    }
}

/// Parses exactly `N` bytes from hex digits of either case.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_hex(deserializer).map(Self)
    }
}

fn deserialize_hex<'de, D: Deserializer<'de>, const N: usize>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    from_hex(&text).ok_or_else(|| serde::de::Error::custom(format!("{} hex digits needed", 2 * N)))
}

mod hex16 {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        super::deserialize_hex(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_round_trips_through_json_and_malformed_ones_are_rejected() {
        let cursor = WireCursor { log: [7; 16], sequence: 3, digest: Digest([3; 32]) };
        let text = serde_json::to_string(&cursor).expect("json");
        assert_eq!(serde_json::from_str::<WireCursor>(&text).expect("a cursor"), cursor);
        for bad in [text.replace("07", "7"), text.replace("07", "zz"), text.replace("07", "+7")] {
            assert!(serde_json::from_str::<WireCursor>(&bad).is_err(), "{bad}");
        }
    }
}
