//! Room events: creation, membership, invitations, visibility, deletion, and room messages.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    MessageSent, RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomVisibility,
    RoomVisibilityChanged,
};

use crate::ids::NodeId;
use crate::limits::ROOM_HISTORY;
use crate::state::State;
use crate::state::keys::compound_key;
use crate::state::rows::{
    DeadLetter, DeletedRoom, FormerMember, Member, Room, RoomMessageRow, UnreadMessage,
};

impl State {
    /// Creates a room. For an existing room, the relay states its owner, visibility and guests.
    pub(super) fn room_created(&mut self, sequence: Sequence, event: &RoomCreated, time_us: u64) {
        let key = fold(&event.room_id);
        let mut room = self.rooms.get(&key).unwrap_or_else(|| Room {
            open_since: sequence,
            room_id: event.room_id.clone().into(),
            visibility: event.visibility.clone(),
            created_by: String::new(),
            created_us: time_us,
            invited: Vec::new(),
            head: sequence,
            next_label: 1,
            shared: false,
        });
        room.visibility = event.visibility.clone();
        room.created_by = event.created_by.clone();
        room.invited = event.invited.clone();
        self.rooms.put(key, room);
    }

    pub(super) fn room_joined(&mut self, sequence: Sequence, event: &RoomJoined, time_us: u64) {
        let room = fold(&event.room_id);
        let member = Member {
            joined_us: time_us,
            since: sequence,
            cursor: self.rooms.get(&room).map_or(0, |row| row.head),
            redelivered_to: 0,
            of: event.of.clone().map(NodeId::from),
        };
        self.members.put(compound_key(&room, event.mailbox.as_bytes()), member);
        self.memberships.put(compound_key(&event.mailbox, room.as_bytes()), ());
    }

    /// Ends a membership. The messages that the member has not read become direct mail.
    pub(super) fn room_left(&mut self, room_id: &str, mailbox: &str) {
        let room = fold(room_id);
        self.detach(&room, mailbox, Sequence::MAX);
        self.members.remove(compound_key(&room, mailbox.as_bytes()));
        self.memberships.remove(compound_key(mailbox, room.as_bytes()));
    }

    pub(super) fn room_invitation(&mut self, sequence: Sequence, event: &RoomInvitation) {
        self.rooms.update(fold(&event.room_id), |row| {
            let was_shared = row.is_shared();
            row.invited.retain(|alias| fold(alias) != fold(&event.alias));
            if event.invited {
                row.invited.push(event.alias.clone());
            }
            if row.is_shared() && !was_shared {
                row.open_since = sequence;
            }
        });
    }

    pub(super) fn visibility_changed(&mut self, sequence: Sequence, event: &RoomVisibilityChanged) {
        self.rooms.update(fold(&event.room_id), |row| {
            let was_shared = row.is_shared() || row.shared;
            row.visibility = event.visibility.clone();
            // The relay reports another room of that name, so this one is local from now on.
            row.shared &= event.origin.is_none() || event.visibility != RoomVisibility::Local;
            if row.is_shared() && !was_shared {
                row.open_since = sequence;
            }
        });
    }

    pub(super) fn room_deleted(&mut self, sequence: Sequence, event: &RoomDeleted) {
        let room = fold(&event.room_id);
        self.record_deleted_room(sequence, &room);
        for (mailbox, _) in self.members_of_room(&room) {
            self.room_left(&room, &mailbox);
        }
        for (sequence, _) in self.room_messages_after(&room, 0) {
            self.room_messages.remove(compound_key(&room, &sequence.to_be_bytes()));
        }
        self.rooms.remove(&room);
    }

    /// Remembers a deleted room whose messages other nodes may still have to fetch.
    fn record_deleted_room(&mut self, at: Sequence, room: &str) {
        let Some(row) = self.rooms.get(room).filter(|row| self.is_room_shared(row)) else { return };
        let is_replicated =
            |mailbox: &str| self.mailboxes.get(mailbox).is_some_and(|row| row.replicated);
        let members = self
            .members_of_room(room)
            .into_iter()
            .filter(|(mailbox, _)| is_replicated(mailbox))
            .map(|(mailbox, Member { since, cursor, .. })| FormerMember { mailbox, since, cursor });
        let deleted = DeletedRoom { open_since: row.open_since, members: members.collect() };
        self.deleted_rooms.put(compound_key(room, &at.to_be_bytes()), deleted);
    }

    pub(super) fn add_to_room(
        &mut self,
        room: &str,
        sequence: Sequence,
        label: Option<u64>,
        event: &MessageSent,
    ) {
        let message = RoomMessageRow {
            from_mailbox: event.from_mailbox.clone(),
            label,
            bytes: event.body.len() as u32,
        };
        self.room_messages.put(compound_key(room, &sequence.to_be_bytes()), message);
        self.rooms.update(room, |row| {
            row.head = sequence;
            row.next_label = label.map_or(row.next_label, |at| row.next_label.max(at + 1));
        });
    }

    /// Turns the room messages before a sequence that a member has not read into direct mail.
    fn detach(&mut self, room: &str, mailbox: &str, before: Sequence) {
        let Some(member) = self.members.get(compound_key(room, mailbox.as_bytes())) else { return };
        // The mail of members on other nodes is kept there.
        if self.mailboxes.get(mailbox).is_none_or(|row| row.replicated) {
            return;
        }
        self.mailboxes.update(mailbox, |row| {
            if let Some(claim) = &mut row.claim {
                claim.leave(room);
            }
        });
        let unread = self.room_messages_after(room, member.cursor);
        for (sequence, message) in unread.into_iter().take_while(|(at, _)| *at < before) {
            if message.from_mailbox != mailbox {
                let pending = UnreadMessage {
                    redelivered: sequence <= member.redelivered_to,
                    room: Some(room.into()),
                    bytes: message.bytes,
                    ..UnreadMessage::default()
                };
                self.inbox.put(compound_key(mailbox, &sequence.to_be_bytes()), pending);
            }
        }
    }

    /// Turns a room message into a dead letter for one member, who does not receive it.
    pub(super) fn skip_member(
        &mut self,
        room: &str,
        mailbox: &str,
        sequence: Sequence,
        time_us: u64,
    ) {
        self.detach(room, mailbox, sequence);
        self.members.update(compound_key(room, mailbox.as_bytes()), |row| row.cursor = sequence);
        let letter = DeadLetter {
            mailbox: mailbox.to_owned(),
            alias: self.mailboxes.get(mailbox).map_or_else(String::new, |row| row.alias.into()),
            reason: "recipient_dead".into(),
            at_us: time_us,
            arrival: None,
            legacy: None,
        };
        self.dead_letters.put(compound_key(mailbox, &sequence.to_be_bytes()), letter);
    }

    /// Removes room messages that every member has read, except for the newest ones.
    pub(super) fn trim_room(&mut self, room: &str, label: Option<u64>) {
        // Trimming costs a scan, so it is done once per ROOM_HISTORY messages.
        if !label.is_some_and(|label| (label + 1).is_multiple_of(ROOM_HISTORY as u64)) {
            return;
        }
        // Members on other nodes read their own copy.
        let members = self.members_of_room(room).into_iter();
        let local = members.filter(|(mailbox, _)| self.mailboxes.get(mailbox).is_some());
        let read = local.map(|(_, member)| member.cursor).min().unwrap_or(Sequence::MAX);
        let messages = self.room_messages_after(room, 0);
        let excess = messages.len().saturating_sub(ROOM_HISTORY);
        for (sequence, _) in messages.iter().take(excess).filter(|(at, _)| *at <= read) {
            self.room_messages.remove(compound_key(room, &sequence.to_be_bytes()));
        }
    }
}
