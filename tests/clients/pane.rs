//! Clients in a pane of tmux, which `c2c wake` nudges.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{MESSAGE, Requests, c2c, serve_model};
use crate::support::tmux::TmuxPane;
use crate::support::{World, run};

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

/// A client in a pane, at its input line.
struct Pane<'a> {
    world: &'a World,
    tmux: TmuxPane<'a>,
}

impl<'a> Pane<'a> {
    fn start(world: &'a World, client: &InPane, method: Method) -> Self {
        let tmux = TmuxPane::new(world.path(), |program, args| {
            let mut command = super::client_command(world, program.as_ref(), args);
            command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
            command
        });
        let mut words = Vec::new();
        if method == Method::Terminal {
            let around = [env!("CARGO_BIN_EXE_c2c"), "wake", "--alias", "walker", "--"];
            words.extend(around.map(str::to_owned));
        }
        let program = std::iter::once(client.command.get_program());
        let all = program.chain(client.command.get_args());
        words.extend(all.map(|word| word.to_string_lossy().into_owned()));
        let variables = client.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        tmux.start((110, 40), &words.join(" "), variables);
        for (question, key) in client.questions {
            tmux.shows(question);
            tmux.keys(&[key]);
        }
        tmux.shows(client.prompt);
        // The client has started its server.
        tmux.reaches("walker is registered", |_| {
            let listed = run(c2c(world, "ann", &["list", "--json"])).ok().json();
            let rows = listed.as_array().cloned().unwrap_or_default();
            rows.iter().any(|row| row["alias"] == "walker" && row["alive"] == true)
        });
        Self { world, tmux }
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

/// Declares the tests of a client in a pane. `in_pane` is a function of the client's module.
macro_rules! pane_tests {
    () => {
        fn an_idle_session_in_a_tmux_pane_is_woken() {
            $crate::clients::pane::assert_woken(in_pane, Method::Tmux);
        }

        fn an_idle_session_in_its_own_terminal_is_woken() {
            $crate::clients::pane::assert_woken(in_pane, Method::Terminal);
        }

        fn a_permission_dialog_in_a_tmux_pane_is_not_answered() {
            $crate::clients::pane::assert_dialog_is_not_answered(in_pane, Method::Tmux);
        }

        fn a_permission_dialog_in_its_own_terminal_is_not_answered() {
            $crate::clients::pane::assert_dialog_is_not_answered(in_pane, Method::Terminal);
        }
    };
}
pub(super) use pane_tests;

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

/// Makes a client for a world, and returns the requests to its model.
type Start = fn(&World) -> (InPane, Requests);

/// Asserts that mail wakes the idle client, whose model then receives the notice and the mail.
pub fn assert_woken(start: Start, method: Method) {
    let world = World::new();
    let (client, requests) = start(&world);
    let pane = Pane::start(&world, &client, method);
    // The hooks of the start, which would take mail, have ended.
    pane.tmux.is_still_for(Duration::from_secs(4));
    pane.send();
    if method == Method::Tmux {
        assert_eq!(pane.tmux.nudge("walker").ok().err.trim(), "woke walker");
    }
    let has = |text: &str| requests.lock().expect("a lock").iter().any(|body| body.contains(text));
    pane.tmux.reaches("the model reads the notice", |_| has(NOTICE));
    pane.tmux.reaches("the model reads the mail", |_| has(MESSAGE));
    pane.tmux.reaches("the wake is recorded", |_| pane.record()["woken_at"].is_string());
}

/// Asserts that a dialog of the client about a command is not answered.
pub fn assert_dialog_is_not_answered(start: Start, method: Method) {
    let world = World::new();
    let (client, _) = start(&world);
    let pane = Pane::start(&world, &client, method);
    pane.tmux.keys(&["-l", SHELL_PROMPT]);
    pane.tmux.shows(SHELL_PROMPT);
    // Enter directly after the text would be a line end.
    pane.tmux.is_still_for(Duration::from_secs(1));
    pane.tmux.keys(&["Enter"]);
    pane.tmux.shows(client.dialog);
    pane.send();
    if method == Method::Tmux {
        pane.tmux.nudge("walker").fails_with("not_woken");
    }
    pane.tmux.reaches("the failure is recorded", |_| pane.record()["not_woken_at"].is_string());
    assert!(pane.record()["woken_at"].is_null(), "{}", pane.record());
    let screen = pane.tmux.screen();
    assert!(screen.contains(client.dialog) && !screen.contains(NOTICE), "{screen}");
    assert!(!world.path().join("work/made").exists(), "the command was not run");
}
