//! Claude Code.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    MESSAGE, Protocol, assert_delivered_once, assert_in_history, c2c, client_command,
    in_a_terminal, model_of_one_turn, print_version, program, serve_model, set_up, typed_events,
};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_CLAUDE";

const PROTOCOL: Protocol = Protocol {
    is_request,
    conversation: "messages",
    listed_tool: "mcp__c2c__whoami",
    stream: |request, tool| stream(&request["model"], tool),
};

fn is_request(path: &str) -> bool {
    path.starts_with("/v1/messages") && !path.contains("count_tokens")
}

fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = client_command(world, program, args);
    command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1");
    command
}

fn the_client_reports_that_c2c_is_connected() {
    let program = program(PROGRAM);
    let world = World::new();
    print_version("Claude Code", client(&world, &program, &["--version"]));
    run(c2c(&world, "x", &["setup", "claude-code", "--alias", "walker"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    let line = listed.out.lines().find(|line| line.starts_with("c2c:"));
    assert!(line.is_some_and(|line| line.contains("Connected")), "{}", listed.out);
    run(c2c(&world, "x", &["setup", "claude-code", "--undo"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    assert!(!listed.out.contains("c2c:"), "{}", listed.out);
}

/// The events of one response: a call of a tool, or a text that ends the turn.
fn stream(model: &Value, tool: Option<&str>) -> String {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let (block, delta, reason) = match tool {
        Some(name) => (
            json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": "{}"}),
            "tool_use",
        ),
        None => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": "done"}),
            "end_turn",
        ),
    };
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "usage": {"output_tokens": 1},
            "delta": {"stop_reason": reason, "stop_sequence": null}}),
        json!({"type": "message_stop"}),
    ];
    typed_events(&events)
}

fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let program = program(PROGRAM);
    let world = Arc::new(World::new());
    set_up(&world, "claude-code");
    let (url, requests) = model_of_one_turn(&world, PROTOCOL, Some("mcp__c2c__whoami"));
    let mut prompt = client(&world, &program, &["-p", "hello", "--model", "claude-sonnet-4-5"]);
    prompt.env("ANTHROPIC_BASE_URL", url).env("ANTHROPIC_API_KEY", "sk-ant-test");
    let done = run(prompt).ok();
    assert_delivered_once(&requests, &done.out);
    assert_in_history(&world, &done.out);
}

/// Stores the answers of a user to the questions that the client asks at its first start.
fn answer_dialogs(world: &World) {
    let here = world.path().join("work");
    std::fs::create_dir_all(&here).expect("a directory");
    let here = std::fs::canonicalize(here).expect("its path");
    let chosen = json!({
        "hasCompletedOnboarding": true,
        "projects": { here.to_str().expect("text"): { "hasTrustDialogAccepted": true } },
    });
    std::fs::write(world.path().join("home/.claude.json"), chosen.to_string()).expect("written");
}

fn an_idle_session_is_woken_by_a_message_and_reads_it() {
    const ATTEMPTS: usize = 20;
    let program = program(PROGRAM);
    let world = World::new();
    answer_dialogs(&world);
    set_up(&world, "claude-code");
    let (sender, requests) = channel();
    let url = serve_model(move |path, request| {
        if !is_request(path) {
            return None;
        }
        let messages = request["messages"].to_string();
        let is_woken = messages.contains("mail from other agents waits");
        let has_read = messages.contains(MESSAGE);
        let tool = (is_woken && !has_read).then_some("mcp__c2c__poll_inbox");
        let _ = sender.send(messages);
        Some(stream(&request["model"], tool))
    });
    let mut command = client(&world, &program, &["--model", "claude-sonnet-4-5"]);
    command.env("ANTHROPIC_BASE_URL", url).env("ANTHROPIC_AUTH_TOKEN", "test");
    let mut child = in_a_terminal(&command);
    // The client does not show when it begins to watch its doorbell, so a ring that was too early is
    // followed by another one.
    let mut first = None;
    for _ in 0..ATTEMPTS {
        let sent = run(c2c(&world, "ann", &["send", "walker", MESSAGE]));
        if sent.status == 0 {
            first = requests.recv_timeout(Duration::from_secs(3)).ok();
        } else {
            let _ = requests.recv_timeout(Duration::from_millis(500));
        }
        if first.is_some() {
            break;
        }
        // Only the first mail rings: read it, so that the next one rings.
        let listed = run(c2c(&world, "ann", &["list", "--json"])).ok().json();
        let rows = listed.as_array().expect("rows");
        let row = rows.iter().find(|row| row["alias"] == "walker");
        if let Some(session_id) = row.and_then(|row| row["session_id"].as_str()) {
            run(c2c(&world, "x", &["poll-inbox", "-s", session_id])).ok();
        }
    }
    let mut request = first.expect("a request of the woken client");
    assert!(request.contains("NOT USER INPUT"), "{request}");
    // A client that treats the notice as a prompt runs its hook at once and need not poll.
    if !request.contains(MESSAGE) {
        request = requests.recv_timeout(Duration::from_secs(60)).expect("a request after the poll");
    }
    child.kill().expect("killed");
    child.wait().expect("its end");
    assert_eq!(request.matches(MESSAGE).count(), 1, "{request}");
}

crate::harness::tests! {
    slow:
        the_client_reports_that_c2c_is_connected,
        a_message_reaches_the_model_after_a_tool_call_without_polling,
        an_idle_session_is_woken_by_a_message_and_reads_it;
}
