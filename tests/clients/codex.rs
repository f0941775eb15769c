//! Codex.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{beside as c2c, in_a_terminal, model, program, started as client};
use crate::support::{World, run};

const PROGRAM: &str = "C2C_TEST_CODEX";

/// What the client's own server answers to a request. Its `mcp list` connects to nothing.
fn ask(world: &World, program: &Path, method: &str, params: Value) -> Value {
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
    let answer = rows.find(|row: &Value| row["id"] == 2).expect("an answer");
    drop(stdin);
    rows.for_each(drop);
    child.wait().expect("it ends with its input");
    answer["result"]["data"].clone()
}

#[test]
fn the_client_itself_says_that_c2c_is_connected() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    let version = run(client(&world, &program, &["--version"])).ok();
    eprintln!("Codex: {}", version.out.trim());
    run(c2c(&world, "x", &["setup", "codex", "--alias", "walker"])).ok();
    let servers = ask(&world, &program, "mcpServerStatus/list", json!({}));
    assert_eq!(servers[0]["serverInfo"]["name"], "c2c", "{servers}");
    assert!(servers[0]["tools"]["whoami"].is_object(), "{servers}");
    let here = json!({"cwds": [world.path().join("work")]});
    let hooks = ask(&world, &program, "hooks/list", here.clone());
    let ours = hooks[0]["hooks"].as_array().expect("hooks");
    for event in ["sessionStart", "userPromptSubmit", "postToolUse", "stop"] {
        assert!(ours.iter().any(|row| row["eventName"] == event), "{event}: {hooks}");
    }
    // Only the user trusts them.
    assert!(ours.iter().all(|row| row["trustStatus"] == "untrusted"), "{hooks}");
    run(c2c(&world, "x", &["setup", "codex", "--undo"])).ok();
    assert_eq!(ask(&world, &program, "mcpServerStatus/list", json!({})), json!([]));
    let hooks = ask(&world, &program, "hooks/list", here);
    assert_eq!(hooks[0]["hooks"], json!([]));
}

/// The stream of one answer: a call of the server's tool, or a text that ends the turn.
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
    let line = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    };
    events.iter().map(line).collect()
}

/// The client with a first prompt and this model.
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

#[test]
fn a_message_reaches_the_model_after_a_tool_call_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let world = Arc::new(World::new());
    run(c2c(&world, "x", &["setup", "codex", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let requests = Arc::new(Mutex::new(Vec::<String>::new()));
    let (seen, beside) = (Arc::clone(&requests), Arc::clone(&world));
    let url = model(move |path, asked| {
        if path != "/v1/responses" {
            return None;
        }
        let input = asked["input"].to_string();
        let answered = input.contains("function_call_output");
        seen.lock().expect("a lock").push(input);
        if answered || !asked["tools"].to_string().contains("mcp__c2c") {
            return Some(stream(None));
        }
        // The session is there: somebody writes to it while it works.
        run(c2c(&beside, "ann", &["send", "walker", "the tests are green"])).ok();
        Some(stream(Some("whoami")))
    });
    // Nobody is there to trust the hooks.
    let args = ["exec", "--skip-git-repo-check", "--dangerously-bypass-hook-trust"];
    let done = run(prompted(&world, &program, &url, &args)).ok();
    let requests = requests.lock().expect("a lock");
    let told: Vec<&String> =
        requests.iter().filter(|text| text.contains("the tests are green")).collect();
    let seen = format!("{} of {} requests: {}", told.len(), requests.len(), done.err);
    assert_eq!(told.len(), 1, "{seen}");
    assert!(told[0].contains("Messages from other agents") && told[0].contains("walker"));
    let history = run(c2c(&world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], "the tests are green");
}

#[test]
fn an_idle_thread_is_woken_by_a_message_and_reads_it() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    run(c2c(&world, "x", &["setup", "codex", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let home = world.path().join("home/.codex");
    let work = world.path().join("work").canonicalize().expect("a directory");
    // Without hooks nothing but the server tells it of mail.
    std::fs::remove_file(home.join("hooks.json")).expect("removed");
    let config = home.join("config.toml");
    let trusted = format!("\n[projects.{:?}]\ntrust_level = \"trusted\"\n", work.display());
    let text = std::fs::read_to_string(&config).expect("written") + &trusted;
    std::fs::write(&config, text).expect("written");
    let (said, heard) = channel();
    let url = model(move |path, asked| {
        if path != "/v1/responses" {
            return None;
        }
        let input = asked["input"].to_string();
        // It asks about other things, too.
        if !asked["tools"].to_string().contains("mcp__c2c") {
            return Some(stream(None));
        }
        let calls = input.matches("function_call_output").count();
        let woken = input.contains("mail from other agents waits");
        let read = input.contains("the tests are green");
        let tool = match (calls, woken && !read) {
            (0, _) => Some("whoami"),
            (_, true) => Some("poll_inbox"),
            _ => None,
        };
        let _ = said.send(input);
        Some(stream(tool))
    });
    let mut child = in_a_terminal(&prompted(&world, &program, &url, &[]));
    // One call of a tool, and then nothing more to do.
    for _ in 0..2 {
        heard.recv_timeout(Duration::from_secs(60)).expect("it asks its model");
    }
    run(c2c(&world, "ann", &["send", "walker", "the tests are green"])).ok();
    let read = loop {
        let input = heard.recv_timeout(Duration::from_secs(60)).expect("it is woken");
        if input.contains("the tests are green") {
            break input;
        }
    };
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(read.contains("mail from other agents waits"), "{read}");
    assert_eq!(read.matches("the tests are green").count(), 1, "{read}");
}
