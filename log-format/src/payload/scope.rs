//! The mailbox, room and message that an event concerns, and the hashes of them in its head.

use alloc::format;
use alloc::string::String;

use super::{Payload, Target};
use crate::Sequence;
use crate::checksum::name_hash;
use crate::event::EventHead;
use crate::id::fold;

/// Returns the scope hash of a room.
///
/// Rooms and mailboxes share the field, so the room id is prefixed with `#` before it is hashed.
pub fn room_hash(room_id: &str) -> u64 {
    name_hash(&format!("#{}", fold(room_id)))
}

/// Returns the scope hash of a mailbox; 0 for an empty name.
pub fn mailbox_hash(mailbox: &str) -> u64 {
    if mailbox.is_empty() { 0 } else { name_hash(mailbox) }
}

/// Returns the address of an alias on a node, in lower case. It is the mailbox name at a relay.
pub fn full_address(alias: &str, node_id: &str) -> String {
    fold(&format!("{alias}@{node_id}"))
}

/// Hashes for an event head.
#[derive(Default)]
struct Hashes {
    /// The mailbox or room that the event concerns.
    scope: u64,
    /// The acting mailbox.
    actor: u64,
    /// The message_id.
    message: u64,
}

impl Hashes {
    /// An event about a mailbox, caused by that mailbox.
    fn of_mailbox(mailbox: &str) -> Self {
        let hash = mailbox_hash(mailbox);
        Self { scope: hash, actor: hash, message: 0 }
    }

    /// An event about a room without an acting mailbox.
    fn of_room(room_id: &str) -> Self {
        Self { scope: room_hash(room_id), actor: 0, message: 0 }
    }

    /// An event about a member of a room.
    fn of_member(room_id: &str, mailbox: &str) -> Self {
        Self { scope: room_hash(room_id), actor: mailbox_hash(mailbox), message: 0 }
    }
}

impl Payload {
    /// Returns the event head for writing this payload at `sequence`.
    pub fn head(&self, sequence: Sequence) -> EventHead {
        let Hashes { scope, actor, message } = self.hashes();
        EventHead {
            kind: self.kind(),
            must_understand: self.must_understand(),
            schema: 1,
            sequence,
            scope,
            actor,
            message,
        }
    }

    /// Returns the room that the event concerns, if it concerns one.
    pub fn room_id(&self) -> Option<&str> {
        match self {
            Self::MessageSent(sent) => match &sent.target {
                Target::Room { room_id, .. } => Some(room_id),
                _ => None,
            },
            Self::RoomCreated(event) => Some(&event.room_id),
            Self::RoomJoined(event) => Some(&event.room_id),
            Self::RoomLeft(event) => Some(&event.room_id),
            Self::RoomInvitation(event) => Some(&event.room_id),
            Self::RoomVisibilityChanged(event) => Some(&event.room_id),
            Self::RoomDeleted(event) => Some(&event.room_id),
            Self::RoomLabelled(event) => Some(&event.room_id),
            _ => None,
        }
    }

    fn hashes(&self) -> Hashes {
        match self {
            Self::MessageSent(sent) => Hashes {
                scope: match &sent.target {
                    Target::Mailbox(mailbox) => mailbox_hash(mailbox),
                    Target::Room { room_id, .. } => room_hash(room_id),
                    Target::DeadLetter { mailbox, .. } => mailbox_hash(mailbox),
                    Target::Outbox { .. } => 0,
                },
                actor: mailbox_hash(&sent.from_mailbox),
                message: name_hash(&sent.message_id),
            },
            Self::RoomCreated(event) => Hashes::of_room(&event.room_id),
            Self::RoomInvitation(event) => Hashes::of_room(&event.room_id),
            Self::RoomVisibilityChanged(event) => Hashes::of_room(&event.room_id),
            Self::RoomDeleted(event) => Hashes::of_room(&event.room_id),
            Self::RoomLabelled(event) => Hashes::of_room(&event.room_id),
            Self::RoomJoined(event) => Hashes::of_member(&event.room_id, &event.mailbox),
            Self::RoomLeft(event) => Hashes::of_member(&event.room_id, &event.mailbox),
            Self::KeyBound(event) => {
                Hashes::of_mailbox(&full_address(&event.alias, &event.node_id))
            }
            Self::KeyUnbound(event) => {
                Hashes::of_mailbox(&full_address(&event.alias, &event.node_id))
            }
            Self::PeerSeen(event) => {
                Hashes::of_mailbox(&full_address(&event.alias, &event.node_id))
            }
            Self::LeaseRenewed(event) => Hashes::of_mailbox(&event.mailbox),
            Self::SessionRegistered(event) => Hashes::of_mailbox(&event.mailbox),
            Self::AliasRenamed(event) => Hashes::of_mailbox(&event.mailbox),
            Self::SessionHeartbeat(event) => Hashes::of_mailbox(&event.mailbox),
            Self::SessionEnded(event) => Hashes::of_mailbox(&event.mailbox),
            Self::DndChanged(event) => Hashes::of_mailbox(&event.mailbox),
            Self::InboxClaimed(event) => Hashes::of_mailbox(&event.mailbox),
            Self::ClaimAcked(event) => Hashes::of_mailbox(&event.mailbox),
            Self::ClaimReturned(event) => Hashes::of_mailbox(&event.mailbox),
            Self::AckRefused(event) => Hashes::of_mailbox(&event.mailbox),
            Self::MessagesExpired(event) => Hashes::of_mailbox(&event.mailbox),
            Self::MessagesDeadLettered(event) => Hashes::of_mailbox(&event.mailbox),
            Self::DeadLettersReturned(event) => Hashes::of_mailbox(&event.mailbox),
            Self::LegacyDetails(event) => Hashes::of_mailbox(&event.mailbox),
            Self::LegacyDelivered(event) => Hashes {
                scope: mailbox_hash(&event.mailbox),
                actor: 0,
                message: name_hash(&event.message_id),
            },
            Self::DeadLettersPurged(_)
            | Self::LegacyImported(_)
            | Self::RootMoved(_)
            | Self::CursorAdvanced(_)
            | Self::MessagesRelayed(_)
            | Self::ReceiptsRecorded(_) => Hashes::default(),
        }
    }
}
