//! Random commands against a naive model of a broker.
//!
//! The commands include restarts from a checkpoint, a second reader, and receivers that die between
//! claim and ack. After each step the core and the model must have the same state.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use c2c_core::command::{self, Command, Prior};
use c2c_core::decide::{Actor, Decision, Facts, Liveness, Send, decide};
use c2c_core::state::{CheckpointBase, State};
use c2c_log_format::checkpoint::CheckpointHeader;
use c2c_log_format::payload::{MessageSent, Process};
use c2c_log_format::scan::FramePosition;
use c2c_log_format::{Event, Payload};
use quickcheck::{Arbitrary, Gen};

use crate::random::{Cases, check};

const CASES: Cases = Cases { fast: 5_000, slow: 20_000, size: 60 };
const AGENTS: [&str; 4] = ["ada", "bob", "cyd", "dee"];
const ROOMS: [&str; 2] = ["red", "blue"];

#[derive(Debug, Clone)]
enum Op {
    Register(usize),
    Send {
        from: usize,
        to: usize,
        id: u8,
    },
    SendRoom {
        from: usize,
        room: usize,
    },
    Join(usize, usize),
    Leave(usize, usize),
    Claim {
        who: usize,
        limit: usize,
    },
    Ack(usize),
    Release(usize),
    /// The process that holds the open claim dies.
    Die(usize),
    /// The state is read from a checkpoint, as in a new process.
    Restart,
    Rename(usize),
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Self {
        let who = usize::arbitrary(g) % AGENTS.len();
        let other = usize::arbitrary(g) % AGENTS.len();
        let room = usize::arbitrary(g) % ROOMS.len();
        match u8::arbitrary(g) % 24 {
            0..=2 => Self::Register(who),
            3..=7 => Self::Send { from: who, to: other, id: u8::arbitrary(g) },
            8..=10 => Self::SendRoom { from: who, room },
            11..=12 => Self::Join(who, room),
            13 => Self::Leave(who, room),
            14..=17 => Self::Claim { who, limit: 1 + usize::arbitrary(g) % 4 },
            18..=19 => Self::Ack(who),
            20 => Self::Release(who),
            21 => Self::Die(who),
            22 => Self::Restart,
            _ => Self::Rename(who),
        }
    }
}

/// A mailbox of the model.
#[derive(Debug, Clone, Default)]
struct Naive {
    registered: bool,
    name: String,
    /// Message ids in order, each with whether it was shown before.
    pending: Vec<(String, bool)>,
    claim: Vec<String>,
    claim_dead: bool,
    rooms: BTreeSet<usize>,
}

struct World {
    state: State,
    /// A second process that only reads.
    reader: State,
    events: Vec<Payload>,
    naive: Vec<Naive>,
    claims: BTreeMap<usize, String>,
    dead_workers: BTreeSet<u32>,
    minted: Cell<u64>,
    used_ids: BTreeMap<(usize, u8), usize>,
    acknowledged: Vec<String>,
    accepted: Vec<String>,
    renames: u32,
    workers: u32,
}

fn worker(number: u32) -> Process {
    Process { pid: number, start: 1, boot: "b".into(), ns: 1 }
}

impl World {
    fn new() -> Self {
        let agent = |name: &&str| Naive { name: (*name).to_owned(), ..Naive::default() };
        Self {
            state: State::default(),
            reader: State::default(),
            events: Vec::new(),
            naive: AGENTS.iter().map(agent).collect(),
            claims: BTreeMap::new(),
            dead_workers: BTreeSet::new(),
            minted: Cell::new(0),
            used_ids: BTreeMap::new(),
            acknowledged: Vec::new(),
            accepted: Vec::new(),
            renames: 0,
            workers: 1000,
        }
    }

    /// Decides and applies one command as an agent; `None` if it was rejected.
    fn execute<C: Command>(&mut self, who: usize, command: &C) -> Option<C::Reply> {
        let actor = Actor {
            session_id: Some(format!("s-{who}").into()),
            node_id: "node".into(),
            ..Actor::default()
        };
        let dead = self.dead_workers.clone();
        let liveness = move |process: Option<&Process>| match process {
            Some(process) if dead.contains(&process.pid) => Liveness::Dead,
            Some(_) => Liveness::Alive,
            None => Liveness::Unknown,
        };
        let mint = || {
            self.minted.set(self.minted.get() + 1);
            format!("m-{}", self.minted.get())
        };
        let facts = Facts {
            now_us: 1,
            actor: &actor,
            worker: Some(worker(self.workers)),
            liveness: &liveness,
            is_callers_process: &|_| false,
            prior: self.prior(command),
            mint: &mint,
            relay: None,
        };
        let Decision { events, outcome, .. } = decide(&self.state, command, &facts).ok()?;
        for event in events {
            self.append(event);
        }
        outcome.ok()
    }

    /// Encodes and decodes the event, as the log does.
    fn append(&mut self, payload: Payload) {
        let sequence = self.events.len() as u64 + 1;
        let json = payload.encode();
        let event = Event { head: payload.head(sequence), payload: &json };
        self.state.apply_event(&event, 1);
        self.reader.apply_event(&event, 1);
        self.events.push(payload);
    }

    fn prior<C: Command>(&self, command: &C) -> Vec<(u64, MessageSent)> {
        let Prior::Ids(ids) = command.prior(&self.state) else { return Vec::new() };
        let sent = self.events.iter().zip(1..).filter_map(|(event, at)| match event {
            Payload::MessageSent(sent) if ids.iter().any(|id| *id == sent.message_id) => {
                Some((at, sent.clone()))
            }
            _ => None,
        });
        sent.collect()
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Register(who) => self.register(who),
            Op::Send { from, to, id } => self.send(from, to, id),
            Op::SendRoom { from, room } => self.send_room(from, room),
            Op::Join(who, room) => {
                let command = command::JoinRoom { room_id: ROOMS[room].into(), from: None };
                let joined = self.execute(who, &command).is_some();
                assert_eq!(joined, self.naive[who].registered, "join");
                if joined {
                    self.naive[who].rooms.insert(room);
                }
            }
            Op::Leave(who, room) => {
                let command = command::LeaveRoom { room_id: ROOMS[room].into(), from: None };
                if self.execute(who, &command).is_some() {
                    self.naive[who].rooms.remove(&room);
                }
            }
            Op::Claim { who, limit } => self.claim(who, limit),
            Op::Ack(who) => self.ack(who),
            Op::Release(who) => self.release(who),
            Op::Die(who) => {
                if let Some(mailbox) = self.state.mailbox_for_session(&format!("s-{who}"))
                    && let Some(process) = mailbox.claim.and_then(|claim| claim.process)
                {
                    self.dead_workers.insert(process.pid);
                    self.naive[who].claim_dead = true;
                    self.claims.remove(&who);
                }
            }
            Op::Restart => self.restart(),
            Op::Rename(who) => {
                self.renames += 1;
                let alias = format!("{}-{}", AGENTS[who], self.renames);
                if self.execute(who, &command::Rename { alias: alias.clone().into() }).is_some() {
                    self.naive[who].name = alias;
                }
            }
        }
    }

    fn register(&mut self, who: usize) {
        let alias = self.naive[who].name.clone();
        let reply = self.execute(who, &command::Register { alias: Some(alias.clone().into()) });
        let Some(registered) = reply else { panic!("the registration was rejected") };
        assert_eq!(registered.alias, alias);
        self.naive[who].registered = true;
    }

    fn send(&mut self, from: usize, to: usize, id: u8) {
        // Low numbers repeat: the same id, and perhaps another recipient.
        let message_id = (id < 8).then(|| format!("given-{from}-{id}"));
        let send = Send {
            to: self.naive[to].name.clone(),
            body: format!("to {to}"),
            message_id: message_id.clone().map(Into::into),
            ..Send::default()
        };
        let reply = self.execute(from, &send);
        let possible = self.naive[from].registered && self.naive[to].registered && from != to;
        let earlier = self.used_ids.get(&(from, id)).copied().filter(|_| id < 8);
        match reply {
            Some(sent) => {
                assert!(possible, "a send that should have been rejected");
                assert_eq!(sent.duplicate, earlier.is_some(), "dedup by sender and id");
                if sent.duplicate {
                    assert_eq!(earlier, Some(to), "another recipient is another message");
                    return;
                }
                if id < 8 {
                    self.used_ids.insert((from, id), to);
                }
                self.accepted.push(sent.message_id.to_string());
                self.naive[to].pending.push((sent.message_id.into(), false));
            }
            None => assert!(!possible || earlier.is_some(), "a send that should have worked"),
        }
    }

    fn send_room(&mut self, from: usize, room: usize) {
        let send = Send { body: "all".into(), ..Send::default() };
        let command = command::SendToRoom { room_id: ROOMS[room].into(), send };
        let reply = self.execute(from, &command);
        let member = self.naive[from].rooms.contains(&room);
        assert_eq!(reply.is_some(), member, "only members can send");
        let Some(sent) = reply else { return };
        for (who, naive) in self.naive.iter_mut().enumerate() {
            if who != from && naive.rooms.contains(&room) {
                naive.pending.push((sent.message_id.to_string(), false));
                self.accepted.push(sent.message_id.to_string());
            }
        }
    }

    fn message_id(&self, sequence: u64) -> String {
        match &self.events[sequence as usize - 1] {
            Payload::MessageSent(sent) => sent.message_id.clone(),
            other => panic!("event {sequence} is {}", other.name()),
        }
    }

    fn claim(&mut self, who: usize, limit: usize) {
        let command = command::ClaimInbox {
            limit,
            max_bytes: usize::MAX,
            surface: "model".into(),
            manual: false,
            deferrable: true,
        };
        self.workers += 1;
        let Some(claimed) = self.execute(who, &command) else {
            assert!(!self.naive[who].registered, "a registered agent may poll");
            return;
        };
        let shown: Vec<(String, bool)> = claimed
            .items
            .iter()
            .map(|item| (self.message_id(item.sequence), item.redelivered))
            .collect();
        let naive = &mut self.naive[who];
        if !naive.claim.is_empty() && !naive.claim_dead {
            assert!(shown.is_empty(), "one claim at a time");
            assert_eq!(claimed.claimed, naive.claim.len(), "number of messages in the other claim");
            return;
        }
        if naive.claim_dead {
            naive.returned();
        }
        let expected: Vec<_> = naive.pending.iter().take(limit).cloned().collect();
        assert_eq!(shown, expected, "oldest first, each once, marked if shown before");
        assert_eq!(claimed.remaining, naive.pending.len() - expected.len());
        naive.claim = expected.into_iter().map(|(id, _)| id).collect();
        if let Some(claim) = claimed.claim {
            self.claims.insert(who, claim);
        }
    }

    fn ack(&mut self, who: usize) {
        let Some(claim) = self.claims.remove(&who) else { return };
        let command = command::AckClaim { claim, level: "written".into() };
        self.execute(who, &command).expect("an open claim can be acked");
        let naive = &mut self.naive[who];
        naive.pending.drain(..naive.claim.len());
        self.acknowledged.append(&mut naive.claim);
    }

    fn release(&mut self, who: usize) {
        let Some(claim) = self.claims.remove(&who) else { return };
        let command = command::ReleaseClaim { claim, reason: "output_failed".into() };
        self.execute(who, &command).expect("an open claim can be released");
        self.naive[who].returned();
    }

    fn restart(&mut self) {
        let position =
            FramePosition { offset: 0, sequence: self.state.head + 1, previous_frame: 0 };
        let file = self.state.checkpoint([7; 16], 1, position, 1);
        let header = CheckpointHeader::decode(&file).expect("own checkpoint");
        let base =
            CheckpointBase::open(std::sync::Arc::new(file), &header, std::sync::Arc::new(|| None));
        let base = base.expect("own checkpoint");
        self.state = State::from_base(Some(&base), header.sequence);
    }

    /// Asserts what holds after every step.
    fn check(&self) {
        assert_eq!(self.state.digest(), self.reader.digest(), "two readers, one state");
        for (who, naive) in self.naive.iter().enumerate() {
            let Some(mailbox) = self.state.mailbox_for_session(&format!("s-{who}")) else {
                continue;
            };
            let unread = self.state.unread(&mailbox.name).in_order();
            let unread: Vec<String> =
                unread.iter().map(|item| self.message_id(item.sequence)).collect();
            let expected: Vec<String> = naive.pending.iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(unread, expected, "mailbox of {}", naive.name);
        }
        // Conservation: each accepted message is either pending or acknowledged, once.
        let mut accounted: Vec<&String> = self.acknowledged.iter().collect();
        accounted.extend(self.naive.iter().flat_map(|n| n.pending.iter().map(|(id, _)| id)));
        accounted.sort();
        let mut accepted: Vec<&String> = self.accepted.iter().collect();
        accepted.sort();
        assert_eq!(accounted, accepted, "conservation of messages");
    }
}

impl Naive {
    /// Claimed messages may have been shown: they are pending again, with a mark.
    fn returned(&mut self) {
        for (id, again) in &mut self.pending {
            *again |= self.claim.contains(id);
        }
        self.claim.clear();
        self.claim_dead = false;
    }
}

fn play(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        world.step(op);
        world.check();
    }
}

#[test]
fn random_histories_agree_with_a_naive_broker() {
    fn property(ops: Vec<Op>) -> bool {
        play(&ops);
        true
    }
    check(&CASES, property as fn(Vec<Op>) -> bool);
}
