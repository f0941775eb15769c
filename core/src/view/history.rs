//! Direct messages that were shown to the owner of a mailbox.

use std::cmp::Reverse;
use std::collections::HashMap;

use c2c_log_format::payload::{MessageSent, Target};
use c2c_log_format::{Payload, Sequence};

use super::types::{LoggedEvent, MessageView};

/// The delivered messages of one mailbox, assembled from its messages, claims and acks.
///
/// A message that expired or became a dead letter was not shown and is not part of the history.
pub struct DeliveredHistory<'a> {
    mailbox: &'a str,
    sent: Vec<(Sequence, MessageSent)>,
    claims: HashMap<String, Vec<Sequence>>,
    /// Time of the ack by claim id, microseconds since 1970 UTC.
    acks: HashMap<String, u64>,
}

impl<'a> DeliveredHistory<'a> {
    /// An empty history of the mailbox with this name.
    pub fn new(mailbox: &'a str) -> Self {
        Self { mailbox, sent: Vec::new(), claims: HashMap::new(), acks: HashMap::new() }
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
            _ => {}
        }
    }

    /// Number of delivered messages so far.
    pub fn count(&self) -> usize {
        self.delivered().count()
    }

    /// The newest delivered messages, newest first, each with the time of its ack.
    pub fn newest(&self, limit: usize) -> Vec<MessageView> {
        let mut messages: Vec<MessageView> = self
            .delivered()
            .map(|(sequence, sent, drained_us)| MessageView {
                drained_us: Some(drained_us),
                ..MessageView::new(sequence, sent.clone(), None)
            })
            .collect();
        messages.sort_unstable_by_key(|message| Reverse(message.sequence));
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
