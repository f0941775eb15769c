//! Replication events: leases, keys, cursors, receipts, room sequences and remote peers.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    CursorAdvanced, CursorDirection, DeadLetterReason, KeyBound, KeyUnbound, LeaseRenewed,
    MessagesRelayed, PeerSeen, Receipt, ReceiptLevel, ReceiptsRecorded, RoomLabelled, full_address,
};

use crate::address::{Address, is_mailbox_on};
use crate::state::State;
use crate::state::keys::{
    arrival_key, compound_key, folded_pair, second_name_in_key, sequence_in_key,
};
use crate::state::rows::{
    Binding, DeadLetter, FormerMember, Mailbox, RemotePeer, ReplicationCursor, SessionLease,
};

impl State {
    pub(super) fn lease_renewed(&mut self, event: &LeaseRenewed, time_us: u64) {
        let lease =
            SessionLease { ttl_s: event.ttl_s, seen_us: time_us, liveness: event.liveness.clone() };
        self.sessions.update(&event.session_id, |row| {
            row.active_us = time_us;
            row.lease = Some(lease);
        });
        // A script that registers the same alias beside the connector does not end replication.
        self.mailboxes.update(&event.mailbox, |row| row.replicated |= event.replicated);
    }

    pub(super) fn key_bound(&mut self, event: &KeyBound, time_us: u64) {
        let binding = Binding {
            alias: event.alias.clone().into(),
            node_id: event.node_id.clone().into(),
            public_key: event.public_key.clone(),
            bound_us: time_us,
        };
        self.bindings.put(folded_pair(&event.node_id, &event.alias), binding);
        let name = full_address(&event.alias, &event.node_id);
        let mut mailbox = self.mailboxes.get(&name).unwrap_or_else(|| Mailbox {
            node_id: Some(event.node_id.clone().into()),
            ..Mailbox::new(name.clone(), event.alias.clone().into(), time_us)
        });
        mailbox.replicated |= event.replicated;
        self.mailboxes.put(&name, mailbox);
        if let Some(old) = &event.replaces {
            // The logs that the old key owned pass to the new one.
            for (key, _) in self.cursors.scan([]).iter().filter(|(_, row)| row.public_key == *old) {
                self.cursors.update(key, |row| row.public_key = event.public_key.clone());
            }
        }
        self.aliases.put(&name, name.clone());
        if event.bare {
            self.aliases.put(fold(&event.alias), name);
        }
    }

    pub(super) fn key_unbound(&mut self, event: &KeyUnbound) {
        let name = full_address(&event.alias, &event.node_id);
        self.bindings.remove(folded_pair(&event.node_id, &event.alias));
        self.aliases.remove(&name);
        if self.aliases.get(fold(&event.alias)) == Some(name) {
            self.aliases.remove(fold(&event.alias));
        }
    }

    pub(super) fn cursor_advanced(&mut self, event: &CursorAdvanced) {
        let previous_floor = self.cursor(&event.direction, &event.log).floor;
        let cursor = ReplicationCursor {
            floor: event.floor.unwrap_or(previous_floor),
            node_id: event.node_id.clone().into(),
            sequence: event.sequence,
            digest: event.digest.clone(),
            public_key: event.public_key.clone(),
        };
        self.cursors.put(compound_key(event.direction.as_str(), event.log.as_bytes()), cursor);
        if event.direction == CursorDirection::Out {
            self.deleted_rooms_fetched(&event.node_id, event.sequence);
            self.rooms_fetched(&event.node_id, event.sequence);
        }
    }

    /// At a relay: advances the members on a node that has fetched this log up to a sequence.
    fn rooms_fetched(&mut self, node_id: &str, upto: Sequence) {
        for binding in self.bindings_for_node(node_id) {
            let mailbox = full_address(&binding.alias, &binding.node_id);
            if self.mailboxes.get(&mailbox).is_none_or(|row| !row.replicated) {
                continue;
            }
            for (key, ()) in self.memberships.scan(compound_key(&mailbox, &[])) {
                let member = compound_key(&second_name_in_key(&key), mailbox.as_bytes());
                self.members.update(member, |row| row.cursor = row.cursor.max(upto));
            }
        }
    }

    /// Forgets the deleted rooms that a node, or the relay of this node, has fetched up to a
    /// sequence.
    fn deleted_rooms_fetched(&mut self, node_id: &str, upto: Sequence) {
        let node_id = fold(node_id);
        for (key, before) in self.deleted_rooms.scan([]) {
            let mut row = before.clone();
            let is_complete = sequence_in_key(&key) <= upto;
            let is_on_node = |member: &FormerMember| is_mailbox_on(&member.mailbox, &node_id);
            row.members.retain(|member| !(is_complete && is_on_node(member)));
            for member in row.members.iter_mut().filter(|row| is_on_node(row)) {
                member.cursor = member.cursor.max(upto);
            }
            if is_complete && row.members.is_empty() {
                self.deleted_rooms.remove(key);
            } else if row != before {
                self.deleted_rooms.put(key, row);
            }
        }
    }

    pub(super) fn messages_relayed(&mut self, event: &MessagesRelayed) {
        for message in &event.messages {
            let relay = Some(event.relay.clone());
            self.outbox.update(message.to_be_bytes(), |row| row.relay = relay);
        }
    }

    pub(super) fn receipts_recorded(&mut self, event: &ReceiptsRecorded, time_us: u64) {
        // Receipts issued by this log are for other logs and change nothing here.
        if event.origin.is_some() {
            for receipt in &event.receipts {
                self.close_queued(receipt, time_us);
                self.close_relayed(receipt, time_us);
            }
        }
    }

    /// On the sender's node: closes the message in the outbox.
    fn close_queued(&mut self, receipt: &Receipt, time_us: u64) {
        let Some((sequence, row)) = self.outbox_message_for_receipt(receipt) else { return };
        self.close_departure(sequence);
        if receipt.level == ReceiptLevel::Rejected {
            let letter = DeadLetter {
                mailbox: String::new(),
                alias: Address::on(&row.alias, &row.host).to_string(),
                reason: rejection_reason(receipt),
                at_us: time_us,
                arrival: None,
                legacy: None,
            };
            self.dead_letters.put(compound_key("", &sequence.to_be_bytes()), letter);
        }
    }

    /// At the relay: closes a message that the recipient's node has stored or rejected.
    ///
    /// A rejected message remains in `arrivals`, so that a sender that repeats it is not told that
    /// it was delivered.
    fn close_relayed(&mut self, receipt: &Receipt, time_us: u64) {
        let known = arrival_key(&receipt.sender, &receipt.message_id);
        let Some((mailbox, sequence)) = self.arrivals.get(known) else { return };
        let key = compound_key(&mailbox, &sequence.to_be_bytes());
        let is_at_relay = self.mailboxes.get(&mailbox).is_some_and(|row| row.node_id.is_some());
        let Some(pending) = self.inbox.get(&key).filter(|_| is_at_relay) else { return };
        if receipt.level != ReceiptLevel::Rejected {
            return self.close(&mailbox, sequence);
        }
        self.inbox.remove(&key);
        let letter = DeadLetter {
            alias: mailbox.clone(),
            mailbox,
            reason: rejection_reason(receipt),
            at_us: time_us,
            arrival: pending.arrival,
            legacy: None,
        };
        self.dead_letters.put(key, letter);
    }

    pub(super) fn room_labelled(&mut self, event: &RoomLabelled) {
        let room = fold(&event.room_id);
        for (sequence, label) in &event.labels {
            self.room_messages.update(compound_key(&room, &sequence.to_be_bytes()), |row| {
                row.label = Some(*label);
            });
            self.rooms.update(&room, |row| {
                row.shared = true;
                row.next_label = row.next_label.max(label + 1);
            });
            self.trim_room(&room, Some(*label));
        }
    }

    pub(super) fn peer_seen(&mut self, event: &PeerSeen, time_us: u64) {
        let peer = RemotePeer {
            alias: event.alias.clone().into(),
            node_id: event.node_id.clone().into(),
            client_type: event.client_type.clone(),
            bare: event.bare,
            gone: event.gone,
            changed_us: time_us,
        };
        self.peers.put(folded_pair(&event.alias, &event.node_id), peer);
    }
}

fn rejection_reason(receipt: &Receipt) -> DeadLetterReason {
    receipt.code.as_deref().unwrap_or(ReceiptLevel::Rejected.as_str()).into()
}
