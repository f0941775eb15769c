//! Outgoing events: what a node pushes to its relay.
//!
//! Functions of an event and the state. Called again they return the same items, except those that
//! the relay has confirmed since.

use std::collections::HashSet;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    CursorDirection, RoomCreated, RoomInvitation, RoomJoined, RoomLeft, RoomVisibility,
    RoomVisibilityChanged, Target, full_address,
};
use c2c_log_format::{Payload, Sequence};

use crate::address::{Address, is_remote, node_of};
use crate::decide::membership::invited_key;
use crate::state::{OutboxMessage, Room, State, is_history};

/// The events of a node's log that leave for one relay.
pub struct OutgoingEvents<'a> {
    state: &'a State,
    node_id: &'a str,
    /// Log id of the relay.
    relay: &'a str,
    /// How far the relay has read this log.
    pushed: Sequence,
    /// Room messages up to this sequence were sent to an older relay.
    sent_to_older_relay: Sequence,
    /// Lanes of the messages that the relay has seen and not accepted.
    parked: HashSet<Lane>,
}

/// Sender and address of a message. The order of messages is kept within a lane.
type Lane = (String, String);

fn lane(row: &OutboxMessage) -> Lane {
    (row.from_mailbox.clone(), full_address(&row.alias, &row.host))
}

impl<'a> OutgoingEvents<'a> {
    /// The outgoing events in a given state.
    pub fn new(state: &'a State, node_id: &'a str, relay: &'a str) -> Self {
        let pushed = state.cursor(&CursorDirection::Out, relay).sequence;
        let sent_to_older_relay = state.sent_to_older_relay();
        let parked = HashSet::new();
        let mut leaving = Self { state, node_id, relay, pushed, sent_to_older_relay, parked };
        leaving.parked = leaving.not_accepted().map(|(_, row)| lane(&row)).collect();
        leaving
    }

    fn not_accepted(&self) -> impl Iterator<Item = (Sequence, OutboxMessage)> {
        let rows = self.state.outbox_in_order().into_iter();
        rows.filter(|(at, row)| *at <= self.pushed && row.relay.as_deref() != Some(self.relay))
    }

    /// Messages that the relay has seen and not accepted, in order. The next batch starts with
    /// them.
    pub fn retries(&self) -> Vec<Sequence> {
        self.not_accepted().map(|(sequence, _)| sequence).collect()
    }

    /// The items that leave because of one event.
    pub fn items(&self, sequence: Sequence, payload: &Payload) -> Vec<Payload> {
        match payload {
            Payload::MessageSent(sent) if sent.origin.is_none() => {
                let leaves = match &sent.target {
                    Target::Outbox { .. } => self.is_due(sequence),
                    // Messages from a time when the room was local to this machine stay here, also
                    // those of an older version. An older relay has those that it was sent.
                    Target::Room { room_id, .. } => {
                        !is_history(sent)
                            && sequence > self.sent_to_older_relay
                            && self.state.was_room_shared_at(room_id, sequence)
                    }
                    _ => false,
                };
                Vec::from_iter(leaves.then(|| payload.clone()))
            }
            Payload::ReceiptsRecorded(fact) if fact.origin.is_none() => {
                // The receipts carry the node id under which the relay knows this node, which may
                // differ from the one that the reader had.
                let mut fact = fact.clone();
                for receipt in &mut fact.receipts {
                    let alias = Address::parse(&receipt.by).alias();
                    receipt.by = Address::on(alias, self.node_id).to_string();
                }
                vec![Payload::ReceiptsRecorded(fact)]
            }
            payload => room_event(self.state, self.node_id, sequence, payload),
        }
    }

    /// Whether a message leaves with its own event. One that follows a parked message of its lane
    /// is pushed after that one instead.
    fn is_due(&self, sequence: Sequence) -> bool {
        let row = self.state.outbox.get(sequence.to_be_bytes());
        row.is_some_and(|row| sequence <= self.pushed || !self.parked.contains(&lane(&row)))
    }
}

/// The items that leave because of an event about a room. Events that arrived from the relay do not
/// return to it.
fn room_event(state: &State, node_id: &str, sequence: Sequence, payload: &Payload) -> Vec<Payload> {
    // An earlier room of the same name may not have been open to other nodes.
    let was_room_shared_at = |room_id: &str| state.was_room_shared_at(room_id, sequence);
    match payload {
        // A room that turned out to belong to another node is for that node to create.
        Payload::RoomCreated(fact)
            if was_room_shared_at(&fact.room_id)
                && has_same_owner(state, &fact.room_id, &fact.created_by) =>
        {
            vec![room_created(state, node_id, sequence, fact)]
        }
        Payload::RoomJoined(fact) if fact.origin.is_none() && was_room_shared_at(&fact.room_id) => {
            room_joined(state, node_id, &fact.room_id, &fact.mailbox).into_iter().collect()
        }
        Payload::RoomLeft(fact) if fact.origin.is_none() && was_room_shared_at(&fact.room_id) => {
            let member = member_address(state, node_id, &fact.mailbox);
            let left = |mailbox| Payload::RoomLeft(RoomLeft { mailbox, ..fact.clone() });
            member.map(left).into_iter().collect()
        }
        // The first invitation of an agent on another node shares the room.
        Payload::RoomInvitation(fact) if fact.origin.is_none() && is_open(state, &fact.room_id) => {
            let alias = at_node(&fact.alias, node_id);
            let mut items = snapshot(state, node_id, &fact.room_id);
            items.push(Payload::RoomInvitation(RoomInvitation { alias, ..fact.clone() }));
            items
        }
        // Other nodes that know the room must also learn that it is no longer public.
        Payload::RoomVisibilityChanged(fact) if fact.origin.is_none() => {
            let mut items = Vec::new();
            if is_open(state, &fact.room_id) {
                items.extend(snapshot(state, node_id, &fact.room_id));
            }
            items.push(Payload::RoomVisibilityChanged(RoomVisibilityChanged {
                room_id: fact.room_id.clone(),
                visibility: shared_visibility(&fact.visibility),
                origin: None,
            }));
            items
        }
        Payload::RoomDeleted(fact) if fact.shared && fact.origin.is_none() => vec![payload.clone()],
        _ => Vec::new(),
    }
}

/// A room as it is now: with its first visibility and invitations, agents might be admitted that
/// are no longer invited, or the reverse. A room that has been replaced since is sent as it was.
fn room_created(state: &State, node_id: &str, sequence: Sequence, fact: &RoomCreated) -> Payload {
    let room = state.rooms.get(fold(&fact.room_id));
    if let Some(room) = room.filter(|row| row.open_since <= sequence) {
        return current_room(state, node_id, &room);
    }
    let at = |alias: &String| at_node(alias, node_id);
    Payload::RoomCreated(RoomCreated {
        created_by: at(&fact.created_by),
        invited: fact.invited.iter().map(at).collect(),
        ..fact.clone()
    })
}

/// The visibility of a room at a relay, where a local room is invite-only.
fn shared_visibility(visibility: &RoomVisibility) -> RoomVisibility {
    match visibility {
        RoomVisibility::Public => RoomVisibility::Public,
        _ => RoomVisibility::InviteOnly,
    }
}

/// An alias of this node as other nodes write it. Addresses and keys are unchanged.
fn at_node(alias: &str, node_id: &str) -> String {
    let is_complete = is_remote(alias) || invited_key(alias).is_some();
    if is_complete { alias.to_owned() } else { Address::on(alias, node_id).to_string() }
}

/// Whether a room is still owned by the same side, this node or another one, as when it was
/// created.
fn has_same_owner(state: &State, room_id: &str, created_by: &str) -> bool {
    let row = state.rooms.get(fold(room_id));
    row.is_none_or(|row| is_remote(&row.created_by) == is_remote(created_by))
}

fn is_open(state: &State, room_id: &str) -> bool {
    state.rooms.get(fold(room_id)).is_some_and(|room| state.is_room_shared(&room))
}

/// The address of a member of this node; `None` for a member of another node.
fn member_address(state: &State, node_id: &str, mailbox: &str) -> Option<String> {
    Some(full_address(&state.mailboxes.get(mailbox)?.alias, node_id))
}

fn room_joined(state: &State, node_id: &str, room_id: &str, mailbox: &str) -> Option<Payload> {
    let mailbox = member_address(state, node_id, mailbox)?;
    let room =
        state.rooms.get(fold(room_id)).filter(|room| room.visibility != RoomVisibility::Public);
    let of = room.and_then(|room| node_of(&at_node(&room.created_by, node_id)));
    let (room_id, of) = (room_id.to_owned(), of.map(String::from));
    Some(Payload::RoomJoined(RoomJoined { room_id, mailbox, of, origin: None }))
}

/// A room as other nodes see it. The members of a private room are listed as invited, so that a
/// relay that has lost the room admits them again.
fn current_room(state: &State, node_id: &str, room: &Room) -> Payload {
    let mut invited: Vec<String> =
        room.invited.iter().map(|alias| at_node(alias, node_id)).collect();
    if room.visibility != RoomVisibility::Public {
        for (name, _) in state.members_of_room(&room.room_id) {
            let address = member_address(state, node_id, &name).unwrap_or(name);
            if !invited.iter().any(|known| fold(known) == fold(&address)) {
                invited.push(address);
            }
        }
    }
    Payload::RoomCreated(RoomCreated {
        room_id: room.room_id.to_string(),
        created_by: at_node(&room.created_by, node_id),
        visibility: shared_visibility(&room.visibility),
        invited,
    })
}

/// A room and its members of this node, for nodes that have not received their events.
fn snapshot(state: &State, node_id: &str, room_id: &str) -> Vec<Payload> {
    let Some(room) = state.rooms.get(fold(room_id)) else { return Vec::new() };
    let mut items = vec![current_room(state, node_id, &room)];
    let members = state.members_of_room(&room.room_id).into_iter();
    items.extend(members.filter_map(|(name, _)| room_joined(state, node_id, &room.room_id, &name)));
    items
}
