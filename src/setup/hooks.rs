//! Hooks in the format of Claude Code: `hooks.EVENT[].hooks[]`, each a command.

use jsonc_parser::cst::{CstNode, CstObject};
use serde_json::{Value, json};

use super::json::{array_or_create, object_or_create, parsed, remove_if_empty, to_cst};
use super::own_entries::is_our_hook;
use c2c_core::decide::Rejection;

/// Sets our hook at each event once; `None` removes it. Always removes the hooks of an older c2c, which
/// drain the same mailbox.
pub fn set(root: &CstObject, by_event: &[(&str, Option<Value>)]) -> Result<(), Rejection> {
    let adds = by_event.iter().any(|(_, hook)| hook.is_some());
    if !adds && root.object_value("hooks").is_none() {
        return Ok(());
    }
    let hooks = object_or_create(root, "hooks")?;
    let group_of = |name: &str| {
        let row = by_event.iter().find(|(event, _)| *event == name);
        row.and_then(|(_, hook)| hook.as_ref()).map(|hook| json!({ "hooks": [hook] }))
    };
    for event in hooks.properties() {
        let name = event.decoded_name().unwrap_or_default();
        let Some(groups) = event.array_value() else { continue };
        let group = group_of(&name);
        let mut is_set = false;
        for row in groups.elements() {
            if !is_set && group.as_ref().is_some_and(|group| parsed(&row) == *group) {
                is_set = true;
            } else {
                remove_ours(&row);
            }
        }
        if let Some(group) = group.filter(|_| !is_set) {
            groups.append(to_cst(&group));
        }
        remove_if_empty(&hooks, &name);
    }
    for (name, _) in by_event.iter().filter(|(name, _)| hooks.get(name).is_none()) {
        if let Some(group) = group_of(name) {
            array_or_create(&hooks, name)?.append(to_cst(&group));
        }
    }
    remove_if_empty(root, "hooks");
    Ok(())
}

/// Removes our commands from a group, and the group itself if nothing else is in it.
fn remove_ours(group: &CstNode) {
    let is_ours = |row: &CstNode| parsed(row)["command"].as_str().is_some_and(is_our_hook);
    if is_ours(group) {
        // Some clients have the commands in the event itself.
        return group.clone().remove();
    }
    let Some(inner) = group.as_object().and_then(|group| group.array_value("hooks")) else {
        return;
    };
    let ours: Vec<_> = inner.elements().into_iter().filter(is_ours).collect();
    if !ours.is_empty() && ours.len() == inner.elements().len() {
        group.clone().remove();
    } else {
        ours.into_iter().for_each(CstNode::remove);
    }
}
