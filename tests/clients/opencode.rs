//! OpenCode.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Protocol, assert_delivered_once, assert_in_history, c2c, client_command, model_of_one_turn,
    print_version, program, set_up,
};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_OPENCODE";

const PROTOCOL: Protocol = Protocol {
    is_request: |path| path == "/v1/chat/completions",
    conversation: "messages",
    listed_tool: "c2c_whoami",
    stream: |_, tool| stream(tool),
};

fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = client_command(world, program, args);
    // It fetches types before it loads a plugin, and without a network tries for a minute.
    command.env("npm_config_offline", "true");
    command.env("OPENCODE_DISABLE_AUTOUPDATE", "1").env("OPENCODE_DISABLE_MODELS_FETCH", "1");
    command
}

fn the_client_reports_that_c2c_is_connected() {
    let program = program(PROGRAM);
    let world = World::new();
    print_version("OpenCode", client(&world, &program, &["--version"]));
    let scopes: [&[&str]; 2] = [&[], &["--global"]];
    for scope in scopes {
        let mut setup = vec!["setup", "opencode", "--alias", "walker"];
        setup.extend(scope);
        run(c2c(&world, "x", &setup)).ok();
        let listed = run(client(&world, &program, &["mcp", "list"])).ok();
        let line = listed.out.lines().find(|line| line.contains("✓ c2c"));
        assert!(line.is_some_and(|line| line.contains("connected")), "{scope:?}: {}", listed.out);
        let mut undo = vec!["setup", "opencode", "--undo"];
        undo.extend(scope);
        run(c2c(&world, "x", &undo)).ok();
        let listed = run(client(&world, &program, &["mcp", "list"])).ok();
        assert!(listed.out.contains("No MCP servers"), "{scope:?}: {}", listed.out);
    }
}

/// The events of one response: a call of a tool, or a text that ends the turn.
fn stream(tool: Option<&str>) -> String {
    let chunk = |delta: Value, reason: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": "m", "choices": [choice]});
        format!("data: {chunk}\n\n")
    };
    let (delta, reason) = match tool {
        Some(name) => {
            let function = json!({"name": name, "arguments": "{}"});
            let call =
                json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            (json!({"role": "assistant", "tool_calls": [call]}), "tool_calls")
        }
        None => (json!({"role": "assistant", "content": "done"}), "stop"),
    };
    format!("{}{}data: [DONE]\n\n", chunk(delta, None), chunk(json!({}), Some(reason)))
}

fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let program = program(PROGRAM);
    let world = Arc::new(World::new());
    set_up(&world, "opencode");
    let (url, requests) = model_of_one_turn(&world, PROTOCOL, Some("c2c_whoami"));
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": "test",
        "options": {"baseURL": format!("{url}/v1"), "apiKey": "key"},
        "models": {"m": {}},
    });
    let config = json!({"provider": {"test": provider}, "model": "test/m"});
    let mut prompt = client(&world, &program, &["run", "hello"]);
    prompt.env("OPENCODE_CONFIG_CONTENT", config.to_string());
    let done = run(prompt).ok();
    assert_delivered_once(&requests, &done.err);
    assert_in_history(&world, &done.err);
}

crate::harness::tests! {
    slow:
        the_client_reports_that_c2c_is_connected,
        a_message_reaches_the_model_after_a_tool_call_without_polling;
}
