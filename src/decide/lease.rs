//! Who is alive at a relay, and which alias of which node belongs to whom?

use std::borrow::Cow;

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    KeyBound, KeyUnbound, LeaseRenewed, MessagesDeadLettered, Process, RoomLeft, SessionRegistered,
    address,
};

use super::session::{Acting, dead_letters_of, ended};
use super::sweep::{UNBOUND, brought_back};
use super::{Decision, Facts, Liveness, Refusal, Reply, address as place};
use crate::code::Code;
use crate::state::{Binding, Mailbox, Session, State, pair, second_of, sequence_of};

/// An alias of a node comes alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRegister {
    pub alias: String,
    pub node_id: String,
    pub session_id: String,
    pub client_type: Option<String>,
    pub ttl_s: u64,
    /// What the node says of the agent.
    pub liveness: String,
    /// Whether a connector fetches its mail; then a bare alias that another node has is no
    /// conflict, the address with the node is enough.
    pub replicated: bool,
}

/// A lease goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRenew {
    pub node_id: String,
    pub session_id: String,
    pub liveness: String,
}

/// Answer to both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leased {
    pub alias: String,
    pub node_id: String,
    /// As the relay's log names it.
    pub session: String,
    /// Whether the alias without a host means this one.
    pub bare: bool,
    /// Dead letters that came back.
    pub redelivered: usize,
}

/// What ended with the leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Alias, node, session.
    pub expired: Vec<(String, String, String)>,
    /// Mailboxes whose mail moved to the dead letters.
    pub pruned: usize,
}

/// The one liveness of a session: by its lease if it has one, else by its process.
pub fn session_liveness(
    session: &Session,
    now_us: u64,
    process: &dyn Fn(Option<&Process>) -> Liveness,
) -> Liveness {
    match &session.lease {
        Some(lease)
            if lease.seen_us.saturating_add(lease.ttl_s.saturating_mul(1_000_000)) >= now_us =>
        {
            Liveness::Alive
        }
        Some(_) => Liveness::Dead,
        None => process(session.process.as_ref()),
    }
}

/// How a session is called in a relay's log: two nodes may have the same session id.
fn session_at(session_id: &str, node_id: &str) -> String {
    format!("{session_id}@{}", fold(node_id))
}

/// Who acts at a relay: whoever the session, the key or, where credentials are ignored, the alias
/// names.
pub(super) fn acting(
    state: &State,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Acting, Refusal> {
    let from = from.or(facts.actor.alias.as_deref());
    let session = facts.actor.session_id.as_ref();
    let by_session = session.and_then(|id| state.mailbox_of_session(id));
    let by_key = || {
        let (from, key) = (fold(from?), facts.actor.key.as_ref()?);
        let mine = |row: &Binding| fold(&row.alias) == from && row.public_key == *key;
        let row = state.bindings.scan([]).into_iter().map(|(_, row)| row).find(mine)?;
        state.mailbox_of(&address(&row.alias, &row.node_id))
    };
    let by_name = || state.mailbox_of(from.filter(|_| facts.actor.key.is_none())?);
    let found = by_session.or_else(by_key).or_else(by_name);
    found.map(Acting::of).ok_or_else(|| {
        let message = format!("nobody is registered as '{}'", from.unwrap_or_default());
        Refusal::new(Code::UnknownAlias, "alias", message).hint("register first")
    })
}

/// Who sends: also somebody who never registered, as scripts do where credentials are ignored.
pub(super) fn sender(from: Option<&str>, facts: &Facts<'_>) -> Result<Acting, Refusal> {
    let relay = facts.relay.and_then(|relay| relay.names.first());
    let from = from.unwrap_or_default();
    check_alias(from)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "from_alias", format!("from_alias {e}")))?;
    let address = format!("{from}@{}", relay.map_or("relay", String::as_str));
    Ok(Acting { mailbox: String::new(), alias: from.to_owned(), address, events: Vec::new() })
}

fn binding(state: &State, alias: &str, node_id: &str) -> Option<Binding> {
    state.bindings.get(pair(&fold(node_id), fold(alias).as_bytes()))
}

/// Whether an alias of a node may be used with the key of this request.
pub(super) fn check_key(binding: Option<&Binding>, facts: &Facts<'_>) -> Result<(), Refusal> {
    let Some(binding) = binding.filter(|row| !row.public_key.is_empty()) else { return Ok(()) };
    match &facts.actor.key {
        Some(key) if *key != binding.public_key => {
            let message = format!("'{}@{}' belongs to another key", binding.alias, binding.node_id);
            Err(Refusal::new(Code::KeyMismatch, "alias", message))
        }
        _ => Ok(()),
    }
}

/// A node belongs to the first key that is bound on it, and is not called like the relay, or like
/// the host of a node of another key.
fn check_node(state: &State, node_id: &str, facts: &Facts<'_>) -> Result<(), Refusal> {
    let named = |name: &String| fold(name) == fold(node_id);
    if facts.relay.is_some_and(|relay| relay.names.iter().any(named)) {
        let message = format!("'{node_id}' is a name of the relay");
        return Err(Refusal::new(Code::InvalidArgument, "node_id", message)
            .hint("choose another --node-id"));
    }
    let Some(key) = &facts.actor.key else { return Ok(()) };
    let others = |row: &Binding| !row.public_key.is_empty() && row.public_key != *key;
    if state.bindings_of(node_id).iter().any(others) {
        let message = format!("node '{node_id}' belongs to another key");
        return Err(Refusal::new(Code::KeyMismatch, "node_id", message)
            .hint("choose another --node-id, or use the key of that node"));
    }
    let known = state.bindings.any(pair(&fold(node_id), &[]));
    let host = |row: &Binding| place::host_name(&fold(&row.node_id)) == fold(node_id);
    if !known && state.bindings.scan([]).iter().any(|(_, row)| others(row) && host(row)) {
        let message = format!("'{node_id}' is the host of a node of another key");
        return Err(
            Refusal::new(Code::KeyMismatch, "node_id", message).hint("choose another --node-id")
        );
    }
    Ok(())
}

/// Whether the operator's list admits the key of this request under an alias.
fn check_allowed(alias: &str, facts: &Facts<'_>) -> Result<(), Refusal> {
    let allowed = facts.relay.and_then(|relay| relay.allowed.as_ref());
    let (Some(allowed), Some(key)) = (allowed, &facts.actor.key) else { return Ok(()) };
    if allowed.get(&fold(alias)) == Some(key) {
        return Ok(());
    }
    let message = format!("'{alias}' with this key is not on the relay's list");
    Err(Refusal::new(Code::AliasNotAllowed, "alias", message)
        .hint("ask its operator to add it to --allowed-identities"))
}

/// Mail that waits at an address goes to nobody who takes the address over.
fn withheld(state: &State, mailbox: &str, alias: &str) -> Option<Payload> {
    let unread = state.unread(mailbox).in_order();
    let messages: Vec<_> = unread.into_iter().map(|(sequence, ..)| sequence).collect();
    let (mailbox, alias, reason) = (mailbox.to_owned(), alias.to_owned(), UNBOUND.to_owned());
    let moved = MessagesDeadLettered { mailbox, alias, messages, reason };
    (!moved.messages.is_empty()).then_some(Payload::MessagesDeadLettered(moved))
}

/// What makes an alias of a node an address of the caller. The bare alias goes to its first holder;
/// `strict`, as for scripts, refuses to share it; for a connector the address with the node does.
pub(super) fn bind(
    state: &State,
    alias: &str,
    node_id: &str,
    strict: bool,
    facts: &Facts<'_>,
) -> Result<Vec<Payload>, Refusal> {
    let before = binding(state, alias, node_id);
    check_key(before.as_ref(), facts)?;
    check_node(state, node_id, facts)?;
    check_allowed(alias, facts)?;
    let name = address(alias, node_id);
    let mut events = Vec::new();
    if before.as_ref().is_some_and(|row| row.public_key.is_empty()) && facts.actor.key.is_some() {
        // Nobody can tell whether it is still the same agent: the mail of the one before stays here.
        events.extend(withheld(state, &name, alias));
    }
    let holder = state.mailbox_of(alias);
    // `cli-<user>` is a different person on each host.
    let mut bare = !fold(alias).starts_with("cli-");
    if let Some(holder) = holder.filter(|row| row.name != name) {
        if is_held(state, &holder, facts) {
            if strict {
                let message = format!("alias conflict: '{alias}' is held by {}", holder.address());
                return Err(Refusal::new(Code::AliasConflict, "alias", message)
                    .hint("choose another alias"));
            }
            bare = false;
        } else if bare {
            events.push(unbound(&holder, String::new(), "expired"));
        }
    }
    let public_key = facts.actor.key.clone().unwrap_or_default();
    let gains = bare && state.aliases.get(fold(alias)).as_ref() != Some(&name);
    let same =
        before.as_ref().is_some_and(|row| row.public_key == public_key || public_key.is_empty());
    if !same || gains {
        let known = before.map(|row| row.public_key).unwrap_or_default();
        let public_key = if public_key.is_empty() { known } else { public_key };
        events.push(Payload::KeyBound(KeyBound {
            alias: alias.to_owned(),
            node_id: node_id.to_owned(),
            public_key,
            replaces: None,
            bare,
            // Who is polled is polled until a connector registers it, and what waits leaves then.
            replicated: !strict && state.mailboxes.get(&name).is_none_or(|row| row.replicated),
        }));
    }
    Ok(events)
}

/// Whether nobody else may have the alias of this mailbox: a key outlives the lease.
fn is_held(state: &State, mailbox: &Mailbox, facts: &Facts<'_>) -> bool {
    let node_id = mailbox.node_id.as_deref().unwrap_or_default();
    let keyed =
        binding(state, &mailbox.alias, node_id).is_some_and(|row| !row.public_key.is_empty());
    let alive = |session: &Session| facts.alive(session);
    keyed
        || mailbox.replicated
        || super::mailbox_liveness(state, mailbox, &alive) == Liveness::Alive
}

fn unbound(mailbox: &Mailbox, public_key: String, reason: &str) -> Payload {
    Payload::KeyUnbound(KeyUnbound {
        alias: mailbox.alias.clone(),
        node_id: mailbox.node_id.clone().unwrap_or_default(),
        public_key,
        reason: reason.to_owned(),
    })
}

pub(super) fn register(
    state: &State,
    wish: &LeaseRegister,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_alias(&wish.alias)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "alias", format!("alias {e}")))?;
    check_name(&wish.session_id).map_err(|e| {
        Refusal::new(Code::InvalidSessionId, "session_id", format!("session id {e}"))
    })?;
    place::check_host(&wish.node_id).map_err(|refusal| {
        let (code, field) = (Code::InvalidArgument, "node_id");
        Refusal { code, field, ..refusal }.hint("letters, digits and . - _ : name a node")
    })?;
    let mut events = bind(state, &wish.alias, &wish.node_id, !wish.replicated, facts)?;
    let name = address(&wish.alias, &wish.node_id);
    let session_id = session_at(&wish.session_id, &wish.node_id);
    let holder = state.mailboxes.get(&name).and_then(|row| row.session);
    let known = state.sessions.get(&session_id).filter(|row| row.client_type == wish.client_type);
    // Said again, it is a heartbeat.
    if holder.as_ref() != Some(&session_id) || known.is_none() {
        events.push(Payload::SessionRegistered(SessionRegistered {
            session_id: session_id.clone(),
            alias: wish.alias.clone(),
            mailbox: name.clone(),
            node_id: wish.node_id.clone(),
            process: None,
            client_type: wish.client_type.clone(),
            role: None,
            cwd: None,
            tmux_location: None,
            takeover_from: holder.filter(|before| *before != session_id),
            imported_from: None,
            build: env!("CARGO_PKG_VERSION").into(),
        }));
    }
    let durable = !events.is_empty();
    events.push(Payload::LeaseRenewed(LeaseRenewed {
        session_id: session_id.clone(),
        mailbox: name.clone(),
        ttl_s: wish.ttl_s,
        liveness: wish.liveness.clone(),
        replicated: wish.replicated,
    }));
    let messages = dead_letters_of(state, &name);
    let redelivered = messages.len();
    events.extend(brought_back(&name, &messages));
    let polled = state.mailboxes.get(&name).is_some_and(|row| !row.replicated);
    if wish.replicated && polled {
        // What came before the connector lies below its cursor.
        let waiting = state.inbox.scan(pair(&name, &[])).into_iter();
        let waiting: Vec<_> = waiting.map(|(key, _)| sequence_of(&key)).collect();
        events.extend(brought_back(&name, &waiting));
    }
    let gains = |event: &Payload| matches!(event, Payload::KeyBound(fact) if fact.bare);
    let bare = state.aliases.get(fold(&wish.alias)) == Some(name) || events.iter().any(gains);
    let (alias, node_id) = (wish.alias.clone(), wish.node_id.clone());
    let reply = Leased { alias, node_id, session: session_id, bare, redelivered };
    let durable = durable || redelivered > 0 || (wish.replicated && polled);
    Ok(Decision { events, reply: Reply::Leased(reply), durable })
}

/// In one frame: nobody ever sees a node of which only a part is known, and takes the rest for
/// unknown.
pub(super) fn register_all(state: &State, wishes: &[LeaseRegister], facts: &Facts<'_>) -> Decision {
    let mut known = Cow::Borrowed(state);
    let (mut events, mut leased, mut durable) = (Vec::new(), Vec::new(), false);
    for wish in wishes {
        leased.push(register(&known, wish, facts).map(|decision| {
            durable |= decision.durable;
            for event in decision.events {
                let known = known.to_mut();
                known.apply(known.head + 1, facts.now_us, &event);
                events.push(event);
            }
            match decision.reply {
                Reply::Leased(leased) => leased,
                _ => Leased::default(),
            }
        }));
    }
    Decision { events, reply: Reply::LeasedAll(leased), durable }
}

pub(super) fn renew(
    state: &State,
    wish: &LeaseRenew,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let session_id = session_at(&wish.session_id, &wish.node_id);
    let session = state.sessions.get(&session_id);
    let mailbox = session.as_ref().and_then(|row| state.mailboxes.get(&row.mailbox));
    let (Some(session), Some(mailbox)) = (session, mailbox) else {
        let message = format!("no lease of session '{}' on {}", wish.session_id, wish.node_id);
        return Err(Refusal::new(Code::UnknownAlias, "session_id", message).hint("register again"));
    };
    check_key(binding(state, &mailbox.alias, &wish.node_id).as_ref(), facts)?;
    let reply = Leased {
        alias: mailbox.alias.clone(),
        node_id: wish.node_id.clone(),
        session: session_id.clone(),
        bare: state.aliases.get(fold(&mailbox.alias)).as_ref() == Some(&mailbox.name),
        redelivered: 0,
    };
    let renewed = LeaseRenewed {
        session_id,
        mailbox: mailbox.name,
        ttl_s: session.lease.map_or(0, |lease| lease.ttl_s),
        liveness: wish.liveness.clone(),
        replicated: mailbox.replicated,
    };
    let events = vec![Payload::LeaseRenewed(renewed)];
    Ok(Decision { events, reply: Reply::Leased(reply), durable: false })
}

/// Leases that are over end. Mail that nobody fetched moves to the dead letters and comes back with
/// the alias; mail that a connector fetches waits for it.
pub(super) fn collect(state: &State, facts: &Facts<'_>) -> Decision {
    let mut collected = Collected::default();
    let mut events = Vec::new();
    for (_, session) in state.sessions.scan([]) {
        if session.lease.is_none() || facts.alive(&session) != Liveness::Dead {
            continue;
        }
        events.push(ended(&session.session_id, &session.mailbox, "expired"));
        let Some(mailbox) = state.mailboxes.get(&session.mailbox) else { continue };
        let alias = mailbox.alias.clone();
        collected.expired.push((alias.clone(), session.node_id, session.session_id));
        if mailbox.replicated {
            continue;
        }
        for (key, ()) in state.memberships.scan(pair(&mailbox.name, &[])) {
            let (room_id, mailbox) = (second_of(&key), mailbox.name.clone());
            let (reason, origin) = ("expired".into(), None);
            events.push(Payload::RoomLeft(RoomLeft { room_id, mailbox, reason, origin }));
        }
        let unread = state.unread(&mailbox.name).in_order();
        let messages: Vec<_> = unread.into_iter().map(|(sequence, ..)| sequence).collect();
        if !messages.is_empty() {
            collected.pruned += 1;
            let (mailbox, reason) = (mailbox.name, "expired".into());
            let moved = MessagesDeadLettered { mailbox, alias, messages, reason };
            events.push(Payload::MessagesDeadLettered(moved));
        }
    }
    Decision { events, reply: Reply::Collected(collected), durable: true }
}

/// Takes an address from whoever has it; the alias is free for the next one.
pub(super) fn unbind(state: &State, alias: &str) -> Decision {
    let mut events = Vec::new();
    if let Some(mailbox) = state.mailbox_of(alias) {
        let node_id = mailbox.node_id.as_deref().unwrap_or_default();
        let key = binding(state, &mailbox.alias, node_id).map(|row| row.public_key);
        events.extend(withheld(state, &mailbox.name, &mailbox.alias));
        events.push(unbound(&mailbox, key.unwrap_or_default(), "admin"));
        if let Some(session_id) = &mailbox.session {
            events.push(ended(session_id, &mailbox.name, "unbound"));
        }
    }
    let messages = Vec::from_iter((!events.is_empty()).then_some(0));
    Decision { events, reply: Reply::Moved { messages }, durable: true }
}

/// Everything that belongs to the key of this request belongs to another one from now on.
pub(super) fn rotate(
    state: &State,
    public_key: &str,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let Some(key) = &facts.actor.key else {
        return Err(Refusal::new(Code::ForeignSender, "public_key", "the old key must sign this"));
    };
    let rows = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let mine = rows.filter(|row| row.public_key == *key);
    let events = mine.map(|row| {
        Payload::KeyBound(KeyBound {
            alias: row.alias,
            node_id: row.node_id,
            public_key: public_key.to_owned(),
            replaces: Some(key.clone()),
            bare: false,
            replicated: false,
        })
    });
    Ok(Decision { events: events.collect(), reply: Reply::Done, durable: true })
}
