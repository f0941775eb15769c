//! Setup of OpenCode.
//!
//! Setup writes the server to `opencode.json` of a project or of the user, and a plugin beside it that
//! delivers mail after each tool call and wakes an idle session.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::file::FileChange;
use super::json::{edit, set_server};
use super::own_entries::foreign_entry;
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The start of the plugin's first line.
const FIRST_LINE: &str = "// c2c in OpenCode";
/// Runs inside of OpenCode, and calls the program that the server's entry names.
const PLUGIN: &str = include_str!("opencode.js");

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let own = match (options.global, &options.config_directory) {
        (false, _) => options.directory.join(".opencode"),
        (true, Some(own)) => own.join("opencode"),
        (true, None) => options.home.join(".config/opencode"),
    };
    let mut config = FileChange::read(own.join("opencode.json"))?;
    let mut entry = json!({
        "type": "local",
        "command": [options.program, "mcp"],
        "enabled": true,
    });
    if let Some(env) = options.environment() {
        entry["environment"] = env;
    }
    edit(&mut config, &|root| set_server(root, "mcp", options, &entry))?;
    let mut plugin = FileChange { is_ours: true, ..FileChange::read(own.join("plugin/c2c.js"))? };
    let is_ours = |text: &String| text.starts_with(FIRST_LINE);
    let is_foreign = plugin.before.as_ref().is_some_and(|text| !is_ours(text));
    let is_protected = is_foreign && !options.force;
    if is_protected && !options.undo {
        return Err(foreign_entry("plugin", &plugin.path.display().to_string()).into());
    }
    if !is_protected {
        plugin.after = if options.undo { String::new() } else { PLUGIN.to_owned() };
    }
    // The plugin of an older c2c drains the same mailbox.
    let mut changes = vec![config, plugin];
    for older in ["plugins/c2c.ts", "plugin/c2c.ts"] {
        let mut older = FileChange { is_ours: true, ..FileChange::read(own.join(older))? };
        if older.before.as_ref().is_some_and(|text| text.contains("c2c")) {
            older.after.clear();
        }
        changes.push(older);
    }
    if !options.global {
        changes.iter().try_for_each(|change| check_inside(&options.directory, change))?;
    }
    let mut next = vec!["restart OpenCode".to_owned()];
    if !options.undo {
        next.push("the first start loads the plugin: without a network it takes a minute".into());
    }
    Ok(SetupPlan { client: "opencode", changes, next })
}

/// Rejects a file outside of the project: a project from an untrusted source may contain symbolic
/// links to other directories.
fn check_inside(project: &Path, change: &FileChange) -> Result<(), Rejection> {
    let existing = change.path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let target = existing.and_then(|path| fs::canonicalize(path).ok());
    let resolved = fs::canonicalize(project).ok().zip(target);
    if resolved.is_some_and(|(project, target)| target.starts_with(project)) {
        return Ok(());
    }
    let message = format!("{} leads out of the project by a symbolic link", change.path.display());
    Err(Rejection::new(Code::InvalidArgument, "file", message)
        .hint("remove the link, or pass --global"))
}
