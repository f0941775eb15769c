//! Logs that stand for the parts of an older relay, which keeps no log that others can read.
//!
//! Progress with such a relay is recorded as cursors of these logs. Their ids begin with zeros,
//! which the id of a real log never does.

use c2c_log_format::Sequence;
use c2c_log_format::checksum::sha256;
use c2c_log_format::id::hex;
use c2c_log_format::payload::{CursorDirection, Origin};

use crate::state::{State, compound_key};

/// First hex digits of the id of every such log.
const PREFIX: &str = "00000000000000";
/// Number of hash bytes in an id.
const HASH_BYTES: usize = 8;

/// A part of an older relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Direction `out`: the room events up to this sequence were sent to the relay. Direction `in`:
    /// how often its list of agents was recorded.
    Relay,
    /// Direction `out`: the event of which a request was begun and has no recorded answer; 0 if
    /// there is none.
    Attempt,
    /// Direction `in`: how often the inbox of a session was drained, times two; plus one while a
    /// drain has no recorded answer.
    Inbox,
    /// Direction `in`: a relay at this URL has replicated with this root. The digest is the id of
    /// its log.
    Replication,
}

impl Part {
    fn digits(self) -> &'static str {
        match self {
            Self::Relay => "01",
            Self::Attempt => "02",
            Self::Inbox => "03",
            Self::Replication => "04",
        }
    }

    /// The id of the log that stands for this part of the relay at a URL. `names` says which one,
    /// if the relay has several.
    pub fn log_id(self, url: &str, names: &[&str]) -> String {
        let mut text = url.to_owned();
        for name in names {
            text.push('\u{1f}');
            text.push_str(name);
        }
        let hash = sha256(text.as_bytes());
        format!("{PREFIX}{}{}", self.digits(), hex(&hash[..HASH_BYTES]))
    }
}

/// Whether an event was received from an older relay.
pub fn is_from_older_relay(origin: Option<&Origin>) -> bool {
    origin.is_some_and(|origin| is_part(&origin.log))
}

/// Whether the log stands for a part of an older relay.
pub fn is_part(log: &str) -> bool {
    log.starts_with(PREFIX)
}

impl State {
    /// Returns the sequence up to which room messages were sent to an older relay. They are not
    /// sent again by replication.
    pub fn sent_to_older_relay(&self) -> Sequence {
        let prefix = format!("{PREFIX}{}", Part::Relay.digits());
        let key = compound_key(CursorDirection::Out.as_str(), prefix.as_bytes());
        self.cursors.scan(key).iter().map(|(_, row)| row.sequence).max().unwrap_or_default()
    }

    /// Returns whether the relay at a URL has replicated with this root. A root from before this
    /// was recorded may have replicated with any relay.
    pub fn has_replicated_with(&self, url: &str) -> bool {
        let direction = CursorDirection::In;
        let known = self.cursor(&direction, &Part::Replication.log_id(url, &[]));
        let prefix = format!("{PREFIX}{}", Part::Replication.digits());
        let is_recorded = self.cursors.any(compound_key(direction.as_str(), prefix.as_bytes()));
        let is_real = |key: &[u8]| {
            let log = key.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            !log.starts_with(PREFIX.as_bytes())
        };
        known.sequence > 0
            || (!is_recorded && self.cursors.scan([]).iter().any(|(key, _)| is_real(key)))
    }
}

#[cfg(test)]
mod tests {
    use c2c_log_format::Payload;
    use c2c_log_format::payload::CursorAdvanced;

    use super::*;

    #[test]
    fn each_part_of_each_relay_has_an_id_of_its_own() {
        let ids = [
            Part::Relay.log_id("http://a", &[]),
            Part::Attempt.log_id("http://a", &[]),
            Part::Relay.log_id("http://b", &[]),
            Part::Inbox.log_id("http://a", &["node", "s-ann"]),
            Part::Inbox.log_id("http://a", &["node", "s-bob"]),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(id.len() == 32 && is_part(id), "{id}");
            assert!(!ids[..at].contains(id), "{id}");
        }
        assert!(!is_part("0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn a_relay_that_has_replicated_is_known_by_its_url() {
        let mut state = State::default();
        let mut read = |log: &str, digest: &str| {
            let advanced = CursorAdvanced {
                direction: CursorDirection::In,
                log: log.into(),
                node_id: "relay".into(),
                sequence: 1,
                digest: digest.into(),
                public_key: String::new(),
                floor: None,
            };
            state.apply(state.head + 1, 1, &Payload::CursorAdvanced(advanced));
            ["http://a", "http://b"].map(|url| state.has_replicated_with(url))
        };
        assert_eq!(read(&Part::Inbox.log_id("http://a", &["n", "s"]), ""), [false; 2]);
        let log = "0123456789abcdef0123456789abcdef";
        assert_eq!(read(log, "d"), [true; 2], "it may have been either");
        assert_eq!(read(&Part::Replication.log_id("http://b", &[]), log), [false, true]);
    }
}
