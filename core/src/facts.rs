//! Facts: what a decision needs to know besides the state and the command.

use std::collections::BTreeMap;

use c2c_log_format::Sequence;
use c2c_log_format::payload::{MessageSent, Process};
use serde::Serialize;

use crate::ids::{Alias, NodeId, SessionId};
use crate::limits::CLAIM_TIMEOUT_S;
use crate::state::{Claim, Mailbox, Session, State};

/// Whether an agent is running, according to the available evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// The process runs, or the lease is valid.
    Alive,
    /// The process has ended, the lease has expired, or no session exists.
    Dead,
    /// No evidence, for example because the process is in another pid namespace.
    Unknown,
}

impl Liveness {
    /// `Some(true)` if alive, `Some(false)` if dead, `None` if unknown.
    pub fn as_option(self) -> Option<bool> {
        match self {
            Self::Alive => Some(true),
            Self::Dead => Some(false),
            Self::Unknown => None,
        }
    }
}

/// Where the session id of a caller is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SessionSource {
    /// A flag or an argument, or a registration by this process.
    #[default]
    Given,
    /// `C2C_MCP_SESSION_ID`, which other agents may have inherited.
    Variable,
    /// A variable of the client, which made the id for one conversation.
    Client,
    /// A request of the client or the input of a hook, which names the conversation.
    Request,
    /// The alias in the environment stands in for it.
    Alias,
}

/// The caller of a command, as identified by its flags and environment.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// Session id, from a flag or the environment.
    pub session_id: Option<SessionId>,
    /// Alias from the environment, for a caller without a session.
    pub alias: Option<Alias>,
    /// The agent's process.
    pub process: Option<Process>,
    /// This machine or workspace.
    pub node_id: NodeId,
    /// `cli-<user>`, for a caller without any other identity.
    pub fallback_alias: Option<Alias>,
    /// Kind of client, such as `claude-code`.
    pub client_type: Option<String>,
    /// Free text that describes the agent.
    pub role: Option<String>,
    /// Working directory of the agent.
    pub cwd: Option<String>,
    /// Terminal in which the agent runs.
    pub tmux_location: Option<String>,
    /// Where the session id is from.
    pub source: SessionSource,
    /// Whether `process` is the client itself, as for an MCP server, and not a parent shell.
    pub exact: bool,
    /// At a relay: the key that signed the request. `None` if the relay ignores credentials.
    pub key: Option<String>,
}

/// The configuration of a relay, and what is known about the request being handled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayFacts {
    /// Host names of the relay itself. The first one is the name that it signs with.
    pub names: Vec<String>,
    /// The host name that the caller of this request used for the relay.
    pub requested_host: Option<String>,
    /// If the relay admits only listed identities: their keys, by alias in lower case.
    pub allowed_keys: Option<BTreeMap<String, String>>,
}

/// Input from the outside world: time, identity, liveness, new ids.
pub struct Facts<'a> {
    /// Current time, microseconds since 1970 UTC.
    pub now_us: u64,
    /// The caller of the command.
    pub actor: &'a Actor,
    /// The process that executes the command; a claim records it.
    pub worker: Option<Process>,
    /// Liveness of a recorded process; unknown for `None`.
    pub liveness: &'a dyn Fn(Option<&Process>) -> Liveness,
    /// Whether a process is the caller's agent: the caller itself or one of its ancestors.
    pub is_callers_process: &'a dyn Fn(&Process) -> bool,
    /// Logged messages that have one of the command's message ids.
    pub prior: Vec<(Sequence, MessageSent)>,
    /// Creates a unique id.
    pub mint: &'a dyn Fn() -> String,
    /// Set at a relay only.
    pub relay: Option<&'a RelayFacts>,
}

impl Facts<'_> {
    /// The same facts about another caller, without the earlier messages of the command.
    pub(crate) fn with_actor<'a>(&'a self, actor: &'a Actor) -> Facts<'a> {
        let Self { now_us, liveness, is_callers_process, mint, relay, .. } = *self;
        let worker = self.worker.clone();
        Facts {
            now_us,
            actor,
            worker,
            liveness,
            is_callers_process,
            prior: Vec::new(),
            mint,
            relay,
        }
    }

    /// Liveness of a session: by its lease if it has one, otherwise by its process.
    pub fn alive(&self, session: &Session) -> Liveness {
        session_liveness(session, self.now_us, self.liveness)
    }

    /// Liveness of the session that holds a mailbox.
    pub fn mailbox_liveness(&self, state: &State, mailbox: &Mailbox) -> Liveness {
        mailbox_liveness(state, mailbox, &|session| self.alive(session))
    }
}

/// Liveness of a session: by its lease if it has one, otherwise by its process.
pub fn session_liveness(
    session: &Session,
    now_us: u64,
    process: &dyn Fn(Option<&Process>) -> Liveness,
) -> Liveness {
    match &session.lease {
        Some(lease)
            if lease.seen_us.saturating_add(lease.ttl_s.saturating_mul(1_000_000)) >= now_us =>
        {
            Liveness::Alive
        }
        Some(_) => Liveness::Dead,
        None => process(session.process.as_ref()),
    }
}

/// Liveness of the session that holds a mailbox; dead if no session does.
pub fn mailbox_liveness(
    state: &State,
    mailbox: &Mailbox,
    alive: &dyn Fn(&Session) -> Liveness,
) -> Liveness {
    state.holder(mailbox).map_or(Liveness::Dead, |session| alive(&session))
}

/// Whether a claim still keeps its messages from other pollers.
pub fn claim_holds(
    claim: &Claim,
    now_us: u64,
    liveness: &dyn Fn(Option<&Process>) -> Liveness,
) -> bool {
    if claim.until_us > 0 {
        return claim.until_us > now_us;
    }
    match liveness(claim.process.as_ref()) {
        Liveness::Alive => true,
        Liveness::Dead => false,
        // Without evidence about the process, only the age of the claim decides.
        Liveness::Unknown => claim.claimed_us + CLAIM_TIMEOUT_S * 1_000_000 > now_us,
    }
}
