//! OpenCode.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{beside as c2c, model, program, started};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_OPENCODE";

/// A fresh home that was set up, and the client in it.
fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = started(world, program, args);
    // It fetches types for plugins before it loads one, and without a network tries for a minute.
    command.env("npm_config_offline", "true");
    command.env("OPENCODE_DISABLE_AUTOUPDATE", "1").env("OPENCODE_DISABLE_MODELS_FETCH", "1");
    command
}

#[test]
fn the_client_itself_says_that_c2c_is_connected() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    let version = run(client(&world, &program, &["--version"])).ok();
    eprintln!("OpenCode: {}", version.out.trim());
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

/// The stream of one answer: a call of a tool, or a text that ends the turn.
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

#[test]
fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let world = Arc::new(World::new());
    run(c2c(&world, "x", &["setup", "opencode", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, beside) = (Arc::clone(&requests), Arc::clone(&world));
    let url = model(move |path, asked| {
        if path != "/v1/chat/completions" {
            return None;
        }
        let messages = asked["messages"].to_string();
        let answered = messages.contains("tool_call_id");
        seen.lock().expect("a lock").push(messages);
        // A title is asked for, too, without tools.
        if answered || !asked["tools"].to_string().contains("c2c_whoami") {
            return Some(stream(None));
        }
        // The session is there: somebody writes to it while it works.
        run(c2c(&beside, "ann", &["send", "walker", "the tests are green"])).ok();
        Some(stream(Some("c2c_whoami")))
    });
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": "test",
        "options": {"baseURL": format!("{url}/v1"), "apiKey": "key"},
        "models": {"m": {}},
    });
    let config = json!({"provider": {"test": provider}, "model": "test/m"});
    let mut ask = client(&world, &program, &["run", "hello"]);
    ask.env("OPENCODE_CONFIG_CONTENT", config.to_string());
    let done = run(ask).ok();
    let requests = requests.lock().expect("a lock");
    let told: Vec<&String> =
        requests.iter().filter(|text| text.contains("the tests are green")).collect();
    let seen = format!("{} of {} requests: {}", told.len(), requests.len(), done.err);
    assert_eq!(told.len(), 1, "{seen}");
    assert!(told[0].contains("Messages from other agents") && told[0].contains("walker"));
    let history = run(c2c(&world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], "the tests are green");
}
