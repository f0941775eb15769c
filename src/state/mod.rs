//! What is known after reading a log up to some sequence?
//!
//! Pure: no file, no clock. [`State::apply`] is total: whatever was written applies. The tables
//! hold sequences, never message bodies.

mod apply;
mod rows;
mod swarm;
mod table;

use c2c_log_format::Sequence;
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::checksum::sha256;
use c2c_log_format::id::fold;
use c2c_log_format::limits::CHECKPOINT_HEADER_BYTES;
use c2c_log_format::payload::Process;
use c2c_log_format::scan::Place;

pub use rows::{
    Arrival, Binding, Claim, Cursor, DeadLetter, DeletedRoom, FormerMember, Lease, Mailbox, Member,
    Meta, PAST, Pending, Queued, RemotePeer, Room, RoomMessage, Session,
};
pub use table::{Base, Bytes, Rebuild, Table};

/// Version of the tables below: a checkpoint of another version is not used.
pub const PROJECTION: u16 = 7;

/// All projections at one sequence.
#[derive(Clone)]
pub struct State {
    /// By session id.
    pub sessions: Table<Session>,
    /// Mailbox name, by folded alias.
    pub aliases: Table<String>,
    /// By mailbox name.
    pub mailboxes: Table<Mailbox>,
    /// Unread direct messages: mailbox, sequence.
    pub inbox: Table<Pending>,
    /// By folded room id.
    pub rooms: Table<Room>,
    /// Room, mailbox.
    pub members: Table<Member>,
    /// Mailbox, room: the members table from the other side.
    pub memberships: Table<()>,
    /// Room, sequence.
    pub room_messages: Table<RoomMessage>,
    /// Mailbox (empty for the outbox), sequence of the message.
    pub dead_letters: Table<DeadLetter>,
    /// By sequence of the message.
    pub outbox: Table<Queued>,
    /// Keys of entries read from older files, and stamps of those files.
    pub imported: Table<String>,
    /// One row.
    pub meta: Table<Meta>,
    /// Mailbox name, by the session that last lost it to another one.
    pub superseded: Table<String>,
    /// At a relay, by node, alias.
    pub bindings: Table<Binding>,
    /// By direction, log id.
    pub cursors: Table<Cursor>,
    /// Aliases on other nodes: alias, node.
    pub peers: Table<RemotePeer>,
    /// Mailbox and sequence of open messages from other logs, by sender, message_id.
    pub arrivals: Table<(String, Sequence)>,
    /// Sequence of each message in the outbox, by sender's alias, message_id.
    pub departures: Table<Sequence>,
    /// Room, sequence of its end.
    pub deleted_rooms: Table<DeletedRoom>,
    /// Last sequence applied.
    pub head: Sequence,
    /// Whether an unknown must-understand kind was met: then nothing may be written.
    pub upgrade_needed: bool,
    /// Unknown kinds met.
    pub skipped: u64,
}

impl Default for State {
    fn default() -> Self {
        Self::from_base(None, 0)
    }
}

/// Key of a row that belongs to two names or a name and a sequence.
pub fn pair(first: &str, second: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(first.len() + 1 + second.len());
    key.extend_from_slice(first.as_bytes());
    key.push(0);
    key.extend_from_slice(second);
    key
}

/// The sequence at the end of a key.
pub fn sequence_of(key: &[u8]) -> Sequence {
    let tail = key.len().checked_sub(8).and_then(|at| key.get(at..));
    tail.and_then(|tail| tail.try_into().ok()).map_or(0, Sequence::from_be_bytes)
}

/// The second name in a key of two names.
pub fn second_of(key: &[u8]) -> String {
    let second = key.splitn(2, |byte| *byte == 0).nth(1).unwrap_or(&[]);
    String::from_utf8_lossy(second).into_owned()
}

/// Unread mail of one mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unread {
    /// Direct messages: sequence, and whether they were shown before.
    pub direct: Vec<(Sequence, Pending)>,
    /// Room messages: sequence, room, and whether they were shown before.
    pub room: Vec<(Sequence, String, bool)>,
}

impl Unread {
    /// Sequences of all, in order, with the redelivery mark.
    pub fn in_order(&self) -> Vec<(Sequence, Option<String>, bool)> {
        let direct = self.direct.iter().map(|(at, row)| (*at, row.room.clone(), row.redelivered));
        let room = self.room.iter().map(|(at, room, again)| (*at, Some(room.clone()), *again));
        let mut all: Vec<_> = direct.chain(room).collect();
        all.sort_unstable_by_key(|(sequence, ..)| *sequence);
        all
    }

    /// The oldest and the newest of those that do not wait for the next poll.
    pub fn pressing(&self) -> Option<(Sequence, Sequence)> {
        let direct = self.direct.iter().filter(|(_, row)| !row.deferrable).map(|(at, _)| *at);
        let all = || direct.clone().chain(self.room.iter().map(|(at, ..)| *at));
        Some((all().min()?, all().max()?))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.direct.len() + self.room.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// A state whose rows start from a checkpoint.
    pub fn from_base(base: Option<&Base>, head: Sequence) -> Self {
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

    /// The rows and the index of a checkpoint, and the digest of the rows.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
        let mut out = table::Rows::default();
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

    /// Whole checkpoint file for this state.
    pub fn checkpoint(
        &self,
        log_id: [u8; 16],
        segment: Sequence,
        place: Place,
        time_us: u64,
    ) -> Vec<u8> {
        let (rows, index, digest) = self.encode();
        let header = CheckpointHeader {
            projection: PROJECTION,
            log_id,
            sequence: self.head,
            segment,
            place,
            rows_len: rows.len() as u64,
            index_len: index.len() as u64,
            index_crc: c2c_log_format::checksum::crc32(&index),
            digest,
            time_us,
        };
        let mut file = Vec::with_capacity(CHECKPOINT_HEADER_BYTES + rows.len() + index.len());
        file.extend_from_slice(&header.encode());
        file.extend_from_slice(&rows);
        file.extend_from_slice(&index);
        file
    }

    /// The mailbox that an alias names.
    pub fn mailbox_of(&self, alias: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.aliases.get(fold(alias))?)
    }

    /// The mailbox whose current or last session this is.
    pub fn mailbox_of_session(&self, session_id: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.sessions.get(session_id)?.mailbox)
    }

    /// The mailbox that a session had until another one took it over.
    pub fn lost_mailbox(&self, session_id: &str) -> Option<Mailbox> {
        self.mailboxes.get(self.superseded.get(session_id)?)
    }

    /// The session that holds a mailbox now.
    pub fn holder(&self, mailbox: &Mailbox) -> Option<Session> {
        self.sessions.get(mailbox.session.as_deref()?)
    }

    /// Unread mail, claimed or not.
    pub fn unread(&self, mailbox: &str) -> Unread {
        let rows = self.inbox.scan(pair(mailbox, &[]));
        let direct = rows.into_iter().map(|(key, row)| (sequence_of(&key), row)).collect();
        let mut room = Vec::new();
        for (key, ()) in self.memberships.scan(pair(mailbox, &[])) {
            let room_id = second_of(&key);
            let Some(member) = self.members.get(pair(&room_id, mailbox.as_bytes())) else {
                continue;
            };
            for (sequence, message) in self.room_messages_after(&room_id, member.cursor) {
                if message.from_mailbox != mailbox {
                    room.push((sequence, room_id.clone(), sequence <= member.redelivered_to));
                }
            }
        }
        Unread { direct, room }
    }

    /// Whether there is any unread mail: cheaper than listing it.
    pub fn has_unread(&self, mailbox: &str) -> bool {
        if self.inbox.any(pair(mailbox, &[])) {
            return true;
        }
        self.memberships.scan(pair(mailbox, &[])).iter().any(|(key, ())| {
            let room_id = second_of(key);
            let member = self.members.get(pair(&room_id, mailbox.as_bytes()));
            let head = self.rooms.get(&room_id).map_or(0, |room| room.head);
            let Some(cursor) = member.map(|member| member.cursor).filter(|at| head > *at) else {
                return false;
            };
            // What one said oneself is no mail.
            let from = pair(&room_id, &(cursor + 1).to_be_bytes());
            let others = |row: &RoomMessage| row.from_mailbox != mailbox;
            self.room_messages.any_from(&pair(&room_id, &[]), &from, others)
        })
    }

    /// Messages of a room after a sequence.
    pub fn room_messages_after(
        &self,
        room_id: &str,
        after: Sequence,
    ) -> Vec<(Sequence, RoomMessage)> {
        let from = pair(room_id, &(after + 1).to_be_bytes());
        let rows = self.room_messages.range(&pair(room_id, &[]), &from);
        rows.into_iter().map(|(key, row)| (sequence_of(&key), row)).collect()
    }

    /// The first message whose text somebody has yet to see, and who; nothing before it is needed
    /// to deliver what was accepted.
    pub fn first_needed(&self) -> Option<(Sequence, &'static str)> {
        let first = |rows: Option<Sequence>, what| rows.map(|sequence| (sequence, what));
        let unread = self.inbox.scan([]).iter().map(|(key, _)| sequence_of(key)).min();
        let dead = self.dead_letters.scan([]).iter().map(|(key, _)| sequence_of(key)).min();
        let queued = self.outbox.scan([]).iter().map(|(key, _)| sequence_of(key)).min();
        let in_rooms = self.members.scan([]).into_iter().filter_map(|(key, member)| {
            let room_id =
                String::from_utf8_lossy(key.split(|byte| *byte == 0).next()?).into_owned();
            self.room_messages_after(&room_id, member.cursor).first().map(|(sequence, _)| *sequence)
        });
        let deleted = self.deleted_rooms.scan([]).into_iter().filter_map(|(_, row)| {
            row.members.iter().map(|member| member.cursor.max(member.since) + 1).min()
        });
        let candidates = [
            first(unread, "a message in a mailbox is unread"),
            first(dead, "a dead letter is kept"),
            first(queued, "a message waits in the outbox"),
            first(in_rooms.min(), "a room message is unread"),
            first(deleted.min(), "what was said in a deleted room is on its way"),
        ];
        candidates.into_iter().flatten().min()
    }

    /// Members of a room: mailbox and row.
    pub fn members_of(&self, room_id: &str) -> Vec<(String, Member)> {
        let rows = self.members.scan(pair(&fold(room_id), &[]));
        rows.into_iter().map(|(key, row)| (second_of(&key), row)).collect()
    }

    /// Rooms of this name that were deleted and may not have gone everywhere yet: when, and row.
    pub fn deleted_rooms_of(&self, room_id: &str) -> Vec<(Sequence, DeletedRoom)> {
        let rows = self.deleted_rooms.scan(pair(&fold(room_id), &[]));
        rows.into_iter().map(|(key, row)| (sequence_of(&key), row)).collect()
    }

    /// Whether this process is the one that a session was registered with.
    pub fn session_of_process(&self, process: &Process) -> Option<Session> {
        let all = self.sessions.scan([]);
        all.into_iter().map(|(_, row)| row).find(|row| row.process.as_ref() == Some(process))
    }
}
