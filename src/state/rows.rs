//! What does each projection remember?

use c2c_log_format::Sequence;
use c2c_log_format::payload::{Origin, Process, RoomRange};
use serde::{Deserialize, Serialize};

/// One registered session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub session_id: String,
    pub mailbox: String,
    pub node_id: String,
    pub process: Option<Process>,
    pub client_type: Option<String>,
    pub role: Option<String>,
    pub cwd: Option<String>,
    pub tmux_location: Option<String>,
    pub registered_us: u64,
    pub active_us: u64,
    pub build: String,
    pub imported: bool,
    /// At a relay its lease is the evidence of life, not a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// Life for some time from when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub ttl_s: u64,
    pub seen_us: u64,
    /// What its own node says of the agent: a lease proves the connector only.
    pub liveness: String,
}

/// One alias identity and its mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Stable name.
    pub name: String,
    /// The alias today, as spelt.
    pub alias: String,
    /// Earlier aliases.
    pub former: Vec<String>,
    /// The session that holds it; `None` when the last one ended.
    pub session: Option<String>,
    /// The session that held it before, if that was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_by: Option<String>,
    pub created_us: u64,
    pub dnd: bool,
    pub dnd_since_us: Option<u64>,
    pub dnd_until_us: Option<u64>,
    /// At most one claim is open.
    pub claim: Option<Claim>,
    /// At a relay: the node that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// At a relay: whether a connector fetches its mail by replication.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicated: bool,
}

impl Mailbox {
    /// What a message from here carries as its sender: with the node at a relay.
    pub fn address(&self) -> String {
        match &self.node_id {
            Some(node_id) => format!("{}@{node_id}", self.alias),
            None => self.alias.clone(),
        }
    }
}

impl Mailbox {
    /// Whether its owner is not to be disturbed now.
    pub fn is_dnd(&self, now_us: u64) -> bool {
        self.dnd && self.dnd_until_us.is_none_or(|until| until > now_us)
    }
}

/// Messages on their way to being shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub id: String,
    pub messages: Vec<Sequence>,
    pub rooms: Vec<RoomRange>,
    /// Rooms that were left while the claim was open, each up to a sequence.
    #[serde(default)]
    pub left: Vec<RoomRange>,
    pub process: Option<Process>,
    pub surface: String,
    pub manual: bool,
    pub until_us: u64,
    pub claimed_us: u64,
}

/// One unread direct message (or one of a room that was left unread).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    #[serde(default, rename = "r", skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    #[serde(default, rename = "x", skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<u64>,
    #[serde(default, rename = "d", skip_serializing_if = "std::ops::Not::not")]
    pub deferrable: bool,
    #[serde(default, rename = "m", skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Size of the body.
    #[serde(default, rename = "b")]
    pub bytes: u32,
    /// Whom its receipts are for, when it came from another log.
    #[serde(default, rename = "o", skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
}

/// A message from another log, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    pub message_id: String,
    /// `alias@node`.
    pub sender: String,
    pub origin: Origin,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub room_id: String,
    pub visibility: String,
    pub created_by: String,
    pub created_us: u64,
    pub invited: Vec<String>,
    /// Sequence of its last message.
    pub head: Sequence,
    /// Room sequence of the next message.
    pub next_label: u64,
    /// What was said up to here was said while the room was this machine's alone.
    #[serde(default)]
    pub open_since: Sequence,
    /// Whether a relay gives the room sequences.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

impl Room {
    /// Whether others may know of it: a public one, or one that somebody elsewhere was invited to.
    pub fn is_shared(&self) -> bool {
        match self.visibility.as_str() {
            "public" => true,
            "invite_only" => {
                self.created_by.contains('@')
                    || self.invited.iter().any(|alias| alias.contains('@'))
            }
            _ => false,
        }
    }
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub joined_us: u64,
    /// Sequence at which it joined.
    #[serde(default)]
    pub since: Sequence,
    /// Everything up to here has been read.
    pub cursor: Sequence,
    /// Everything up to here was shown before and came back.
    pub redelivered_to: Sequence,
    /// At a relay: node whose private room it meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// A room that was for other machines, too, until it was deleted: what was said there may still be on
/// its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRoom {
    /// It was open to others from this sequence on.
    pub open_since: Sequence,
    /// At a relay, members whose nodes have not fetched all of it.
    pub members: Vec<FormerMember>,
}

/// Who was in a room when it was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMember {
    pub mailbox: String,
    /// Sequence at which it joined.
    pub since: Sequence,
    /// Everything up to here has been read.
    pub cursor: Sequence,
}

/// Source of what was said in a room before this node had anybody in it: history, and nobody's mail.
pub const PAST: &str = "past";

/// One message of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMessage {
    #[serde(rename = "f")]
    pub from_mailbox: String,
    #[serde(rename = "l")]
    pub label: Option<u64>,
    /// Size of the body.
    #[serde(default, rename = "b")]
    pub bytes: u32,
}

/// One message that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub mailbox: String,
    pub alias: String,
    pub reason: String,
    pub at_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
}

/// One message that waits for a connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    pub alias: String,
    pub host: String,
    pub queued_us: u64,
    pub message_id: String,
    pub from: String,
    pub from_mailbox: String,
    /// Log id of the relay that holds it, once one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// An alias of a node, and the key that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub alias: String,
    pub node_id: String,
    /// Empty where credentials are ignored.
    pub public_key: String,
    pub bound_us: u64,
}

/// How far a log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub node_id: String,
    pub sequence: Sequence,
    /// Digest of the event there; empty before the first.
    pub digest: String,
    /// Key that the other log belongs to; empty where credentials are ignored.
    pub public_key: String,
    /// The reader began anew: up to here it gets only what it never confirmed.
    pub floor: Sequence,
}

/// A peer on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePeer {
    pub alias: String,
    pub node_id: String,
    pub client_type: Option<String>,
    /// Whether the alias without a host means this one.
    pub bare: bool,
    /// Whether its lease is over.
    pub gone: bool,
    pub changed_us: u64,
}

/// Totals and the like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub messages: u64,
    pub moved_to: Option<String>,
}
