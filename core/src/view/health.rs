//! Health of a broker root.

use c2c_log_format::Sequence;

use super::types::SessionLiveness;
use super::{agents, rooms, trace};
use crate::decide::Liveness;
use crate::state::{RemotePeer, State};

/// A range of the log that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Base sequence of the segment.
    pub segment: Sequence,
    /// Offset in the segment, bytes.
    pub offset: usize,
    /// Length, bytes.
    pub len: usize,
    /// First missing sequence.
    pub first: Sequence,
    /// Last missing sequence, if known.
    pub last: Option<Sequence>,
}

/// Facts about a root that its state does not contain.
#[derive(Debug, Clone, Default)]
pub struct RootFacts {
    /// 32 hex digits; empty before the first append.
    pub log_id: String,
    /// Last sequence on disk.
    pub durable: Sequence,
    /// Size of the log on disk, bytes.
    pub log_bytes: u64,
    /// Why the relay rejects what is pushed to it.
    pub outbox_waits: Option<String>,
    /// Unreadable ranges of the log.
    pub damage: Vec<DamagedRange>,
    /// Names of the quarantine files.
    pub quarantine: Vec<String>,
    /// Whether the newest checkpoint cannot be read in full.
    pub checkpoint_damaged: bool,
}

/// Health of one broker root.
#[derive(Debug, Clone)]
pub struct HealthView {
    /// 32 hex digits; empty before the first append.
    pub log_id: String,
    /// Sequence of the last event in the state.
    pub head: Sequence,
    /// Last sequence on disk.
    pub durable: Sequence,
    /// Size of the log on disk, bytes.
    pub log_bytes: u64,
    /// Number of registered sessions.
    pub sessions: usize,
    /// Number of sessions that are alive.
    pub alive: usize,
    /// Number of sessions that are dead.
    pub dead: usize,
    /// Number of sessions without evidence of their liveness.
    pub unknown: usize,
    /// Number of rooms.
    pub rooms: usize,
    /// Number of dead letters.
    pub dead_letters: usize,
    /// Number of messages in the outbox.
    pub outbox: usize,
    /// Time at which the oldest message in the outbox was queued, microseconds since 1970 UTC.
    pub outbox_oldest_us: Option<u64>,
    /// Number of messages in the outbox that have waited for a receipt for longer than the limit.
    pub unconfirmed: usize,
    /// Number of messages in shared rooms that the relay has not numbered yet.
    pub rooms_outbox: usize,
    /// Why the relay rejects what is pushed to it.
    pub outbox_waits: Option<String>,
    /// Aliases of this machine that exist on another machine as well.
    pub conflicts: Vec<RemotePeer>,
    /// Unreadable ranges of the log.
    pub damage: Vec<DamagedRange>,
    /// Names of the quarantine files.
    pub quarantine: Vec<String>,
    /// Whether the newest checkpoint cannot be read in full; state is rebuilt from the log then.
    pub checkpoint_damaged: bool,
    /// Whether the log holds events of a newer version, so that nothing may be written.
    pub upgrade_needed: bool,
}

impl HealthView {
    /// Whether the whole log is readable and nothing is in quarantine.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.quarantine.is_empty()
    }
}

/// Summarises a root.
pub fn health(
    state: &State,
    facts: RootFacts,
    now_us: u64,
    liveness: SessionLiveness<'_>,
) -> HealthView {
    let mut sessions = agents::agents(state, liveness);
    sessions.retain(|agent| agent.session.is_some());
    let count = |liveness| sessions.iter().filter(|agent| agent.liveness == liveness).count();
    let outbox = state.outbox.scan([]);
    let is_unconfirmed = |queued_us| trace::is_unconfirmed(queued_us, now_us);
    HealthView {
        log_id: facts.log_id,
        head: state.head,
        durable: facts.durable,
        log_bytes: facts.log_bytes,
        sessions: sessions.len(),
        alive: count(Liveness::Alive),
        dead: count(Liveness::Dead),
        unknown: count(Liveness::Unknown),
        rooms: state.rooms.scan([]).len(),
        dead_letters: state.dead_letters.scan([]).len(),
        outbox: outbox.len(),
        outbox_oldest_us: outbox.iter().map(|(_, row)| row.queued_us).min(),
        unconfirmed: outbox.iter().filter(|(_, row)| is_unconfirmed(row.queued_us)).count(),
        rooms_outbox: rooms::awaiting_relay(state),
        outbox_waits: facts.outbox_waits,
        conflicts: agents::alias_conflicts(state),
        damage: facts.damage,
        quarantine: facts.quarantine,
        checkpoint_damaged: facts.checkpoint_damaged,
        upgrade_needed: state.upgrade_needed,
    }
}
