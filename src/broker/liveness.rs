//! Liveness of sessions, and protection against identities inherited by accident.

use c2c_log_format::payload::Process;

use crate::platform::process::{descends_from, liveness_of};
use c2c_core::code::Code;
use c2c_core::decide::{Actor, Liveness, Rejection, SessionSource, session_liveness};
use c2c_core::state::{Session, State};

/// Liveness of a session now: by its lease if it has one, else by its process.
pub fn of_session(session: &Session) -> Liveness {
    session_liveness(session, crate::platform::clock::now_us(), &liveness_of)
}

/// The process of the session that the actor's environment names, if it is alive but is neither the
/// caller's agent nor an ancestor of the caller: the variable was inherited by accident.
fn foreign_holder(state: &State, actor: &Actor) -> Option<Process> {
    if matches!(actor.source, SessionSource::Given | SessionSource::Request) {
        return None;
    }
    let process = state.sessions.get(actor.session_id.as_ref()?)?.process?;
    if liveness_of(Some(&process)) != Liveness::Alive {
        return None;
    }
    let is_own = match &actor.process {
        // A server acts for exactly the client that started it.
        Some(client) if actor.exact => *client == process,
        _ => actor.process.as_ref() == Some(&process) || descends_from(process.pid),
    };
    (!is_own).then_some(process)
}

/// The actor whose session id may be used. If another live process holds the session that the
/// environment names, the caller has only the alias of its environment; without one it is rejected.
pub fn honoured(state: &State, actor: &Actor) -> Result<Actor, Rejection> {
    let Some(holder) = foreign_holder(state, actor) else { return Ok(actor.clone()) };
    if actor.alias.is_some() {
        return Ok(Actor { session_id: None, ..actor.clone() });
    }
    let message = held_elsewhere(actor, &holder);
    let hint = match (actor.exact, &actor.session_id) {
        (false, Some(id)) => {
            format!("to act as it, pass --session-id {id}; else unset the variable")
        }
        _ => String::from("start this server with another session id"),
    };
    Err(Rejection::new(Code::NotRegistered, "session_id", message).hint(hint))
}

/// What a caller should know if its session id is not used although its command succeeds.
pub fn identity_note(state: &State, actor: &Actor) -> Option<String> {
    let alias = actor.alias.as_ref()?;
    let holder = foreign_holder(state, actor)?;
    Some(format!("{}; acting by the alias '{alias}'", held_elsewhere(actor, &holder)))
}

fn held_elsewhere(actor: &Actor, holder: &Process) -> String {
    let id = actor.session_id.as_deref().unwrap_or_default();
    let pid = holder.pid;
    format!("session '{id}' belongs to process {pid}, which did not start this one")
}
