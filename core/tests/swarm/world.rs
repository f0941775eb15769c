//! Random sends, exchanges, losses and restores: each accepted message ends in exactly one place.

use std::collections::{BTreeMap, BTreeSet};

use c2c_core::command::{self, Command};
use c2c_core::decide::Send;
use c2c_log_format::Payload;
use c2c_log_format::payload::{CursorDirection, MessageSent, Target};
use quickcheck::{Arbitrary, Gen};

use super::{Fate, Log, pull, push, register_leases, settle};
use crate::random::{Cases, check};

const CASES: Cases = Cases { fast: 2_000, slow: 10_000, size: 100 };
const NODES: [&str; 2] = ["alpha-00000001", "beta-00000002"];
/// `ann` is on both nodes.
const AGENTS: [[&str; 2]; 2] = [["ann", "bob"], ["ann", "cyd"]];
const HOSTS: [&str; 6] = ["", "@alpha-00000001", "@beta-00000002", "@beta", "@relay", "@nowhere"];
const NAMES: [&str; 4] = ["ann", "bob", "cyd", "zoe"];

#[derive(Debug, Clone)]
enum Op {
    Register(usize, usize),
    Send { node: usize, who: usize, to: usize, host: usize },
    Repeat(usize),
    Join(usize, usize),
    Leave(usize, usize),
    SendRoom(usize, usize),
    Read(usize, usize),
    Heartbeat(usize),
    Push(usize, usize, Fate),
    Pull(usize, usize, Fate),
    Restore { node: usize, keep: u8, noticed: bool },
    RestoreRelay { keep: u8, noticed: bool },
}

impl Arbitrary for Fate {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 8 {
            0 => Self::RequestLost,
            1 => Self::ReplyLost,
            2 => Self::Twice,
            _ => Self::Fine,
        }
    }
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let pick = |g: &mut Gen, below: usize| usize::arbitrary(g) % below;
        let (node, who) = (pick(g, 2), pick(g, 2));
        let limit = 1 + pick(g, 6);
        match u8::arbitrary(g) % 40 {
            0..=3 => Self::Register(node, who),
            4..=15 => {
                Self::Send { node, who, to: pick(g, NAMES.len()), host: pick(g, HOSTS.len()) }
            }
            16 => Self::Repeat(pick(g, 16)),
            17 | 18 => Self::Join(node, who),
            19 => Self::Leave(node, who),
            20..=22 => Self::SendRoom(node, who),
            23 => Self::Read(node, who),
            24 | 25 => Self::Heartbeat(node),
            26..=31 => Self::Push(node, limit, Fate::arbitrary(g)),
            32..=37 => Self::Pull(node, limit, Fate::arbitrary(g)),
            38 => Self::Restore { node, keep: u8::arbitrary(g), noticed: bool::arbitrary(g) },
            _ => Self::RestoreRelay { keep: u8::arbitrary(g), noticed: bool::arbitrary(g) },
        }
    }
}

/// An accepted message and its sender. The list has the order of acceptance.
#[derive(Debug, Clone)]
struct Accepted {
    node: usize,
    who: &'static str,
    to: String,
    id: String,
}

struct World {
    nodes: Vec<Log>,
    relay: Log,
    accepted: Vec<Accepted>,
    lives: u32,
    relay_restored: bool,
    /// Nodes that have lost a reply.
    forgetful: [bool; 2],
    /// Messages that a restore removed after their arrival, of which no log knows.
    excused: BTreeSet<String>,
    /// Messages whose bounce a restore removed: they are sent again, late.
    late: BTreeSet<String>,
}

/// Ids of the messages that bounced to their senders.
fn bounced(log: &Log) -> BTreeSet<String> {
    log.messages()
        .filter(|(_, m)| m.from == "c2c-system")
        .filter_map(|(_, m)| m.reply_to.clone())
        .collect()
}

fn id_after(log: &Log, lives: u32, noticed: bool) -> String {
    if noticed { format!("{}'{lives}", log.node_id) } else { log.id.clone() }
}

impl World {
    fn new() -> Self {
        Self {
            nodes: NODES.iter().map(|name| Log::node(name, name)).collect(),
            relay: Log::relay("relay"),
            accepted: Vec::new(),
            lives: 0,
            relay_restored: false,
            forgetful: [false; 2],
            excused: BTreeSet::new(),
            late: BTreeSet::new(),
        }
    }

    fn send(&mut self, node: usize, who: usize, to: &str, id: Option<String>) {
        let who = AGENTS[node][who];
        let again = id.is_some();
        let id = id.unwrap_or_else(|| format!("m{}", self.accepted.len()));
        let body = format!("body of {id}");
        if let Ok(sent) = self.nodes[node].send(who, to, &id, &body)
            && !again
        {
            self.accepted.push(Accepted { node, who, to: sent.to, id });
        }
    }

    fn room<C: Command>(&mut self, node: usize, who: usize, command: &C) -> bool {
        let agent = self.nodes[node].agent(AGENTS[node][who]);
        self.nodes[node].execute(&agent, command).is_ok()
    }

    fn step(&mut self, op: &Op) {
        let room_id = || String::from("den");
        match *op {
            Op::Register(node, who) => {
                self.nodes[node].register(AGENTS[node][who]).expect("a free alias");
            }
            Op::Send { node, who, to, host } => {
                let to = format!("{}{}", NAMES[to], HOSTS[host]);
                self.send(node, who, &to, None);
            }
            Op::Repeat(which) => {
                let Some(sent) = self.accepted.get(which).cloned() else { return };
                let known = self.nodes[sent.node].messages().any(|(_, m)| m.message_id == sent.id);
                let who = AGENTS[sent.node].iter().position(|name| *name == sent.who);
                if let (true, Some(who)) = (known, who) {
                    self.send(sent.node, who, &sent.to, Some(sent.id));
                }
            }
            Op::Join(node, who) => {
                self.room(node, who, &command::JoinRoom { room_id: room_id().into(), from: None });
            }
            Op::Leave(node, who) => {
                self.room(node, who, &command::LeaveRoom { room_id: room_id().into(), from: None });
            }
            Op::SendRoom(node, who) => {
                let send = Send { body: "said".into(), ..Send::default() };
                self.room(node, who, &command::SendToRoom { room_id: room_id().into(), send });
            }
            Op::Read(node, who) => self.read(node, who),
            Op::Heartbeat(node) => register_leases(&self.nodes[node], &mut self.relay),
            Op::Push(node, limit, fate) => {
                self.forgetful[node] |= fate == Fate::ReplyLost;
                push(&mut self.nodes[node], &mut self.relay, limit, fate);
            }
            Op::Pull(node, limit, fate) => {
                pull(&mut self.nodes[node], &mut self.relay, limit, fate);
            }
            // Each world restores one backup: two may contradict each other.
            Op::Restore { .. } | Op::RestoreRelay { .. } if self.lives > 0 => {}
            Op::Restore { node, keep, noticed } => self.restore(node, keep, noticed),
            Op::RestoreRelay { keep, noticed } => {
                self.lives += 1;
                self.relay_restored = true;
                let id = id_after(&self.relay, self.lives, noticed);
                self.relay.restore(keep, id);
            }
        }
    }

    fn read(&mut self, node: usize, who: usize) {
        let agent = self.nodes[node].agent(AGENTS[node][who]);
        let claim = command::ClaimInbox {
            limit: 3,
            max_bytes: usize::MAX,
            surface: "test".into(),
            manual: false,
            deferrable: true,
        };
        if let Ok(claimed) = self.nodes[node].execute(&agent, &claim)
            && let Some(claim) = claimed.claim
        {
            let ack = command::AckClaim { claim, level: "written".into() };
            self.nodes[node].execute(&agent, &ack).expect("an ack of an open claim");
        }
    }

    fn restore(&mut self, node: usize, keep: u8, noticed: bool) {
        self.lives += 1;
        let log = &mut self.nodes[node];
        let before: BTreeSet<String> = log.arrived().iter().map(|m| m.message_id.clone()).collect();
        let bounces = bounced(log);
        let id = id_after(log, self.lives, noticed);
        log.restore(keep, id);
        self.late.extend(bounces.difference(&bounced(log)).cloned());
        let after: BTreeSet<String> = log.arrived().iter().map(|m| m.message_id.clone()).collect();
        // The log receives again what it had read after the backup. If the backup had read nothing, the
        // node starts over, and what it once confirmed does not arrive again.
        if log.state.cursor(&CursorDirection::In, &self.relay.id).sequence == 0 {
            self.excused.extend(before.difference(&after).cloned());
        }
    }

    /// Asserts that a node may have received a message, by its address.
    fn check_recipient(&self, sent: &Accepted, at: usize, copy: &MessageSent) {
        let (alias, host) = sent.to.split_once('@').unwrap_or((&sent.to, ""));
        assert_eq!(copy.target, Target::Mailbox(alias.into()), "{sent:?} at {at}");
        let on = |node: usize| AGENTS[node].contains(&alias);
        match host {
            "beta" => assert_eq!(at, 1, "{sent:?}"),
            "relay" => assert!(on(at), "{sent:?}"),
            host if host == NODES[sent.node] => assert!(on(at), "{sent:?}"),
            host => assert_eq!(NODES[at], host, "{sent:?}"),
        }
    }

    fn check(&self) {
        let mut copies: BTreeMap<&str, Vec<(usize, &MessageSent)>> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for copy in node.arrived() {
                copies.entry(&copy.message_id).or_default().push((at, copy));
            }
        }
        for sent in &self.accepted {
            let found = copies.get(sent.id.as_str()).map_or(&[][..], Vec::as_slice);
            let nodes_with_copy: BTreeSet<usize> = found.iter().map(|(at, _)| *at).collect();
            assert_eq!(nodes_with_copy.len(), found.len(), "{sent:?} is duplicated: {found:?}");
            // A relay that has lost its data may assign a bare alias to another node.
            let bare = sent.to.ends_with("@relay") || sent.to.ends_with(NODES[sent.node]);
            let forgot = bare && self.relay_restored;
            assert!(found.len() <= 1 || forgot, "{sent:?} is in two places: {found:?}");
            if let Some((at, copy)) = found.first() {
                self.check_recipient(sent, *at, copy);
                assert_eq!(copy.from, format!("{}@{}", sent.who, NODES[sent.node]));
            }
            self.check_sender(sent, !found.is_empty());
        }
        self.check_order();
        self.check_rooms();
    }

    /// Asserts that the sender's log agrees with what happened to the message.
    fn check_sender(&self, sent: &Accepted, arrived: bool) {
        let node = &self.nodes[sent.node];
        let own = node.messages().find(|(_, m)| m.message_id == sent.id && m.origin.is_none());
        // Removed by a restore of its own node, or delivered there.
        let Some((sequence, message)) = own else { return };
        if !matches!(message.target, Target::Outbox { .. }) {
            return;
        }
        let open = node.state.outbox.get(sequence.to_be_bytes()).is_some();
        let letters = node.state.dead_letters.scan([]).into_iter();
        let dead =
            letters.filter(|(key, _)| c2c_core::state::sequence_in_key(key) == sequence).count();
        let bounces = node
            .messages()
            .filter(|(_, m)| m.reply_to.as_ref() == Some(&sent.id) && m.from == "c2c-system");
        let bounces = bounces.count();
        assert_eq!(dead, bounces, "{sent:?}: a bounce for each dead letter");
        assert!(dead <= 1 && !(dead == 1 && open), "{sent:?}: {dead} {open}");
        let nowhere = sent.to.ends_with("@nowhere");
        assert!(!nowhere || open, "{sent:?} should wait for its host");
        let fates = u8::from(arrived) + u8::from(dead == 1) + u8::from(open);
        let excused = self.excused.contains(&sent.id);
        // If both have lost the acceptance, no party can know that the message arrived.
        let forgot = self.relay_restored && self.forgetful[sent.node] && fates > 1 && arrived;
        let is_valid = fates == 1 || (fates == 0 && excused) || forgot;
        assert!(is_valid, "{sent:?}: {arrived} {dead} {open}");
    }

    /// Asserts that the messages of a sender to one address arrived in the order sent.
    fn check_order(&self) {
        let place = |id: &str| self.accepted.iter().position(|sent| sent.id == id);
        for node in &self.nodes {
            let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
            for copy in node.arrived() {
                let Some(at) = place(&copy.message_id) else { continue };
                if self.late.contains(&copy.message_id) {
                    continue;
                }
                let lane = (copy.from.as_str(), self.accepted[at].to.as_str());
                let before = last.insert(lane, at);
                assert!(before.is_none_or(|before| before < at), "{lane:?} out of order");
            }
        }
    }

    /// Asserts that a room message is in each log at most once, with the relay's room sequence.
    fn check_rooms(&self) {
        let room_messages = |log: &Log| -> Vec<(String, Option<u64>)> {
            let in_room = log.messages().filter(|(_, m)| matches!(m.target, Target::Room { .. }));
            let labelled = in_room.map(|(at, m)| {
                let row = log
                    .state
                    .room_messages
                    .get(c2c_core::state::compound_key("den", &at.to_be_bytes()));
                (m.message_id.clone(), row.and_then(|row| row.label))
            });
            labelled.collect()
        };
        let at_relay: BTreeMap<String, Option<u64>> =
            room_messages(&self.relay).into_iter().collect();
        let labels: BTreeSet<_> = at_relay.values().collect();
        assert_eq!(labels.len(), at_relay.len(), "each message has its own room sequence");
        for node in &self.nodes {
            let here = room_messages(node);
            let ids: BTreeSet<_> = here.iter().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), here.len(), "a room message is duplicated");
            for (id, label) in here {
                let Some(label_at_relay) = at_relay.get(&id) else { continue };
                assert!(
                    label == *label_at_relay,
                    "{id} is {label:?} here and {label_at_relay:?} at the relay"
                );
            }
        }
    }
}

/// Prints the logs of a case.
fn show(world: &World) {
    for log in world.nodes.iter().chain([&world.relay]) {
        eprintln!("== {} ({})", log.node_id, log.id);
        for (at, event) in (1..).zip(&log.events) {
            eprintln!("{at:4} {event:?}");
        }
    }
}

fn run(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        world.step(op);
    }
    // All agents register again at the end.
    for (node, agents) in AGENTS.iter().enumerate() {
        for alias in agents {
            world.nodes[node].register(alias).expect("a free alias");
        }
    }
    let World { nodes, relay, .. } = &mut world;
    settle(nodes, relay);
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
    if checked.is_err() {
        if std::env::var_os("C2C_TEST_SHOW").is_some() {
            show(&world);
        }
        panic!("the check failed");
    }
}

#[test]
fn every_accepted_message_ends_in_one_place_and_in_order() {
    fn holds(ops: Vec<Op>) -> bool {
        run(&ops);
        true
    }
    check(&CASES, holds as fn(Vec<Op>) -> bool);
}

#[test]
fn the_simulated_swarm_delivers_messages() {
    let mut world = World::new();
    for (node, who) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.step(&Op::Register(node, who));
    }
    world.send(0, 1, "cyd@beta", None);
    world.send(1, 1, "bob@alpha-00000001", None);
    let World { nodes, relay, .. } = &mut world;
    settle(nodes, relay);
    assert_eq!(world.nodes.iter().map(|node| node.arrived().len()).collect::<Vec<_>>(), [1, 1]);
    assert!(world.nodes.iter().all(|node| !node.state.outbox.any([])), "receipts arrived");
    let receipts = |log: &Log| {
        log.events.iter().filter(|event| matches!(event, Payload::ReceiptsRecorded(_))).count()
    };
    assert_eq!(world.nodes.iter().map(receipts).collect::<Vec<_>>(), [2, 2]);
    world.check();
}
