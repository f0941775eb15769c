//! Commands: requests that the rules may reject, and their inputs.

use c2c_log_format::payload::{
    AckLevel, ClaimReturnReason, CursorDirection, ReportedLiveness, RoomVisibility,
};
use c2c_log_format::{Payload, Sequence};

use crate::batch::{Batch, Position, RequestAnswer};
use crate::facts::Facts;
use crate::foreign::ForeignFile;
use crate::ids::{Alias, MessageId, NodeId, RoomId, SessionId};
use crate::rejection::Rejection;
use crate::reply::Decision;
use crate::state::State;

/// A request that the rules may reject.
///
/// [`crate::decide`] implements it for each command. The reply type belongs to the command, so a
/// caller cannot receive the reply of another one.
pub trait Command {
    /// What the caller receives if the command is accepted.
    type Reply;

    /// Decides the command: the events to append and the reply, or the rejection. Callers use
    /// [`crate::decide::decide`], which also checks that the root accepts commands.
    fn decide_on(
        &self,
        state: &State,
        facts: &Facts<'_>,
    ) -> Result<Decision<Self::Reply>, Rejection>;

    /// The logged messages that the decision needs as [`Facts::prior`].
    fn prior(&self, _: &State) -> Prior {
        Prior::None
    }

    /// Whether rows of legacy files are imported before the decision.
    fn imports_older_files(&self) -> bool {
        true
    }

    /// Whether a root that has moved accepts the command.
    fn opens_moved_root(&self) -> bool {
        false
    }
}

/// Logged messages that a decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prior {
    /// No message.
    None,
    /// Those with one of these message ids.
    Ids(Vec<MessageId>),
    /// Those at these sequences.
    Sequences(Vec<Sequence>),
}

/// Registers an alias for the caller's session. Without one, the session keeps its alias or takes
/// the one of its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    /// Requested alias.
    pub alias: Option<Alias>,
}

/// Changes the caller's alias; the mailbox stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// New alias.
    pub alias: Alias,
}

/// Records that the caller's session is active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat;

/// Ends the caller's session, because its client reports that the conversation is over. The mailbox
/// keeps its mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndSession;

/// Turns do-not-disturb on or off, optionally until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDnd {
    /// True to turn it on, false to turn it off.
    pub on: bool,
    /// Time at which it ends, microseconds since 1970 UTC; `None` if only the caller ends it.
    pub until_us: Option<u64>,
}

/// Sends one message to every agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendAll {
    /// Text of the message.
    pub body: String,
    /// Aliases that do not get the message.
    pub exclude: Vec<String>,
    /// `fail`, `blocking` or `urgent`.
    pub tag: Option<String>,
    /// The alias that the caller wants to send as.
    pub from: Option<Alias>,
    /// A repetition with the same id reaches only agents that the broadcast has not reached.
    pub message_id: Option<MessageId>,
}

/// Takes unread messages to show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimInbox {
    /// Maximum number of messages.
    pub limit: usize,
    /// Maximum total size of their bodies. The first message is taken regardless of its size.
    pub max_bytes: usize,
    /// Where the messages will be shown, as the log records it.
    pub surface: String,
    /// Whether the caller acknowledges the claim itself, before a deadline.
    pub manual: bool,
    /// Whether to include deferrable messages.
    pub deferrable: bool,
}

/// Confirms that the messages of a claim were shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckClaim {
    /// Id of the claim.
    pub claim: String,
    /// How the messages were shown, as far as the caller knows.
    pub level: AckLevel,
}

/// Releases a claim: its messages become unread again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseClaim {
    /// Id of the claim.
    pub claim: String,
    /// Why the claim ends without an ack, as the log records it.
    pub reason: ClaimReturnReason,
}

/// Creates a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRoom {
    /// Name of the new room.
    pub room_id: RoomId,
    /// Which agents can see and join the room.
    pub visibility: RoomVisibility,
    /// Aliases to invite.
    pub invite: Vec<String>,
    /// Whether the creator becomes a member.
    pub join: bool,
}

/// Joins a room; creates a public one if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRoom {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// The alias that the caller wants to join as.
    pub from: Option<Alias>,
}

/// Leaves a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveRoom {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// The alias that the caller wants to leave as.
    pub from: Option<Alias>,
}

/// Sends a message to all members of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendToRoom {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// The message; its recipient is replaced by the room.
    pub send: Send,
}

/// Invites an alias to a room, or withdraws the invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteToRoom {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// An alias, an address or a key.
    pub alias: String,
    /// True to invite, false to withdraw the invitation.
    pub invited: bool,
}

/// Changes which agents can see and join a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetRoomVisibility {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// Which agents can see and join the room from now on.
    pub visibility: RoomVisibility,
}

/// Deletes a room. With other members in it, only if `force` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRoom {
    /// Name of the room, in any case.
    pub room_id: RoomId,
    /// Whether to delete a room that has other members.
    pub force: bool,
}

/// Ends the sessions whose process is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep;

/// Delivers dead letters again; all of them if `messages` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayDeadLetters {
    /// Sequences of the messages.
    pub messages: Vec<Sequence>,
    /// The recipient instead of their own mailbox.
    pub to: Option<String>,
}

/// Deletes dead letters; all of them if `messages` is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeDeadLetters {
    /// Sequences of the messages.
    pub messages: Vec<Sequence>,
}

/// Imports the JSON files of an older version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFiles {
    /// Files, or parts of files, to import in this order.
    pub files: Vec<ForeignFile>,
}

/// Closes this root, which moved to `to`. With an empty path, opens it at its new location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRoot {
    /// Path of the new root.
    pub to: String,
}

/// At a relay: starts the leases of all agents on a node together. A rejected one does not affect
/// the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterLeases(pub Vec<LeaseRequest>);

/// At a relay: ends the leases that have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectLeases;

/// At a relay: releases an alias, or `alias@node`, from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnbindAlias {
    /// Alias, or `alias@node`.
    pub alias: String,
}

/// At a relay: moves everything that belongs to the caller's key to another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateKey {
    /// The new key, base64url without padding.
    pub public_key: String,
}

/// At a relay: takes mail over HTTP. A repetition with the same id returns the same mail. A
/// different id confirms that the mail taken before is stored safely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainInbox {
    /// Id chosen by the caller; a drain without one cannot be repeated.
    pub drain_id: Option<String>,
    /// As in [`ClaimInbox`].
    pub limit: usize,
    /// As in [`ClaimInbox`].
    pub max_bytes: usize,
}

/// Takes in events of another log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveBatch(pub Batch);

/// At a relay: a node confirms that it has read this log up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmPosition {
    /// Log id of the node.
    pub log: String,
    /// Node that keeps that log.
    pub node_id: NodeId,
    /// Position in this log that the node has reached.
    pub position: Position,
}

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Send {
    /// Recipient: an alias, or `alias@host`.
    pub to: String,
    /// Text of the message.
    pub body: String,
    /// The alias that the caller wants to send as.
    pub from: Option<Alias>,
    /// Idempotency key; created if absent.
    pub message_id: Option<MessageId>,
    /// `fail`, `blocking` or `urgent`.
    pub tag: Option<String>,
    /// Id of the message that this one replies to.
    pub reply_to: Option<MessageId>,
    /// Seconds until an unread message expires.
    pub ttl_s: Option<u64>,
    /// Whether the message may wait for the recipient's next prompt or poll.
    pub deferrable: bool,
}

/// Registration of an alias of a node at a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Alias to register, as the agent spells it.
    pub alias: Alias,
    /// Node on which the agent runs.
    pub node_id: NodeId,
    /// Session id of the agent on its node.
    pub session_id: SessionId,
    /// Kind of client, such as `claude-code`.
    pub client_type: Option<String>,
    /// Duration of the lease, in seconds.
    pub ttl_s: u64,
    /// Liveness of the agent as reported by its node.
    pub liveness: ReportedLiveness,
    /// Whether a connector fetches the agent's mail. Its address with the node is then sufficient,
    /// so a bare alias that another node holds is not a conflict.
    pub replicated: bool,
}

/// Records an answer of a relay of the older generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAnswer {
    /// Log that stands for the relay.
    pub relay: String,
    /// Log that stands for the requests to it.
    pub attempts: String,
    /// Name of the relay.
    pub relay_name: String,
    /// Id of this log.
    pub log: String,
    /// The event that was sent.
    pub sequence: Sequence,
    /// The same event, if it concerns a room.
    pub room_event: Option<Payload>,
    /// The answer.
    pub answer: RequestAnswer,
}

/// Moves a cursor that no batch moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvanceCursor {
    /// Which side reads.
    pub direction: CursorDirection,
    /// The other log.
    pub log: String,
    /// Node that keeps the other log.
    pub node_id: NodeId,
    /// The new position.
    pub position: Position,
}

/// Renewal of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseRenewal {
    /// Node on which the agent runs.
    pub node_id: NodeId,
    /// Session id of the agent on its node.
    pub session_id: SessionId,
    /// Liveness of the agent as reported by its node.
    pub liveness: ReportedLiveness,
}
