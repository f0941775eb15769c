//! Setup of Crush.
//!
//! Setup writes the server and a hook before each tool call to `crush.json`, which Crush still merges
//! with the newer `crushrc`. The commands of an event are in one flat array.

use jsonc_parser::cst::CstNode;
use serde_json::json;

use super::file::FileChange;
use super::json::{
    array_or_create, edit, object_or_create, parsed, remove_if_empty, set_server, to_cst,
};
use super::own_entries::is_our_hook;
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;

const EVENT: &str = "PreToolUse";
/// The client stops waiting for the hook after this many seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let own = options.config_directory.clone().unwrap_or_else(|| options.home.join(".config"));
    let mut config = FileChange::read(own.join("crush/crush.json"))?;
    let mut entry = json!({ "type": "stdio", "command": options.program, "args": ["mcp"] });
    if let Some(env) = options.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "command": format!("{} --client crush", options.hook_command()), "timeout": HOOK_TIMEOUT_S,
    });
    edit(&mut config, &|root| {
        set_server(root, "mcp", options, &entry)?;
        if options.undo && root.object_value("hooks").is_none() {
            return Ok(());
        }
        let hooks = object_or_create(root, "hooks")?;
        let rows = array_or_create(&hooks, EVENT)?;
        let is_ours = |row: &CstNode| parsed(row)["command"].as_str().is_some_and(is_our_hook);
        let is_current = |row: &CstNode| !options.undo && parsed(row) == hook;
        let is_set = rows.elements().iter().any(is_current);
        let outdated = rows.elements().into_iter().filter(|row| is_ours(row) && !is_current(row));
        outdated.for_each(CstNode::remove);
        if !options.undo && !is_set {
            rows.append(to_cst(&hook));
        }
        remove_if_empty(&hooks, EVENT);
        remove_if_empty(root, "hooks");
        Ok(())
    })?;
    Ok(SetupPlan { client: "crush", changes: vec![config], next: vec!["restart Crush".into()] })
}
