//! Setup of Kimi Code.
//!
//! Setup writes the server to `mcp.json`, and hooks for prompts and stops to `config.toml`. Kimi Code
//! moved its directory, so `mcp.json` is written to the old and to the new one.

use serde_json::json;

use super::file::FileChange;
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
    let own = options.config_directory.clone().unwrap_or_else(|| options.home.join(".kimi-code"));
    for directory in [&own, &options.home.join(".kimi")] {
        let mut servers = FileChange::read(directory.join("mcp.json"))?;
        edit(&mut servers, &|root| set_server(root, "mcpServers", options, &entry))?;
        changes.push(servers);
    }
    let mut config = FileChange::read(own.join("config.toml"))?;
    let events: &[&str] = if options.undo { &[] } else { &EVENTS };
    let command = format!("{} --client kimi", options.hook_command());
    toml::edit(&mut config, &|root| toml::set_hooks(root, events, &command, HOOK_TIMEOUT_S))?;
    changes.push(config);
    Ok(SetupPlan { client: "kimi", changes, next: vec!["restart Kimi Code".into()] })
}
