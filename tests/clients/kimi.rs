//! Kimi Code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{beside as c2c, model, program, started};
use crate::support::{World, run};

/// Names a launcher: the client needs a newer Node than many machines have.
const PROGRAM: &str = "C2C_TEST_KIMI";

/// A fresh home that was set up, and the client in it.
fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = started(world, program, args);
    command.env("KIMI_DISABLE_TELEMETRY", "1").env("KIMI_CODE_NO_AUTO_UPDATE", "1");
    command
}

/// The client as a server of its own: only so does it say how its MCP servers are.
struct Web {
    process: Child,
    address: String,
    token: String,
    /// Read no more, but the client may still write.
    _out: BufReader<ChildStdout>,
}

impl Web {
    fn start(world: &World, program: &Path) -> Self {
        let mut command = client(world, program, &["web", "--no-open", "--port", "0"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the client starts");
        let mut out = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        // It serves before it tells where, as http://ADDRESS/#token=TOKEN.
        let (address, token) = loop {
            line.clear();
            let read = out.read_line(&mut line).expect("a line");
            assert_ne!(read, 0, "the client ended: {:?}", process.wait());
            if let Some((before, token)) = line.trim().split_once("/#token=") {
                let (_, address) = before.split_once("http://").expect("an address");
                break (address.to_owned(), token.to_owned());
            }
        };
        Self { process, address, token, _out: out }
    }

    /// What it says when it connects to `c2c` now.
    fn connects(&self) -> Value {
        let body = json!({ "name": "c2c" }).to_string();
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        write!(
            stream,
            "POST /api/v2/mcp/servers:test HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_client_itself_says_that_c2c_is_connected() {
    let Some(program) = program(PROGRAM) else { return };
    let world = World::new();
    let version = run(client(&world, &program, &["--version"])).ok();
    eprintln!("Kimi Code: {}", version.out.trim());
    run(c2c(&world, "x", &["setup", "kimi", "--alias", "walker"])).ok();
    let web = Web::start(&world, &program);
    let told = web.connects();
    assert_eq!(told["data"]["success"], true, "{told}");
    assert!(told["data"]["output"].to_string().contains("poll_inbox"), "{told}");
    run(c2c(&world, "x", &["setup", "kimi", "--undo"])).ok();
    let told = web.connects();
    assert!(told["data"].is_null() && told["msg"].to_string().contains("not found"), "{told}");
}

/// What the user chose before: a model.
fn choose(world: &World, url: &str) {
    let directory = world.path().join("home/.kimi-code");
    std::fs::create_dir_all(&directory).expect("a directory");
    let chosen = format!(
        "default_model = \"fake\"\n\n[providers.local]\ntype = \"openai\"\napi_key = \"test\"\n\
         base_url = \"{url}/v1\"\n\n[models.fake]\nprovider = \"local\"\nmodel = \"fake\"\n\
         max_context_size = 200000\n"
    );
    std::fs::write(directory.join("config.toml"), chosen).expect("settings");
}

/// The stream of an answer that ends the turn.
fn stream() -> String {
    let chunk = |delta: Value, reason: Value| {
        json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        })
    };
    let text = chunk(json!({ "role": "assistant", "content": "done" }), Value::Null);
    format!("data: {text}\n\ndata: {}\n\ndata: [DONE]\n\n", chunk(json!({}), json!("stop")))
}

#[test]
fn a_message_reaches_the_model_before_it_stops_without_polling() {
    let Some(program) = program(PROGRAM) else { return };
    let world = Arc::new(World::new());
    let requests = Arc::new(Mutex::new(Vec::<Value>::new()));
    let (seen, beside) = (Arc::clone(&requests), Arc::clone(&world));
    let url = model(move |path, asked| {
        if path != "/v1/chat/completions" {
            return None;
        }
        let mut seen = seen.lock().expect("a lock");
        seen.push(asked["messages"].clone());
        if seen.len() == 1 && asked["tools"].to_string().contains("mcp__c2c__whoami") {
            // The session is there: somebody writes to it while it works.
            run(c2c(&beside, "ann", &["send", "walker", "the tests are green"])).ok();
        }
        Some(stream())
    });
    choose(&world, &url);
    run(c2c(&world, "x", &["setup", "kimi", "--alias", "walker"])).ok();
    run(c2c(&world, "ann", &["register", "--alias", "ann"])).ok();
    let done = run(client(&world, &program, &["-p", "hello"])).ok();
    let requests = requests.lock().expect("a lock");
    assert_eq!(requests.len(), 2, "{} {}", done.out, done.err);
    // A section that the client cannot read it passes over with a warning.
    assert!(!done.err.contains("Warning"), "{}", done.err);
    let last = requests[1].as_array().and_then(|rows| rows.last()).expect("a message");
    let told = last["content"].as_str().unwrap_or_default();
    assert!(told.contains("Messages from other agents"), "{last}");
    assert!(told.contains("the tests are green") && told.contains("walker"), "{last}");
    let history = run(c2c(&world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], "the tests are green");
}
