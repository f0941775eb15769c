//! Liveness of sessions, and protection against identities inherited by accident.

use crate::platform::process::{descends_from, liveness_of};
use c2c_core::decide::{Actor, Liveness, SessionSource, session_liveness};
use c2c_core::state::{Session, State};

/// Liveness of a session now: by its lease if it has one, else by its process.
pub fn of_session(session: &Session) -> Liveness {
    session_liveness(session, crate::platform::clock::now_us(), &liveness_of)
}

/// The actor, without a session id that it inherited by accident: one from the environment whose
/// process is alive but is neither the caller's agent nor an ancestor of the caller.
pub fn without_accidental_session(state: &State, actor: &Actor) -> Actor {
    let mut adopted = actor.clone();
    if actor.source == SessionSource::Given {
        return adopted;
    }
    let session = actor.session_id.as_ref().and_then(|id| state.sessions.get(id));
    let Some(process) = session.and_then(|session| session.process) else { return adopted };
    if liveness_of(Some(&process)) != Liveness::Alive {
        return adopted;
    }
    let is_own = match &actor.process {
        // A server acts for exactly the client that started it.
        Some(client) if actor.exact => *client == process,
        _ => actor.process.as_ref() == Some(&process) || descends_from(process.pid),
    };
    if !is_own {
        adopted.session_id = None;
    }
    adopted
}
