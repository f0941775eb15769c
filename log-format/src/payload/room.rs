//! Which facts change a room: who made it, who is in it, who may see it?

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Origin, Payload, Target, is_false};

fact! {
    /// A room came to be.
    RoomCreated {
        /// The room.
        room_id: String,
        /// Alias of its creator.
        created_by: String,
        /// `public`, `invite_only` or `local`.
        visibility: String,
        /// Aliases that may join an invite-only room.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        invited: Vec<String>,
    }
}

fact! {
    /// A mailbox became a member.
    RoomJoined {
        /// The room.
        room_id: String,
        /// The member's mailbox.
        mailbox: String,
        /// Node whose private room it is, as the node of the member knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// Where it was first written, when that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

fact! {
    /// A mailbox is no longer a member; what it had not read stays deliverable.
    RoomLeft {
        /// The room.
        room_id: String,
        /// The mailbox.
        mailbox: String,
        /// `left`, `sweep`, or why a relay did not admit it.
        reason: String,
        /// Where it was first written, when that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

fact! {
    /// Somebody may join an invite-only room, or no longer may.
    RoomInvitation {
        /// The room.
        room_id: String,
        /// Who.
        alias: String,
        /// True to invite, false to take it back.
        invited: bool,
        /// Where it was first written, when that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

fact! {
    /// Who may see and join a room changed.
    RoomVisibilityChanged {
        /// The room.
        room_id: String,
        /// `public`, `invite_only` or `local`.
        visibility: String,
        /// Where it was first written, when that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

fact! {
    /// A room is gone.
    RoomDeleted {
        /// The room.
        room_id: String,
        /// Whether others knew of it.
        #[serde(default, skip_serializing_if = "is_false")]
        shared: bool,
        /// Where it was first written, when that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

impl Payload {
    /// The room that an event is about; none for an event about anything else.
    pub fn room_id(&self) -> Option<&str> {
        match self {
            Self::MessageSent(sent) => match &sent.target {
                Target::Room { room_id, .. } => Some(room_id),
                _ => None,
            },
            Self::RoomCreated(fact) => Some(&fact.room_id),
            Self::RoomJoined(fact) => Some(&fact.room_id),
            Self::RoomLeft(fact) => Some(&fact.room_id),
            Self::RoomInvitation(fact) => Some(&fact.room_id),
            Self::RoomVisibilityChanged(fact) => Some(&fact.room_id),
            Self::RoomDeleted(fact) => Some(&fact.room_id),
            Self::RoomLabelled(fact) => Some(&fact.room_id),
            _ => None,
        }
    }
}
