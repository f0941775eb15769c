//! Message events: acceptance, expiry, dead letters, and the outbox.

use c2c_log_format::Sequence;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{
    DeadLettersPurged, DeadLettersReturned, MessageSent, MessagesDeadLettered, MessagesExpired,
    Origin, Target,
};

use crate::state::State;
use crate::state::keys::{arrival_key, compound_key, departure_key, sequence_in_key};
use crate::state::rows::{DeadLetter, MessageOrigin, OutboxMessage, UnreadMessage, is_history};

impl State {
    pub(super) fn message_sent(&mut self, sequence: Sequence, event: &MessageSent, time_us: u64) {
        self.change_meta(|meta| meta.messages += 1);
        match &event.target {
            Target::Mailbox(mailbox) => self.add_to_inbox(sequence, mailbox, event),
            Target::Outbox { alias, host } => {
                let queued = OutboxMessage {
                    alias: alias.clone().into(),
                    host: host.clone(),
                    queued_us: time_us,
                    message_id: event.message_id.clone().into(),
                    from: event.from.clone().into(),
                    from_mailbox: event.from_mailbox.clone(),
                    relay: None,
                };
                self.departures.put(departure_key(&event.from, &event.message_id), sequence);
                self.outbox.put(sequence.to_be_bytes(), queued);
            }
            Target::DeadLetter { mailbox, alias, reason } => {
                let letter = DeadLetter {
                    mailbox: mailbox.clone(),
                    alias: alias.clone(),
                    reason: reason.clone(),
                    at_us: time_us,
                    arrival: self.arrival_of(sequence, mailbox, event),
                    legacy: None,
                };
                self.dead_letters.put(compound_key(mailbox, &sequence.to_be_bytes()), letter);
            }
            Target::Room { room_id, label, skipped } => {
                let room = fold(room_id);
                if is_history(event) {
                    // New messages of the room are numbered after those of an older file.
                    self.rooms.update(&room, |row| {
                        let own = label.filter(|_| event.origin.is_none());
                        row.next_label =
                            own.map_or(row.next_label, |at| row.next_label.max(at + 1));
                    });
                } else {
                    self.add_to_room(&room, sequence, *label, event);
                    for mailbox in skipped {
                        self.skip_member(&room, mailbox, sequence, time_us);
                    }
                    self.trim_room(&room, *label);
                }
            }
        }
    }

    fn add_to_inbox(&mut self, sequence: Sequence, mailbox: &str, event: &MessageSent) {
        let receipts = self.arrival_of(sequence, mailbox, event);
        if let Some(row) = &receipts {
            let key = arrival_key(&row.sender, &row.message_id);
            self.arrivals.put(key, (mailbox.to_owned(), sequence));
        }
        let pending = UnreadMessage {
            expires_us: event.expires_us,
            deferrable: event.deferrable,
            bytes: event.body.len() as u32,
            arrival: receipts,
            ..UnreadMessage::default()
        };
        self.inbox.put(compound_key(mailbox, &sequence.to_be_bytes()), pending);
    }

    /// Returns the addressee of the receipts of a message: of a message from another log, and at a
    /// relay of every message that another log will fetch.
    fn arrival_of(
        &self,
        at: Sequence,
        mailbox: &str,
        event: &MessageSent,
    ) -> Option<MessageOrigin> {
        let is_at_relay = || self.mailboxes.get(mailbox).is_some_and(|row| row.node_id.is_some());
        let in_this_log = || Origin { sequence: at, ..Origin::default() };
        let origin = event.origin.clone().or_else(|| is_at_relay().then(in_this_log))?;
        Some(MessageOrigin {
            message_id: event.message_id.clone().into(),
            sender: event.from.clone(),
            origin,
        })
    }

    pub(super) fn messages_expired(&mut self, event: &MessagesExpired) {
        for message in &event.messages {
            self.close(&event.mailbox, *message);
        }
    }

    pub(super) fn messages_dead_lettered(&mut self, event: &MessagesDeadLettered, time_us: u64) {
        for message in &event.messages {
            let key = compound_key(&event.mailbox, &message.to_be_bytes());
            let arrival = self.inbox.get(&key).and_then(|row| row.arrival);
            self.inbox.remove(&key);
            self.close_departure(*message);
            let letter = DeadLetter {
                mailbox: event.mailbox.clone(),
                alias: event.alias.clone(),
                reason: event.reason.clone(),
                at_us: time_us,
                arrival,
                legacy: None,
            };
            self.dead_letters.put(key, letter);
        }
    }

    pub(super) fn dead_letters_returned(&mut self, event: &DeadLettersReturned) {
        for message in &event.messages {
            let key = compound_key(&event.mailbox, &message.to_be_bytes());
            let letter = self.take_dead_letter(&event.mailbox, *message);
            let (returned, legacy) = letter.map_or((None, None), |row| (row.arrival, row.legacy));
            // A message that is pending stays as it is: at a relay, the event may only repeat it
            // for a node that started to read there later.
            if self.inbox.get(&key).is_some() {
                continue;
            }
            if let Some(row) = &returned {
                let known = arrival_key(&row.sender, &row.message_id);
                self.arrivals.put(known, (event.mailbox.clone(), *message));
            }
            let room = legacy.and_then(|row| row.room);
            let unread = UnreadMessage { arrival: returned, room, ..UnreadMessage::default() };
            self.inbox.put(key, unread);
        }
    }

    pub(super) fn dead_letters_purged(&mut self, event: &DeadLettersPurged) {
        let is_purged = |key: &[u8]| event.messages.contains(&sequence_in_key(key));
        let letters = self.dead_letters.scan([]).into_iter();
        for (key, letter) in letters.filter(|(key, _)| is_purged(key)) {
            self.dead_letters.remove(key);
            self.forget_arrival(letter.arrival.as_ref());
        }
    }

    /// Closes a message of an inbox that was displayed, expired or rejected.
    pub(super) fn close(&mut self, mailbox: &str, sequence: Sequence) {
        let key = compound_key(mailbox, &sequence.to_be_bytes());
        let arrival = self.inbox.get(&key).and_then(|row| row.arrival);
        self.forget_arrival(arrival.as_ref());
        self.inbox.remove(key);
    }

    fn forget_arrival(&mut self, row: Option<&MessageOrigin>) {
        if let Some(row) = row {
            self.arrivals.remove(arrival_key(&row.sender, &row.message_id));
        }
    }

    /// Removes a message from the outbox, if it is there.
    pub(super) fn close_departure(&mut self, sequence: Sequence) {
        let key = sequence.to_be_bytes();
        if let Some(row) = self.outbox.get(key) {
            self.departures.remove(departure_key(&row.from, &row.message_id));
            self.outbox.remove(key);
        }
    }

    /// Removes a dead letter from the list and returns it. The letter is that of the mailbox, or one
    /// of another mailbox that is redirected to this one.
    fn take_dead_letter(&mut self, mailbox: &str, sequence: Sequence) -> Option<DeadLetter> {
        let own = compound_key(mailbox, &sequence.to_be_bytes());
        let key = match self.dead_letters.get(&own) {
            Some(_) => own,
            None => {
                let keys = self.dead_letters.scan([]).into_iter().map(|(key, _)| key);
                keys.into_iter().find(|key| sequence_in_key(key) == sequence)?
            }
        };
        let letter = self.dead_letters.get(&key);
        self.dead_letters.remove(key);
        letter
    }
}
