//! Progress with an older relay that a connector keeps in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use c2c_log_format::Sequence;
use c2c_log_format::payload::MessageSent;

use c2c_core::decide::{Position, check_host};
use c2c_core::older_relay::Part;

/// What the connector knows about an older relay beyond the log.
#[derive(Debug)]
pub struct OlderRelay {
    /// The host of its URL: the host part of agents whose node is unknown.
    pub name: String,
    /// Log that stands for the relay.
    pub log: String,
    /// Log that stands for the requests to it.
    pub attempts: String,
    /// Rooms and aliases that have joined at the relay.
    pub joined: BTreeSet<(String, String)>,
    /// Rooms and aliases that the relay does not admit. Tried again with the next full round.
    pub not_admitted: BTreeSet<(String, String)>,
    /// Room events up to this sequence need no request.
    pub scanned: Sequence,
    /// Messages that are not sent before a time.
    pub delayed: BTreeMap<Sequence, Instant>,
    /// Nothing is sent before this time.
    pub paused_until: Option<Instant>,
    /// The event that was sent without an answer, and how often in a row.
    pub unanswered: (Sequence, u32),
    /// Next poll of the inboxes.
    pub poll_at: Option<Instant>,
    /// Mail that the relay has removed and that could not be recorded yet.
    pub unrecorded: Vec<Recording>,
}

impl OlderRelay {
    pub fn new(url: &str) -> Self {
        Self {
            name: host_of(url),
            log: Part::Relay.log_id(url, &[]),
            attempts: Part::Attempt.log_id(url, &[]),
            joined: BTreeSet::new(),
            not_admitted: BTreeSet::new(),
            scanned: 0,
            delayed: BTreeMap::new(),
            paused_until: None,
            unanswered: (0, 0),
            poll_at: None,
            unrecorded: Vec::new(),
        }
    }
}

/// The host in a URL; `relay` if it cannot be part of an address.
fn host_of(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    if check_host(host).is_ok() { host.to_owned() } else { "relay".into() }
}

/// Mail of one inbox to be recorded.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Log that stands for the inbox.
    pub log: String,
    pub messages: Vec<MessageSent>,
    pub step: InboxStep,
}

/// What was done at the relay.
#[derive(Debug, Clone)]
pub enum InboxStep {
    /// The messages were read; a drain follows. The mark identifies them.
    Read(String),
    /// The inbox was drained.
    Drained,
}

impl InboxStep {
    /// Where the cursor of the inbox is afterwards.
    pub fn end(&self, start: &Position, is_empty: bool) -> Position {
        let is_open = start.sequence % 2 == 1;
        match self {
            Self::Read(mark) => Position { sequence: start.sequence | 1, digest: mark.clone() },
            Self::Drained if is_open => {
                Position { sequence: start.sequence + 1, digest: String::new() }
            }
            // Another connector of this root has recorded the end of the drain.
            Self::Drained if is_empty => start.clone(),
            Self::Drained => Position { sequence: start.sequence + 2, digest: String::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_name_of_a_relay_is_the_host_of_its_url() {
        for (url, host) in [
            ("https://relay.c2c.im", "relay.c2c.im"),
            ("http://127.0.0.1:7331", "127.0.0.1"),
            ("http://[::1]:7331", "relay"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
