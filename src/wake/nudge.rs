//! Delivery of a nudge to a terminal or a program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::NOTICE;
use crate::error::Failure;
use crate::platform::clock;
use c2c_core::code::Code;
use c2c_core::decide::Rejection;

/// Time limit of the program that delivers a nudge.
const NUDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of checks whether a pane shows the text, and the time between two checks.
const PANE_CHECKS: usize = 20;
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A word of the nudge that the program shows if it accepts the nudge as text.
pub const ECHO: &str = "poll_inbox";

/// A session with unread mail.
#[derive(Debug, Clone, Default)]
pub struct WaitingSession {
    pub alias: String,
    /// Empty if no session holds the alias.
    pub session_id: String,
    pub unread: usize,
}

/// How to run Codex.
#[derive(Debug, Clone)]
pub struct CodexCommand {
    /// Path of the program, or its name on the `PATH`.
    pub program: PathBuf,
    /// Environment variables that locate its files, in addition to the environment of this process.
    pub variables: Vec<(String, OsString)>,
}

impl Default for CodexCommand {
    fn default() -> Self {
        Self { program: "codex".into(), variables: Vec::new() }
    }
}

/// A method to nudge a session.
#[derive(Debug, Clone)]
pub enum NudgeMethod {
    /// Types into a tmux pane.
    Tmux(String),
    /// Queues a turn in a Codex thread: the session that holds the alias.
    Codex(CodexCommand),
    /// Runs a command of the user in a shell.
    Shell(String),
}

impl NudgeMethod {
    /// Nudges a session once. The text is always the same; a command reads the alias and the session
    /// from its environment. Fails if the program is not found, fails, or takes too long.
    pub fn send(&self, waiting: &WaitingSession) -> Result<(), Failure> {
        match self {
            Self::Tmux(pane) => tmux(pane),
            Self::Codex(codex) => {
                let thread = &waiting.session_id;
                if thread.is_empty() {
                    let message = format!("no session holds the alias '{}'", waiting.alias);
                    return Err(Rejection::new(Code::UnknownAlias, "alias", message).into());
                }
                let mut command = Command::new(&codex.program);
                command.envs(codex.variables.iter().cloned());
                run(command.args(["queue", "--thread", thread, "--message", NOTICE]))
            }
            Self::Shell(template) => run(Command::new("sh")
                .args(["-c", template])
                .env("C2C_WAKE_ALIAS", &waiting.alias)
                .env("C2C_WAKE_SESSION", &waiting.session_id)
                .env("C2C_WAKE_UNREAD", waiting.unread.to_string())
                .env("C2C_WAKE_TEXT", NOTICE)),
        }
    }
}

/// Pastes into a pane, and presses Enter only when the pane shows the text: a dialog would take Enter
/// for an answer.
fn tmux(pane: &str) -> Result<(), Failure> {
    let tmux = |args: &[&str]| run(Command::new("tmux").args(args));
    tmux(&["set-buffer", "-b", "c2c", NOTICE])?;
    tmux(&["paste-buffer", "-p", "-d", "-b", "c2c", "-t", pane])?;
    for _ in 0..PANE_CHECKS {
        let shown = Command::new("tmux").args(["capture-pane", "-p", "-J", "-t", pane]).output();
        if shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains(ECHO)) {
            return tmux(&["send-keys", "-t", pane, "Enter"]);
        }
        thread::sleep(CHECK_INTERVAL);
    }
    let message = format!("pane '{}' does not show the typed text", pane.escape_default());
    Err(Rejection::new(Code::Busy, "tmux", message)
        .hint("the program may be showing a dialog")
        .into())
}

/// Runs a program and waits for its end, up to the time limit.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |reason: String| {
        Failure::from(Rejection::new(Code::InvalidArgument, "wake", format!("{name}: {reason}")))
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let deadline = clock::monotonic() + NUDGE_TIMEOUT;
    loop {
        match child.try_wait().map_err(|e| failed(e.to_string()))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(failed(status.to_string())),
            None if clock::monotonic() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("did not finish within {} s", NUDGE_TIMEOUT.as_secs())));
            }
            None => thread::sleep(CHECK_INTERVAL / 10),
        }
    }
}
