//! What does OpenCode read?
//!
//! `opencode.json` of a project, or of the user, for the server; beside it a plugin that carries mail
//! after each tool call and wakes a session that does nothing.

use serde_json::json;

use super::json::{edit, server};
use super::{Change, Plan, Wish};
use crate::failure::Failure;

/// Runs inside the client. It asks the program of the server's entry for everything.
const PLUGIN: &str = include_str!("opencode.js");

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    let own = match (wish.global, &wish.config_directory) {
        (false, _) => wish.directory.join(".opencode"),
        (true, Some(own)) => own.join("opencode"),
        (true, None) => wish.home.join(".config/opencode"),
    };
    let mut config = Change::of(own.join("opencode.json"))?;
    let mut entry = json!({
        "type": "local",
        "command": [wish.program, "mcp"],
        "enabled": true,
    });
    if let Some(env) = wish.environment() {
        entry["environment"] = env;
    }
    edit(&mut config, &|root| server(root, "mcp", wish, &entry))?;
    let mut plugin = Change::of(own.join("plugin/c2c.js"))?;
    plugin.after = if wish.undo { String::new() } else { PLUGIN.to_owned() };
    // The plugin of an older c2c would drain the same mailbox.
    let mut changes = vec![config, plugin];
    for older in ["plugins/c2c.ts", "plugin/c2c.ts"] {
        let mut older = Change::of(own.join(older))?;
        older.after.clear();
        changes.push(older);
    }
    let mut next = vec!["restart OpenCode".to_owned()];
    if !wish.undo {
        next.push(
            "with a plugin OpenCode asks its registry once: offline its first start takes a minute"
                .into(),
        );
    }
    Ok(Plan { client: "opencode", changes, next })
}
