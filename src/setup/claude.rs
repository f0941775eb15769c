//! Setup of Claude Code.
//!
//! Setup writes the user scope, because an entry of a project needs an approval. The server's tools
//! are loaded immediately and allowed. Hooks deliver mail at the start, with each prompt, after each
//! tool call and before a stop, and wake an idle session.

use jsonc_parser::cst::{CstNode, CstObject};
use serde_json::{Value, json};

use super::file::FileChange;
use super::hooks;
use super::json::{
    array_or_create, edit, object_or_create, parsed, remove_if_empty, set_server, to_cst,
};
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;
use c2c_core::decide::Rejection;

/// The permission rule for all tools of the server.
const ALLOWED: &str = "mcp__c2c";
const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// The client stops waiting for the hook after this many seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    // With CLAUDE_CONFIG_DIR, Claude Code keeps both files in that directory.
    let (servers_path, settings_path) = match &options.config_directory {
        Some(own) => (own.join(".claude.json"), own.join("settings.json")),
        None => (options.home.join(".claude.json"), options.home.join(".claude/settings.json")),
    };
    let mut servers = FileChange::read(servers_path)?;
    let mut settings = FileChange::read(settings_path)?;
    edit(&mut servers, &|root| set_server(root, "mcpServers", options, &entry(options)))?;
    edit(&mut settings, &|root| {
        allow(root, options.undo)?;
        hooks::set(root, &hooks_by_event(options))
    })?;
    let next = if options.undo {
        "restart Claude Code: running sessions keep their configuration"
    } else {
        "restart Claude Code, then ask it to send a message to a peer"
    };
    Ok(SetupPlan {
        client: "claude-code",
        changes: vec![servers, settings],
        next: vec![next.into()],
    })
}

fn entry(options: &SetupOptions) -> Value {
    let mut server = json!({
        "type": "stdio",
        "command": options.program,
        "args": ["mcp"],
        "alwaysLoad": true,
    });
    if let Some(env) = options.environment() {
        server["env"] = env;
    }
    server
}

fn hooks_by_event(options: &SetupOptions) -> Vec<(&'static str, Option<Value>)> {
    let command = options.hook_command();
    let hook = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
    let wake = json!({
        "type": "command",
        "command": format!("{command} --wake"),
        "timeout": HOOK_TIMEOUT_S,
        "asyncRewake": true,
    });
    let mut by_event: Vec<_> = EVENTS.map(|event| (event, options.unless_undo(&hook))).into();
    by_event.push(("FileChanged", options.unless_undo(&wake)));
    by_event
}

fn allow(root: &CstObject, undo: bool) -> Result<(), Rejection> {
    let is_ours = |node: &CstNode| parsed(node) == ALLOWED;
    if undo {
        let Some(permissions) = root.object_value("permissions") else { return Ok(()) };
        if let Some(allowed) = permissions.array_value("allow") {
            allowed.elements().into_iter().filter(is_ours).for_each(CstNode::remove);
            remove_if_empty(&permissions, "allow");
            remove_if_empty(root, "permissions");
        }
        return Ok(());
    }
    let allowed = array_or_create(&object_or_create(root, "permissions")?, "allow")?;
    if !allowed.elements().iter().any(is_ours) {
        allowed.append(to_cst(&json!(ALLOWED)));
    }
    Ok(())
}
