//! Do nodes and a relay keep their promises to each other, seen without files and sockets?

mod lanes;
mod relay;
mod rooms;
mod world;

use std::cell::Cell;

use c2c::code::Code;
use c2c::decide::{
    Actor, Batch, Command, Decision, Facts, Item, LeaseRegister, Leaving, Liveness, Position,
    Pushed, Refusal, Relay, Reply, Send, decide, serves,
};
use c2c::state::State;
use c2c_log_format::id::hex;
use c2c_log_format::payload::MessageSent;
use c2c_log_format::{Event, Payload};

/// Time between two commands, so that leases can end.
const STEP_US: u64 = 1_000;
pub const TTL_S: u64 = 300;

/// One log and what is known of it.
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
    relay: Option<Relay>,
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
        Self { relay: Some(Relay { names, ..Relay::default() }), ..Self::node("relay", id) }
    }

    /// Decides and appends, as the broker does.
    pub fn execute(&mut self, actor: &Actor, command: &Command) -> Result<Reply, Refusal> {
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
            is_mine: &|_| false,
            prior: self.prior(command),
            mint: &mint,
            relay: self.relay.as_ref(),
        };
        let Decision { events, reply, .. } = decide(&self.state, command, &facts)?;
        for event in events {
            self.append(event);
        }
        self.frames.push(self.head());
        Ok(reply)
    }

    pub fn append(&mut self, event: Payload) {
        let json = event.encode();
        let head = event.head(self.head() + 1);
        self.state.apply_event(&Event { head, payload: &json }, self.now_us);
        self.events.push(event);
        self.times.push(self.now_us);
    }

    fn prior(&self, command: &Command) -> Vec<(u64, MessageSent)> {
        let ids: Vec<&String> = match command {
            Command::Send(Send { message_id: Some(id), .. })
            | Command::RoomSend { send: Send { message_id: Some(id), .. }, .. } => vec![id],
            Command::Receive(batch) => batch.items.iter().filter_map(id_of).collect(),
            _ => Vec::new(),
        };
        let sent = self.messages().filter(|(_, sent)| ids.contains(&&sent.message_id));
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

    /// A place in this log; the beginning has no digest.
    pub fn position(&self, sequence: u64) -> Position {
        let Some(event) = (sequence as usize).checked_sub(1).and_then(|at| self.events.get(at))
        else {
            return Position::default();
        };
        let (head, json) = (event.head(sequence), event.encode());
        let digest = hex(&Event { head, payload: &json }.digest(self.times[sequence as usize - 1]));
        Position { sequence, digest }
    }

    /// Whether this log has that place.
    pub fn has(&self, position: &Position) -> bool {
        position.sequence <= self.head() && self.position(position.sequence) == *position
    }

    /// The log as it was after a part of its frames; time goes on.
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

    /// Somebody on this node.
    pub fn agent(&self, alias: &str) -> Actor {
        Actor {
            session_id: Some(format!("s-{alias}")),
            node_id: self.node_id.clone(),
            key: None,
            ..Actor::default()
        }
    }

    /// The connector of this node, as the relay sees it.
    pub fn connector(&self) -> Actor {
        Actor {
            node_id: self.node_id.clone(),
            key: Some(format!("key-{}", self.node_id)),
            ..Actor::default()
        }
    }

    pub fn register(&mut self, alias: &str) -> Result<Reply, Refusal> {
        let command = Command::Register { alias: Some(alias.into()) };
        self.execute(&self.agent(alias), &command)
    }

    pub fn send(&mut self, alias: &str, to: &str, id: &str, body: &str) -> Result<Reply, Refusal> {
        let send = Send {
            to: to.into(),
            body: body.into(),
            message_id: Some(id.into()),
            ..Send::default()
        };
        self.execute(&self.agent(alias), &Command::Send(send))
    }

    /// Messages in the mailbox of an alias, read or not: those that came here.
    pub fn arrived(&self) -> Vec<&MessageSent> {
        use c2c_log_format::payload::Target::Mailbox;
        let came = |sent: &&MessageSent| sent.origin.is_some() && matches!(sent.target, Mailbox(_));
        self.messages().map(|(_, sent)| sent).filter(came).collect()
    }
}

fn id_of(item: &Item) -> Option<&String> {
    match &item.payload {
        Payload::MessageSent(sent) => Some(&sent.message_id),
        _ => None,
    }
}

/// How a request over the network ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Fine,
    RequestLost,
    ReplyLost,
    /// The same request arrives once more, late.
    Twice,
}

/// Registers all that the node has, as a connector does before each exchange.
pub fn beat(node: &Log, relay: &mut Log) {
    let leases = node.state.sessions.scan([]).into_iter().filter_map(|(_, session)| {
        Some(LeaseRegister {
            alias: node.state.mailboxes.get(&session.mailbox)?.alias,
            node_id: node.node_id.clone(),
            session_id: session.session_id,
            client_type: None,
            ttl_s: TTL_S,
            liveness: "unknown".into(),
            replicated: true,
        })
    });
    let command = Command::LeaseRegisterAll(leases.collect());
    match relay.execute(&node.connector(), &command) {
        Ok(Reply::LeasedAll(leased)) => assert!(leased.iter().all(Result::is_ok), "{leased:?}"),
        other => panic!("unexpected {other:?}"),
    }
}

/// One push: first what waits, then what is new. With neither, the empty batch still asks whether the
/// relay is where it was.
pub fn push(node: &mut Log, relay: &mut Log, limit: usize, fate: Fate) {
    let batch = outgoing(node, &relay.id, limit);
    exchange(node, relay, &batch, fate);
}

pub fn outgoing(node: &Log, relay: &str, limit: usize) -> Batch {
    let leaving = Leaving::new(&node.state, &node.node_id, relay);
    let cursor = node.state.cursor("out", relay);
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
    Batch { log: node.id.clone(), node_id: node.node_id.clone(), start, items, end }
}

fn exchange(node: &mut Log, relay: &mut Log, batch: &Batch, fate: Fate) {
    if fate == Fate::RequestLost {
        return;
    }
    let actor = node.connector();
    let answer = relay.execute(&actor, &Command::Receive(batch.clone()));
    if fate == Fate::Twice {
        let again = relay.execute(&actor, &Command::Receive(batch.clone()));
        assert!(again.is_err() || batch.items.is_empty(), "a batch counts once");
    }
    if fate == Fate::ReplyLost {
        return;
    }
    let received = match answer {
        Ok(Reply::Received(received)) => received,
        // Not registered there, or not any more.
        Err(refusal) if refusal.code == Code::ForeignSender => return,
        Err(refusal) => {
            let expected = refusal.expected.expect("where to go on");
            let expected = Position { sequence: expected.sequence, digest: expected.digest };
            if !node.has(&expected) {
                // What the relay knows is not this log any more.
                node.id = format!("{}+", node.id);
            }
            let position = if node.has(&expected) { expected } else { Position::default() };
            let log = node.id.clone();
            c2c::decide::Received { log, position, outcomes: Vec::new() }
        }
        other => panic!("unexpected {other:?}"),
    };
    let (relay, relay_name) = (relay.id.clone(), relay.node_id.clone());
    let pushed = Command::Pushed(Pushed { relay, relay_name, received, refused: Vec::new() });
    node.execute(&node.connector(), &pushed).expect("an answer is taken");
}

/// One pull; whether anything came.
pub fn pull(node: &mut Log, relay: &mut Log, limit: usize, fate: Fate) -> bool {
    if fate == Fate::RequestLost {
        return false;
    }
    let cursor = node.state.cursor("in", &relay.id);
    let start = Position { sequence: cursor.sequence, digest: cursor.digest };
    let mut batch = Batch {
        log: relay.id.clone(),
        node_id: relay.node_id.clone(),
        end: start.clone(),
        start: start.clone(),
        items: Vec::new(),
    };
    if !relay.has(&start) {
        // The relay is not the one that it was: from the beginning.
        batch.end = Position::default();
        node.execute(&node.connector(), &Command::Receive(batch)).expect("a new beginning");
        return true;
    }
    let (log, node_id) = (node.id.clone(), node.node_id.clone());
    let confirm = Command::Confirm { log, node_id, position: start.clone() };
    if relay.execute(&node.connector(), &confirm).is_err() {
        return false;
    }
    for sequence in start.sequence + 1..=relay.head() {
        if batch.items.len() >= limit {
            break;
        }
        let event = &relay.events[sequence as usize - 1];
        let items = serves(&relay.state, &node.node_id, &node.id, sequence, event);
        batch.items.extend(items.into_iter().map(|payload| relay.item(sequence, payload)));
        batch.end = relay.position(sequence);
    }
    if batch.items.is_empty() || fate == Fate::ReplyLost {
        return false;
    }
    let command = Command::Receive(batch);
    node.execute(&node.connector(), &command).expect("a batch in order");
    if fate == Fate::Twice {
        node.execute(&node.connector(), &command).expect_err("a batch counts once");
    }
    true
}

/// Exchanges until nothing comes of it any more. Messages for hosts that nobody knows are pushed for
/// ever, so the cursors do not come to rest.
pub fn settle(nodes: &mut [Log], relay: &mut Log) {
    let known = |node: &Log| {
        let moves = |event: &&Payload| !matches!(event, Payload::CursorAdvanced(_));
        (node.events.iter().filter(moves).count(), node.id.clone())
    };
    let mut quiet = 0;
    for _ in 0..60 {
        let before: Vec<_> = nodes.iter().map(known).collect();
        for node in nodes.iter_mut() {
            beat(node, relay);
            push(node, relay, 1000, Fate::Fine);
            pull(node, relay, 1000, Fate::Fine);
        }
        let same = before == nodes.iter().map(known).collect::<Vec<_>>();
        quiet = if same { quiet + 1 } else { 0 };
        if quiet == 3 {
            return;
        }
    }
    panic!("the swarm does not come to rest");
}
