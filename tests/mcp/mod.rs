//! Does a real MCP client get on with `c2c mcp`, and does no way of ending it lose mail?
//!
//! The scenarios are in `session.py`: some use the Python SDK, the rest talk plain JSON lines.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{World, agents, run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/session.py");

/// The interpreter and the place of its packages, as the caller's own HOME has them.
struct Python {
    program: String,
    user_base: String,
    has_mcp: bool,
}

fn python() -> Option<Python> {
    let probe = "import sys, site, importlib.util\n\
                 has_mcp = importlib.util.find_spec('mcp') is not None\n\
                 print(sys.executable, site.getuserbase(), has_mcp, sep='\\n')";
    let output = Command::new("python3").args(["-c", probe]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines().map(str::to_owned);
    let (program, user_base) = (lines.next()?, lines.next()?);
    Some(Python { program, user_base, has_mcp: lines.next()? == "True" })
}

/// Says why a scenario is left out, or panics where leaving out is not allowed.
fn skip(scenario: &str, missing: &str) {
    let required = std::env::var_os("C2C_TEST_REQUIRE_MCP").is_some_and(|value| value == "1");
    assert!(!required, "{scenario}: {missing} is missing, and C2C_TEST_REQUIRE_MCP=1");
    crate::support::skipped(&format!("{scenario}: {missing} is missing"));
}

fn play(scenario: &str, needs_mcp: bool) {
    let Some(python) = python() else { return skip(scenario, "python3") };
    if needs_mcp && !python.has_mcp {
        return skip(scenario, "the Python package mcp");
    }
    let world = World::new();
    let mut command =
        world.program(&python.program, &["-B", SCRIPT, scenario, env!("CARGO_BIN_EXE_c2c")]);
    command.env("PYTHONUSERBASE", &python.user_base);
    for name in ["PYTHONPATH", "VIRTUAL_ENV"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let done = run(command);
    assert_eq!(done.status, 0, "{scenario}\n{}\n{}", done.out, done.err);
}

#[test]
fn thirty_agents_in_one_room_lose_nothing_and_double_nothing() {
    let world = World::new();
    let plan = agents::Plan {
        agents: 30,
        messages: 8,
        pause: Duration::ZERO,
        patience: Duration::from_secs(60),
    };
    let (root, home) = (world.root(), world.path().join("home"));
    let program = Path::new(env!("CARGO_BIN_EXE_c2c"));
    let outcome = agents::run(&plan, &|at| agents::command(program, &root, &home, at));
    assert_eq!(outcome.delays.len(), outcome.expected);
    assert_eq!((outcome.doubled, outcome.astray, outcome.empty_polls), (0, 0, 0));
    // Everything was shown: nothing waits, and each was acked.
    for at in [0, 15, 29] {
        let mut poll = agents::command(program, &root, &home, at);
        poll.args(["peek-inbox", "--json"]);
        assert_eq!(run(poll).ok().json(), serde_json::json!([]));
    }
}

#[test]
fn two_agents_have_a_whole_session() {
    play("session", true);
}

#[test]
fn a_cancelled_wait_takes_nothing() {
    play("cancelled", true);
}

#[test]
fn a_poll_cancelled_while_it_is_answered_takes_nothing() {
    play("cancel_race", false);
}

#[test]
fn a_poll_cancelled_after_it_is_answered_takes_nothing() {
    play("cancel_crossing", false);
}

#[test]
fn a_live_alias_is_not_shared() {
    play("same_alias", true);
}

#[test]
fn an_unread_answer_comes_back() {
    play("unread_pipe", false);
}

#[test]
fn an_unread_answer_on_a_socket_comes_back() {
    play("unread_socket", false);
}

#[test]
fn an_unread_answer_before_another_request_comes_back() {
    play("unread_pipelined", false);
}

#[test]
fn an_unread_answer_of_a_killed_server_comes_back() {
    play("unread_killed", false);
}

#[test]
fn a_read_answer_stays_away() {
    play("read_pipe", false);
}

#[test]
fn a_read_answer_on_a_socket_stays_away() {
    play("read_socket", false);
}

#[test]
fn bad_input_is_survived_before_initialize() {
    play("bad_before", false);
}

#[test]
fn bad_input_is_survived_after_initialize() {
    play("bad_after", false);
}

#[test]
fn resources_are_listed_read_and_announced() {
    play("resources", false);
}

#[test]
fn a_declared_channel_is_handed_the_mail() {
    play("channel", false);
}

#[test]
fn without_a_declared_channel_mail_stays_where_it_is() {
    play("channel_undeclared", false);
}

#[test]
fn a_channel_that_is_wanted_is_not_lost_to_a_newer_protocol() {
    play("channel_and_protocol", false);
}

#[test]
fn who_asks_for_it_hears_that_a_call_waits() {
    play("progress", false);
}

#[test]
fn an_idle_thread_of_codex_is_told_that_mail_waits() {
    play("codex_idle", false);
}

#[test]
fn who_is_not_to_be_disturbed_is_handed_the_mail_later() {
    play("channel_dnd", false);
}

#[test]
fn a_subscription_hears_of_what_it_asked_for() {
    play("listening", true);
}

#[test]
fn an_active_client_is_noted_and_an_idle_one_is_not() {
    play("heartbeat", false);
}

#[test]
fn a_session_that_lost_its_alias_is_told_so() {
    play("superseded", false);
}
