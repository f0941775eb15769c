//! Decisions and replies: the events of an accepted command, and what its caller receives.

use c2c_log_format::Payload;
use serde::Serialize;

use super::ids::{Alias, MessageId, NodeId, RoomId, SessionId};
use super::rejection::Rejection;
use super::state::MessageRef;

/// Result of an accepted command.
#[derive(Debug)]
pub struct Decision<R> {
    /// Events to append, in order, in one frame.
    pub events: Vec<Payload>,
    /// The reply, or a rejection that the events record.
    pub outcome: Result<R, Rejection>,
    /// Whether the reply must wait until the events are on disk.
    pub durable: bool,
}

impl<R> Decision<R> {
    /// A decision whose reply waits until the events are on disk.
    pub fn durable(events: Vec<Payload>, reply: R) -> Self {
        Self { events, outcome: Ok(reply), durable: true }
    }

    /// A decision whose events may be lost with the power, such as a claim.
    pub fn relaxed(events: Vec<Payload>, reply: R) -> Self {
        Self { events, outcome: Ok(reply), durable: false }
    }
}

/// Parts of a broadcast that were sent, and agents that it skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastReply {
    /// Message ids of the parts, in the order of `sent_to`.
    pub message_ids: Vec<MessageId>,
    /// Recipients: aliases, and addresses of agents on other nodes.
    pub sent_to: Vec<String>,
    /// Agents that are not alive.
    pub skipped: Vec<Skipped>,
}

/// Numbers of rows that an import added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReply {
    /// Number of sessions that were registered.
    pub sessions: usize,
    /// Number of messages that were added to a mailbox or to the outbox.
    pub messages: usize,
    /// Number of rooms that were created.
    pub rooms: usize,
    /// Number of agents that became members of a room.
    pub members: usize,
    /// Number of messages that were added to the history of a room.
    pub room_messages: usize,
    /// Number of dead letters that were added.
    pub dead_letters: usize,
    /// Number of delivered messages that were added to the history of a mailbox.
    pub delivered: usize,
}

impl ImportReply {
    /// Adds the numbers of another import.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.messages += other.messages;
        self.rooms += other.rooms;
        self.members += other.members;
        self.room_messages += other.room_messages;
        self.dead_letters += other.dead_letters;
        self.delivered += other.delivered;
    }
}

/// Answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The alias that the session holds now.
    pub alias: Alias,
    /// The registered session.
    pub session_id: SessionId,
    /// The requested alias, if it was not free.
    pub asked: Option<Alias>,
    /// The session that held the alias before.
    pub took_over: Option<SessionId>,
    /// Number of dead letters that returned to the mailbox.
    pub redelivered: usize,
}

/// Receipt of a sent message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Idempotency key of the message, created if the sender gave none.
    pub message_id: MessageId,
    /// Alias of the sender.
    pub from: Alias,
    /// Recipient as resolved: an alias, `alias@host` or a room id.
    pub to: String,
    /// Time of acceptance, microseconds since 1970 UTC; the first acceptance for a duplicate.
    pub sent_us: u64,
    /// Whether the message was sent before, with the same id.
    pub duplicate: bool,
    /// State of the recipient at the time of the reply.
    pub recipient_state: RecipientState,
    /// Members of a room that have the message in their mailbox.
    pub delivered_to: Vec<String>,
    /// Members of a room on other nodes.
    pub queued: Vec<String>,
    /// Members of a room that are not alive.
    pub skipped: Vec<Skipped>,
    /// Whether the message waits for a connector.
    pub outbox: bool,
}

/// The state of a recipient, as its sender sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientState {
    /// Its session is alive.
    Alive,
    /// Its session is dead, or no session holds the alias.
    Dead,
    /// The liveness of the recipient is unknown.
    Unknown,
    /// It does not want to be disturbed, whether or not it is alive.
    Dnd,
    /// It is on another node.
    Remote,
    /// The recipient is a room.
    Room,
}

impl RecipientState {
    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
            Self::Dnd => "dnd",
            Self::Remote => "remote",
            Self::Room => "room",
        }
    }
}

/// An agent that did not receive a message, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Alias of the agent, or its address at a relay.
    pub alias: String,
    /// `not_alive`, with an explanation if the message waits in the mailbox.
    pub reason: String,
}

/// Messages taken by a poll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Alias of the mailbox; empty if the caller has none.
    pub alias: Alias,
    /// Id of the claim; `None` if no message was taken.
    pub claim: Option<String>,
    /// In order of sequence.
    pub items: Vec<MessageRef>,
    /// Number of unread messages that were not taken.
    pub remaining: usize,
    /// Number of messages that another poller holds.
    pub claimed: usize,
}

/// Answer to a command about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomReply {
    /// Name of the room, as its creator spelt it.
    pub room_id: RoomId,
    /// The caller, or the invited agent.
    pub alias: String,
    /// Whether the command changed nothing: already joined, or already left.
    pub already: bool,
    /// Members after the command, before it for a deletion: aliases, or addresses of members on
    /// other nodes.
    pub members: Vec<String>,
}

/// Effect of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepPlan {
    /// Sessions whose process is dead.
    pub dropped: Vec<DroppedSession>,
    /// Memberships of those sessions.
    pub evicted: Vec<EvictedMember>,
    /// Number of messages that move to the dead letters.
    pub preserved: usize,
}

/// A session that a sweep ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedSession {
    /// The session.
    pub session_id: SessionId,
    /// Alias that it held.
    pub alias: Alias,
}

/// A membership in a room that a sweep ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictedMember {
    /// Name of the room, in lower case.
    pub room_id: RoomId,
    /// Alias of the member.
    pub alias: Alias,
}

/// Answer to the registration or renewal of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leased {
    /// Alias of the agent, without its node.
    pub alias: Alias,
    /// Node on which the agent runs.
    pub node_id: NodeId,
    /// Session id in the relay's log.
    pub session: SessionId,
    /// Whether the alias without a host means this agent.
    pub bare: bool,
    /// Number of dead letters that returned to the mailbox.
    pub redelivered: usize,
}

/// Leases that ended, and the consequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Leases that have expired, by session id.
    pub expired: Vec<ExpiredLease>,
    /// Number of mailboxes whose mail moved to the dead letters.
    pub pruned: usize,
}

/// A lease that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredLease {
    /// Alias of the agent, without its node.
    pub alias: Alias,
    /// Node on which the agent ran.
    pub node_id: NodeId,
    /// Session id in the relay's log.
    pub session_id: SessionId,
}
