//! What does Crush read?
//!
//! `crush.json`, which it still merges with the newer `crushrc`: the server, and a hook before each
//! tool call, flat in its event.

use jsonc_parser::cst::CstNode;
use serde_json::json;

use super::json::{array, drop_if_empty, edit, input, object, server, value_of};
use super::{Change, Plan, Wish, is_ours};
use crate::failure::Failure;

const EVENT: &str = "PreToolUse";
/// After this the client goes on without an answer, seconds.
const HOOK_TIMEOUT_S: u64 = 5;

pub fn plan(wish: &Wish) -> Result<Plan, Failure> {
    let own = wish.config_directory.clone().unwrap_or_else(|| wish.home.join(".config"));
    let mut config = Change::of(own.join("crush/crush.json"))?;
    let mut entry = json!({ "type": "stdio", "command": wish.program, "args": ["mcp"] });
    if let Some(env) = wish.environment() {
        entry["env"] = env;
    }
    let hook = json!({
        "command": format!("{} --client crush", wish.hook_command()), "timeout": HOOK_TIMEOUT_S,
    });
    edit(&mut config, &|root| {
        server(root, "mcp", wish, &entry)?;
        if wish.undo && root.object_value("hooks").is_none() {
            return Ok(());
        }
        let hooks = object(root, "hooks")?;
        let rows = array(&hooks, EVENT)?;
        let ours = |row: &CstNode| value_of(row)["command"].as_str().is_some_and(is_ours);
        let same = |row: &CstNode| !wish.undo && value_of(row) == hook;
        let found = rows.elements().iter().any(same);
        let gone = rows.elements().into_iter().filter(|row| ours(row) && !same(row));
        gone.for_each(CstNode::remove);
        if !wish.undo && !found {
            rows.append(input(&hook));
        }
        drop_if_empty(&hooks, EVENT);
        drop_if_empty(root, "hooks");
        Ok(())
    })?;
    Ok(Plan { client: "crush", changes: vec![config], next: vec!["restart Crush".into()] })
}
