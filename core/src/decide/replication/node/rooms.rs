//! Incoming room events and room messages.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    MessageSent, RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLabelled, RoomLeft,
    RoomVisibility, RoomVisibilityChanged, Target,
};
use c2c_log_format::{Payload, Sequence};

use super::addresses::sender_address;
use crate::address::{Address, folded_alias, is_remote, strip_node};
use crate::batch::Item;
use crate::decide::membership::is_member;
use crate::decide::replication::intake::{Intake, received_message};
use crate::older_relay::{is_from_older_relay, is_part};
use crate::state::{Room, State, compound_key};

/// Takes in a room message; true if it is new. If the message is the echo of one that this node
/// sent, only its room sequence is new.
pub(super) fn room_message<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    room_id: &str,
    label: Option<u64>,
) -> bool {
    let sender = sender_address(sent, &intake.batch.node_id);
    let room_id = fold(room_id);
    let earlier = find_earlier(intake, sent, &sender);
    if let (Some(earlier), Some(label)) = (&earlier, label) {
        let Earlier::InLog(sequence) = *earlier else { return false };
        let row = intake.state.room_messages.get(compound_key(&room_id, &sequence.to_be_bytes()));
        let is_shared = intake.state.rooms.get(&room_id).is_some_and(|room| room.shared);
        if row.is_none_or(|row| is_shared && row.label == Some(label)) {
            return false;
        }
        let labels = vec![(sequence, label)];
        intake.record(Payload::RoomLabelled(RoomLabelled { room_id, labels }));
        return true;
    }
    let is_open =
        intake.state.rooms.get(&room_id).is_some_and(|row| intake.state.is_room_shared(&row));
    if earlier.is_some() || !is_open {
        return false;
    }
    let origin = sent.origin.clone().unwrap_or_else(|| intake.origin(item));
    let label = label.or_else(|| local_label(intake, &room_id));
    let target = Target::Room { room_id, label, skipped: Vec::new() };
    let mut received = received_message(sent, sender, sent.to.clone(), target, origin);
    // A member on this node that sent the message through the relay is a local member here.
    if let Some(name) = member(intake, &received.from).filter(|name| !is_remote(name)) {
        received.from = strip_node(&received.from, &intake.facts.actor.node_id);
        received.from_mailbox = name;
    }
    intake.record_message(sent, received);
    true
}

/// The room sequence of a message from an older relay, which assigns none: the next one of this
/// node, until another relay has assigned one in this room.
fn local_label(intake: &Intake<'_>, room_id: &str) -> Option<u64> {
    let room = intake.state.rooms.get(room_id).filter(|room| !room.shared)?;
    let is_from_older = is_part(&intake.batch.log);
    is_from_older.then(|| room.next_label + intake.added_to_room(room_id))
}

/// A room message that was received or sent before.
enum Earlier {
    InLog(Sequence),
    InThisBatch,
}

fn find_earlier(intake: &Intake<'_>, sent: &MessageSent, sender: &str) -> Option<Earlier> {
    let address = Address::parse(sender);
    if !address.is_remote() {
        return None;
    }
    let is_local = address.is_on(&intake.facts.actor.node_id);
    let is_from_older = is_part(&intake.batch.log);
    let is_same = |prior: &MessageSent| {
        let from = if is_local && !is_remote(&prior.from) { address.alias() } else { sender };
        let is_in_room = matches!(prior.target, Target::Room { .. });
        // An older relay does not name the node of a sender.
        let is_sender = fold(&prior.from) == fold(from)
            || (is_from_older || is_from_older_relay(prior.origin.as_ref()))
                && !is_local
                && folded_alias(&prior.from) == folded_alias(sender);
        prior.message_id == sent.message_id && is_in_room && is_sender
    };
    if let Some((sequence, _)) = intake.facts.prior.iter().find(|(_, prior)| is_same(prior)) {
        return Some(Earlier::InLog(*sequence));
    }
    intake.find_earlier(&sent.message_id, sender).map(|_| Earlier::InThisBatch)
}

/// Takes in an event about a room; true if the event changes the state.
pub(super) fn room_event(intake: &mut Intake<'_>, item: &Item, payload: &Payload) -> bool {
    let event = match payload {
        Payload::RoomCreated(fact) => room_created(intake, fact),
        Payload::RoomJoined(fact) => room_joined(intake, item, fact),
        Payload::RoomLeft(fact) => room_left(intake, item, fact),
        Payload::RoomInvitation(fact) => room_invitation(intake, item, fact),
        Payload::RoomVisibilityChanged(fact) => room_visibility_changed(intake, item, fact),
        Payload::RoomDeleted(fact) => room_deleted(intake, item, fact),
        _ => None,
    };
    let is_new = event.is_some();
    if let Some(event) = event {
        intake.record_and_apply(event);
    }
    is_new
}

/// The room, if it is shared with other nodes. Events of other nodes do not affect a local room of
/// the same name.
fn open_room(state: &State, room_id: &str) -> Option<Room> {
    state.rooms.get(fold(room_id)).filter(|row| state.is_room_shared(row))
}

/// The room, if another node owns it: only its owner may change or delete a room.
fn foreign_room(state: &State, room_id: &str) -> Option<Room> {
    open_room(state, room_id).filter(|row| is_remote(&row.created_by))
}

/// Name of a room member: the mailbox of an agent on this node, or the address of a remote agent.
fn member(intake: &Intake<'_>, mailbox: &str) -> Option<String> {
    let address = Address::parse(mailbox);
    if address.is_on(&intake.facts.actor.node_id) {
        return Some(intake.state.mailbox_for_alias(address.alias())?.name);
    }
    address.is_remote().then(|| fold(mailbox))
}

/// Takes in a room with the owner and the visibility that the relay records. If two nodes create
/// rooms with the same name, the relay keeps the first. Only this node changes a room that it
/// created.
fn room_created(intake: &Intake<'_>, fact: &RoomCreated) -> Option<Payload> {
    let mut fact = fact.clone();
    for name in fact.invited.iter_mut().chain([&mut fact.created_by]) {
        *name = strip_node(name, &intake.facts.actor.node_id);
    }
    let Some(row) = intake.state.rooms.get(fold(&fact.room_id)) else {
        return Some(Payload::RoomCreated(fact));
    };
    let was_local = !is_remote(&row.created_by);
    let is_local = !is_remote(&fact.created_by);
    let takes_precedence = match (was_local, is_local) {
        // A private room of this node is never replaced by one of another node.
        (true, false) => row.visibility == RoomVisibility::Public,
        // A private room that was lost with this root and recreated as a public one becomes private
        // again.
        (true, true) => {
            let is_recreated = row.visibility == RoomVisibility::Public && row.invited.is_empty();
            is_recreated && fact.visibility == RoomVisibility::InviteOnly
        }
        (false, _) => true,
    };
    let known = (&row.created_by, &row.visibility, &row.invited);
    let differs = known != (&fact.created_by, &fact.visibility, &fact.invited);
    let is_new = intake.state.is_room_shared(&row) && takes_precedence && differs;
    is_new.then_some(Payload::RoomCreated(fact))
}

fn room_joined(intake: &Intake<'_>, item: &Item, fact: &RoomJoined) -> Option<Payload> {
    let mailbox = member(intake, &fact.mailbox)?;
    open_room(&intake.state, &fact.room_id)?;
    let room_id = fold(&fact.room_id);
    let is_new = !is_member(&intake.state, &room_id, &mailbox);
    let origin = Some(intake.origin(item));
    is_new.then_some(Payload::RoomJoined(RoomJoined { room_id, mailbox, of: None, origin }))
}

fn room_left(intake: &Intake<'_>, item: &Item, fact: &RoomLeft) -> Option<Payload> {
    let mailbox = member(intake, &fact.mailbox)?;
    open_room(&intake.state, &fact.room_id)?;
    let origin = Some(intake.origin(item));
    let is_new = is_member(&intake.state, &fact.room_id, &mailbox);
    is_new.then(|| Payload::RoomLeft(RoomLeft { mailbox, origin, ..fact.clone() }))
}

fn room_invitation(intake: &Intake<'_>, item: &Item, fact: &RoomInvitation) -> Option<Payload> {
    let room = open_room(&intake.state, &fact.room_id)?;
    let alias = strip_node(&fact.alias, &intake.facts.actor.node_id);
    let is_listed = room.invited.iter().any(|name| fold(name) == fold(&alias));
    let origin = Some(intake.origin(item));
    let invitation = RoomInvitation { alias, origin, ..fact.clone() };
    (is_listed != fact.invited).then_some(Payload::RoomInvitation(invitation))
}

fn room_visibility_changed(
    intake: &Intake<'_>,
    item: &Item,
    fact: &RoomVisibilityChanged,
) -> Option<Payload> {
    let room = foreign_room(&intake.state, &fact.room_id)?;
    let origin = Some(intake.origin(item));
    let changed = RoomVisibilityChanged { origin, ..fact.clone() };
    (room.visibility != fact.visibility).then_some(Payload::RoomVisibilityChanged(changed))
}

fn room_deleted(intake: &Intake<'_>, item: &Item, fact: &RoomDeleted) -> Option<Payload> {
    foreign_room(&intake.state, &fact.room_id)?;
    let origin = Some(intake.origin(item));
    Some(Payload::RoomDeleted(RoomDeleted { origin, ..fact.clone() }))
}
