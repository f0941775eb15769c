//! Clients in a pane of tmux, which `c2c wake` nudges.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{MESSAGE, Requests, c2c, serve_model};
use crate::harness::skip;
use crate::support::{Outcome, World, run};

/// Longest wait for a client.
const LIMIT: Duration = Duration::from_secs(60);
/// The prompt that makes the model use the shell, and the file that the command would create.
const SHELL_PROMPT: &str = "please use the shell";
const SHELL_COMMAND: &str = "touch made";
/// The begin of a nudge.
const NOTICE: &str = "c2c: mail from other agents waits for you.";

/// A client, as these tests need it.
pub struct InPane {
    /// A command of the client in its world.
    pub command: Command,
    /// What the input line shows.
    pub prompt: &'static str,
    /// Questions at the start, and the keys that answer them.
    pub questions: &'static [(&'static str, &'static str)],
    /// What the dialog about a command shows.
    pub dialog: &'static str,
}

/// Whether `c2c wake` runs beside the client or around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Tmux,
    Terminal,
}

/// A client in a pane of a separate tmux server, at its input line.
struct Pane<'a> {
    world: &'a World,
}

impl<'a> Pane<'a> {
    fn start(world: &'a World, client: &InPane, method: Method) -> Self {
        let pane = Self { world };
        std::fs::create_dir(world.path().join("tmux")).expect("made");
        let mut words = Vec::new();
        if method == Method::Terminal {
            let around = [env!("CARGO_BIN_EXE_c2c"), "wake", "--alias", "walker", "--"];
            words.extend(around.map(str::to_owned));
        }
        let words_of = |command: &Command| {
            let program = std::iter::once(command.get_program()).chain(command.get_args());
            program.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        words.extend(words_of(&client.command));
        let size = ["new-session", "-d", "-s", "agent", "-x", "110", "-y", "40"];
        let mut start = pane.command("tmux", &size);
        start.arg(words.join(" "));
        for (name, value) in client.command.get_envs() {
            if let Some(value) = value {
                start.env(name, value);
            }
        }
        run(start).ok();
        for (question, key) in client.questions {
            pane.shows(question);
            pane.tmux(&["send-keys", "-t", "agent", key]);
        }
        pane.shows(client.prompt);
        // The client has started its server.
        pane.reaches("walker is registered", || {
            let listed = run(c2c(world, "ann", &["list", "--json"])).ok().json();
            let rows = listed.as_array().cloned().unwrap_or_default();
            rows.iter().any(|row| row["alias"] == "walker" && row["alive"] == true)
        });
        pane
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = super::client_command(self.world, program.as_ref(), args);
        command.env("TMUX_TMPDIR", self.world.path().join("tmux")).env("SHELL", "/bin/sh");
        command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
        command
    }

    fn tmux(&self, args: &[&str]) -> String {
        run(self.command("tmux", args)).ok().out
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "agent"])
    }

    fn shows(&self, text: &str) {
        self.reaches(text, || self.screen().contains(text));
    }

    /// Waits until a condition holds.
    fn reaches(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !condition() {
            assert!(Instant::now() < deadline, "not reached: {what}\n{}", self.screen());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the screen has not changed for some seconds: the hooks of the start are over, which
    /// would take mail.
    fn is_idle(&self) {
        let (mut screen, mut since) = (self.screen(), Instant::now());
        self.reaches("an idle client", || {
            since.elapsed() > Duration::from_secs(4) || {
                let now = self.screen();
                if now != screen {
                    (screen, since) = (now, Instant::now());
                }
                false
            }
        });
    }

    /// Nudges once.
    fn nudge(&self) -> Outcome {
        let wake = ["wake", "--alias", "walker", "--tmux", "agent", "--once"];
        run(self.command(env!("CARGO_BIN_EXE_c2c"), &wake))
    }

    fn send(&self) {
        run(c2c(self.world, "ann", &["send", "walker", MESSAGE])).ok();
    }

    /// What `list` shows of the nudges of the client's agent.
    fn record(&self) -> Value {
        let listed = run(c2c(self.world, "ann", &["list", "--json"])).ok().json();
        let rows = listed.as_array().cloned().unwrap_or_default();
        rows.iter().find(|row| row["alias"] == "walker").expect("walker")["wake"].clone()
    }
}

impl Drop for Pane<'_> {
    fn drop(&mut self) {
        let _ = self.command("tmux", &["kill-server"]).output();
    }
}

/// Skips the test without tmux.
pub fn require_tmux() {
    if Command::new("tmux").arg("-V").output().is_err() {
        skip("tmux is not installed");
    }
}

/// Serves a model that ends each turn, but calls the shell for one prompt. `stream` makes a response
/// from the command to run, if there is one. Returns the URL.
pub fn model_with_shell(
    is_request: fn(&str) -> bool,
    conversation: &'static str,
    stream: fn(Option<&str>) -> String,
) -> (String, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let has_called = Mutex::new(false);
    let url = serve_model(move |path, request| {
        if !is_request(path) {
            return None;
        }
        let rows = request[conversation].to_string();
        let mut has_called = has_called.lock().expect("a lock");
        let calls = !*has_called && rows.contains(SHELL_PROMPT);
        *has_called |= calls;
        seen.lock().expect("a lock").push(rows);
        Some(stream(calls.then_some(SHELL_COMMAND)))
    });
    (url, requests)
}

/// Asserts that mail wakes the idle client, whose model then receives the notice and the mail.
pub fn assert_woken(world: &World, client: &InPane, requests: &Requests, method: Method) {
    let pane = Pane::start(world, client, method);
    pane.is_idle();
    pane.send();
    if method == Method::Tmux {
        assert_eq!(pane.nudge().ok().err.trim(), "woke walker");
    }
    let has = |text: &str| requests.lock().expect("a lock").iter().any(|body| body.contains(text));
    pane.reaches("the model reads the notice", || has(NOTICE));
    pane.reaches("the model reads the mail", || has(MESSAGE));
    pane.reaches("the wake is recorded", || pane.record()["woken_at"].is_string());
}

/// Asserts that a dialog of the client about a command is not answered.
pub fn assert_dialog_is_not_answered(world: &World, client: &InPane, method: Method) {
    let pane = Pane::start(world, client, method);
    pane.tmux(&["send-keys", "-t", "agent", "-l", SHELL_PROMPT]);
    pane.shows(SHELL_PROMPT);
    // Enter directly after the text would be a line end.
    thread::sleep(Duration::from_secs(1));
    pane.tmux(&["send-keys", "-t", "agent", "Enter"]);
    pane.shows(client.dialog);
    pane.send();
    if method == Method::Tmux {
        pane.nudge().fails_with("not_woken");
    }
    pane.reaches("the failure is recorded", || pane.record()["not_woken_at"].is_string());
    assert!(pane.record()["woken_at"].is_null(), "{}", pane.record());
    let screen = pane.screen();
    assert!(screen.contains(client.dialog) && !screen.contains(NOTICE), "{screen}");
    assert!(!world.path().join("work/made").exists(), "the command was not run");
}
