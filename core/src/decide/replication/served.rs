//! Served events: what a relay has for a node.
//!
//! Functions of an event and the state. Called again they return the same items, except those that
//! the node has confirmed since.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    CursorDirection, KeyBound, KeyUnbound, MessageSent, Origin, PeerSeen, ReceiptsRecorded,
    RoomCreated, RoomJoined, Target, full_address,
};
use c2c_log_format::{Payload, Sequence};

use crate::address::is_mailbox_on;
use crate::decide::membership::is_member;
use crate::limits::{ROOM_BACKFILL, ROOM_BACKFILL_BYTES};
use crate::state::{Room, RoomMessageRow, State, compound_key, sequence_in_key};

/// Source of a message that was a dead letter and is sent again.
pub const REPLAY_SOURCE: &str = "replay";

/// The node that reads the relay's log.
struct Reader<'a> {
    state: &'a State,
    node_id: &'a str,
    /// Id of the node's own log.
    log: &'a str,
    /// `@` and the node id, as the mailboxes of the node end.
    folded_node_id: String,
    /// Whether the event is from before the node started from the beginning: the node then gets
    /// only what it has never confirmed.
    is_restart: bool,
}

/// The items for a node because of one event. `log` is the id of the node's own log.
pub fn events_for_node(
    state: &State,
    node_id: &str,
    log: &str,
    sequence: Sequence,
    payload: &Payload,
) -> Vec<Payload> {
    let is_restart = sequence <= state.cursor(&CursorDirection::Out, log).floor;
    let reader = Reader { state, node_id, log, folded_node_id: fold(node_id), is_restart };
    match payload {
        Payload::MessageSent(sent) if reader.wants_message(sequence, sent) => {
            vec![payload.clone()]
        }
        Payload::ReceiptsRecorded(fact) => reader.receipts(fact).into_iter().collect(),
        Payload::KeyBound(KeyBound { alias, node_id: at, .. })
        | Payload::KeyUnbound(KeyUnbound { alias, node_id: at, .. }) => {
            reader.peer(alias, at).into_iter().collect()
        }
        Payload::SessionRegistered(fact) => {
            reader.peer(&fact.alias, &fact.node_id).into_iter().collect()
        }
        Payload::SessionEnded(fact) => {
            let row = state.mailboxes.get(&fact.mailbox);
            let row = row.and_then(|row| Some((row.alias, row.node_id?)));
            row.and_then(|(alias, at)| reader.peer(&alias, &at)).into_iter().collect()
        }
        payload => reader.room_event(payload),
    }
}

impl Reader<'_> {
    fn is_own(&self, mailbox: &str) -> bool {
        is_mailbox_on(mailbox, &self.folded_node_id)
    }

    /// Whether an event is one that the node has pushed itself.
    fn is_echo(&self, origin: &Option<Origin>) -> bool {
        origin.as_ref().is_some_and(|at| at.log == self.log)
    }

    fn wants_message(&self, sequence: Sequence, sent: &MessageSent) -> bool {
        match &sent.target {
            Target::Mailbox(mailbox) => {
                self.is_own(mailbox) && {
                    let key = compound_key(mailbox, &sequence.to_be_bytes());
                    let is_unread = self.state.inbox.get(key).is_some();
                    let row = self.state.mailboxes.get(mailbox);
                    row.is_some_and(|row| row.replicated) && (is_unread || !self.is_restart)
                }
            }
            Target::Room { room_id, .. } => {
                let may_be_echoed = !self.is_restart || self.is_echo(&sent.origin);
                let is_echoed = may_be_echoed && self.is_own(&sent.from_mailbox);
                self.wants_room_message(room_id, sequence, is_echoed)
            }
            _ => false,
        }
    }

    /// Whether a room message is for a member on the node that had joined before it was sent.
    fn wants_room_message(&self, room_id: &str, sequence: Sequence, is_echoed: bool) -> bool {
        // The node of the sender receives the room sequence with the echo.
        if is_echoed && self.state.rooms.get(fold(room_id)).is_some() {
            return true;
        }
        let wants = |name: &str, since: Sequence, cursor: Sequence| {
            self.is_own(name) && since < sequence && (!self.is_restart || cursor < sequence)
        };
        let members = self.state.members_of_room(room_id);
        let deleted = self.state.deleted_rooms_named(room_id);
        let former =
            deleted.iter().filter(|(end, row)| row.open_since <= sequence && sequence < *end);
        members.iter().any(|(name, row)| wants(name, row.since, row.cursor))
            || former
                .flat_map(|(_, row)| &row.members)
                .any(|row| wants(&row.mailbox, row.since, row.cursor))
    }

    /// The receipts for messages of the node.
    fn receipts(&self, fact: &ReceiptsRecorded) -> Option<Payload> {
        let own = fact.receipts.iter().filter(|receipt| self.is_own(&fold(&receipt.sender)));
        let receipts: Vec<_> = own.cloned().collect();
        let is_any = !receipts.is_empty();
        let fact = ReceiptsRecorded { receipts, origin: fact.origin.clone() };
        is_any.then_some(Payload::ReceiptsRecorded(fact))
    }

    /// The current status of an alias on another node.
    fn peer(&self, alias: &str, at: &str) -> Option<Payload> {
        if fold(at) == fold(self.node_id) {
            return None;
        }
        let name = full_address(alias, at);
        let mailbox = self.state.mailboxes.get(&name);
        let session = mailbox.as_ref().and_then(|row| self.state.holder(row));
        Some(Payload::PeerSeen(PeerSeen {
            alias: alias.to_owned(),
            node_id: at.to_owned(),
            gone: session.is_none() || self.state.aliases.get(&name).is_none(),
            client_type: session.and_then(|row| row.client_type),
            bare: self.state.aliases.get(fold(alias)) == Some(name),
        }))
    }

    /// The items because of an event about a room.
    fn room_event(&self, payload: &Payload) -> Vec<Payload> {
        let unchanged = || vec![payload.clone()];
        match payload {
            Payload::RoomJoined(fact) if self.knows_room(&fact.room_id) => {
                let Some(room) = self.state.rooms.get(fold(&fact.room_id)) else {
                    return Vec::new();
                };
                if !self.is_own(&fact.mailbox) {
                    return unchanged();
                }
                // A node whose first member joins gets the current room. It knows its own events,
                // and after a restart it gets only the memberships that still exist.
                let is_current = is_member(self.state, &fact.room_id, &fact.mailbox);
                let is_new = !self.is_echo(&fact.origin) && (!self.is_restart || is_current);
                let mut items = self.room_snapshot(&room);
                items.extend(is_new.then(|| payload.clone()));
                items
            }
            Payload::RoomLeft(fact) if self.is_own(&fact.mailbox) => {
                let is_current = !is_member(self.state, &fact.room_id, &fact.mailbox);
                let is_new = !self.is_echo(&fact.origin) && (!self.is_restart || is_current);
                Vec::from_iter(is_new.then(|| payload.clone()))
            }
            Payload::RoomLeft(fact) if self.knows_room(&fact.room_id) => unchanged(),
            Payload::RoomInvitation(fact) if self.knows_room(&fact.room_id) => {
                let Some(room) = self.state.rooms.get(fold(&fact.room_id)) else {
                    return Vec::new();
                };
                let mut items = self.room_snapshot(&room);
                items.extend((!self.is_echo(&fact.origin)).then(|| payload.clone()));
                items
            }
            Payload::RoomVisibilityChanged(fact) if self.knows_room(&fact.room_id) => unchanged(),
            // A deleted room has no members, so every node gets the event; a node that had the room
            // recognises it. After a restart a node must not take the event for the deletion of a
            // later room of the same name.
            Payload::RoomDeleted(fact)
                if self.is_restart && self.state.rooms.get(fold(&fact.room_id)).is_some() =>
            {
                Vec::new()
            }
            Payload::RoomDeleted(_) => unchanged(),
            _ => Vec::new(),
        }
    }

    /// Whether an agent on the node is a member of a room, or is invited to it.
    fn knows_room(&self, room_id: &str) -> bool {
        let room = self.state.rooms.get(fold(room_id));
        let invited = room.map(|row| row.invited).unwrap_or_default();
        self.state.members_of_room(room_id).iter().any(|(name, _)| self.is_own(name))
            || invited.iter().any(|alias| self.is_own(&fold(alias)))
    }

    /// A room and its members on other nodes. The node knows its own members from its own events.
    fn room_snapshot(&self, room: &Room) -> Vec<Payload> {
        let mut items = vec![Payload::RoomCreated(RoomCreated {
            room_id: room.room_id.to_string(),
            created_by: room.created_by.clone(),
            visibility: room.visibility.clone(),
            invited: room.invited.clone(),
        })];
        let members = self.state.members_of_room(&room.room_id).into_iter();
        items.extend(members.filter(|(mailbox, _)| !self.is_own(mailbox)).map(|(mailbox, _)| {
            let room_id = room.room_id.clone();
            Payload::RoomJoined(RoomJoined {
                room_id: room_id.into(),
                mailbox,
                of: None,
                origin: None,
            })
        }));
        items
    }
}

/// Earlier messages that a node has to fetch because of one event, and their mailbox: dead letters
/// that have returned.
pub fn returned_mail(
    state: &State,
    node_id: &str,
    payload: &Payload,
) -> Option<(String, Vec<Sequence>)> {
    let Payload::DeadLettersReturned(fact) = payload else { return None };
    let is_own = is_mailbox_on(&fact.mailbox, &fold(node_id));
    let is_fetched = state.mailboxes.get(&fact.mailbox).is_some_and(|row| row.replicated);
    let is_unread =
        |at: &Sequence| state.inbox.get(compound_key(&fact.mailbox, &at.to_be_bytes())).is_some();
    let unread: Vec<_> = fact.messages.iter().copied().filter(is_unread).collect();
    (is_own && is_fetched && !unread.is_empty()).then(|| (fact.mailbox.clone(), unread))
}

/// The last messages of a room from before the node had a member in it, in order; empty unless the
/// event is the one by which the first member of the node joined.
pub fn room_backfill(
    state: &State,
    node_id: &str,
    sequence: Sequence,
    payload: &Payload,
) -> Vec<Sequence> {
    let Payload::RoomJoined(fact) = payload else { return Vec::new() };
    let node_id = fold(node_id);
    let members = state.members_of_room(&fact.room_id);
    let of_node = members.iter().filter(|(name, _)| is_mailbox_on(name, &node_id));
    if of_node.map(|(_, member)| member.since).min() != Some(sequence) {
        return Vec::new();
    }
    let rows = state.room_messages.scan(compound_key(&fold(&fact.room_id), &[])).into_iter();
    let messages = rows.map(|(key, row)| (sequence_in_key(&key), row));
    let before: Vec<(Sequence, RoomMessageRow)> =
        messages.filter(|(at, _)| *at < sequence).collect();
    let mut bytes = 0;
    let fits = |(_, row): &&(Sequence, RoomMessageRow)| {
        bytes += row.bytes as usize;
        bytes <= ROOM_BACKFILL_BYTES
    };
    let mut last: Vec<Sequence> =
        before.iter().rev().take(ROOM_BACKFILL).take_while(fits).map(|(at, _)| *at).collect();
    last.reverse();
    last
}
