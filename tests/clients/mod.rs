//! Do the real clients read what `c2c setup` writes, and does mail reach their model?
//!
//! A client is used if its variable names its program, as `.ci/run` does after installing it; the model
//! is a script on the loopback interface.

mod claude;
mod codex;
mod gemini;
mod kimi;
mod opencode;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::support::World;

/// The program of a client; `None`, with the reason printed, where it is not installed.
fn program(variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    if named.is_none() {
        crate::support::skipped(&format!("{variable} does not name the program"));
    }
    named
}

/// A client in a fresh home, at work in a directory of its own and with the broker root of that.
fn started(world: &World, program: &Path, args: &[&str]) -> Command {
    let here = world.path().join("work");
    std::fs::create_dir_all(&here).expect("a directory");
    let mut command = world.program(program.to_str().expect("a path"), args);
    command.env_remove("C2C_MCP_BROKER_ROOT").current_dir(here).stdin(Stdio::null());
    command
}

/// `c2c` as somebody beside the client.
fn beside(world: &World, who: &str, args: &[&str]) -> Command {
    let mut command = started(world, Path::new(env!("CARGO_BIN_EXE_c2c")), args);
    command.env("C2C_MCP_SESSION_ID", format!("s-{who}"));
    command
}

/// The client as its user has it, in a terminal; what it shows is read and passed over.
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
    std::thread::spawn(move || {
        let (mut pty, mut buffer) = (pty, [0; 4096]);
        while pty.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    child
}

/// Serves a model: each request's body goes to `answer`, which gives the events of the stream, or
/// nothing for what is no question to the model. Ends with the test's process.
fn model(answer: impl Fn(&str, &Value) -> Option<String> + Send + 'static) -> String {
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
            let asked = serde_json::from_slice(&body).unwrap_or_default();
            let (status, kind, text) = match answer(path, &asked) {
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
