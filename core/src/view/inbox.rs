//! Unread mail of a mailbox.

use std::collections::HashMap;

use c2c_log_format::payload::Process;
use c2c_log_format::{Payload, Sequence};

use super::types::MessageView;
use crate::decide::{self, Liveness};
use crate::state::{Mailbox, MessageRef, State};

/// Liveness of a recorded process at the time of the query.
pub type ProcessLiveness<'a> = &'a dyn Fn(Option<&Process>) -> Liveness;

/// The unread messages that a peek may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclaimed {
    /// Messages to load and show.
    Messages(Vec<MessageRef>),
    /// Another poller holds a claim; this many messages are unread.
    HeldByClaim(usize),
}

/// Whether a poll could return anything. Messages under a claim count: the claim may have expired.
pub fn has_mail(state: &State, mailbox: &Mailbox) -> bool {
    mailbox.claim.is_some() || state.has_unread(&mailbox.name)
}

/// Whether a mailbox has unread mail that is not deferrable and not claimed by a running process.
pub fn has_pressing_mail(state: &State, mailbox: &Mailbox, liveness: ProcessLiveness<'_>) -> bool {
    let is_claimed = mailbox
        .claim
        .as_ref()
        .is_some_and(|claim| liveness(claim.process.as_ref()) != Liveness::Dead);
    !is_claimed && state.unread(&mailbox.name).urgent_range().is_some()
}

/// The unread messages that no open claim holds, in order. Messages of an expired claim carry the
/// redelivery mark.
pub fn unclaimed(
    state: &State,
    mailbox: &Mailbox,
    now_us: u64,
    liveness: ProcessLiveness<'_>,
) -> Unclaimed {
    let unread = state.unread(&mailbox.name).in_order();
    let Some(claim) = &mailbox.claim else { return Unclaimed::Messages(unread) };
    if decide::claim_holds(claim, now_us, liveness) {
        return Unclaimed::HeldByClaim(unread.len());
    }
    let with_mark = |message: MessageRef| MessageRef {
        redelivered: message.redelivered || claim.messages.contains(&message.sequence),
        ..message
    };
    Unclaimed::Messages(unread.into_iter().map(with_mark).collect())
}

/// Collects the texts of the requested messages.
pub struct MessageCollector<'a> {
    requested: HashMap<Sequence, &'a MessageRef>,
    messages: Vec<MessageView>,
}

impl<'a> MessageCollector<'a> {
    /// A collector for these messages.
    pub fn new(requested: &'a [MessageRef]) -> Self {
        let by_sequence = requested.iter().map(|message| (message.sequence, message));
        Self { requested: by_sequence.collect(), messages: Vec::with_capacity(requested.len()) }
    }

    /// Whether the message with this sequence was requested.
    pub fn is_requested(&self, sequence: Sequence) -> bool {
        self.requested.contains_key(&sequence)
    }

    /// Adds an event; one that is not a message is ignored.
    pub fn add(&mut self, sequence: Sequence, payload: Payload) {
        let Payload::MessageSent(sent) = payload else { return };
        let request = self.requested.get(&sequence);
        let room_id = request.and_then(|request| request.room_id.clone());
        let message = MessageView::new(sequence, sent, room_id);
        let redelivered = request.is_some_and(|request| request.redelivered);
        self.messages.push(MessageView { redelivered, ..message });
    }

    /// The collected messages by sequence.
    pub fn finish(mut self) -> Vec<MessageView> {
        self.messages.sort_unstable_by_key(|message| message.sequence);
        self.messages
    }
}
