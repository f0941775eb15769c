//! `c2c mcp` with MCP clients: sessions, cancelled and unread responses, pushed mail.
//!
//! The scenarios are in `session.py`: some use the Python SDK, the others write plain JSON lines.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::skip;
use crate::support::{World, agents, run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/session.py");

/// The Python interpreter, and the directory of its packages in the HOME of the caller.
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

/// Skips a scenario. Panics instead if `C2C_TEST_REQUIRE_MCP=1` forbids that.
fn skip_scenario(scenario: &str, missing: &str) -> ! {
    let required = std::env::var_os("C2C_TEST_REQUIRE_MCP").is_some_and(|value| value == "1");
    assert!(!required, "{scenario}: {missing} is missing, and C2C_TEST_REQUIRE_MCP=1");
    skip(&format!("{scenario}: {missing} is missing"))
}

fn run_scenario(scenario: &str, needs_mcp: bool) {
    let python = python().unwrap_or_else(|| skip_scenario(scenario, "python3"));
    if needs_mcp && !python.has_mcp {
        skip_scenario(scenario, "the Python package mcp");
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

fn thirty_agents_in_one_room_lose_and_duplicate_nothing() {
    let world = World::new();
    let plan = agents::Plan {
        agents: 30,
        messages: 8,
        pause: Duration::ZERO,
        patience: Duration::from_secs(60),
    };
    let (root, home) = (world.root(), world.path().join("home"));
    let program = Path::new(env!("CARGO_BIN_EXE_c2c"));
    let tally = agents::run(&plan, &|at| agents::command(program, &root, &home, at));
    assert_eq!(tally.delays.len(), tally.expected);
    assert_eq!((tally.duplicated, tally.misdelivered, tally.empty_polls), (0, 0, 0));
    // All messages were shown and acked: none waits.
    for at in [0, 15, 29] {
        let mut poll = agents::command(program, &root, &home, at);
        poll.args(["peek-inbox", "--json"]);
        assert_eq!(run(poll).ok().json(), serde_json::json!([]));
    }
}

fn two_agents_complete_a_session() {
    run_scenario("session", true);
}

fn a_cancelled_wait_claims_no_mail() {
    run_scenario("cancelled", true);
}

fn a_poll_cancelled_while_it_is_answered_loses_no_mail() {
    run_scenario("cancel_race", false);
}

fn mail_of_a_poll_cancelled_after_its_response_is_redelivered() {
    run_scenario("cancel_crossing", false);
}

fn two_live_servers_do_not_share_an_alias() {
    run_scenario("same_alias", true);
}

fn an_unread_response_on_a_pipe_is_redelivered() {
    run_scenario("unread_pipe", false);
}

fn an_unread_response_on_a_socket_is_redelivered() {
    run_scenario("unread_socket", false);
}

fn an_unread_response_is_redelivered_after_a_pipelined_request() {
    run_scenario("unread_pipelined", false);
}

fn an_unread_response_of_a_killed_server_is_redelivered() {
    run_scenario("unread_killed", false);
}

fn a_response_read_from_a_pipe_is_not_redelivered() {
    run_scenario("read_pipe", false);
}

fn a_response_read_from_a_socket_is_not_redelivered() {
    run_scenario("read_socket", false);
}

fn the_server_survives_bad_input_before_initialize() {
    run_scenario("bad_before", false);
}

fn the_server_survives_bad_input_after_initialize() {
    run_scenario("bad_after", false);
}

fn resources_are_listed_read_and_announced() {
    run_scenario("resources", false);
}

fn mail_is_pushed_to_a_client_that_declares_the_channel() {
    run_scenario("channel", false);
}

fn mail_is_not_pushed_to_a_client_without_the_channel() {
    run_scenario("channel_undeclared", false);
}

fn a_requested_channel_rules_out_the_newer_protocol() {
    run_scenario("channel_and_protocol", false);
}

fn progress_is_sent_while_a_call_waits() {
    run_scenario("progress", false);
}

fn an_idle_codex_thread_is_notified_of_waiting_mail() {
    run_scenario("codex_idle", false);
}

fn mail_held_by_do_not_disturb_is_delivered_when_it_ends() {
    run_scenario("channel_dnd", false);
}

fn a_subscription_announces_the_requested_resources() {
    run_scenario("listening", true);
}

fn heartbeats_are_recorded_for_active_clients_only() {
    run_scenario("heartbeat", false);
}

fn a_superseded_session_receives_an_error_and_no_mail() {
    run_scenario("superseded", false);
}

crate::harness::tests! {
    fast:
        two_agents_complete_a_session,
        a_cancelled_wait_claims_no_mail,
        a_poll_cancelled_while_it_is_answered_loses_no_mail,
        mail_of_a_poll_cancelled_after_its_response_is_redelivered,
        two_live_servers_do_not_share_an_alias,
        an_unread_response_on_a_pipe_is_redelivered,
        an_unread_response_on_a_socket_is_redelivered,
        an_unread_response_is_redelivered_after_a_pipelined_request,
        an_unread_response_of_a_killed_server_is_redelivered,
        a_response_read_from_a_pipe_is_not_redelivered,
        a_response_read_from_a_socket_is_not_redelivered,
        the_server_survives_bad_input_before_initialize,
        resources_are_listed_read_and_announced,
        mail_is_pushed_to_a_client_that_declares_the_channel,
        mail_is_not_pushed_to_a_client_without_the_channel,
        a_requested_channel_rules_out_the_newer_protocol,
        progress_is_sent_while_a_call_waits,
        mail_held_by_do_not_disturb_is_delivered_when_it_ends,
        a_subscription_announces_the_requested_resources,
        heartbeats_are_recorded_for_active_clients_only,
        a_superseded_session_receives_an_error_and_no_mail;
    slow:
        thirty_agents_in_one_room_lose_and_duplicate_nothing,
        the_server_survives_bad_input_after_initialize,
        an_idle_codex_thread_is_notified_of_waiting_mail;
}
