//! Intake: a batch of another log while its items are decided, one by one.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use c2c_log_format::Payload;
use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorAdvanced, CursorDirection, MessageSent, Origin, Target};

use crate::address::folded_alias;
use crate::batch::{Batch, Item, Position};
use crate::facts::Facts;
use crate::ids::NodeId;
use crate::older_relay::{is_from_older_relay, is_part};
use crate::rejection::Rejection;
use crate::state::State;

/// A batch being taken in.
pub(in crate::decide) struct Intake<'a> {
    /// The state, with those new events applied that later items must see.
    pub state: Cow<'a, State>,
    pub batch: &'a Batch,
    pub facts: &'a Facts<'a>,
    /// The new events, in order.
    events: Vec<Payload>,
    /// Messages among the facts, by message id.
    logged: HashMap<&'a str, Vec<&'a MessageSent>>,
    /// Messages among the new events: message id, and index of the event.
    added: BTreeSet<(&'a str, usize)>,
    /// Number of messages among the new events, by room.
    room_messages: HashMap<String, u64>,
    /// Rooms of the pushing node whose name belongs to another room here. All items of this batch
    /// about such a room get this rejection.
    pub name_conflicts: HashMap<String, Rejection>,
    /// Results of [`Intake::resolve_once`] for earlier items.
    resolved: HashMap<(&'a str, Option<&'a str>), Result<String, Rejection>>,
}

impl<'a> Intake<'a> {
    pub fn new(state: &'a State, batch: &'a Batch, facts: &'a Facts<'a>) -> Self {
        let mut logged = HashMap::<_, Vec<_>>::new();
        for (_, sent) in &facts.prior {
            logged.entry(sent.message_id.as_str()).or_default().push(sent);
        }
        Self {
            state: Cow::Borrowed(state),
            batch,
            facts,
            events: Vec::with_capacity(batch.items.len() + 1),
            logged,
            added: BTreeSet::new(),
            room_messages: HashMap::new(),
            name_conflicts: HashMap::new(),
            resolved: HashMap::new(),
        }
    }

    /// The new events.
    pub fn into_events(self) -> Vec<Payload> {
        self.events
    }

    /// Resolves an alias, here or on a host, once for all items. The result is kept until an event
    /// may change it.
    pub fn resolve_once(
        &mut self,
        alias: &'a str,
        host: Option<&'a str>,
        resolve: impl FnOnce(&mut Self) -> Result<String, Rejection>,
    ) -> Result<String, Rejection> {
        if let Some(result) = self.resolved.get(&(alias, host)) {
            return result.clone();
        }
        let result = resolve(self);
        self.resolved.insert((alias, host), result.clone());
        result
    }

    /// Records an event that does not affect later items.
    pub fn record(&mut self, event: Payload) {
        self.events.push(event);
    }

    /// Records an event, and applies it so that later items of the batch see it.
    pub fn record_and_apply(&mut self, event: Payload) {
        self.resolved.clear();
        let state = self.state.to_mut();
        state.apply(state.head + 1, self.facts.now_us, &event);
        self.record(event);
    }

    /// Records a message that originates from the message `item` of this batch.
    pub fn record_message(&mut self, item: &'a MessageSent, sent: MessageSent) {
        self.added.insert((&item.message_id, self.events.len()));
        if let Target::Room { room_id, .. } = &sent.target {
            *self.room_messages.entry(room_id.clone()).or_default() += 1;
        }
        self.record(Payload::MessageSent(sent));
    }

    /// The origin of an item that does not have one: this log.
    pub fn origin(&self, item: &Item) -> Origin {
        Origin {
            log: self.batch.log.clone(),
            sequence: item.sequence,
            node: self.batch.node_id.clone().into(),
            digest: item.digest.clone(),
        }
    }

    /// An earlier message of the same sender with this id, from the log or from this batch.
    pub fn find_earlier(&self, message_id: &'a str, sender: &str) -> Option<&MessageSent> {
        let logged = self.logged.get(message_id).into_iter().flatten().copied();
        let is_same =
            |sent: &&MessageSent| sent.origin.is_some() && fold(&sent.from) == fold(sender);
        logged.chain(self.added(message_id)).find(is_same)
    }

    /// An earlier direct message with this id to the same recipient, if the earlier one or this one
    /// is from an older relay. Such a relay does not name the sender's node, and one message id may
    /// stand for a message to several recipients.
    pub fn find_earlier_of_older_relay(
        &self,
        message_id: &'a str,
        sender: &str,
        recipient: &str,
    ) -> Option<&MessageSent> {
        let is_older = is_part(&self.batch.log);
        let is_same = |sent: &&MessageSent| {
            let is_to = match &sent.target {
                Target::Mailbox(mailbox) => mailbox == recipient,
                Target::DeadLetter { alias, .. } => fold(alias) == fold(recipient),
                _ => false,
            };
            is_to
                && (is_older || is_from_older_relay(sent.origin.as_ref()))
                && sent.origin.is_some()
                && folded_alias(&sent.from) == folded_alias(sender)
        };
        let logged = self.logged.get(message_id).into_iter().flatten().copied();
        logged.chain(self.added(message_id)).find(is_same)
    }

    /// At a relay: the message of this sender with the same id that was sent by a JSON request, and
    /// so has no origin.
    pub fn find_sent_by_request(
        &self,
        sent: &MessageSent,
        sender: &str,
    ) -> Option<&'a MessageSent> {
        let is_to_room = |target: &Target| matches!(target, Target::Room { .. });
        let is_same = |earlier: &&MessageSent| {
            earlier.origin.is_none()
                && !matches!(earlier.target, Target::DeadLetter { .. })
                && is_to_room(&earlier.target) == is_to_room(&sent.target)
                && fold(&earlier.from) == fold(sender)
        };
        self.logged.get(sent.message_id.as_str()).into_iter().flatten().copied().find(is_same)
    }

    /// Messages with this id among the new events.
    pub fn added(&self, message_id: &'a str) -> impl Iterator<Item = &MessageSent> {
        let indices = self.added.range((message_id, 0)..=(message_id, usize::MAX));
        indices.filter_map(|(_, index)| match &self.events[*index] {
            Payload::MessageSent(sent) => Some(sent),
            _ => None,
        })
    }

    /// Number of messages to a room among the new events. The state does not contain them yet.
    pub fn added_to_room(&self, room_id: &str) -> u64 {
        self.room_messages.get(room_id).copied().unwrap_or_default()
    }
}

/// A message from another log in the form in which this log records it.
pub(super) fn received_message(
    sent: &MessageSent,
    from: String,
    to: String,
    target: Target,
    origin: Origin,
) -> MessageSent {
    // Not a clone with updated fields: most of what it would copy is replaced.
    MessageSent {
        message_id: sent.message_id.clone(),
        from_mailbox: fold(&from),
        from,
        to,
        body: sent.body.clone(),
        sent_us: sent.sent_us,
        target,
        tag: sent.tag.clone(),
        reply_to: sent.reply_to.clone(),
        expires_us: sent.expires_us,
        deferrable: sent.deferrable,
        source: sent.source.clone(),
        origin: Some(origin),
    }
}

/// The event that moves the cursor of another log: `In` for a log that is read, `Out` for one that
/// reads this log.
pub(super) fn cursor_advanced(
    direction: CursorDirection,
    log: String,
    node_id: NodeId,
    position: &Position,
    public_key: String,
) -> Payload {
    Payload::CursorAdvanced(CursorAdvanced {
        direction,
        log,
        node_id: node_id.into(),
        sequence: position.sequence,
        digest: position.digest.clone(),
        public_key,
        floor: None,
    })
}
