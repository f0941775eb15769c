//! Messages that were shown to the owner of a mailbox: direct ones, and all that an older version
//! has shown.

use std::cmp::Reverse;
use std::collections::HashMap;

use c2c_log_format::payload::{LegacyDelivered, MessageSent, Target};
use c2c_log_format::{Payload, Sequence};

use super::types::{LoggedEvent, MessageView};
use crate::decide::IMPORT_SOURCE;
use crate::ids::RoomId;

/// The delivered messages of one mailbox, assembled from its messages, claims and acks.
///
/// A message that expired or became a dead letter was not shown and is not part of the history.
pub struct DeliveredHistory<'a> {
    mailbox: &'a str,
    sent: Vec<(Sequence, MessageSent)>,
    claims: HashMap<String, Vec<Sequence>>,
    /// Time of the ack by claim id, microseconds since 1970 UTC.
    acks: HashMap<String, u64>,
    /// Messages that an older version delivered.
    older: Vec<(Sequence, LegacyDelivered)>,
}

impl<'a> DeliveredHistory<'a> {
    /// An empty history of the mailbox with this name.
    pub fn new(mailbox: &'a str) -> Self {
        Self {
            mailbox,
            sent: Vec::new(),
            claims: HashMap::new(),
            acks: HashMap::new(),
            older: Vec::new(),
        }
    }

    /// Adds an event of the mailbox's scope, in any order.
    pub fn add(&mut self, event: LoggedEvent) {
        match event.payload {
            Payload::MessageSent(sent) if matches!(&sent.target, Target::Mailbox(name) if name == self.mailbox) =>
            {
                self.sent.push((event.sequence, sent));
            }
            Payload::InboxClaimed(fact) if fact.mailbox == self.mailbox => {
                self.claims.insert(fact.claim, fact.messages);
            }
            Payload::ClaimAcked(fact) if fact.mailbox == self.mailbox => {
                self.acks.insert(fact.claim, event.time_us);
            }
            Payload::LegacyDelivered(fact) if fact.mailbox == self.mailbox => {
                self.older.push((event.sequence, fact));
            }
            _ => {}
        }
    }

    /// Number of delivered messages so far.
    pub fn count(&self) -> usize {
        self.older.len() + self.delivered().count()
    }

    /// The newest delivered messages, newest first, each with the time of its ack. Those that an
    /// older version delivered are the oldest.
    pub fn newest(&self, limit: usize) -> Vec<MessageView> {
        let own = self.delivered().map(|(sequence, sent, drained_us)| MessageView {
            drained_us: Some(drained_us),
            ..MessageView::new(sequence, sent.clone(), imported_room(sent))
        });
        let mut messages: Vec<MessageView> = own.collect();
        messages.sort_unstable_by_key(|message| Reverse(message.sequence));
        let mut older: Vec<&(Sequence, LegacyDelivered)> = self.older.iter().collect();
        older.sort_unstable_by_key(|(sequence, fact)| Reverse((fact.drained_us, *sequence)));
        messages
            .extend(older.into_iter().map(|(sequence, fact)| delivered_by_older(*sequence, fact)));
        messages.truncate(limit);
        messages
    }

    fn delivered(&self) -> impl Iterator<Item = (Sequence, &MessageSent, u64)> {
        let mut acked: HashMap<Sequence, u64> = HashMap::new();
        for (claim, time_us) in &self.acks {
            let messages = self.claims.get(claim).into_iter().flatten();
            acked.extend(messages.map(|sequence| (*sequence, *time_us)));
        }
        self.sent
            .iter()
            .filter_map(move |(sequence, sent)| Some((*sequence, sent, *acked.get(sequence)?)))
    }
}

/// The room of a message that was imported from an older inbox, where a room message is addressed to
/// `alias#room`.
fn imported_room(sent: &MessageSent) -> Option<RoomId> {
    let is_imported = sent.source.as_deref() == Some(IMPORT_SOURCE);
    sent.to.split_once('#').filter(|_| is_imported).map(|(_, room_id)| RoomId::from(room_id))
}

/// A message that an older version delivered. When it was sent is not known, so the time is that of
/// its delivery.
pub(super) fn delivered_by_older(sequence: Sequence, fact: &LegacyDelivered) -> MessageView {
    let target = Target::Mailbox(fact.mailbox.clone());
    let (id, body) = (fact.message_id.as_str(), fact.body.clone());
    let sent = MessageSent {
        sent_us: fact.drained_us,
        source: Some(IMPORT_SOURCE.into()),
        deferrable: fact.deferrable,
        ..MessageSent::new(id, fact.from.as_str(), fact.to.as_str(), target, body)
    };
    let room_id = imported_room(&sent);
    MessageView { drained_us: Some(fact.drained_us), ..MessageView::new(sequence, sent, room_id) }
}
