//! Rooms for scripts and older clients, which do not have their own log.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{RoomVisibility, full_address};

use super::call::{AnswerResult, Call, failed};
use crate::relay::protocol::json::Stamp;
use crate::relay::protocol::request::{self, RoomChangeRequest};
use crate::relay::protocol::response;
use crate::relay::protocol::sign::{self, PublicKey, RoomOp};
use crate::relay::server::access::Caller;
use crate::relay::server::answer::{RelayAnswer, problem_of};
use crate::relay::server::core::{RelayCore, system_actor};
use crate::relay::server::rows::message_row;
use c2c_core::address::Address;
use c2c_core::code::Code;
use c2c_core::command::{self, Command};
use c2c_core::decide::RoomReply;
use c2c_core::decide::{self, Actor, Rejection, Send, may_see_room};
use c2c_core::limits::ROOM_HISTORY;
use c2c_core::state::{Binding, Mailbox, MessageRef, Room, compound_key, sequence_in_key};

/// The actor of a room operation, authenticated by the header or by the signed operation in the body.
fn room_actor(
    relay: &mut RelayCore,
    call: &Call<'_>,
    request: &RoomChangeRequest,
    op: RoomOp,
) -> Result<Actor, RelayAnswer> {
    if *call.caller != Caller::Anonymous {
        return call.acting_as(&request.alias);
    }
    let proof = request.proof().map_err(|e| {
        RelayAnswer::from(Rejection::new(Code::MissingProofField, "sig", e.message))
    })?;
    let mut guard = relay.guard(call.now_us);
    let key = match guard.require_proof(proof)? {
        Some(proof) => {
            let (alias, room_id) = (&request.alias, &request.room_id);
            guard.proven_key(&proof, sign::room_op(op, room_id, alias, proof.key, proof.moment))?
        }
        None => None,
    };
    let of_alias = |row: &Binding| fold(&row.alias) == fold(&request.alias);
    let rows = relay.broker.state().bindings.scan([]).into_iter().map(|(_, row)| row);
    let known: Vec<String> = rows.filter(of_alias).map(|row| row.public_key).collect();
    if let Some(key) = key.as_ref().filter(|key| !known.is_empty() && !known.contains(key)) {
        let message = format!("'{}' is bound to another key than {key}", request.alias);
        let rejection = Rejection::new(Code::AliasIdentityMismatch, "alias", message);
        return Err(RelayAnswer::problem(&problem_of(&rejection), 401));
    }
    Ok(Actor { alias: Some(request.alias.clone().into()), key, ..system_actor() })
}

/// Joins a room.
pub fn join(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: RoomChangeRequest = call.body()?;
    let actor = room_actor(relay, call, &request, RoomOp::Join)?;
    let command =
        command::JoinRoom { room_id: request.room_id.into(), from: Some(request.alias.into()) };
    let (already, membership) = change_membership(relay, &command, &actor)?;
    Ok(RelayAnswer::ok(&response::MembershipResponse {
        already_member: Some(already),
        ..membership
    }))
}

/// Leaves a room.
pub fn leave(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: RoomChangeRequest = call.body()?;
    let actor = room_actor(relay, call, &request, RoomOp::Leave)?;
    let command =
        command::LeaveRoom { room_id: request.room_id.into(), from: Some(request.alias.into()) };
    let (already, membership) = change_membership(relay, &command, &actor)?;
    Ok(RelayAnswer::ok(&response::MembershipResponse { removed: Some(!already), ..membership }))
}

/// Executes a join or a leave. Returns whether it changed nothing, and the membership.
fn change_membership<C: Command<Reply = RoomReply>>(
    relay: &mut RelayCore,
    command: &C,
    actor: &Actor,
) -> Result<(bool, response::MembershipResponse), RelayAnswer> {
    let room = relay.broker.execute(command, actor).map_err(failed)?.reply;
    let membership = response::MembershipResponse {
        result: "ok".into(),
        room_id: room.room_id.into(),
        alias: room.alias,
        member_count: room.members.len() as u64,
        already_member: None,
        removed: None,
    };
    Ok((room.already, membership))
}

/// The name of `invite_only` in older programs.
const INVITE: &str = "invite";

/// Changes the visibility of a room.
pub fn set_visibility(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: RoomChangeRequest = call.body()?;
    let actor = room_actor(relay, call, &request, RoomOp::SetVisibility)?;
    let requested = request.visibility.unwrap_or_default();
    let visibility = match requested.as_str() {
        INVITE => RoomVisibility::InviteOnly,
        requested => RoomVisibility::from(requested),
    };
    if !matches!(visibility, RoomVisibility::Public | RoomVisibility::InviteOnly) {
        let message = "visibility must be public or invite";
        return Err(Rejection::new(Code::BadRequest, "visibility", message).into());
    }
    let room_id = request.room_id;
    let command = command::SetRoomVisibility { room_id: room_id.clone().into(), visibility };
    relay.broker.execute(&command, &actor).map_err(failed)?;
    Ok(RelayAnswer::ok(&settings(relay, room_id)))
}

/// The visibility and the invited aliases and keys of a room.
fn settings(relay: &RelayCore, room_id: String) -> response::RoomSettingsResponse {
    let room = relay.broker.state().rooms.get(fold(&room_id));
    let (visibility, invited) = room.map(|room| (room.visibility, room.invited)).unzip();
    // An invited key is stored with a prefix; the answer shows it without.
    let display_name = |name: String| decide::invited_key(&name).map(str::to_owned).unwrap_or(name);
    let invited_members = invited.map(|all| all.into_iter().map(display_name).collect());
    response::RoomSettingsResponse { room_id, visibility, invited_members }
}

/// Invites the holder of a key under all current and future aliases, or withdraws the invitation.
pub fn invite(relay: &mut RelayCore, call: &Call<'_>, invited: bool) -> AnswerResult {
    let request: RoomChangeRequest = call.body()?;
    let op = if invited { RoomOp::Invite } else { RoomOp::Uninvite };
    let actor = room_actor(relay, call, &request, op)?;
    let invitee_key = request.invitee_pk.as_deref().unwrap_or_default();
    let mut aliases = Vec::new();
    if !invitee_key.is_empty() {
        PublicKey::parse(invitee_key).map_err(|e| {
            RelayAnswer::from(Rejection::new(Code::BadRequest, "invitee_pk", e.to_string()))
        })?;
        let rows = relay.broker.state().bindings.scan([]).into_iter().map(|(_, row)| row);
        let of_key = rows.filter(|row| row.public_key == invitee_key);
        aliases.extend(of_key.map(|row| Address::on(&row.alias, &row.node_id).to_string()));
        aliases.push(decide::invitation_of_key(invitee_key));
    }
    // An alias is accepted because clients rarely know the keys of others.
    aliases.extend(request.invitee);
    if aliases.is_empty() {
        let message = "no invitee is named";
        let rejection = Rejection::new(Code::BadRequest, "invitee_pk", message);
        return Err(rejection
            .hint("set invitee_pk to the key from /pubkey/<alias>, or invitee to the alias")
            .into());
    }
    for alias in aliases {
        let room_id = request.room_id.clone();
        let command = command::InviteToRoom { room_id: room_id.into(), alias, invited };
        relay.broker.execute(&command, &actor).map_err(failed)?;
    }
    Ok(RelayAnswer::ok(&settings(relay, request.room_id)))
}

/// Posts a message to a room.
pub fn send(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::SendRoomRequest = call.body()?;
    let actor = if *call.caller == Caller::Anonymous {
        let key = envelope_key(relay, call, &request)?;
        Actor { alias: Some(request.from_alias.clone().into()), key, ..system_actor() }
    } else {
        call.acting_as(&request.from_alias)?
    };
    let send = Send {
        body: request.content,
        from: Some(request.from_alias.into()),
        message_id: request.message_id.filter(|id| !id.is_empty()).map(Into::into),
        tag: request.tag,
        ..Send::default()
    };
    relay.note_room_message();
    let command = command::SendToRoom { room_id: request.room_id.into(), send };
    let sent = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let delivered: Vec<String> = sent.delivered_to.into_iter().chain(sent.queued).collect();
    Ok(RelayAnswer::ok(&response::FanOutResponse {
        result: if sent.duplicate { "duplicate" } else { "ok" }.into(),
        delivered: delivered.clone(),
        delivered_to: delivered,
        skipped: sent.skipped.into_iter().map(|row| row.alias).collect(),
        message_id: sent.message_id.into(),
        room_id: Some(sent.to),
        duplicate: sent.duplicate.then_some(true),
        ts: Stamp { us: sent.sent_us },
    }))
}

/// The key that signed the envelope of a room message.
fn envelope_key(
    relay: &mut RelayCore,
    call: &Call<'_>,
    request: &request::SendRoomRequest,
) -> Result<Option<String>, RelayAnswer> {
    let mut guard = relay.guard(call.now_us);
    let Some(envelope) = guard.require_proof(request.envelope.as_ref())? else { return Ok(None) };
    let is_content = envelope.ct == sign::encode(request.content.as_bytes());
    if envelope.enc != "none" || !is_content {
        let message = "enc must be 'none', and ct the content in base64url";
        return Err(Rejection::new(Code::BadRequest, "envelope", message).into());
    }
    let proof = envelope.proof();
    let (room_id, from) = (&request.room_id, &request.from_alias);
    let text =
        sign::room_send(room_id, from, proof.key, &envelope.enc, &request.content, proof.moment);
    guard.proven_key(&proof, text)
}

/// The mailboxes that are bound to the caller's key.
fn own_mailboxes(relay: &RelayCore, call: &Call<'_>) -> Vec<Mailbox> {
    let Caller::Peer { key, .. } = call.caller else { return Vec::new() };
    let state = relay.broker.state();
    let rows = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let of_key = rows.filter(|row| row.public_key == *key);
    of_key
        .filter_map(|row| state.mailbox_for_alias(&full_address(&row.alias, &row.node_id)))
        .collect()
}

/// Whether the owner of these mailboxes may see a room. Without a token, everything is visible.
fn is_visible(relay: &RelayCore, own: &[Mailbox], room: &Room) -> bool {
    let state = relay.broker.state();
    relay.token.is_none()
        || may_see_room(state, room, "")
        || own.iter().any(|mailbox| may_see_room(state, room, &mailbox.name))
}

/// The last messages of a room that the caller may see.
pub fn history(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let request: request::RoomHistoryRequest = call.body()?;
    let own = own_mailboxes(relay, call);
    let state = relay.broker.state();
    let room = state.rooms.get(fold(&request.room_id));
    let Some(room) = room.filter(|room| is_visible(relay, &own, room)) else {
        // The answer is the same whether the room does not exist or the caller may not see it.
        let history = Vec::new();
        return Ok(RelayAnswer::ok(&response::RoomHistoryResponse {
            room_id: request.room_id,
            history,
        }));
    };
    let limit = (request.limit() as usize).min(ROOM_HISTORY);
    // Only messages that the state holds: reading the whole log is left to the operator.
    let rows = state.room_messages.scan(compound_key(&fold(&room.room_id), &[]));
    let last = rows[rows.len().saturating_sub(limit)..].iter();
    let references: Vec<_> = last
        .map(|(key, _)| MessageRef::new(sequence_in_key(key), Some(room.room_id.clone())))
        .collect();
    let messages = relay.broker.messages(&references).map_err(failed)?;
    let history =
        messages.iter().map(|message| message_row(message, Some(&room.room_id))).collect();
    Ok(RelayAnswer::ok(&response::RoomHistoryResponse { room_id: room.room_id.into(), history }))
}

/// Lists the rooms that the caller may see.
pub fn list(relay: &mut RelayCore, call: &Call<'_>) -> AnswerResult {
    let own = own_mailboxes(relay, call);
    let state = relay.broker.state();
    let rooms = state.rooms.scan([]).into_iter().map(|(_, room)| room);
    let visible = rooms.filter(|room| is_visible(relay, &own, room));
    let rows = visible.map(|room| {
        let members: Vec<String> =
            state.members_of_room(&room.room_id).into_iter().map(|(name, _)| name).collect();
        response::RoomSummary {
            member_count: members.len() as u64,
            room_id: room.room_id.into(),
            members,
            visibility: Some(room.visibility),
        }
    });
    Ok(RelayAnswer::ok(&response::ListRoomsResponse { rooms: rows.collect() }))
}
