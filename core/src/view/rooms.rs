//! Rooms, their members and their history.

use std::collections::HashMap;

use c2c_log_format::id::fold;
use c2c_log_format::payload::Target;
use c2c_log_format::{Payload, Sequence};

use super::types::{MessageView, RoomMemberView, RoomMessageView, RoomView, SessionLiveness};
use crate::decide::{self, Liveness};
use crate::ids::RoomId;
use crate::state::{Mailbox, Room, State, is_history};

/// The rooms visible to a mailbox, or without one, the rooms visible to every caller.
pub fn visible_rooms(
    state: &State,
    mailbox: Option<&Mailbox>,
    liveness: SessionLiveness<'_>,
) -> Vec<RoomView> {
    let name = mailbox.map_or("", |mailbox| mailbox.name.as_str());
    state
        .rooms
        .scan([])
        .into_iter()
        .map(|(_, room)| room)
        .filter(|room| decide::may_see_room(state, room, name))
        .map(|room| RoomView { members: members(state, &room, liveness), room })
        .collect()
}

fn members(state: &State, room: &Room, liveness: SessionLiveness<'_>) -> Vec<RoomMemberView> {
    let rows = state.members_of_room(&room.room_id).into_iter().map(|(name, member)| {
        let Some(mailbox) = state.mailboxes.get(&name) else {
            return RoomMemberView {
                alias: name,
                session_id: None,
                liveness: Liveness::Unknown,
                joined_us: member.joined_us,
            };
        };
        RoomMemberView {
            liveness: decide::mailbox_liveness(state, &mailbox, liveness),
            alias: mailbox.alias.into(),
            session_id: mailbox.session,
            joined_us: member.joined_us,
        }
    });
    rows.collect()
}

/// Number of messages in shared rooms that await a room sequence from the relay.
pub fn awaiting_relay(state: &State) -> usize {
    let shared = state.rooms.scan([]).into_iter().filter(|(_, room)| room.shared);
    let unlabelled = |key: &[u8]| {
        let rows = state.room_messages.scan([key, &[0]].concat());
        rows.iter().filter(|(_, row)| row.label.is_none()).count()
    };
    shared.map(|(key, _)| unlabelled(&key)).sum()
}

/// The messages of one room, assembled from its events. Events are added newest first.
pub struct RoomHistory {
    /// Room id, folded.
    room: RoomId,
    since_us: u64,
    messages: Vec<MessageView>,
    labels: HashMap<Sequence, u64>,
    /// Sequence at which a room of this name was last deleted. Earlier messages belong to that
    /// room.
    deleted_at: Sequence,
}

impl RoomHistory {
    /// An empty history of the messages sent at `since_us` or later.
    pub fn new(room_id: &str, since_us: u64) -> Self {
        Self {
            room: fold(room_id).into(),
            since_us,
            messages: Vec::new(),
            labels: HashMap::new(),
            deleted_at: 0,
        }
    }

    /// Adds an event of the room's scope.
    pub fn add(&mut self, sequence: Sequence, payload: Payload) {
        match payload {
            Payload::MessageSent(sent) if sent.sent_us >= self.since_us => {
                self.messages.push(MessageView::new(sequence, sent, Some(self.room.clone())));
            }
            Payload::RoomDeleted(_) => self.deleted_at = self.deleted_at.max(sequence),
            Payload::RoomLabelled(fact) => self.labels.extend(fact.labels),
            _ => {}
        }
    }

    /// Whether `limit` messages were added; 0 means no limit.
    pub fn has_enough(&self, limit: usize) -> bool {
        limit > 0 && self.messages.len() >= limit
    }

    /// The last `limit` messages in room order, oldest first; messages without a room sequence come
    /// last. A limit of 0 returns all messages.
    pub fn finish(self, state: &State, limit: usize) -> Vec<RoomMessageView> {
        let Self { room, messages, labels, deleted_at, .. } = self;
        let room = state.rooms.get(&room);
        let mut messages: Vec<RoomMessageView> = messages
            .into_iter()
            .filter(|message| message.sequence > deleted_at)
            .map(|message| {
                let label = labels.get(&message.sequence).copied();
                let room_sequence = label.or_else(|| initial_label(&message, room.as_ref()));
                RoomMessageView { message, room_sequence }
            })
            .collect();
        // Messages sent before the room was shared, or by an older version, are numbered separately
        // and come first.
        let open_since = room.as_ref().map_or(0, |room| room.open_since);
        let is_relayed = |row: &RoomMessageView| row.message.sent.origin.is_some();
        let is_shared = room.is_some_and(|room| room.shared) || messages.iter().any(is_relayed);
        messages.sort_unstable_by_key(|RoomMessageView { message, room_sequence }| {
            let is_open =
                message.sequence >= open_since && !(is_shared && is_history(&message.sent));
            let is_current = is_open || message.sent.origin.is_some();
            (is_current, room_sequence.unwrap_or(u64::MAX), message.sequence)
        });
        let skip = if limit == 0 { 0 } else { messages.len().saturating_sub(limit) };
        messages.split_off(skip)
    }
}

/// The room sequence that was recorded with a message. A message from this node to a shared room
/// has none until the relay assigns it.
fn initial_label(message: &MessageView, room: Option<&Room>) -> Option<u64> {
    let Target::Room { label, .. } = message.sent.target else { return None };
    let awaits_relay = |room: &Room| room.shared && message.sequence >= room.open_since;
    let is_settled = message.sent.origin.is_some() || is_history(&message.sent);
    label.filter(|_| is_settled || !room.is_some_and(awaits_relay))
}
