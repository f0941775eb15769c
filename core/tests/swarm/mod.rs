//! Replication between nodes and a relay, without files and sockets.

mod lanes;
mod relay;
mod rooms;
mod world;

use std::cell::Cell;

use c2c_core::code::Code;
use c2c_core::command::{self, Command, Prior};
use c2c_core::decide::{
    Actor, Batch, Decision, Facts, Item, LeaseRequest, Liveness, OutgoingEvents, Position, Pushed,
    Registered, Rejection, RelayFacts, Send, Sent, decide, events_for_node,
};
use c2c_core::state::State;
use c2c_log_format::id::hex;
use c2c_log_format::payload::{CursorDirection, MessageSent};
use c2c_log_format::{Event, Payload};

/// Time between two commands, so that leases can end.
const STEP_US: u64 = 1_000;
pub const TTL_S: u64 = 300;

/// The log of a node or a relay, with its state.
#[derive(Clone)]
pub struct Log {
    pub id: String,
    pub node_id: String,
    pub state: State,
    pub events: Vec<Payload>,
    pub now_us: u64,
    /// When each event was written.
    times: Vec<u64>,
    /// Heads after each frame.
    frames: Vec<u64>,
    relay: Option<RelayFacts>,
    minted: Cell<u64>,
}

impl Log {
    pub fn node(node_id: &str, id: &str) -> Self {
        Self {
            id: id.into(),
            node_id: node_id.into(),
            state: State::default(),
            events: Vec::new(),
            now_us: 1_000_000,
            times: Vec::new(),
            frames: Vec::new(),
            relay: None,
            minted: Cell::new(0),
        }
    }

    pub fn relay(id: &str) -> Self {
        let names = vec!["relay".to_owned(), "hub.example".to_owned()];
        Self {
            relay: Some(RelayFacts { names, ..RelayFacts::default() }),
            ..Self::node("relay", id)
        }
    }

    /// Decides a command and appends its events, as the broker does.
    pub fn execute<C: Command>(
        &mut self,
        actor: &Actor,
        command: &C,
    ) -> Result<C::Reply, Rejection> {
        self.now_us += STEP_US;
        let mint = || {
            self.minted.set(self.minted.get() + 1);
            format!("{}-{}", self.id, self.minted.get())
        };
        let facts = Facts {
            now_us: self.now_us,
            actor,
            worker: None,
            liveness: &|_| Liveness::Unknown,
            is_callers_process: &|_| false,
            prior: self.prior(command),
            mint: &mint,
            relay: self.relay.as_ref(),
        };
        let Decision { events, outcome, .. } = decide(&self.state, command, &facts)?;
        for event in events {
            self.append(event);
        }
        self.frames.push(self.head());
        outcome
    }

    pub fn append(&mut self, event: Payload) {
        let json = event.encode();
        let head = event.head(self.head() + 1);
        self.state.apply_event(&Event { head, payload: &json }, self.now_us);
        self.events.push(event);
        self.times.push(self.now_us);
    }

    fn prior<C: Command>(&self, command: &C) -> Vec<(u64, MessageSent)> {
        let Prior::Ids(ids) = command.prior(&self.state) else { return Vec::new() };
        let sent = self.messages().filter(|(_, sent)| ids.iter().any(|id| *id == sent.message_id));
        sent.map(|(at, sent)| (at, sent.clone())).collect()
    }

    pub fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// All messages with their sequences.
    pub fn messages(&self) -> impl Iterator<Item = (u64, &MessageSent)> {
        (1..).zip(&self.events).filter_map(|(at, event)| match event {
            Payload::MessageSent(sent) => Some((at, sent)),
            _ => None,
        })
    }

    /// The position of an event in this log; the start has no digest.
    pub fn position(&self, sequence: u64) -> Position {
        let Some(event) = (sequence as usize).checked_sub(1).and_then(|at| self.events.get(at))
        else {
            return Position::default();
        };
        let (head, json) = (event.head(sequence), event.encode());
        let digest = hex(&Event { head, payload: &json }.digest(self.times[sequence as usize - 1]));
        Position { sequence, digest }
    }

    /// Whether this log contains that position.
    pub fn has(&self, position: &Position) -> bool {
        position.sequence <= self.head() && self.position(position.sequence) == *position
    }

    /// Restores the log to an earlier frame: `keep` is the part that remains, of 256. The clock is
    /// not reset.
    pub fn restore(&mut self, keep: u8, id: String) {
        self.frames.truncate(self.frames.len() * usize::from(keep) / 256);
        let head = self.frames.last().map_or(0, |head| *head as usize);
        self.events.truncate(head);
        self.times.truncate(head);
        self.state = State::default();
        for (sequence, event) in (1..).zip(&self.events) {
            self.state.apply(sequence, self.times[sequence as usize - 1], event);
        }
        self.id = id;
    }

    pub fn item(&self, sequence: u64, payload: Payload) -> Item {
        Item { sequence, digest: self.position(sequence).digest, payload }
    }

    /// An agent on this node.
    pub fn agent(&self, alias: &str) -> Actor {
        Actor {
            session_id: Some(format!("s-{alias}").into()),
            node_id: self.node_id.clone().into(),
            key: None,
            ..Actor::default()
        }
    }

    /// The connector of this node, as the relay sees it.
    pub fn connector(&self) -> Actor {
        Actor {
            node_id: self.node_id.clone().into(),
            key: Some(format!("key-{}", self.node_id)),
            ..Actor::default()
        }
    }

    pub fn register(&mut self, alias: &str) -> Result<Registered, Rejection> {
        let command = command::Register { alias: Some(alias.into()) };
        self.execute(&self.agent(alias), &command)
    }

    pub fn send(&mut self, alias: &str, to: &str, id: &str, body: &str) -> Result<Sent, Rejection> {
        let send = Send {
            to: to.into(),
            body: body.into(),
            message_id: Some(id.into()),
            ..Send::default()
        };
        self.execute(&self.agent(alias), &send)
    }

    /// Messages from other logs in the mailboxes of this node, read or unread.
    pub fn arrived(&self) -> Vec<&MessageSent> {
        use c2c_log_format::payload::Target::Mailbox;
        let is_received =
            |sent: &&MessageSent| sent.origin.is_some() && matches!(sent.target, Mailbox(_));
        self.messages().map(|(_, sent)| sent).filter(is_received).collect()
    }
}

/// The outcome of a request over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Fine,
    RequestLost,
    ReplyLost,
    /// The same request arrives twice.
    Twice,
}

/// Registers all sessions of a node, as a connector does before each exchange.
pub fn register_leases(node: &Log, relay: &mut Log) {
    let leases = node.state.sessions.scan([]).into_iter().filter_map(|(_, session)| {
        Some(LeaseRequest {
            alias: node.state.mailboxes.get(&session.mailbox)?.alias,
            node_id: node.node_id.clone().into(),
            session_id: session.session_id,
            client_type: None,
            ttl_s: TTL_S,
            liveness: "unknown".into(),
            replicated: true,
        })
    });
    let command = command::RegisterLeases(leases.collect());
    let leased = relay.execute(&node.connector(), &command).expect("a registration");
    assert!(leased.iter().all(Result::is_ok), "{leased:?}");
}

/// Runs one push: first the waiting events, then the new ones. An empty batch still checks whether
/// the relay has kept its position.
pub fn push(node: &mut Log, relay: &mut Log, limit: usize, fate: Fate) {
    let batch = outgoing(node, &relay.id, limit);
    exchange(node, relay, &batch, fate);
}

pub fn outgoing(node: &Log, relay: &str, limit: usize) -> Batch {
    let leaving = OutgoingEvents::new(&node.state, &node.node_id, relay);
    let cursor = node.state.cursor(&CursorDirection::Out, relay);
    let start = Position { sequence: cursor.sequence, digest: cursor.digest };
    let again = |at: u64| node.item(at, node.events[at as usize - 1].clone());
    let mut items: Vec<Item> = leaving.retries().into_iter().map(again).collect();
    let mut end = start.sequence;
    let full = items.len() + limit;
    while items.len() < full && end < node.head() {
        end += 1;
        let leave = leaving.items(end, &node.events[end as usize - 1]);
        items.extend(leave.into_iter().map(|payload| node.item(end, payload)));
    }
    let end = if items.is_empty() { start.clone() } else { node.position(end) };
    Batch { log: node.id.clone(), node_id: node.node_id.clone().into(), start, items, end }
}

fn exchange(node: &mut Log, relay: &mut Log, batch: &Batch, fate: Fate) {
    if fate == Fate::RequestLost {
        return;
    }
    let actor = node.connector();
    let response = relay.execute(&actor, &command::ReceiveBatch(batch.clone()));
    if fate == Fate::Twice {
        let again = relay.execute(&actor, &command::ReceiveBatch(batch.clone()));
        assert!(again.is_err() || batch.items.is_empty(), "a batch counts once");
    }
    if fate == Fate::ReplyLost {
        return;
    }
    let received = match response {
        Ok(received) => received,
        // The node is not registered at the relay.
        Err(rejection) if rejection.code == Code::ForeignSender => return,
        Err(rejection) => {
            let expected = rejection.expected.expect("a position to resume from");
            let expected = Position { sequence: expected.sequence, digest: expected.digest };
            if !node.has(&expected) {
                // The relay knows another history of this log.
                node.id = format!("{}+", node.id);
            }
            let position = if node.has(&expected) { expected } else { Position::default() };
            let log = node.id.clone();
            c2c_core::decide::Received { log, position, outcomes: Vec::new() }
        }
    };
    let (relay, relay_name) = (relay.id.clone(), relay.node_id.clone());
    let pushed = Pushed { relay, relay_name, received, rejected_room_events: Vec::new() };
    node.execute(&node.connector(), &pushed).expect("an accepted response");
}

/// Runs one pull; returns whether events arrived.
pub fn pull(node: &mut Log, relay: &mut Log, limit: usize, fate: Fate) -> bool {
    if fate == Fate::RequestLost {
        return false;
    }
    let cursor = node.state.cursor(&CursorDirection::In, &relay.id);
    let start = Position { sequence: cursor.sequence, digest: cursor.digest };
    let mut batch = Batch {
        log: relay.id.clone(),
        node_id: relay.node_id.clone().into(),
        end: start.clone(),
        start: start.clone(),
        items: Vec::new(),
    };
    if !relay.has(&start) {
        // The relay has another history: start from the beginning.
        batch.end = Position::default();
        node.execute(&node.connector(), &command::ReceiveBatch(batch)).expect("a new start");
        return true;
    }
    let (log, node_id) = (node.id.clone(), node.node_id.clone());
    let confirm =
        command::ConfirmPosition { log, node_id: node_id.into(), position: start.clone() };
    if relay.execute(&node.connector(), &confirm).is_err() {
        return false;
    }
    for sequence in start.sequence + 1..=relay.head() {
        if batch.items.len() >= limit {
            break;
        }
        let event = &relay.events[sequence as usize - 1];
        let items = events_for_node(&relay.state, &node.node_id, &node.id, sequence, event);
        batch.items.extend(items.into_iter().map(|payload| relay.item(sequence, payload)));
        batch.end = relay.position(sequence);
    }
    if batch.items.is_empty() || fate == Fate::ReplyLost {
        return false;
    }
    let command = command::ReceiveBatch(batch);
    node.execute(&node.connector(), &command).expect("a batch in order");
    if fate == Fate::Twice {
        node.execute(&node.connector(), &command).expect_err("a batch counts once");
    }
    true
}

/// Exchanges events until none arises. Messages for unknown hosts are pushed again in each round, so
/// cursors are not compared.
pub fn settle(nodes: &mut [Log], relay: &mut Log) {
    let known = |node: &Log| {
        let moves = |event: &&Payload| !matches!(event, Payload::CursorAdvanced(_));
        (node.events.iter().filter(moves).count(), node.id.clone())
    };
    let mut quiet = 0;
    for _ in 0..60 {
        let before: Vec<_> = nodes.iter().map(known).collect();
        for node in nodes.iter_mut() {
            register_leases(node, relay);
            push(node, relay, 1000, Fate::Fine);
            pull(node, relay, 1000, Fate::Fine);
        }
        let same = before == nodes.iter().map(known).collect::<Vec<_>>();
        quiet = if same { quiet + 1 } else { 0 };
        if quiet == 3 {
            return;
        }
    }
    panic!("the swarm does not settle");
}
