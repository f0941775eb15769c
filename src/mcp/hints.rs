//! Hints of failures in the words of the MCP tools.
//!
//! The rules are shared by all front ends, so their hints name no tool. These tables add it.

use serde_json::{Value, json};

use crate::error::Failure;
use c2c_core::code::Code;

/// Hints of the rules, and what an MCP result says instead.
const TOOLS: &[(&str, &str)] = &[
    ("register an alias first", "call register with an alias"),
    ("register first", "call register first"),
    (
        "register again, with another alias if this one is in use",
        "call register again, with another alias if this one is in use",
    ),
    (
        "list the agents to find the alias; for another machine, use alias@host",
        "call list to find the alias; for another machine, use alias@host",
    ),
    ("choose another alias", "call register with another alias"),
    (
        "join the room to create it",
        "call list_rooms to see the rooms, or join_room to create this one",
    ),
    ("join it", "call join_room"),
    ("join the room first", "call join_room first"),
    (
        "poll again: the messages that were not acknowledged are unread",
        "call poll_inbox again: the messages that were not acknowledged are unread",
    ),
    ("use a new id", "pass a new message_id"),
    ("use that root", "the user must start this server with that root"),
];

/// What an MCP result says about a code instead of the hint of the failure: the model cannot do it.
const CODES: &[(Code, &str)] =
    &[(Code::Corrupt, "ask the user to check the log on this machine for damage")];

/// The hint of a failure.
fn hint(failure: &Failure) -> Option<String> {
    let general = failure.hint()?;
    let by_text = TOOLS.iter().find(|(text, _)| *text == general).map(|(_, instead)| *instead);
    let code = failure.code();
    let by_code = || CODES.iter().find(|(row, _)| *row == code).map(|(_, instead)| *instead);
    Some(by_text.or_else(by_code).map_or(general, str::to_owned))
}

/// A failure as the JSON object of a tool result.
pub fn failure_json(failure: &Failure) -> Value {
    let mut value = failure.to_json();
    if let Some(hint) = hint(failure) {
        value["hint"] = json!(hint);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::samples;
    use c2c_core::decide::Rejection;

    #[test]
    fn no_failure_names_a_command_in_an_mcp_result() {
        for failure in samples::failures() {
            let value = failure_json(&failure);
            for key in ["error", "hint"] {
                let text = value[key].as_str().unwrap_or_default();
                let is_command = |part: &str| part.starts_with(|c: char| c.is_ascii_lowercase());
                let mut named = text.split("c2c ").skip(1);
                // "update c2c on this machine" names the program.
                let names_command = named.any(|rest| is_command(rest) && !rest.starts_with("on "));
                assert!(!names_command && !text.contains("c2c-log"), "{key}: {text}");
            }
        }
    }

    #[test]
    fn a_hint_names_the_tool() {
        let rejection = Rejection::new(Code::NotAMember, "room_id", "").hint("join the room first");
        assert_eq!(failure_json(&rejection.into())["hint"], "call join_room first");
    }

    #[test]
    fn every_replaced_hint_is_one_that_a_shared_layer_gives() {
        let shared = samples::shared_hints();
        for (general, _) in TOOLS {
            assert!(shared.iter().any(|hint| hint == general), "{general}");
        }
    }
}
