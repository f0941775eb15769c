//! Queries about mailboxes, unread mail and rooms.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;

use super::State;
use super::keys::{compound_key, first_of, second_name_in_key, sequence_in_key};
use super::rows::{DeletedRoom, Mailbox, Member, RoomMessageRow, Session, UnreadMessage};
use crate::ids::RoomId;

/// A reference to one message, as a reader of a mailbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRef {
    /// Sequence of the message in this log.
    pub sequence: Sequence,
    /// The room of a room message.
    pub room_id: Option<RoomId>,
    /// Whether the message was displayed before without an ack.
    pub redelivered: bool,
}

impl MessageRef {
    /// A reference to a message that was not displayed before.
    pub fn new(sequence: Sequence, room_id: Option<RoomId>) -> Self {
        Self { sequence, room_id, redelivered: false }
    }
}

/// Unread mail of one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// Direct messages by sequence.
    pub direct: Vec<(Sequence, UnreadMessage)>,
    /// Room messages: sequence, room, and whether the message was displayed before.
    pub room: Vec<(Sequence, RoomId, bool)>,
}

impl Unread {
    /// Returns all messages in order of sequence.
    pub fn in_order(&self) -> Vec<MessageRef> {
        let direct = self.direct.iter().map(|(sequence, row)| MessageRef {
            sequence: *sequence,
            room_id: row.room.clone(),
            redelivered: row.redelivered,
        });
        let room = self.room.iter().map(|(sequence, room, redelivered)| MessageRef {
            sequence: *sequence,
            room_id: Some(room.clone()),
            redelivered: *redelivered,
        });
        let mut all: Vec<MessageRef> = direct.chain(room).collect();
        all.sort_unstable_by_key(|message| message.sequence);
        all
    }

    /// Returns the sequences of the oldest and the newest message that may not wait for the next
    /// poll, or `None` if that message does not exist.
    pub fn urgent_range(&self) -> Option<(Sequence, Sequence)> {
        let direct = self.direct.iter().filter(|(_, row)| !row.deferrable).map(|(at, _)| *at);
        let all = || direct.clone().chain(self.room.iter().map(|(at, ..)| *at));
        Some((all().min()?, all().max()?))
    }

    /// Returns the number of unread messages.
    pub fn len(&self) -> usize {
        self.direct.len() + self.room.len()
    }

    /// Returns whether no message is unread.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// Returns the mailbox of an alias.
    pub fn mailbox_for_alias(&self, alias: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.aliases.get(fold(alias))?)
    }

    /// Returns the mailbox of a registered session.
    pub fn mailbox_for_session(&self, session_id: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.sessions.get(session_id)?.mailbox)
    }

    /// Returns the mailbox that a session held until another session took it over.
    pub fn lost_mailbox(&self, session_id: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.superseded.get(session_id)?)
    }

    /// Returns the session that holds a mailbox.
    pub fn holder(&self, mailbox: &Mailbox) -> Option<Session> {
        self.sessions.get(mailbox.session.as_deref()?)
    }

    /// Returns the unread mail of a mailbox, claimed or not.
    pub fn unread(&self, mailbox: &str) -> Unread {
        let rows = self.inbox.scan(compound_key(mailbox, &[]));
        let direct = rows.into_iter().map(|(key, row)| (sequence_in_key(&key), row)).collect();
        let mut room = Vec::new();
        for (key, ()) in self.memberships.scan(compound_key(mailbox, &[])) {
            let room_id = RoomId::from(second_name_in_key(&key));
            let Some(member) = self.members.get(compound_key(&room_id, mailbox.as_bytes())) else {
                continue;
            };
            for (sequence, message) in self.room_messages_after(&room_id, member.cursor) {
                if message.from_mailbox != mailbox {
                    room.push((sequence, room_id.clone(), sequence <= member.redelivered_to));
                }
            }
        }
        Unread { direct, room }
    }

    /// Returns whether a mailbox has unread mail; cheaper than [`State::unread`].
    pub fn has_unread(&self, mailbox: &str) -> bool {
        if self.inbox.any(compound_key(mailbox, &[])) {
            return true;
        }
        self.memberships.scan(compound_key(mailbox, &[])).iter().any(|(key, ())| {
            let room_id = second_name_in_key(key);
            let member = self.members.get(compound_key(&room_id, mailbox.as_bytes()));
            let head = self.rooms.get(&room_id).map_or(0, |room| room.head);
            let Some(cursor) = member.map(|member| member.cursor).filter(|at| head > *at) else {
                return false;
            };
            // A member's own messages are never unread for that member.
            let from = compound_key(&room_id, &(cursor + 1).to_be_bytes());
            let is_from_other = |row: &RoomMessageRow| row.from_mailbox != mailbox;
            self.room_messages.any_from(&compound_key(&room_id, &[]), &from, is_from_other)
        })
    }

    /// Returns the messages of a room after a sequence, in order.
    pub fn room_messages_after(
        &self,
        room_id: &str,
        after: Sequence,
    ) -> Vec<(Sequence, RoomMessageRow)> {
        let from = compound_key(room_id, &(after + 1).to_be_bytes());
        let rows = self.room_messages.range(&compound_key(room_id, &[]), &from);
        rows.into_iter().map(|(key, row)| (sequence_in_key(&key), row)).collect()
    }

    /// Returns the sequence of the first message that may still have to be delivered, and why it is
    /// needed. No earlier message is needed to deliver accepted mail.
    pub fn first_undelivered(&self) -> Option<(Sequence, &'static str)> {
        let unread = self.inbox.scan([]).iter().map(|(key, _)| sequence_in_key(key)).min();
        let dead = self.dead_letters.scan([]).iter().map(|(key, _)| sequence_in_key(key)).min();
        let queued = self.outbox.scan([]).iter().map(|(key, _)| sequence_in_key(key)).min();
        let in_rooms = self.members.scan([]).into_iter().filter_map(|(key, member)| {
            let messages = self.room_messages_after(&first_of(&key), member.cursor);
            messages.first().map(|(sequence, _)| *sequence)
        });
        let deleted = self.deleted_rooms.scan([]).into_iter().filter_map(|(_, row)| {
            row.members.iter().map(|member| member.cursor.max(member.since) + 1).min()
        });
        let candidates = [
            (unread, "a message in a mailbox is unread"),
            (dead, "a dead letter is kept"),
            (queued, "a message waits in the outbox"),
            (in_rooms.min(), "a room message is unread"),
            (deleted.min(), "a message of a deleted room is not fetched by every node"),
        ];
        candidates.into_iter().filter_map(|(sequence, reason)| Some((sequence?, reason))).min()
    }

    /// Returns the members of a room, each with its mailbox name.
    pub fn members_of_room(&self, room_id: &str) -> Vec<(String, Member)> {
        let rows = self.members.scan(compound_key(&fold(room_id), &[]));
        rows.into_iter().map(|(key, row)| (second_name_in_key(&key), row)).collect()
    }

    /// Returns the deleted rooms of this name that some node may not have fetched in full, each
    /// with the sequence of its deletion.
    pub fn deleted_rooms_named(&self, room_id: &str) -> Vec<(Sequence, DeletedRoom)> {
        let rows = self.deleted_rooms.scan(compound_key(&fold(room_id), &[]));
        rows.into_iter().map(|(key, row)| (sequence_in_key(&key), row)).collect()
    }
}
