//! Registration, heartbeats, keys, and the expiry of leases.

use c2c_log_format::id::fold;

use super::call::{AnswerResult, Call, failed, not_found};
use super::mirror;
use crate::broker::Broker;
use crate::error::Failure;
use crate::relay::protocol::json::{self, Seconds};
use crate::relay::protocol::request;
use crate::relay::protocol::response::{self, ErrorResponse, PeerLease};
use crate::relay::protocol::route::include_dead;
use crate::relay::protocol::sign;
use crate::relay::server::answer::{RelayAnswer, problem_of};
use crate::relay::server::core::{RelayCore, system_actor};
use crate::relay::server::request::RelayRequest;
use c2c_core::address::{Address, node_session_id};
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::{self, Actor, Collected, LeaseRenewal, LeaseRequest, Leased, Rejection};
use c2c_core::limits::{LEASE_DURATION_S_MAX, RELAY_REGISTRATIONS_MAX};
use c2c_core::state::Session;

/// Client type of a session that registered without one.
const UNKNOWN: &str = "unknown";

/// The lease of a session as clients receive it; `None` for a session without one.
fn lease_row(relay: &RelayCore, session: &Session, now_us: u64) -> Option<PeerLease> {
    let state = relay.broker.state();
    let lease = session.lease.as_ref()?;
    let mailbox = state.mailboxes.get(&session.mailbox)?;
    let key = state
        .bindings_for_node(&session.node_id)
        .into_iter()
        .filter(|row| fold(&row.alias) == fold(&mailbox.alias))
        .map(|row| row.public_key)
        .find(|key| !key.is_empty());
    let liveness = decide::session_liveness(session, now_us, &|_| decide::Liveness::Unknown);
    Some(PeerLease {
        node_id: session.node_id.to_string(),
        session_id: node_session_id(&session.session_id).to_owned(),
        alias: mailbox.alias.into(),
        client_type: session.client_type.clone().unwrap_or_else(|| UNKNOWN.into()),
        registered_at: Seconds { us: session.registered_us },
        last_seen: Seconds { us: lease.seen_us },
        ttl: lease.ttl_s as f64,
        alive: liveness == decide::Liveness::Alive,
        identity_pk: key,
        ..PeerLease::default()
    })
}

/// All leases, including expired ones that are not collected yet.
pub fn leases(relay: &RelayCore, now_us: u64) -> Vec<PeerLease> {
    let sessions = relay.broker.state().sessions.scan([]).into_iter();
    sessions.filter_map(|(_, session)| lease_row(relay, &session, now_us)).collect()
}

fn lease_of(relay: &RelayCore, session_id: &str, now_us: u64) -> Option<PeerLease> {
    lease_row(relay, &relay.broker.state().sessions.get(session_id)?, now_us)
}

/// Checks the length of a lease and rounds it up to whole seconds.
fn checked_ttl_s(requested: f64) -> Result<u64, Rejection> {
    if requested.is_finite() && requested > 0.0 && requested <= LEASE_DURATION_S_MAX as f64 {
        return Ok(requested.ceil() as u64);
    }
    let message = format!(
        "ttl must be more than 0 and at most {LEASE_DURATION_S_MAX} seconds, not {requested}"
    );
    Err(Rejection::new(Code::InvalidArgument, "ttl", message))
}

/// The key that a registration proves; `None` where credentials are ignored.
fn proven_key(
    relay: &mut RelayCore,
    call: &Call<'_>,
    request: &request::RegisterRequest,
) -> Result<Option<String>, RelayAnswer> {
    let proof = request.proof().map_err(|e| {
        RelayAnswer::from(Rejection::new(Code::MissingProofField, "signature", e.message))
    })?;
    let mut guard = relay.guard(call.now_us);
    let Some(proof) = guard.require_proof(proof)? else { return Ok(None) };
    let text = sign::register(&request.alias, &call.request.base_url, proof.key, proof.moment);
    guard.proven_key(&proof, text)
}

fn lease_request(request: &request::RegisterRequest) -> Result<LeaseRequest, Rejection> {
    Ok(LeaseRequest {
        alias: request.alias.clone().into(),
        node_id: request.node_id.clone().into(),
        session_id: request.session_id.clone().into(),
        client_type: request.client_type.clone(),
        ttl_s: checked_ttl_s(request.ttl_s())?,
        liveness: request.liveness.clone().unwrap_or_default(),
        replicated: request.replicated.unwrap_or_default(),
    })
}

/// Registers all agents of one node in one request, all with the same key.
fn register_all(
    relay: &mut RelayCore,
    call: &Call<'_>,
    registrations: &[request::RegisterRequest],
) -> AnswerResult {
    if registrations.len() > RELAY_REGISTRATIONS_MAX {
        let message =
            format!("one request may contain at most {RELAY_REGISTRATIONS_MAX} registrations");
        return Err(Rejection::new(Code::BadRequest, "registrations", message).into());
    }
    let (mut key, mut requests) = (None, Vec::new());
    for (at, request) in registrations.iter().enumerate() {
        let proven = proven_key(relay, call, request)?;
        if at > 0 && (proven != key || request.node_id != registrations[0].node_id) {
            let message = "all registrations must name the same node and the same key";
            return Err(Rejection::new(Code::BadRequest, "registrations", message).into());
        }
        key = proven;
        requests.push(lease_request(request)?);
    }
    let actor = Actor { key, ..system_actor() };
    let command = command::RegisterLeases(requests);
    let outcomes = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let results = outcomes.into_iter().zip(registrations).map(registered_one).collect();
    let relay_id = relay.broker.log_id().map_err(failed)?.to_owned();
    Ok(RelayAnswer::ok(&response::RegisterAllResponse { results, relay_id }))
}

/// The outcome of one registration of several.
fn registered_one(
    (outcome, request): (Result<Leased, Rejection>, &request::RegisterRequest),
) -> response::RegistrationResult {
    let row = response::RegistrationResult {
        alias: request.alias.clone(),
        node_id: request.node_id.clone(),
        ..response::RegistrationResult::default()
    };
    match outcome {
        Ok(leased) => response::RegistrationResult {
            bare_alias: Some(leased.bare),
            redelivered: Some(leased.redelivered as u64),
            ..row
        },
        Err(rejection) => response::RegistrationResult {
            error_code: Some(rejection.code.name().into()),
            error: Some(rejection.message),
            hint: rejection.hint,
            ..row
        },
    }
}

/// Registers one agent, or all agents of a node.
pub fn register(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    if let Some(registrations) = call.body::<request::RegisterAllRequest>()?.registrations {
        return register_all(relay, call, &registrations);
    }
    let request: request::RegisterRequest = call.body()?;
    let key = proven_key(relay, call, &request)?;
    let command = lease_request(&request)?;
    let actor = Actor { key, ..system_actor() };
    let leased = match relay.broker.execute(&command, &actor) {
        Ok(executed) => executed.reply,
        Err(Failure::Rejected(rejection)) if rejection.code == Code::AliasConflict => {
            return Err(alias_conflict(relay, &request.alias, &rejection, call.now_us));
        }
        Err(failure) => return Err(failure.into()),
    };
    let redelivered = Some(leased.redelivered as u64);
    let relay_id = Some(relay.broker.log_id().map_err(failed)?.to_owned());
    let row = registered(relay, leased, call.now_us);
    Ok(RelayAnswer::ok(&response::RegisterResponse { redelivered, relay_id, ..row }))
}

/// The answer to a registration or heartbeat.
fn registered(relay: &RelayCore, leased: Leased, now_us: u64) -> response::RegisterResponse {
    let lease = lease_of(relay, &leased.session, now_us).unwrap_or_default();
    response::RegisterResponse {
        result: "ok".into(),
        alias: leased.alias.into(),
        node_id: leased.node_id.into(),
        last_seen: lease.last_seen,
        lease,
        bare_alias: Some(leased.bare),
        ..response::RegisterResponse::default()
    }
}

/// The answer to a registration whose alias is taken: it shows the existing lease.
fn alias_conflict(
    relay: &RelayCore,
    alias: &str,
    rejection: &Rejection,
    now_us: u64,
) -> RelayAnswer {
    let holder = relay.broker.state().mailbox_for_alias(alias).and_then(|row| row.session);
    let existing_lease = holder.and_then(|session| lease_of(relay, &session, now_us));
    RelayAnswer::problem(&ErrorResponse { existing_lease, ..problem_of(rejection) }, 409)
}

/// Renews a lease.
pub fn heartbeat(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::HeartbeatRequest = call.body()?;
    let renew = LeaseRenewal {
        node_id: request.node_id.into(),
        session_id: request.session_id.into(),
        liveness: request.liveness.unwrap_or_default(),
    };
    let actor = Actor { key: call.caller.key(), ..system_actor() };
    let executed = relay.broker.execute(&renew, &actor);
    let executed = executed.map_err(|failure| match failure.code() {
        // Older clients expect this code when the signer does not own the session.
        Code::AliasIdentityMismatch => {
            Rejection::new(Code::SignatureInvalid, "session_id", failure.message()).into()
        }
        _ => failed(failure),
    })?;
    Ok(RelayAnswer::ok(&registered(relay, executed.reply, call.now_us)))
}

/// Whether the body of a request to `/list` includes expired leases.
pub fn requests_expired_leases(request: &RelayRequest) -> bool {
    let option = || json::parse::<request::ListRequest>(&request.body).ok()?.include_dead;
    request.method != "GET" && option().unwrap_or_default()
}

/// Lists the leases; expired ones only on request.
pub fn list(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let _: request::ListRequest = call.body()?;
    let with_expired = requests_expired_leases(call.request) || include_dead(call.request.query());
    let rows = leases(relay, call.now_us).into_iter();
    let peers = rows.filter(|row| with_expired || row.alive).collect();
    Ok(RelayAnswer::ok(&response::ListResponse { peers }))
}

/// The public key of an alias.
pub fn public_key(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let state = relay.broker.state();
    let bindings = state.mailbox_for_alias(call.name).into_iter().flat_map(|mailbox| {
        let of_node = state.bindings_for_node(mailbox.node_id.as_deref().unwrap_or_default());
        of_node.into_iter().filter(move |row| fold(&row.alias) == fold(&mailbox.alias))
    });
    let ed25519_pubkey = bindings
        .map(|row| row.public_key)
        .find(|key| !key.is_empty())
        .ok_or_else(|| not_found(format!("no key is registered for '{}'", call.name)))?;
    Ok(RelayAnswer::ok(&response::PubkeyResponse { alias: call.name.to_owned(), ed25519_pubkey }))
}

/// Replaces a key by another, for all aliases that are bound to it.
pub fn rotate(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::KeyRotation = call.body()?;
    let (old, new) = request.verify().map_err(|e| {
        RelayAnswer::from(Rejection::new(Code::SignatureInvalid, "sig", e.to_string()))
    })?;
    let (old, public_key) = (old.to_string(), new.to_string());
    let bindings = relay.broker.state().bindings.scan([]).into_iter().map(|(_, row)| row);
    let aliases = bindings
        .filter(|row| row.public_key == old)
        .map(|row| Address::on(&row.alias, &row.node_id).to_string())
        .collect();
    let actor = Actor { key: Some(old), ..system_actor() };
    relay.broker.execute(&command::RotateKey { public_key }, &actor).map_err(failed)?;
    mirror::change_owner(relay, &request.old_pk, &request.new_pk);
    Ok(RelayAnswer::ok(&response::RotateKeyResponse { aliases }))
}

/// Removes the binding of an alias to its key.
pub fn unbind(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::UnbindRequest = call.body()?;
    let command = command::UnbindAlias { alias: request.alias.clone() };
    let removed = relay.broker.execute(&command, &system_actor()).map_err(failed)?.reply;
    Ok(RelayAnswer::ok(&response::UnbindResponse { alias: request.alias, removed }))
}

/// Ends expired leases.
pub fn collect_leases(broker: &mut Broker) -> Result<Collected, Failure> {
    Ok(broker.execute(&command::CollectLeases, &system_actor())?.reply)
}

/// Ends expired leases on request of the operator.
pub fn gc(relay: &mut RelayCore) -> AnswerResult {
    let Collected { expired, pruned } = collect_leases(&mut relay.broker).map_err(failed)?;
    let names: Vec<String> =
        expired.into_iter().map(|row| Address::on(&row.alias, &row.node_id).to_string()).collect();
    Ok(RelayAnswer::ok(&response::GcResponse {
        expired: names.clone(),
        expired_leases: names,
        pruned: pruned as u64,
        pruned_inboxes: pruned as u64,
    }))
}
