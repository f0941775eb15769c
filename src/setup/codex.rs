//! Setup of Codex.
//!
//! Setup writes the server to `config.toml`, with its tools approved for all calls, and the hooks to
//! `hooks.json`. Codex ignores the hooks until the user trusts them.

use serde_json::{Value, json};

use super::file::FileChange;
use super::hooks;
use super::json::edit;
use super::plan::{SetupOptions, SetupPlan};
use super::toml::{self, string};
use crate::env::C2C_MCP_CLIENT_TYPE;
use crate::error::Failure;
use c2c_core::decide::CODEX;

const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// Seconds that the client waits for a hook.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let own = options.config_directory.clone().unwrap_or_else(|| options.home.join(".codex"));
    let mut config = FileChange::read(own.join("config.toml"))?;
    toml::edit(&mut config, &|root| {
        if options.undo {
            return toml::remove(root, "mcp_servers", "c2c", options.force);
        }
        let server = toml::table_or_create(root, "mcp_servers", "c2c", options.force)?;
        // Older versions of c2c wrote an entry for each tool, which overrides the general rule.
        server.remove("tools");
        let is_ours = server.get("args").is_some_and(|args| args.to_string().contains("\"mcp\""));
        let environment = server.remove("env").filter(|_| is_ours);
        server["command"] = string(&options.program.display().to_string());
        server["args"] = toml::strings(&["mcp"]);
        server["default_tools_approval_mode"] = string("approve");
        // The sessions of Codex are threads; each call carries the id of its thread.
        let mut variables = options.variables();
        variables.push((C2C_MCP_CLIENT_TYPE.name, CODEX));
        server["env"] = toml::environment(&variables, environment);
        Ok(())
    })?;
    let mut hooks_file = FileChange::read(own.join("hooks.json"))?;
    let mut command = options.hook_command();
    if let Some(alias) = &options.alias {
        command.push_str(&format!(" --alias {alias}"));
    }
    let hook = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
    let by_event: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, options.unless_undo(&hook))).into();
    edit(&mut hooks_file, &|root| hooks::set(root, &by_event))?;
    let next: &[&str] = if options.undo {
        &["restart Codex"]
    } else {
        &[
            "restart Codex",
            "type /hooks in Codex and trust the c2c hooks: until then, they do not run",
        ]
    };
    let next = next.iter().map(|step| (*step).to_owned()).collect();
    Ok(SetupPlan { client: "codex", changes: vec![config, hooks_file], next })
}
