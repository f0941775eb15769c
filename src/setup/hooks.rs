//! Hooks in the format of Claude Code: `hooks.EVENT[].hooks[]`, each a command.

use jsonc_parser::cst::CstNode;
use serde_json::{Value, json};

use super::json::{Editor, array_or_create, members, object_or_create, parsed, to_cst};
use super::own_entries::is_our_hook;
use c2c_core::decide::Rejection;

/// Sets our hook at each event once; `None` removes it. Always removes the hooks of an older c2c, which
/// drain the same mailbox.
pub fn set(editor: &Editor, by_event: &[(&str, Option<Value>)]) -> Result<(), Rejection> {
    let wanted = |name: &str| {
        let row = by_event.iter().find(|(event, _)| *event == name);
        row.and_then(|(_, hook)| hook.as_ref()).map(|hook| json!({ "hooks": [hook] }))
    };
    let mut set = Vec::new();
    let mut emptied = Vec::new();
    let objects = members(&editor.root, "hooks");
    for (i, hooks) in objects.iter().enumerate() {
        let Some(hooks) = hooks.object_value() else { continue };
        let is_used = i + 1 == objects.len();
        for event in hooks.properties() {
            let name = event.decoded_name().unwrap_or_default();
            let Some(groups) = event.array_value() else { continue };
            let group = wanted(&name).filter(|_| is_used && !set.contains(&name));
            let mut has_removed = false;
            for row in groups.elements() {
                if group.as_ref().is_some_and(|group| parsed(&row) == *group)
                    && !set.contains(&name)
                    && members(&hooks, &name).len() == 1
                {
                    set.push(name.clone());
                } else {
                    has_removed |= remove_ours(&row);
                }
            }
            if has_removed {
                emptied.push(name);
            }
        }
    }
    for (name, _) in by_event {
        if let Some(group) = wanted(name).filter(|_| !set.iter().any(|done| done == name)) {
            let hooks = object_or_create(&editor.root, "hooks")?;
            array_or_create(&hooks, name)?.append(to_cst(&group));
        }
    }
    if !emptied.is_empty() {
        editor.removed();
        emptied.iter().for_each(|name| editor.tidy(&["hooks", name]));
        editor.tidy(&["hooks"]);
    }
    Ok(())
}

/// Whether a hook of these runs our program at an event, for each use of its tools.
pub fn has_hook(hooks: &Value, event: &str) -> bool {
    let is_ours = |row: &Value| row["command"].as_str().is_some_and(is_our_hook);
    let matches_all = |group: &Value| {
        group
            .get("matcher")
            .is_none_or(|matcher| matches!(matcher.as_str(), None | Some("" | "*" | ".*")))
    };
    let rows = |value: &Value| value.as_array().cloned().unwrap_or_default();
    rows(&hooks[event])
        .iter()
        .any(|group| matches_all(group) && rows(&group["hooks"]).iter().any(is_ours))
}

/// Removes our commands from a group, and the group itself if nothing else is in it. Returns whether
/// there were any.
fn remove_ours(group: &CstNode) -> bool {
    let is_ours = |row: &CstNode| parsed(row)["command"].as_str().is_some_and(is_our_hook);
    if is_ours(group) {
        // Some clients have the commands in the event itself.
        group.clone().remove();
        return true;
    }
    let Some(inner) = group.as_object().and_then(|group| group.array_value("hooks")) else {
        return false;
    };
    let ours: Vec<_> = inner.elements().into_iter().filter(is_ours).collect();
    if ours.is_empty() {
        return false;
    }
    if ours.len() == inner.elements().len() {
        group.clone().remove();
    } else {
        ours.into_iter().for_each(CstNode::remove);
    }
    true
}
