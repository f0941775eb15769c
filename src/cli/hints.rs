//! Hints of rejections in the words of the command line.
//!
//! The rules are shared by all front ends, so their hints name no command. This table adds it.

use crate::broker::IN_ROOT;
use crate::error::Failure;
use crate::present::shell::quote;

/// The hint of a damaged log.
const DAMAGED_LOG: &str = "check the log for damage";

/// Hints of the rules, and what the command line prints instead.
const COMMANDS: &[(&str, &str)] = &[
    ("register an alias first", "register an alias: c2c register --alias NAME"),
    (
        "register again, with another alias if this one is in use",
        "register again, with another alias if this one is in use: c2c register --alias NAME",
    ),
    (
        "pass an alias, or set C2C_MCP_AUTO_REGISTER_ALIAS",
        "pass --alias NAME, or set C2C_MCP_AUTO_REGISTER_ALIAS",
    ),
    ("omit from_alias", "omit --from"),
    (
        "list the agents to find the alias; for another machine, use alias@host",
        "list the agents: c2c list; for another machine, use alias@host",
    ),
    (
        "join the room to create it",
        "list the rooms: c2c rooms list, or create this one: c2c rooms join ROOM",
    ),
    ("join it", "join it: c2c rooms join ROOM"),
    ("join the room first", "join the room first: c2c rooms join ROOM"),
    ("ask a member for an invitation", "ask a member to run: c2c rooms invite ROOM ALIAS"),
    ("use force to delete the room anyway", "to delete the room anyway, pass --force"),
    (
        "poll again: the messages that were not acknowledged are unread",
        "take the messages that were not acknowledged: c2c poll-inbox",
    ),
    ("use a new id", "pass a new id: --message-id ID"),
    ("name a recipient", "name a recipient: --to ALIAS"),
    ("use that root", "use that root: --broker-root DIR"),
    ("register first", "register first: c2c register --alias NAME"),
    ("list the dead letters", "list the dead letters: c2c dead-letter list"),
    (DAMAGED_LOG, "list the damage: c2c-log verify"),
];

/// The name of the command whose rejections come from a relay, with hints about `c2c relay`.
const RELAY: &str = "relay";

/// The hint to print for a failure of a command.
pub fn hint(failure: &Failure, command: &str) -> Option<String> {
    let hint = failure.hint()?;
    if let Some((_, root)) = hint.split_once(IN_ROOT) {
        return Some(format!("{hint}: pass --broker-root {}", quote(root)));
    }
    // The log is damaged on this machine, also if the command is about a relay.
    let is_local = command != RELAY || hint == DAMAGED_LOG;
    let row = COMMANDS.iter().find(|(general, _)| is_local && *general == hint);
    Some(row.map_or(hint, |(_, instead)| (*instead).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::samples;
    use c2c_core::code::Code;
    use c2c_core::decide::Rejection;

    #[test]
    fn a_hint_names_the_command_except_for_a_rejection_by_a_relay() {
        let rejection = Rejection::new(Code::NotAMember, "room_id", "").hint("join the room first");
        let failure = Failure::from(rejection);
        let local = "join the room first: c2c rooms join ROOM";
        assert_eq!(hint(&failure, "rooms").as_deref(), Some(local));
        assert_eq!(hint(&failure, RELAY).as_deref(), Some("join the room first"));
    }

    #[test]
    fn no_failure_names_an_mcp_tool_on_the_command_line() {
        for failure in samples::failures() {
            let hint = hint(&failure, "send").unwrap_or_default();
            for text in [failure.message(), hint] {
                let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let tool = words.find(|word| word.contains('_') && crate::mcp::is_tool(word));
                assert_eq!(tool, None, "{text}");
                assert!(!text.starts_with("call "), "{text}");
            }
        }
    }

    #[test]
    fn every_replaced_hint_is_one_that_a_shared_layer_gives() {
        let shared = samples::shared_hints();
        for (general, _) in COMMANDS.iter().filter(|(general, _)| *general != DAMAGED_LOG) {
            assert!(shared.iter().any(|hint| hint == general), "{general}");
        }
    }
}
