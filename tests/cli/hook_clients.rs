//! Hooks of clients that read another answer than Claude Code, and hooks with unusual input.

use std::io::Write;

use serde_json::json;

use super::hook::{command, event, pending, run_with_input, two_agents};
use crate::support::{Outcome, World};

fn hook(world: &World, client: &str, input: &str) -> Outcome {
    let done = run_with_input(command(world, &["--client", client]), input).ok();
    assert!(done.err.is_empty(), "{}", done.err);
    done
}

fn copilot_reads_mail_in_a_field_of_its_own() {
    let world = two_agents();
    for name in ["PostToolUse", "UserPromptSubmit", "SessionStart"] {
        world.run("ann", &["send", "bob", name]).ok();
        let done = hook(&world, "copilot", &event("bob", name).to_string()).json();
        let text = done["additionalContext"].as_str().expect("a context");
        assert!(text.contains(&format!(">{name}</c2c>")), "{text}");
        assert_eq!(done.as_object().map(serde_json::Map::len), Some(1), "{done}");
    }
    world.run("ann", &["send", "bob", "at the end"]).ok();
    let done = hook(&world, "copilot", &event("bob", "Stop").to_string()).json();
    assert_eq!(done["decision"], "block");
    assert_eq!(pending(&world, "bob"), Vec::<String>::new());
}

fn an_unknown_client_is_told_that_mail_waits_and_takes_none() {
    let world = two_agents();
    assert_eq!(hook(&world, "some-agent", &event("bob", "PostToolUse").to_string()).out, "");
    world.run("ann", &["send", "bob", "kept"]).ok();
    let done = hook(&world, "some-agent", &event("bob", "PostToolUse").to_string());
    assert!(done.out.contains("poll_inbox") && !done.out.contains("kept"), "{}", done.out);
    assert_eq!(hook(&world, "some-agent", &event("bob", "Stop").to_string()).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
}

fn the_client_type_of_a_session_names_its_client_too() {
    let world = two_agents();
    for (alias, client) in [("cop", "copilot"), ("odd", "some-agent")] {
        let mut register = world.c2c(&["register", "--alias", alias, "-s", &format!("s-{alias}")]);
        register.env("C2C_MCP_CLIENT_TYPE", client);
        crate::support::run(register).ok();
        world.run("ann", &["send", alias, "hello"]).ok();
    }
    let ask = |who: &str| {
        run_with_input(command(&world, &[]), &event(who, "PostToolUse").to_string()).ok()
    };
    assert!(
        ask("cop").json()["additionalContext"].as_str().is_some_and(|text| text.contains("hello"))
    );
    assert!(!ask("odd").out.contains("hello"));
    assert_eq!(pending(&world, "odd"), ["hello"]);
}

fn mail_is_not_taken_at_an_event_whose_answer_the_client_ignores() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "kept"]).ok();
    assert_eq!(hook(&world, "openhands", &event("bob", "PostToolUse").to_string()).out, "");
    assert_eq!(pending(&world, "bob"), ["kept"]);
    let done = hook(&world, "openhands", &event("bob", "UserPromptSubmit").to_string());
    assert!(done.out.contains("kept"), "{}", done.out);
}

fn the_main_agent_of_cline_is_not_taken_for_a_helper() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "hello"]).ok();
    let mut input = event("bob", "PostToolUse");
    input["agent_id"] = json!("a-1");
    input["parent_agent_id"] = json!("a-0");
    assert_eq!(hook(&world, "cline", &input.to_string()).out, "");
    input["parent_agent_id"] = json!(null);
    let done = hook(&world, "cline", &input.to_string()).json();
    assert!(done["context"].as_str().is_some_and(|text| text.contains("hello")), "{done}");
}

fn input_with_a_byte_order_mark_is_read() {
    let world = two_agents();
    world.run("ann", &["send", "bob", "hello"]).ok();
    let input = format!("\u{feff}{}", event("bob", "PostToolUse"));
    assert!(hook(&world, "claude-code", &input).out.contains("hello"));
}

fn input_of_60_mb_is_read_whole_and_mail_is_delivered() {
    let world = two_agents();
    let line = format!("{} \\\"session_id\\\": \\\"s-ann\\\" ", "x".repeat(20_000));
    let text = line.repeat(60_000_000 / line.len());
    let before = "{\"session_id\": \"s-bob\", \"hook_event_name\": \"PostToolUse\", \"cwd\": \"/\"";
    for (start, end) in [
        (
            format!("{before}, \"tool_response\": {{\"session_id\": \"s-ann\", \"out\": \""),
            "\"}}".to_owned(),
        ),
        (
            "{\"tool_response\": [\"".to_owned(),
            format!("\"], {}}}", before.trim_start_matches('{')),
        ),
    ] {
        world.run("ann", &["send", "bob", "hello"]).ok();
        let mut child = command(&world, &[]).spawn().expect("starts");
        let mut input = child.stdin.take().expect("its input");
        for part in [&start, &text, &end] {
            input.write_all(part.as_bytes()).expect("the hook reads all of it");
        }
        drop(input);
        let output = child.wait_with_output().expect("ends");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(out.contains("hello"), "{out}");
    }
}

crate::harness::tests! {
    fast:
        copilot_reads_mail_in_a_field_of_its_own,
        an_unknown_client_is_told_that_mail_waits_and_takes_none,
        the_client_type_of_a_session_names_its_client_too,
        mail_is_not_taken_at_an_event_whose_answer_the_client_ignores,
        the_main_agent_of_cline_is_not_taken_for_a_helper,
        input_with_a_byte_order_mark_is_read,
        input_of_60_mb_is_read_whole_and_mail_is_delivered;
}
