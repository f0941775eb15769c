//! Who is acting, and who may be called what?

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    AliasRenamed, DndChanged, Process, SessionEnded, SessionHeartbeat, SessionRegistered,
};

use super::{Actor, Decision, Facts, Liveness, Refusal, Registered, Reply};
use crate::code::Code;
use crate::state::{Mailbox, Session, State};

/// Numbers behind a taken alias are tried up to here.
const NUMBERS_END: u32 = 1000;

/// The mailbox that acts, and the events that make it so if it is new.
pub(super) struct Acting {
    pub mailbox: String,
    pub alias: String,
    /// What messages carry as their sender: the alias, at a relay with its node.
    pub address: String,
    pub events: Vec<Payload>,
}

/// The one resolver of who acts. `from` is what the caller claims to be.
pub(super) fn acting(
    state: &State,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Acting, Refusal> {
    let from = from.filter(|alias| !alias.is_empty());
    if facts.relay.is_some() {
        return super::lease::acting(state, from, facts);
    }
    if let Some(mailbox) = own_mailbox(state, facts)?.filter(|mailbox| keeps(state, mailbox, facts))
    {
        if let Some(from) = from
            && fold(from) != fold(&mailbox.alias)
        {
            let message = format!("this session is '{}', it cannot act as '{from}'", mailbox.alias);
            return Err(
                Refusal::new(Code::Forbidden, "from_alias", message).hint("leave from_alias out")
            );
        }
        return Ok(Acting::of(mailbox));
    }
    let actor = facts.actor;
    let alias = from.or(actor.alias.as_deref()).or(actor.fallback_alias.as_deref());
    let Some(alias) = alias else {
        return Err(Refusal::new(
            Code::NotRegistered,
            "session_id",
            "this session has no alias yet",
        )
        .hint("call register with an alias first"));
    };
    check_alias(alias)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
    let from_environment = from.is_none() && actor.alias.is_some();
    take(state, alias, from_environment, facts).map(|(taken, events)| Acting {
        mailbox: taken.mailbox,
        address: taken.alias.clone(),
        alias: taken.alias,
        events,
    })
}

impl Acting {
    /// Somebody who is known already.
    pub(super) fn of(mailbox: Mailbox) -> Self {
        let address = mailbox.address();
        Self { mailbox: mailbox.name, alias: mailbox.alias, address, events: Vec::new() }
    }
}

/// Whether the caller acts for a mailbox without registering again. A name that only the
/// environment gave is registered anew once the process that held it is gone.
fn keeps(state: &State, mailbox: &Mailbox, facts: &Facts<'_>) -> bool {
    let holder = || state.holder(mailbox).and_then(|session| session.process);
    facts.actor.session_id.is_some()
        || facts.actor.alias.is_none()
        || holder().is_some_and(|process| (facts.is_mine)(&process))
}

/// The mailbox that the caller's session already has.
pub(super) fn own_mailbox(state: &State, facts: &Facts<'_>) -> Result<Option<Mailbox>, Refusal> {
    // At a relay a session carries its node.
    if let (Some(session_id), None) = (&facts.actor.session_id, facts.relay) {
        check_name(session_id).map_err(|e| {
            Refusal::new(Code::InvalidSessionId, "session_id", format!("session id {e}"))
        })?;
        check_held(state, session_id)?;
    }
    Ok(mailbox_of_actor(state, facts.actor, &|session| facts.alive(session), facts.is_mine))
}

/// Refuses a session whose alias another one took over: its mail is that one's now.
pub fn check_held(state: &State, session_id: &str) -> Result<(), Refusal> {
    let Some(lost) = state.lost_mailbox(session_id) else { return Ok(()) };
    let message = format!("another session took '{}' over from this one", lost.alias);
    Err(Refusal::new(Code::SessionSuperseded, "session_id", message)
        .hint("register again, with another alias if that one is in use"))
}

/// The same without a word about what is wrong with a session id. A caller without a session, but
/// with an alias from the environment, is whoever it would become by registering that alias.
pub fn mailbox_of_actor(
    state: &State,
    actor: &Actor,
    alive: &dyn Fn(&Session) -> Liveness,
    is_mine: &dyn Fn(&Process) -> bool,
) -> Option<Mailbox> {
    if let Some(session_id) = &actor.session_id {
        return state.mailbox_of_session(session_id);
    }
    // A thread of Codex has none before it said which one it is.
    if actor.client_type.as_deref() == Some(CODEX) {
        return None;
    }
    let Some(wanted) = &actor.alias else {
        return state.mailbox_of(actor.fallback_alias.as_deref()?);
    };
    let mine = |alias: &str| {
        let holder = state.mailbox_of(alias).and_then(|mailbox| state.holder(&mailbox));
        holder.and_then(|session| session.process).is_some_and(|process| is_mine(&process))
    };
    let numbers = (2..NUMBERS_END).map(|n| numbered(wanted, n));
    let alias = std::iter::once(wanted.clone())
        .chain(numbers)
        .find(|alias| mine(alias) || !held_by_another(state, alias, actor, alive))?;
    state.mailbox_of(&alias)
}

struct Taken {
    mailbox: String,
    alias: String,
    session_id: String,
    took_over: Option<String>,
}

/// Takes an alias for the caller's session. A live alias is never taken over: one from the
/// environment gets the first free number behind it, an explicit one is refused.
fn take(
    state: &State,
    wanted: &str,
    from_environment: bool,
    facts: &Facts<'_>,
) -> Result<(Taken, Vec<Payload>), Refusal> {
    let actor = facts.actor;
    let free = |alias: &str| !held_by_another(state, alias, actor, &|session| facts.alive(session));
    let alias = if free(wanted) {
        wanted.to_owned()
    } else {
        let suggestion = (2..NUMBERS_END).map(|n| numbered(wanted, n)).find(|alias| free(alias));
        match suggestion {
            Some(alias) if from_environment => alias,
            suggestion => {
                let message = format!("alias '{wanted}' is held by a live session");
                let mut refusal = Refusal::new(Code::AliasConflict, "alias", message);
                if let Some(alias) = suggestion {
                    refusal = refusal.hint(format!("'{alias}' is free"));
                    refusal.suggestion = Some(alias);
                }
                return Err(refusal);
            }
        }
    };
    // A session without an id of its own is called like its alias.
    let session_id = actor.session_id.clone().unwrap_or_else(|| alias.clone());
    let existing = state.mailbox_of(&alias);
    let took_over = existing.as_ref().and_then(|row| row.session.clone());
    let took_over = took_over.filter(|before| *before != session_id);
    let mailbox = existing.map_or_else(|| new_mailbox(state, &alias), |row| row.name);
    let events = vec![Payload::SessionRegistered(SessionRegistered {
        session_id: session_id.clone(),
        alias: alias.clone(),
        mailbox: mailbox.clone(),
        node_id: actor.node_id.clone(),
        process: actor.process.clone(),
        client_type: actor.client_type.clone(),
        role: actor.role.clone(),
        cwd: actor.cwd.clone(),
        tmux_location: actor.tmux_location.clone(),
        takeover_from: took_over.clone(),
        imported_from: None,
        build: env!("CARGO_PKG_VERSION").into(),
    })];
    Ok((Taken { mailbox, alias, session_id, took_over }, events))
}

fn numbered(alias: &str, n: u32) -> String {
    let suffix = format!("-{n}");
    let room = c2c_log_format::limits::NAME_CHARS_MAX - suffix.len();
    let base: String = alias.chars().take(room).collect();
    format!("{base}{suffix}")
}

/// Name of the mailbox of a new alias identity: the alias, or with a number when an identity that
/// was renamed still has that mailbox.
pub(super) fn new_mailbox(state: &State, alias: &str) -> String {
    let name = fold(alias);
    if state.mailboxes.get(&name).is_none() {
        return name;
    }
    format!("{name}~{}", state.head + 1)
}

/// The client type of Codex: its threads are sessions of one process, so that the process says nothing
/// about which of them this is.
pub const CODEX: &str = "codex";

fn held_by_another(
    state: &State,
    alias: &str,
    actor: &Actor,
    alive: &dyn Fn(&Session) -> Liveness,
) -> bool {
    let holder = state.mailbox_of(alias).and_then(|mailbox| state.holder(&mailbox));
    holder.is_some_and(|session| {
        let process = session.process.as_ref();
        let several = actor.client_type.as_deref() == Some(CODEX);
        let mine = process.is_some() && actor.process.as_ref() == process && !several;
        let same = actor.session_id.as_ref() == Some(&session.session_id);
        !same && !mine && alive(&session) == Liveness::Alive
    })
}

pub(super) fn register(
    state: &State,
    alias: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let actor = facts.actor;
    let alias = alias.filter(|alias| !alias.is_empty());
    let checked = |alias: &str| {
        check_alias(alias)
            .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))
    };
    // Before the session id, which may be made from it.
    alias.map_or(Ok(()), checked)?;
    let current = match &actor.session_id {
        Some(session_id) => {
            check_name(session_id).map_err(|e| {
                Refusal::new(Code::InvalidSessionId, "session_id", format!("session id {e}"))
            })?;
            state.mailbox_of_session(session_id)
        }
        None => None,
    };
    // Without an explicit alias a session keeps the one it has.
    let kept = current.as_ref().map(|mailbox| mailbox.alias.clone());
    let wanted = alias.map(str::to_owned).or(kept).or(actor.alias.clone());
    let Some(wanted) = wanted else {
        return Err(Refusal::new(Code::InvalidAlias, "alias", "an alias is needed")
            .hint("pass an alias, or set C2C_MCP_AUTO_REGISTER_ALIAS"));
    };
    checked(&wanted)?;
    if let Some(current) = &current
        && fold(&current.alias) != fold(&wanted)
        && state.mailbox_of(&wanted).is_none()
    {
        // An explicit other alias for a known session is a rename: its mailbox comes along.
        let mut decision = rename(state, &wanted, facts)?;
        decision.events.push(Payload::SessionRegistered(again(current, &wanted, facts)));
        return Ok(decision);
    }
    let (taken, mut events) = take(state, &wanted, alias.is_none(), facts)?;
    let returned = dead_letters_of(state, &taken.mailbox);
    let redelivered = returned.len();
    if redelivered > 0 {
        let fact = c2c_log_format::payload::DeadLettersReturned {
            mailbox: taken.mailbox.clone(),
            messages: returned,
        };
        events.push(Payload::DeadLettersReturned(fact));
    }
    let asked = (fold(&taken.alias) != fold(&wanted)).then_some(wanted);
    let reply = Reply::Registered(Registered {
        alias: taken.alias,
        session_id: taken.session_id,
        asked,
        took_over: taken.took_over,
        redelivered,
    });
    Ok(Decision { events, reply, durable: true })
}

fn again(mailbox: &Mailbox, alias: &str, facts: &Facts<'_>) -> SessionRegistered {
    let actor = facts.actor;
    SessionRegistered {
        session_id: actor.session_id.clone().unwrap_or_else(|| alias.to_owned()),
        alias: alias.to_owned(),
        mailbox: mailbox.name.clone(),
        node_id: actor.node_id.clone(),
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

/// What a sweep or an expired lease put aside. What a sender was told is dead stays so.
pub(super) fn dead_letters_of(state: &State, mailbox: &str) -> Vec<u64> {
    let letters = state.dead_letters.scan(crate::state::pair(mailbox, &[])).into_iter();
    let mine = letters.filter(|(_, letter)| ["sweep", "expired"].contains(&&*letter.reason));
    mine.map(|(key, _)| crate::state::sequence_of(&key)).collect()
}

pub(super) fn rename(state: &State, alias: &str, facts: &Facts<'_>) -> Result<Decision, Refusal> {
    check_alias(alias)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
    let acting = acting(state, None, facts)?;
    let holder = state.mailbox_of(alias).filter(|mailbox| mailbox.name != acting.mailbox);
    if holder.is_some() {
        let message = format!("alias '{alias}' belongs to another agent");
        return Err(
            Refusal::new(Code::AliasConflict, "alias", message).hint("choose another alias")
        );
    }
    let mut events = acting.events;
    if acting.alias != alias {
        events.push(Payload::AliasRenamed(AliasRenamed {
            mailbox: acting.mailbox,
            old: acting.alias,
            new: alias.to_owned(),
        }));
    }
    let reply = Reply::Registered(Registered {
        alias: alias.to_owned(),
        session_id: facts.actor.session_id.clone().unwrap_or_default(),
        asked: None,
        took_over: None,
        redelivered: 0,
    });
    Ok(Decision { events, reply, durable: true })
}

pub(super) fn heartbeat(state: &State, facts: &Facts<'_>) -> Result<Decision, Refusal> {
    let mut events = Vec::new();
    if let Some(session_id) = &facts.actor.session_id
        && let Some(session) = state.sessions.get(session_id)
    {
        events.push(Payload::SessionHeartbeat(SessionHeartbeat {
            session_id: session.session_id,
            mailbox: session.mailbox,
        }));
    }
    Ok(Decision { events, reply: Reply::Done, durable: false })
}

pub(super) fn dnd(
    state: &State,
    on: bool,
    until_us: Option<u64>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let acting = acting(state, None, facts)?;
    let mut events = acting.events;
    events.push(Payload::DndChanged(DndChanged { mailbox: acting.mailbox, on, until_us }));
    Ok(Decision { events, reply: Reply::Done, durable: true })
}

/// The event that ends a session.
pub(super) fn ended(session_id: &str, mailbox: &str, reason: &str) -> Payload {
    Payload::SessionEnded(SessionEnded {
        session_id: session_id.to_owned(),
        mailbox: mailbox.to_owned(),
        reason: reason.to_owned(),
    })
}
