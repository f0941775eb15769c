//! Room events: creation, membership, invitations, visibility and deletion.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::shared::{Origin, is_false};
use super::values::{RoomLeaveReason, RoomVisibility};

payload! {
    /// A room was created.
    RoomCreated {
        /// The room.
        room_id: String,
        /// Alias of its creator.
        created_by: String,
        /// Which agents can see and join it.
        visibility: RoomVisibility,
        /// Aliases that may join an invite-only room.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        invited: Vec<String>,
    }
}

payload! {
    /// A mailbox became a member.
    RoomJoined {
        /// The room.
        room_id: String,
        /// The member's mailbox.
        mailbox: String,
        /// Node that owns the private room, as far as the member's node knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<String>,
        /// Where the event was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

payload! {
    /// A mailbox is no longer a member; messages it has not read stay deliverable.
    RoomLeft {
        /// The room.
        room_id: String,
        /// The mailbox.
        mailbox: String,
        /// Why the membership ended.
        reason: RoomLeaveReason,
        /// Where the event was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

payload! {
    /// An alias was invited to an invite-only room, or its invitation was withdrawn.
    RoomInvitation {
        /// The room.
        room_id: String,
        /// The alias.
        alias: String,
        /// True to invite, false to withdraw the invitation.
        invited: bool,
        /// Where the event was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

payload! {
    /// The visibility of a room changed.
    RoomVisibilityChanged {
        /// The room.
        room_id: String,
        /// Which agents can see and join it.
        visibility: RoomVisibility,
        /// Where the event was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

payload! {
    /// A room was deleted.
    RoomDeleted {
        /// The room.
        room_id: String,
        /// Whether other nodes knew of the room.
        #[serde(default, skip_serializing_if = "is_false")]
        shared: bool,
        /// Where the event was first written, if that was another log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}
