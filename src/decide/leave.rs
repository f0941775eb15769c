//! Which events leave a log, and for whom?
//!
//! Functions of an event and the state: asked again they give the same items, but for those that
//! have been confirmed since.

use std::collections::HashSet;

use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    KeyBound, KeyUnbound, Origin, PeerSeen, ReceiptsRecorded, RoomCreated, RoomInvitation,
    RoomJoined, RoomLeft, RoomVisibilityChanged, Target, address,
};
use c2c_log_format::{Payload, Sequence};

use super::room;
use crate::limits::{ROOM_BACKFILL, ROOM_BACKFILL_BYTES};
use crate::state::{Queued, Room, RoomMessage, State, pair, sequence_of};

/// What a node has for one relay.
pub struct Leaving<'a> {
    state: &'a State,
    node_id: &'a str,
    /// Log id of the relay.
    relay: &'a str,
    /// The relay has seen the log up to here.
    pushed: Sequence,
    /// Sender and address of messages that it has seen and not taken.
    parked: HashSet<(String, String)>,
}

/// Order is kept between a sender and an address.
fn lane(row: &Queued) -> (String, String) {
    (row.from_mailbox.clone(), address(&row.alias, &row.host))
}

impl<'a> Leaving<'a> {
    /// As of a state.
    pub fn new(state: &'a State, node_id: &'a str, relay: &'a str) -> Self {
        let pushed = state.cursor("out", relay).sequence;
        let mut leaving = Self { state, node_id, relay, pushed, parked: HashSet::new() };
        leaving.parked = leaving.waiting().map(|(_, row)| lane(&row)).collect();
        leaving
    }

    fn waiting(&self) -> impl Iterator<Item = (Sequence, Queued)> {
        let rows = self.state.open_outbox().into_iter();
        rows.filter(|(at, row)| *at <= self.pushed && row.relay.as_deref() != Some(self.relay))
    }

    /// Messages that the relay has seen and not taken, in order: they are pushed again, before
    /// anything new of the next batch.
    pub fn retries(&self) -> Vec<Sequence> {
        self.waiting().map(|(sequence, _)| sequence).collect()
    }

    /// What leaves because of one event.
    pub fn items(&self, sequence: Sequence, payload: &Payload) -> Vec<Payload> {
        match payload {
            Payload::MessageSent(sent) if sent.origin.is_none() => {
                let leaves = match &sent.target {
                    Target::Outbox { .. } => self.is_due(sequence),
                    // What was said while a room was this machine's alone stays here.
                    Target::Room { room_id, .. } => self.state.was_open(room_id, sequence),
                    _ => false,
                };
                Vec::from_iter(leaves.then(|| payload.clone()))
            }
            Payload::ReceiptsRecorded(fact) if fact.origin.is_none() => {
                // Whoever polled knows the node by another name, perhaps.
                let mut fact = fact.clone();
                for receipt in &mut fact.receipts {
                    let alias = receipt.by.split('@').next().unwrap_or_default();
                    receipt.by = format!("{alias}@{}", self.node_id);
                }
                vec![Payload::ReceiptsRecorded(fact)]
            }
            payload => about_room(self.state, self.node_id, sequence, payload),
        }
    }

    /// Open, and not behind one that waits: then it is pushed with that one.
    fn is_due(&self, sequence: Sequence) -> bool {
        let row = self.state.outbox.get(sequence.to_be_bytes());
        row.is_some_and(|row| sequence <= self.pushed || !self.parked.contains(&lane(&row)))
    }
}

fn about_room(state: &State, node_id: &str, sequence: Sequence, payload: &Payload) -> Vec<Payload> {
    // A room of the same name may have been before, and not for others.
    let was_open = |room_id: &str| state.was_open(room_id, sequence);
    match payload {
        // One that turned out to be somebody else's is theirs to make again.
        Payload::RoomCreated(fact)
            if was_open(&fact.room_id) && is_still_of(state, &fact.room_id, &fact.created_by) =>
        {
            // As it is now: what it was at first may let in who is not to be, and keep out who is.
            let room = state.rooms.get(fold(&fact.room_id));
            if let Some(room) = room.filter(|row| row.open_since <= sequence) {
                return vec![shown(state, node_id, &room)];
            }
            let at = |alias: &String| at_node(alias, node_id);
            vec![Payload::RoomCreated(RoomCreated {
                created_by: at(&fact.created_by),
                invited: fact.invited.iter().map(at).collect(),
                ..fact.clone()
            })]
        }
        // What came from the relay does not go back to it.
        Payload::RoomJoined(fact) if fact.origin.is_none() && was_open(&fact.room_id) => {
            joined(state, node_id, &fact.room_id, &fact.mailbox).into_iter().collect()
        }
        Payload::RoomLeft(fact) if fact.origin.is_none() && was_open(&fact.room_id) => {
            let member = member_at(state, node_id, &fact.mailbox);
            let left = |mailbox| Payload::RoomLeft(RoomLeft { mailbox, ..fact.clone() });
            member.map(left).into_iter().collect()
        }
        // The first invitation to somebody elsewhere shares the room.
        Payload::RoomInvitation(fact) if fact.origin.is_none() && shared(state, &fact.room_id) => {
            let alias = at_node(&fact.alias, node_id);
            let mut items = snapshot(state, node_id, &fact.room_id);
            items.push(Payload::RoomInvitation(RoomInvitation { alias, ..fact.clone() }));
            items
        }
        // Whoever was told of a room must hear that it is not for everybody any more.
        Payload::RoomVisibilityChanged(fact) if fact.origin.is_none() => {
            let mut items = Vec::new();
            if shared(state, &fact.room_id) {
                items.extend(snapshot(state, node_id, &fact.room_id));
            }
            let visibility =
                if fact.visibility == "public" { "public" } else { "invite_only" }.to_owned();
            let room_id = fact.room_id.clone();
            items.push(Payload::RoomVisibilityChanged(RoomVisibilityChanged {
                room_id,
                visibility,
                origin: None,
            }));
            items
        }
        Payload::RoomDeleted(fact) if fact.shared && fact.origin.is_none() => vec![payload.clone()],
        _ => Vec::new(),
    }
}

/// An alias as others call it.
fn at_node(alias: &str, node_id: &str) -> String {
    let is_whole = alias.contains('@') || room::key_of(alias).is_some();
    if is_whole { alias.to_owned() } else { format!("{alias}@{node_id}") }
}

fn is_still_of(state: &State, room_id: &str, created_by: &str) -> bool {
    let row = state.rooms.get(fold(room_id));
    row.is_none_or(|row| row.created_by.contains('@') == created_by.contains('@'))
}

fn shared(state: &State, room_id: &str) -> bool {
    state.rooms.get(fold(room_id)).is_some_and(|room| state.is_open(&room))
}

/// A member of this node as others call it; `None` for members elsewhere.
fn member_at(state: &State, node_id: &str, mailbox: &str) -> Option<String> {
    Some(address(&state.mailboxes.get(mailbox)?.alias, node_id))
}

fn joined(state: &State, node_id: &str, room_id: &str, mailbox: &str) -> Option<Payload> {
    let mailbox = member_at(state, node_id, mailbox)?;
    let room = state.rooms.get(fold(room_id)).filter(|room| room.visibility != "public");
    let of = room.and_then(|room| node_of(&at_node(&room.created_by, node_id)));
    let room_id = room_id.to_owned();
    Some(Payload::RoomJoined(RoomJoined { room_id, mailbox, of, origin: None }))
}

/// The node of an address.
pub(super) fn node_of(address: &str) -> Option<String> {
    address.split_once('@').map(|(_, node)| fold(node))
}

/// A room as others see it. Whoever is in a private one came by right: a relay that forgot it lets
/// them in again.
fn shown(state: &State, node_id: &str, room: &Room) -> Payload {
    let mut invited: Vec<String> =
        room.invited.iter().map(|alias| at_node(alias, node_id)).collect();
    let is_public = room.visibility == "public";
    if !is_public {
        for (name, _) in state.members_of(&room.room_id) {
            let address = member_at(state, node_id, &name).unwrap_or(name);
            if !invited.iter().any(|known| fold(known) == fold(&address)) {
                invited.push(address);
            }
        }
    }
    Payload::RoomCreated(RoomCreated {
        room_id: room.room_id.clone(),
        created_by: at_node(&room.created_by, node_id),
        visibility: if is_public { "public" } else { "invite_only" }.into(),
        invited,
    })
}

/// A room as it is now, for those who have not seen it become so.
fn snapshot(state: &State, node_id: &str, room_id: &str) -> Vec<Payload> {
    let Some(room) = state.rooms.get(fold(room_id)) else { return Vec::new() };
    let mut items = vec![shown(state, node_id, &room)];
    let members = state.members_of(&room.room_id).into_iter();
    items.extend(members.filter_map(|(name, _)| joined(state, node_id, &room.room_id, &name)));
    items
}

/// What a relay has for a node, whose log has this id, because of one event.
pub fn serves(
    state: &State,
    node_id: &str,
    log: &str,
    sequence: Sequence,
    payload: &Payload,
) -> Vec<Payload> {
    let open_only = sequence <= state.cursor("out", log).floor;
    let here = format!("@{}", fold(node_id));
    let on_node = |mailbox: &str| mailbox.ends_with(&here);
    let as_is = || vec![payload.clone()];
    let is_echo = |origin: &Option<Origin>| origin.as_ref().is_some_and(|at| at.log == log);
    match payload {
        Payload::MessageSent(sent) => {
            let wanted = match &sent.target {
                Target::Mailbox(mailbox) => {
                    on_node(mailbox) && {
                        let open =
                            state.inbox.get(pair(mailbox, &sequence.to_be_bytes())).is_some();
                        let fetched =
                            state.mailboxes.get(mailbox).is_some_and(|row| row.replicated);
                        fetched && (open || !open_only)
                    }
                }
                Target::Room { room_id, .. } => {
                    let echoed = !open_only || is_echo(&sent.origin);
                    let echoed = echoed && on_node(&sent.from_mailbox);
                    heard_by(state, room_id, sequence, (open_only, echoed), &on_node)
                }
                _ => false,
            };
            if wanted { as_is() } else { Vec::new() }
        }
        Payload::ReceiptsRecorded(fact) => receipts(fact, &on_node),
        Payload::KeyBound(KeyBound { alias, node_id: at, .. })
        | Payload::KeyUnbound(KeyUnbound { alias, node_id: at, .. }) => {
            peer(state, alias, at, node_id).into_iter().collect()
        }
        Payload::SessionRegistered(fact) => {
            peer(state, &fact.alias, &fact.node_id, node_id).into_iter().collect()
        }
        Payload::SessionEnded(fact) => {
            let row = state.mailboxes.get(&fact.mailbox);
            let row = row.and_then(|row| Some((row.alias, row.node_id?)));
            row.and_then(|(alias, at)| peer(state, &alias, &at, node_id)).into_iter().collect()
        }
        Payload::RoomJoined(fact) if knows(state, &fact.room_id, &on_node) => {
            let Some(room) = state.rooms.get(fold(&fact.room_id)) else { return Vec::new() };
            if !on_node(&fact.mailbox) {
                return as_is();
            }
            // A node that comes in sees the room as it is; what it said itself it knows. One that
            // begins anew hears what is so now.
            let is_so = room::is_member(state, &fact.room_id, &fact.mailbox);
            let is_news = !is_echo(&fact.origin) && (!open_only || is_so);
            let mut items = relay_snapshot(state, &room, &on_node);
            items.extend(is_news.then(|| payload.clone()));
            items
        }
        Payload::RoomLeft(fact) if on_node(&fact.mailbox) => {
            let is_so = !room::is_member(state, &fact.room_id, &fact.mailbox);
            let is_news = !is_echo(&fact.origin) && (!open_only || is_so);
            Vec::from_iter(is_news.then(|| payload.clone()))
        }
        Payload::RoomLeft(fact) if knows(state, &fact.room_id, &on_node) => as_is(),
        Payload::RoomInvitation(fact) if knows(state, &fact.room_id, &on_node) => {
            let Some(room) = state.rooms.get(fold(&fact.room_id)) else { return Vec::new() };
            let mut items = relay_snapshot(state, &room, &on_node);
            items.extend((!is_echo(&fact.origin)).then(|| payload.clone()));
            items
        }
        Payload::RoomVisibilityChanged(fact) if knows(state, &fact.room_id, &on_node) => as_is(),
        // Nobody is a member of a room that is gone; those who had it know which it was.
        // One that begins anew must not take it for the end of another room of that name.
        Payload::RoomDeleted(fact)
            if open_only && state.rooms.get(fold(&fact.room_id)).is_some() =>
        {
            Vec::new()
        }
        Payload::RoomDeleted(_) => as_is(),
        _ => Vec::new(),
    }
}

/// Source of mail that was a dead letter and is sent once more.
pub const REPLAYED: &str = "replay";

/// Earlier messages that wait for a node because of one event, and the mailbox that they are for.
pub fn brought_back(
    state: &State,
    node_id: &str,
    payload: &Payload,
) -> Option<(String, Vec<Sequence>)> {
    let Payload::DeadLettersReturned(fact) = payload else { return None };
    let here = fact.mailbox.ends_with(&format!("@{}", fold(node_id)));
    let fetched = state.mailboxes.get(&fact.mailbox).is_some_and(|row| row.replicated);
    let open = |at: &Sequence| state.inbox.get(pair(&fact.mailbox, &at.to_be_bytes())).is_some();
    let waiting: Vec<_> = fact.messages.iter().copied().filter(open).collect();
    (here && fetched && !waiting.is_empty()).then(|| (fact.mailbox.clone(), waiting))
}

/// What was said last in a room before a node had anybody in it, by sequence: because of one event.
pub fn said_before(
    state: &State,
    node_id: &str,
    sequence: Sequence,
    payload: &Payload,
) -> Vec<Sequence> {
    let Payload::RoomJoined(fact) = payload else { return Vec::new() };
    let here = format!("@{}", fold(node_id));
    let members = state.members_of(&fact.room_id);
    let of_node = members.iter().filter(|(name, _)| name.ends_with(&here));
    if of_node.map(|(_, member)| member.since).min() != Some(sequence) {
        return Vec::new();
    }
    let rows = state.room_messages.scan(pair(&fold(&fact.room_id), &[])).into_iter();
    let before = rows.map(|(key, row)| (sequence_of(&key), row)).filter(|(at, _)| *at < sequence);
    let before: Vec<_> = before.collect();
    let mut bytes = 0;
    let fits = |(_, row): &&(Sequence, RoomMessage)| {
        bytes += row.bytes as usize;
        bytes <= ROOM_BACKFILL_BYTES
    };
    let mut last: Vec<Sequence> =
        before.iter().rev().take(ROOM_BACKFILL).take_while(fits).map(|(at, _)| *at).collect();
    last.reverse();
    last
}

/// Whether a room message is for a member on this node, who was there when it came.
fn heard_by(
    state: &State,
    room_id: &str,
    sequence: Sequence,
    (open_only, echoed): (bool, bool),
    on_node: &dyn Fn(&str) -> bool,
) -> bool {
    // The sender's node gets the room sequence by it.
    if echoed && state.rooms.get(fold(room_id)).is_some() {
        return true;
    }
    let wanted = |name: &str, since: Sequence, cursor: Sequence| {
        on_node(name) && since < sequence && (!open_only || cursor < sequence)
    };
    let members = state.members_of(room_id);
    let deleted = state.deleted_rooms_of(room_id);
    let former = deleted.iter().filter(|(end, row)| row.open_since <= sequence && sequence < *end);
    members.iter().any(|(name, row)| wanted(name, row.since, row.cursor))
        || former
            .flat_map(|(_, row)| &row.members)
            .any(|row| wanted(&row.mailbox, row.since, row.cursor))
}

fn receipts(fact: &ReceiptsRecorded, on_node: &dyn Fn(&str) -> bool) -> Vec<Payload> {
    let receipts: Vec<_> =
        fact.receipts.iter().filter(|r| on_node(&fold(&r.sender))).cloned().collect();
    if receipts.is_empty() {
        return Vec::new();
    }
    vec![Payload::ReceiptsRecorded(ReceiptsRecorded { receipts, origin: fact.origin.clone() })]
}

/// An alias of another node as it is now.
fn peer(state: &State, alias: &str, at: &str, reader: &str) -> Option<Payload> {
    if fold(at) == fold(reader) {
        return None;
    }
    let name = address(alias, at);
    let mailbox = state.mailboxes.get(&name);
    let session = mailbox.as_ref().and_then(|row| state.holder(row));
    Some(Payload::PeerSeen(PeerSeen {
        alias: alias.to_owned(),
        node_id: at.to_owned(),
        gone: session.is_none() || state.aliases.get(&name).is_none(),
        client_type: session.and_then(|row| row.client_type),
        bare: state.aliases.get(fold(alias)) == Some(name),
    }))
}

/// Whether a node has somebody in a room, or somebody invited to it.
fn knows(state: &State, room_id: &str, on_node: &dyn Fn(&str) -> bool) -> bool {
    let invited = state.rooms.get(fold(room_id)).map(|row| row.invited).unwrap_or_default();
    state.members_of(room_id).iter().any(|(name, _)| on_node(name))
        || invited.iter().any(|alias| on_node(&fold(alias)))
}

/// Who of the reader's own node is in it, its own events say.
fn relay_snapshot(state: &State, room: &Room, on_node: &dyn Fn(&str) -> bool) -> Vec<Payload> {
    let mut items = vec![Payload::RoomCreated(RoomCreated {
        room_id: room.room_id.clone(),
        created_by: room.created_by.clone(),
        visibility: room.visibility.clone(),
        invited: room.invited.clone(),
    })];
    let members = state.members_of(&room.room_id).into_iter();
    items.extend(members.filter(|(mailbox, _)| !on_node(mailbox)).map(|(mailbox, _)| {
        let room_id = room.room_id.clone();
        Payload::RoomJoined(RoomJoined { room_id, mailbox, of: None, origin: None })
    }));
    items
}
