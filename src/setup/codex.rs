//! What does Codex read?
//!
//! `config.toml` for the server, whose tools run without a question for each call, and `hooks.json`,
//! which counts only when the user has trusted it.

use serde_json::{Value, json};

use super::json::edit;
use super::toml::{self, string};
use super::{Change, Plan, Wish, hooks};
use crate::decide::CODEX;
use crate::failure::Failure;

const EVENTS: [&str; 4] = ["SessionStart", "UserPromptSubmit", "PostToolUse", "Stop"];
/// After this the client goes on without an answer, seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    let own = wish.config_directory.clone().unwrap_or_else(|| wish.home.join(".codex"));
    let mut config = Change::of(own.join("config.toml"))?;
    toml::edit(&mut config, &|root| {
        if wish.undo {
            return toml::remove(root, "mcp_servers", "c2c", wish.force);
        }
        let server = toml::table(root, "mcp_servers", "c2c", wish.force)?;
        // What an older c2c wrote, tool by tool, would count before the rule for all of them.
        server.remove("tools");
        let ours = server.get("args").is_some_and(|args| args.to_string().contains("\"mcp\""));
        let environment = server.remove("env").filter(|_| ours);
        server["command"] = string(&wish.program.display().to_string());
        server["args"] = toml::strings(&["mcp"]);
        server["default_tools_approval_mode"] = string("approve");
        // Its sessions are threads, which name themselves with each call.
        let mut variables = wish.variables();
        variables.push(("C2C_MCP_CLIENT_TYPE", CODEX));
        server["env"] = toml::environment(&variables, environment);
        Ok(())
    })?;
    let mut hooks_file = Change::of(own.join("hooks.json"))?;
    let named = wish.alias.as_ref().map_or_else(String::new, |alias| format!(" --alias {alias}"));
    let command = format!("{}{named}", wish.hook_command());
    let hook = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
    let wanted: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, wish.unless_undo(&hook))).into();
    edit(&mut hooks_file, &|root| hooks::set(root, &wanted))?;
    let next: &[&str] = if wish.undo {
        &["restart Codex"]
    } else {
        &[
            "restart Codex",
            "type /hooks in Codex and trust the hooks of c2c: before that they do not run",
        ]
    };
    let next = next.iter().map(|step| (*step).to_owned()).collect();
    Ok(Plan { client: "codex", changes: vec![config, hooks_file], next })
}
