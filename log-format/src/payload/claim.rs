//! Claim events: messages taken for display, acknowledged or returned.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::shared::{Process, is_false};
use super::values::{AckLevel, ClaimReturnReason};
use crate::Sequence;

payload! {
    /// Messages of a mailbox were taken for display.
    InboxClaimed {
        /// Id of the claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// Sequences of direct messages.
        messages: Vec<Sequence>,
        /// Claimed room messages, as ranges.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rooms: Vec<RoomRange>,
        /// The process that displays the messages, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// The front end that displays them: `cli_poll`, `mcp_poll`, `hook`, `listen`, ...
        surface: String,
        /// Whether only an explicit ack or a timeout ends the claim.
        #[serde(default, skip_serializing_if = "is_false")]
        manual: bool,
        /// When the claim times out, microseconds since 1970 UTC; only for manual and foreign
        /// claims.
        #[serde(default)]
        until_us: u64,
    }
}

/// All messages of one room above a member's cursor, up to and including `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRange {
    /// The room.
    pub room_id: String,
    /// Sequence of the last claimed message.
    pub upto: Sequence,
    /// Number of messages in the range that are for this member.
    #[serde(default)]
    pub count: u64,
}

payload! {
    /// The messages of a claim were displayed.
    ClaimAcked {
        /// The claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// How they were displayed: never more than is known.
        level: AckLevel,
    }
}

payload! {
    /// The messages of a claim returned to the mailbox.
    ClaimReturned {
        /// The claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// Why they returned.
        reason: ClaimReturnReason,
    }
}

payload! {
    /// An ack named a claim that is no longer open.
    AckRefused {
        /// The claim named by the ack.
        claim: String,
        /// The mailbox.
        mailbox: String,
    }
}
