//! Progress that a connector keeps in memory: leases, push positions, mirrored segments.

use c2c_log_format::payload::ReportedLiveness;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use c2c_core::ids::{Alias, SessionId};
use c2c_log_format::Sequence;

/// A session as it was last reported to the relay.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LeaseRecord {
    pub alias: Alias,
    pub client_type: Option<String>,
    pub liveness: ReportedLiveness,
    /// Time of the report, microseconds since 1970 UTC.
    pub reported_us: u64,
}

impl LeaseRecord {
    /// Whether two records report the same, regardless of when.
    pub fn reports_same_as(&self, other: &Self) -> bool {
        Self { reported_us: other.reported_us, ..self.clone() } == *other
    }
}

/// The leases of a root, by session id.
#[derive(Debug, Default)]
pub(super) struct Leases {
    pub reported: BTreeMap<SessionId, LeaseRecord>,
    /// Sessions with the alias that the relay rejected. They are retried with the next full round.
    pub rejected: BTreeSet<(SessionId, Alias)>,
}

impl Leases {
    /// The alias of the first admitted session.
    pub fn first_alias(&self) -> Option<String> {
        self.reported.values().next().map(|record| record.alias.clone().into())
    }

    /// Forgets all leases.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How far the log has been pushed to the relay, beyond the recorded cursor.
#[derive(Debug, Default)]
pub(super) struct PushProgress {
    /// No event up to this sequence needs to be pushed.
    pub scanned: Sequence,
    /// The relay has answered retries up to this sequence in this round.
    pub retried: Sequence,
    /// Last retry in the batch that is being sent.
    pub retrying: Sequence,
    /// Whether more retries follow that batch.
    pub has_more_retries: bool,
}

impl PushProgress {
    /// Scans the log again, from the recorded cursor.
    pub fn reset_scan(&mut self) {
        self.scanned = 0;
    }

    /// Retries again, from the first pending event.
    pub fn reset_retries(&mut self) {
        self.retried = 0;
        self.retrying = 0;
        self.has_more_retries = false;
    }
}

/// The copy of the log at the relay.
#[derive(Debug, Default)]
pub(super) struct MirrorProgress {
    /// Whether the relay is to have a copy.
    pub enabled: bool,
    /// Log id and bytes at the relay by segment; `None` until the relay has been asked.
    pub known: Option<(String, HashMap<Sequence, u64>)>,
}
