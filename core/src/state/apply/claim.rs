//! Claim events: messages taken for display, acknowledged or returned.

use c2c_log_format::id::fold;
use c2c_log_format::payload::{ClaimAcked, ClaimReturned, InboxClaimed, RoomRange};

use crate::state::State;
use crate::state::keys::{compound_key, sequence_in_key};
use crate::state::rows::Claim;

impl State {
    pub(super) fn inbox_claimed(&mut self, event: &InboxClaimed, time_us: u64) {
        let claim = Claim {
            id: event.claim.clone(),
            messages: event.messages.clone(),
            rooms: event.rooms.clone(),
            left: Vec::new(),
            process: event.process.clone(),
            surface: event.surface.clone(),
            manual: event.manual,
            until_us: event.until_us,
            claimed_us: time_us,
        };
        self.mailboxes.update(&event.mailbox, |row| row.claim = Some(claim));
    }

    pub(super) fn claim_acked(&mut self, event: &ClaimAcked) {
        let Some(claim) = self.take_claim(&event.mailbox, &event.claim) else { return };
        for message in &claim.messages {
            self.close(&event.mailbox, *message);
        }
        for key in self.left_while_claimed(&event.mailbox, &claim) {
            self.inbox.remove(key);
        }
        for range in &claim.rooms {
            let key = compound_key(&fold(&range.room_id), event.mailbox.as_bytes());
            self.members.update(key, |row| row.cursor = row.cursor.max(range.upto));
        }
    }

    pub(super) fn claim_returned(&mut self, event: &ClaimReturned) {
        let Some(claim) = self.take_claim(&event.mailbox, &event.claim) else { return };
        for message in &claim.messages {
            let key = compound_key(&event.mailbox, &message.to_be_bytes());
            self.inbox.update(key, |row| row.redelivered = true);
        }
        for key in self.left_while_claimed(&event.mailbox, &claim) {
            self.inbox.update(key, |row| row.redelivered = true);
        }
        for range in &claim.rooms {
            let key = compound_key(&fold(&range.room_id), event.mailbox.as_bytes());
            self.members.update(key, |row| row.redelivered_to = row.redelivered_to.max(range.upto));
        }
    }

    fn take_claim(&mut self, mailbox: &str, id: &str) -> Option<Claim> {
        let mut row = self.mailboxes.get(mailbox)?;
        let claim = row.claim.take_if(|claim| claim.id == id)?;
        self.mailboxes.put(mailbox, row);
        Some(claim)
    }

    /// Returns the inbox keys of claimed room messages whose room was left during the claim.
    fn left_while_claimed(&self, mailbox: &str, claim: &Claim) -> Vec<Vec<u8>> {
        if claim.left.is_empty() {
            return Vec::new();
        }
        let rows = self.inbox.scan(compound_key(mailbox, &[])).into_iter();
        let claimed = rows.filter(|(key, row)| {
            let contains = |range: &RoomRange| {
                row.room.as_deref() == Some(&fold(&range.room_id))
                    && sequence_in_key(key) <= range.upto
            };
            claim.left.iter().any(contains)
        });
        claimed.map(|(key, _)| key).collect()
    }
}
