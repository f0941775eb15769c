//! Alias assignment: which alias and mailbox a session gets.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::limits::NAME_CHARS_MAX;
use c2c_log_format::payload::SessionRegistered;

use crate::code::Code;
use crate::facts::{Actor, Facts, Liveness, SessionSource};
use crate::ids::{Alias, SessionId};
use crate::rejection::Rejection;
use crate::state::{Session, State};

/// Exclusive upper limit of the numbers appended to a taken alias.
const NUMBERS_END: u32 = 1000;

/// The client type of Codex. Its threads are sessions of one process, so that the process does not
/// identify the session.
pub const CODEX: &str = "codex";

/// The result of assigning an alias to the caller's session.
pub(super) struct Assigned {
    pub mailbox: String,
    pub alias: Alias,
    pub session_id: SessionId,
    /// The session that held the alias before.
    pub took_over: Option<SessionId>,
    /// The registration to record.
    pub event: Payload,
}

/// Assigns an alias to the caller's session. A live alias is never taken over: if it was set in the
/// environment, the session gets the alias with the first free number; if it was given explicitly,
/// the request is rejected.
pub(super) fn assign(
    state: &State,
    requested: &str,
    from_environment: bool,
    facts: &Facts<'_>,
) -> Result<Assigned, Rejection> {
    let actor = facts.actor;
    let alias = free_alias(state, requested, from_environment, facts)?;
    // A session without an id is named after its alias.
    let session_id = actor.session_id.clone().unwrap_or_else(|| alias.as_str().into());
    let existing = state.mailbox_for_alias(&alias);
    let holder = existing.as_ref().and_then(|row| row.session.clone());
    let took_over = holder.filter(|before| session_id != *before);
    let mailbox = existing.map_or_else(|| new_mailbox(state, &alias), |row| row.name);
    let registered = SessionRegistered {
        takeover_from: took_over.clone().map(Into::into),
        ..registration(actor, &session_id, &alias, &mailbox)
    };
    let event = Payload::SessionRegistered(registered);
    Ok(Assigned { mailbox, alias, session_id, took_over, event })
}

fn free_alias(
    state: &State,
    requested: &str,
    from_environment: bool,
    facts: &Facts<'_>,
) -> Result<Alias, Rejection> {
    let alive = |session: &Session| facts.alive(session);
    let is_free = |alias: &str| !held_by_another(state, alias, facts.actor, &alive);
    if is_free(requested) {
        return Ok(requested.into());
    }
    let suggestion = numbered_aliases(requested).find(|alias| is_free(alias));
    match suggestion {
        Some(alias) if from_environment => Ok(alias.into()),
        suggestion => {
            let message = format!("alias '{requested}' is held by a live session");
            let mut rejection = Rejection::new(Code::AliasConflict, "alias", message);
            if let Some(alias) = suggestion {
                rejection = rejection.hint(format!("'{alias}' is free"));
                rejection.suggestion = Some(alias.into());
            }
            Err(rejection)
        }
    }
}

/// The registration of the caller's session under an alias.
pub(super) fn registration(
    actor: &Actor,
    session_id: &str,
    alias: &str,
    mailbox: &str,
) -> SessionRegistered {
    SessionRegistered {
        session_id: session_id.to_owned(),
        alias: alias.to_owned(),
        mailbox: mailbox.to_owned(),
        node_id: actor.node_id.to_string(),
        process: actor.process.clone(),
        client_type: actor.client_type.clone(),
        role: actor.role.clone(),
        cwd: actor.cwd.clone(),
        tmux_location: actor.tmux_location.clone(),
        takeover_from: None,
        imported_from: None,
        build: env!("CARGO_PKG_VERSION").into(),
    }
}

/// The alias with the numbers 2, 3, ... appended, shortened where it would become too long.
pub(super) fn numbered_aliases(alias: &str) -> impl Iterator<Item = String> {
    (2..NUMBERS_END).map(move |number| {
        let suffix = format!("-{number}");
        let base: String = alias.chars().take(NAME_CHARS_MAX - suffix.len()).collect();
        format!("{base}{suffix}")
    })
}

/// Name of the mailbox for a new alias: the alias, with a number if a renamed agent still has the
/// mailbox of that name.
pub(super) fn new_mailbox(state: &State, alias: &str) -> String {
    let name = fold(alias);
    if state.mailboxes.get(&name).is_none() {
        return name;
    }
    format!("{name}~{}", state.head + 1)
}

/// Whether a live session other than the caller's holds an alias.
pub(super) fn held_by_another(
    state: &State,
    alias: &str,
    actor: &Actor,
    alive: &dyn Fn(&Session) -> Liveness,
) -> bool {
    let holder = state.mailbox_for_alias(alias).and_then(|mailbox| state.holder(&mailbox));
    holder.is_some_and(|session| {
        let process = session.process.as_ref();
        // A client that makes ids for its conversations may have several of them at a time. One
        // succeeds another only after the client has reported the end of the other.
        let names_conversation =
            matches!(actor.source, SessionSource::Client | SessionSource::Request);
        let shares_process = actor.client_type.as_deref() == Some(CODEX)
            || names_conversation && actor.session_id.is_some();
        let same_process =
            process.is_some() && actor.process.as_ref() == process && !shares_process;
        let same_session = actor.session_id.as_deref() == Some(session.session_id.as_str());
        !same_session && !same_process && alive(&session) == Liveness::Alive
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_alias_is_never_longer_than_a_name_may_be() {
        assert_eq!(numbered_aliases("bob").next().as_deref(), Some("bob-2"));
        let longest = "a".repeat(NAME_CHARS_MAX);
        assert!(numbered_aliases(&longest).all(|alias| alias.len() == NAME_CHARS_MAX));
    }
}
