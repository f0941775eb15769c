//! Who is here: registration, heartbeats, keys, and the end of leases?

use c2c_log_format::id::fold;

use super::{Answer, Call, Done, failed, internal, mirror, not_found};
use crate::broker::Broker;
use crate::code::Code;
use crate::decide::{
    self, Actor, Collected, Command, LeaseRegister, LeaseRenew, Leased, Refusal, Reply,
};
use crate::failure::Failure;
use crate::limits::{LEASE_S_MAX, RELAY_REGISTRATIONS_MAX};
use crate::relay::answer::{Request, problem_of};
use crate::relay::service::{Relay, nobody};
use crate::state::Session;
use crate::wire::body::{self, Lease, Problem, Seconds};
use crate::wire::route::include_dead;
use crate::wire::sign;

/// Client type of those who do not say.
const UNKNOWN: &str = "unknown";

/// A session as the relay's log names it, without its node.
fn plain(session_id: &str) -> &str {
    session_id.rsplit_once('@').map_or(session_id, |(id, _)| id)
}

fn lease_row(relay: &Relay, session: &Session, now_us: u64) -> Option<Lease> {
    let state = relay.broker.state();
    let lease = session.lease.as_ref()?;
    let mailbox = state.mailboxes.get(&session.mailbox)?;
    let bound = state.bindings_of(&session.node_id).into_iter();
    let bound = bound.filter(|row| fold(&row.alias) == fold(&mailbox.alias));
    let key = bound.map(|row| row.public_key).find(|key| !key.is_empty());
    let alive = decide::session_liveness(session, now_us, &|_| decide::Liveness::Unknown);
    Some(Lease {
        node_id: session.node_id.clone(),
        session_id: plain(&session.session_id).to_owned(),
        alias: mailbox.alias,
        client_type: session.client_type.clone().unwrap_or_else(|| UNKNOWN.into()),
        registered_at: Seconds { us: session.registered_us },
        last_seen: Seconds { us: lease.seen_us },
        ttl: lease.ttl_s as f64,
        alive: alive == decide::Liveness::Alive,
        identity_pk: key,
        ..Lease::default()
    })
}

/// All leases, those that are over and not collected yet included.
pub fn leases(relay: &Relay, now_us: u64) -> Vec<Lease> {
    let sessions = relay.broker.state().sessions.scan([]).into_iter();
    sessions.filter_map(|(_, session)| lease_row(relay, &session, now_us)).collect()
}

fn lease_of(relay: &Relay, session: &str, now_us: u64) -> Option<Lease> {
    lease_row(relay, &relay.broker.state().sessions.get(session)?, now_us)
}

/// Seconds of a lease.
fn ttl_s(wanted: f64) -> Result<u64, Refusal> {
    if wanted.is_finite() && wanted > 0.0 && wanted <= LEASE_S_MAX as f64 {
        return Ok(wanted.ceil() as u64);
    }
    let message = format!("ttl must be more than 0 and at most {LEASE_S_MAX} seconds");
    Err(Refusal::new(Code::InvalidArgument, "ttl", message))
}

/// The key that a registration shows; none where credentials are ignored.
fn shown_key(
    relay: &mut Relay,
    call: &Call<'_>,
    wish: &body::Register,
) -> Result<Option<String>, Answer> {
    let given = wish
        .proof()
        .map_err(|e| Answer::from(Refusal::new(Code::MissingProof, "signature", e.message)))?;
    let mut guard = relay.guard(call.now_us);
    let key = match guard.need_proof(given)? {
        Some(proof) => {
            let url = &call.request.base_url;
            guard.proven(&proof, sign::register(&wish.alias, url, proof.key, proof.moment))?
        }
        None => None,
    };
    Ok(key)
}

fn lease_wish(wish: &body::Register) -> Result<LeaseRegister, Refusal> {
    Ok(LeaseRegister {
        alias: wish.alias.clone(),
        node_id: wish.node_id.clone(),
        session_id: wish.session_id.clone(),
        client_type: wish.client_type.clone(),
        ttl_s: ttl_s(wish.ttl_s())?,
        liveness: wish.liveness.clone().unwrap_or_default(),
        replicated: wish.replicated.unwrap_or_default(),
    })
}

/// Everybody on a node at one moment, by the same key.
fn register_all(relay: &mut Relay, call: &Call<'_>, wishes: &[body::Register]) -> Done {
    if wishes.len() > RELAY_REGISTRATIONS_MAX {
        let message = format!("at most {RELAY_REGISTRATIONS_MAX} registrations at once");
        return Err(Refusal::new(Code::BadRequest, "registrations", message).into());
    }
    let (mut key, mut requests) = (None, Vec::new());
    for (at, wish) in wishes.iter().enumerate() {
        let shown = shown_key(relay, call, wish)?;
        if at > 0 && (shown != key || wish.node_id != wishes[0].node_id) {
            let message = "all registrations must be of one node and one key";
            return Err(Refusal::new(Code::BadRequest, "registrations", message).into());
        }
        key = shown;
        requests.push(lease_wish(wish)?);
    }
    let actor = Actor { key, ..nobody() };
    let command = Command::LeaseRegisterAll(requests);
    let reply = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let Reply::LeasedAll(leased) = reply else { return Err(internal()) };
    let results = leased.into_iter().zip(wishes).map(|(leased, wish)| {
        let (alias, node_id) = (wish.alias.clone(), wish.node_id.clone());
        let none = body::RegisteredOne { alias, node_id, ..body::RegisteredOne::default() };
        match leased {
            Ok(leased) => body::RegisteredOne {
                bare_alias: Some(leased.bare),
                redelivered: Some(leased.redelivered as u64),
                ..none
            },
            Err(refusal) => body::RegisteredOne {
                error_code: Some(refusal.code.name().into()),
                error: Some(refusal.message),
                hint: refusal.hint,
                ..none
            },
        }
    });
    let results = results.collect();
    let relay_id = relay.broker.log_id().map_err(failed)?.to_owned();
    Ok(Answer::ok(&body::RegisteredAll { results, relay_id }))
}

pub fn register(relay: &mut Relay, call: &Call<'_>) -> Done {
    if let Some(wishes) = call.body::<body::RegisterAll>()?.registrations {
        return register_all(relay, call, &wishes);
    }
    let wish: body::Register = call.body()?;
    let key = shown_key(relay, call, &wish)?;
    let request = lease_wish(&wish)?;
    let actor = Actor { key, ..nobody() };
    let leased = match relay.broker.execute(&Command::LeaseRegister(request), &actor) {
        Ok(executed) => match executed.reply {
            Reply::Leased(leased) => leased,
            _ => return Err(internal()),
        },
        Err(Failure::Refused(refusal)) if refusal.code == Code::AliasConflict => {
            return Err(conflict(relay, &wish.alias, &refusal, call.now_us));
        }
        Err(failure) => return Err(failure.into()),
    };
    let redelivered = Some(leased.redelivered as u64);
    let relay_id = Some(relay.broker.log_id().map_err(failed)?.to_owned());
    let told = registered(relay, leased, call.now_us);
    Ok(Answer::ok(&body::Registered { redelivered, relay_id, ..told }))
}

fn registered(relay: &Relay, leased: Leased, now_us: u64) -> body::Registered {
    let lease = lease_of(relay, &leased.session, now_us).unwrap_or_default();
    body::Registered {
        result: "ok".into(),
        alias: leased.alias,
        node_id: leased.node_id,
        last_seen: lease.last_seen,
        lease,
        bare_alias: Some(leased.bare),
        ..body::Registered::default()
    }
}

/// The alias is somebody else's: the caller learns whose.
fn conflict(relay: &Relay, alias: &str, refusal: &Refusal, now_us: u64) -> Answer {
    let holder = relay.broker.state().mailbox_of(alias).and_then(|row| row.session);
    let existing_lease = holder.and_then(|session| lease_of(relay, &session, now_us));
    Answer::problem(&Problem { existing_lease, ..problem_of(refusal) }, 409)
}

pub fn heartbeat(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::Heartbeat = call.body()?;
    let renew = LeaseRenew {
        node_id: wish.node_id,
        session_id: wish.session_id,
        liveness: wish.liveness.unwrap_or_default(),
    };
    let actor = Actor { key: call.caller.key(), ..nobody() };
    let executed = relay.broker.execute(&Command::LeaseRenew(renew), &actor);
    let executed = executed.map_err(|failure| match failure.code() {
        // As older clients know it: whoever signs may not speak for that session.
        Code::KeyMismatch => {
            Refusal::new(Code::SignatureInvalid, "session_id", failure.message()).into()
        }
        _ => failed(failure),
    })?;
    let Reply::Leased(leased) = executed.reply else { return Err(internal()) };
    Ok(Answer::ok(&registered(relay, leased, call.now_us)))
}

/// Whether the body of a request to `/list` asks for expired leases, too.
pub fn asks_for_dead(request: &Request) -> bool {
    let wish = || body::parse::<body::List>(&request.body).ok()?.include_dead;
    request.method != "GET" && wish().unwrap_or_default()
}

pub fn list(relay: &mut Relay, call: &Call<'_>) -> Done {
    let _: body::List = call.body()?;
    let dead_too = asks_for_dead(call.request) || include_dead(call.request.query());
    let rows = leases(relay, call.now_us).into_iter();
    let peers = rows.filter(|row| dead_too || row.alive).collect();
    Ok(Answer::ok(&body::Peers { peers }))
}

pub fn public_key(relay: &mut Relay, call: &Call<'_>) -> Done {
    let state = relay.broker.state();
    let rows = state.mailbox_of(&call.name).into_iter();
    let bound = rows.flat_map(|row| {
        let bindings = state.bindings_of(row.node_id.as_deref().unwrap_or_default());
        bindings.into_iter().filter(move |bound| fold(&bound.alias) == fold(&row.alias))
    });
    let key = bound.map(|row| row.public_key).find(|key| !key.is_empty());
    let key = key.ok_or_else(|| not_found(format!("'{}' has no key here", call.name)))?;
    Ok(Answer::ok(&body::Pubkey { alias: call.name.clone(), ed25519_pubkey: key }))
}

pub fn rotate(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::RotateKey = call.body()?;
    let (old, new) = wish
        .verify()
        .map_err(|e| Answer::from(Refusal::new(Code::SignatureInvalid, "sig", e.to_string())))?;
    let (old, public_key) = (old.to_string(), new.to_string());
    let state = relay.broker.state();
    let mine = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let mine = mine.filter(|row| row.public_key == old);
    let aliases = mine.map(|row| format!("{}@{}", row.alias, row.node_id)).collect();
    let actor = Actor { key: Some(old), ..nobody() };
    relay.broker.execute(&Command::KeyRotate { public_key }, &actor).map_err(failed)?;
    mirror::hand_over(relay, &wish.old_pk, &wish.new_pk);
    Ok(Answer::ok(&body::Rotated { aliases }))
}

pub fn unbind(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::Unbind = call.body()?;
    let command = Command::Unbind { alias: wish.alias.clone() };
    let reply = relay.broker.execute(&command, &nobody()).map_err(failed)?.reply;
    let removed = matches!(reply, Reply::Moved { messages } if !messages.is_empty());
    Ok(Answer::ok(&body::Unbound { alias: wish.alias, removed }))
}

/// Ends leases that are over.
pub fn collect(broker: &mut Broker) -> Result<Collected, Failure> {
    match broker.execute(&Command::Collect, &nobody())?.reply {
        Reply::Collected(collected) => Ok(collected),
        _ => Ok(Collected::default()),
    }
}

pub fn gc(relay: &mut Relay) -> Done {
    let Collected { expired, pruned } = collect(&mut relay.broker).map_err(failed)?;
    let names: Vec<String> =
        expired.into_iter().map(|(alias, node_id, _)| format!("{alias}@{node_id}")).collect();
    Ok(Answer::ok(&body::Collected {
        expired: names.clone(),
        expired_leases: names,
        pruned: pruned as u64,
        pruned_inboxes: pruned as u64,
    }))
}
