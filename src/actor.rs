//! Who is asking? The only reader of the identity that the environment carries.

use std::env;
use std::path::Path;

use crate::broker::liveness::evidence;
use crate::decide::{Actor, CODEX};

/// An environment variable; empty counts as unset.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The session id that a known client gives to its children.
fn native_session() -> Option<(String, &'static str)> {
    let native = [
        ("CLAUDE_CODE_SESSION_ID", "claude-code"),
        ("CLAUDE_SESSION_ID", "claude-code"),
        ("CODEX_THREAD_ID", "codex"),
        ("C2C_OPENCODE_SESSION_ID", "opencode"),
        ("CRUSH_SESSION_ID", "crush"),
    ];
    native.into_iter().find_map(|(name, client)| Some((variable(name)?, client)))
}

/// Who a command of the command line, or a server for one client, acts as. Node id and process are
/// left for [`complete`]: a look at an empty mailbox needs neither, and both cost file reads.
pub fn resolve(session_flag: Option<&str>, working_directory: &Path) -> Actor {
    let flag = session_flag.filter(|id| !id.is_empty()).map(str::to_owned);
    let alias = variable("C2C_MCP_AUTO_REGISTER_ALIAS");
    let native = native_session();
    let client_type = variable("C2C_MCP_CLIENT_TYPE")
        .or_else(|| native.as_ref().map(|(_, client)| (*client).to_owned()));
    // A client that names its session with each call has no other one.
    let unnamed = alias.clone().filter(|_| client_type.as_deref() != Some(CODEX));
    let from_environment = variable("C2C_MCP_SESSION_ID")
        .or_else(|| native.as_ref().map(|(id, _)| id.clone()))
        .or(unnamed);
    Actor {
        inherited: flag.is_none() && from_environment.is_some(),
        session_id: flag.or(from_environment),
        alias,
        process: None,
        node_id: String::new(),
        fallback_alias: Some(fallback_alias()),
        client_type,
        role: None,
        cwd: Some(working_directory.display().to_string()),
        tmux_location: variable("C2C_TMUX_LOCATION"),
        exact: false,
        key: None,
    }
}

/// The actor with its node id and its process.
pub fn complete(actor: &Actor) -> Actor {
    let mut complete = actor.clone();
    // An actor made for one purpose, without a directory, stays what it is.
    if complete.process.is_none() && complete.cwd.is_some() {
        complete.process = client_process();
    }
    if let (true, Some(cwd)) = (complete.node_id.is_empty(), &complete.cwd) {
        complete.node_id = crate::root::node_id(Path::new(cwd));
    }
    complete
}

/// The agent's process: what `C2C_MCP_CLIENT_PID` names if that is our ancestor, else the parent.
fn client_process() -> Option<c2c_log_format::payload::Process> {
    let hinted = variable("C2C_MCP_CLIENT_PID").and_then(|pid| pid.parse().ok());
    let hinted = hinted.and_then(evidence).filter(crate::broker::liveness::is_ancestor);
    hinted.or_else(|| evidence(nix::unistd::getppid().as_raw().unsigned_abs()))
}

/// `cli-<user>`, spelt so that it is an alias.
fn fallback_alias() -> String {
    let user = variable("USER")
        .or_else(|| variable("LOGNAME"))
        .unwrap_or_else(|| format!("uid{}", nix::unistd::getuid()));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("cli-{}", user.chars().map(plain).take(40).collect::<String>())
}
