//! Setup of Codex.
//!
//! Setup writes the server to `config.toml`, with its tools approved for all calls, and the hooks to
//! `hooks.json`. Codex ignores the hooks until the user trusts them.

use serde_json::{Value, json};

use super::force::{self, Gap, json_file, toml_file};
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
    let own = options.directory_or(".codex");
    let mut config = options.read(own.join("config.toml"))?;
    toml::edit(&mut config, options.undo, &|root| {
        if options.undo {
            return toml::remove(root, "mcp_servers", "c2c", options.force);
        }
        let server = toml::table_or_create(root, "mcp_servers", "c2c", options.force)?;
        // Older versions of c2c wrote an entry for each tool, which overrides the general rule.
        server.remove("tools");
        let is_ours = server.get("args").is_some_and(|args| args.to_string().contains("\"mcp\""));
        let environment = server.remove("env").filter(|_| is_ours);
        server.insert("command", string(&options.program.display().to_string()));
        server.insert("args", toml::strings(&["mcp"]));
        server.insert("default_tools_approval_mode", string("approve"));
        // The sessions of Codex are threads; each call carries the id of its thread.
        let mut variables = options.variables();
        variables.push((C2C_MCP_CLIENT_TYPE.name, CODEX));
        server.insert("env", toml::environment(&variables, environment));
        Ok(())
    })?;
    let mut hooks_file = options.read(own.join("hooks.json"))?;
    let mut command = options.hook_command();
    if let Some(alias) = &options.alias {
        command.push_str(&format!(" --alias {alias}"));
    }
    let hook = json!({ "type": "command", "command": command, "timeout": HOOK_TIMEOUT_S });
    let by_event: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, options.unless_undo(&hook))).into();
    edit(&mut hooks_file, options.undo, &|editor| hooks::set(editor, &by_event))?;
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

/// Why Codex does not use a part of the setup. Codex also ignores hooks that the user has not trusted;
/// the files do not show that reliably.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let own = options.directory_or(".codex");
    let (config_path, hooks_path) = (own.join("config.toml"), own.join("hooks.json"));
    let shown = config_path.display();
    let config = toml_file(&config_path);
    let server = &toml::to_json(config.get("mcp_servers").and_then(|servers| servers.get("c2c")));
    let mut gaps = force::server(server, &config_path);
    if gaps.is_empty() && server["default_tools_approval_mode"] != "approve" {
        gaps.push(Gap::missing(format!(
            "{shown}: default_tools_approval_mode of c2c is not \"approve\""
        )));
    }
    let features = toml::to_json(config.get("features"));
    for name in ["hooks", "codex_hooks"] {
        if features[name] == false {
            gaps.push(Gap::setting(format!("{shown}: the feature {name} is false")));
        }
    }
    let hooks = json_file(&hooks_path);
    let missing = EVENTS.into_iter().filter(|event| !hooks::has_hook(&hooks["hooks"], event));
    gaps.extend(force::missing_hooks(missing, &hooks_path));
    let states = toml::to_json(config.get("hooks").and_then(|hooks| hooks.get("state")));
    let of_our_file = hooks_path.display().to_string();
    for (name, state) in states.as_object().into_iter().flatten() {
        if name.starts_with(&of_our_file) && state["enabled"] == false {
            gaps.push(Gap::setting(format!("{shown}: the hook {name} is not enabled")));
        }
    }
    gaps
}
