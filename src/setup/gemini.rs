//! Setup of Gemini CLI.
//!
//! Setup writes the server, with its tools trusted, and the hooks to `settings.json`. Gemini CLI
//! has its own event names.

use serde_json::{Value, json};

use super::file::FileChange;
use super::hooks;
use super::json::{edit, set_server};
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;

const EVENTS: [&str; 4] = ["SessionStart", "BeforeAgent", "AfterTool", "AfterAgent"];
/// The client stops waiting for the hook after this many milliseconds.
const HOOK_TIMEOUT_MS: u64 = 5000;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let home = options.config_directory.as_ref().unwrap_or(&options.home);
    let mut settings = FileChange::read(home.join(".gemini/settings.json"))?;
    let mut entry = json!({ "command": options.program, "args": ["mcp"], "trust": true });
    if let Some(env) = options.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "type": "command", "command": options.hook_command(), "timeout": HOOK_TIMEOUT_MS,
    });
    let by_event: Vec<(&str, Option<Value>)> =
        EVENTS.map(|event| (event, options.unless_undo(&hook))).into();
    edit(&mut settings, &|root| {
        set_server(root, "mcpServers", options, &entry)?;
        hooks::set(root, &by_event)
    })?;
    let next: &[&str] = if options.undo {
        &["restart Gemini CLI"]
    } else {
        &[
            "restart Gemini CLI",
            "trust the folder when asked: Gemini CLI starts no server in other folders",
        ]
    };
    let next = next.iter().map(|step| (*step).to_owned()).collect();
    Ok(SetupPlan { client: "gemini", changes: vec![settings], next })
}
