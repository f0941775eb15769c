//! What does Claude Code read?
//!
//! Its user scope: an entry of a project would wait for an approval. The server's tools are loaded at
//! once and allowed; hooks carry mail after each tool call, with each prompt, at the start, and before
//! it stops.

use jsonc_parser::cst::CstObject;
use serde_json::{Value, json};

use super::json::{array, drop_if_empty, edit, input, object, remove, set, value_of};
use super::{Change, Plan, Wish, is_ours, quoted};
use crate::decide::Refusal;
use crate::failure::Failure;

const SERVER: &str = "c2c";
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
    edit(&mut servers, &|root| {
        if wish.undo {
            remove(root, "mcpServers", SERVER);
        } else {
            set(&object(root, "mcpServers")?, SERVER, &server(wish));
        }
        Ok(())
    })?;
    edit(&mut settings, &|root| {
        allow(root, wish.undo)?;
        hooks(root, wish)
    })?;
    let next = if wish.undo {
        "restart Claude Code: sessions that run keep what they have"
    } else {
        "restart Claude Code, then ask it to send a message to a peer"
    };
    Ok(Plan { client: "claude-code", changes: vec![servers, settings], next: vec![next] })
}

fn server(wish: &Wish) -> Value {
    let mut server = json!({
        "type": "stdio",
        "command": wish.program,
        "args": ["mcp"],
        "alwaysLoad": true,
    });
    if let Some(alias) = &wish.alias {
        server["env"] = json!({ "C2C_MCP_AUTO_REGISTER_ALIAS": alias });
    }
    server
}

fn allow(root: &CstObject, undo: bool) -> Result<(), Refusal> {
    let ours = |node: &jsonc_parser::cst::CstNode| value_of(node) == ALLOWED;
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

/// Our hook at each event, once; hooks of an older c2c would drain the same mailbox.
fn hooks(root: &CstObject, wish: &Wish) -> Result<(), Refusal> {
    let command = format!("{} hook", quoted(&wish.program));
    let wanted = json!({
        "hooks": [{ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S }],
    });
    if wish.undo && root.object_value("hooks").is_none() {
        return Ok(());
    }
    let hooks = object(root, "hooks")?;
    for event in hooks.properties() {
        let name = event.decoded_name().unwrap_or_default();
        let wants = !wish.undo && EVENTS.contains(&name.as_str());
        let Some(groups) = event.array_value() else { continue };
        let mut found = false;
        for group in groups.elements() {
            if wants && !found && value_of(&group) == wanted {
                found = true;
                continue;
            }
            let Some(inner) = group.as_object().and_then(|group| group.array_value("hooks")) else {
                continue;
            };
            let ours = |row: &jsonc_parser::cst::CstNode| {
                value_of(row)["command"].as_str().is_some_and(is_ours)
            };
            let gone: Vec<_> = inner.elements().into_iter().filter(ours).collect();
            if !gone.is_empty() && gone.len() == inner.elements().len() {
                group.remove();
            } else {
                gone.into_iter().for_each(|row| row.remove());
            }
        }
        if wants && !found {
            groups.append(input(&wanted));
        }
        drop_if_empty(&hooks, &name);
    }
    for name in EVENTS.into_iter().filter(|name| !wish.undo && hooks.get(name).is_none()) {
        array(&hooks, name)?.append(input(&wanted));
    }
    drop_if_empty(root, "hooks");
    Ok(())
}
