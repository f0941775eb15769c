//! Application of events to the state, one file per event family.

mod admin;
mod claim;
mod message;
mod replication;
mod room;
mod session;

use c2c_log_format::{Event, Payload, Sequence};

use super::State;

impl State {
    /// Applies an encoded event. An event of an unknown kind is only counted.
    pub fn apply_event(&mut self, event: &Event<'_>, time_us: u64) {
        match Payload::decode(event.head.kind, event.payload) {
            Some(Ok(payload)) => self.apply(event.head.sequence, time_us, &payload),
            _ => {
                self.skipped += 1;
                self.upgrade_needed |= event.head.must_understand;
                self.head = event.head.sequence;
            }
        }
    }

    /// Applies an event that was written at `sequence`. Never fails.
    pub fn apply(&mut self, sequence: Sequence, time_us: u64, payload: &Payload) {
        self.head = sequence;
        match payload {
            Payload::SessionRegistered(event) => self.session_registered(event, time_us),
            Payload::AliasRenamed(event) => self.alias_renamed(event),
            Payload::SessionHeartbeat(event) => self.session_heartbeat(event, time_us),
            Payload::SessionEnded(event) => self.session_ended(event),
            Payload::DndChanged(event) => self.dnd_changed(event, time_us),

            Payload::MessageSent(event) => self.message_sent(sequence, event, time_us),
            Payload::MessagesExpired(event) => self.messages_expired(event),
            Payload::MessagesDeadLettered(event) => self.messages_dead_lettered(event, time_us),
            Payload::DeadLettersReturned(event) => self.dead_letters_returned(event),
            Payload::DeadLettersPurged(event) => self.dead_letters_purged(event),

            Payload::InboxClaimed(event) => self.inbox_claimed(event, time_us),
            Payload::ClaimAcked(event) => self.claim_acked(event),
            Payload::ClaimReturned(event) => self.claim_returned(event),
            // Evidence only: the claim has ended already.
            Payload::AckRefused(_) => {}

            Payload::RoomCreated(event) => self.room_created(sequence, event, time_us),
            Payload::RoomJoined(event) => self.room_joined(sequence, event, time_us),
            Payload::RoomLeft(event) => self.room_left(&event.room_id, &event.mailbox),
            Payload::RoomInvitation(event) => self.room_invitation(sequence, event),
            Payload::RoomVisibilityChanged(event) => self.visibility_changed(sequence, event),
            Payload::RoomDeleted(event) => self.room_deleted(sequence, event),

            Payload::LegacyImported(event) => self.legacy_imported(event),
            Payload::LegacyDetails(event) => self.legacy_details(sequence, event),
            // History only: the older version has delivered the message.
            Payload::LegacyDelivered(_) => {}
            Payload::RootMoved(event) => self.root_moved(event),

            Payload::LeaseRenewed(event) => self.lease_renewed(event, time_us),
            Payload::KeyBound(event) => self.key_bound(event, time_us),
            Payload::KeyUnbound(event) => self.key_unbound(event),
            Payload::CursorAdvanced(event) => self.cursor_advanced(event),
            Payload::MessagesRelayed(event) => self.messages_relayed(event),
            Payload::ReceiptsRecorded(event) => self.receipts_recorded(event, time_us),
            Payload::RoomLabelled(event) => self.room_labelled(event),
            Payload::PeerSeen(event) => self.peer_seen(event, time_us),
        }
    }
}
