//! Setup of Claude Code.
//!
//! Setup writes the user scope, because an entry of a project needs an approval. The server's tools
//! are loaded immediately and allowed. Hooks deliver mail at the start, with each prompt, after each
//! tool call and before a stop, and wake an idle session.

use std::path::PathBuf;

use jsonc_parser::cst::CstNode;
use serde_json::{Value, json};

use super::force::{self, Gap, has_word, json_file};
use super::hooks;
use super::json::{
    Editor, array_or_create, edit, members, object_or_create, parsed, set_server, to_cst,
};
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;
use c2c_core::decide::Rejection;

/// The permission rule for all tools of the server.
const ALLOWED: &str = "mcp__c2c";
/// Settings that the administrator of the machine prescribes.
const MANAGED_SETTINGS: &str = "/etc/claude-code/managed-settings.json";
const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// The client stops waiting for the hook after this many seconds.
const HOOK_TIMEOUT_S: u64 = 5;

/// The files of the servers and of the settings.
fn paths(options: &SetupOptions) -> (PathBuf, PathBuf) {
    // With CLAUDE_CONFIG_DIR, Claude Code keeps both files in that directory.
    match &options.config_directory {
        Some(own) => (own.join(".claude.json"), own.join("settings.json")),
        None => (options.home.join(".claude.json"), options.home.join(".claude/settings.json")),
    }
}

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let (servers, settings) = paths(options);
    let (mut servers, mut settings) = (options.read(servers)?, options.read(settings)?);
    let set_entry = |editor: &Editor| set_server(editor, "mcpServers", options, &entry(options));
    edit(&mut servers, options.undo, &set_entry)?;
    edit(&mut settings, options.undo, &|editor| {
        allow(editor)?;
        hooks::set(editor, &hooks_by_event(options))
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

fn allow(editor: &Editor) -> Result<(), Rejection> {
    let is_ours = |node: &CstNode| parsed(node) == ALLOWED;
    if editor.undo {
        let permissions = members(&editor.root, "permissions").into_iter();
        let lists = permissions
            .filter_map(|member| member.object_value())
            .flat_map(|permissions| members(&permissions, "allow"))
            .filter_map(|member| member.array_value());
        let ours: Vec<CstNode> =
            lists.flat_map(|allowed| allowed.elements()).filter(is_ours).collect();
        if !ours.is_empty() {
            ours.into_iter().for_each(CstNode::remove);
            editor.removed();
            editor.tidy(&["permissions", "allow"]);
            editor.tidy(&["permissions"]);
        }
        return Ok(());
    }
    let allowed = array_or_create(&object_or_create(&editor.root, "permissions")?, "allow")?;
    if !allowed.elements().iter().any(is_ours) {
        allowed.append(to_cst(&json!(ALLOWED)));
    }
    Ok(())
}

/// Why Claude Code does not use a part of the setup.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let (servers_path, settings_path) = paths(options);
    let servers = json_file(&servers_path);
    let settings = json_file(&settings_path);
    let mut gaps = force::server(&servers["mcpServers"]["c2c"], &servers_path);
    for (directory, project) in servers["projects"].as_object().into_iter().flatten() {
        if has_word(&project["disabledMcpServers"], "c2c") {
            gaps.push(Gap::setting(format!(
                "{}: disabledMcpServers of {directory} names c2c",
                servers_path.display()
            )));
        }
    }
    if !has_word(&settings["permissions"]["allow"], ALLOWED) {
        gaps.push(Gap::missing(format!(
            "{}: permissions.allow lacks {ALLOWED}",
            settings_path.display()
        )));
    }
    let events = EVENTS.iter().chain(&["FileChanged"]);
    let missing = events.filter(|event| !hooks::has_hook(&settings["hooks"], event));
    gaps.extend(force::missing_hooks(missing.copied(), &settings_path));
    // Settings of the project and of the administrator apply as well.
    let project = [".claude/settings.json", ".claude/settings.local.json"];
    let mut paths = vec![settings_path];
    paths.extend(project.map(|name| options.directory.join(name)));
    paths.push(MANAGED_SETTINGS.into());
    paths.dedup();
    for path in paths {
        let settings = json_file(&path);
        let shown = path.display();
        if settings["disableAllHooks"] == true {
            gaps.push(Gap::setting(format!("{shown}: disableAllHooks is true")));
        }
        if path.as_os_str() == MANAGED_SETTINGS && settings["allowManagedHooksOnly"] == true {
            gaps.push(Gap::setting(format!("{shown}: allowManagedHooksOnly is true")));
        }
        let denied = settings["permissions"]["deny"].as_array().into_iter().flatten();
        for rule in denied.filter_map(Value::as_str).filter(|rule| denies(rule)) {
            gaps.push(Gap::setting(format!("{shown}: permissions.deny has {rule}")));
        }
        let server_names = |list: &Value| {
            let rows = list.as_array().into_iter().flatten();
            rows.clone().any(|row| row["serverName"] == "c2c")
        };
        if server_names(&settings["deniedMcpServers"]) {
            gaps.push(Gap::setting(format!("{shown}: deniedMcpServers names c2c")));
        }
        if settings["allowedMcpServers"].is_array() && !server_names(&settings["allowedMcpServers"])
        {
            gaps.push(Gap::setting(format!("{shown}: allowedMcpServers does not name c2c")));
        }
    }
    gaps
}

/// Whether a rule denies the tools that every agent needs.
fn denies(rule: &str) -> bool {
    matches!(
        rule,
        "mcp__c2c" | "mcp__c2c__*" | "mcp__*" | "mcp__c2c__send" | "mcp__c2c__poll_inbox" | "*"
    )
}
