//! Registration of the alias that the environment names, without a call by the agent.

use super::shared::{ClientSession, SharedSession};
use crate::broker::Broker;
use crate::env::C2C_MCP_AUTO_JOIN_ROOMS;
use crate::platform::process::this_process;
use crate::present::diagnostics::note;
use c2c_core::command;
use c2c_core::decide::{Actor, CODEX, SessionSource};

/// Registers the alias of the environment when the server starts, and joins its rooms. Returns the
/// sentence about it for the instructions; empty if there is nothing to report.
pub fn at_start(session: &SharedSession) -> String {
    let outcome = register_at_start(session);
    let session = &mut *session.lock();
    session.remember(&session.actor.clone());
    outcome
}

fn register_at_start(session: &SharedSession) -> String {
    let ClientSession { broker, actor, .. } = &mut *session.lock();
    if actor.client_type.as_deref() == Some(CODEX) && actor.session_id.is_none() {
        // Codex runs one server for each session, and stops it with the session: the server's own
        // process is the evidence of liveness.
        actor.process = this_process();
        return String::new();
    }
    if actor.alias.is_none() {
        return String::new();
    }
    match broker.execute(&command::Register { alias: None }, actor) {
        Ok(executed) => {
            let registered = executed.reply;
            actor.session_id = Some(registered.session_id);
            actor.source = SessionSource::Given;
            join_rooms(broker, actor);
            match registered.asked {
                Some(asked) => format!(
                    " You are registered as '{}', because '{asked}' is held by a live session.",
                    registered.alias
                ),
                None => format!(" You are registered as '{}'.", registered.alias),
            }
        }
        Err(failure) => {
            note(&format!("c2c: cannot register at start: {}", failure.message()));
            format!(" Registration failed: {}.", failure.message())
        }
    }
}

/// Registers a session that a request names for the first time, under the alias of the environment,
/// and joins its rooms.
pub fn for_new_session(session: &SharedSession, actor: &Actor) {
    if actor.alias.is_none() {
        return;
    }
    let broker = &mut session.lock().broker;
    match broker.execute(&command::Register { alias: None }, actor) {
        Ok(_) => join_rooms(broker, actor),
        Err(failure) => note(&format!("c2c: cannot register a session: {}", failure.message())),
    }
}

/// Joins the rooms in `C2C_MCP_AUTO_JOIN_ROOMS`.
fn join_rooms(broker: &mut Broker, actor: &Actor) {
    let rooms = C2C_MCP_AUTO_JOIN_ROOMS.text().unwrap_or_default();
    for room in rooms.split(',').map(str::trim).filter(|room| !room.is_empty()) {
        let command = command::JoinRoom { room_id: room.into(), from: None };
        if let Err(failure) = broker.execute(&command, actor) {
            note(&format!("c2c: cannot join room {room}: {}", failure.message()));
        }
    }
}
