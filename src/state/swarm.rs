//! What do facts about other logs change: leases, keys, cursors, receipts, labels, peers?

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    CursorAdvanced, KeyBound, KeyUnbound, LeaseRenewed, PeerSeen, Receipt, ReceiptsRecorded,
    RoomLabelled, address,
};

use super::{
    Binding, Cursor, DeadLetter, DeletedRoom, FormerMember, Lease, Mailbox, Member, Queued,
    RemotePeer, Room, State, pair, second_of, sequence_of,
};

/// Key of an open message of the outbox.
pub(super) fn departure(from: &str, message_id: &str) -> Vec<u8> {
    pair(&fold(from), message_id.as_bytes())
}

impl State {
    pub(super) fn lease_renewed(&mut self, fact: &LeaseRenewed, time_us: u64) {
        let liveness = fact.liveness.clone();
        let lease = Lease { ttl_s: fact.ttl_s, seen_us: time_us, liveness };
        self.sessions.update(&fact.session_id, |row| {
            row.active_us = time_us;
            row.lease = Some(lease);
        });
        // A script that registers beside the connector takes nothing from it.
        self.mailboxes.update(&fact.mailbox, |row| row.replicated |= fact.replicated);
    }

    pub(super) fn key_bound(&mut self, fact: &KeyBound, time_us: u64) {
        let name = address(&fact.alias, &fact.node_id);
        let binding = Binding {
            alias: fact.alias.clone(),
            node_id: fact.node_id.clone(),
            public_key: fact.public_key.clone(),
            bound_us: time_us,
        };
        self.bindings.put(pair(&fold(&fact.node_id), fold(&fact.alias).as_bytes()), binding);
        if self.mailboxes.get(&name).is_none() {
            let mailbox = Mailbox {
                name: name.clone(),
                alias: fact.alias.clone(),
                former: Vec::new(),
                session: None,
                created_us: time_us,
                dnd: false,
                dnd_since_us: None,
                dnd_until_us: None,
                claim: None,
                lost_by: None,
                node_id: Some(fact.node_id.clone()),
                replicated: false,
            };
            self.mailboxes.put(&name, mailbox);
        }
        if fact.replicated {
            self.mailboxes.update(&name, |row| row.replicated = true);
        }
        if let Some(old) = &fact.replaces {
            // Logs that belonged to the key before go with it.
            for (key, _) in self.cursors.scan([]).iter().filter(|(_, row)| row.public_key == *old) {
                self.cursors.update(key, |row| row.public_key = fact.public_key.clone());
            }
        }
        self.aliases.put(&name, name.clone());
        if fact.bare {
            self.aliases.put(fold(&fact.alias), name);
        }
    }

    pub(super) fn key_unbound(&mut self, fact: &KeyUnbound) {
        let name = address(&fact.alias, &fact.node_id);
        self.bindings.remove(pair(&fold(&fact.node_id), fold(&fact.alias).as_bytes()));
        self.aliases.remove(&name);
        if self.aliases.get(fold(&fact.alias)) == Some(name) {
            self.aliases.remove(fold(&fact.alias));
        }
    }

    pub(super) fn cursor_advanced(&mut self, fact: &CursorAdvanced) {
        let before = self.cursor(&fact.direction, &fact.log).floor;
        let cursor = Cursor {
            floor: fact.floor.unwrap_or(before),
            node_id: fact.node_id.clone(),
            sequence: fact.sequence,
            digest: fact.digest.clone(),
            public_key: fact.public_key.clone(),
        };
        self.cursors.put(pair(&fact.direction, fact.log.as_bytes()), cursor);
        if fact.direction == "out" {
            self.deleted_rooms_fetched(&fact.node_id, fact.sequence);
            // The members that a relay has on that node have read so far.
            for binding in self.bindings_of(&fact.node_id) {
                let mailbox = address(&binding.alias, &binding.node_id);
                if self.mailboxes.get(&mailbox).is_none_or(|row| !row.replicated) {
                    continue;
                }
                for (key, ()) in self.memberships.scan(pair(&mailbox, &[])) {
                    let member = pair(&second_of(&key), mailbox.as_bytes());
                    self.members.update(member, |row| row.cursor = row.cursor.max(fact.sequence));
                }
            }
        }
    }

    pub(super) fn receipts_recorded(&mut self, fact: &ReceiptsRecorded, time_us: u64) {
        // Our own receipts are for others.
        if fact.origin.is_some() {
            for receipt in &fact.receipts {
                self.close_queued(receipt, time_us);
                self.close_relayed(receipt, time_us);
            }
        }
    }

    /// The sender's side: the outbox kept it until now.
    fn close_queued(&mut self, receipt: &Receipt, time_us: u64) {
        let Some((sequence, row)) = self.departed(receipt) else { return };
        self.close_departure(sequence);
        if receipt.level == "refused" {
            let letter = DeadLetter {
                mailbox: String::new(),
                alias: format!("{}@{}", row.alias, row.host),
                reason: receipt.code.clone().unwrap_or_else(|| "refused".into()),
                at_us: time_us,
                arrival: None,
            };
            self.dead_letters.put(pair("", &sequence.to_be_bytes()), letter);
        }
    }

    /// A message leaves the outbox.
    pub(super) fn close_departure(&mut self, sequence: Sequence) {
        let key = sequence.to_be_bytes();
        if let Some(row) = self.outbox.get(key) {
            self.departures.remove(departure(&row.from, &row.message_id));
            self.outbox.remove(key);
        }
    }

    /// The open message of the outbox that a receipt is about. It is known by sender and id: a log
    /// that was restored may hold it at another sequence now.
    pub fn departed(&self, receipt: &Receipt) -> Option<(Sequence, Queued)> {
        let alias = |address: &str| fold(address.split('@').next().unwrap_or_default());
        let key = departure(&alias(&receipt.sender), &receipt.message_id);
        let sequence = self.departures.get(key)?;
        let row = self.outbox.get(sequence.to_be_bytes())?;
        // Only the recipient says that it has the message; a relay may refuse it.
        let from_there = receipt.level == "refused" || alias(&receipt.by) == fold(&row.alias);
        from_there.then_some((sequence, row))
    }

    /// The relay's side: the recipient's node has it, or refused it. What was refused stays known,
    /// so that nobody who sends it again hears that it was delivered.
    fn close_relayed(&mut self, receipt: &Receipt, time_us: u64) {
        let key = pair(&fold(&receipt.sender), receipt.message_id.as_bytes());
        let Some((mailbox, sequence)) = self.arrivals.get(key) else { return };
        let row = pair(&mailbox, &sequence.to_be_bytes());
        let at_relay = self.mailboxes.get(&mailbox).is_some_and(|row| row.node_id.is_some());
        let Some(pending) = self.inbox.get(&row).filter(|_| at_relay) else { return };
        if receipt.level != "refused" {
            return self.close(&mailbox, sequence);
        }
        self.inbox.remove(&row);
        let letter = DeadLetter {
            alias: mailbox.clone(),
            mailbox,
            reason: receipt.code.clone().unwrap_or_else(|| "refused".into()),
            at_us: time_us,
            arrival: pending.arrival,
        };
        self.dead_letters.put(row, letter);
    }

    pub(super) fn labelled(&mut self, fact: &RoomLabelled) {
        let room = fold(&fact.room_id);
        for (sequence, label) in &fact.labels {
            self.room_messages.update(pair(&room, &sequence.to_be_bytes()), |row| {
                row.label = Some(*label);
            });
            self.rooms.update(&room, |row| {
                row.shared = true;
                row.next_label = row.next_label.max(label + 1);
            });
            self.trim_room(&room, Some(*label));
        }
    }

    /// Whether a room is for other machines, too: as its visibility says, or because it was before and
    /// others are in it.
    pub fn is_open(&self, room: &Room) -> bool {
        let elsewhere =
            || self.members_of(&room.room_id).iter().any(|(name, _)| name.contains('@'));
        room.is_shared() || room.shared || elsewhere()
    }

    /// Whether what was said in a room of this name at that place is for other machines, too.
    pub fn was_open(&self, room_id: &str, sequence: Sequence) -> bool {
        if let Some(room) = self.rooms.get(fold(room_id)).filter(|row| row.open_since <= sequence) {
            return self.is_open(&room);
        }
        let deleted = self.deleted_rooms_of(room_id);
        deleted.iter().any(|(end, row)| row.open_since <= sequence && sequence < *end)
    }

    pub(super) fn note_deleted_room(&mut self, at: Sequence, room: &str) {
        let Some(row) = self.rooms.get(room).filter(|row| self.is_open(row)) else { return };
        let fetches = |name: &str| self.mailboxes.get(name).is_some_and(|row| row.replicated);
        let members = self.members_of(room).into_iter().filter(|(name, _)| fetches(name));
        let members = members.map(|(mailbox, member)| {
            let Member { since, cursor, .. } = member;
            FormerMember { mailbox, since, cursor }
        });
        let deleted = DeletedRoom { open_since: row.open_since, members: members.collect() };
        self.deleted_rooms.put(pair(room, &at.to_be_bytes()), deleted);
    }

    /// A node has fetched so much; or, at a node, the relay has.
    fn deleted_rooms_fetched(&mut self, node_id: &str, upto: Sequence) {
        let here = format!("@{}", fold(node_id));
        for (key, before) in self.deleted_rooms.scan([]) {
            let mut row = before.clone();
            let all = sequence_of(&key) <= upto;
            row.members.retain(|member| !(all && member.mailbox.ends_with(&here)));
            for member in row.members.iter_mut().filter(|row| row.mailbox.ends_with(&here)) {
                member.cursor = member.cursor.max(upto);
            }
            if all && row.members.is_empty() {
                self.deleted_rooms.remove(key);
            } else if row != before {
                self.deleted_rooms.put(key, row);
            }
        }
    }

    pub(super) fn peer_seen(&mut self, fact: &PeerSeen, time_us: u64) {
        let peer = RemotePeer {
            alias: fact.alias.clone(),
            node_id: fact.node_id.clone(),
            client_type: fact.client_type.clone(),
            bare: fact.bare,
            gone: fact.gone,
            changed_us: time_us,
        };
        self.peers.put(pair(&fold(&fact.alias), fold(&fact.node_id).as_bytes()), peer);
    }

    /// The aliases that a relay knows on a node.
    pub fn bindings_of(&self, node_id: &str) -> Vec<Binding> {
        let rows = self.bindings.scan(pair(&fold(node_id), &[]));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// How far a log was read, in one direction.
    pub fn cursor(&self, direction: &str, log: &str) -> Cursor {
        self.cursors.get(pair(direction, log.as_bytes())).unwrap_or_default()
    }

    /// Peers on other nodes with this alias.
    pub fn peers_called(&self, alias: &str) -> Vec<RemotePeer> {
        let rows = self.peers.scan(pair(&fold(alias), &[]));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Open messages of the outbox in order.
    pub fn open_outbox(&self) -> Vec<(Sequence, Queued)> {
        let rows = self.outbox.scan([]);
        rows.into_iter().map(|(key, row)| (sequence_of(&key), row)).collect()
    }
}
