//! What is allowed, and which events follow from it?
//!
//! Pure: `state + command + facts -> events + reply`, or a [`Refusal`]. Time, liveness, identity
//! and fresh ids come in as [`Facts`].

mod address;
mod drain;
mod import;
mod lease;
mod leave;
mod receive;
mod relay_end;
mod room;
mod root_end;
mod send;
mod session;
mod sweep;

use std::collections::BTreeMap;

use c2c_log_format::payload::{MessageSent, Process};
use c2c_log_format::{Payload, Sequence};
use serde::Serialize;

use crate::code::Code;
use crate::state::{Cursor, Mailbox, Session, State};

pub use address::check_host;
pub use address::host_name;
pub use import::{ForeignFile, ForeignMessage, ForeignSession, IMPORTED};
pub use lease::{Collected, LeaseRegister, LeaseRenew, Leased, session_liveness};
pub use leave::{Leaving, REPLAYED, brought_back, said_before, serves};
pub use receive::{Batch, Item, Outcome, Position, Pushed, Received};
pub use room::{by_key, key_of, may_see};
pub use send::part_ids;
pub use session::{CODEX, check_held, mailbox_of_actor};
pub use sweep::SweepPlan;

/// Whether an agent is running, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    Alive,
    Dead,
    Unknown,
}

impl Liveness {
    /// `true`, `false`, or `null`.
    pub fn as_option(self) -> Option<bool> {
        match self {
            Self::Alive => Some(true),
            Self::Dead => Some(false),
            Self::Unknown => None,
        }
    }
}

/// Who asks, as far as the environment tells.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// Session id, from a flag or the environment.
    pub session_id: Option<String>,
    /// Alias from the environment, for a session without one.
    pub alias: Option<String>,
    /// The agent's process.
    pub process: Option<Process>,
    /// This machine or workspace.
    pub node_id: String,
    /// `cli-<user>`, for those without any identity.
    pub fallback_alias: Option<String>,
    pub client_type: Option<String>,
    pub role: Option<String>,
    pub cwd: Option<String>,
    pub tmux_location: Option<String>,
    /// Whether the session id came from the environment, where it may be somebody else's.
    pub inherited: bool,
    /// Whether `process` is the client itself, as for an MCP server, and not just a parent shell.
    pub exact: bool,
    /// At a relay: the key that the request was verified with; `None` where credentials are ignored.
    pub key: Option<String>,
}

/// What makes a broker a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relay {
    /// Host names that mean the relay itself; the first is how it signs.
    pub names: Vec<String>,
    /// How the caller of this request calls it.
    pub called: Option<String>,
    /// The only keys that are admitted, by alias in lower case, where credentials count.
    pub allowed: Option<BTreeMap<String, String>>,
}

/// What the outside world contributes to a decision.
pub struct Facts<'a> {
    pub now_us: u64,
    pub actor: &'a Actor,
    /// The process that does the work (a claim names it).
    pub worker: Option<Process>,
    pub liveness: &'a dyn Fn(Option<&Process>) -> Liveness,
    /// Whether a process is the caller's agent: itself or one of its ancestors.
    pub is_mine: &'a dyn Fn(&Process) -> bool,
    /// Earlier messages with the message_ids that the command names.
    pub prior: Vec<(Sequence, MessageSent)>,
    pub mint: &'a dyn Fn() -> String,
    /// Set at a relay.
    pub relay: Option<&'a Relay>,
}

impl Facts<'_> {
    /// Liveness of a session: by its lease if it has one, else by its process.
    pub fn alive(&self, session: &Session) -> Liveness {
        session_liveness(session, self.now_us, self.liveness)
    }
}

/// A request that may be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Register {
        alias: Option<String>,
    },
    Rename {
        alias: String,
    },
    Heartbeat,
    Dnd {
        on: bool,
        until_us: Option<u64>,
    },
    Send(Send),
    SendAll {
        body: String,
        exclude: Vec<String>,
        tag: Option<String>,
        from: Option<String>,
        /// With it the same broadcast again reaches only those whom it has not reached.
        message_id: Option<String>,
    },
    Claim {
        limit: usize,
        max_bytes: usize,
        surface: String,
        manual: bool,
        deferrable: bool,
    },
    Ack {
        claim: String,
        level: String,
    },
    Return {
        claim: String,
        reason: String,
    },
    RoomCreate {
        room_id: String,
        visibility: String,
        invite: Vec<String>,
        join: bool,
    },
    RoomJoin {
        room_id: String,
        from: Option<String>,
    },
    RoomLeave {
        room_id: String,
        from: Option<String>,
    },
    RoomSend {
        room_id: String,
        send: Send,
    },
    RoomInvite {
        room_id: String,
        alias: String,
        invited: bool,
    },
    RoomVisibility {
        room_id: String,
        visibility: String,
    },
    RoomDelete {
        room_id: String,
        force: bool,
    },
    Sweep,
    DeadLetterReplay {
        messages: Vec<Sequence>,
        to: Option<String>,
    },
    DeadLetterPurge {
        messages: Vec<Sequence>,
    },
    Import {
        files: Vec<ForeignFile>,
    },
    /// Closes this root, which moved; or opens it again at its new place, with an empty path.
    Move {
        to: String,
    },
    /// At a relay: an alias of a node comes alive.
    LeaseRegister(LeaseRegister),
    /// At a relay: everybody on a node comes alive at one moment. What one is refused keeps no other
    /// out.
    LeaseRegisterAll(Vec<LeaseRegister>),
    /// At a relay: it is still there.
    LeaseRenew(LeaseRenew),
    /// At a relay: leases that are over end.
    Collect,
    /// At a relay: an alias, or `alias@node`, belongs to nobody any more.
    Unbind {
        alias: String,
    },
    /// At a relay: everything that belongs to the caller's key belongs to another one.
    KeyRotate {
        public_key: String,
    },
    /// At a relay: mail is taken over HTTP. The same id takes the same mail; another one says that
    /// the mail before was safely stored.
    Drain {
        drain_id: Option<String>,
        limit: usize,
        max_bytes: usize,
    },
    /// Events of another log.
    Receive(Batch),
    /// What a relay answered to what was pushed.
    Pushed(Pushed),
    /// At a relay: a node has read this log so far.
    Confirm {
        log: String,
        node_id: String,
        position: Position,
    },
}

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Send {
    pub to: String,
    pub body: String,
    pub from: Option<String>,
    pub message_id: Option<String>,
    pub tag: Option<String>,
    pub reply_to: Option<String>,
    pub ttl_s: Option<u64>,
    pub deferrable: bool,
}

/// What follows from a command.
#[derive(Debug)]
pub struct Decision {
    pub events: Vec<Payload>,
    pub reply: Reply,
    /// Whether success waits for the disk.
    pub durable: bool,
}

/// What the caller learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Done,
    Registered(Registered),
    Sent(Sent),
    Broadcast {
        message_ids: Vec<String>,
        sent_to: Vec<String>,
        skipped: Vec<Skipped>,
    },
    Claimed(Claimed),
    Room(RoomReply),
    Swept(SweepPlan),
    Moved {
        messages: Vec<Sequence>,
    },
    Imported {
        sessions: usize,
        messages: usize,
    },
    Leased(Leased),
    LeasedAll(Vec<Result<Leased, Refusal>>),
    Collected(Collected),
    Received(Received),
    /// No, and the events say so, too.
    Refused(Refusal),
}

/// Answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub alias: String,
    pub session_id: String,
    /// The alias that was asked for, when it was not free.
    pub asked: Option<String>,
    pub took_over: Option<String>,
    pub redelivered: usize,
}

/// Receipt of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub message_id: String,
    pub from: String,
    pub to: String,
    pub sent_us: u64,
    pub duplicate: bool,
    pub recipient_state: &'static str,
    pub delivered_to: Vec<String>,
    /// Members of a room on other nodes.
    pub queued: Vec<String>,
    pub skipped: Vec<Skipped>,
    /// Whether it waits for a connector.
    pub outbox: bool,
}

/// Somebody who was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub alias: String,
    pub reason: String,
}

/// What a poll took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    pub alias: String,
    pub claim: Option<String>,
    /// Sequence, room, and whether it was shown before.
    pub items: Vec<(Sequence, Option<String>, bool)>,
    /// Unread and not taken now.
    pub remaining: usize,
    /// Messages that another poller holds.
    pub claimed: usize,
}

/// Answer about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomReply {
    pub room_id: String,
    pub alias: String,
    pub already: bool,
    pub members: Vec<String>,
}

/// A rule said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// The argument concerned, empty for none.
    pub field: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Alias that would be free, near, or right.
    pub suggestion: Option<String>,
    /// Where the reader should stand.
    pub expected: Option<Box<Cursor>>,
}

impl Refusal {
    /// A refusal about one argument.
    pub fn new(code: Code, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field, message: message.into(), hint: None, suggestion: None, expected: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Decides one command.
pub fn decide(state: &State, command: &Command, facts: &Facts<'_>) -> Result<Decision, Refusal> {
    let arrives = matches!(command, Command::Move { to } if to.is_empty());
    if let Some(to) = state.meta.get([]).and_then(|meta| meta.moved_to)
        && !arrives
    {
        return Err(Refusal::new(Code::BrokerMoved, "broker_root", format!("moved to {to}"))
            .hint("use that root"));
    }
    match command {
        Command::Register { alias } => session::register(state, alias.as_deref(), facts),
        Command::Rename { alias } => session::rename(state, alias, facts),
        Command::Heartbeat => session::heartbeat(state, facts),
        Command::Dnd { on, until_us } => session::dnd(state, *on, *until_us, facts),
        Command::Send(send) => send::send(state, send, facts),
        Command::SendAll { body, exclude, tag, from, message_id } => {
            let broadcast = send::Broadcast { body, exclude, tag, from, message_id };
            send::send_all(state, &broadcast, facts)
        }
        Command::Claim { limit, max_bytes, surface, manual, deferrable } => {
            let wish = drain::Wish {
                limit: *limit,
                max_bytes: *max_bytes,
                surface,
                manual: *manual,
                deferrable: *deferrable,
            };
            drain::claim(state, &wish, facts)
        }
        Command::Ack { claim, level } => drain::ack(state, claim, level, facts),
        Command::Return { claim, reason } => drain::give_back(state, claim, reason, facts),
        Command::RoomCreate { room_id, visibility, invite, join } => {
            room::create(state, &room::NewRoom { room_id, visibility, invite, join: *join }, facts)
        }
        Command::RoomJoin { room_id, from } => room::join(state, room_id, from.as_deref(), facts),
        Command::RoomLeave { room_id, from } => room::leave(state, room_id, from.as_deref(), facts),
        Command::RoomSend { room_id, send } => room::send(state, room_id, send, facts),
        Command::RoomInvite { room_id, alias, invited } => {
            room::invite(state, room_id, alias, *invited, facts)
        }
        Command::RoomVisibility { room_id, visibility } => {
            room::visibility(state, room_id, visibility, facts)
        }
        Command::RoomDelete { room_id, force } => room::delete(state, room_id, *force, facts),
        Command::Sweep => Ok(sweep::sweep(state, facts)),
        Command::DeadLetterReplay { messages, to } => {
            sweep::replay(state, messages, to.as_deref(), facts)
        }
        Command::DeadLetterPurge { messages } => Ok(sweep::purge(state, messages)),
        Command::Import { files } => Ok(import::import(state, files, facts)),
        Command::Move { to } => Ok(Decision {
            events: vec![Payload::RootMoved(c2c_log_format::payload::RootMoved { to: to.clone() })],
            reply: Reply::Done,
            durable: true,
        }),
        Command::LeaseRegister(wish) => lease::register(state, wish, facts),
        Command::LeaseRegisterAll(wishes) => Ok(lease::register_all(state, wishes, facts)),
        Command::LeaseRenew(wish) => lease::renew(state, wish, facts),
        Command::Collect => Ok(lease::collect(state, facts)),
        Command::Unbind { alias } => Ok(lease::unbind(state, alias)),
        Command::KeyRotate { public_key } => lease::rotate(state, public_key, facts),
        Command::Drain { drain_id, limit, max_bytes } => {
            let wish = drain::Wish {
                limit: *limit,
                max_bytes: *max_bytes,
                surface: "relay",
                manual: false,
                deferrable: true,
            };
            drain::drain(state, drain_id.as_deref(), &wish, facts)
        }
        Command::Receive(batch) => receive::receive(state, batch, facts),
        Command::Pushed(pushed) => Ok(root_end::pushed(state, pushed, facts)),
        Command::Confirm { log, node_id, position } => {
            receive::confirm(state, log, node_id, position, facts)
        }
    }
}

/// What a sweep would do, without doing it.
pub fn plan_sweep(state: &State, facts: &Facts<'_>) -> SweepPlan {
    sweep::plan(state, facts)
}

/// Liveness of whoever holds a mailbox.
pub fn mailbox_liveness(
    state: &State,
    mailbox: &Mailbox,
    alive: &dyn Fn(&Session) -> Liveness,
) -> Liveness {
    state.holder(mailbox).map_or(Liveness::Dead, |session| alive(&session))
}

/// Whether a claim still keeps its messages from others.
pub fn claim_holds(
    claim: &crate::state::Claim,
    now_us: u64,
    liveness: &dyn Fn(Option<&Process>) -> Liveness,
) -> bool {
    if claim.until_us > 0 {
        return claim.until_us > now_us;
    }
    match liveness(claim.process.as_ref()) {
        Liveness::Alive => true,
        Liveness::Dead => false,
        // Another pid namespace, or no evidence: only time can tell.
        Liveness::Unknown => claim.claimed_us + crate::limits::CLAIM_S * 1_000_000 > now_us,
    }
}
