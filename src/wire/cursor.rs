//! How far has a reader of another log got, and is that place still there?

use std::fmt;

use c2c_log_format::id::hex;
use c2c_log_format::{Event, Sequence};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of one event as it lies in the log that first held it: time, head and payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of an event that was written at that time.
    pub fn of(event: &Event<'_>, time_us: u64) -> Self {
        Self(event.digest(time_us))
    }
}

/// A place in a log: after this event. The digest tells whether it is still the same event there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The log.
    #[serde(with = "hex16")]
    pub log: [u8; 16],
    /// The last event read; 0 before the first.
    pub sequence: Sequence,
    /// Digest of that event; zeros before the first.
    pub digest: Digest,
}

/// What a cursor is worth to the owner of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Everything has been read.
    Equal,
    /// There is more.
    Behind,
    /// The log is another one, or has another past: the reader must go back.
    Diverged,
}

impl Cursor {
    /// Before the first event of a log.
    pub const fn start(log: [u8; 16]) -> Self {
        Self { log, sequence: 0, digest: Digest([0; 32]) }
    }

    /// Where a reader's cursor stands in the log whose head is `head`. `at` is the digest of the
    /// event that the log holds under the cursor's sequence.
    pub fn standing(&self, head: &Self, at: Option<Digest>) -> Standing {
        let same_past = if self.sequence == 0 {
            self.digest == Digest::default()
        } else {
            at == Some(self.digest)
        };
        if self.log != head.log || self.sequence > head.sequence || !same_past {
            Standing::Diverged
        } else if self.sequence == head.sequence {
            Standing::Equal
        } else {
            Standing::Behind
        }
    }
}

/// Exactly `N` bytes in hex digits.
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
        hex_of(deserializer).map(Self)
    }
}

fn hex_of<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    from_hex(&text).ok_or_else(|| serde::de::Error::custom(format!("{} hex digits needed", 2 * N)))
}

mod hex16 {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        super::hex_of(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [u8; 16] = [7; 16];

    fn at(sequence: u64) -> Cursor {
        Cursor { log: LOG, sequence, digest: Digest([sequence as u8; 32]) }
    }

    #[test]
    fn a_cursor_stands_only_where_its_event_still_is() {
        let head = at(9);
        let there = |sequence: u64| Some(at(sequence).digest);
        assert_eq!(at(9).standing(&head, there(9)), Standing::Equal);
        assert_eq!(at(4).standing(&head, there(4)), Standing::Behind);
        assert_eq!(Cursor::start(LOG).standing(&head, None), Standing::Behind);
        assert_eq!(Cursor::start(LOG).standing(&Cursor::start(LOG), None), Standing::Equal);
        // Ahead of the head, another event there, none there, another log.
        assert_eq!(at(10).standing(&head, None), Standing::Diverged);
        assert_eq!(at(4).standing(&head, there(5)), Standing::Diverged);
        assert_eq!(at(4).standing(&head, None), Standing::Diverged);
        assert_eq!(Cursor { log: [8; 16], ..at(4) }.standing(&head, there(4)), Standing::Diverged);
        let forged = Cursor { sequence: 0, ..at(4) };
        assert_eq!(forged.standing(&head, None), Standing::Diverged);
    }

    #[test]
    fn a_cursor_reads_back_from_json_and_a_bad_one_is_refused() {
        let text = serde_json::to_string(&at(3)).expect("json");
        assert_eq!(serde_json::from_str::<Cursor>(&text).expect("a cursor"), at(3));
        for bad in [text.replace("07", "7"), text.replace("07", "zz"), text.replace("07", "+7")] {
            assert!(serde_json::from_str::<Cursor>(&bad).is_err(), "{bad}");
        }
    }
}
