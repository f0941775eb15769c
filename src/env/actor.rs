//! Identity of the caller, as its environment gives it.

use std::path::Path;

use c2c_log_format::payload::Process;

use super::node::node_id;
use super::root::SessionHint;
use super::{
    C2C_MCP_AUTO_REGISTER_ALIAS, C2C_MCP_CLIENT_PID, C2C_MCP_CLIENT_TYPE, C2C_MCP_SESSION_ID,
    C2C_OPENCODE_SESSION_ID, C2C_TMUX_LOCATION, CLAUDE_CODE_SESSION_ID, CLAUDE_SESSION_ID,
    CODEX_THREAD_ID, CRUSH_SESSION_ID, LOGNAME, USER,
};
use crate::platform::process::{evidence, is_ancestor, parent_pid};
use crate::platform::user;
use c2c_core::decide::{Actor, CODEX, SessionSource};
use c2c_core::ids::NodeId;

/// Session id and client type from the variables that known clients set for their children.
fn native_session() -> Option<(String, &'static str)> {
    let variables = [
        (CLAUDE_CODE_SESSION_ID, "claude-code"),
        (CLAUDE_SESSION_ID, "claude-code"),
        (CODEX_THREAD_ID, "codex"),
        (C2C_OPENCODE_SESSION_ID, "opencode"),
        (CRUSH_SESSION_ID, "crush"),
    ];
    variables.into_iter().find_map(|(variable, client)| Some((variable.text()?, client)))
}

/// The actor for a command line, or for an MCP server with one client.
///
/// Node id and process are left to [`complete`]: checking an empty mailbox needs neither, and both
/// cost file reads.
///
/// `working_directory` is `None` if it does not exist.
pub fn resolve(session_flag: Option<&str>, working_directory: Option<&Path>) -> Actor {
    let from_flag = session_flag.filter(|id| !id.is_empty()).map(str::to_owned);
    let alias = C2C_MCP_AUTO_REGISTER_ALIAS.text();
    let native = native_session();
    let client_type = C2C_MCP_CLIENT_TYPE
        .text()
        .or_else(|| native.as_ref().map(|(_, client)| (*client).to_owned()));
    // Codex names its session in each call, so the alias must not stand in for a session id.
    let from_alias = alias.clone().filter(|_| client_type.as_deref() != Some(CODEX));
    let from = |id: Option<String>, source| id.map(|id| (id, source));
    let (session_id, source) = from(from_flag, SessionSource::Given)
        .or_else(|| from(C2C_MCP_SESSION_ID.text(), SessionSource::Variable))
        .or_else(|| from(native.map(|(id, _)| id), SessionSource::Client))
        .or_else(|| from(from_alias, SessionSource::Alias))
        .unzip();
    Actor {
        session_id: session_id.map(Into::into),
        source: source.unwrap_or_default(),
        alias: alias.map(Into::into),
        process: None,
        node_id: NodeId::default(),
        fallback_alias: Some(fallback_alias().into()),
        client_type,
        role: None,
        cwd: working_directory.map(|path| path.display().to_string()),
        tmux_location: C2C_TMUX_LOCATION.text(),
        exact: false,
        key: None,
    }
}

/// The session id of an actor, for the search of its root.
pub fn session_hint(actor: &Actor) -> Option<SessionHint<'_>> {
    let session_id = actor.session_id.as_deref()?;
    Some(SessionHint { session_id, source: actor.source })
}

/// Adds the node id of a root and the process to an actor that lacks them.
pub fn complete(actor: &Actor, root: &Path) -> Actor {
    let mut complete = actor.clone();
    // An actor without both was created for one purpose and stays unchanged.
    if complete.cwd.is_none() && complete.fallback_alias.is_none() {
        return complete;
    }
    if complete.process.is_none() {
        complete.process = client_process();
    }
    if complete.node_id.is_empty() {
        complete.node_id = node_id(root).into();
    }
    complete
}

/// The agent's process: the one in `C2C_MCP_CLIENT_PID` if it is an ancestor of this process, else
/// the parent.
fn client_process() -> Option<Process> {
    C2C_MCP_CLIENT_PID
        .text()
        .and_then(|pid| pid.parse().ok())
        .and_then(evidence)
        .filter(is_ancestor)
        .or_else(|| evidence(parent_pid()))
}

/// `cli-<user>`, with every character that an alias cannot contain replaced by `-`.
fn fallback_alias() -> String {
    let user =
        USER.text().or_else(|| LOGNAME.text()).unwrap_or_else(|| format!("uid{}", user::real_id()));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("cli-{}", user.chars().map(plain).take(40).collect::<String>())
}
