//! What becomes of events that come from another log?
//!
//! The same at both ends: a batch goes on where the one before ended, each item is taken once, and
//! the cursor moves in the frame that holds what was taken.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use c2c_log_format::id::fold;
use c2c_log_format::payload::{CursorAdvanced, MessageSent, Origin, Target};
use c2c_log_format::{Payload, Sequence};

use super::{Decision, Facts, Refusal, Reply, relay_end, root_end};
use crate::code::Code;
use crate::state::{Cursor, State};

/// A place in a log: a sequence, and the digest of the event there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    pub sequence: Sequence,
    pub digest: String,
}

/// Events of one log, from one place to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Log that they are from.
    pub log: String,
    /// Node that keeps it.
    pub node_id: String,
    pub start: Position,
    /// In order. Items before `start` are tried again.
    pub items: Vec<Item>,
    /// As far as it was read, items or not.
    pub end: Position,
}

/// One event, as it leaves its log. An event may leave as several items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub sequence: Sequence,
    /// Digest of the event in its log.
    pub digest: String,
    pub payload: Payload,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// Known, and on its way.
    Duplicate,
    /// Known, and it has arrived.
    Delivered,
    Refused(Refusal),
}

/// Answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Log id of whose items these were, and where the next batch starts.
    pub log: String,
    pub position: Position,
    pub outcomes: Vec<(Sequence, Outcome)>,
}

/// What a relay answered to a batch of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Log id of the relay, and its name.
    pub relay: String,
    pub relay_name: String,
    pub received: Received,
    /// What happened in rooms and is refused now: nothing else here remembers it.
    pub refused: Vec<(Sequence, Payload)>,
}

/// A batch being taken in.
pub(super) struct Intake<'a> {
    pub state: Cow<'a, State>,
    pub batch: &'a Batch,
    pub facts: &'a Facts<'a>,
    events: Vec<Payload>,
    /// Messages among the facts, by id.
    logged: HashMap<&'a str, Vec<&'a MessageSent>>,
    /// Messages among the events, by id: where they are.
    here: BTreeSet<(&'a str, usize)>,
    /// How many of them were said in a room.
    said: HashMap<String, u64>,
    /// Rooms of the pushing node that are others here, by the same name: why nothing of them is taken.
    pub others: HashMap<String, Refusal>,
    /// Who senders are and what addresses mean, as found for earlier items of this batch.
    found: HashMap<(&'a str, Option<&'a str>), Result<String, Refusal>>,
}

impl<'a> Intake<'a> {
    fn new(state: &'a State, batch: &'a Batch, facts: &'a Facts<'a>) -> Self {
        let mut logged = HashMap::<_, Vec<_>>::new();
        for (_, sent) in &facts.prior {
            logged.entry(sent.message_id.as_str()).or_default().push(sent);
        }
        let events = Vec::with_capacity(batch.items.len() + 1);
        let (here, said, found) = (BTreeSet::new(), HashMap::new(), HashMap::new());
        let (state, others) = (Cow::Borrowed(state), HashMap::new());
        Self { state, batch, facts, events, logged, here, said, others, found }
    }

    /// Answers a question about an alias, here or on a host, once for all items: until an event
    /// changes the answers.
    pub fn once(
        &mut self,
        alias: &'a str,
        host: Option<&'a str>,
        find: impl FnOnce(&mut Self) -> Result<String, Refusal>,
    ) -> Result<String, Refusal> {
        if let Some(found) = self.found.get(&(alias, host)) {
            return found.clone();
        }
        let found = find(self);
        self.found.insert((alias, host), found.clone());
        found
    }

    /// Records an event.
    pub fn add(&mut self, event: Payload) {
        self.events.push(event);
    }

    /// Records a message: what an item of this batch, with the same id, became.
    pub fn add_message(&mut self, item: &'a MessageSent, sent: MessageSent) {
        self.here.insert((&item.message_id, self.events.len()));
        if let Target::Room { room_id, .. } = &sent.target {
            *self.said.entry(room_id.clone()).or_default() += 1;
        }
        self.add(Payload::MessageSent(sent));
    }

    /// Records an event that later items of the batch must see.
    pub fn add_seen(&mut self, event: Payload) {
        self.found.clear();
        let state = self.state.to_mut();
        state.apply(state.head + 1, self.facts.now_us, &event);
        self.add(event);
    }

    /// Where an item was first written, unless it says so itself.
    pub fn origin(&self, item: &Item) -> Origin {
        Origin {
            log: self.batch.log.clone(),
            sequence: item.sequence,
            node: self.batch.node_id.clone(),
            digest: item.digest.clone(),
        }
    }

    /// An earlier message of the same sender with this id: from the log, or from this batch.
    pub fn earlier(&self, message_id: &'a str, sender: &str) -> Option<&MessageSent> {
        let logged = self.logged.get(message_id).into_iter().flatten().copied();
        let same = |sent: &&MessageSent| sent.origin.is_some() && fold(&sent.from) == fold(sender);
        logged.chain(self.here(message_id)).find(same)
    }

    /// Messages of this batch with this id.
    pub fn here(&self, message_id: &'a str) -> impl Iterator<Item = &MessageSent> {
        let places = self.here.range((message_id, 0)..=(message_id, usize::MAX));
        places.filter_map(|(_, place)| match &self.events[*place] {
            Payload::MessageSent(sent) => Some(sent),
            _ => None,
        })
    }

    /// How many messages of this batch were said in a room. They are not in the state yet.
    pub fn said_in(&self, room_id: &str) -> u64 {
        self.said.get(room_id).copied().unwrap_or_default()
    }
}

/// A message from another log, as it is kept here: from an address, for a place here.
pub(super) fn arrived(
    sent: &MessageSent,
    from: String,
    to: String,
    target: Target,
    origin: Origin,
) -> MessageSent {
    // Field by field: most of what a clone would copy is replaced.
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

pub(super) fn receive(
    state: &State,
    batch: &Batch,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let cursor = state.cursor("in", &batch.log);
    check_start(&cursor, &batch.start)?;
    if !batch.items.is_empty() && batch.end == batch.start {
        // A log that was restored to before this batch must show that by its cursor.
        return Err(Refusal::new(
            Code::InvalidArgument,
            "end",
            "a batch with items moves the cursor",
        ));
    }
    if facts.relay.is_some() {
        relay_end::check_owner(state, batch, &cursor, facts)?;
    }
    let mut intake = Intake::new(state, batch, facts);
    if facts.relay.is_some() {
        relay_end::bind_senders(&mut intake);
    }
    let mut outcomes = Vec::with_capacity(batch.items.len());
    let mut receipts = Vec::new();
    for item in &batch.items {
        let outcome = match facts.relay {
            Some(relay) => relay_end::take(&mut intake, item, relay)?,
            None => root_end::take(&mut intake, item, &mut receipts)?,
        };
        outcomes.push((item.sequence, outcome));
    }
    let mut events = intake.events;
    events.extend(root_end::issued(receipts));
    if batch.end != batch.start {
        let key = facts.actor.key.clone().filter(|_| facts.relay.is_some()).unwrap_or_default();
        let (log, node_id) = (batch.log.clone(), batch.node_id.clone());
        events.push(advanced("in", log, node_id, &batch.end, key));
    }
    let (log, position) = (batch.log.clone(), batch.end.clone());
    let reply = Reply::Received(Received { log, position, outcomes });
    Ok(Decision { events, reply, durable: true })
}

/// A batch goes on where the one before ended. The same sequence with another digest means that the
/// other log is not the one that it was.
fn check_start(cursor: &Cursor, start: &Position) -> Result<(), Refusal> {
    if cursor.sequence == start.sequence && cursor.digest == start.digest {
        return Ok(());
    }
    let (code, message) = if cursor.sequence == start.sequence {
        (Code::OriginDiverged, "the log holds another event at the cursor".to_owned())
    } else {
        (Code::CursorDiverged, format!("the cursor is at {}", cursor.sequence))
    };
    let mut refusal = Refusal::new(code, "start", message);
    refusal.expected = Some(Box::new(cursor.clone()));
    Err(refusal)
}

pub(super) fn advanced(
    direction: &str,
    log: String,
    node_id: String,
    at: &Position,
    public_key: String,
) -> Payload {
    Payload::CursorAdvanced(CursorAdvanced {
        direction: direction.to_owned(),
        log,
        node_id,
        sequence: at.sequence,
        digest: at.digest.clone(),
        public_key,
        floor: None,
    })
}

/// A node has read this relay's log so far: what it asks for next says so. One that begins anew has
/// lost what it had, and gets only what it never confirmed.
pub(super) fn confirm(
    state: &State,
    log: &str,
    node_id: &str,
    position: &Position,
    facts: &Facts<'_>,
) -> Result<Decision, Refusal> {
    let batch = Batch { log: log.into(), node_id: node_id.into(), ..Batch::default() };
    relay_end::check_owner(state, &batch, &state.cursor("in", log), facts)?;
    let cursor = state.cursor("out", log);
    let anew = position.sequence == 0;
    let mut events = Vec::new();
    if cursor.sequence != position.sequence || cursor.node_id.is_empty() {
        events.push(Payload::CursorAdvanced(CursorAdvanced {
            direction: "out".into(),
            log: log.to_owned(),
            node_id: node_id.to_owned(),
            sequence: position.sequence,
            digest: position.digest.clone(),
            public_key: facts.actor.key.clone().unwrap_or_default(),
            floor: anew.then_some(state.head),
        }));
    }
    Ok(Decision { events, reply: Reply::Done, durable: anew })
}
