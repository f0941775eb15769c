//! Rows of the read models.

use c2c_log_format::payload::MessageSent;
use c2c_log_format::{Payload, Sequence};

use crate::decide::Liveness;
use crate::ids::{RoomId, SessionId};
use crate::state::{DeadLetter, Mailbox, Room, Session};

/// Liveness of a session at the time of the query.
pub type SessionLiveness<'a> = &'a dyn Fn(&Session) -> Liveness;

/// Member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMemberView {
    /// Its alias; for a member on another node, its address.
    pub alias: String,
    /// `None` if no session holds the alias, and for a member on another node.
    pub session_id: Option<SessionId>,
    /// Liveness of its session; dead if it has none, unknown for a member on another node.
    pub liveness: Liveness,
    /// Microseconds since 1970 UTC.
    pub joined_us: u64,
}

/// An event with its position and time in the log.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Sequence of the event.
    pub sequence: Sequence,
    /// Time of its frame, microseconds since 1970 UTC.
    pub time_us: u64,
    /// Decoded payload.
    pub payload: Payload,
}

/// One message with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Sequence of the message in this log.
    pub sequence: Sequence,
    /// The message as it was sent.
    pub sent: MessageSent,
    /// Room id of a room message.
    pub room_id: Option<RoomId>,
    /// Whether it was shown before without proof.
    pub redelivered: bool,
    /// Time of the ack, microseconds since 1970 UTC; set only in a history.
    pub drained_us: Option<u64>,
}

impl MessageView {
    /// A message outside of any inbox or history.
    pub fn new(sequence: Sequence, sent: MessageSent, room_id: Option<RoomId>) -> Self {
        Self { sequence, sent, room_id, redelivered: false, drained_us: None }
    }
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterView {
    /// Recipient, reason and time of the dead letter.
    pub letter: DeadLetter,
    /// `None` if the log no longer contains the message.
    pub message: Option<MessageView>,
}

/// One alias with the session that holds it.
#[derive(Debug, Clone)]
pub struct AgentView {
    /// The mailbox of the alias.
    pub mailbox: Mailbox,
    /// `None` if no session holds the alias.
    pub session: Option<Session>,
    /// Liveness of the session; dead if no session holds the alias.
    pub liveness: Liveness,
}

/// Everything that the log records about one message.
#[derive(Debug, Clone, Default)]
pub struct MessageTrace {
    /// The message; `None` only in an empty trace.
    pub message: Option<MessageView>,
    /// Oldest first.
    pub hops: Vec<TraceStep>,
    /// Time since which the message waits for a receipt from another machine, microseconds since 1970
    /// UTC; `None` if it does not wait.
    pub open_since_us: Option<u64>,
    /// Whether that wait has exceeded the limit; see [`Self::is_unconfirmed`].
    pub unconfirmed: bool,
}

impl MessageTrace {
    /// Whether the message waits for a receipt from another machine for longer than
    /// [`crate::limits::UNCONFIRMED_AFTER_S`].
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed
    }
}

/// One event in the life of a message.
#[derive(Debug, Clone)]
pub struct TraceStep {
    /// Sequence of the event.
    pub sequence: Sequence,
    /// Microseconds since 1970 UTC.
    pub time_us: u64,
    /// What happened, for example `claimed by cli_poll`.
    pub what: String,
    /// The mailbox, node or relay concerned; empty for none.
    pub who: String,
}

/// One room with its members.
#[derive(Debug, Clone)]
pub struct RoomView {
    /// Name, visibility and invitations of the room.
    pub room: Room,
    /// Members of the room.
    pub members: Vec<RoomMemberView>,
}

/// One message of a room's history.
#[derive(Debug, Clone)]
pub struct RoomMessageView {
    /// The message.
    pub message: MessageView,
    /// Its number in the room; `None` until the relay of a shared room has assigned one.
    pub room_sequence: Option<u64>,
}
