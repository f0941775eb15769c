//! Which facts does a log hold, and what does each say?
//!
//! Every kind has a number that never changes and a JSON object as payload. Fields are only added;
//! readers ignore fields they do not know. A new kind that changes what older readers would
//! conclude is written with the must-understand bit: they may read on but must not write.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Sequence;
use crate::checksum::name_hash;
use crate::event::EventHead;

pub use room::{
    RoomCreated, RoomDeleted, RoomInvitation, RoomJoined, RoomLeft, RoomVisibilityChanged,
};
pub use swarm::{
    CursorAdvanced, KeyBound, KeyUnbound, LeaseRenewed, MessagesRelayed, PeerSeen, Receipt,
    ReceiptsRecorded, RoomLabelled,
};

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Evidence of one running process: enough to tell it from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in its own namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`), 0 if not known.
    #[serde(default)]
    pub start: u64,
    /// Boot id, empty if not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Inode of the pid namespace, 0 if not known.
    #[serde(default)]
    pub ns: u64,
}

/// Where an event was first written, when that was another log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Log id, 32 hex digits.
    pub log: String,
    /// Sequence in that log.
    pub sequence: Sequence,
    /// Node that wrote it.
    pub node: String,
    /// Digest of the event there; see [`crate::event::Event::digest`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

macro_rules! fact {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }
    };
}

mod room;
mod swarm;

fact! {
    /// A session took an alias (or came back to its own).
    SessionRegistered {
        /// The session.
        session_id: String,
        /// The alias, as spelt.
        alias: String,
        /// The mailbox of the alias identity: stable over restart and rename.
        mailbox: String,
        /// Machine or workspace.
        node_id: String,
        /// The agent's process, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// Kind of client, as `claude-code`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_type: Option<String>,
        /// Free text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// Working directory of the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
        /// Terminal that the agent runs in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tmux_location: Option<String>,
        /// The session that held the alias before, when it was taken over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        takeover_from: Option<String>,
        /// Set when the row came from an older file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        imported_from: Option<String>,
        /// Version of the program that wrote this.
        #[serde(default)]
        build: String,
    }
}

fact! {
    /// An alias identity changed its name; its mailbox stays.
    AliasRenamed {
        /// The mailbox.
        mailbox: String,
        /// Name before.
        old: String,
        /// Name after.
        new: String,
    }
}

fact! {
    /// A session is still there.
    SessionHeartbeat {
        /// The session.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
    }
}

fact! {
    /// A session is over; its alias identity and mailbox stay.
    SessionEnded {
        /// The session.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
        /// Why: `sweep`, `superseded`, `left`.
        reason: String,
    }
}

fact! {
    /// Do-not-disturb was switched.
    DndChanged {
        /// The mailbox.
        mailbox: String,
        /// On or off.
        on: bool,
        /// When it ends by itself, microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_us: Option<u64>,
    }
}

fact! {
    /// A message was accepted for a local mailbox, a remote address or a room.
    MessageSent {
        /// Idempotency key, minted once at the origin.
        message_id: String,
        /// Sender's alias at that time; `alias@node` when it came from another node.
        from: String,
        /// Sender's mailbox; empty for a sender without one here.
        #[serde(default)]
        from_mailbox: String,
        /// Recipient as addressed: alias, `alias@host`, or room id.
        to: String,
        /// The text.
        body: String,
        /// When it was accepted at the origin, microseconds.
        sent_us: u64,
        /// Where it goes.
        target: Target,
        /// `fail`, `blocking` or `urgent`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        /// message_id that this answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<String>,
        /// When it loses its use, microseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_us: Option<u64>,
        /// May wait for the recipient's next poll instead of a push.
        #[serde(default, skip_serializing_if = "is_false")]
        deferrable: bool,
        /// `send`, `send_all`, `import`, ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Log that first held it, when not this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One mailbox of this log.
    Mailbox(String),
    /// Every member of a room; the number is the room sequence when this log is the room's home.
    Room {
        /// The room.
        room_id: String,
        /// Room sequence given by the room's home, if known yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<u64>,
        /// Mailboxes of members that it was not for: a dead letter each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<String>,
    },
    /// The dead letters, at once: nobody can receive it.
    DeadLetter {
        /// The mailbox that it was for; empty for none.
        mailbox: String,
        /// The alias that it was for.
        alias: String,
        /// Why.
        reason: String,
    },
    /// The outbox, for another host.
    Outbox {
        /// Alias on the other host.
        alias: String,
        /// Host part of the address.
        host: String,
    },
}

fact! {
    /// Messages of a mailbox were taken, to be shown.
    InboxClaimed {
        /// Id of the claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// Sequences of direct messages.
        messages: Vec<Sequence>,
        /// Rooms, each up to and including a sequence.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        rooms: Vec<RoomRange>,
        /// Who shows them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// `cli_poll`, `mcp_poll`, `hook`, `listen`, ...
        surface: String,
        /// Whether only an explicit ack (or time) ends it.
        #[serde(default, skip_serializing_if = "is_false")]
        manual: bool,
        /// When it ends by time, microseconds; only for manual and foreign claims.
        #[serde(default)]
        until_us: u64,
    }
}

/// All messages of one room above a member's cursor, up to and including `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRange {
    /// The room.
    pub room_id: String,
    /// Last sequence taken.
    pub upto: Sequence,
    /// Messages in the range that are for this member.
    #[serde(default)]
    pub count: u64,
}

fact! {
    /// What a claim took has been shown.
    ClaimAcked {
        /// The claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// `written`, `read by client` or `acked by agent`: never more than is known.
        level: String,
    }
}

fact! {
    /// What a claim took goes back to the mailbox.
    ClaimReturned {
        /// The claim.
        claim: String,
        /// The mailbox.
        mailbox: String,
        /// `output_failed`, `cancelled`, `process_dead`, `expired`, `disconnected`.
        reason: String,
    }
}

fact! {
    /// An ack came for a claim that is no longer open.
    AckRefused {
        /// The claim that it named.
        claim: String,
        /// The mailbox.
        mailbox: String,
    }
}

fact! {
    /// Messages reached the end of their time to live unread.
    MessagesExpired {
        /// The mailbox.
        mailbox: String,
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

fact! {
    /// Messages moved to the dead letters.
    MessagesDeadLettered {
        /// The mailbox they were in; empty for the outbox.
        mailbox: String,
        /// The alias they were for.
        alias: String,
        /// Their sequences.
        messages: Vec<Sequence>,
        /// Why.
        reason: String,
    }
}

fact! {
    /// Dead letters went back to a mailbox.
    DeadLettersReturned {
        /// The mailbox.
        mailbox: String,
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

fact! {
    /// Dead letters were struck from the list; the log keeps them.
    DeadLettersPurged {
        /// Their sequences.
        messages: Vec<Sequence>,
    }
}

fact! {
    /// An older file was read in; the entries themselves are in the events beside this one.
    LegacyImported {
        /// File name under the root.
        file: String,
        /// Size in bytes and modification time in nanoseconds, so that an unchanged file is skipped.
        stamp: String,
        /// Keys of the entries taken: their message_id, or row hash and ordinal.
        entries: Vec<String>,
    }
}

fact! {
    /// This root moved; nothing may be written here any more. With an empty path: it arrived.
    RootMoved {
        /// Path of the new root.
        to: String,
    }
}

macro_rules! payloads {
    ($($number:literal $must:literal $kind:ident $name:literal),* $(,)?) => {
        /// One fact, decoded.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Payload { $($kind($kind)),* }

        impl Payload {
            /// All known kinds: number and name.
            pub const KINDS: &'static [(u16, &'static str)] = &[$(($number, $name)),*];

            /// The number of this kind.
            pub fn kind(&self) -> u16 {
                match self { $(Self::$kind(_) => $number),* }
            }

            /// The name of this kind.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name),* }
            }

            /// Whether readers that do not know this kind must not write.
            pub fn must_understand(&self) -> bool {
                match self { $(Self::$kind(_) => $must),* }
            }

            /// Reads a payload; `None` for an unknown kind.
            pub fn decode(kind: u16, json: &[u8]) -> Option<Result<Self, serde_json::Error>> {
                match kind {
                    $($number => Some(serde_json::from_slice(json).map(Self::$kind)),)*
                    _ => None,
                }
            }

            /// Writes the payload as JSON.
            pub fn encode(&self) -> Vec<u8> {
                let mut json = Vec::new();
                self.encode_into(&mut json);
                json
            }

            /// Appends the payload as JSON.
            pub fn encode_into(&self, out: &mut Vec<u8>) {
                let mut json = serde_json::Serializer::new(out);
                // Maps with string keys and plain values: serialisation has no way to fail.
                let _ = match self { $(Self::$kind(fact) => fact.serialize(&mut json)),* };
            }
        }
    };
}

payloads! {
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
    500 false LeaseRenewed "lease_renewed",
    501 true KeyBound "key_bound",
    502 true KeyUnbound "key_unbound",
    503 true CursorAdvanced "cursor_advanced",
    504 true MessagesRelayed "messages_relayed",
    505 true ReceiptsRecorded "receipts_recorded",
    506 false RoomLabelled "room_labelled",
    507 false PeerSeen "peer_seen",
}

/// Name of a kind; `None` for an unknown one.
pub fn kind_name(kind: u16) -> Option<&'static str> {
    Payload::KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// Scope hash of a room: rooms and mailboxes share the field, so rooms are marked.
pub fn room_hash(room_id: &str) -> u64 {
    let mut marked = String::with_capacity(room_id.len() + 1);
    marked.push('#');
    marked.push_str(&crate::id::fold(room_id));
    name_hash(&marked)
}

/// Name of the mailbox that an alias of a node has at a relay.
pub fn address(alias: &str, node_id: &str) -> String {
    crate::id::fold(&alloc::format!("{alias}@{node_id}"))
}

/// Scope hash of a mailbox; 0 for none.
pub fn mailbox_hash(mailbox: &str) -> u64 {
    if mailbox.is_empty() { 0 } else { name_hash(mailbox) }
}

impl Payload {
    /// The head under which this payload is written at `sequence`.
    pub fn head(&self, sequence: Sequence) -> EventHead {
        let (scope, actor, message) = self.hashes();
        EventHead {
            kind: self.kind(),
            must_understand: self.must_understand(),
            schema: 1,
            sequence,
            scope,
            actor,
            message,
        }
    }

    /// Hashes of the mailbox or room concerned, of the acting mailbox, and of the message_id.
    fn hashes(&self) -> (u64, u64, u64) {
        match self {
            Self::MessageSent(sent) => {
                let scope = match &sent.target {
                    Target::Mailbox(mailbox) => mailbox_hash(mailbox),
                    Target::Room { room_id, .. } => room_hash(room_id),
                    Target::DeadLetter { mailbox, .. } => mailbox_hash(mailbox),
                    Target::Outbox { .. } => 0,
                };
                (scope, mailbox_hash(&sent.from_mailbox), name_hash(&sent.message_id))
            }
            Self::RoomCreated(room) => (room_hash(&room.room_id), 0, 0),
            Self::RoomInvitation(room) => (room_hash(&room.room_id), 0, 0),
            Self::RoomVisibilityChanged(room) => (room_hash(&room.room_id), 0, 0),
            Self::RoomDeleted(room) => (room_hash(&room.room_id), 0, 0),
            Self::RoomJoined(member) => {
                (room_hash(&member.room_id), mailbox_hash(&member.mailbox), 0)
            }
            Self::RoomLeft(member) => {
                (room_hash(&member.room_id), mailbox_hash(&member.mailbox), 0)
            }
            Self::DeadLettersPurged(_)
            | Self::LegacyImported(_)
            | Self::RootMoved(_)
            | Self::CursorAdvanced(_)
            | Self::MessagesRelayed(_)
            | Self::ReceiptsRecorded(_) => (0, 0, 0),
            Self::LeaseRenewed(lease) => own(&lease.mailbox),
            Self::KeyBound(key) => own(&address(&key.alias, &key.node_id)),
            Self::KeyUnbound(key) => own(&address(&key.alias, &key.node_id)),
            Self::RoomLabelled(room) => (room_hash(&room.room_id), 0, 0),
            Self::PeerSeen(peer) => own(&address(&peer.alias, &peer.node_id)),
            Self::SessionRegistered(session) => own(&session.mailbox),
            Self::AliasRenamed(renamed) => own(&renamed.mailbox),
            Self::SessionHeartbeat(session) => own(&session.mailbox),
            Self::SessionEnded(session) => own(&session.mailbox),
            Self::DndChanged(changed) => own(&changed.mailbox),
            Self::InboxClaimed(claim) => own(&claim.mailbox),
            Self::ClaimAcked(claim) => own(&claim.mailbox),
            Self::ClaimReturned(claim) => own(&claim.mailbox),
            Self::AckRefused(claim) => own(&claim.mailbox),
            Self::MessagesExpired(moved) => own(&moved.mailbox),
            Self::MessagesDeadLettered(moved) => own(&moved.mailbox),
            Self::DeadLettersReturned(moved) => own(&moved.mailbox),
        }
    }
}

/// A fact about one mailbox by itself.
fn own(mailbox: &str) -> (u64, u64, u64) {
    let hash = mailbox_hash(mailbox);
    (hash, hash, 0)
}
