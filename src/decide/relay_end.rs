//! What does a relay do with what a node pushes?

use c2c_log_format::Payload;
use c2c_log_format::id::{check_alias, check_name, fold};
use c2c_log_format::payload::{
    MessageSent, ReceiptsRecorded, RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLeft,
    RoomVisibilityChanged, Target,
};

use super::leave::{REPLAYED, node_of};
use super::receive::{Batch, Intake, Item, Outcome, arrived};
use super::{Facts, Refusal, Relay, address, lease, room, send};
use crate::code::Code;
use crate::state::{Cursor, PAST, Room, State, pair};

/// A log belongs to the key that pushed it first, and a node to those who registered there.
pub(super) fn check_owner(
    state: &State,
    batch: &Batch,
    cursor: &Cursor,
    facts: &Facts<'_>,
) -> Result<(), Refusal> {
    let Some(key) = &facts.actor.key else { return Ok(()) };
    let foreign = |what: String| Err(Refusal::new(Code::ForeignSender, "node_id", what));
    let known = !cursor.node_id.is_empty();
    let other_key = !cursor.public_key.is_empty() && cursor.public_key != *key;
    if known && (other_key || fold(&cursor.node_id) != fold(&batch.node_id)) {
        return foreign(format!("log {} belongs to another key or node", batch.log));
    }
    let bindings = state.bindings_of(&batch.node_id);
    if !bindings.iter().any(|row| row.public_key == *key) {
        return foreign(format!("nobody on {} has registered with this key", batch.node_id));
    }
    Ok(())
}

pub(super) fn take<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    relay: &Relay,
) -> Result<Outcome, Refusal> {
    if let Some(refusal) = item.payload.room_id().and_then(|room| intake.others.get(&fold(room))) {
        return Ok(Outcome::Refused(refusal.clone()));
    }
    let taken = match &item.payload {
        Payload::MessageSent(sent) => return message(intake, item, sent, relay),
        Payload::RoomCreated(fact) => created(intake, fact),
        Payload::RoomJoined(fact) => joined(intake, item, fact),
        Payload::RoomLeft(fact) => left(intake, item, fact),
        Payload::RoomInvitation(fact) => invitation(intake, item, fact),
        Payload::RoomVisibilityChanged(fact) => visibility(intake, fact),
        Payload::RoomDeleted(fact) => deleted(intake, fact),
        Payload::ReceiptsRecorded(fact) => receipts(intake, item, fact),
        _ => Err(Refusal::new(Code::InvalidArgument, "items", "this kind does not leave a node")),
    };
    Ok(taken.unwrap_or_else(Outcome::Refused))
}

/// The address of an alias on the pushing node; it is bound to the pushing key on first use.
fn own_alias<'a>(intake: &mut Intake<'a>, alias: &'a str) -> Result<String, Refusal> {
    intake.once(alias, None, |intake| bound_alias(intake, alias))
}

fn bound_alias<'a>(intake: &mut Intake<'a>, alias: &'a str) -> Result<String, Refusal> {
    check_alias(alias)
        .map_err(|e| Refusal::new(Code::InvalidAlias, "from", format!("sender {e}")))?;
    let node_id = &intake.batch.node_id;
    let bound = lease::bind(&intake.state, alias, node_id, false, intake.facts).map_err(|_| {
        let message = format!("'{alias}@{node_id}' belongs to another key");
        Refusal::new(Code::ForeignSender, "from", message)
    })?;
    for event in bound {
        intake.add_seen(event);
    }
    Ok(format!("{alias}@{node_id}"))
}

/// All senders first: of two messages to the same address none must come too early for it.
pub(super) fn bind_senders<'a>(intake: &mut Intake<'a>) {
    let batch = intake.batch;
    for item in &batch.items {
        if let Payload::MessageSent(sent) = &item.payload {
            // Who is refused here is refused again with the message.
            let _ = own_alias(intake, &sent.from);
        }
    }
}

/// The mailbox of a member on the pushing node.
fn own_member<'a>(intake: &mut Intake<'a>, mailbox: &'a str) -> Result<String, Refusal> {
    match mailbox.split_once('@') {
        Some((alias, node)) if fold(node) == fold(&intake.batch.node_id) => {
            own_alias(intake, alias)?;
            Ok(fold(mailbox))
        }
        _ => {
            let message = format!("'{mailbox}' is not on {}", intake.batch.node_id);
            Err(Refusal::new(Code::ForeignSender, "mailbox", message))
        }
    }
}

/// The outcome; an error refuses the whole batch.
fn message<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    relay: &Relay,
) -> Result<Outcome, Refusal> {
    let sender = match own_alias(intake, &sent.from) {
        Ok(sender) => sender,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let origin = intake.origin(item);
    if let Some(before) = intake.earlier(&sent.message_id, &sender) {
        let known = before.origin.as_ref();
        let at = known.filter(|o| o.log == origin.log && o.sequence == origin.sequence);
        if at.is_some_and(|known| known.digest != origin.digest) {
            let message = format!("sequence {} was another event", origin.sequence);
            return Err(Refusal::new(Code::OriginDiverged, "items", message));
        }
        if fold(&before.to) != fold(&sent.to) || before.body != sent.body {
            let message = format!("message_id '{}' was used for another", sent.message_id);
            let refusal = Refusal::new(Code::MessageIdReused, "message_id", message);
            return Ok(Outcome::Refused(refusal));
        }
        let key = pair(&fold(&sender), sent.message_id.as_bytes());
        let waits = intake.state.arrivals.get(key).is_some()
            || intake.here(&sent.message_id).any(|here| here == before);
        return Ok(if waits { Outcome::Duplicate } else { Outcome::Delivered });
    }
    let target = match target(intake, sent, &sender, relay) {
        Ok(target) => target,
        Err(refusal) => return Ok(Outcome::Refused(refusal)),
    };
    let mut taken = arrived(sent, sender, sent.to.clone(), target, origin);
    // What these mean, only a relay says.
    taken.source = taken.source.filter(|source| ![REPLAYED, PAST].contains(&source.as_str()));
    intake.add_message(sent, taken);
    Ok(Outcome::Accepted)
}

fn target<'a>(
    intake: &mut Intake<'a>,
    sent: &'a MessageSent,
    sender: &str,
    relay: &Relay,
) -> Result<Target, Refusal> {
    send::check_pushed(sent)?;
    match &sent.target {
        Target::Outbox { alias, host } => {
            let node_id = Some(intake.batch.node_id.as_str());
            let mailbox = intake.once(alias, Some(host), |intake| {
                let found = address::resolve(&intake.state, relay, node_id, alias, Some(host));
                found.map(|mailbox| mailbox.name)
            });
            mailbox.map(Target::Mailbox)
        }
        Target::Room { room_id, .. } => {
            let state = &intake.state;
            let room = shared_room(state, room_id)?;
            if !room::is_member(state, room_id, &fold(sender)) {
                let text = format!("'{sender}' is not a member of '{room_id}'");
                return Err(Refusal::new(Code::NotAMember, "room_id", text));
            }
            let skipped = room::fan_out(state, room_id, &fold(sender), intake.facts).dead;
            let room_id = fold(room_id);
            let label = Some(room.next_label + intake.said_in(&room_id));
            Ok(Target::Room { room_id, label, skipped })
        }
        _ => Err(Refusal::new(Code::InvalidArgument, "items", "this message is not for others")),
    }
}

fn shared_room(state: &State, room_id: &str) -> Result<Room, Refusal> {
    state.rooms.get(fold(room_id)).ok_or_else(|| {
        Refusal::new(Code::UnknownRoom, "room_id", format!("there is no room '{room_id}'"))
    })
}

/// Only the node of its creator changes a room.
fn owned_room(intake: &Intake<'_>, room_id: &str) -> Result<Room, Refusal> {
    let room = shared_room(&intake.state, room_id)?;
    let node_id = room.created_by.split_once('@').map_or("", |(_, node)| node);
    if fold(node_id) == fold(&intake.batch.node_id) {
        return Ok(room);
    }
    let text = format!("'{room_id}' belongs to {}", room.created_by);
    Err(Refusal::new(Code::Forbidden, "room_id", text))
}

/// What is on a relay is for everybody, or by invitation.
fn check_shared(visibility: &str) -> Result<(), Refusal> {
    if ["public", "invite_only"].contains(&visibility) {
        return Ok(());
    }
    let message = "a room on a relay is public or invite_only";
    Err(Refusal::new(Code::InvalidArgument, "visibility", message))
}

fn check_address(text: &str) -> Result<(), Refusal> {
    if room::key_of(text).is_some_and(room::is_key) {
        return Ok(());
    }
    address::split(text).map(|_| ())
}

/// The first node that makes a room has made it; the others join it.
fn created<'a>(intake: &mut Intake<'a>, fact: &'a RoomCreated) -> Result<Outcome, Refusal> {
    check_name(&fact.room_id)
        .map_err(|e| Refusal::new(Code::InvalidRoomId, "room_id", format!("room_id {e}")))?;
    if let Some(room) = intake.state.rooms.get(fold(&fact.room_id)) {
        if fact.visibility == "public" || node_of(&room.created_by) == node_of(&fact.created_by) {
            return Ok(Outcome::Duplicate);
        }
        return Err(another(intake, &room));
    }
    own_member(intake, &fact.created_by)?;
    check_shared(&fact.visibility)?;
    fact.invited.iter().try_for_each(|alias| check_address(alias))?;
    intake.add_seen(Payload::RoomCreated(fact.clone()));
    // Some may have come before it; see `joined`.
    let room = shared_room(&intake.state, &fact.room_id)?;
    for (mailbox, member) in intake.state.members_of(&fact.room_id) {
        let meant_another = member.of.is_some() && member.of != node_of(&room.created_by);
        let is_invited = || room::is_invited(&intake.state, &room, &mailbox);
        if meant_another || (room.visibility == "invite_only" && !is_invited()) {
            let (room_id, reason) = (fold(&fact.room_id), Code::NotInvited.name().to_owned());
            let left = RoomLeft { room_id, mailbox, reason, origin: None };
            intake.add_seen(Payload::RoomLeft(left));
        }
    }
    Ok(Outcome::Accepted)
}

/// What is private on a node must not go into a room of somebody else that has its name.
fn another(intake: &mut Intake<'_>, room: &Room) -> Refusal {
    let message = format!("'{}' is a room of {}", room.room_id, room.created_by);
    let refusal = Refusal::new(Code::RoomExists, "room_id", message);
    intake.others.insert(fold(&room.room_id), refusal.clone());
    refusal
}

fn joined<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    fact: &'a RoomJoined,
) -> Result<Outcome, Refusal> {
    let mailbox = own_member(intake, &fact.mailbox)?;
    check_name(&fact.room_id)
        .map_err(|e| Refusal::new(Code::InvalidRoomId, "room_id", format!("room_id {e}")))?;
    if room::is_member(&intake.state, &fact.room_id, &mailbox) {
        return Ok(Outcome::Duplicate);
    }
    // A relay that forgot a room may hear of its members before it hears of the room.
    let room = intake.state.rooms.get(fold(&fact.room_id));
    let is_another = |room: &Room| fact.of.is_some() && fact.of != node_of(&room.created_by);
    if let Some(room) = room.as_ref().filter(|room| is_another(room)) {
        return Err(another(intake, room));
    }
    if let Some(room) = &room
        && room.visibility == "invite_only"
        && !room::is_invited(&intake.state, room, &mailbox)
    {
        let message = format!("room '{}' is by invitation", room.room_id);
        return Err(Refusal::new(Code::NotInvited, "room_id", message));
    }
    let (room_id, origin) = (fold(&fact.room_id), Some(intake.origin(item)));
    let of = fact.of.as_deref().map(fold);
    intake.add_seen(Payload::RoomJoined(RoomJoined { room_id, mailbox, of, origin }));
    Ok(Outcome::Accepted)
}

fn left<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    fact: &'a RoomLeft,
) -> Result<Outcome, Refusal> {
    let mailbox = own_member(intake, &fact.mailbox)?;
    if !room::is_member(&intake.state, &fact.room_id, &mailbox) {
        return Ok(Outcome::Duplicate);
    }
    let (room_id, origin) = (fold(&fact.room_id), Some(intake.origin(item)));
    let reason = fact.reason.clone();
    intake.add_seen(Payload::RoomLeft(RoomLeft { room_id, mailbox, reason, origin }));
    Ok(Outcome::Accepted)
}

fn invitation(
    intake: &mut Intake<'_>,
    item: &Item,
    fact: &RoomInvitation,
) -> Result<Outcome, Refusal> {
    let room = shared_room(&intake.state, &fact.room_id)?;
    check_address(&fact.alias)?;
    let named = |alias: &String| fold(alias) == fold(&fact.alias);
    let is_member = room::is_member(&intake.state, &fact.room_id, &fold(&fact.alias));
    // Who is invited and has not come yet may not have heard of it.
    if room.invited.iter().any(named) == fact.invited && is_member == fact.invited {
        return Ok(Outcome::Duplicate);
    }
    let node = |alias: &str| alias.split_once('@').map(|(_, node)| fold(node));
    let members = intake.state.members_of(&fact.room_id);
    let inside = members.iter().any(|(name, _)| node(name) == Some(fold(&intake.batch.node_id)));
    if !inside {
        let text = format!("only members of '{}' invite", room.room_id);
        return Err(Refusal::new(Code::NotAMember, "room_id", text));
    }
    let origin = Some(intake.origin(item));
    intake.add_seen(Payload::RoomInvitation(RoomInvitation { origin, ..fact.clone() }));
    Ok(Outcome::Accepted)
}

fn visibility(intake: &mut Intake<'_>, fact: &RoomVisibilityChanged) -> Result<Outcome, Refusal> {
    let room = owned_room(intake, &fact.room_id)?;
    check_shared(&fact.visibility)?;
    if room.visibility == fact.visibility {
        return Ok(Outcome::Duplicate);
    }
    intake.add_seen(Payload::RoomVisibilityChanged(fact.clone()));
    Ok(Outcome::Accepted)
}

fn deleted(intake: &mut Intake<'_>, fact: &RoomDeleted) -> Result<Outcome, Refusal> {
    if intake.state.rooms.get(fold(&fact.room_id)).is_none() {
        return Ok(Outcome::Duplicate);
    }
    owned_room(intake, &fact.room_id)?;
    intake.add_seen(Payload::RoomDeleted(fact.clone()));
    Ok(Outcome::Accepted)
}

/// Receipts count when they are about mail of the node that gives them.
fn receipts(
    intake: &mut Intake<'_>,
    item: &Item,
    fact: &ReceiptsRecorded,
) -> Result<Outcome, Refusal> {
    let node_id = fold(&intake.batch.node_id);
    let state = &intake.state;
    let own = |receipt: &&c2c_log_format::payload::Receipt| {
        let by = receipt.by.split_once('@').map(|(_, node)| fold(node));
        let key = pair(&fold(&receipt.sender), receipt.message_id.as_bytes());
        let there = format!("@{node_id}");
        let open = state.arrivals.get(key);
        by.as_ref() == Some(&node_id) && open.is_none_or(|(mailbox, _)| mailbox.ends_with(&there))
    };
    // Those for mail that went to another node meanwhile tell nothing; the others count.
    let receipts: Vec<_> = fact.receipts.iter().filter(own).cloned().collect();
    if receipts.is_empty() {
        let message = "a receipt for mail of another node";
        return Err(Refusal::new(Code::ForeignSender, "items", message));
    }
    let origin = Some(intake.origin(item));
    intake.add(Payload::ReceiptsRecorded(ReceiptsRecorded { receipts, origin }));
    Ok(Outcome::Accepted)
}
