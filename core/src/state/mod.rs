//! The state of a broker: everything known after reading a log up to some sequence.
//!
//! The state is pure: it uses no file and no clock. [`State::apply`] never fails, so every log can
//! be replayed. The tables hold sequences, never message bodies.

mod apply;
mod checkpoint;
mod keys;
mod queries;
mod replication;
mod rows;
mod table;

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::{crc32, sha256};
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use c2c_log_format::scan::FramePosition;

pub use checkpoint::{BaseDamage, Bytes, CheckpointBase, Rebuild};
pub use keys::{compound_key, second_name_in_key, sequence_in_key};
pub use queries::{MessageRef, Unread};
pub use rows::{
    BACKFILL_SOURCE, Binding, Claim, DeadLetter, DeletedRoom, FormerMember, LegacyLetter, Mailbox,
    Member, MessageOrigin, OutboxMessage, RemotePeer, ReplicationCursor, Room, RoomMessageRow,
    Session, SessionLease, Totals, UnreadMessage, is_history,
};
pub use table::Table;

/// Version of the tables below. A checkpoint of another version is not used.
pub const PROJECTION: u16 = 7;

/// All projections at one sequence.
#[derive(Clone)]
pub struct State {
    /// Sessions by session id.
    pub sessions: Table<Session>,
    /// Mailbox name by folded alias.
    pub aliases: Table<String>,
    /// Mailboxes by name.
    pub mailboxes: Table<Mailbox>,
    /// Unread direct messages by mailbox and sequence.
    pub inbox: Table<UnreadMessage>,
    /// Rooms by folded room id.
    pub rooms: Table<Room>,
    /// Members by room and mailbox.
    pub members: Table<Member>,
    /// Memberships by mailbox and room: the reverse of `members`.
    pub memberships: Table<()>,
    /// Room messages by room and sequence.
    pub room_messages: Table<RoomMessageRow>,
    /// Dead letters by mailbox (empty for the outbox) and sequence of the message.
    pub dead_letters: Table<DeadLetter>,
    /// Messages for other nodes by sequence of the message.
    pub outbox: Table<OutboxMessage>,
    /// Keys of entries imported from legacy files, and stamps of those files.
    pub imported: Table<String>,
    /// Totals, in a single row with an empty key.
    pub meta: Table<Totals>,
    /// Mailbox name by the session that last lost the mailbox to another session.
    pub superseded: Table<String>,
    /// Keys bound to aliases at a relay, by node and alias.
    pub bindings: Table<Binding>,
    /// Replication cursors by direction and log id.
    pub cursors: Table<ReplicationCursor>,
    /// Aliases on other nodes by alias and node.
    pub peers: Table<RemotePeer>,
    /// Mailbox and sequence of open messages from other logs, by sender and message_id.
    pub arrivals: Table<(String, Sequence)>,
    /// Sequence of each message in the outbox, by sender's alias and message_id.
    pub departures: Table<Sequence>,
    /// Deleted rooms by room and sequence of the deletion.
    pub deleted_rooms: Table<DeletedRoom>,
    /// Sequence of the last applied event.
    pub head: Sequence,
    /// Whether an unknown must-understand kind was applied. If so, nothing may be written.
    pub upgrade_needed: bool,
    /// Number of applied events of unknown kinds.
    pub skipped: u64,
}

impl Default for State {
    fn default() -> Self {
        Self::from_base(None, 0)
    }
}

impl State {
    /// Creates a state at `head` whose rows are those of a checkpoint.
    pub fn from_base(base: Option<&CheckpointBase>, head: Sequence) -> Self {
        Self {
            sessions: Table::new(1, base),
            aliases: Table::new(2, base),
            mailboxes: Table::new(3, base),
            inbox: Table::new(4, base),
            rooms: Table::new(5, base),
            members: Table::new(6, base),
            memberships: Table::new(7, base),
            room_messages: Table::new(8, base),
            dead_letters: Table::new(9, base),
            outbox: Table::new(10, base),
            imported: Table::new(11, base),
            meta: Table::new(12, base),
            superseded: Table::new(13, base),
            bindings: Table::new(14, base),
            cursors: Table::new(15, base),
            peers: Table::new(16, base),
            arrivals: Table::new(17, base),
            departures: Table::new(18, base),
            deleted_rooms: Table::new(19, base),
            head,
            upgrade_needed: false,
            skipped: 0,
        }
    }

    /// Encodes all tables and returns the rows of a checkpoint, their index, and the digest of the
    /// rows.
    fn encode(&self) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
        let mut out = checkpoint::RowWriter::default();
        self.sessions.encode(&mut out);
        self.aliases.encode(&mut out);
        self.mailboxes.encode(&mut out);
        self.inbox.encode(&mut out);
        self.rooms.encode(&mut out);
        self.members.encode(&mut out);
        self.memberships.encode(&mut out);
        self.room_messages.encode(&mut out);
        self.dead_letters.encode(&mut out);
        self.outbox.encode(&mut out);
        self.imported.encode(&mut out);
        self.meta.encode(&mut out);
        self.superseded.encode(&mut out);
        self.bindings.encode(&mut out);
        self.cursors.encode(&mut out);
        self.peers.encode(&mut out);
        self.arrivals.encode(&mut out);
        self.departures.encode(&mut out);
        self.deleted_rooms.encode(&mut out);
        let (rows, index) = out.finish();
        let digest = sha256(&rows);
        (rows, index, digest)
    }

    /// Returns the digest of the encoded rows: equal states have equal digests.
    pub fn digest(&self) -> [u8; 32] {
        self.encode().2
    }

    /// Encodes this state as a checkpoint file.
    ///
    /// `segment` and `position` say where reading continues after the checkpoint.
    pub fn checkpoint(
        &self,
        log_id: [u8; 16],
        segment: Sequence,
        position: FramePosition,
        time_us: u64,
    ) -> Vec<u8> {
        let (rows, index, digest) = self.encode();
        let header = CheckpointHeader {
            projection: PROJECTION,
            log_id,
            sequence: self.head,
            segment,
            position,
            rows_len: rows.len() as u64,
            index_len: index.len() as u64,
            index_crc: crc32(&index),
            digest,
            time_us,
        };
        let mut file = Vec::with_capacity(CHECKPOINT_HEADER_BYTES + rows.len() + index.len());
        file.extend_from_slice(&header.encode());
        file.extend_from_slice(&rows);
        file.extend_from_slice(&index);
        file
    }
}
