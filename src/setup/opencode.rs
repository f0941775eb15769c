//! Setup of OpenCode.
//!
//! Setup writes the server to `opencode.json` of a project or of the user, and a plugin beside it that
//! delivers mail after each tool call and wakes an idle session.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::file::FileChange;
use super::force::{self, Gap, json_file};
use super::json::{edit, is_ours, set_server, value_in};
use super::own_entries::foreign_entry;
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;
use crate::platform::fs::read_regular_text;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// The start of the plugin's first line.
const FIRST_LINE: &str = "// c2c in OpenCode";
/// Runs inside of OpenCode, and calls the program that the server's entry names.
const PLUGIN: &str = include_str!("opencode.js");

/// The directory of the configuration and the plugin.
fn directory(options: &SetupOptions) -> PathBuf {
    match options.global {
        false => options.directory.join(".opencode"),
        true => options.directory_or(".config").join("opencode"),
    }
}

/// The project that a file of the setup is in.
pub fn project_of(file: &Path) -> Option<PathBuf> {
    let own = file.ancestors().find(|path| path.ends_with(".opencode"))?;
    own.parent().map(Path::to_owned)
}

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let own = directory(options);
    let mut entry = json!({
        "type": "local",
        "command": [options.program, "mcp"],
        "enabled": true,
    });
    if let Some(env) = options.environment() {
        entry["environment"] = env;
    }
    let mut changes = Vec::new();
    let (mut plain, mut commented) =
        (options.read(own.join("opencode.json"))?, options.read(own.join("opencode.jsonc"))?);
    let has_entry = |file: &FileChange| !value_in(file.text())["mcp"]["c2c"].is_null();
    // OpenCode merges both files, in an order that differs by place: one of them has the entry.
    let is_commented =
        commented.before.is_some() && (has_entry(&commented) || plain.before.is_none());
    let (file, other) =
        if is_commented { (&mut commented, &mut plain) } else { (&mut plain, &mut commented) };
    edit(file, options.undo, &|editor| set_server(editor, "mcp", options, &entry))?;
    remove_entry(other, options)?;
    changes.push(plain);
    changes.push(commented);
    changes.push(plugin(options, own.join("plugin/c2c.js"))?);
    // The plugin of an older c2c drains the same mailbox.
    for older in ["plugins/c2c.ts", "plugin/c2c.ts"] {
        let mut older = FileChange::read_ours(own.join(older), &options.record)?;
        if older.before.as_ref().is_some_and(|text| text.contains("c2c")) {
            older.after = None;
        }
        changes.push(older);
    }
    if !options.global {
        // An older c2c wrote the entry beside the project's files.
        for name in ["opencode.json", "opencode.jsonc"] {
            let mut beside = options.read(options.directory.join(name))?;
            remove_entry(&mut beside, options)?;
            changes.push(beside);
        }
        let mut own_files =
            changes.iter().filter(|change| change.path.starts_with(&own) || !change.is_unchanged());
        own_files.try_for_each(|change| check_inside(&options.directory, change))?;
    }
    let mut next = vec!["restart OpenCode".to_owned()];
    if !options.undo {
        next.push("the first start loads the plugin: without a network it takes a minute".into());
    }
    Ok(SetupPlan { client: "opencode", changes, next })
}

/// Removes the entry of a c2c from a file that does not hold the present one.
fn remove_entry(file: &mut FileChange, options: &SetupOptions) -> Result<(), Rejection> {
    if file.before.is_none() {
        return Ok(());
    }
    let undo = SetupOptions { undo: true, ..options.clone() };
    edit(file, true, &|editor| {
        let server = &value_in(&editor.root.to_string())["mcp"]["c2c"];
        let is_foreign = !server.is_null() && !is_ours(server) && !options.force;
        if is_foreign && !options.undo {
            return Err(foreign_entry("MCP server", &server.to_string()));
        }
        set_server(editor, "mcp", &undo, &Value::Null)
    })
}

fn plugin(options: &SetupOptions, path: PathBuf) -> Result<FileChange, Failure> {
    let mut plugin = FileChange::read_ours(path, &options.record)?;
    let is_ours = |text: &String| text.starts_with(FIRST_LINE);
    let is_foreign = plugin.before.as_ref().is_some_and(|text| !is_ours(text));
    let is_protected = is_foreign && !options.force;
    if is_protected && !options.undo {
        return Err(foreign_entry("plugin", &plugin.path.display().to_string()).into());
    }
    if !is_protected {
        plugin.after = Some(PLUGIN.to_owned()).filter(|_| !options.undo);
    }
    Ok(plugin)
}

/// Why OpenCode does not use a part of the setup.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let own = directory(options);
    let files = [own.join("opencode.json"), own.join("opencode.jsonc")];
    let configs = files.each_ref().map(|path| json_file(path));
    let found = configs.iter().position(|config| !config["mcp"]["c2c"].is_null()).unwrap_or(0);
    let mut gaps = force::server(&configs[found]["mcp"]["c2c"], &files[found]);
    for (config, path) in configs.iter().zip(&files) {
        let rules = config["tools"].as_object().into_iter().flatten();
        for (name, _) in rules.filter(|(name, is_on)| name.starts_with("c2c") && **is_on == false) {
            gaps.push(Gap::setting(format!("{}: tools.{name} is false", path.display())));
        }
        let rules = config["permission"].as_object().into_iter().flatten();
        for (name, _) in rules.filter(|(name, rule)| name.starts_with("c2c") && **rule == "deny") {
            gaps.push(Gap::setting(format!("{}: permission.{name} is deny", path.display())));
        }
    }
    let plugin = own.join("plugin/c2c.js");
    match read_regular_text(&plugin) {
        Ok(text) if text == PLUGIN => {}
        Ok(text) if text.starts_with(FIRST_LINE) => {
            gaps.push(Gap::missing(format!(
                "{}: the plugin is of another version",
                plugin.display()
            )));
        }
        Ok(_) | Err(_) => {
            gaps.push(Gap::missing(format!("{}: the plugin is missing", plugin.display())));
        }
    }
    gaps
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
