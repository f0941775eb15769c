//! Intake at a relay: what a node pushes.

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    MessageSent, Origin, Receipt, ReceiptsRecorded, RoomCreated, RoomDeleted, RoomInvitation,
    RoomJoined, RoomLeft, RoomVisibility, RoomVisibilityChanged, Target,
};

use super::intake::{Intake, received_message};
use super::registration;
use super::served::REPLAY_SOURCE;
use crate::address::{Address, folded_alias, is_mailbox_on, node_of};
use crate::batch::{Batch, Item, Outcome};
use crate::code::Code;
use crate::decide::address;
use crate::decide::membership::{invited_key, is_invited, is_key, is_member, recipients};
use crate::decide::send::check_pushed;
use crate::facts::{Facts, RelayFacts};
use crate::ids::NodeId;
use crate::rejection::{Rejection, check_alias, check_room_id};
use crate::state::{BACKFILL_SOURCE, ReplicationCursor, Room, State, compound_key};

/// Checks that the caller's key may push this log: a log belongs to the key that pushed it first,
/// and a node to the keys that are registered there.
pub(super) fn check_owner(
    state: &State,
    batch: &Batch,
    cursor: &ReplicationCursor,
    facts: &Facts<'_>,
) -> Result<(), Rejection> {
    let Some(key) = &facts.actor.key else { return Ok(()) };
    let foreign = |message: String| Err(Rejection::new(Code::ForeignSender, "node_id", message));
    let is_known = !cursor.node_id.is_empty();
    let is_of_other_key = !cursor.public_key.is_empty() && cursor.public_key != *key;
    if is_known && (is_of_other_key || fold(&cursor.node_id) != fold(&batch.node_id)) {
        return foreign(format!("log {} belongs to another key or node", batch.log));
    }
    let bindings = state.bindings_for_node(&batch.node_id);
    if !bindings.iter().any(|row| row.public_key == *key) {
        return foreign(format!("no agent on {} is registered with this key", batch.node_id));
    }
    Ok(())
}

/// Takes in one item. An error rejects the whole batch.
pub(super) fn take_in<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    relay: &RelayFacts,
) -> Result<Outcome, Rejection> {
    let room = item.payload.room_id();
    if let Some(rejection) = room.and_then(|room| intake.name_conflicts.get(&fold(room))) {
        return Ok(Outcome::Rejected(rejection.clone()));
    }
    let outcome = match &item.payload {
        Payload::MessageSent(sent) => return message(intake, item, sent, relay),
        Payload::RoomCreated(fact) => room_created(intake, fact),
        Payload::RoomJoined(fact) => room_joined(intake, item, fact),
        Payload::RoomLeft(fact) => room_left(intake, item, fact),
        Payload::RoomInvitation(fact) => room_invitation(intake, item, fact),
        Payload::RoomVisibilityChanged(fact) => room_visibility_changed(intake, fact),
        Payload::RoomDeleted(fact) => room_deleted(intake, fact),
        Payload::ReceiptsRecorded(fact) => receipts_recorded(intake, item, fact),
        _ => {
            let message = "a node does not push events of this kind";
            Err(Rejection::new(Code::InvalidArgument, "items", message))
        }
    };
    Ok(outcome.unwrap_or_else(Outcome::Rejected))
}

/// The address of an alias on the pushing node. The first use binds it to the pushing key.
fn own_address<'a>(intake: &mut Intake<'a>, alias: &'a str) -> Result<String, Rejection> {
    intake.resolve_once(alias, None, |intake| bind_address(intake, alias))
}

fn bind_address<'a>(intake: &mut Intake<'a>, alias: &'a str) -> Result<String, Rejection> {
    check_alias("from", alias)?;
    let node_id = &intake.batch.node_id;
    let events = registration::bind(&intake.state, alias, node_id, false, intake.facts);
    let events = events.map_err(|_| {
        let message = format!("'{alias}@{node_id}' belongs to another key");
        Rejection::new(Code::ForeignSender, "from", message)
    })?;
    for event in events {
        intake.record_and_apply(event);
    }
    Ok(Address::on(alias, node_id).to_string())
}

/// Binds all senders of a batch before its messages are taken in, so that a message to one of them
/// is not rejected because the recipient is bound by a later item.
pub(super) fn bind_senders<'a>(intake: &mut Intake<'a>) {
    let batch = intake.batch;
    for item in &batch.items {
        if let Payload::MessageSent(sent) = &item.payload {
            // A sender that is rejected here is rejected again with its message.
            let _ = own_address(intake, &sent.from);
        }
    }
}

/// The mailbox of a room member on the pushing node.
fn own_member<'a>(intake: &mut Intake<'a>, mailbox: &'a str) -> Result<String, Rejection> {
    let address = Address::parse(mailbox);
    if !address.is_on(&intake.batch.node_id) {
        let message = format!("'{mailbox}' is not on {}", intake.batch.node_id);
        return Err(Rejection::new(Code::ForeignSender, "mailbox", message));
    }
    own_address(intake, address.alias())?;
    Ok(address.mailbox())
}

/// Takes in a message. An error rejects the whole batch.
fn message<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    relay: &RelayFacts,
) -> Result<Outcome, Rejection> {
    let outcome = match own_address(intake, &sent.from) {
        Err(rejection) => Err(rejection),
        Ok(sender) => match intake.find_earlier(&sent.message_id, &sender) {
            Some(earlier) => {
                check_origin(earlier, &intake.origin(item))?;
                repeated_message(intake, sent, &sender, earlier)
            }
            None => match intake.find_sent_by_request(sent, &sender) {
                Some(earlier) => message_of_a_request(intake, sent, &sender, earlier),
                None => new_message(intake, item, sent, sender, relay),
            },
        },
    };
    Ok(outcome.unwrap_or_else(Outcome::Rejected))
}

/// Checks that a repeated event is the one that its log held at that sequence before.
fn check_origin(earlier: &MessageSent, origin: &Origin) -> Result<(), Rejection> {
    let known = earlier.origin.as_ref();
    let at = known.filter(|o| o.log == origin.log && o.sequence == origin.sequence);
    if at.is_none_or(|known| known.digest == origin.digest) {
        return Ok(());
    }
    let message = format!("sequence {} was a different event before", origin.sequence);
    Err(Rejection::new(Code::OriginDiverged, "items", message))
}

fn repeated_message<'a>(
    intake: &Intake<'a>,
    sent: &'a MessageSent,
    sender: &str,
    earlier: &MessageSent,
) -> Result<Outcome, Rejection> {
    if fold(&earlier.to) != fold(&sent.to) || earlier.body != sent.body {
        return Err(id_reused(sent));
    }
    let is_added = intake.added(&sent.message_id).any(|added| added == earlier);
    Ok(received_before(intake, sent, sender, is_added))
}

/// The outcome for a message that its sender sent by a JSON request before: the node was in step
/// with an older relay, or did not know that this one replicates.
fn message_of_a_request(
    intake: &Intake<'_>,
    sent: &MessageSent,
    sender: &str,
    earlier: &MessageSent,
) -> Result<Outcome, Rejection> {
    if earlier.body != sent.body || folded_alias(&earlier.to) != folded_alias(&sent.to) {
        return Err(id_reused(sent));
    }
    Ok(received_before(intake, sent, sender, false))
}

fn new_message<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    sent: &'a MessageSent,
    sender: String,
    relay: &RelayFacts,
) -> Result<Outcome, Rejection> {
    let origin = intake.origin(item);
    let target = target(intake, sent, &sender, relay)?;
    let mut received = received_message(sent, sender, sent.to.clone(), target, origin);
    // Only a relay may assign these sources.
    received.source = received
        .source
        .filter(|source| ![REPLAY_SOURCE, BACKFILL_SOURCE].contains(&source.as_str()));
    intake.record_message(sent, received);
    Ok(Outcome::Accepted)
}

fn id_reused(sent: &MessageSent) -> Rejection {
    let message = format!("message_id '{}' was used for another message", sent.message_id);
    Rejection::new(Code::MessageIdReused, "message_id", message)
}

/// The outcome for a message that this relay has: it waits for its recipient, or was delivered.
fn received_before(
    intake: &Intake<'_>,
    sent: &MessageSent,
    sender: &str,
    is_in_this_batch: bool,
) -> Outcome {
    let key = compound_key(&fold(sender), sent.message_id.as_bytes());
    let is_waiting = is_in_this_batch || intake.state.arrivals.get(key).is_some();
    if is_waiting { Outcome::Duplicate } else { Outcome::Delivered }
}

fn target<'a>(
    intake: &mut Intake<'a>,
    sent: &'a MessageSent,
    sender: &str,
    relay: &RelayFacts,
) -> Result<Target, Rejection> {
    check_pushed(sent)?;
    match &sent.target {
        Target::Outbox { alias, host } => {
            let node_id = Some(intake.batch.node_id.as_str());
            let mailbox = intake.resolve_once(alias, Some(host), |intake| {
                let state = &intake.state;
                let mailbox = address::resolve_at_relay(state, relay, node_id, alias, Some(host));
                mailbox.map(|row| row.name)
            });
            mailbox.map(Target::Mailbox)
        }
        Target::Room { room_id, .. } => {
            let state = &intake.state;
            let room = existing_room(state, room_id)?;
            if !is_member(state, room_id, &fold(sender)) {
                let message = format!("'{sender}' is not a member of '{room_id}'");
                return Err(Rejection::new(Code::NotAMember, "room_id", message));
            }
            let skipped = recipients(state, room_id, &fold(sender), intake.facts).dead;
            let room_id = fold(room_id);
            let label = Some(room.next_label + intake.added_to_room(&room_id));
            Ok(Target::Room { room_id, label, skipped })
        }
        _ => {
            let message = "this message is not for another node";
            Err(Rejection::new(Code::InvalidArgument, "items", message))
        }
    }
}

fn existing_room(state: &State, room_id: &str) -> Result<Room, Rejection> {
    state.rooms.get(fold(room_id)).ok_or_else(|| {
        let message = format!("room '{room_id}' does not exist");
        Rejection::new(Code::UnknownRoom, "room_id", message)
    })
}

/// The room, if the pushing node owns it: only the node of its creator may change a room.
fn owned_room(intake: &Intake<'_>, room_id: &str) -> Result<Room, Rejection> {
    let room = existing_room(&intake.state, room_id)?;
    if node_of(&room.created_by).unwrap_or_default() == fold(&intake.batch.node_id) {
        return Ok(room);
    }
    let message = format!("'{room_id}' belongs to {}", room.created_by);
    Err(Rejection::new(Code::Forbidden, "room_id", message))
}

fn check_visibility(visibility: &RoomVisibility) -> Result<(), Rejection> {
    if [RoomVisibility::Public, RoomVisibility::InviteOnly].contains(visibility) {
        return Ok(());
    }
    let message = "a room on a relay is public or invite_only";
    Err(Rejection::new(Code::InvalidArgument, "visibility", message))
}

/// Checks an entry of a list of invitations: an address or a key.
fn check_invited(text: &str) -> Result<(), Rejection> {
    if invited_key(text).is_some_and(is_key) {
        return Ok(());
    }
    address::split("to_alias", text).map(|_| ())
}

/// The first node that creates a room owns it; agents of other nodes join it.
fn room_created<'a>(intake: &mut Intake<'a>, fact: &'a RoomCreated) -> Result<Outcome, Rejection> {
    check_room_id("room_id", &fact.room_id)?;
    if let Some(room) = intake.state.rooms.get(fold(&fact.room_id)) {
        if fact.visibility == RoomVisibility::Public
            || node_of(&room.created_by) == node_of(&fact.created_by)
        {
            return Ok(Outcome::Duplicate);
        }
        return Err(name_conflict(intake, &room));
    }
    own_member(intake, &fact.created_by)?;
    check_visibility(&fact.visibility)?;
    fact.invited.iter().try_for_each(|alias| check_invited(alias))?;
    intake.record_and_apply(Payload::RoomCreated(fact.clone()));
    // Members may have joined before the room was known; see `room_joined`.
    let room = existing_room(&intake.state, &fact.room_id)?;
    for (mailbox, member) in intake.state.members_of_room(&fact.room_id) {
        let meant_another_room = member.of.is_some() && member.of != node_of(&room.created_by);
        let may_join = room.visibility != RoomVisibility::InviteOnly
            || is_invited(&intake.state, &room, &mailbox);
        if meant_another_room || !may_join {
            intake.record_and_apply(Payload::RoomLeft(RoomLeft {
                room_id: fold(&fact.room_id),
                mailbox,
                reason: Code::NotInvited.name().into(),
                origin: None,
            }));
        }
    }
    Ok(Outcome::Accepted)
}

/// The rejection of a private room whose name belongs to a room of another owner. Later items of
/// the batch about it are rejected too, so that private content does not enter the other room.
fn name_conflict(intake: &mut Intake<'_>, room: &Room) -> Rejection {
    let message = format!("'{}' is a room of {}", room.room_id, room.created_by);
    let rejection = Rejection::new(Code::RoomExists, "room_id", message);
    intake.name_conflicts.insert(fold(&room.room_id), rejection.clone());
    rejection
}

fn room_joined<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    fact: &'a RoomJoined,
) -> Result<Outcome, Rejection> {
    let mailbox = own_member(intake, &fact.mailbox)?;
    check_room_id("room_id", &fact.room_id)?;
    if is_member(&intake.state, &fact.room_id, &mailbox) {
        return Ok(Outcome::Duplicate);
    }
    // A relay that has lost a room may receive its members before the room itself, so that the room
    // need not exist.
    if let Some(room) = intake.state.rooms.get(fold(&fact.room_id)) {
        if fact.of.is_some() && fact.of.as_deref() != node_of(&room.created_by).as_deref() {
            return Err(name_conflict(intake, &room));
        }
        if room.visibility == RoomVisibility::InviteOnly
            && !is_invited(&intake.state, &room, &mailbox)
        {
            let message = format!("room '{}' is invite-only", room.room_id);
            return Err(Rejection::new(Code::NotInvited, "room_id", message));
        }
    }
    intake.record_and_apply(Payload::RoomJoined(RoomJoined {
        room_id: fold(&fact.room_id),
        mailbox,
        of: fact.of.as_deref().map(fold),
        origin: Some(intake.origin(item)),
    }));
    Ok(Outcome::Accepted)
}

fn room_left<'a>(
    intake: &mut Intake<'a>,
    item: &'a Item,
    fact: &'a RoomLeft,
) -> Result<Outcome, Rejection> {
    let mailbox = own_member(intake, &fact.mailbox)?;
    if !is_member(&intake.state, &fact.room_id, &mailbox) {
        return Ok(Outcome::Duplicate);
    }
    intake.record_and_apply(Payload::RoomLeft(RoomLeft {
        room_id: fold(&fact.room_id),
        mailbox,
        reason: fact.reason.clone(),
        origin: Some(intake.origin(item)),
    }));
    Ok(Outcome::Accepted)
}

fn room_invitation(
    intake: &mut Intake<'_>,
    item: &Item,
    fact: &RoomInvitation,
) -> Result<Outcome, Rejection> {
    let room = existing_room(&intake.state, &fact.room_id)?;
    check_invited(&fact.alias)?;
    let is_listed = room.invited.iter().any(|alias| fold(alias) == fold(&fact.alias));
    let is_member = is_member(&intake.state, &fact.room_id, &fold(&fact.alias));
    // An agent that is invited and has not joined may not have received the invitation: record it
    // again.
    if is_listed == fact.invited && is_member == fact.invited {
        return Ok(Outcome::Duplicate);
    }
    let node_id = Some(NodeId::from(fold(&intake.batch.node_id)));
    let members = intake.state.members_of_room(&fact.room_id);
    if !members.iter().any(|(name, _)| node_of(name) == node_id) {
        let message = format!("only members of '{}' can invite others", room.room_id);
        return Err(Rejection::new(Code::NotAMember, "room_id", message));
    }
    let origin = Some(intake.origin(item));
    intake.record_and_apply(Payload::RoomInvitation(RoomInvitation { origin, ..fact.clone() }));
    Ok(Outcome::Accepted)
}

fn room_visibility_changed(
    intake: &mut Intake<'_>,
    fact: &RoomVisibilityChanged,
) -> Result<Outcome, Rejection> {
    let room = owned_room(intake, &fact.room_id)?;
    check_visibility(&fact.visibility)?;
    if room.visibility == fact.visibility {
        return Ok(Outcome::Duplicate);
    }
    intake.record_and_apply(Payload::RoomVisibilityChanged(fact.clone()));
    Ok(Outcome::Accepted)
}

fn room_deleted(intake: &mut Intake<'_>, fact: &RoomDeleted) -> Result<Outcome, Rejection> {
    if intake.state.rooms.get(fold(&fact.room_id)).is_none() {
        return Ok(Outcome::Duplicate);
    }
    owned_room(intake, &fact.room_id)?;
    intake.record_and_apply(Payload::RoomDeleted(fact.clone()));
    Ok(Outcome::Accepted)
}

/// Takes in receipts for mail of the node that issues them.
fn receipts_recorded(
    intake: &mut Intake<'_>,
    item: &Item,
    fact: &ReceiptsRecorded,
) -> Result<Outcome, Rejection> {
    let node_id = NodeId::from(fold(&intake.batch.node_id));
    let is_own = |receipt: &&Receipt| {
        let key = compound_key(&fold(&receipt.sender), receipt.message_id.as_bytes());
        let arrival = intake.state.arrivals.get(key);
        node_of(&receipt.by).as_ref() == Some(&node_id)
            && arrival.is_none_or(|(mailbox, _)| is_mailbox_on(&mailbox, &node_id))
    };
    // Receipts for mail that has moved to another node are dropped; the others count.
    let receipts: Vec<Receipt> = fact.receipts.iter().filter(is_own).cloned().collect();
    if receipts.is_empty() {
        let message = "the receipts are for mail of another node";
        return Err(Rejection::new(Code::ForeignSender, "items", message));
    }
    let origin = Some(intake.origin(item));
    intake.record(Payload::ReceiptsRecorded(ReceiptsRecorded { receipts, origin }));
    Ok(Outcome::Accepted)
}
