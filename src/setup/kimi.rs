//! Setup of Kimi Code.
//!
//! Setup writes the server to `mcp.json`, and hooks for prompts and stops to `config.toml`. Kimi Code
//! moved its directory, so `mcp.json` is written to the old and to the new one.

use serde_json::json;

use super::force::{self, Gap, json_file, toml_file};
use super::json::{edit, set_server};
use super::plan::{SetupOptions, SetupPlan};
use super::toml;
use crate::error::Failure;

const EVENTS: [&str; 2] = ["UserPromptSubmit", "Stop"];
/// The client stops waiting for the hook after this many seconds.
const HOOK_TIMEOUT_S: i64 = 5;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let mut entry = json!({ "command": options.program, "args": ["mcp"] });
    if let Some(env) = options.environment() {
        entry["env"] = env;
    }
    let mut changes = Vec::new();
    let own = options.directory_or(".kimi-code");
    for directory in [&own, &options.home.join(".kimi")] {
        let mut servers = options.read(directory.join("mcp.json"))?;
        edit(&mut servers, options.undo, &|editor| {
            set_server(editor, "mcpServers", options, &entry)
        })?;
        changes.push(servers);
    }
    let mut config = options.read(own.join("config.toml"))?;
    let events: &[&str] = if options.undo { &[] } else { &EVENTS };
    let command = format!("{} --client kimi", options.hook_command());
    toml::edit(&mut config, options.undo, &|root| {
        toml::set_hooks(root, events, &command, HOOK_TIMEOUT_S)
    })?;
    changes.push(config);
    Ok(SetupPlan { client: "kimi", changes, next: vec!["restart Kimi Code".into()] })
}

/// Why Kimi Code does not use a part of the setup.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let own = options.directory_or(".kimi-code");
    let (servers_path, config_path) = (own.join("mcp.json"), own.join("config.toml"));
    let mut gaps = force::server(&json_file(&servers_path)["mcpServers"]["c2c"], &servers_path);
    let config = toml_file(&config_path);
    let missing = EVENTS.into_iter().filter(|event| !toml::has_hook(&config, event));
    gaps.extend(force::missing_hooks(missing, &config_path));
    gaps
}
