//! Kimi Code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::pane::{InPane, Method, model_with_shell, pane_tests};
use super::{
    MESSAGE, Protocol, Requests, assert_in_history, c2c, client_command, model_of_one_turn,
    print_version, program, set_up,
};
use crate::support::tmux::require_tmux;
use crate::support::{World, run};

/// Names a launcher: the client needs a newer Node than many machines have.
const PROGRAM: &str = "C2C_TEST_KIMI";

const PROTOCOL: Protocol = Protocol {
    is_request: |path| path == "/v1/chat/completions",
    conversation: "messages",
    listed_tool: "mcp__c2c__whoami",
    stream: |_, _| stream(),
};

fn client(world: &World, program: &Path, args: &[&str]) -> Command {
    let mut command = client_command(world, program, args);
    command.env("KIMI_DISABLE_TELEMETRY", "1").env("KIMI_CODE_NO_AUTO_UPDATE", "1");
    command
}

/// The client as a web server, the only mode in which it reports on its MCP servers.
struct Web {
    process: Child,
    address: String,
    token: String,
    /// No longer read, but the client may still write to it.
    _out: BufReader<ChildStdout>,
}

impl Web {
    fn start(world: &World, program: &Path) -> Self {
        let mut command = client(world, program, &["web", "--no-open", "--port", "0"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the client starts");
        let mut out = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        // Once it serves, it prints http://ADDRESS/#token=TOKEN.
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

    /// Lets the client connect to `c2c`; returns its report.
    fn connect(&self) -> Value {
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
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        let (_, body) = response.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {response}"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn the_client_reports_that_c2c_is_connected() {
    let program = program(PROGRAM);
    let world = World::new();
    print_version("Kimi Code", client(&world, &program, &["--version"]));
    run(c2c(&world, "x", &["setup", "kimi", "--alias", "walker"])).ok();
    let web = Web::start(&world, &program);
    let report = web.connect();
    assert_eq!(report["data"]["success"], true, "{report}");
    assert!(report["data"]["output"].to_string().contains("poll_inbox"), "{report}");
    run(c2c(&world, "x", &["setup", "kimi", "--undo"])).ok();
    let report = web.connect();
    assert!(
        report["data"].is_null() && report["msg"].to_string().contains("not found"),
        "{report}"
    );
}

/// Stores the choice of a model.
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

/// The events of a response that ends the turn.
fn stream() -> String {
    shell_stream(None)
}

/// The events of a response: a command in the shell, or a text that ends the turn.
fn shell_stream(command: Option<&str>) -> String {
    let chunk = |delta: Value, reason: Value| {
        json!({
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        })
    };
    let (delta, reason) = match command {
        Some(command) => {
            let arguments = json!({ "command": command }).to_string();
            let call = json!({ "name": "Bash", "arguments": arguments });
            let calls = json!([{ "index": 0, "id": "c1", "type": "function", "function": call }]);
            (json!({ "role": "assistant", "tool_calls": calls }), "tool_calls")
        }
        None => (json!({ "role": "assistant", "content": "done" }), "stop"),
    };
    let (first, last) = (chunk(delta, Value::Null), chunk(json!({}), json!(reason)));
    format!("data: {first}\n\ndata: {last}\n\ndata: [DONE]\n\n")
}

fn a_message_reaches_the_model_before_it_stops_without_polling() {
    let program = program(PROGRAM);
    let world = Arc::new(World::new());
    let (url, requests) = model_of_one_turn(&world, PROTOCOL, None);
    choose(&world, &url);
    set_up(&world, "kimi");
    let done = run(client(&world, &program, &["-p", "hello"])).ok();
    let requests = requests.lock().expect("a lock").clone();
    assert_eq!(requests.len(), 2, "{} {}", done.out, done.err);
    // The client skips a section that it cannot read, with a warning.
    assert!(!done.err.contains("Warning"), "{}", done.err);
    let conversation: Value = serde_json::from_str(&requests[1]).expect("JSON");
    let last = conversation.as_array().and_then(|rows| rows.last()).expect("a message");
    let text = last["content"].as_str().unwrap_or_default();
    assert!(text.contains("Messages from other agents"), "{last}");
    assert!(text.contains(MESSAGE) && text.contains("walker"), "{last}");
    assert_in_history(&world, &done.err);
}

/// The client in a pane, and the requests to its model.
fn in_pane(world: &World) -> (InPane, Requests) {
    let program = program(PROGRAM);
    require_tmux();
    let (url, requests) =
        model_with_shell(PROTOCOL.is_request, PROTOCOL.conversation, shell_stream);
    choose(world, &url);
    set_up(world, "kimi");
    let command = client(world, &program, &[]);
    let questions = &[("Trust this folder?", "Enter"), ("Migrate from kimi-cli", "Escape")];
    (InPane { command, prompt: "\u{2502} >", questions, dialog: "1. Approve once" }, requests)
}

pane_tests!();

crate::harness::tests! {
    slow:
        the_client_reports_that_c2c_is_connected,
        a_message_reaches_the_model_before_it_stops_without_polling,
        an_idle_session_in_a_tmux_pane_is_woken,
        an_idle_session_in_its_own_terminal_is_woken,
        a_permission_dialog_in_a_tmux_pane_is_not_answered,
        a_permission_dialog_in_its_own_terminal_is_not_answered;
}
