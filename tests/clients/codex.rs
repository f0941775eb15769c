//! Codex.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    MESSAGE, Protocol, assert_delivered_once, assert_in_history, c2c, client_command as client,
    in_a_terminal, model_of_one_turn, print_version, program, serve_model, set_up, typed_events,
};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_CODEX";

const PROTOCOL: Protocol = Protocol {
    is_request,
    conversation: "input",
    listed_tool: "mcp__c2c",
    stream: |_, tool| stream(tool),
};

fn is_request(path: &str) -> bool {
    path == "/v1/responses"
}

/// Sends a request to the server of the client; returns the data. `codex mcp list` connects to
/// nothing.
fn request(world: &World, program: &Path, method: &str, params: Value) -> Value {
    let mut command = client(world, program, &["app-server"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let about = json!({"clientInfo": {"name": "test", "version": "1"}});
    for line in [
        json!({"id": 1, "method": "initialize", "params": about}),
        json!({"method": "initialized"}),
        json!({"id": 2, "method": method, "params": params}),
    ] {
        writeln!(stdin, "{line}").expect("it reads");
    }
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut rows = lines.map(|line| serde_json::from_str(&line).unwrap_or(Value::Null));
    let response = rows.find(|row: &Value| row["id"] == 2).expect("a response");
    drop(stdin);
    rows.for_each(drop);
    child.wait().expect("its end");
    response["result"]["data"].clone()
}

fn the_client_reports_that_c2c_is_connected() {
    let program = program(PROGRAM);
    let world = World::new();
    print_version("Codex", client(&world, &program, &["--version"]));
    run(c2c(&world, "x", &["setup", "codex", "--alias", "walker"])).ok();
    let servers = request(&world, &program, "mcpServerStatus/list", json!({}));
    assert_eq!(servers[0]["serverInfo"]["name"], "c2c", "{servers}");
    assert!(servers[0]["tools"]["whoami"].is_object(), "{servers}");
    let here = json!({"cwds": [world.path().join("work")]});
    let hooks = request(&world, &program, "hooks/list", here.clone());
    let ours = hooks[0]["hooks"].as_array().expect("hooks");
    for event in ["sessionStart", "userPromptSubmit", "postToolUse", "stop"] {
        assert!(ours.iter().any(|row| row["eventName"] == event), "{event}: {hooks}");
    }
    // Only the user can trust them.
    assert!(ours.iter().all(|row| row["trustStatus"] == "untrusted"), "{hooks}");
    run(c2c(&world, "x", &["setup", "codex", "--undo"])).ok();
    assert_eq!(request(&world, &program, "mcpServerStatus/list", json!({})), json!([]));
    let hooks = request(&world, &program, "hooks/list", here);
    assert_eq!(hooks[0]["hooks"], json!([]));
}

/// The events of one response: a call of a tool, or a text that ends the turn.
fn stream(tool: Option<&str>) -> String {
    let item = match tool {
        Some(name) => json!({"type": "function_call", "call_id": "call_1", "arguments": "{}",
            "namespace": "mcp__c2c", "name": name}),
        None => json!({"type": "message", "id": "msg_1", "role": "assistant",
            "content": [{"type": "output_text", "text": "done"}]}),
    };
    let usage = json!({"input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
        "input_tokens_details": null, "output_tokens_details": null});
    let events = [
        json!({"type": "response.created", "response": {"id": "resp_1"}}),
        json!({"type": "response.output_item.done", "item": item}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "usage": usage}}),
    ];
    typed_events(&events)
}

/// A command of the client with a first prompt and the model at this URL.
fn prompted(world: &World, program: &Path, url: &str, args: &[&str]) -> Command {
    let provider = format!(
        "model_providers.test={{name=\"test\",base_url=\"{url}/v1\",wire_api=\"responses\",\
         env_key=\"TEST_KEY\"}}"
    );
    let mut all = args.to_vec();
    all.extend([
        "-c",
        &provider,
        "-c",
        "model_provider=\"test\"",
        "-c",
        "model=\"gpt-5\"",
        "hello",
    ]);
    let mut command = client(world, program, &all);
    command.env("TEST_KEY", "key");
    command
}

fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let program = program(PROGRAM);
    let world = Arc::new(World::new());
    set_up(&world, "codex");
    let (url, requests) = model_of_one_turn(&world, PROTOCOL, Some("whoami"));
    // No user can trust the hooks here.
    let args = ["exec", "--skip-git-repo-check", "--dangerously-bypass-hook-trust"];
    let done = run(prompted(&world, &program, &url, &args)).ok();
    assert_delivered_once(&requests, &done.err);
    assert_in_history(&world, &done.err);
}

fn an_idle_thread_is_woken_by_a_message_and_reads_it() {
    let program = program(PROGRAM);
    let world = World::new();
    set_up(&world, "codex");
    let home = world.path().join("home/.codex");
    let work = world.path().join("work").canonicalize().expect("a directory");
    // Without hooks, only the server can announce mail.
    std::fs::remove_file(home.join("hooks.json")).expect("removed");
    let config = home.join("config.toml");
    let trusted = format!("\n[projects.{:?}]\ntrust_level = \"trusted\"\n", work.display());
    let text = std::fs::read_to_string(&config).expect("written") + &trusted;
    std::fs::write(&config, text).expect("written");
    let (sender, requests) = channel();
    let url = serve_model(move |path, request| {
        if !is_request(path) {
            return None;
        }
        let input = request["input"].to_string();
        // The client also asks without tools.
        if !request["tools"].to_string().contains(PROTOCOL.listed_tool) {
            return Some(stream(None));
        }
        let calls = input.matches("function_call_output").count();
        let is_woken = input.contains("mail from other agents waits");
        let has_read = input.contains(MESSAGE);
        let tool = match (calls, is_woken && !has_read) {
            (0, _) => Some("whoami"),
            (_, true) => Some("poll_inbox"),
            _ => None,
        };
        let _ = sender.send(input);
        Some(stream(tool))
    });
    let mut child = in_a_terminal(&prompted(&world, &program, &url, &[]));
    // One call of a tool, and then the thread is idle.
    for _ in 0..2 {
        requests.recv_timeout(Duration::from_secs(60)).expect("a request to the model");
    }
    run(c2c(&world, "ann", &["send", "walker", MESSAGE])).ok();
    let request = loop {
        let input = requests.recv_timeout(Duration::from_secs(60)).expect("a wake-up");
        if input.contains(MESSAGE) {
            break input;
        }
    };
    child.kill().expect("killed");
    child.wait().expect("its end");
    assert!(request.contains("mail from other agents waits"), "{request}");
    assert_eq!(request.matches(MESSAGE).count(), 1, "{request}");
}

crate::harness::tests! {
    slow:
        the_client_reports_that_c2c_is_connected,
        a_message_reaches_the_model_after_a_tool_call_without_polling,
        an_idle_thread_is_woken_by_a_message_and_reads_it;
}
