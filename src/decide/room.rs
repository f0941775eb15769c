//! Who may be in a room, and who hears what is said there?

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    MessageSent, RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLeft,
    RoomVisibilityChanged, Target,
};

use super::session::{Acting, acting};
use super::{Decision, Facts, Liveness, Refusal, Reply, RoomReply, Send, Sent, Skipped};
use super::{address, mailbox_liveness, send};
use crate::code::Code;
use crate::state::{Room, State, pair};

/// A room to be made.
pub(super) struct NewRoom<'a> {
    pub room_id: &'a str,
    pub visibility: &'a str,
    pub invite: &'a [String],
    pub join: bool,
}

fn check_room_id(room_id: &str) -> Result<(), Refusal> {
    check_name(room_id)
        .map_err(|e| Refusal::new(Code::InvalidRoomId, "room_id", format!("room_id {e}")))
}

/// The room, if it is there and the caller may know of it.
fn known_room(state: &State, room_id: &str, acting: &Acting) -> Result<Room, Refusal> {
    check_room_id(room_id)?;
    let room = state.rooms.get(fold(room_id)).filter(|room| may_see(state, room, &acting.mailbox));
    room.ok_or_else(|| {
        Refusal::new(Code::UnknownRoom, "room_id", format!("there is no room '{room_id}'"))
            .hint("join_room makes it")
    })
}

/// Whether a mailbox may know that a room exists.
pub fn may_see(state: &State, room: &Room, mailbox: &str) -> bool {
    room.visibility != "invite_only"
        || is_member(state, &room.room_id, mailbox)
        || invited(state, room, mailbox)
}

/// What stands before a public key among those who are invited: whoever holds it may come in, under
/// any alias. No alias has a colon.
const KEY: &str = "key:";

/// A key as it stands among those who are invited.
pub fn by_key(public_key: &str) -> String {
    format!("{KEY}{public_key}")
}

/// The key that stands there, if it is one.
pub fn key_of(invited: &str) -> Option<&str> {
    invited.strip_prefix(KEY)
}

fn invited(state: &State, room: &Room, mailbox: &str) -> bool {
    let Some(row) = state.mailboxes.get(mailbox) else { return false };
    is_invited(state, room, &row.address())
}

/// Whether an address may come into a room: by name, or at a relay by the key that it belongs to.
pub(super) fn is_invited(state: &State, room: &Room, address: &str) -> bool {
    let named = |alias: &String| fold(alias) == fold(address);
    if named(&room.created_by) || room.invited.iter().any(named) {
        return true;
    }
    let Some((alias, node_id)) = address.split_once('@') else { return false };
    let bound = state.bindings.get(pair(&fold(node_id), fold(alias).as_bytes()));
    let key = bound.map(|row| row.public_key).filter(|key| !key.is_empty());
    key.is_some_and(|key| room.invited.contains(&by_key(&key)))
}

pub(super) fn is_member(state: &State, room_id: &str, mailbox: &str) -> bool {
    state.members.get(pair(&fold(room_id), mailbox.as_bytes())).is_some()
}

fn members(state: &State, room_id: &str) -> Vec<String> {
    let rows = state.members_of(room_id).into_iter();
    rows.map(|(mailbox, _)| member_name(state, mailbox)).collect()
}

/// A member on another node has no mailbox here: its address says who it is.
fn member_name(state: &State, mailbox: String) -> String {
    let row = state.mailboxes.get(&mailbox);
    row.map_or(mailbox, |row| send::display(state, &row))
}

fn check_visibility(visibility: &str) -> Result<(), Refusal> {
    if ["public", "invite_only", "local"].contains(&visibility) {
        return Ok(());
    }
    let message = format!("unknown visibility '{visibility}' - public, invite_only or local");
    Err(Refusal::new(Code::InvalidArgument, "visibility", message))
}

pub(super) fn create(
    state: &State,
    new: &NewRoom<'_>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_room_id(new.room_id)?;
    check_visibility(new.visibility)?;
    let invitees = new.invite.iter().map(|alias| invitee(state, alias, "invite", facts));
    let invitees = invitees.collect::<Result<Vec<Invitee>, Refusal>>()?;
    let acting = acting(state, None, facts)?;
    if let Some(room) = state.rooms.get(fold(new.room_id)) {
        // A name is taken for everybody; whether it can be joined is for those who may know.
        let known = may_see(state, &room, &acting.mailbox);
        let message = format!("room '{}' exists", new.room_id);
        return Err(Refusal::new(Code::RoomExists, "room_id", message).hint(if known {
            "join it"
        } else {
            "choose another name"
        }));
    }
    let mut events = acting.events.clone();
    let invited: Vec<String> = invitees.iter().map(|row| row.address.clone()).collect();
    events.push(created(new.room_id, &acting.address, new.visibility, &invited));
    for row in &invitees {
        let sent = invitation(new.room_id, &acting, row, facts);
        events.extend(sent.map(Payload::MessageSent));
    }
    let mut members = Vec::new();
    if new.join {
        events.push(joined(new.room_id, &acting.mailbox));
        members.push(acting.alias.clone());
    }
    let reply =
        RoomReply { room_id: new.room_id.to_owned(), alias: acting.alias, already: false, members };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}

fn created(room_id: &str, alias: &str, visibility: &str, invited: &[String]) -> Payload {
    Payload::RoomCreated(RoomCreated {
        room_id: room_id.to_owned(),
        created_by: alias.to_owned(),
        visibility: visibility.to_owned(),
        invited: invited.to_vec(),
    })
}

fn joined(room_id: &str, mailbox: &str) -> Payload {
    let (room_id, mailbox) = (fold(room_id), mailbox.to_owned());
    Payload::RoomJoined(RoomJoined { room_id, mailbox, of: None, origin: None })
}

pub(super) fn join(
    state: &State,
    room_id: &str,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_room_id(room_id)?;
    let acting = acting(state, from, facts)?;
    let mut events = acting.events.clone();
    let room = state.rooms.get(fold(room_id));
    let already = is_member(state, room_id, &acting.mailbox);
    match &room {
        Some(room) if room.visibility == "invite_only" && !already => {
            if !invited(state, room, &acting.mailbox) {
                let message =
                    format!("room '{room_id}' is by invitation, '{}' has none", acting.alias);
                return Err(Refusal::new(Code::NotInvited, "room_id", message)
                    .hint("ask a member for an invitation"));
            }
        }
        Some(_) => {}
        None => events.push(created(room_id, &acting.address, "public", &[])),
    }
    let mut members = members(state, room_id);
    if !already {
        events.push(joined(room_id, &acting.mailbox));
        members.push(acting.alias.clone());
    }
    let room_id = room.map_or_else(|| room_id.to_owned(), |room| room.room_id);
    let reply = RoomReply { room_id, alias: acting.alias, already, members };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}

pub(super) fn leave(
    state: &State,
    room_id: &str,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let acting = acting(state, from, facts)?;
    let room = known_room(state, room_id, &acting)?;
    let already = !is_member(state, room_id, &acting.mailbox);
    let mut members = members(state, room_id);
    let mut events = Vec::new();
    if !already {
        members.retain(|alias| *alias != acting.alias);
        events.push(Payload::RoomLeft(RoomLeft {
            room_id: fold(room_id),
            mailbox: acting.mailbox,
            reason: "left".into(),
            origin: None,
        }));
    }
    let reply = RoomReply { room_id: room.room_id, alias: acting.alias, already, members };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}

pub(super) fn send(
    state: &State,
    room_id: &str,
    message: &Send,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    send::check(message)?;
    let acting = acting(state, message.from.as_deref(), facts)?;
    let room = known_room(state, room_id, &acting)?;
    if !is_member(state, room_id, &acting.mailbox) {
        let text = format!("'{}' is not a member of '{room_id}'", acting.alias);
        return Err(Refusal::new(Code::NotAMember, "room_id", text).hint("join the room first"));
    }
    let message = Send { to: room.room_id.clone(), ..message.clone() };
    let prior = send::earlier(&message, &acting, facts)?.cloned();
    let duplicate = prior.is_some();
    let heard = fan_out(state, room_id, &acting.mailbox, facts);
    let sent = prior.unwrap_or_else(|| {
        // The relay of a shared room gives the room sequence later.
        let label = (!room.shared).then_some(room.next_label);
        let skipped = if facts.relay.is_some() { heard.dead } else { Vec::new() };
        let target = Target::Room { room_id: fold(room_id), label, skipped };
        send::message(&message, &acting, target, facts)
    });
    let reply = Reply::Sent(Sent {
        message_id: sent.message_id.clone(),
        from: acting.alias,
        to: room.room_id,
        sent_us: sent.sent_us,
        duplicate,
        recipient_state: "room",
        delivered_to: heard.delivered_to,
        queued: heard.queued,
        skipped: heard.skipped,
        outbox: false,
    });
    let events = if duplicate { Vec::new() } else { vec![Payload::MessageSent(sent)] };
    Ok(Decision { events, reply, durable: true })
}

/// Who hears what is said in a room.
#[derive(Default)]
pub(super) struct Heard {
    delivered_to: Vec<String>,
    /// Members on other nodes.
    queued: Vec<String>,
    skipped: Vec<Skipped>,
    /// Mailboxes of those skipped.
    pub dead: Vec<String>,
}

/// Who finds the message in the mailbox: every other member. The dead ones are named apart; here
/// their mail waits all the same, at a relay only what a connector fetches does.
pub(super) fn fan_out(state: &State, room_id: &str, from: &str, facts: &Facts<'_>) -> Heard {
    let mut heard = Heard::default();
    for (mailbox, _) in state.members_of(room_id).into_iter().filter(|(name, _)| name != from) {
        let Some(row) = state.mailboxes.get(&mailbox) else {
            heard.queued.push(mailbox);
            continue;
        };
        let alias = send::display(state, &row);
        if row.replicated {
            heard.queued.push(alias);
        } else if mailbox_liveness(state, &row, &|session| facts.alive(session)) == Liveness::Dead {
            let waits = "not_alive: waits in the mailbox";
            let reason = if facts.relay.is_some() { "not_alive" } else { waits };
            heard.skipped.push(Skipped { alias, reason: reason.into() });
            heard.dead.push(mailbox);
        } else {
            heard.delivered_to.push(alias);
        }
    }
    heard
}

pub(super) fn invite(
    state: &State,
    room_id: &str,
    alias: &str,
    invited: bool,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let invitee = invitee(state, alias, "alias", facts);
    let acting = acting(state, None, facts)?;
    let room = known_room(state, room_id, &acting)?;
    if !is_member(state, room_id, &acting.mailbox) {
        let text = format!("only members of '{room_id}' invite");
        return Err(Refusal::new(Code::NotAMember, "room_id", text).hint("join the room first"));
    }
    let invitee = invitee?;
    let mut events = vec![Payload::RoomInvitation(RoomInvitation {
        room_id: fold(room_id),
        alias: invitee.address.clone(),
        invited,
        origin: None,
    })];
    if invited && let Some(sent) = invitation(&room.room_id, &acting, &invitee, facts) {
        events.push(Payload::MessageSent(sent));
    }
    let reply = RoomReply {
        room_id: room.room_id,
        alias: invitee.address,
        already: false,
        members: members(state, room_id),
    };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}

/// Somebody to be invited, here or on another node.
struct Invitee {
    address: String,
    /// Where the invitation goes; whoever holds a key may be nobody yet.
    target: Option<Target>,
}

/// 32 bytes in base64url, as keys are written.
pub(super) fn is_key(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() == 43 && text.bytes().all(plain)
}

/// Who is meant by an alias that is to be invited.
fn invitee(
    state: &State,
    alias: &str,
    field: &'static str,
    facts: &Facts<'_>,
) -> Result<Invitee, Refusal> {
    if key_of(alias).is_some_and(is_key) {
        return Ok(Invitee { address: alias.to_owned(), target: None });
    }
    let (name, host) = address::split(alias).map_err(|refusal| Refusal { field, ..refusal })?;
    check_alias(name)
        .map_err(|e| Refusal::new(Code::InvalidAlias, field, format!("{field}: alias {e}")))?;
    let unknown = || Refusal { field, ..send::unknown(state, alias) };
    let here =
        facts.relay.is_none() && host.is_none_or(|at| fold(at) == fold(&facts.actor.node_id));
    let row = state.mailbox_of(if here { name } else { alias });
    if let Some(row) = row {
        let target = Some(Target::Mailbox(row.name.clone()));
        return Ok(Invitee { address: row.address(), target });
    }
    let elsewhere = match host {
        _ if facts.relay.is_some() => None,
        Some(host) if !here => Some((name.to_owned(), host.to_owned())),
        Some(_) => None,
        None => address::in_swarm(state, name)?,
    };
    let (alias, host) = elsewhere.ok_or_else(unknown)?;
    let address = format!("{alias}@{host}");
    Ok(Invitee { address, target: Some(Target::Outbox { alias, host }) })
}

/// An invitation is itself a message to the one invited.
fn invitation(
    room_id: &str,
    acting: &Acting,
    invitee: &Invitee,
    facts: &Facts<'_>,
) -> Option<MessageSent> {
    let target = invitee.target.clone()?;
    let message = Send {
        to: invitee.address.clone(),
        body: format!(
            "{} invites you to room {room_id}. To join: join_room with room_id {room_id}, or \
             c2c rooms join {room_id}",
            acting.alias
        ),
        ..Send::default()
    };
    let mut sent = send::message(&message, acting, target, facts);
    sent.source = Some("room_invite".into());
    Some(sent)
}

/// Only the creator may change or delete a room.
fn owned_room(state: &State, room_id: &str, facts: &Facts<'_>) -> Result<(Room, Acting), Refusal> {
    let acting = acting(state, None, facts)?;
    let room = known_room(state, room_id, &acting)?;
    if fold(&room.created_by) != fold(&acting.address) {
        let text = format!("only '{}', who made '{room_id}', may do this", room.created_by);
        return Err(Refusal::new(Code::Forbidden, "room_id", text));
    }
    Ok((room, acting))
}

pub(super) fn visibility(
    state: &State,
    room_id: &str,
    visibility: &str,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    check_visibility(visibility)?;
    let (room, acting) = owned_room(state, room_id, facts)?;
    let events = vec![Payload::RoomVisibilityChanged(RoomVisibilityChanged {
        room_id: fold(room_id),
        visibility: visibility.to_owned(),
        origin: None,
    })];
    let members = members(state, room_id);
    let reply = RoomReply { room_id: room.room_id, alias: acting.alias, already: false, members };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}

pub(super) fn delete(
    state: &State,
    room_id: &str,
    force: bool,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let (room, acting) = owned_room(state, room_id, facts)?;
    let members = members(state, room_id);
    if members.iter().any(|alias| *alias != acting.alias) && !force {
        let text = format!("room '{room_id}' has {} members", members.len());
        return Err(Refusal::new(Code::RoomNotEmpty, "room_id", text).hint("use force"));
    }
    let events = vec![Payload::RoomDeleted(RoomDeleted {
        room_id: fold(room_id),
        shared: state.is_open(&room),
        origin: None,
    })];
    let reply = RoomReply { room_id: room.room_id, alias: acting.alias, already: false, members };
    Ok(Decision { events, reply: Reply::Room(reply), durable: true })
}
