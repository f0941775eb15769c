//! Registration at a relay: leases, and the keys that addresses belong to.

use std::borrow::Cow;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLetterReason, KeyBound, KeyUnbound, LeaseRenewed, MessagesDeadLettered, RoomLeaveReason,
    RoomLeft, SessionEndReason, SessionRegistered, UnbindReason, full_address,
};
use c2c_log_format::{Payload, Sequence};

use crate::address::{host_name, relay_session_id};
use crate::code::Code;
use crate::command::{LeaseRenewal, LeaseRequest};
use crate::decide::acting::session_ended;
use crate::decide::dead_letters::{dead_letters_returned_in_chunks, returnable_dead_letters};
use crate::facts::{Facts, Liveness};
use crate::rejection::{Rejection, check_alias, check_host, check_session_id};
use crate::reply::{Collected, Decision, ExpiredLease, Leased};
use crate::state::{Binding, Mailbox, State, compound_key, second_name_in_key, sequence_in_key};

fn binding(state: &State, alias: &str, node_id: &str) -> Option<Binding> {
    state.bindings.get(compound_key(&fold(node_id), fold(alias).as_bytes()))
}

/// Checks that the key of the request may use a bound address.
fn check_key(binding: Option<&Binding>, facts: &Facts<'_>) -> Result<(), Rejection> {
    let Some(binding) = binding.filter(|row| !row.public_key.is_empty()) else { return Ok(()) };
    match &facts.actor.key {
        Some(key) if *key != binding.public_key => {
            let message = format!("'{}@{}' belongs to another key", binding.alias, binding.node_id);
            Err(Rejection::new(Code::AliasIdentityMismatch, "alias", message))
        }
        _ => Ok(()),
    }
}

/// Checks that the key of the request may use a node id. A node belongs to the first key that is
/// bound on it, and its id must not be a name of the relay or the host of another key's node.
fn check_node(state: &State, node_id: &str, facts: &Facts<'_>) -> Result<(), Rejection> {
    let is_node = |name: &String| fold(name) == fold(node_id);
    if facts.relay.is_some_and(|relay| relay.names.iter().any(is_node)) {
        let message = format!("node id '{node_id}' is a name of the relay");
        return Err(Rejection::new(Code::InvalidArgument, "node_id", message)
            .hint("choose another node id (--node-id)"));
    }
    let Some(key) = &facts.actor.key else { return Ok(()) };
    let is_of_other_key = |row: &Binding| !row.public_key.is_empty() && row.public_key != *key;
    if state.bindings_for_node(node_id).iter().any(is_of_other_key) {
        let message = format!("node '{node_id}' belongs to another key");
        return Err(Rejection::new(Code::AliasIdentityMismatch, "node_id", message)
            .hint("choose another node id (--node-id), or use the key of that node"));
    }
    let is_known = state.bindings.any(compound_key(&fold(node_id), &[]));
    let is_on_host = |row: &Binding| host_name(&fold(&row.node_id)) == fold(node_id);
    let mut bindings = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    if !is_known && bindings.any(|row| is_of_other_key(&row) && is_on_host(&row)) {
        let message = format!("node id '{node_id}' is the host name of another key's node");
        return Err(Rejection::new(Code::AliasIdentityMismatch, "node_id", message)
            .hint("choose another node id (--node-id)"));
    }
    Ok(())
}

/// Checks that the operator's list, if there is one, admits the key of the request for an alias.
fn check_allowed(alias: &str, facts: &Facts<'_>) -> Result<(), Rejection> {
    let allowed = facts.relay.and_then(|relay| relay.allowed_keys.as_ref());
    let (Some(allowed), Some(key)) = (allowed, &facts.actor.key) else { return Ok(()) };
    if allowed.get(&fold(alias)) == Some(key) {
        return Ok(());
    }
    let message = format!("the relay does not admit '{alias}' with this key");
    Err(Rejection::new(Code::AliasNotAllowed, "alias", message)
        .hint("ask the relay's operator to add it to --allowed-identities"))
}

/// Moves the unread mail of an address to the dead letters, so that a new owner does not get it.
fn withhold_mail(state: &State, mailbox: &str, alias: &str) -> Option<Payload> {
    let messages = unread(state, mailbox);
    let is_any = !messages.is_empty();
    is_any.then(|| mail_dead_lettered(mailbox, alias, messages, DeadLetterReason::Unbound))
}

fn unread(state: &State, mailbox: &str) -> Vec<Sequence> {
    state.unread(mailbox).in_order().iter().map(|message| message.sequence).collect()
}

fn mail_dead_lettered(
    mailbox: &str,
    alias: &str,
    messages: Vec<Sequence>,
    reason: DeadLetterReason,
) -> Payload {
    Payload::MessagesDeadLettered(MessagesDeadLettered {
        mailbox: mailbox.to_owned(),
        alias: alias.to_owned(),
        messages,
        reason,
    })
}

/// The events that make an alias of a node an address of the caller. The bare alias belongs to its
/// first holder. With `strict`, as for scripts, a bare alias that another node holds is an error;
/// without, as for a connector, the address with the node is sufficient.
pub(super) fn bind(
    state: &State,
    alias: &str,
    node_id: &str,
    strict: bool,
    facts: &Facts<'_>,
) -> Result<Vec<Payload>, Rejection> {
    let before = binding(state, alias, node_id);
    check_key(before.as_ref(), facts)?;
    check_node(state, node_id, facts)?;
    check_allowed(alias, facts)?;
    let name = full_address(alias, node_id);
    let mut events = Vec::new();
    if before.as_ref().is_some_and(|row| row.public_key.is_empty()) && facts.actor.key.is_some() {
        // Nothing proves that this is the agent that was registered without a key, so its mail is
        // not handed over.
        events.extend(withhold_mail(state, &name, alias));
    }
    // `cli-<user>` is a different person on each host.
    let mut bare = !fold(alias).starts_with("cli-");
    let holder = state.mailbox_for_alias(alias);
    if let Some(holder) = holder.filter(|row| row.name != name) {
        if is_held(state, &holder, facts) {
            if strict {
                let message = format!("alias '{alias}' is held by {}", holder.address());
                return Err(Rejection::new(Code::AliasConflict, "alias", message)
                    .hint("choose another alias"));
            }
            bare = false;
        } else if bare {
            events.push(key_unbound(&holder, String::new(), UnbindReason::Expired));
        }
    }
    let public_key = facts.actor.key.clone().unwrap_or_default();
    let gains_bare_alias = bare && state.aliases.get(fold(alias)).as_ref() != Some(&name);
    let is_bound =
        before.as_ref().is_some_and(|row| row.public_key == public_key || public_key.is_empty());
    if !is_bound || gains_bare_alias {
        let known = before.map(|row| row.public_key).unwrap_or_default();
        events.push(Payload::KeyBound(KeyBound {
            alias: alias.to_owned(),
            node_id: node_id.to_owned(),
            public_key: if public_key.is_empty() { known } else { public_key },
            replaces: None,
            bare,
            // A mailbox that is read by polling stays so until a connector registers it, which then
            // fetches the waiting mail.
            replicated: !strict && state.mailboxes.get(&name).is_none_or(|row| row.replicated),
        }));
    }
    Ok(events)
}

/// Whether the alias of a mailbox is in use: its agent is alive, has a connector, or has a key,
/// which outlives the lease.
fn is_held(state: &State, mailbox: &Mailbox, facts: &Facts<'_>) -> bool {
    let node_id = mailbox.node_id.as_deref().unwrap_or_default();
    let binding = binding(state, &mailbox.alias, node_id);
    binding.is_some_and(|row| !row.public_key.is_empty())
        || mailbox.replicated
        || facts.mailbox_liveness(state, mailbox) == Liveness::Alive
}

fn key_unbound(mailbox: &Mailbox, public_key: String, reason: UnbindReason) -> Payload {
    Payload::KeyUnbound(KeyUnbound {
        alias: mailbox.alias.clone().into(),
        node_id: mailbox.node_id.clone().unwrap_or_default().into(),
        public_key,
        reason,
    })
}

/// Registers an alias of a node, and starts its lease.
pub(in crate::decide) fn register(
    state: &State,
    request: &LeaseRequest,
    facts: &Facts<'_>,
) -> Result<Decision<Leased>, Rejection> {
    let LeaseRequest { alias, node_id, .. } = request;
    check_alias("alias", alias)?;
    check_session_id(&request.session_id)?;
    check_host(node_id).map_err(|rejection| {
        Rejection { code: Code::InvalidArgument, field: "node_id".into(), ..rejection }
            .hint("use letters, digits and . - _ : only")
    })?;
    let mut events = bind(state, alias, node_id, !request.replicated, facts)?;
    let name = full_address(alias, node_id);
    let session_id = relay_session_id(&request.session_id, node_id);
    let holder = state.mailboxes.get(&name).and_then(|row| row.session);
    let session = state.sessions.get(&session_id);
    let known = session.filter(|row| row.client_type == request.client_type);
    // A repeated registration is a heartbeat.
    if holder.as_deref() != Some(session_id.as_str()) || known.is_none() {
        let takeover_from = holder.filter(|before| *before != session_id);
        events.push(session_registered(request, &session_id, &name, takeover_from.map(Into::into)));
    }
    let is_changed = !events.is_empty();
    events.push(Payload::LeaseRenewed(LeaseRenewed {
        session_id: session_id.clone(),
        mailbox: name.clone(),
        ttl_s: request.ttl_s,
        liveness: request.liveness.clone(),
        replicated: request.replicated,
    }));
    let returned = returnable_dead_letters(state, &name);
    events.extend(dead_letters_returned_in_chunks(&name, &returned));
    let was_polled = state.mailboxes.get(&name).is_some_and(|row| !row.replicated);
    let is_now_fetched = request.replicated && was_polled;
    if is_now_fetched {
        // Mail from before the connector is below its cursor, so it is sent again.
        let unread = state.inbox.scan(compound_key(&name, &[])).into_iter();
        let unread: Vec<_> = unread.map(|(key, _)| sequence_in_key(&key)).collect();
        events.extend(dead_letters_returned_in_chunks(&name, &unread));
    }
    let gains = |event: &Payload| matches!(event, Payload::KeyBound(fact) if fact.bare);
    let bare = state.aliases.get(fold(alias)) == Some(name) || events.iter().any(gains);
    let reply = Leased {
        alias: alias.clone(),
        node_id: node_id.clone(),
        session: session_id.into(),
        bare,
        redelivered: returned.len(),
    };
    let durable = is_changed || !returned.is_empty() || is_now_fetched;
    Ok(Decision { events, outcome: Ok(reply), durable })
}

fn session_registered(
    request: &LeaseRequest,
    session_id: &str,
    mailbox: &str,
    takeover_from: Option<String>,
) -> Payload {
    Payload::SessionRegistered(SessionRegistered {
        client_type: request.client_type.clone(),
        takeover_from,
        build: env!("CARGO_PKG_VERSION").into(),
        ..SessionRegistered::new(
            session_id,
            request.alias.clone(),
            mailbox,
            request.node_id.clone(),
        )
    })
}

/// Registers all agents of a node in one frame, so that no other node sees only some of them and
/// takes the others for unknown.
pub(in crate::decide) fn register_all(
    state: &State,
    requests: &[LeaseRequest],
    facts: &Facts<'_>,
) -> Decision<Vec<Result<Leased, Rejection>>> {
    let mut state = Cow::Borrowed(state);
    let mut events = Vec::new();
    let mut leased = Vec::new();
    let mut durable = false;
    for request in requests {
        leased.push(register(&state, request, facts).and_then(|decision| {
            durable |= decision.durable;
            for event in decision.events {
                let state = state.to_mut();
                state.apply(state.head + 1, facts.now_us, &event);
                events.push(event);
            }
            decision.outcome
        }));
    }
    Decision { events, outcome: Ok(leased), durable }
}

/// Renews a lease.
pub(in crate::decide) fn renew(
    state: &State,
    request: &LeaseRenewal,
    facts: &Facts<'_>,
) -> Result<Decision<Leased>, Rejection> {
    let LeaseRenewal { session_id, node_id, .. } = request;
    let relay_id = relay_session_id(session_id, node_id);
    let session = state.sessions.get(&relay_id);
    let mailbox = session.as_ref().and_then(|row| state.mailboxes.get(&row.mailbox));
    let (Some(session), Some(mailbox)) = (session, mailbox) else {
        let message = format!("session '{session_id}' on {node_id} has no lease");
        return Err(
            Rejection::new(Code::UnknownAlias, "session_id", message).hint("register again")
        );
    };
    check_key(binding(state, &mailbox.alias, node_id).as_ref(), facts)?;
    let reply = Leased {
        alias: mailbox.alias.clone(),
        node_id: node_id.clone(),
        session: relay_id.clone().into(),
        bare: state.aliases.get(fold(&mailbox.alias)).as_ref() == Some(&mailbox.name),
        redelivered: 0,
    };
    let renewed = LeaseRenewed {
        session_id: relay_id,
        mailbox: mailbox.name,
        ttl_s: session.lease.map_or(0, |lease| lease.ttl_s),
        liveness: request.liveness.clone(),
        replicated: mailbox.replicated,
    };
    let events = vec![Payload::LeaseRenewed(renewed)];
    Ok(Decision::relaxed(events, reply))
}

/// Ends the leases that have expired. Unread mail moves to the dead letters and returns with the
/// alias, except mail that a connector fetches, which waits for it.
pub(in crate::decide) fn collect(state: &State, facts: &Facts<'_>) -> Decision<Collected> {
    let mut collected = Collected::default();
    let mut events = Vec::new();
    for (_, session) in state.sessions.scan([]) {
        if session.lease.is_none() || facts.alive(&session) != Liveness::Dead {
            continue;
        }
        events.push(session_ended(
            &session.session_id,
            &session.mailbox,
            SessionEndReason::Expired,
        ));
        let Some(mailbox) = state.mailboxes.get(&session.mailbox) else { continue };
        collected.expired.push(ExpiredLease {
            alias: mailbox.alias.clone(),
            node_id: session.node_id,
            session_id: session.session_id,
        });
        if mailbox.replicated {
            continue;
        }
        for (key, ()) in state.memberships.scan(compound_key(&mailbox.name, &[])) {
            events.push(Payload::RoomLeft(RoomLeft {
                room_id: second_name_in_key(&key),
                mailbox: mailbox.name.clone(),
                reason: RoomLeaveReason::Expired,
                origin: None,
            }));
        }
        let messages = unread(state, &mailbox.name);
        if !messages.is_empty() {
            collected.pruned += 1;
            events.push(mail_dead_lettered(
                &mailbox.name,
                &mailbox.alias,
                messages,
                DeadLetterReason::Expired,
            ));
        }
    }
    Decision::durable(events, collected)
}

/// Releases an address from its key, so that another key can bind it. The reply says whether the
/// address existed.
pub(in crate::decide) fn unbind(state: &State, alias: &str) -> Decision<bool> {
    let mut events = Vec::new();
    if let Some(mailbox) = state.mailbox_for_alias(alias) {
        let node_id = mailbox.node_id.as_deref().unwrap_or_default();
        let key = binding(state, &mailbox.alias, node_id).map(|row| row.public_key);
        events.extend(withhold_mail(state, &mailbox.name, &mailbox.alias));
        events.push(key_unbound(&mailbox, key.unwrap_or_default(), UnbindReason::Admin));
        if let Some(session_id) = &mailbox.session {
            events.push(session_ended(session_id, &mailbox.name, SessionEndReason::Unbound));
        }
    }
    let existed = !events.is_empty();
    Decision::durable(events, existed)
}

/// Moves everything that belongs to the key of the request to another key.
pub(in crate::decide) fn rotate_key(
    state: &State,
    public_key: &str,
    facts: &Facts<'_>,
) -> Result<Decision<()>, Rejection> {
    let Some(key) = &facts.actor.key else {
        let message = "the request is not signed with the old key";
        return Err(Rejection::new(Code::ForeignSender, "public_key", message));
    };
    let bindings = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let own = bindings.filter(|row| row.public_key == *key);
    let events = own.map(|row| {
        Payload::KeyBound(KeyBound {
            alias: row.alias.into(),
            node_id: row.node_id.into(),
            public_key: public_key.to_owned(),
            replaces: Some(key.clone()),
            bare: false,
            replicated: false,
        })
    });
    Ok(Decision::durable(events.collect(), ()))
}
