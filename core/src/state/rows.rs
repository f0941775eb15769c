//! Row types of the tables.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLetterReason, MessageSent, Origin, Process, ReportedLiveness, RoomRange, RoomVisibility,
};
use serde::{Deserialize, Serialize};

use crate::address::{Address, is_remote};
use crate::ids::{Alias, MessageId, NodeId, RoomId, SessionId};

/// One registered session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Session id; at a relay, `<session id>@<node id>`.
    pub session_id: SessionId,
    /// Name of the mailbox that the session holds.
    pub mailbox: String,
    /// Machine or workspace of the session.
    pub node_id: NodeId,
    /// The agent's process; `None` if unknown.
    pub process: Option<Process>,
    /// Kind of client, such as `claude-code`.
    pub client_type: Option<String>,
    /// Free text that describes the agent.
    pub role: Option<String>,
    /// Working directory of the agent.
    pub cwd: Option<String>,
    /// Terminal in which the agent runs.
    pub tmux_location: Option<String>,
    /// Time of the latest registration, microseconds since 1970 UTC.
    pub registered_us: u64,
    /// Time of the latest registration, heartbeat or renewal, microseconds since 1970 UTC.
    pub active_us: u64,
    /// Version of the program that wrote the registration.
    pub build: String,
    /// Whether the session is from an older file and has not registered itself.
    pub imported: bool,
    /// At a relay: the lease that proves liveness, in place of a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<SessionLease>,
}

/// Liveness for a limited time after a session was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLease {
    /// Duration of the lease from `seen_us`, seconds.
    pub ttl_s: u64,
    /// Time of the latest renewal, microseconds since 1970 UTC.
    pub seen_us: u64,
    /// Liveness of the agent as reported by its own node: the lease itself proves only that the
    /// connector is alive.
    pub liveness: ReportedLiveness,
}

/// One agent identity and its mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Stable name.
    pub name: String,
    /// The current alias as spelt by the agent.
    pub alias: Alias,
    /// Earlier aliases.
    pub former: Vec<Alias>,
    /// The session that holds the mailbox; `None` after it ended.
    pub session: Option<SessionId>,
    /// The previous session, if another session took the mailbox over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_by: Option<SessionId>,
    /// Time of its creation in this log, microseconds since 1970 UTC.
    pub created_us: u64,
    /// Whether do-not-disturb was turned on; see [`Self::is_dnd`].
    pub dnd: bool,
    /// Time at which it was turned on, microseconds since 1970 UTC; `None` if it is off.
    pub dnd_since_us: Option<u64>,
    /// Time at which it ends, microseconds since 1970 UTC; `None` if only the agent ends it.
    pub dnd_until_us: Option<u64>,
    /// The open claim; a mailbox has at most one.
    pub claim: Option<Claim>,
    /// At a relay: the node of the mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// At a relay: whether a connector fetches the mail by replication.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replicated: bool,
}

impl Mailbox {
    /// Creates a mailbox without a session.
    pub(super) fn new(name: String, alias: Alias, created_us: u64) -> Self {
        Self {
            name,
            alias,
            former: Vec::new(),
            session: None,
            lost_by: None,
            created_us,
            dnd: false,
            dnd_since_us: None,
            dnd_until_us: None,
            claim: None,
            node_id: None,
            replicated: false,
        }
    }

    /// Returns the sender that a message from this mailbox carries: the alias, at a relay with the
    /// node.
    pub fn address(&self) -> String {
        match &self.node_id {
            Some(node_id) => Address::on(&self.alias, node_id).to_string(),
            None => self.alias.clone().into(),
        }
    }

    /// Returns whether do-not-disturb is on at `now_us`.
    pub fn is_dnd(&self, now_us: u64) -> bool {
        self.dnd && self.dnd_until_us.is_none_or(|until| until > now_us)
    }
}

/// Messages taken for display and not yet acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Id of the claim.
    pub id: String,
    /// Sequences of the claimed direct messages.
    pub messages: Vec<Sequence>,
    /// Claimed ranges of rooms.
    pub rooms: Vec<RoomRange>,
    /// Claimed ranges of rooms that were left while the claim was open.
    #[serde(default)]
    pub left: Vec<RoomRange>,
    /// The process that shows the messages; `None` if unknown.
    pub process: Option<Process>,
    /// Where the messages are shown, such as `cli_poll` or `hook`.
    pub surface: String,
    /// Whether only an ack or the deadline ends the claim.
    pub manual: bool,
    /// Deadline, microseconds since 1970 UTC; 0 if the claim lasts as long as its process,
    /// `u64::MAX` for a drain.
    pub until_us: u64,
    /// Time of the claim, microseconds since 1970 UTC.
    pub claimed_us: u64,
}

impl Claim {
    /// Moves the claimed range of a room to `left`: its messages are direct mail from now on.
    pub(super) fn leave(&mut self, room: &str) {
        let is_room = |range: &RoomRange| fold(&range.room_id) == room;
        self.left.extend(self.rooms.iter().filter(|range| is_room(range)).cloned());
        self.rooms.retain(|range| !is_room(range));
    }
}

/// One unread direct message, or an unread room message that the room does not hold for the member.
///
/// The default is a message that was never displayed and does not expire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadMessage {
    /// Whether it was displayed before without an ack.
    #[serde(default, rename = "r", skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    /// Time of expiry, microseconds since 1970 UTC; `None` if it does not expire.
    #[serde(default, rename = "x", skip_serializing_if = "Option::is_none")]
    pub expires_us: Option<u64>,
    /// Whether it may wait for the recipient's next prompt or poll.
    #[serde(default, rename = "d", skip_serializing_if = "std::ops::Not::not")]
    pub deferrable: bool,
    /// The room, for a message of a room that was left or that an older version delivered to each
    /// member.
    #[serde(default, rename = "m", skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// Size of the body, bytes.
    #[serde(default, rename = "b")]
    pub bytes: u32,
    /// The addressee of its receipts, if it arrived from another log.
    #[serde(default, rename = "o", skip_serializing_if = "Option::is_none")]
    pub arrival: Option<MessageOrigin>,
}

/// The identity of a message from another log, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageOrigin {
    /// Idempotency key of the message.
    pub message_id: MessageId,
    /// `alias@node`.
    pub sender: String,
    /// Where the message was first written; an empty log id stands for this log.
    pub origin: Origin,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Name of the room, as its creator spelt it.
    pub room_id: RoomId,
    /// Which agents can see and join the room.
    pub visibility: RoomVisibility,
    /// Address of the creator; empty for an imported room.
    pub created_by: String,
    /// Time of the creation in this log, microseconds since 1970 UTC.
    pub created_us: u64,
    /// Entries that may join an invite-only room: aliases, addresses and `key:<public key>`.
    pub invited: Vec<String>,
    /// Sequence of its last message.
    pub head: Sequence,
    /// Room sequence of the next message.
    pub next_label: u64,
    /// Sequence since which the room is visible to other nodes; earlier messages stay on this node.
    #[serde(default)]
    pub open_since: Sequence,
    /// Whether a relay assigns the room sequences.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

impl Room {
    /// Returns whether other nodes may know of the room: a public room, or an invite-only room
    /// that was created on another node or to which an alias on another node was invited.
    pub fn is_shared(&self) -> bool {
        match self.visibility {
            RoomVisibility::Public => true,
            RoomVisibility::InviteOnly => {
                is_remote(&self.created_by) || self.invited.iter().any(|alias| is_remote(alias))
            }
            RoomVisibility::Local | RoomVisibility::Other(_) => false,
        }
    }
}

/// One member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Time of joining, microseconds since 1970 UTC.
    pub joined_us: u64,
    /// Sequence at which it joined.
    #[serde(default)]
    pub since: Sequence,
    /// Sequence up to which every message has been read.
    pub cursor: Sequence,
    /// Sequence up to which every message was displayed before and returned.
    pub redelivered_to: Sequence,
    /// At a relay: the node whose private room the member joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<NodeId>,
}

/// A deleted room that was visible to other nodes; some may not have fetched all its messages yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRoom {
    /// Sequence since which the room was visible to other nodes.
    pub open_since: Sequence,
    /// At a relay: members whose nodes have not fetched all messages.
    pub members: Vec<FormerMember>,
}

/// A member of a room at the time of its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMember {
    /// Mailbox of the member, `alias@node`.
    pub mailbox: String,
    /// Sequence at which it joined.
    pub since: Sequence,
    /// Sequence up to which every message has been read.
    pub cursor: Sequence,
}

/// The `source` of messages that were sent to a room before this node had a member in it, or that
/// an older version delivered. They are history and are not delivered.
pub const BACKFILL_SOURCE: &str = "past";

/// Whether a room message is history: it was sent before this node had a member in the room, or an
/// older version delivered it.
pub fn is_history(sent: &MessageSent) -> bool {
    sent.source.as_deref() == Some(BACKFILL_SOURCE)
}

/// One message of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMessageRow {
    /// Mailbox of the sender; empty if the sender has none in this log.
    #[serde(rename = "f")]
    pub from_mailbox: String,
    /// Room sequence, if one was assigned.
    #[serde(rename = "l")]
    pub label: Option<u64>,
    /// Size of the body, bytes.
    #[serde(default, rename = "b")]
    pub bytes: u32,
}

/// One message that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Mailbox that did not receive it; empty if the recipient has none in this log.
    pub mailbox: String,
    /// Alias or address of the recipient.
    pub alias: String,
    /// Why the message was not delivered.
    pub reason: DeadLetterReason,
    /// Time at which it became a dead letter, microseconds since 1970 UTC.
    pub at_us: u64,
    /// The addressee of its receipts, if it arrived from another log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<MessageOrigin>,
    /// What an older file records about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyLetter>,
}

/// What an older file records about a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyLetter {
    /// The session that did not receive it.
    pub session_id: Option<SessionId>,
    /// The room, for a room message.
    pub room: Option<RoomId>,
}

/// One message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Alias of the recipient on the other host.
    pub alias: Alias,
    /// Host part of the address.
    pub host: String,
    /// Time at which it was queued, microseconds since 1970 UTC.
    pub queued_us: u64,
    /// Idempotency key of the message.
    pub message_id: MessageId,
    /// Alias of the sender when it sent the message.
    pub from: Alias,
    /// Mailbox of the sender; empty if the sender has none in this log.
    pub from_mailbox: String,
    /// Log id of the relay that accepted the message, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// An alias of a node, and the key to which it is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Alias as the agent spells it.
    pub alias: Alias,
    /// Node of the alias.
    pub node_id: NodeId,
    /// Empty where credentials are ignored.
    pub public_key: String,
    /// Time of the binding, microseconds since 1970 UTC.
    pub bound_us: u64,
}

/// The replication cursor of one log in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationCursor {
    /// Node that keeps the other log.
    pub node_id: NodeId,
    /// Last sequence that was read; 0 at the beginning of the log.
    pub sequence: Sequence,
    /// Digest of the event at `sequence`; empty before the first event.
    pub digest: String,
    /// Key that owns the other log; empty where credentials are ignored.
    pub public_key: String,
    /// Sequence up to which a reader that started over receives only events it never confirmed.
    pub floor: Sequence,
}

/// A peer on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePeer {
    /// Alias of the peer, without its node.
    pub alias: Alias,
    /// Node on which the peer runs.
    pub node_id: NodeId,
    /// Kind of client, such as `claude-code`.
    pub client_type: Option<String>,
    /// Whether the alias without a host means this peer.
    pub bare: bool,
    /// Whether its lease has ended.
    pub gone: bool,
    /// Time of the latest report about the peer, microseconds since 1970 UTC.
    pub changed_us: u64,
}

/// Totals, and the relocation of the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of messages ever sent.
    pub messages: u64,
    /// Path of the new root, if this root moved.
    pub moved_to: Option<String>,
}
