//! Queries about other logs: shared rooms, bindings, cursors, peers and the outbox.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorDirection, Receipt, ReceiptLevel};

use super::State;
use super::keys::{compound_key, departure_key, sequence_in_key};
use super::rows::{Binding, OutboxMessage, RemotePeer, ReplicationCursor, Room};
use crate::address::{folded_alias, is_remote};

impl State {
    /// Returns whether a room is open to other nodes: because of its visibility, or because it was
    /// open before and still has members on other nodes.
    pub fn is_room_shared(&self, room: &Room) -> bool {
        let has_remote_members =
            || self.members_of_room(&room.room_id).iter().any(|(mailbox, _)| is_remote(mailbox));
        room.is_shared() || room.shared || has_remote_members()
    }

    /// Returns whether a message at `sequence` in a room of this name is visible to other nodes.
    pub fn was_room_shared_at(&self, room_id: &str, sequence: Sequence) -> bool {
        if let Some(room) = self.rooms.get(fold(room_id)).filter(|row| row.open_since <= sequence) {
            return self.is_room_shared(&room);
        }
        let deleted = self.deleted_rooms_named(room_id);
        deleted.iter().any(|(end, row)| row.open_since <= sequence && sequence < *end)
    }

    /// Returns the open message in the outbox that a receipt concerns.
    ///
    /// The message is identified by sender and message_id, because a restored log may hold it at
    /// another sequence.
    pub fn outbox_message_for_receipt(
        &self,
        receipt: &Receipt,
    ) -> Option<(Sequence, OutboxMessage)> {
        let key = departure_key(&folded_alias(&receipt.sender), &receipt.message_id);
        let sequence = self.departures.get(key)?;
        let row = self.outbox.get(sequence.to_be_bytes())?;
        // Only the recipient may confirm delivery; a relay may reject the message.
        let is_authorised = receipt.level == ReceiptLevel::Rejected
            || folded_alias(&receipt.by) == fold(&row.alias);
        is_authorised.then_some((sequence, row))
    }

    /// Returns the aliases that a relay knows on a node.
    pub fn bindings_for_node(&self, node_id: &str) -> Vec<Binding> {
        let rows = self.bindings.scan(compound_key(&fold(node_id), &[]));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Returns the cursor of a log in one direction; the default for a log that was
    /// never read.
    pub fn cursor(&self, direction: &CursorDirection, log: &str) -> ReplicationCursor {
        self.cursors.get(compound_key(direction.as_str(), log.as_bytes())).unwrap_or_default()
    }

    /// Returns the peers on other nodes with this alias.
    pub fn peers_with_alias(&self, alias: &str) -> Vec<RemotePeer> {
        let rows = self.peers.scan(compound_key(&fold(alias), &[]));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Returns the messages in the outbox, in order.
    pub fn outbox_in_order(&self) -> Vec<(Sequence, OutboxMessage)> {
        let rows = self.outbox.scan([]);
        rows.into_iter().map(|(key, row)| (sequence_in_key(&key), row)).collect()
    }
}
