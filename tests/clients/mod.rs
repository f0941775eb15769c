//! Real clients: setup, delivery of mail to their model, and wake-up.
//!
//! A client is used if its variable names its program, as `.ci/run` does after the installation. Its
//! model is a script on the loopback interface.

mod claude;
mod codex;
mod gemini;
mod kimi;
mod opencode;
mod pane;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::harness::skip;
use crate::support::{World, run};

/// The message that ann sends to the agent of the client, whose alias is `walker`.
const MESSAGE: &str = "the tests are green";

/// The program of a client, from a variable. Skips the test if the variable is not set.
fn program(variable: &str) -> PathBuf {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.unwrap_or_else(|| skip(&format!("{variable} does not name the program")))
}

/// A command of a client in a fresh home and a working directory with its own broker root.
fn client_command(world: &World, program: &Path, args: &[&str]) -> Command {
    let here = world.path().join("work");
    std::fs::create_dir_all(&here).expect("a directory");
    let mut command = world.program(program.to_str().expect("a path"), args);
    command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(here).stdin(Stdio::null());
    command
}

/// `c2c` in the home and directory of the client, as the session of `who`.
fn c2c(world: &World, who: &str, args: &[&str]) -> Command {
    let mut command = client_command(world, Path::new(env!("CARGO_BIN_EXE_c2c")), args);
    command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    command
}

/// Sets a client up with the alias `walker`, and registers ann.
fn set_up(world: &World, client: &str) {
    run(c2c(world, "x", &["setup", client, "--alias", "walker"])).ok();
    run(c2c(world, "ann", &["register", "--alias", "ann"])).ok();
}

/// Prints the version of a client.
fn print_version(name: &str, command: Command) {
    eprintln!("{name}: {}", run(command).ok().out.trim());
}

/// Runs a client in a terminal, where no user types. What it shows is read and dropped.
fn in_a_terminal(command: &Command) -> std::process::Child {
    let (pty, pts) = pty_process::blocking::open().expect("a terminal");
    pty.resize(pty_process::Size::new(50, 160)).expect("sized");
    let mut own =
        pty_process::blocking::Command::new(command.get_program()).args(command.get_args());
    own = own.env_clear().env("TERM", "xterm-256color");
    for (name, value) in command.get_envs() {
        own = match value {
            Some(value) => own.env(name, value),
            None => own.env_remove(name),
        };
    }
    let here = command.get_current_dir().expect("a directory");
    let child = own.current_dir(here).spawn(pts).expect("starts");
    thread::spawn(move || {
        let (mut pty, mut buffer) = (pty, [0; 4096]);
        while pty.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    child
}

/// The requests of a client to its model.
struct Protocol {
    /// Whether a path belongs to a request to the model.
    is_request: fn(&str) -> bool,
    /// Field of a request that holds the conversation.
    conversation: &'static str,
    /// Name of `whoami` in the tools of a request.
    listed_tool: &'static str,
    /// The events of one response: a call of this tool, or a text that ends the turn.
    stream: fn(&Value, Option<&str>) -> String,
}

/// The conversations of all requests to a model.
type Requests = Arc<Mutex<Vec<String>>>;

/// Serves a model for one turn: with its first response it sends the message to the client, and calls
/// a tool if one is named. Returns its URL.
fn model_of_one_turn(
    world: &Arc<World>,
    protocol: Protocol,
    tool: Option<&'static str>,
) -> (String, Requests) {
    let requests = Requests::default();
    // The server lives as long as the process: it must not keep the world.
    let (seen, world) = (Arc::clone(&requests), Arc::downgrade(world));
    let is_sent = Mutex::new(false);
    let url = serve_model(move |path, request| {
        if !(protocol.is_request)(path) {
            return None;
        }
        seen.lock().expect("a lock").push(request[protocol.conversation].to_string());
        let mut is_sent = is_sent.lock().expect("a lock");
        // A client also asks without tools, for example for a title.
        if *is_sent || !request["tools"].to_string().contains(protocol.listed_tool) {
            return Some((protocol.stream)(request, None));
        }
        // The session is registered and working.
        let world = world.upgrade()?;
        run(c2c(&world, "ann", &["send", "walker", MESSAGE])).ok();
        *is_sent = true;
        Some((protocol.stream)(request, tool))
    });
    (url, requests)
}

/// Serves a model: `respond` returns the events of the response to a request body, or `None` for
/// other requests. Ends with the process. Returns the URL.
fn serve_model(respond: impl Fn(&str, &Value) -> Option<String> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let (mut first, mut length) = (String::new(), 0);
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                let read = reader.read_line(&mut line).unwrap_or(0);
                if read == 0 || line.trim().is_empty() {
                    break;
                }
                if let Some((name, value)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("content-length")
                {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let request = serde_json::from_slice(&body).unwrap_or_default();
            let (status, kind, text) = match respond(path, &request) {
                Some(events) => ("200 OK", "text/event-stream", events),
                None => ("404 Not Found", "application/json", "{}".into()),
            };
            let mut stream = stream;
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    url
}

/// Events of a stream, each with its type in a line of its own.
fn typed_events(events: &[Value]) -> String {
    let line = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    };
    events.iter().map(line).collect()
}

/// Asserts that exactly one request contains the message, in the text of a hook for `walker`.
fn assert_delivered_once(requests: &Requests, output: &str) {
    let requests = requests.lock().expect("a lock");
    let with_message: Vec<&String> =
        requests.iter().filter(|text| text.contains(MESSAGE)).collect();
    let count = with_message.len();
    assert_eq!(count, 1, "{count} of {} requests: {output}", requests.len());
    let request = with_message[0];
    assert!(request.contains("Messages from other agents"), "{request}");
    assert!(request.contains("walker"), "{request}");
}

/// Asserts that the message is in the history of the client's agent.
fn assert_in_history(world: &World, output: &str) {
    let history = run(c2c(world, "x", &["history", "-a", "walker", "--json"])).ok().json();
    assert_eq!(history[0]["content"], MESSAGE, "{output}");
}

crate::harness::tests! {
    modules: claude, codex, gemini, kimi, opencode;
}
