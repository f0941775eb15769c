//! Sessions: registration, rename, heartbeat, do-not-disturb.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{AliasRenamed, DndChanged, SessionEndReason, SessionHeartbeat};

use super::acting::{acting, session_ended};
use super::alias::{assign, registration};
use super::dead_letters::{dead_letters_returned, returnable_dead_letters};
use crate::code::Code;
use crate::facts::Facts;
use crate::ids::Alias;
use crate::rejection::{Rejection, check_alias, check_session_id};
use crate::reply::{Decision, Registered};
use crate::state::State;

pub(super) fn register(
    state: &State,
    alias: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision<Registered>, Rejection> {
    let actor = facts.actor;
    let alias = alias.filter(|alias| !alias.is_empty());
    // Checked before the session id, which may be derived from the alias.
    if let Some(alias) = alias {
        check_alias("alias", alias)?;
    }
    let current = match &actor.session_id {
        Some(session_id) => {
            check_session_id(session_id)?;
            state.mailbox_for_session(session_id)
        }
        None => None,
    };
    // Without an explicit alias, a session keeps the one that it has.
    let current_alias = current.as_ref().map(|mailbox| mailbox.alias.clone());
    let requested = alias.map(Alias::from).or(current_alias).or_else(|| actor.alias.clone());
    let Some(requested) = requested else {
        return Err(Rejection::new(Code::InvalidAlias, "alias", "no alias was given")
            .hint("pass an alias, or set C2C_MCP_AUTO_REGISTER_ALIAS"));
    };
    check_alias("alias", &requested)?;
    if let Some(current) = &current
        && fold(&current.alias) != fold(&requested)
        && state.mailbox_for_alias(&requested).is_none()
    {
        // A known session that registers a different, free alias is renamed and keeps its mailbox.
        let mut decision = rename(state, &requested, facts)?;
        let session_id = actor.session_id.as_deref().unwrap_or(&requested);
        let registered = registration(actor, session_id, &requested, &current.name);
        decision.events.push(Payload::SessionRegistered(registered));
        return Ok(decision);
    }
    let assigned = assign(state, &requested, alias.is_none(), facts)?;
    let mut events = vec![assigned.event];
    let returned = returnable_dead_letters(state, &assigned.mailbox);
    let redelivered = returned.len();
    if redelivered > 0 {
        events.push(dead_letters_returned(&assigned.mailbox, &returned));
    }
    let reply = Registered {
        asked: (fold(&assigned.alias) != fold(&requested)).then_some(requested),
        alias: assigned.alias,
        session_id: assigned.session_id,
        took_over: assigned.took_over,
        redelivered,
    };
    Ok(Decision::durable(events, reply))
}

pub(super) fn rename(
    state: &State,
    alias: &str,
    facts: &Facts<'_>,
) -> Result<Decision<Registered>, Rejection> {
    check_alias("alias", alias)?;
    let acting = acting(state, None, facts)?;
    let holder = state.mailbox_for_alias(alias).filter(|mailbox| mailbox.name != acting.mailbox);
    if holder.is_some() {
        let message = format!("alias '{alias}' belongs to another agent");
        return Err(
            Rejection::new(Code::AliasConflict, "alias", message).hint("choose another alias")
        );
    }
    let mut events = acting.events;
    if acting.alias != alias {
        events.push(Payload::AliasRenamed(AliasRenamed {
            mailbox: acting.mailbox,
            old: acting.alias.into(),
            new: alias.to_owned(),
        }));
    }
    let reply = Registered {
        alias: alias.into(),
        session_id: facts.actor.session_id.clone().unwrap_or_default(),
        asked: None,
        took_over: None,
        redelivered: 0,
    };
    Ok(Decision::durable(events, reply))
}

pub(super) fn heartbeat(state: &State, facts: &Facts<'_>) -> Decision<()> {
    let mut events = Vec::new();
    if let Some(session_id) = &facts.actor.session_id
        && let Some(session) = state.sessions.get(session_id)
    {
        events.push(Payload::SessionHeartbeat(SessionHeartbeat {
            session_id: session.session_id.into(),
            mailbox: session.mailbox,
        }));
    }
    Decision::relaxed(events, ())
}

pub(super) fn end(state: &State, facts: &Facts<'_>) -> Decision<()> {
    let session = facts.actor.session_id.as_ref().and_then(|id| state.sessions.get(id));
    let ended = session.map(|session| {
        session_ended(&session.session_id, &session.mailbox, SessionEndReason::Left)
    });
    Decision::durable(ended.into_iter().collect(), ())
}

pub(super) fn dnd(
    state: &State,
    on: bool,
    until_us: Option<u64>,
    facts: &Facts<'_>,
) -> Result<Decision<()>, Rejection> {
    let acting = acting(state, None, facts)?;
    let mut events = acting.events;
    events.push(Payload::DndChanged(DndChanged { mailbox: acting.mailbox, on, until_us }));
    Ok(Decision::durable(events, ()))
}
