//! Hooks in the form that Claude Code began: `hooks.EVENT[].hooks[]`, each a command.

use jsonc_parser::cst::{CstNode, CstObject};
use serde_json::{Value, json};

use super::is_ours;
use super::json::{array, drop_if_empty, input, object, value_of};
use crate::decide::Refusal;

/// Sets our hook at each event, once; `None` takes it away. Hooks of an older c2c would drain the same
/// mailbox, so they go in any case.
pub fn set(root: &CstObject, wanted: &[(&str, Option<Value>)]) -> Result<(), Refusal> {
    let adds = wanted.iter().any(|(_, hook)| hook.is_some());
    if !adds && root.object_value("hooks").is_none() {
        return Ok(());
    }
    let hooks = object(root, "hooks")?;
    let group_of = |name: &str| {
        let found = wanted.iter().find(|(event, _)| *event == name);
        found.and_then(|(_, hook)| hook.as_ref()).map(|hook| json!({ "hooks": [hook] }))
    };
    for event in hooks.properties() {
        let name = event.decoded_name().unwrap_or_default();
        let Some(groups) = event.array_value() else { continue };
        let group = group_of(&name);
        let mut found = false;
        for row in groups.elements() {
            if !found && group.as_ref().is_some_and(|group| value_of(&row) == *group) {
                found = true;
            } else {
                take_ours(&row);
            }
        }
        if let Some(group) = group.filter(|_| !found) {
            groups.append(input(&group));
        }
        drop_if_empty(&hooks, &name);
    }
    for (name, _) in wanted.iter().filter(|(name, _)| hooks.get(name).is_none()) {
        if let Some(group) = group_of(name) {
            array(&hooks, name)?.append(input(&group));
        }
    }
    drop_if_empty(root, "hooks");
    Ok(())
}

/// Takes what is ours out of a group, and the group itself if nothing else was in it.
fn take_ours(group: &CstNode) {
    let ours = |row: &CstNode| value_of(row)["command"].as_str().is_some_and(is_ours);
    if ours(group) {
        // Some clients keep the commands in the event itself.
        return group.clone().remove();
    }
    let Some(inner) = group.as_object().and_then(|group| group.array_value("hooks")) else {
        return;
    };
    let gone: Vec<_> = inner.elements().into_iter().filter(ours).collect();
    if !gone.is_empty() && gone.len() == inner.elements().len() {
        group.clone().remove();
    } else {
        gone.into_iter().for_each(CstNode::remove);
    }
}
