//! What do scripts and older clients do in rooms?

use c2c_log_format::id::fold;

use super::message::row;
use super::{Answer, Call, Done, failed, internal};
use crate::code::Code;
use crate::decide::{self, Actor, Command, Refusal, Reply, Send, may_see};
use crate::limits::ROOM_HISTORY;
use crate::relay::access::Caller;
use crate::relay::answer::problem_of;
use crate::relay::service::{Relay, nobody};
use crate::state::{Binding, Mailbox, pair, sequence_of};
use crate::wire::body::{self, RoomChange, Stamp};
use crate::wire::sign::{self, PublicKey, RoomOp};

/// The caller as an alias: by the header, or by the signed operation in the body.
fn acting(
    relay: &mut Relay,
    call: &Call<'_>,
    wish: &RoomChange,
    op: RoomOp,
) -> Result<Actor, Answer> {
    if call.caller != Caller::Anybody {
        return call.acting_as(&wish.alias);
    }
    let given = wish
        .proof()
        .map_err(|e| Answer::from(Refusal::new(Code::MissingProof, "sig", e.message)))?;
    let mut guard = relay.guard(call.now_us);
    let key = match guard.need_proof(given)? {
        Some(proof) => {
            let (alias, room_id) = (&wish.alias, &wish.room_id);
            guard.proven(&proof, sign::room_op(op, room_id, alias, proof.key, proof.moment))?
        }
        None => None,
    };
    let of_alias = |row: &Binding| fold(&row.alias) == fold(&wish.alias);
    let rows = relay.broker.state().bindings.scan([]).into_iter().map(|(_, row)| row);
    let known: Vec<String> = rows.filter(of_alias).map(|row| row.public_key).collect();
    if let Some(key) = key.as_ref().filter(|key| !known.is_empty() && !known.contains(key)) {
        let message = format!("'{}' belongs to another key than {key}", wish.alias);
        let refusal = Refusal::new(Code::KeyMismatch, "alias", message);
        return Err(Answer::problem(&problem_of(&refusal), 401));
    }
    Ok(Actor { alias: Some(wish.alias.clone()), key, ..nobody() })
}

pub fn join(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: RoomChange = call.body()?;
    let actor = acting(relay, call, &wish, RoomOp::Join)?;
    let command = Command::RoomJoin { room_id: wish.room_id, from: Some(wish.alias) };
    let (already, told) = membership(relay, &command, &actor)?;
    Ok(Answer::ok(&body::Membership { already_member: Some(already), ..told }))
}

pub fn leave(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: RoomChange = call.body()?;
    let actor = acting(relay, call, &wish, RoomOp::Leave)?;
    let command = Command::RoomLeave { room_id: wish.room_id, from: Some(wish.alias) };
    let (already, told) = membership(relay, &command, &actor)?;
    Ok(Answer::ok(&body::Membership { removed: Some(!already), ..told }))
}

/// Joins or leaves; whether that was so already, and who is in the room now.
fn membership(
    relay: &mut Relay,
    command: &Command,
    actor: &Actor,
) -> Result<(bool, body::Membership), Answer> {
    let reply = relay.broker.execute(command, actor).map_err(failed)?.reply;
    let Reply::Room(room) = reply else { return Err(internal()) };
    let told = body::Membership {
        result: "ok".into(),
        room_id: room.room_id,
        alias: room.alias,
        member_count: room.members.len() as u64,
        already_member: None,
        removed: None,
    };
    Ok((room.already, told))
}

/// What older programs call a room by invitation.
const INVITE: &str = "invite";

pub fn set_visibility(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: RoomChange = call.body()?;
    let actor = acting(relay, call, &wish, RoomOp::SetVisibility)?;
    let asked = wish.visibility.unwrap_or_default();
    let visibility = match asked.as_str() {
        INVITE | "invite_only" => "invite_only".to_owned(),
        "public" => asked,
        _ => {
            let message = "visibility is public or invite";
            return Err(Refusal::new(Code::BadRequest, "visibility", message).into());
        }
    };
    let room_id = wish.room_id;
    let command = Command::RoomVisibility { room_id: room_id.clone(), visibility };
    relay.broker.execute(&command, &actor).map_err(failed)?;
    Ok(Answer::ok(&settings(relay, room_id)))
}

fn settings(relay: &Relay, room_id: String) -> body::RoomSettings {
    let room = relay.broker.state().rooms.get(fold(&room_id));
    let (visibility, invited) = room.map(|room| (room.visibility, room.invited)).unzip();
    // A key stands there as it was given.
    let plain = |name: String| decide::key_of(&name).map(str::to_owned).unwrap_or(name);
    let invited_members = invited.map(|all| all.into_iter().map(plain).collect());
    body::RoomSettings { room_id, visibility, invited_members }
}

/// Invites whoever holds a key, under all of their aliases, those of later included.
pub fn invite(relay: &mut Relay, call: &Call<'_>, invited: bool) -> Done {
    let wish: RoomChange = call.body()?;
    let op = if invited { RoomOp::Invite } else { RoomOp::Uninvite };
    let actor = acting(relay, call, &wish, op)?;
    let named = wish.invitee_pk.as_deref().unwrap_or_default();
    let rows = relay.broker.state().bindings.scan([]).into_iter().map(|(_, row)| row);
    let of_key = rows.filter(|row| !named.is_empty() && row.public_key == named);
    let mut aliases: Vec<String> =
        of_key.map(|row| format!("{}@{}", row.alias, row.node_id)).collect();
    if !named.is_empty() {
        PublicKey::parse(named).map_err(|e| {
            Answer::from(Refusal::new(Code::BadRequest, "invitee_pk", e.to_string()))
        })?;
        aliases.push(decide::by_key(named));
    }
    // An alias is accepted, too: not everybody knows the keys of others.
    aliases.extend(wish.invitee);
    if aliases.is_empty() {
        let message = "who is to be invited?";
        let refusal = Refusal::new(Code::BadRequest, "invitee_pk", message);
        return Err(refusal
            .hint("name the key of /pubkey/<alias>, or the alias as invitee")
            .into());
    }
    for alias in aliases {
        let room_id = wish.room_id.clone();
        let command = Command::RoomInvite { room_id, alias, invited };
        relay.broker.execute(&command, &actor).map_err(failed)?;
    }
    Ok(Answer::ok(&settings(relay, wish.room_id)))
}

pub fn send(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::SendRoom = call.body()?;
    let actor = if call.caller == Caller::Anybody {
        let key = by_envelope(relay, call, &wish)?;
        Actor { alias: Some(wish.from_alias.clone()), key, ..nobody() }
    } else {
        call.acting_as(&wish.from_alias)?
    };
    let send = Send {
        body: wish.content,
        from: Some(wish.from_alias),
        message_id: wish.message_id.filter(|id| !id.is_empty()),
        tag: wish.tag,
        ..Send::default()
    };
    relay.note_said();
    let command = Command::RoomSend { room_id: wish.room_id, send };
    let reply = relay.broker.execute(&command, &actor).map_err(failed)?.reply;
    let Reply::Sent(sent) = reply else { return Err(internal()) };
    let delivered: Vec<String> = sent.delivered_to.into_iter().chain(sent.queued).collect();
    Ok(Answer::ok(&body::FannedOut {
        result: if sent.duplicate { "duplicate" } else { "ok" }.into(),
        delivered: delivered.clone(),
        delivered_to: delivered,
        skipped: sent.skipped.into_iter().map(|row| row.alias).collect(),
        message_id: sent.message_id,
        room_id: Some(sent.to),
        duplicate: sent.duplicate.then_some(true),
        ts: Stamp { us: sent.sent_us },
    }))
}

/// The key that signed a room message.
fn by_envelope(
    relay: &mut Relay,
    call: &Call<'_>,
    wish: &body::SendRoom,
) -> Result<Option<String>, Answer> {
    let mut guard = relay.guard(call.now_us);
    let Some(envelope) = guard.need_proof(wish.envelope.as_ref())? else { return Ok(None) };
    let same = envelope.ct == sign::encode(wish.content.as_bytes());
    if envelope.enc != "none" || !same {
        let message = "only enc 'none' is taken, with the base64url of the content as ct";
        return Err(Refusal::new(Code::BadRequest, "envelope", message).into());
    }
    let proof = envelope.proof();
    let (room_id, from) = (&wish.room_id, &wish.from_alias);
    let text =
        sign::room_send(room_id, from, proof.key, &envelope.enc, &wish.content, proof.moment);
    guard.proven(&proof, text)
}

/// Mailboxes of the caller.
fn own_mailboxes(relay: &Relay, call: &Call<'_>) -> Vec<Mailbox> {
    let Caller::Peer { key, .. } = &call.caller else { return Vec::new() };
    let state = relay.broker.state();
    let rows = state.bindings.scan([]).into_iter().map(|(_, row)| row);
    let mine = rows.filter(|row| row.public_key == *key);
    mine.filter_map(|row| state.mailbox_of(&format!("{}@{}", row.alias, row.node_id))).collect()
}

pub fn history(relay: &mut Relay, call: &Call<'_>) -> Done {
    let wish: body::RoomHistory = call.body()?;
    let own = own_mailboxes(relay, call);
    let open = relay.token.is_none();
    let state = relay.broker.state();
    let seen = |room: &crate::state::Room| {
        open || may_see(state, room, "") || own.iter().any(|row| may_see(state, room, &row.name))
    };
    let Some(room) = state.rooms.get(fold(&wish.room_id)).filter(seen) else {
        // Whether there is one that is not for the caller is nobody's business.
        let history = Vec::new();
        return Ok(Answer::ok(&body::History { room_id: wish.room_id, history }));
    };
    let limit = (wish.limit() as usize).min(ROOM_HISTORY);
    // What is at hand; the whole log is the operator's.
    let rows = state.room_messages.scan(pair(&fold(&room.room_id), &[]));
    let last = rows[rows.len().saturating_sub(limit)..].iter();
    let wanted: Vec<_> =
        last.map(|(key, _)| (sequence_of(key), Some(room.room_id.clone()), false)).collect();
    let messages = relay.broker.messages(&wanted).map_err(failed)?;
    let history = messages.iter().map(|message| row(message, Some(&room.room_id))).collect();
    Ok(Answer::ok(&body::History { room_id: room.room_id, history }))
}

pub fn list(relay: &mut Relay, call: &Call<'_>) -> Done {
    let own = own_mailboxes(relay, call);
    let open = relay.token.is_none();
    let state = relay.broker.state();
    let rooms = state.rooms.scan([]).into_iter().map(|(_, room)| room);
    let seen = rooms.filter(|room| {
        open || may_see(state, room, "") || own.iter().any(|row| may_see(state, room, &row.name))
    });
    let rows = seen.map(|room| {
        let members: Vec<String> =
            state.members_of(&room.room_id).into_iter().map(|(name, _)| name).collect();
        body::Room {
            member_count: members.len() as u64,
            room_id: room.room_id,
            members,
            visibility: Some(room.visibility),
        }
    });
    Ok(Answer::ok(&body::Rooms { rooms: rows.collect() }))
}
