//! Which facts say what a log knows of other logs: leases, keys, cursors, receipts, peers?

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Origin, is_false};
use crate::Sequence;

fact! {
    /// A session at a relay is alive for some time from now.
    LeaseRenewed {
        /// The session, as `<session id>@<node id>`.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
        /// How long, seconds.
        ttl_s: u64,
        /// What its own node says of the agent: `alive`, `dead` or `unknown`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        liveness: String,
        /// Whether a connector fetches its mail by replication.
        #[serde(default, skip_serializing_if = "is_false")]
        replicated: bool,
    }
}

fact! {
    /// An alias of a node belongs to a key from now on, and is an address.
    KeyBound {
        /// The alias, as spelt.
        alias: String,
        /// The node.
        node_id: String,
        /// The key, base64url without padding; empty where credentials are ignored.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// The key before, when it was changed by its owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<String>,
        /// Whether the alias without a host means this one.
        #[serde(default, skip_serializing_if = "is_false")]
        bare: bool,
        /// Whether a connector fetches its mail by replication.
        #[serde(default, skip_serializing_if = "is_false")]
        replicated: bool,
    }
}

fact! {
    /// An alias of a node belongs to nobody any more.
    KeyUnbound {
        /// The alias.
        alias: String,
        /// The node.
        node_id: String,
        /// The key that it belonged to; empty for none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// `admin` or `expired`.
        reason: String,
    }
}

fact! {
    /// How far another log was read, or has read this one.
    CursorAdvanced {
        /// `in`: read by us; `out`: ours, read by the other.
        direction: String,
        /// Log id of the other log, 32 hex digits.
        log: String,
        /// Node that keeps it.
        node_id: String,
        /// Sequence in the log that was read; 0 to begin again.
        sequence: Sequence,
        /// Digest of the event there.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        digest: String,
        /// Key that the other log belongs to; empty where credentials are ignored.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        public_key: String,
        /// The reader began anew: up to here it gets only what it never confirmed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        floor: Option<Sequence>,
    }
}

fact! {
    /// A relay holds these messages of the outbox; they stay open until a receipt comes.
    MessagesRelayed {
        /// Their sequences.
        messages: Vec<Sequence>,
        /// Log id of the relay; empty when the one that held them lost them.
        relay: String,
    }
}

fact! {
    /// What became of messages on their way from one log to another.
    ReceiptsRecorded {
        /// The receipts.
        receipts: Vec<Receipt>,
        /// Where they came from; `None` when they were issued here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message.
    pub message_id: String,
    /// Its sender, `alias@node`: whom this is for.
    pub sender: String,
    /// Where the message was first written.
    pub origin: Origin,
    /// `delivered`, `acked` or `refused`.
    pub level: String,
    /// Who says so: `alias@node` of the recipient, or the relay's name.
    pub by: String,
    /// When, microseconds.
    pub at_us: u64,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

fact! {
    /// The room's home gave room sequences to messages that were written here without.
    RoomLabelled {
        /// The room.
        room_id: String,
        /// Sequence in this log, room sequence.
        labels: Vec<(Sequence, u64)>,
    }
}

fact! {
    /// A peer on another node came, changed or went.
    PeerSeen {
        /// Its alias.
        alias: String,
        /// Its node.
        node_id: String,
        /// Kind of client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_type: Option<String>,
        /// Whether the alias without a host means this one.
        #[serde(default, skip_serializing_if = "is_false")]
        bare: bool,
        /// Whether its lease is over.
        #[serde(default, skip_serializing_if = "is_false")]
        gone: bool,
    }
}
