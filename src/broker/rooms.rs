//! What can be asked about rooms: which there are, and what was said?

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{Target, room_hash};

use super::views::Message;
use super::{Broker, liveness};
use crate::decide::{self, Liveness};
use crate::failure::Failure;
use crate::state::{Mailbox, Room, State};

/// One room.
#[derive(Debug, Clone)]
pub struct RoomInfo {
    pub room: Room,
    /// Alias, session id, liveness, time of joining; of members elsewhere the address.
    pub members: Vec<(String, Option<String>, Liveness, u64)>,
}

/// One message of a room.
#[derive(Debug, Clone)]
pub struct Said {
    pub message: Message,
    /// Its place in the room; none until the relay of a shared room has given it one.
    pub room_sequence: Option<u64>,
}

impl Broker {
    /// The last messages of a room in the order of the room, oldest first; those without a place in
    /// it are the last.
    pub fn room_history(
        &mut self,
        room_id: &str,
        limit: usize,
        since_us: u64,
    ) -> Result<Vec<Said>, Failure> {
        let room = fold(room_id);
        let scope = room_hash(room_id);
        let (found, labels) = (RefCell::new(Vec::new()), RefCell::new(HashMap::new()));
        // An earlier room of this name is another one.
        let deleted = Cell::new(0);
        self.store.search(
            &|head| head.scope == scope,
            &mut |stored| {
                let head = stored.event.head;
                match Payload::decode(head.kind, stored.event.payload) {
                    Some(Ok(Payload::MessageSent(sent))) if sent.sent_us >= since_us => {
                        let (sequence, room_id) = (head.sequence, Some(room.clone()));
                        let (redelivered, drained_us) = (false, None);
                        let message = Message { sequence, sent, room_id, redelivered, drained_us };
                        found.borrow_mut().push(message);
                    }
                    Some(Ok(Payload::RoomDeleted(_))) => {
                        deleted.set(deleted.get().max(head.sequence));
                    }
                    Some(Ok(Payload::RoomLabelled(fact))) => {
                        labels.borrow_mut().extend(fact.labels);
                    }
                    _ => {}
                }
            },
            // A label comes after its message, so going back it is met first.
            &|| limit > 0 && found.borrow().len() >= limit,
        )?;
        let row = self.state.rooms.get(&room);
        let mut said: Vec<Said> = found
            .into_inner()
            .into_iter()
            .filter(|message| message.sequence > deleted.get())
            .map(|message| {
                let given = labels.borrow().get(&message.sequence).copied();
                let room_sequence = given.or_else(|| first_label(&message, row.as_ref()));
                Said { message, room_sequence }
            })
            .collect();
        // What was said before others were in the room has places of its own, all of them earlier.
        let open_since = row.map_or(0, |row| row.open_since);
        said.sort_unstable_by_key(|Said { message, room_sequence }| {
            let (at, past) = (message.sequence, message.sent.origin.is_some());
            (at >= open_since || past, room_sequence.unwrap_or(u64::MAX), at)
        });
        let skip = if limit == 0 { 0 } else { said.len().saturating_sub(limit) };
        Ok(said.split_off(skip))
    }

    /// How much was said here in shared rooms and has not been at the relay yet.
    pub(super) fn rooms_outbox(&self) -> usize {
        let rooms = self.state.rooms.scan([]).into_iter().filter(|(_, room)| room.shared);
        let waiting = |key: &[u8]| {
            let rows = self.state.room_messages.scan([key, &[0]].concat());
            rows.iter().filter(|(_, row)| row.label.is_none()).count()
        };
        rooms.map(|(key, _)| waiting(&key)).sum()
    }

    /// All rooms that a mailbox may know of.
    pub fn rooms(&self, mailbox: Option<&Mailbox>) -> Vec<RoomInfo> {
        let name = mailbox.map_or("", |mailbox| mailbox.name.as_str());
        let rows = self.state.rooms.scan([]).into_iter().map(|(_, room)| room);
        let visible = rows.filter(|room| decide::may_see(&self.state, room, name));
        visible.map(|room| room_info(&self.state, room)).collect()
    }
}

/// The place that a message was given when it was written. What was said here in a room that a relay
/// shares waits for the one that the relay gives.
fn first_label(message: &Message, room: Option<&Room>) -> Option<u64> {
    let Target::Room { label, .. } = message.sent.target else { return None };
    let waits = |room: &Room| room.shared && message.sequence >= room.open_since;
    label.filter(|_| message.sent.origin.is_some() || !room.is_some_and(waits))
}

fn room_info(state: &State, room: Room) -> RoomInfo {
    let members = state.members_of(&room.room_id).into_iter().map(|(mailbox, member)| {
        let Some(row) = state.mailboxes.get(&mailbox) else {
            return (mailbox, None, Liveness::Unknown, member.joined_us);
        };
        let liveness = decide::mailbox_liveness(state, &row, &liveness::of_session);
        (row.alias, row.session, liveness, member.joined_us)
    });
    RoomInfo { members: members.collect(), room }
}
