//! Agents: aliases, the sessions that hold them, and their liveness.

use super::inbox::ProcessLiveness;
use super::types::{AgentView, SessionLiveness};
use crate::decide::{CODEX, Liveness};
use crate::ids::SessionId;
use crate::state::{RemotePeer, State};

/// All aliases of this root, in order.
pub fn agents(state: &State, liveness: SessionLiveness<'_>) -> Vec<AgentView> {
    let rows = state.mailboxes.scan([]).into_iter().map(|(_, mailbox)| {
        let session = state.holder(&mailbox);
        let liveness = session.as_ref().map_or(Liveness::Dead, liveness);
        AgentView { mailbox, session, liveness }
    });
    rows.collect()
}

/// Aliases of other machines, as the relay last reported them.
pub fn remote_agents(state: &State) -> Vec<RemotePeer> {
    let rows = state.peers.scan([]).into_iter().map(|(_, row)| row);
    rows.filter(|row| !row.gone).collect()
}

/// Aliases of other machines that a session of this root holds as well.
pub fn alias_conflicts(state: &State) -> Vec<RemotePeer> {
    let is_held_here = |row: &RemotePeer| {
        let mailbox = state.mailbox_for_alias(&row.alias);
        mailbox.is_some_and(|mailbox| state.holder(&mailbox).is_some())
    };
    remote_agents(state).into_iter().filter(is_held_here).collect()
}

/// The live session whose process has one of these pids; the most recently active one if there are
/// several.
pub fn session_of_client(
    state: &State,
    pids: &[u32],
    liveness: ProcessLiveness<'_>,
) -> Option<SessionId> {
    let sessions = state.sessions.scan([]).into_iter();
    // One Codex process runs many sessions, so its pid does not identify one.
    let candidates = sessions.filter(|(_, session)| {
        let process = session.process.as_ref();
        session.client_type.as_deref() != Some(CODEX)
            && process.is_some_and(|process| pids.contains(&process.pid))
            && liveness(process) == Liveness::Alive
    });
    let (session_id, _) = candidates.max_by_key(|(_, session)| session.active_us)?;
    String::from_utf8(session_id).ok().map(SessionId::from)
}
