//! What does Kimi Code read?
//!
//! `mcp.json` for the server, and `config.toml` for hooks: with a prompt, and before it stops. The
//! client moved its directory, so both places are written.

use serde_json::json;

use super::json::{edit, server};
use super::toml;
use super::{Change, Plan, Wish};
use crate::failure::Failure;

const EVENTS: [&str; 2] = ["UserPromptSubmit", "Stop"];
/// After this the client goes on without an answer, seconds.
const HOOK_TIMEOUT_S: i64 = 5;

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    let mut entry = json!({ "command": wish.program, "args": ["mcp"] });
    if let Some(env) = wish.environment() {
        entry["env"] = env;
    }
    let mut changes = Vec::new();
    let own = wish.config_directory.clone().unwrap_or_else(|| wish.home.join(".kimi-code"));
    for directory in [&own, &wish.home.join(".kimi")] {
        let mut servers = Change::of(directory.join("mcp.json"))?;
        edit(&mut servers, &|root| server(root, "mcpServers", wish, &entry))?;
        changes.push(servers);
    }
    let mut config = Change::of(own.join("config.toml"))?;
    let events: &[&str] = if wish.undo { &[] } else { &EVENTS };
    let command = format!("{} --client kimi", wish.hook_command());
    toml::edit(&mut config, &|root| toml::hooks(root, events, &command, HOOK_TIMEOUT_S))?;
    changes.push(config);
    Ok(Plan { client: "kimi", changes, next: vec!["restart Kimi Code".into()] })
}
