//! Replication events: leases, keys, cursors, receipts, room sequences and remote peers.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::shared::{Origin, is_false};
use super::values::{CursorDirection, ReceiptLevel, ReportedLiveness, UnbindReason};
use crate::Sequence;

payload! {
    /// A session at a relay is alive for a limited time from now.
    LeaseRenewed {
        /// The session, as `<session id>@<node id>`.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
        /// Duration of the lease, seconds.
        ttl_s: u64,
        /// Liveness of the agent as reported by its own node.
        #[serde(default, skip_serializing_if = "ReportedLiveness::is_not_reported")]
        liveness: ReportedLiveness,
        /// Whether a connector fetches the session's mail by replication.
        #[serde(default, skip_serializing_if = "is_false")]
        replicated: bool,
    }
}

payload! {
    /// An alias of a node was bound to a key and is an address from now on.
    KeyBound {
        /// The alias as spelt by the agent.
        alias: String,
        /// The node.
        node_id: String,
        /// The key, base64url without padding; empty where credentials are ignored.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// The previous key, if its owner changed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<String>,
        /// Whether the alias without a host means this one.
        #[serde(default, skip_serializing_if = "is_false")]
        bare: bool,
        /// Whether a connector fetches the mail of the alias by replication.
        #[serde(default, skip_serializing_if = "is_false")]
        replicated: bool,
    }
}

payload! {
    /// An alias of a node is no longer bound to a key.
    KeyUnbound {
        /// The alias.
        alias: String,
        /// The node.
        node_id: String,
        /// The key to which it was bound; empty for none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// Why it is no longer bound.
        reason: UnbindReason,
    }
}

payload! {
    /// The cursor of a reader advanced: this node in another log, or another node in this one.
    CursorAdvanced {
        /// `In` if this node read the other log, `Out` if the other node read this one.
        direction: CursorDirection,
        /// Id of the other log, 32 hex digits.
        log: String,
        /// Node that keeps the other log.
        node_id: String,
        /// Sequence reached in the log that was read; 0 to start over.
        sequence: Sequence,
        /// Digest of the event at that sequence.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        digest: String,
        /// Key that owns the other log; empty where credentials are ignored.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// Set when the reader started over: up to this sequence it receives only events that it
        /// never confirmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        floor: Option<Sequence>,
    }
}

payload! {
    /// A relay accepted messages of the outbox; they stay open until a receipt arrives.
    MessagesRelayed {
        /// Their sequences.
        messages: Vec<Sequence>,
        /// Log id of the relay; empty if the relay that held them lost them.
        relay: String,
    }
}

payload! {
    /// Receipts were issued or received for messages that travel between logs.
    ReceiptsRecorded {
        /// The receipts.
        receipts: Vec<Receipt>,
        /// The log they were received from; `None` if they were issued in this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

/// The delivery status of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message.
    pub message_id: String,
    /// The sender of the message, `alias@node`, to whom the receipt is addressed.
    pub sender: String,
    /// Where the message was first written.
    pub origin: Origin,
    /// What the receipt reports.
    pub level: ReceiptLevel,
    /// The issuer: `alias@node` of the recipient, or the relay's name.
    pub by: String,
    /// When the receipt was issued, microseconds since 1970 UTC.
    pub at_us: u64,
    /// Error code of a rejected message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

payload! {
    /// The room's home node assigned room sequences to messages of this log that had none.
    RoomLabelled {
        /// The room.
        room_id: String,
        /// Pairs of sequence in this log and room sequence.
        labels: Vec<(Sequence, u64)>,
    }
}

payload! {
    /// A peer on another node appeared, changed or disappeared.
    PeerSeen {
        /// Its alias.
        alias: String,
        /// Its node.
        node_id: String,
        /// Kind of client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_type: Option<String>,
        /// Whether the alias without a host means this peer.
        #[serde(default, skip_serializing_if = "is_false")]
        bare: bool,
        /// Whether its lease has ended.
        #[serde(default, skip_serializing_if = "is_false")]
        gone: bool,
    }
}
