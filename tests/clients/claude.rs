//! Claude Code.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{beside as c2c, in_a_terminal, model, program, started};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_CLAUDE";

/// A fresh home that was set up, and the client in it.
fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = started(world, program, args);
    command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1").env("DISABLE_AUTOUPDATER", "1");
    command
}

#[test]
fn the_client_itself_says_that_c2c_is_connected() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    let version = run(client(&world, &program, &["--version"])).ok();
    eprintln!("Claude Code: {}", version.out.trim());
    run(c2c(&world, "x", &["setup", "claude-code", "--alias", "walker"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    let line = listed.out.lines().find(|line| line.starts_with("c2c:"));
    assert!(line.is_some_and(|line| line.contains("Connected")), "{}", listed.out);
    run(c2c(&world, "x", &["setup", "claude-code", "--undo"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    assert!(!listed.out.contains("c2c:"), "{}", listed.out);
}

/// The stream of one answer: a call of a tool, or a text that ends the turn.
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
    let line = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    };
    events.iter().map(line).collect()
}

#[test]
fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let world = Arc::new(World::new());
    run(c2c(&world, "x", &["setup", "claude-code", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, beside) = (Arc::clone(&requests), Arc::clone(&world));
    let url = model(move |path, asked| {
        if !path.starts_with("/v1/messages") || path.contains("count_tokens") {
            return None;
        }
        seen.lock().expect("a lock").push(asked["messages"].to_string());
        let tools = asked["tools"].to_string();
        let answered = asked["messages"].to_string().contains("tool_result");
        if answered || !tools.contains("mcp__c2c__whoami") {
            return Some(stream(&asked["model"], None));
        }
        // The session is there: somebody writes to it while it works.
        run(c2c(&beside, "ann", &["send", "walker", "the tests are green"])).ok();
        Some(stream(&asked["model"], Some("mcp__c2c__whoami")))
    });
    let mut ask = client(&world, &program, &["-p", "hello", "--model", "claude-sonnet-4-5"]);
    ask.env("ANTHROPIC_BASE_URL", url).env("ANTHROPIC_API_KEY", "sk-ant-test");
    let done = run(ask).ok();
    let requests = requests.lock().expect("a lock");
    let told: Vec<&String> =
        requests.iter().filter(|text| text.contains("the tests are green")).collect();
    assert_eq!(told.len(), 1, "{} of {} requests: {}", told.len(), requests.len(), done.out);
    assert!(told[0].contains("Messages from other agents") && told[0].contains("walker"));
    let history = run(c2c(&world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], "the tests are green");
}

/// What the user answered before: nothing is left to ask when the client starts.
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

#[test]
fn an_idle_session_is_woken_by_a_message_and_reads_it() {
    const TRIES: usize = 20;
    let Some(program) = program(PROGRAM) else { return };
    let world = Arc::new(World::new());
    answer_dialogs(&world);
    run(c2c(&world, "x", &["setup", "claude-code", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let (said, heard) = channel();
    let url = model(move |path, asked| {
        if !path.starts_with("/v1/messages") || path.contains("count_tokens") {
            return None;
        }
        let messages = asked["messages"].to_string();
        let woken = messages.contains("mail from other agents waits");
        let read = messages.contains("the tests are green");
        let tool = (woken && !read).then_some("mcp__c2c__poll_inbox");
        let _ = said.send(messages);
        Some(stream(&asked["model"], tool))
    });
    let mut command = client(&world, &program, &["--model", "claude-sonnet-4-5"]);
    command.env("ANTHROPIC_BASE_URL", url).env("ANTHROPIC_AUTH_TOKEN", "test");
    let mut child = in_a_terminal(&command);
    // Nobody types. When the client has begun to watch its doorbell nothing shows, so a ring that
    // came too early is followed by another one.
    let mut woken = None;
    for _ in 0..TRIES {
        let sent = run(c2c(&world, "ann", &["send", "walker", "the tests are green"]));
        if sent.status == 0 {
            woken = heard.recv_timeout(Duration::from_secs(3)).ok();
        } else {
            let _ = heard.recv_timeout(Duration::from_millis(500));
        }
        if woken.is_some() {
            break;
        }
        // Only the first mail rings.
        let listed = run(c2c(&world, "ann", &["list", "--json"])).ok().json();
        let rows = listed.as_array().expect("rows");
        let row = rows.iter().find(|row| row["alias"] == "walker");
        if let Some(session_id) = row.and_then(|row| row["session_id"].as_str()) {
            run(c2c(&world, "x", &["poll-inbox", "-s", session_id])).ok();
        }
    }
    let mut read = woken.expect("it was never woken");
    assert!(read.contains("NOT USER INPUT"), "{read}");
    // A client that counts the notice as a prompt asks its hook at once, and need not poll.
    if !read.contains("the tests are green") {
        read = heard.recv_timeout(Duration::from_secs(60)).expect("it goes on");
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(read.matches("the tests are green").count(), 1, "{read}");
}
