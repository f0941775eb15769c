//! Session events: registration, renaming, heartbeats, do-not-disturb and the end of a session.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::shared::Process;
use super::values::SessionEndReason;

payload! {
    /// A session took an alias, or returned to its own.
    #[derive(Default)]
    SessionRegistered {
        /// The session.
        session_id: String,
        /// The alias as spelt by the agent.
        alias: String,
        /// The mailbox of the alias, which survives restarts and renames.
        mailbox: String,
        /// Machine or workspace of the session.
        node_id: String,
        /// The agent's process, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
        /// Kind of client, such as `claude-code`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_type: Option<String>,
        /// Free text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// Working directory of the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
        /// Terminal in which the agent runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tmux_location: Option<String>,
        /// The session that held the alias before, if the alias was taken over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        takeover_from: Option<String>,
        /// The legacy file from which the registration was imported, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        imported_from: Option<String>,
        /// Version of the program that wrote the event.
        #[serde(default)]
        build: String,
    }
}

impl SessionRegistered {
    /// Creates a registration with the required fields; all others are empty.
    pub fn new(
        session_id: impl Into<String>,
        alias: impl Into<String>,
        mailbox: impl Into<String>,
        node_id: impl Into<String>,
    ) -> Self {
        Self {
            session_id: session_id.into(),
            alias: alias.into(),
            mailbox: mailbox.into(),
            node_id: node_id.into(),
            ..Self::default()
        }
    }
}

payload! {
    /// An agent changed its alias; its mailbox stays the same.
    AliasRenamed {
        /// The mailbox.
        mailbox: String,
        /// Alias before.
        old: String,
        /// Alias after.
        new: String,
    }
}

payload! {
    /// A session was active.
    SessionHeartbeat {
        /// The session.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
    }
}

payload! {
    /// A session ended; its alias and mailbox remain.
    SessionEnded {
        /// The session.
        session_id: String,
        /// Its mailbox.
        mailbox: String,
        /// Why it ended.
        reason: SessionEndReason,
    }
}

payload! {
    /// Do-not-disturb was switched on or off.
    DndChanged {
        /// The mailbox.
        mailbox: String,
        /// True for on.
        on: bool,
        /// When it ends by itself, microseconds since 1970 UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_us: Option<u64>,
    }
}
