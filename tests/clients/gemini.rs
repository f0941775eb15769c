//! Gemini CLI.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::pane::{InPane, Method, model_with_shell, pane_tests};
use super::{
    MESSAGE, Protocol, Requests, assert_in_history, c2c, client_command, model_of_one_turn,
    print_version, program, set_up,
};
use crate::support::tmux::require_tmux;
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_GEMINI";

const PROTOCOL: Protocol = Protocol {
    is_request: |path| path.contains(":streamGenerateContent"),
    conversation: "contents",
    listed_tool: "mcp_c2c_whoami",
    stream: |_, tool| stream(tool),
};

fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = client_command(world, program, args);
    // In an untrusted folder the client runs no server, or asks first.
    command.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
    command
}

/// Stores the choices of a user. With another address for the model, the client needs the choice of a
/// key.
fn choose(world: &World) {
    let directory = world.path().join("home/.gemini");
    std::fs::create_dir_all(&directory).expect("a directory");
    let chosen = json!({
        "security": { "auth": { "selectedType": "gemini-api-key" } },
        "privacy": { "usageStatisticsEnabled": false },
        "general": { "enableAutoUpdate": false },
    });
    std::fs::write(directory.join("settings.json"), chosen.to_string()).expect("settings");
}

fn the_client_reports_that_c2c_is_connected() {
    let program = program(PROGRAM);
    let world = World::new();
    print_version("Gemini CLI", client(&world, &program, &["--version"]));
    run(c2c(&world, "x", &["setup", "gemini", "--alias", "walker"])).ok();
    // The list is written to standard error.
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    let line = listed.err.lines().find(|line| line.contains("c2c:"));
    assert!(line.is_some_and(|line| line.ends_with("- Connected")), "{}", listed.err);
    run(c2c(&world, "x", &["setup", "gemini", "--undo"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    assert!(!listed.err.contains("c2c:"), "{}", listed.err);
}

/// The event of one response: a call of a tool, or a text that ends the turn.
fn stream(tool: Option<&str>) -> String {
    response(match tool {
        Some(name) => json!({ "functionCall": { "name": name, "args": {} } }),
        None => json!({ "text": "done" }),
    })
}

/// The same: a command in the shell, or a text.
fn shell_stream(command: Option<&str>) -> String {
    let arguments = |command| json!({ "command": command, "description": "a test" });
    response(match command {
        Some(command) => {
            json!({ "functionCall": { "name": "run_shell_command", "args": arguments(command) } })
        }
        None => json!({ "text": "done" }),
    })
}

fn response(part: serde_json::Value) -> String {
    let event = json!({
        "candidates": [{
            "content": { "role": "model", "parts": [part] }, "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": { "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 },
    });
    format!("data: {event}\r\n\r\n")
}

/// Runs one turn of the client, in which the model calls a tool if one is named. Returns the
/// conversations of the requests.
fn turn(program: &Path, tool: Option<&'static str>) -> Vec<String> {
    let world = Arc::new(World::new());
    choose(&world);
    set_up(&world, "gemini");
    let (url, requests) = model_of_one_turn(&world, PROTOCOL, tool);
    // With a named model, the client does not ask another one which to use.
    let mut prompt = client(&world, program, &["-p", "hello", "-m", "gemini-2.5-flash"]);
    prompt.env("GOOGLE_GEMINI_BASE_URL", url).env("GEMINI_API_KEY", "test");
    let done = run(prompt).ok();
    let requests = requests.lock().expect("a lock").clone();
    let output = format!("{} {}", done.out, done.err);
    assert_eq!(requests.len(), 2, "{output}");
    assert_in_history(&world, &output);
    requests
}

fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let program = program(PROGRAM);
    let requests = turn(&program, Some("mcp_c2c_whoami"));
    // The server and the hook act for the same alias.
    assert!(requests[1].contains("functionResponse") && requests[1].contains("walker"));
    assert!(requests[1].contains("Messages from other agents"), "{}", requests[1]);
    assert!(requests[1].contains(MESSAGE), "{}", requests[1]);
}

fn a_message_reaches_the_model_before_it_stops_without_polling() {
    let program = program(PROGRAM);
    let requests = turn(&program, None);
    assert!(!requests[1].contains("functionResponse"), "{}", requests[1]);
    assert!(requests[1].contains("Messages from other agents"), "{}", requests[1]);
    assert!(requests[1].contains(MESSAGE), "{}", requests[1]);
}

/// The client in a pane, and the requests to its model.
fn in_pane(world: &World) -> (InPane, Requests) {
    let program = program(PROGRAM);
    require_tmux();
    choose(world);
    set_up(world, "gemini");
    let (url, requests) =
        model_with_shell(PROTOCOL.is_request, PROTOCOL.conversation, shell_stream);
    let mut command = client(world, &program, &["-m", "gemini-2.5-flash"]);
    command.env("GOOGLE_GEMINI_BASE_URL", url).env("GEMINI_API_KEY", "test");
    let prompt = "Type your message";
    (InPane { command, prompt, questions: &[], dialog: "1. Allow once" }, requests)
}

pane_tests!();

crate::harness::tests! {
    slow:
        the_client_reports_that_c2c_is_connected,
        a_message_reaches_the_model_after_a_tool_call_without_polling,
        a_message_reaches_the_model_before_it_stops_without_polling,
        an_idle_session_in_a_tmux_pane_is_woken,
        an_idle_session_in_its_own_terminal_is_woken,
        a_permission_dialog_in_a_tmux_pane_is_not_answered,
        a_permission_dialog_in_its_own_terminal_is_not_answered;
}
