//! What does Claude Code read?
//!
//! Its user scope: an entry of a project would wait for an approval. The server's tools are loaded at
//! once and allowed; hooks carry mail after each tool call, with each prompt, at the start, and before
//! it stops, and wake a session that does nothing.

use jsonc_parser::cst::{CstNode, CstObject};
use serde_json::{Value, json};

use super::json::{array, drop_if_empty, edit, input, object, server, value_of};
use super::{Change, Plan, Wish, hooks};
use crate::decide::Refusal;
use crate::failure::Failure;

/// All tools of the server.
const ALLOWED: &str = "mcp__c2c";
const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// After this the client goes on without an answer, seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    // With a directory of its own Claude Code keeps both files there.
    let (servers, settings) = match &wish.config_directory {
        Some(own) => (own.join(".claude.json"), own.join("settings.json")),
        None => (wish.home.join(".claude.json"), wish.home.join(".claude/settings.json")),
    };
    let (mut servers, mut settings) = (Change::of(servers)?, Change::of(settings)?);
    edit(&mut servers, &|root| server(root, "mcpServers", wish, &entry(wish)))?;
    edit(&mut settings, &|root| {
        allow(root, wish.undo)?;
        hooks::set(root, &wanted(wish))
    })?;
    let next = if wish.undo {
        "restart Claude Code: sessions that run keep what they have"
    } else {
        "restart Claude Code, then ask it to send a message to a peer"
    };
    Ok(Plan { client: "claude-code", changes: vec![servers, settings], next: vec![next.into()] })
}

fn entry(wish: &Wish) -> Value {
    let mut server = json!({
        "type": "stdio",
        "command": wish.program,
        "args": ["mcp"],
        "alwaysLoad": true,
    });
    if let Some(env) = wish.environment() {
        server["env"] = env;
    }
    server
}

fn wanted(wish: &Wish) -> Vec<(&'static str, Option<Value>)> {
    let command = wish.hook_command();
    let hook = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
    let wake = json!({
        "type": "command",
        "command": format!("{command} --wake"),
        "timeout": HOOK_TIMEOUT_S,
        "asyncRewake": true,
    });
    let mut wanted: Vec<_> = EVENTS.map(|event| (event, wish.unless_undo(&hook))).into();
    wanted.push(("FileChanged", wish.unless_undo(&wake)));
    wanted
}

fn allow(root: &CstObject, undo: bool) -> Result<(), Refusal> {
    let ours = |node: &CstNode| value_of(node) == ALLOWED;
    if undo {
        let Some(permissions) = root.object_value("permissions") else { return Ok(()) };
        if let Some(allowed) = permissions.array_value("allow") {
            allowed.elements().into_iter().filter(ours).for_each(|found| found.remove());
            drop_if_empty(&permissions, "allow");
            drop_if_empty(root, "permissions");
        }
        return Ok(());
    }
    let allowed = array(&object(root, "permissions")?, "allow")?;
    if !allowed.elements().iter().any(ours) {
        allowed.append(input(&json!(ALLOWED)));
    }
    Ok(())
}
