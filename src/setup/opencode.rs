//! What does OpenCode read?
//!
//! `opencode.json` of a project, or of the user, for the server; beside it a plugin that carries mail
//! after each tool call and wakes a session that does nothing.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::json::{edit, server};
use super::{Change, Plan, Wish, foreign_server};
use crate::code::Code;
use crate::decide::Refusal;
use crate::failure::Failure;

/// How the plugin begins.
const MARK: &str = "// c2c in OpenCode";
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
    let mut plugin = Change { whole: true, ..Change::of(own.join("plugin/c2c.js"))? };
    let is_ours = |text: &String| text.starts_with(MARK);
    let foreign = plugin.before.as_ref().is_some_and(|text| !is_ours(text)) && !wish.force;
    if foreign && !wish.undo {
        return Err(foreign_server(&plugin.path.display().to_string()).into());
    }
    if !foreign {
        plugin.after = if wish.undo { String::new() } else { PLUGIN.to_owned() };
    }
    // The plugin of an older c2c would drain the same mailbox.
    let mut changes = vec![config, plugin];
    for older in ["plugins/c2c.ts", "plugin/c2c.ts"] {
        let mut older = Change { whole: true, ..Change::of(own.join(older))? };
        if older.before.as_ref().is_some_and(|text| text.contains("c2c")) {
            older.after.clear();
        }
        changes.push(older);
    }
    if !wish.global {
        changes.iter().try_for_each(|change| stays_inside(&wish.directory, change))?;
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

/// A project may come from anywhere: no link in it leads this out of it.
fn stays_inside(project: &Path, change: &Change) -> Result<(), Refusal> {
    let exists = change.path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let leads = exists.and_then(|path| fs::canonicalize(path).ok());
    let inside = fs::canonicalize(project).ok().zip(leads);
    if inside.is_some_and(|(project, leads)| leads.starts_with(project)) {
        return Ok(());
    }
    let message = format!("{} leads out of the project", change.path.display());
    Err(Refusal::new(Code::InvalidArgument, "file", message)
        .hint("remove the link, or use --global"))
}
