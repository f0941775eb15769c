//! Gemini CLI.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{beside as c2c, model, program, started};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_GEMINI";

/// A fresh home that was set up, and the client in it.
fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = started(world, program, args);
    // In a folder that nobody trusts the client runs no server, and asks where it can.
    command.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
    command
}

/// What the user chose before. With an address of its own for the model the client wants to be told
/// that a key is used.
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

#[test]
fn the_client_itself_says_that_c2c_is_connected() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    let version = run(client(&world, &program, &["--version"])).ok();
    eprintln!("Gemini CLI: {}", version.out.trim());
    run(c2c(&world, "x", &["setup", "gemini", "--alias", "walker"])).ok();
    // The list is written to standard error.
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    let line = listed.err.lines().find(|line| line.contains("c2c:"));
    assert!(line.is_some_and(|line| line.ends_with("- Connected")), "{}", listed.err);
    run(c2c(&world, "x", &["setup", "gemini", "--undo"])).ok();
    let listed = run(client(&world, &program, &["mcp", "list"])).ok();
    assert!(!listed.err.contains("c2c:"), "{}", listed.err);
}

/// The stream of one answer: a call of a tool, or a text that ends the turn.
fn stream(tool: Option<&str>) -> String {
    let part = match tool {
        Some(name) => json!({ "functionCall": { "name": name, "args": {} } }),
        None => json!({ "text": "done" }),
    };
    let event = json!({
        "candidates": [{
            "content": { "role": "model", "parts": [part] }, "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": { "promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2 },
    });
    format!("data: {event}\r\n\r\n")
}

/// Lets the client work until it is done while somebody writes to it with the first answer, which
/// calls a tool if one is named; what the model was asked.
fn turn(program: &Path, tool: Option<&'static str>) -> Vec<String> {
    let world = Arc::new(World::new());
    choose(&world);
    run(c2c(&world, "x", &["setup", "gemini", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, beside) = (Arc::clone(&requests), Arc::clone(&world));
    let url = model(move |path, asked| {
        if !path.contains(":streamGenerateContent") {
            return None;
        }
        let mut seen = seen.lock().expect("a lock");
        seen.push(asked["contents"].to_string());
        if seen.len() > 1 || !asked["tools"].to_string().contains("mcp_c2c_whoami") {
            return Some(stream(None));
        }
        // The session is there: somebody writes to it while it works.
        run(c2c(&beside, "ann", &["send", "walker", "the tests are green"])).ok();
        Some(stream(tool))
    });
    // With a model named, no other one is asked which to use.
    let mut ask = client(&world, program, &["-p", "hello", "-m", "gemini-2.5-flash"]);
    ask.env("GOOGLE_GEMINI_BASE_URL", url).env("GEMINI_API_KEY", "test");
    let done = run(ask).ok();
    let requests = requests.lock().expect("a lock").clone();
    assert_eq!(requests.len(), 2, "{} {}", done.out, done.err);
    let history = run(c2c(&world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], "the tests are green", "{} {}", done.out, done.err);
    requests
}

#[test]
fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let requests = turn(&program, Some("mcp_c2c_whoami"));
    // Who the server says that this is, and who the hook read for, are the same.
    assert!(requests[1].contains("functionResponse") && requests[1].contains("walker"));
    assert!(requests[1].contains("Messages from other agents"), "{}", requests[1]);
    assert!(requests[1].contains("the tests are green"), "{}", requests[1]);
}

#[test]
fn a_message_reaches_the_model_before_it_stops_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let requests = turn(&program, None);
    assert!(!requests[1].contains("functionResponse"), "{}", requests[1]);
    assert!(requests[1].contains("Messages from other agents"), "{}", requests[1]);
    assert!(requests[1].contains("the tests are green"), "{}", requests[1]);
}
