//! Rows of the JSON files of an older version, as an import receives them.

use c2c_log_format::payload::{Process, RoomVisibility};

use crate::ids::{Alias, MessageId, RoomId, SessionId};
use crate::reply::ImportReply;

/// One file of an older version, or a part of one, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignFile {
    /// Root of the file, with a slash at its end; empty for the root of the log.
    pub origin: String,
    /// File name relative to that root.
    pub name: String,
    /// What the log records once these rows are imported; an unchanged file is not read again.
    pub stamp: String,
    /// The record that the rows follow. If the log has another one, another process has imported
    /// rows of this file meanwhile, and these are not imported. `None` if the rows have keys.
    pub expected: Option<String>,
    /// The rows.
    pub rows: ForeignRows,
}

impl ForeignFile {
    /// Creates a file whose rows have keys.
    pub fn new(origin: &str, name: &str, stamp: String, rows: ForeignRows) -> Self {
        let (origin, name) = (origin.to_owned(), name.to_owned());
        Self { origin, name, stamp, expected: None, rows }
    }

    /// Returns the name under which the log records the file.
    pub fn path(&self) -> String {
        format!("{}{}", self.origin, self.name)
    }
}

/// Rows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignRows {
    /// Rows of `registry.json`.
    Registry(Vec<ForeignSession>),
    /// Rows of an inbox or of the outbox.
    Mail(Vec<ForeignMessage>),
    /// A room, as its `meta.json` describes it.
    Room(ForeignRoom),
    /// Members of a room.
    Members {
        /// Name of the room in the older root.
        room_id: RoomId,
        /// The members.
        members: Vec<ForeignMember>,
    },
    /// Lines of a room's history.
    RoomHistory {
        /// Name of the room in the older root.
        room_id: RoomId,
        /// The lines, oldest first.
        lines: Vec<ForeignMessage>,
    },
    /// Messages that could not be delivered.
    DeadLetters(Vec<ForeignDeadLetter>),
    /// Messages that were delivered.
    Delivered(Vec<ForeignDelivery>),
    /// The last messages of a public room at an older relay.
    RelayHistory {
        /// Name of the room.
        room_id: RoomId,
        /// The messages, oldest first.
        messages: Vec<ForeignMessage>,
    },
}

impl ForeignRows {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Registry(rows) => rows.len(),
            Self::Mail(rows) => rows.len(),
            Self::Room(_) => 1,
            Self::Members { members, .. } => members.len(),
            Self::RoomHistory { lines, .. } => lines.len(),
            Self::DeadLetters(rows) => rows.len(),
            Self::Delivered(rows) => rows.len(),
            Self::RelayHistory { messages, .. } => messages.len(),
        }
    }

    /// Returns the room that the rows need.
    pub fn room_id(&self) -> Option<&RoomId> {
        match self {
            Self::Members { room_id, .. } | Self::RoomHistory { room_id, .. } => Some(room_id),
            _ => None,
        }
    }

    /// Returns the number of rows under what they are.
    pub fn count(&self) -> ImportReply {
        let mut count = ImportReply::default();
        let number = match self {
            Self::Registry(_) => &mut count.sessions,
            Self::Mail(_) => &mut count.messages,
            Self::Room(_) => &mut count.rooms,
            Self::Members { .. } => &mut count.members,
            Self::RoomHistory { .. } | Self::RelayHistory { .. } => &mut count.room_messages,
            Self::DeadLetters(_) => &mut count.dead_letters,
            Self::Delivered(_) => &mut count.delivered,
        };
        *number = self.len();
        count
    }

    /// Returns whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A row of `registry.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignSession {
    /// Identifies the row, so that it is imported once.
    pub key: String,
    /// Session id as the file spells it.
    pub session_id: SessionId,
    /// Alias as the file spells it.
    pub alias: Alias,
    /// The agent's process, without boot id and namespace.
    pub process: Option<Process>,
    /// Kind of client, such as `claude-code`.
    pub client_type: Option<String>,
    /// Free text.
    pub role: Option<String>,
    /// Working directory of the agent.
    pub cwd: Option<String>,
    /// Time of the registration, microseconds since 1970 UTC; `None` if the row has none.
    pub registered_us: Option<u64>,
}

/// A message of an older file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignMessage {
    /// Identifies the row among those that are not equal to it, so that it is imported once. Empty
    /// in a file of lines, which is imported in order.
    pub key: String,
    /// Number of equal rows before this one in its file.
    pub ordinal: usize,
    /// Identifies the text in the mailbox of the session, without its time: a file of delivered
    /// messages records nothing else of a row without an id. `None` if the row has an id.
    pub text_key: Option<String>,
    /// Session whose inbox contained it; `None` in the outbox and in rooms.
    pub session_id: Option<SessionId>,
    /// Idempotency key in the row; the import creates one if it is absent.
    pub message_id: Option<MessageId>,
    /// Name of the sender; one that cannot be an alias is imported as `unknown`.
    pub from: String,
    /// Recipient as the row addresses it.
    pub to: String,
    /// Text of the message.
    pub body: String,
    /// Time of sending, microseconds since 1970 UTC; `None` if the row has none.
    pub sent_us: Option<u64>,
    /// Whether the message may wait for the recipient's next prompt or poll.
    pub deferrable: bool,
}

/// A row of `dead-letter.jsonl` or of the outbox's dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDeadLetter {
    /// The message; its session did not receive it.
    pub message: ForeignMessage,
    /// Identifies the row of the inbox that the older version moved here.
    pub inbox_key: String,
    /// Why it was not delivered; `None` if the row does not say so, as after a sweep.
    pub reason: Option<String>,
    /// Time at which delivery was given up, microseconds since 1970 UTC.
    pub at_us: Option<u64>,
}

/// A row of `archive/<session>.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignDelivery {
    /// The message; its session received it.
    pub message: ForeignMessage,
    /// Time of delivery, microseconds since 1970 UTC; `None` if the row has none.
    pub drained_us: Option<u64>,
    /// How it was delivered, as the older version calls it; empty if unknown.
    pub surface: String,
}

/// A room and its rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRoom {
    /// Name of the room in the older root.
    pub room_id: RoomId,
    /// Which agents can see and join the room.
    pub visibility: RoomVisibility,
    /// Alias of its creator; empty if unknown.
    pub created_by: String,
    /// Aliases that may join.
    pub invited: Vec<String>,
    /// Whether c2c itself has written the file: it describes the room of that name in this log.
    pub is_export: bool,
}

/// A row of `members.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignMember {
    /// Identifies the row, so that it is imported once.
    pub key: String,
    /// Alias of the member.
    pub alias: Alias,
    /// Its session, if the row names one.
    pub session_id: Option<SessionId>,
    /// Time of joining, microseconds since 1970 UTC.
    pub joined_us: Option<u64>,
}
