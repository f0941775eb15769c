//! Event payloads: the kinds of events and the fields of each.
//!
//! Every kind has a number that never changes and a JSON object as payload. Fields are only ever
//! added, and readers ignore fields they do not know. A new kind that changes what older readers
//! would conclude is written with the must-understand bit: older readers may continue to read the
//! log but must not write to it.

use alloc::vec::Vec;

use serde::Serialize;

/// Declares the payload of one event kind: a struct of public fields that is stored as JSON.
macro_rules! payload {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }
    };
}

mod admin;
mod body;
mod claim;
mod message;
mod replication;
mod room;
mod scope;
mod session;
mod shared;
mod values;

pub use admin::{LegacyDelivered, LegacyDetails, LegacyImported, RootMoved};
pub use body::Body;
pub use claim::{AckRefused, ClaimAcked, ClaimReturned, InboxClaimed, RoomRange};
pub use message::{
    DeadLettersPurged, DeadLettersReturned, MessageSent, MessagesDeadLettered, MessagesExpired,
    Target,
};
pub use replication::{
    CursorAdvanced, KeyBound, KeyUnbound, LeaseRenewed, MessagesRelayed, PeerSeen, Receipt,
    ReceiptsRecorded, RoomLabelled,
};
pub use room::{
    RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLeft, RoomVisibilityChanged,
};
pub use scope::{full_address, mailbox_hash, room_hash};
pub use session::{AliasRenamed, DndChanged, SessionEnded, SessionHeartbeat, SessionRegistered};
pub use shared::{Origin, Process};
pub use values::{
    AckLevel, ClaimReturnReason, CursorDirection, DeadLetterReason, ReceiptLevel, ReportedLiveness,
    RoomLeaveReason, RoomVisibility, SessionEndReason, UnbindReason,
};

/// Declares [`Payload`] from rows of number, must-understand bit, struct and name.
macro_rules! payload_enum {
    ($($number:literal $must:literal $kind:ident $name:literal),* $(,)?) => {
        /// A decoded event payload.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Payload { $($kind($kind)),* }

        impl Payload {
            /// Number and name of every known kind.
            pub const KINDS: &'static [(u16, &'static str)] = &[$(($number, $name)),*];

            /// Returns the number of this kind.
            pub fn kind(&self) -> u16 {
                match self { $(Self::$kind(_) => $number),* }
            }

            /// Returns the name of this kind.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name),* }
            }

            /// Returns whether a reader that does not know this kind must not write to the log.
            pub fn must_understand(&self) -> bool {
                match self { $(Self::$kind(_) => $must),* }
            }

            /// Decodes the JSON payload of a kind.
            ///
            /// Returns `None` for an unknown kind, and an error if the JSON does not match the
            /// kind.
            pub fn decode(kind: u16, json: &[u8]) -> Option<Result<Self, serde_json::Error>> {
                match kind {
                    $($number => Some(serde_json::from_slice(json).map(Self::$kind)),)*
                    _ => None,
                }
            }

            /// Encodes the payload as JSON.
            pub fn encode(&self) -> Vec<u8> {
                let mut json = Vec::new();
                self.encode_into(&mut json);
                json
            }

            /// Appends the payload as JSON to `out`.
            pub fn encode_into(&self, out: &mut Vec<u8>) {
                let mut json = serde_json::Serializer::new(out);
                // Maps with string keys and plain values always serialise.
                let _ = match self { $(Self::$kind(event) => event.serialize(&mut json)),* };
            }
        }
    };
}

payload_enum! {
    100 true SessionRegistered "session_registered",
    101 true AliasRenamed "alias_renamed",
    102 false SessionHeartbeat "session_heartbeat",
    103 true SessionEnded "session_ended",
    104 false DndChanged "dnd_changed",
    200 true MessageSent "message_sent",
    201 true InboxClaimed "inbox_claimed",
    202 true ClaimAcked "claim_acked",
    203 true ClaimReturned "claim_returned",
    204 false AckRefused "ack_refused",
    205 true MessagesExpired "messages_expired",
    206 true MessagesDeadLettered "messages_dead_lettered",
    207 true DeadLettersReturned "dead_letters_returned",
    208 true DeadLettersPurged "dead_letters_purged",
    300 true RoomCreated "room_created",
    301 true RoomJoined "room_joined",
    302 true RoomLeft "room_left",
    303 true RoomInvitation "room_invitation",
    304 true RoomVisibilityChanged "room_visibility_changed",
    305 true RoomDeleted "room_deleted",
    400 true LegacyImported "legacy_imported",
    401 true RootMoved "root_moved",
    402 false LegacyDetails "legacy_details",
    403 false LegacyDelivered "legacy_delivered",
    500 false LeaseRenewed "lease_renewed",
    501 true KeyBound "key_bound",
    502 true KeyUnbound "key_unbound",
    503 true CursorAdvanced "cursor_advanced",
    504 true MessagesRelayed "messages_relayed",
    505 true ReceiptsRecorded "receipts_recorded",
    506 false RoomLabelled "room_labelled",
    507 false PeerSeen "peer_seen",
}

/// Returns the name of a kind, or `None` for an unknown one.
pub fn kind_name(kind: u16) -> Option<&'static str> {
    Payload::KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}
