//! What does Gemini CLI read?
//!
//! One file, `settings.json`, for the server, whose tools are trusted, and for hooks, whose names are
//! its own.

use serde_json::{Value, json};

use super::json::{edit, server};
use super::{Change, Plan, Wish, hooks};
use crate::failure::Failure;

const EVENTS: [&str; 4] = ["SessionStart", "BeforeAgent", "AfterTool", "AfterAgent"];
/// After this the client goes on without an answer, milliseconds.
const HOOK_TIMEOUT_MS: u64 = 5000;

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    let home = wish.config_directory.as_ref().unwrap_or(&wish.home);
    let mut settings = Change::of(home.join(".gemini/settings.json"))?;
    let mut entry = json!({ "command": wish.program, "args": ["mcp"], "trust": true });
    if let Some(env) = wish.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "type": "command", "command": wish.hook_command(), "timeout": HOOK_TIMEOUT_MS,
    });
    let wanted: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, wish.unless_undo(&hook))).into();
    edit(&mut settings, &|root| {
        server(root, "mcpServers", wish, &entry)?;
        hooks::set(root, &wanted)
    })?;
    let next: &[&str] = if wish.undo {
        &["restart Gemini CLI"]
    } else {
        &["restart Gemini CLI", "trust the folder when it asks: in others it runs no server"]
    };
    let next = next.iter().map(|step| (*step).to_owned()).collect();
    Ok(Plan { client: "gemini", changes: vec![settings], next })
}
