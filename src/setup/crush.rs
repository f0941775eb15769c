//! Setup of Crush.
//!
//! Setup writes the server and a hook before each tool call to `crush.json`, which Crush still merges
//! with the newer `crushrc`. The commands of an event are in one flat array.

use jsonc_parser::cst::{CstNode, CstObjectProp};
use serde_json::{Value, json};

use super::force::{self, Gap, has_word, json_file};
use super::json::{
    Editor, array_or_create, edit, members, object_or_create, parsed, set_server, to_cst,
};
use super::own_entries::is_our_hook;
use super::plan::{SetupOptions, SetupPlan};
use crate::error::Failure;
use c2c_core::decide::Rejection;

const EVENT: &str = "PreToolUse";
/// The client stops waiting for the hook after this many seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(options: &SetupOptions) -> Result<SetupPlan, Failure> {
    let mut config = options.read(options.directory_or(".config").join("crush/crush.json"))?;
    let mut entry = json!({ "type": "stdio", "command": options.program, "args": ["mcp"] });
    if let Some(env) = options.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "command": format!("{} --client crush", options.hook_command()), "timeout": HOOK_TIMEOUT_S,
    });
    edit(&mut config, options.undo, &|editor| {
        set_server(editor, "mcp", options, &entry)?;
        set_hook(editor, &hook)
    })?;
    Ok(SetupPlan { client: "crush", changes: vec![config], next: vec!["restart Crush".into()] })
}

fn set_hook(editor: &Editor, hook: &Value) -> Result<(), Rejection> {
    let is_ours = |row: &CstNode| parsed(row)["command"].as_str().is_some_and(is_our_hook);
    let is_current = |row: &CstNode| !editor.undo && parsed(row) == *hook;
    let mut is_set = false;
    let mut outdated: Vec<CstNode> = Vec::new();
    for hooks in members(&editor.root, "hooks").iter().filter_map(CstObjectProp::object_value) {
        for rows in members(&hooks, EVENT).iter().filter_map(CstObjectProp::array_value) {
            is_set = rows.elements().iter().any(is_current);
            outdated
                .extend(rows.elements().into_iter().filter(|row| is_ours(row) && !is_current(row)));
        }
    }
    let has_outdated = !outdated.is_empty();
    outdated.into_iter().for_each(CstNode::remove);
    if !editor.undo && !is_set {
        let hooks = object_or_create(&editor.root, "hooks")?;
        array_or_create(&hooks, EVENT)?.append(to_cst(hook));
    }
    if has_outdated {
        editor.removed();
        editor.tidy(&["hooks", EVENT]);
        editor.tidy(&["hooks"]);
    }
    Ok(())
}

/// Why Crush does not use a part of the setup.
pub fn gaps(options: &SetupOptions) -> Vec<Gap> {
    let path = options.directory_or(".config").join("crush/crush.json");
    let config = json_file(&path);
    let mut gaps = force::server(&config["mcp"]["c2c"], &path);
    for tool in ["mcp_c2c_send", "mcp_c2c_poll_inbox"] {
        if has_word(&config["options"]["disabled_tools"], tool) {
            gaps.push(Gap::setting(format!(
                "{}: options.disabled_tools names {tool}",
                path.display()
            )));
        }
    }
    let rows = config["hooks"][EVENT].as_array();
    let is_ours = |row: &Value| row["command"].as_str().is_some_and(is_our_hook);
    let is_missing = !rows.is_some_and(|rows| rows.iter().any(is_ours));
    gaps.extend(force::missing_hooks(Some(EVENT).filter(|_| is_missing).into_iter(), &path));
    gaps
}
