//! Rooms: creation, membership, messages, visibility, deletion.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLeaveReason, RoomLeft,
    RoomVisibility, RoomVisibilityChanged, Target,
};

use super::acting::{Acting, acting};
use super::invitation::{Invitee, invitation_message, invitee};
use super::membership::{is_mailbox_invited, is_member, may_see_room, member_names, recipients};
use super::send;
use crate::code::Code;
use crate::command::{CreateRoom, Send};
use crate::facts::Facts;
use crate::rejection::{Rejection, check_room_id};
use crate::reply::{Decision, RecipientState, RoomReply, Sent};
use crate::state::{Room, State};

/// The room, if it exists and the caller may see it.
fn visible_room(state: &State, room_id: &str, acting: &Acting) -> Result<Room, Rejection> {
    check_room_id("room_id", room_id)?;
    let room =
        state.rooms.get(fold(room_id)).filter(|room| may_see_room(state, room, &acting.mailbox));
    room.ok_or_else(|| {
        let message = format!("room '{room_id}' does not exist");
        Rejection::new(Code::UnknownRoom, "room_id", message).hint("join the room to create it")
    })
}

/// The room, if the caller has created it.
fn own_room(state: &State, room_id: &str, facts: &Facts<'_>) -> Result<(Room, Acting), Rejection> {
    let acting = acting(state, None, facts)?;
    let room = visible_room(state, room_id, &acting)?;
    if fold(&room.created_by) != fold(&acting.address) {
        let owner = &room.created_by;
        let message = format!("room '{room_id}' belongs to '{owner}'; only its owner can do this");
        return Err(Rejection::new(Code::Forbidden, "room_id", message));
    }
    Ok((room, acting))
}

fn check_visibility(visibility: &RoomVisibility) -> Result<(), Rejection> {
    let RoomVisibility::Other(visibility) = visibility else { return Ok(()) };
    let message =
        format!("unknown visibility '{visibility}': must be public, invite_only or local");
    Err(Rejection::new(Code::InvalidArgument, "visibility", message))
}

pub(super) fn create(
    state: &State,
    new: &CreateRoom,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    check_room_id("room_id", &new.room_id)?;
    check_visibility(&new.visibility)?;
    let invitees = new.invite.iter().map(|alias| invitee(state, "invite", alias, facts));
    let invitees = invitees.collect::<Result<Vec<Invitee>, Rejection>>()?;
    let acting = acting(state, None, facts)?;
    if let Some(room) = state.rooms.get(fold(&new.room_id)) {
        // Every caller learns that the name is taken, but only a caller that may see the room
        // learns that it can be joined.
        let is_visible = may_see_room(state, &room, &acting.mailbox);
        let message = format!("room '{}' already exists", &new.room_id);
        let hint = if is_visible { "join it" } else { "choose another name" };
        return Err(Rejection::new(Code::RoomExists, "room_id", message).hint(hint));
    }
    let mut events = acting.events.clone();
    let invited: Vec<String> = invitees.iter().map(|row| row.address.clone()).collect();
    events.push(room_created(&new.room_id, &acting.address, &new.visibility, invited));
    for row in &invitees {
        let sent = invitation_message(&new.room_id, &acting, row, facts);
        events.extend(sent.map(Payload::MessageSent));
    }
    let mut members = Vec::new();
    if new.join {
        events.push(room_joined(&new.room_id, &acting.mailbox));
        members.push(acting.alias.clone().into());
    }
    let room_id = new.room_id.clone();
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: acting.alias.into(), already: false, members },
    ))
}

fn room_created(
    room_id: &str,
    created_by: &str,
    visibility: &RoomVisibility,
    invited: Vec<String>,
) -> Payload {
    Payload::RoomCreated(RoomCreated {
        room_id: room_id.to_owned(),
        created_by: created_by.to_owned(),
        visibility: visibility.clone(),
        invited,
    })
}

fn room_joined(room_id: &str, mailbox: &str) -> Payload {
    Payload::RoomJoined(RoomJoined {
        room_id: fold(room_id),
        mailbox: mailbox.to_owned(),
        of: None,
        origin: None,
    })
}

/// Joins a room; creates it as a public one if it does not exist.
pub(super) fn join(
    state: &State,
    room_id: &str,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    check_room_id("room_id", room_id)?;
    let acting = acting(state, from, facts)?;
    let mut events = acting.events.clone();
    let room = state.rooms.get(fold(room_id));
    let already = is_member(state, room_id, &acting.mailbox);
    match &room {
        Some(room) if room.visibility == RoomVisibility::InviteOnly && !already => {
            if !is_mailbox_invited(state, room, &acting.mailbox) {
                let message = format!(
                    "room '{room_id}' is invite-only, and '{}' is not invited",
                    acting.alias
                );
                return Err(Rejection::new(Code::NotInvited, "room_id", message)
                    .hint("ask a member for an invitation"));
            }
        }
        Some(_) => {}
        None => {
            events.push(room_created(
                room_id,
                &acting.address,
                &RoomVisibility::Public,
                Vec::new(),
            ));
        }
    }
    let mut members = member_names(state, room_id);
    if !already {
        events.push(room_joined(room_id, &acting.mailbox));
        members.push(acting.alias.clone().into());
    }
    let room_id = room.map_or_else(|| room_id.into(), |room| room.room_id);
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: acting.alias.into(), already, members },
    ))
}

pub(super) fn leave(
    state: &State,
    room_id: &str,
    from: Option<&str>,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    let acting = acting(state, from, facts)?;
    let room = visible_room(state, room_id, &acting)?;
    let already = !is_member(state, room_id, &acting.mailbox);
    let mut members = member_names(state, room_id);
    let mut events = Vec::new();
    if !already {
        members.retain(|alias| acting.alias != *alias);
        events.push(Payload::RoomLeft(RoomLeft {
            room_id: fold(room_id),
            mailbox: acting.mailbox,
            reason: RoomLeaveReason::Left,
            origin: None,
        }));
    }
    let room_id = room.room_id;
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: acting.alias.into(), already, members },
    ))
}

pub(super) fn send(
    state: &State,
    room_id: &str,
    message: &Send,
    facts: &Facts<'_>,
) -> Result<Decision<Sent>, Rejection> {
    send::check(message)?;
    let acting = acting(state, message.from.as_deref(), facts)?;
    let room = visible_room(state, room_id, &acting)?;
    if !is_member(state, room_id, &acting.mailbox) {
        let message = format!("'{}' is not a member of '{room_id}'", acting.alias);
        return Err(
            Rejection::new(Code::NotAMember, "room_id", message).hint("join the room first")
        );
    }
    let message = Send { to: room.room_id.to_string(), ..message.clone() };
    let earlier = send::find_earlier(&message, &acting, facts)?.cloned();
    let duplicate = earlier.is_some();
    let recipients = recipients(state, room_id, &acting.mailbox, facts);
    let sent = earlier.unwrap_or_else(|| {
        // The relay of a shared room assigns the room sequence later.
        let label = (!room.shared).then_some(room.next_label);
        let skipped = if facts.relay.is_some() { recipients.dead } else { Vec::new() };
        let target = Target::Room { room_id: fold(room_id), label, skipped };
        send::message_sent(&message, &acting, target, facts)
    });
    let reply = Sent {
        message_id: sent.message_id.clone().into(),
        from: acting.alias,
        to: room.room_id.into(),
        sent_us: sent.sent_us,
        duplicate,
        recipient_state: RecipientState::Room,
        delivered_to: recipients.delivered_to,
        queued: recipients.queued,
        skipped: recipients.skipped,
        outbox: false,
    };
    let events = if duplicate { Vec::new() } else { vec![Payload::MessageSent(sent)] };
    Ok(Decision::durable(events, reply))
}

/// Invites an agent to a room, or withdraws the invitation.
pub(super) fn invite(
    state: &State,
    room_id: &str,
    alias: &str,
    invited: bool,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    // The errors of the caller and of the room take precedence over those of the invited alias.
    let invitee = invitee(state, "alias", alias, facts);
    let acting = acting(state, None, facts)?;
    let room = visible_room(state, room_id, &acting)?;
    if !is_member(state, room_id, &acting.mailbox) {
        let message = format!("only members of '{room_id}' can invite others");
        return Err(
            Rejection::new(Code::NotAMember, "room_id", message).hint("join the room first")
        );
    }
    let invitee = invitee?;
    let mut events = vec![Payload::RoomInvitation(RoomInvitation {
        room_id: fold(room_id),
        alias: invitee.address.clone(),
        invited,
        origin: None,
    })];
    if invited && let Some(sent) = invitation_message(&room.room_id, &acting, &invitee, facts) {
        events.push(Payload::MessageSent(sent));
    }
    let members = member_names(state, room_id);
    let room_id = room.room_id;
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: invitee.address, already: false, members },
    ))
}

pub(super) fn set_visibility(
    state: &State,
    room_id: &str,
    visibility: &RoomVisibility,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    check_visibility(visibility)?;
    let (room, acting) = own_room(state, room_id, facts)?;
    let events = vec![Payload::RoomVisibilityChanged(RoomVisibilityChanged {
        room_id: fold(room_id),
        visibility: visibility.clone(),
        origin: None,
    })];
    let members = member_names(state, room_id);
    let room_id = room.room_id;
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: acting.alias.into(), already: false, members },
    ))
}

pub(super) fn delete(
    state: &State,
    room_id: &str,
    force: bool,
    facts: &Facts<'_>,
) -> Result<Decision<RoomReply>, Rejection> {
    let (room, acting) = own_room(state, room_id, facts)?;
    let members = member_names(state, room_id);
    if members.iter().any(|alias| acting.alias != *alias) && !force {
        let message = format!("room '{room_id}' has {} members", members.len());
        return Err(Rejection::new(Code::RoomNotEmpty, "room_id", message)
            .hint("use force to delete the room anyway"));
    }
    let events = vec![Payload::RoomDeleted(RoomDeleted {
        room_id: fold(room_id),
        shared: state.is_room_shared(&room),
        origin: None,
    })];
    let room_id = room.room_id;
    Ok(Decision::durable(
        events,
        RoomReply { room_id, alias: acting.alias.into(), already: false, members },
    ))
}
