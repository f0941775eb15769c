//! Sending and receiving for scripts and older clients, which do not have their own log.

use super::call::{AnswerResult, Call, RouteOutcome, failed, not_found};
use crate::relay::protocol::json::Stamp;
use crate::relay::protocol::request;
use crate::relay::protocol::response;
use crate::relay::server::answer::RelayAnswer;
use crate::relay::server::core::{RelayCore, system_actor};
use crate::relay::server::remote::is_session_id;
use crate::relay::server::rows::message_row;
use c2c_core::address::{is_remote, relay_session_id};
use c2c_core::code::Code;
use c2c_core::command;
use c2c_core::decide::BroadcastReply;
use c2c_core::decide::{Actor, Rejection, Send};
use c2c_core::limits::{RELAY_POLL_BYTES_MAX, RELAY_POLL_MESSAGES};
use c2c_core::state::{Mailbox, MessageRef, sequence_in_key};
use c2c_log_format::payload::{AckLevel, ClaimReturnReason};

/// Surface of a claim whose id the client chose.
const DRAINED: &str = "drain";

/// Sends a message to one alias.
pub fn send(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::SendRequest = call.body()?;
    let actor = call.acting_as(&request.from_alias)?;
    let send = Send {
        to: request.to_alias.clone(),
        body: request.content,
        from: Some(request.from_alias.into()),
        message_id: request.message_id.filter(|id| !id.is_empty()).map(Into::into),
        tag: request.tag,
        reply_to: request.reply_to.map(Into::into),
        ..Send::default()
    };
    let sent = relay.broker.execute(&send, &actor).map_err(failed)?.reply;
    Ok(RelayAnswer::ok(&response::SendResponse {
        result: if sent.duplicate { "duplicate" } else { "ok" }.into(),
        to_alias: request.to_alias,
        message_id: sent.message_id.into(),
        duplicate: sent.duplicate.then_some(true),
        recipient_state: Some(sent.recipient_state.as_str().into()),
        ts: Stamp { us: sent.sent_us },
    }))
}

/// Sends a message to all registered aliases.
pub fn send_all(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::SendAllRequest = call.body()?;
    let actor = call.acting_as(&request.from_alias)?;
    let command = command::SendAll {
        body: request.content,
        exclude: Vec::new(),
        tag: request.tag,
        from: Some(request.from_alias.into()),
        message_id: request.message_id.clone().filter(|id| !id.is_empty()).map(Into::into),
    };
    let reply = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let BroadcastReply { sent_to, skipped, .. } = reply;
    Ok(RelayAnswer::ok(&response::FanOutResponse {
        result: "ok".into(),
        delivered: sent_to.clone(),
        delivered_to: sent_to,
        skipped: skipped.into_iter().map(|row| row.alias).collect(),
        message_id: request.message_id.unwrap_or_default(),
        ts: Stamp { us: call.now_us },
        ..response::FanOutResponse::default()
    }))
}

/// The actor and mailbox of the session that a request names. Rejects a session of another key.
fn own_session(
    relay: &RelayCore,
    call: &Call<'_>,
    request: &request::PollRequest,
) -> Result<(Actor, Mailbox), RelayAnswer> {
    let state = relay.broker.state();
    let id = relay_session_id(&request.session_id, &request.node_id);
    let mailbox = state.mailbox_for_session(&id).ok_or_else(|| {
        let message =
            format!("no lease of session '{}' on {}", request.session_id, request.node_id);
        Rejection::new(Code::UnknownAlias, "session_id", message).hint("register again")
    })?;
    call.caller.check_owns(state, &mailbox.alias, &request.node_id)?;
    let actor = Actor { session_id: Some(id.into()), key: call.caller.key(), ..system_actor() };
    Ok((actor, mailbox))
}

/// Delivers the mail of a session. Without `drain_id`, acknowledges the mail immediately, as older
/// programs expect. With one it stays claimed until a later request confirms that id.
pub fn poll(relay: &mut RelayCore, call: &Call<'_>) -> Result<RouteOutcome, RelayAnswer> {
    let request: request::PollRequest = call.body()?;
    let (actor, mailbox) = own_session(relay, call, &request)?;
    let open_claim = mailbox.claim.as_ref().filter(|claim| claim.surface == DRAINED);
    if let Some(claim) = open_claim.map(|claim| &claim.id)
        && request.drain_id.as_ref() != Some(claim)
        && request.confirm.as_ref() != Some(claim)
    {
        // The client did not confirm the last claim, so its mail is delivered again.
        let command =
            command::ReleaseClaim { claim: claim.clone(), reason: ClaimReturnReason::NotConfirmed };
        relay.broker.execute(&command, &actor).map_err(failed)?;
    }
    let limit = request.limit.map_or(RELAY_POLL_MESSAGES, |limit| limit as usize);
    let command = command::DrainInbox {
        drain_id: request.drain_id.clone(),
        limit: limit.min(RELAY_POLL_MESSAGES),
        max_bytes: RELAY_POLL_BYTES_MAX,
    };
    let claimed = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    if claimed.items.is_empty() && !call.is_last {
        return Ok(RouteOutcome::Pending { seen: relay.head() });
    }
    if let Some(claim) = claimed.claim.as_ref().filter(|_| request.drain_id.is_none()) {
        relay.broker.ack(&actor, claim, AckLevel::Written).map_err(failed)?;
    }
    let messages = relay.broker.messages(&claimed.items).map_err(failed)?;
    Ok(RouteOutcome::Answer(RelayAnswer::ok(&response::PollResponse {
        messages: messages
            .iter()
            .map(|message| message_row(message, Some(&mailbox.alias)))
            .collect(),
        drain_id: claimed.claim.filter(|_| request.drain_id.is_some()),
        remaining: Some(claimed.remaining as u64),
    })))
}

/// Shows the mail of a session and leaves it unread.
pub fn peek(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::PollRequest = call.body()?;
    let (_, mailbox) = own_session(relay, call, &request)?;
    let limit = request.limit.map_or(RELAY_POLL_MESSAGES, |limit| limit as usize);
    let unread = relay
        .broker
        .peek_some(&mailbox, limit.min(RELAY_POLL_MESSAGES), RELAY_POLL_BYTES_MAX)
        .map_err(failed)?;
    let messages =
        unread.iter().map(|message| message_row(message, Some(&mailbox.alias))).collect();
    Ok(RelayAnswer::ok(&response::PollResponse { messages, ..response::PollResponse::default() }))
}

/// Lists the latest dead letters.
pub fn dead_letters(relay: &mut RelayCore) -> AnswerResult {
    let mut letters = relay.broker.state().dead_letters.scan([]);
    letters.sort_by_key(|(key, _)| sequence_in_key(key));
    let letters = letters.split_off(letters.len().saturating_sub(RELAY_POLL_MESSAGES));
    let references: Vec<_> =
        letters.iter().map(|(key, _)| MessageRef::new(sequence_in_key(key), None)).collect();
    let messages = relay.broker.messages(&references).map_err(failed)?;
    let rows = letters.into_iter().filter_map(|(key, letter)| {
        let at = messages.binary_search_by_key(&sequence_in_key(&key), |message| message.sequence);
        let message = messages.get(at.ok()?)?;
        let sent = &message.sent;
        let to = if is_remote(&letter.mailbox) { letter.mailbox } else { letter.alias };
        Some(response::UndeliveredMessage {
            message_id: sent.message_id.clone(),
            from_alias: sent.from.clone(),
            to_alias: to,
            content: sent.body.to_string(),
            reason: letter.reason.to_string(),
            ts: Stamp { us: letter.at_us },
            ..response::UndeliveredMessage::default()
        })
    });
    Ok(RelayAnswer::ok(&response::DeadLettersResponse { dead_letter: rows.collect() }))
}

/// Returns dead letters to a mailbox.
pub fn replay(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::ReplayRequest = call.body()?;
    let messages = match &request.message_id {
        Some(id) => relay.broker.dead_letters_for(id).map_err(failed)?,
        None => Vec::new(),
    };
    let command = command::ReplayDeadLetters { messages, to: request.to_alias };
    let replayed = relay.broker.execute(&command, &system_actor()).map_err(failed)?.reply;
    Ok(RelayAnswer::ok(&response::ReplayResponse { replayed: replayed.len() as u64 }))
}

/// The inbox of a session of the broker that is read over SSH.
pub fn remote_inbox(relay: &RelayCore, call: &Call<'_>) -> AnswerResult {
    if !is_session_id(call.name) {
        let message = "a session id must be 1 to 64 characters of A-Z a-z 0-9 - _";
        return Err(Rejection::new(Code::BadRequest, "session_id", message).into());
    }
    let remote = relay
        .remote
        .as_ref()
        .ok_or_else(|| not_found("this relay does not read a broker over SSH".into()))?;
    Ok(RelayAnswer::ok(&remote.inbox(call.name)?))
}
