//! The acting mailbox: on whose behalf a command is executed.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{Process, SessionEndReason, SessionEnded, full_address};

use super::alias::{CODEX, assign, held_by_another, numbered_aliases};
use crate::address::Address;
use crate::code::Code;
use crate::facts::{Actor, Facts, Liveness, SessionSource};
use crate::ids::Alias;
use crate::rejection::{Rejection, check_alias, check_session_id};
use crate::state::{Binding, Mailbox, Session, State};

/// The mailbox that acts, and the events that create it if it is new.
pub(super) struct Acting {
    pub mailbox: String,
    pub alias: Alias,
    /// The sender of its messages: the alias, at a relay with its node.
    pub address: String,
    pub events: Vec<Payload>,
}

impl Acting {
    /// A mailbox that exists already.
    fn existing(mailbox: Mailbox) -> Self {
        let address = mailbox.address();
        Self { mailbox: mailbox.name, alias: mailbox.alias, address, events: Vec::new() }
    }
}

/// Resolves the mailbox that acts. `from` is the alias that the caller claims to have.
pub(super) fn acting(
    state: &State,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Acting, Rejection> {
    let from = from.filter(|alias| !alias.is_empty());
    if facts.relay.is_some() {
        return acting_at_relay(state, from, facts);
    }
    let own = own_mailbox(state, facts)?;
    if let Some(mailbox) = own.filter(|mailbox| is_still_own(state, mailbox, facts)) {
        if let Some(from) = from
            && fold(from) != fold(&mailbox.alias)
        {
            let message = format!("this session is '{}' and cannot act as '{from}'", mailbox.alias);
            return Err(
                Rejection::new(Code::Forbidden, "from_alias", message).hint("omit from_alias")
            );
        }
        return Ok(Acting::existing(mailbox));
    }
    let actor = facts.actor;
    let alias = from.or(actor.alias.as_deref()).or(actor.fallback_alias.as_deref());
    let Some(alias) = alias else { return Err(not_registered()) };
    check_alias("alias", alias)?;
    let from_environment = from.is_none() && actor.alias.is_some();
    // The user is not a conversation of the client, although a variable of the client is set.
    let is_user = from.is_none() && actor.alias.is_none() && actor.source == SessionSource::Client;
    let plain = Actor { session_id: None, client_type: None, ..actor.clone() };
    let as_user = facts.with_actor(&plain);
    let facts = if is_user { &as_user } else { facts };
    let assigned = assign(state, alias, from_environment, facts)?;
    Ok(Acting {
        mailbox: assigned.mailbox,
        address: assigned.alias.clone().into(),
        alias: assigned.alias,
        events: vec![assigned.event],
    })
}

/// The rejection of a caller that has no mailbox.
pub fn not_registered() -> Rejection {
    Rejection::new(Code::NotRegistered, "session_id", "this session has no alias yet")
        .hint("register an alias first")
}

/// Whether the caller acts for a mailbox without registering again. An alias that only the
/// environment gave is registered again once the process that held it is gone.
fn is_still_own(state: &State, mailbox: &Mailbox, facts: &Facts<'_>) -> bool {
    let holder = || state.holder(mailbox).and_then(|session| session.process);
    facts.actor.session_id.is_some()
        || facts.actor.alias.is_none()
        || holder().is_some_and(|process| (facts.is_callers_process)(&process))
}

/// At a relay: resolves the mailbox by session, by key or, if credentials are ignored, by alias.
fn acting_at_relay(
    state: &State,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Acting, Rejection> {
    let from = from.or(facts.actor.alias.as_deref());
    let session = facts.actor.session_id.as_ref();
    let by_session = session.and_then(|id| state.mailbox_for_session(id));
    let by_key = || {
        let (alias, key) = (fold(from?), facts.actor.key.as_ref()?);
        let is_own = |row: &Binding| fold(&row.alias) == alias && row.public_key == *key;
        let row = state.bindings.scan([]).into_iter().map(|(_, row)| row).find(is_own)?;
        state.mailbox_for_alias(&full_address(&row.alias, &row.node_id))
    };
    let by_alias = || state.mailbox_for_alias(from.filter(|_| facts.actor.key.is_none())?);
    let mailbox = by_session.or_else(by_key).or_else(by_alias);
    mailbox.map(Acting::existing).ok_or_else(|| {
        let message = format!("no agent is registered as '{}'", from.unwrap_or_default());
        Rejection::new(Code::UnknownAlias, "alias", message).hint("register first")
    })
}

/// Resolves the sender of a message. At a relay that ignores credentials, a sender need not be
/// registered.
pub(super) fn sender(
    state: &State,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Acting, Rejection> {
    let ignores_credentials = facts.relay.is_some() && facts.actor.key.is_none();
    match acting(state, from, facts) {
        Err(rejection) if ignores_credentials && rejection.code == Code::UnknownAlias => {
            unregistered_sender(from, facts)
        }
        other => other,
    }
}

/// A sender without a mailbox, such as a script.
fn unregistered_sender(from: Option<&str>, facts: &Facts<'_>) -> Result<Acting, Rejection> {
    let relay = facts.relay.and_then(|relay| relay.names.first());
    let from = from.unwrap_or_default();
    check_alias("from_alias", from)?;
    let address = Address::on(from, relay.map_or("relay", String::as_str)).to_string();
    Ok(Acting { mailbox: String::new(), alias: from.into(), address, events: Vec::new() })
}

/// The mailbox that the caller's session has already.
pub(super) fn own_mailbox(state: &State, facts: &Facts<'_>) -> Result<Option<Mailbox>, Rejection> {
    // At a relay a session id contains its node, so that it is not a name.
    if let (Some(session_id), None) = (&facts.actor.session_id, facts.relay) {
        check_session_id(session_id)?;
        check_not_superseded(state, session_id)?;
    }
    Ok(find_own_mailbox(
        state,
        facts.actor,
        &|session| facts.alive(session),
        facts.is_callers_process,
    ))
}

/// Rejects a session whose alias was taken over: its mail belongs to the new session.
pub fn check_not_superseded(state: &State, session_id: &str) -> Result<(), Rejection> {
    let Some(lost) = state.lost_mailbox(session_id) else { return Ok(()) };
    let message = format!("another session has taken over the alias '{}'", lost.alias);
    Err(Rejection::new(Code::SessionSuperseded, "session_id", message)
        .hint("register again, with another alias if this one is in use"))
}

/// The mailbox that the caller's session has already, without checking the session id. A caller
/// without a session, but with an alias from the environment, has the mailbox that it would get by
/// registering that alias.
pub fn find_own_mailbox(
    state: &State,
    actor: &Actor,
    alive: &dyn Fn(&Session) -> Liveness,
    is_callers_process: &dyn Fn(&Process) -> bool,
) -> Option<Mailbox> {
    if let Some(session_id) = &actor.session_id {
        let known = state.mailbox_for_session(session_id);
        // An id that only the client supplied, and that no command has registered, names nobody.
        let names_nobody = actor.source == SessionSource::Client && actor.alias.is_none();
        return match actor.fallback_alias.as_deref().filter(|_| known.is_none() && names_nobody) {
            Some(user) => state.mailbox_for_alias(user),
            None => known,
        };
    }
    // A thread of Codex has no mailbox until it has stated its session.
    if actor.client_type.as_deref() == Some(CODEX) {
        return None;
    }
    let Some(requested) = &actor.alias else {
        return state.mailbox_for_alias(actor.fallback_alias.as_deref()?);
    };
    let is_own = |alias: &str| {
        let holder = state.mailbox_for_alias(alias).and_then(|mailbox| state.holder(&mailbox));
        holder
            .and_then(|session| session.process)
            .is_some_and(|process| is_callers_process(&process))
    };
    let alias = std::iter::once(requested.to_string())
        .chain(numbered_aliases(requested))
        .find(|alias| is_own(alias) || !held_by_another(state, alias, actor, alive))?;
    state.mailbox_for_alias(&alias)
}

/// The event that ends a session.
pub(super) fn session_ended(session_id: &str, mailbox: &str, reason: SessionEndReason) -> Payload {
    Payload::SessionEnded(SessionEnded {
        session_id: session_id.to_owned(),
        mailbox: mailbox.to_owned(),
        reason,
    })
}
